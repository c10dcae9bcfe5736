"""A redis of the test's own, on a free port and without files; ended and restarted by its process id. WSIFY_TEST_REDIS names
another program that takes redis-server's arguments (valkey-server, keydb-server)."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from .net import DEADLINE, accepted, until
from .server import free_port
from .tools import need


def health(server):
    """What a server says of itself: the status and the body."""
    response = server.call("GET", "/health")
    return response.status, response.json()


def is_up(server, deadline=None):
    """Waits until its links to the broker are up."""
    until(lambda: health(server) == (200, {"status": "ok"}), lambda: f"the broker is up; {health(server)} {server.out[-5:]}", deadline)


def is_down(server, deadline=None):
    degraded = {"status": "degraded", "broker": "down"}
    until(lambda: health(server) == (503, degraded), lambda: f"the broker is down; {health(server)} {server.out[-5:]}", deadline)


class Refused(Exception):
    """redis answered with an error."""


class Wire:
    """A RESP2 connection, for commands and for subscriptions."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.file = self.sock.makefile("rb")

    @classmethod
    def of(cls, sock):
        wire = cls.__new__(cls)
        wire.sock, wire.file = sock, sock.makefile("rb")
        return wire

    def send(self, *parts):
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        self.sock.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis has hung up")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def ask(self, *parts):
        self.send(*parts)
        return self.read()

    def close(self):
        self.file.close()
        self.sock.close()


class Redis:
    def __init__(self, *arguments, port=None, tls=False):
        self.program = need(os.environ.get("WSIFY_TEST_REDIS", "redis-server"), "redis-server")
        self.port = port or free_port()
        self.arguments = arguments
        self.tls_port = free_port() if tls else None
        self.auth = None
        self.process = None
        self.start()

    @property
    def dsn(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self):
        tls = ["--tls-port", str(self.tls_port)] if self.tls_port else []
        self.process = subprocess.Popen(
            [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", tempfile.gettempdir(), "--dbfilename", f"wsify-{self.port}.rdb", *tls, *self.arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            until(self.answers, "redis answers")
        except BaseException:
            self.kill()
            raise

    def answers(self):
        assert self.process.poll() is None, f"redis ended with {self.process.returncode}"
        try:
            wire = Wire(self.port)
        except OSError:
            return False
        try:
            return wire.ask("PING")
        except Refused:
            return True  # it requires a password
        finally:
            wire.close()

    def wire(self):
        wire = Wire(self.port)
        if self.auth:
            wire.ask("AUTH", *self.auth)
        return wire

    def ask(self, *parts):
        wire = self.wire()
        try:
            return wire.ask(*parts)
        finally:
            wire.close()

    def publish(self, channel, content):
        return self.ask("PUBLISH", channel, content)

    def subscribers(self, channel):
        return self.ask("PUBSUB", "NUMSUB", channel)[1]

    def clients(self):
        """wsify's connections: their fields."""
        lines = self.ask("CLIENT", "LIST").decode().splitlines()
        fields = [dict(pair.split("=", 1) for pair in line.split(" ")) for line in lines]
        return [client for client in fields if client["name"].startswith("wsify")]

    def link(self, name):
        """The id of the first connection of that name: wsify-publishes or wsify-listens."""
        return next(client["id"] for client in self.clients() if client["name"] == name)

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()
        # What a replica has got from its master.
        Path(tempfile.gettempdir(), f"wsify-{self.port}.rdb").unlink(missing_ok=True)


class Old(threading.Thread):
    """A redis before version 6: it has a password and no users."""

    def __init__(self, password):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.password = password
        self.start()

    def run(self):
        for sock in accepted(self.listener):
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        wire, known = Wire.of(sock), False
        try:
            while True:
                verb, *parts = wire.read()
                if verb == b"AUTH":
                    known = parts == [self.password.encode()]
                    wrong = b"-ERR invalid password\r\n" if len(parts) == 1 else b"-ERR wrong number of arguments for 'auth' command\r\n"
                    sock.sendall(b"+OK\r\n" if known else wrong)
                elif known and verb == b"SUBSCRIBE":
                    sock.sendall(b"".join(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(part), part) for part in parts))
                else:
                    sock.sendall(b"+OK\r\n" if known else b"-NOAUTH Authentication required.\r\n")
        except (OSError, ConnectionError):
            pass

    def stop(self):
        self.listener.close()


class Scripted:
    """As much of redis as a subscriber needs. On demand it refuses a SUBSCRIBE of several channels once it has seen an
    UNSUBSCRIBE."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.links = []
        self.asked = []  # SUBSCRIBE and UNSUBSCRIBE of clients' channels, in order
        self.listening = None  # the connection of the last of them
        self.refuses = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for sock in accepted(self.listener):
            self.links.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        wire = Wire.of(sock)
        held = None
        try:
            while True:
                verb, *channels = wire.read()
                said = b"+OK\r\n" if verb != b"PUBLISH" else b":0\r\n"
                of_nodes = bool(channels) and channels[0].startswith(b"wsify:")
                if verb in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
                    said = b"".join(b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n" % (len(verb), verb.lower(), len(c), c) for c in channels)
                    if not of_nodes:
                        self.asked.append((verb, channels))
                        self.listening = sock
                if self.refuses and verb == b"SUBSCRIBE" and len(channels) > 1 and not of_nodes:
                    held = b"-NOPERM one of them is not for you\r\n"
                elif held is None:
                    sock.sendall(said)
                else:
                    held += said
                if held and verb == b"UNSUBSCRIBE":
                    sock.sendall(held)
                    held = None
        except (OSError, ConnectionError):
            pass

    def hang_up(self):
        while self.links:
            self.links.pop().shutdown(socket.SHUT_RDWR)

    def stop(self):
        self.listener.close()
        self.hang_up()
