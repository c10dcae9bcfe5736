"""A byte stream to the server, and a strict reader of its HTTP.

No `http.client` and no WebSocket library here: the tests must see every byte the server sends, and must be able to
send what no library would.
"""

import json
import os
import re
import socket
import struct
import time
from dataclasses import dataclass

# How long to wait for anything before the test fails, in seconds. Generous: only a failure takes so long.
DEADLINE = float(os.environ.get("WSIFY_TEST_DEADLINE", "20"))

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


def until(happens, what, deadline=None):
    """Polls `happens` until it returns something true, and returns that."""
    end = time.monotonic() + (DEADLINE if deadline is None else deadline)
    while True:
        result = happens()
        if result:
            return result
        assert time.monotonic() < end, f"did not happen in time: {what() if callable(what) else what}"
        time.sleep(0.005)


def accepted(listener):
    """Each socket that a listener accepts, until it is closed."""
    while True:
        try:
            sock = listener.accept()[0]
        except OSError:
            return
        yield sock


@dataclass
class Response:
    version: str
    status: int
    headers: list
    body: bytes

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is sent {len(values)} times: {values}"
        return values[0] if values else None

    def json(self):
        assert media_type(self.header("Content-Type")) == "application/json", self
        return json.loads(self.body)

    def closes(self):
        return "close" in (self.header("Connection") or "").lower()


def media_type(value):
    return (value or "").split(";")[0].strip().lower()


def list_of(value):
    """The members of a comma-separated header, in lower case."""
    return [item.strip().lower() for item in (value or "").split(",") if item.strip()]


class Stream:
    """One connection, with what was received and not yet looked at."""

    def __init__(self, sock):
        sock.settimeout(DEADLINE)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.buffer = bytearray()
        self.ended = False

    # -- sending

    def send(self, data):
        self.sock.sendall(data)
        return self

    def drip(self, data):
        """Byte by byte, each in a segment of its own as far as the kernel lets it."""
        for i in range(len(data)):
            self.sock.send(data[i : i + 1])
        return self

    def pour(self, data):
        """Sends what the server takes. It may hang up meanwhile."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self):
        self.sock.close()

    def reset(self):
        """Ends abruptly: by a TCP reset where there is TCP."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # -- receiving

    def more(self):
        """Receives into the buffer; False at the end of the stream."""
        if self.ended:
            return False
        try:
            data = self.sock.recv(1 << 18)
        except TimeoutError:
            raise AssertionError(f"the server says nothing; so far: {bytes(self.buffer[:300])!r}") from None
        except ConnectionResetError:
            raise AssertionError(f"the server reset the connection; so far: {bytes(self.buffer[:300])!r}") from None
        if not data:
            self.ended = True
        self.buffer += data
        return bool(data)

    def exactly(self, count):
        while len(self.buffer) < count:
            assert self.more(), f"the stream ended after {bytes(self.buffer[:300])!r}, {count} bytes were due"
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            assert self.more(), f"the stream ended within a line: {bytes(self.buffer[:300])!r}"
        data = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        assert b"\n" not in data and b"\r" not in data, data
        return data

    def rest(self):
        while self.more():
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def at_end(self):
        """Asserts that the server closes the stream, without a reset and without another byte."""
        rest = self.rest()
        assert rest == b"", f"bytes where the end was due: {rest[:300]!r}"

    def head(self):
        line = self.line()
        match = re.fullmatch(rb"(HTTP/1\.[01]) ([1-5][0-9][0-9]) ([\x20-\x7e]*)", line)
        assert match, f"not a status line: {line!r}"
        headers = []
        while line := self.line():
            name, colon, value = line.partition(b":")
            assert colon and TOKEN.match(name), f"not a header: {line!r}"
            headers.append((name.decode(), value.strip(b" \t").decode("latin-1")))
        return match[1].decode(), int(match[2]), headers

    def response(self, to="GET"):
        """The next whole response to a request with that method. An interim response counts."""
        version, status, headers = self.head()
        response = Response(version, status, headers, b"")
        length = response.header("Content-Length")
        coding = response.header("Transfer-Encoding")
        assert length is None or coding is None, f"both length headers: {response}"
        if status < 200 or status == 204:
            assert coding is None and length is None, f"a {status} has no body and no length: {response}"
        elif to == "HEAD" or status == 304:
            pass
        elif coding is not None:
            assert coding.lower() == "chunked" and version == "HTTP/1.1", response
            while size := int(self.line(), 16):
                response.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            while self.line():
                pass
        elif length is not None:
            response.body = self.exactly(int(length))
        else:
            response.body = self.rest()
        return response

    def final(self, to="GET"):
        """The next response that is not an interim one."""
        while (response := self.response(to)).status == 100:
            pass
        return response

    def still_serves(self, after):
        """Asserts that the connection answers once more, unless the response said that it closes."""
        if after.closes():
            self.at_end()
        else:
            self.send(request("GET", "/health"))
            assert self.response().status in (200, 503)


def request(method, target, headers=(), body=None, version="HTTP/1.1", host="test", length=True):
    """A request's bytes. `headers` are (name, value) pairs; None as `host` leaves the header out."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def chunked(*chunks, trailers=b""):
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailers + b"\r\n"


def is_error(response, status, code=None):
    """Every error response is JSON with a code and a helpful message (docs/api.md#errors)."""
    assert response.status == status, response
    error = response.json()
    assert set(error) == {"error"}, error
    assert isinstance(error["error"]["code"], str) and error["error"]["code"], error
    assert isinstance(error["error"]["message"], str) and error["error"]["message"], error
    if code is not None:
        assert error["error"]["code"] == code
    return error["error"]


def may_retry(response):
    """A 503 with a Retry-After of 1 to 5 s (docs/protocol.md#connecting)."""
    is_error(response, 503)
    after = response.header("Retry-After")
    assert after is not None and re.fullmatch("[1-5]", after), f"Retry-After: {after}"
    return int(after)
