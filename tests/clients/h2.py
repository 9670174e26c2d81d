"""HTTP/2 over mutual TLS by hand: a client that can send what no well-behaved one sends.

The caller chooses the order and the content of all frames. Incoming frames are collected one by one; headers are decoded
just far enough to read the gRPC status, which C-core writes as plain literals. Every wait has a bound.
"""
import socket
import ssl
import struct
import time

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: The longest time for an answer of the node, in seconds.
PATIENCE = 90.0


def tls(certs, who="client"):
    """A context with the certificate of the administrator ("client") or of a viewer ("viewer-client")."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(f"{certs}/ca-cert.pem")
    context.load_cert_chain(f"{certs}/{who}-cert.pem", f"{certs}/{who}-key.pem")
    context.set_alpn_protocols(["h2"])
    return context


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value, bits, first=0):
    """An HPACK integer with a prefix of this many bits (RFC 7541, 5.1)."""
    top = (1 << bits) - 1
    if value < top:
        return bytes([first | value])
    out, value = bytearray([first | top]), value - top
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name, value, indexed=False):
    """A header as a literal with a new name, with or without an entry in the table."""
    parts = [bytes([0x40 if indexed else 0])]
    for text in (name, value):
        text = text.encode() if isinstance(text, str) else text
        parts += [integer(len(text), 7), text]
    return b"".join(parts)


def call_headers(method, extra=()):
    """The header block of a gRPC call, `extra` pairs behind it."""
    pairs = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *extra,
    ]
    return b"".join(literal(name, value) for name, value in pairs)


def message(payload, compressed=0, claimed=None):
    """A gRPC message; `claimed` is a false length."""
    return struct.pack(">BI", compressed, len(payload) if claimed is None else claimed) + payload


class Closed(Exception):
    """The node has ended the connection."""


class Connection:
    """One connection; `frames` has the received frames that no caller has taken."""

    def __init__(self, port, context, settings=b""):
        raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.buffer, self.table, self.goaway, self.next = bytearray(), [], None, 1
        #: Bytes that the node lets us send: on the connection (0), on each stream, and on a new stream.
        self.window, self.initial = {0: 65535}, 65535
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, octets):
        try:
            self.socket.sendall(octets)
        except (OSError, ssl.SSLError) as why:
            raise Closed(str(why)) from why

    def stream(self):
        self.next += 2
        self.window[self.next - 2] = self.initial
        return self.next - 2

    def call(self, method, octets=message(b""), extra=(), end=True):
        """Opens a stream with these bytes of data; returns its number."""
        stream = self.stream()
        out = frame(HEADERS, END_HEADERS, stream, call_headers(method, extra))
        for at in range(0, max(len(octets), 1), 16384):
            last = end and at + 16384 >= len(octets)
            out += frame(DATA, END_STREAM if last else 0, stream, octets[at : at + 16384])
        self.send(out)
        self.spend(stream, len(octets))
        return stream

    def upload(self, stream, octets):
        """Sends data as fast as the node's windows allow; returns how the stream ended meanwhile, or None."""
        view = memoryview(octets)
        while view:
            size = min(16384, len(view), self.window[0], self.window[stream])
            if size > 0:
                self.send(frame(DATA, 0, stream, bytes(view[:size])))
                self.spend(stream, size)
                view = view[size:]
            elif end := self.ended(stream):
                return end
        return None

    def spend(self, stream, size):
        self.window[0] -= size
        self.window[stream] -= size

    def granted(self, kind, flags, stream, payload):
        """Counts the window that a frame grants, and answers frames that require an answer."""
        if kind == WINDOW_UPDATE:
            self.window[stream] = self.window.get(stream, 0) + struct.unpack(">I", payload)[0]
        elif kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == INITIAL_WINDOW_SIZE:
                    for of in self.window.keys() - {0}:
                        self.window[of] += value - self.initial
                    self.initial = value
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaway = (struct.unpack(">I", payload[4:8])[0], payload[8:].decode(errors="replace"))

    def receive(self):
        """The next frame, as (kind, flags, stream, payload)."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + self.length():
            try:
                more = self.socket.recv(65536)
            except TimeoutError as why:
                raise TimeoutError(f"no frame within {PATIENCE} s") from why
            except (OSError, ssl.SSLError) as why:
                raise Closed(str(why)) from why
            if not more:
                raise Closed("end of connection")
            self.buffer += more
        size = 9 + self.length()
        _, kind, flags, stream = struct.unpack(">3sBBI", self.buffer[:9])
        payload = bytes(self.buffer[9:size])
        del self.buffer[:size]
        self.granted(kind, flags, stream, payload)
        return kind, flags, stream, payload

    def length(self):
        return int.from_bytes(self.buffer[:3], "big")

    def outcome(self, stream):
        """The end of this stream: a gRPC status, or "RST n"."""
        while not (end := self.ended(stream)):
            pass
        return end

    def ended(self, stream):
        """Takes the next frame; returns the end of this stream if the frame has it, else None."""
        kind, _, of, payload = self.receive()
        if kind == RST_STREAM and of == stream:
            return f"RST {struct.unpack('>I', payload)[0]}"
        if kind == HEADERS:
            # Headers of all streams: the table belongs to the connection.
            headers = self.decode(payload)
            if of == stream and "grpc-status" in headers:
                return f"{headers['grpc-status']} {headers.get('grpc-message', '')}".strip()
        return None

    def until_closed(self, bound=PATIENCE):
        """Reads until the node closes the connection; returns the seconds until then and its GOAWAY."""
        start = time.monotonic()
        self.socket.settimeout(bound)
        try:
            while True:
                self.receive()
        except Closed:
            return time.monotonic() - start, self.goaway

    def answers(self, method="/joblet.JobService/ListJobs"):
        """The status of a plain call, which shows whether this connection is still served."""
        return self.outcome(self.call(method))

    def decode(self, block):
        """The headers of a block whose names are not in the static table (RFC 7541; nothing is Huffman coded)."""
        headers, at = {}, 0

        def number(bits):
            nonlocal at
            top = (1 << bits) - 1
            value, shift = block[at] & top, 0
            at += 1
            if value < top:
                return value
            while True:
                value += (block[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if not block[at - 1] & 128:
                    return value

        def text():
            nonlocal at
            assert not block[at] & 128, "a Huffman code"
            size = number(7)
            at += size
            return block[at - size : at].decode(errors="replace")

        def entry(index):
            return self.table[index - 62] if index > 61 else (f"static-{index}", "")

        while at < len(block):
            first = block[at]
            if first & 128:
                name, value = entry(number(7))
            elif first & 224 == 32:
                number(5)
                continue
            else:
                indexed = first & 64
                index = number(6 if indexed else 4)
                name = entry(index)[0] if index else text()
                value = text()
                if indexed:
                    self.table.insert(0, (name, value))
            headers[name] = value
        return headers
