"""A WebSocket client that can send anything, and that checks everything the server sends."""

import base64
import hashlib
import itertools
import json
import os
import struct
import zlib
from dataclasses import dataclass

from .net import list_of

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

counter = itertools.count(1)


def fresh(stem="channel"):
    """A name that no other test of this run uses."""
    return f"{stem}-{os.getpid()}-{next(counter)}"


def accept_for(key):
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def frame(opcode, payload=b"", fin=True, rsv=0, mask=True, key=None, form=None, declared=None):
    """One frame. `form` forces the length form (7, 16 or 64 bits), `declared` lies about the length."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload) if declared is None else declared
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    bit = 0x80 if mask else 0
    if form == 7:
        head = struct.pack("!BB", first, bit | size)
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4) if key is None else key
    whole = key * (len(payload) // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(whole[: len(payload)], "big")
    return head + key + masked.to_bytes(len(payload), "big")


def text(message):
    return frame(TEXT, message)


def deflate(message, level=6, tail=b"\0\0\xff\xff"):
    """The payload of a compressed message (RFC 7692 section 7.2.1)."""
    message = message.encode() if isinstance(message, str) else message
    stream = zlib.compressobj(level, wbits=-15)
    payload = stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert payload.endswith(tail)
    return payload[: -len(tail)]


def inflate(payload):
    """The message that a payload holds. It must be complete, and refer to no other message."""
    stream = zlib.decompressobj(wbits=-15)
    message = stream.decompress(payload + b"\0\0\xff\xff")
    # An empty block that is the last one ends the stream only where a block may begin.
    assert stream.decompress(b"\1\0\0\xff\xff") == b"" and stream.eof, "a compressed message that ends early"
    return message


def compressed(message, opcode=TEXT, **more):
    """A compressed message in one frame."""
    return frame(opcode, deflate(message), rsv=4, **more)


def command(name, channel=None, content=None, id=None, **more):
    """A client's message as JSON text. `content` is JSON text already."""
    args = []
    if channel is not None:
        args.append(f'"channel":{json.dumps(channel)}')
    if content is not None:
        args.append(f'"content":{content}')
    rest = "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in more.items())
    tag = "" if id is None else f',"id":{json.dumps(id)}'
    return f'{{"command":{json.dumps(name)},"args":{{{",".join(args)}}}{tag}{rest}}}'


@dataclass
class Frame:
    fin: bool
    opcode: int
    payload: bytes
    compressed: bool = False


class Ws:
    """A WebSocket connection, after its 101."""

    def __init__(self, stream, response):
        self.stream = stream
        self.response = response
        # How many messages came compressed, and their bytes then.
        self.compressed = 0
        self.squeezed = 0
        self.pings = 0
        self.answers_pings = True
        # What a client of wsify.v1 is told first.
        self.welcome = None
        if self.protocol == "wsify.v1":
            first = json.loads(self.hear())
            assert list(first) == ["welcome"], f"a welcome was due: {first}"
            self.welcome = first["welcome"]

    @property
    def protocol(self):
        return self.response.header("Sec-WebSocket-Protocol")

    @property
    def extensions(self):
        return self.response.header("Sec-WebSocket-Extensions")

    def send(self, data):
        self.stream.send(data)
        return self

    def say(self, message):
        """One text message; no answer is awaited."""
        return self.send(text(message if isinstance(message, (str, bytes)) else json.dumps(message)))

    def next_frame(self):
        """The server's next frame, checked against RFC 6455 section 5 and RFC 7692 section 6."""
        first, second = self.stream.exactly(2)
        is_compressed = bool(first & 0x40)
        assert not first & 0x30, f"reserved bits from the server: {first:#x}"
        assert not is_compressed or self.extensions and first & 0x0F in (TEXT, BINARY), f"{first:#x}, {self.extensions}"
        assert not second & 0x80, "the server masks a frame"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.stream.exactly(2))
            assert size > 125, "a length not in its shortest form"
        elif size == 127:
            (size,) = struct.unpack("!Q", self.stream.exactly(8))
            assert size > 65535, "a length not in its shortest form"
        got = Frame(bool(first & 0x80), first & 0x0F, self.stream.exactly(size), is_compressed)
        assert got.opcode in (TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION), got
        if got.opcode >= 8:
            assert got.fin and size <= 125, got
        return got

    def next(self):
        """The next frame that is not a ping of the server's; those are answered."""
        while (got := self.next_frame()).opcode == PING:
            self.pings += 1
            if self.answers_pings:
                self.send(frame(PONG, got.payload))
        return got

    def hear(self):
        """The next message, as text."""
        got = self.next()
        assert got.opcode == TEXT, f"a text message was due: {got}"
        whole, is_compressed = got.payload, got.compressed
        while not got.fin:
            got = self.next()
            assert got.opcode == CONTINUATION, got
            whole += got.payload
        if is_compressed:
            self.compressed += 1
            self.squeezed += len(whole)
            whole = inflate(whole)
        return whole.decode("utf-8")

    def hears(self, *messages):
        for message in messages:
            assert self.hear() == message
        return self

    def ask(self, message, id=None):
        """Sends a message with an id, and returns its answer, which must be the next message."""
        self.say(message)
        return self.answer(id)

    def answer(self, id=None):
        answer = json.loads(self.hear())
        if id is not None:
            assert answer.get("id") == id, f"an answer to {id!r} was due: {answer}"
        return answer

    def does(self, name, channel, content=None):
        """Sends a command, which must succeed. Its answer must be the only message meanwhile."""
        id = fresh("id")
        assert self.ask(command(name, channel, content, id), id) == {"id": id, "ok": True}
        return self

    def join(self, *channels):
        for channel in channels:
            self.does("join", channel)
        return self

    def leave(self, channel):
        return self.does("leave", channel)

    def broadcast(self, channel, content):
        """Broadcasts for a sender that is no member, and awaits that it has taken effect."""
        return self.does("broadcast", channel, content)

    def is_quiet(self):
        """Asserts that nothing is in transit: the next message answers a command that needs neither broker nor authorizer."""
        id = fresh("marker")
        assert self.ask(command("marker", "marker", id=id), id)["error"]["code"] == "unknown_command"
        return self

    def fails(self, message, code, id=None):
        """A message that is answered with an error and leaves the connection open."""
        answer = self.ask(message)
        assert_error(answer, code, id)
        return answer

    def ping(self, payload=b"are you there"):
        self.send(frame(PING, payload))
        got = self.next()
        assert (got.opcode, got.payload) == (PONG, payload), got
        return self

    def close_frame(self):
        got = self.next()
        assert got.opcode == CLOSE, f"a close was due: {got}"
        assert len(got.payload) != 1, got
        if not got.payload:
            return None, ""
        return struct.unpack("!H", got.payload[:2])[0], got.payload[2:].decode("utf-8")

    def is_closed(self, code):
        """Asserts that the server closes with that code and a short reason, and hangs up without a reset."""
        got, reason = self.close_frame()
        assert got == code, f"close code {got} ({reason!r}), {code} was due"
        assert reason, f"close {code} carries no reason"
        self.stream.pour(frame(CLOSE, struct.pack("!H", code)))
        self.stream.at_end()
        return reason

    def leaves(self, code=1000, reason=b""):
        """Closes with a handshake: the server echoes the code and hangs up."""
        self.send(closing(code, reason))
        assert self.close_frame()[0] == code
        self.stream.at_end()

    def hang_up(self):
        self.stream.close()

    def reset(self):
        self.stream.reset()


def closing(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def assert_error(answer, code, id=None):
    assert "ok" not in answer, answer
    error = answer["error"]
    assert error["code"] == code, f"{code} was due: {answer}"
    assert isinstance(error["message"], str) and error["message"], answer
    assert set(error) <= {"code", "message", "command", "channel"}, answer
    if id is None:
        assert "id" not in answer, answer
    else:
        assert answer["id"] == id, answer


def upgraded(stream, key, protocols=None, offers=False):
    """Reads the 101 that a correct upgrade gets. `offers`: compression was offered to a server that may agree."""
    response = stream.response()
    assert response.status == 101, response
    assert response.version == "HTTP/1.1"
    assert (response.header("Upgrade") or "").lower() == "websocket", response
    assert "upgrade" in list_of(response.header("Connection")), response
    assert response.header("Sec-WebSocket-Accept") == accept_for(key), response
    assert offers or response.header("Sec-WebSocket-Extensions") is None, "an extension that was not offered"
    return Ws(stream, response)
