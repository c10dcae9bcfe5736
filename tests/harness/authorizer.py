"""A scripted authorizer: it records questions, and answers as the test says."""

import json
import socket
import ssl
import threading
from dataclasses import dataclass, field

from .net import DEADLINE, Stream, TOKEN, accepted, until


@dataclass
class Reply:
    """An answer; `raw` is sent as it is, `drop` hangs up without one, `close` hangs up after it."""

    status: int = 200
    body: bytes = b""
    headers: tuple = ()
    raw: bytes | None = None
    drop: bool = False
    close: bool = False
    drip: bool = False

    def encode(self):
        if self.raw is not None:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} Word", *(f"{k}: {v}" for k, v in self.headers)]
        if not any(k.lower() in ("content-length", "transfer-encoding") for k, _ in self.headers):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def with_state(state, type="application/json"):
    """A 200 that sets a state; `state` is JSON text."""
    return Reply(200, b'{"state":' + state.encode() + b"}", (("Content-Type", type),))


def with_fields(status=200, raw=None, **fields):
    """An answer that says more than yes or no; `raw` is its body as it is."""
    body = json.dumps(fields).encode() if raw is None else raw
    return Reply(status, body, (("Content-Type", "application/vnd.wsify+json"),))


def named(question):
    """The answer to a client that names its user in the query, or does not."""
    user = question.args["query"].get("user")
    return with_fields(user=user[0]) if user else 200


def with_body(body, status=200, type="application/vnd.wsify+json", **more):
    """An answer with this body: JSON text, or a value."""
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return Reply(status, text.encode() if isinstance(text, str) else text, (("Content-Type", type),), **more)


def items(*answers, type="application/json"):
    """The answer to a batch: a status or an object for each question."""
    return with_body([{"status": a} if isinstance(a, int) else a for a in answers], type=type)


@dataclass
class Question:
    method: str
    target: str
    headers: list
    raw: bytes
    connection: int
    reply: Reply | None = None
    decided: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self):
        return json.loads(self.raw)

    @property
    def batch(self):
        """The questions of a batch."""
        return [Question(self.method, self.target, self.headers, json.dumps(one).encode(), self.connection) for one in self.json]

    @property
    def command(self):
        return self.json["command"]

    @property
    def args(self):
        return self.json["args"]

    @property
    def peer(self):
        return self.json["connection"]

    @property
    def channel(self):
        return self.args.get("channel")

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def release(self, reply=200):
        """Answers a question that was held."""
        self.reply = reply if isinstance(reply, Reply) else Reply(reply)
        self.decided.set()


class Authorizer:
    kind = Question

    def __init__(self, tls=None, port=0):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1000)
        self.port = self.listener.getsockname()[1]
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}/hook"
        self.lock = threading.Lock()
        self.rules = []
        self.questions = []
        # Batches: a reply, a function of the call, or None, which lets it wait until the test releases it.
        self.posts = []
        self.batches = lambda call: items(*[200 for _ in call.batch])
        self.connections = 0
        self.streams = {}
        self.over = False
        threading.Thread(target=self.accept, daemon=True).start()

    # -- for the test

    def on(self, reply, command=None, channel=None):
        """From now on such a question gets this reply (a status, a Reply, or a function of the question)."""
        with self.lock:
            self.rules.insert(0, (command, channel, reply))

    def hold(self, command=None, channel=None):
        """From now on such a question waits until the test releases it."""
        self.on(None, command, channel)

    def asked(self, count=1, command=None, channel=None):
        """Waits until that many such questions have come, and returns all of them."""
        return until(
            lambda: (found := self.about(command, channel)) and len(found) >= count and found,
            lambda: f"{count} questions about {command or 'anything'} {channel or ''}; there are {self.questions}",
        )

    def about(self, command=None, channel=None):
        with self.lock:
            return [
                q for q in self.questions
                if (command is None or q.command == command) and (channel is None or q.channel == channel)
            ]

    def called(self, count=1):
        """Waits until that many batches have come, and returns all of them."""
        return until(lambda: len(self.posts) >= count and list(self.posts), lambda: f"{count} batches; there are {len(self.posts)}")

    def drop_connections(self):
        """Closes every connection that is open, as an idle time-out would."""
        with self.lock:
            streams = list(self.streams.values())
        for stream in streams:
            try:
                stream.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        until(lambda: not self.streams, "the authorizer's connections end")

    def stop(self):
        """Stops listening: later calls are refused."""
        self.over = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for question in self.questions + self.posts:
                question.decided.set()
            streams = list(self.streams.values())
        for stream in streams:
            try:
                stream.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # -- the server

    def accept(self):
        for sock in accepted(self.listener):
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock, self.connections), daemon=True).start()

    def serve(self, sock, number):
        try:
            if self.tls:
                sock.settimeout(DEADLINE)
                sock = self.tls.wrap_socket(sock, server_side=True)
            stream = Stream(sock)
            stream.sock.settimeout(None)
            with self.lock:
                self.streams[number] = stream
            while not self.over and self.one(stream, number):
                pass
        except (OSError, ssl.SSLError, AssertionError):
            pass
        finally:
            sock.close()
            with self.lock:
                self.streams.pop(number, None)

    def one(self, stream, number):
        while not stream.buffer:
            if not stream.more():
                return False
        method, target, version = stream.line().decode().split(" ")
        headers = []
        while line := stream.line():
            name, _, value = line.partition(b":")
            assert TOKEN.match(name), line
            headers.append((name.decode(), value.strip().decode("latin-1")))
        question = self.kind(method, target, headers, b"", number)
        if (question.header("Transfer-Encoding") or "").lower() == "chunked":
            while size := int(stream.line(), 16):
                question.raw += stream.exactly(size)
                stream.exactly(2)
            stream.line()
        else:
            question.raw = stream.exactly(int(question.header("Content-Length") or 0))
        with self.lock:
            if question.raw.startswith(b"["):
                reply = self.batches
                self.posts.append(question)
            else:
                reply = next(
                    (r for c, ch, r in self.rules if c in (None, question.command) and ch in (None, question.channel)), 200
                )
                self.questions.append(question)
        if callable(reply):
            reply = reply(question)
        if reply is None:
            question.decided.wait()
            reply = question.reply
            if reply is None:
                return False
        reply = question.reply = reply if isinstance(reply, Reply) else Reply(reply)
        if reply.drop:
            return False
        if reply.drip:
            for byte in reply.encode():
                stream.sock.sendall(bytes([byte]))
                threading.Event().wait(0.05)
        else:
            stream.sock.sendall(reply.encode())
        return not reply.close
