"""The program under test: starts it with flags, reads its log, and ends it by its process id."""

import collections
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import threading
from pathlib import Path

from .net import DEADLINE, Stream, request, until
from .ws import upgraded

ROOT = Path(__file__).resolve().parents[2]
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def binary():
    """WSIFY_BIN, or what cargo built last."""
    if named := os.environ.get("WSIFY_BIN"):
        path = Path(named).resolve()
        assert path.is_file(), f"WSIFY_BIN={named}: no such file"
        return str(path)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for p in (target / "release" / "wsify", target / "debug" / "wsify") if p.is_file()]
    assert built, "no wsify to test: run `cargo build --release`, or set WSIFY_BIN"
    return str(max(built, key=lambda p: p.stat().st_mtime))


def environment(extra=None):
    """The test's environment without variables that configure the server."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WSIFY_") and not k.lower().endswith("_proxy")}
    return clean | (extra or {})


# Ports that were given out last: a test may start its servers later.
GIVEN = collections.deque(maxlen=200)
# Tests run in parallel, and each process of theirs has ports of its own: those that leave its number when divided by 16.
# A redis of a cluster listens on the port that is 10,000 higher as well, which leaves the same.
PROCESSES = 16
OWN = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES


def free_port(host="127.0.0.1"):
    """A port below the kernel's own range, so that no outgoing connection takes it before the server does."""
    while True:
        port = random.randrange(10000 + OWN, 32000, PROCESSES)
        if port in GIVEN:
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        GIVEN.append(port)
        return port


def run(*flags, env=None, cwd=None):
    """A run that ends by itself: (status, stdout, stderr)."""
    done = subprocess.run(
        [binary(), *flags], env=environment(env), cwd=cwd, capture_output=True, text=True, timeout=DEADLINE, check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "panicked" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


class Server:
    """A running wsify. `listen` None: on a port of 127.0.0.1, `port` or a free one. `program`: what to start, if not `binary()`, by
    the name that a shell would take."""

    def __init__(self, *flags, env=None, listen=None, port=None, stdout=subprocess.PIPE, files=None, program=None, cwd=None):
        self.port = None
        if listen is None:
            self.port = port or free_port()
            listen = [f"127.0.0.1:{self.port}"]
        flags = list(flags) + [part for addr in listen for part in ("--listen-addr", addr)]
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))) if files else None
        self.process = subprocess.Popen(
            [str(program or binary()), *flags], env=environment(env), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
            preexec_fn=limit, cwd=cwd,
        )
        self.pid = self.process.pid
        self.ends = False  # whether the test means the process to end
        self.dialled = []  # so that a connection a test does not look at again stays open
        self.out, self.err = [], []
        self.threads = [threading.Thread(target=self.collect, args=(self.process.stderr, self.err), daemon=True)]
        if self.process.stdout:
            self.threads.append(threading.Thread(target=self.collect, args=(self.process.stdout, self.out), daemon=True))
        for thread in self.threads:
            thread.start()
        if self.port:
            self.await_start(lambda: self.dial().close())
            self.hang_up()

    def collect(self, pipe, lines):
        for line in pipe:
            lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def await_start(self, dial):
        def listens():
            assert self.process.poll() is None, f"wsify ended with {self.process.returncode}: {self.err}"
            try:
                dial()
                return True
            except OSError:
                return False

        until(listens, "wsify listens")

    # -- log and measurements

    def log(self):
        """Its log so far; every line must be a JSON object."""
        return [json.loads(line) for line in list(self.out)]

    def logged(self, pattern):
        """Waits for a log line that matches, and returns it."""
        matching = re.compile(pattern, re.IGNORECASE)
        return until(
            lambda: next((line for line in list(self.out) if matching.search(line)), None),
            f"a log line like {pattern!r} in {self.out}",
        )

    def memory(self):
        """(resident, data) bytes of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return tuple(int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) << 10 for name in ("VmRSS", "VmData"))

    def cpu(self):
        """CPU seconds used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, pattern):
        """The sum of the samples whose name and labels match."""
        body = self.call("GET", "/metrics").body.decode()
        samples = re.findall(r"^([^#\s].*?) (\S+)$", body, re.MULTILINE)
        found = [float(value) for name, value in samples if re.search(pattern, name)]
        assert found, f"no metric like {pattern!r} in:\n{body}"
        return sum(found)

    # -- requests and connections

    def dial(self, source=None, rcvbuf=None):
        sock = socket.socket()
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source:
            sock.bind((source, 0))
        sock.settimeout(DEADLINE)
        try:
            sock.connect(("127.0.0.1", self.port))
        except BaseException:
            sock.close()
            raise
        self.dialled.append(Stream(sock))
        return self.dialled[-1]

    def dial_unix(self, path):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
        except BaseException:
            sock.close()
            raise
        self.dialled.append(Stream(sock))
        return self.dialled[-1]

    def hang_up(self):
        """Closes every connection that was made from here."""
        while self.dialled:
            self.dialled.pop().close()

    def call(self, method, target, headers=(), body=None, **more):
        """One request on a connection of its own."""
        stream = self.dial()
        try:
            stream.send(request(method, target, headers, body, **more))
            return stream.final(method)
        finally:
            stream.close()

    def post(self, body, target="/broadcast", type="application/json", headers=()):
        if isinstance(body, str):
            body = body.encode()
        headers = list(headers) + ([("Content-Type", type)] if type is not None else [])
        return self.call("POST", target, headers, body)

    def publish(self, channel, content):
        response = self.post(f'{{"channel":{json.dumps(channel)},"content":{content}}}')
        assert response.status == 201, response
        return response

    def upgrade(self, target="/ws", headers=(), **more):
        """The bytes of a correct upgrade request."""
        return upgrade(target, headers, **more)

    def knock(self, target="/ws", headers=(), **more):
        """Asks for an upgrade; the stream is returned before any answer is read."""
        return self.dial().send(upgrade(target, headers, **more))

    def admits(self):
        """Whether an upgrade would succeed now."""
        stream = self.knock()
        try:
            return stream.response().status == 101
        finally:
            stream.close()

    def ws(self, target="/ws", headers=(), protocols=None, rcvbuf=None, deflate=None):
        """A WebSocket connection. `deflate` is what Sec-WebSocket-Extensions offers, or True."""
        if deflate is not None:
            offer = "permessage-deflate; client_max_window_bits" if deflate is True else deflate
            headers = [*headers, ("Sec-WebSocket-Extensions", offer)]
        if protocols is not None:
            headers = [*headers, ("Sec-WebSocket-Protocol", protocols)]
        stream = self.dial(rcvbuf=rcvbuf).send(upgrade(target, headers))
        return upgraded(stream, KEY, offers=deflate is not None)

    # -- stopping it for a while

    def freeze(self):
        """Nothing of it runs until `thaw`."""
        self.process.send_signal(signal.SIGSTOP)
        self.is_frozen()

    def is_frozen(self):
        """Waits until the kernel has stopped it."""

        def stopped():
            assert self.process.poll() is None, f"wsify ended with {self.process.returncode}: {self.err}"
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        until(stopped, "it is stopped")

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    # -- ending it

    def signal(self, number):
        self.ends = True
        self.process.send_signal(number)

    def status(self):
        """Waits for the process to end by itself."""
        self.ends = True
        until(lambda: self.process.poll() is not None, "wsify ends")
        return self.process.returncode

    def finish(self):
        """Ends the server after a test. It must still have been running, unless the test ended it."""
        self.hang_up()
        status = self.process.poll()
        if status is None:
            self.process.kill()
            self.process.wait()
        for thread in self.threads:
            thread.join(DEADLINE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        assert not any("panicked" in line for line in self.err), self.err
        assert status is None or self.ends, f"wsify ended with {status}: {self.err}"


UPGRADE = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
)


def upgrade(target="/ws", headers=(), without=(), instead=None, method="GET", version="HTTP/1.1", host="test"):
    """An upgrade request, correct but for the headers left out or replaced."""
    instead = instead or {}
    lines = [(name, instead.get(name, value)) for name, value in UPGRADE if name not in without]
    return request(method, target, [*lines, *headers], version=version, host=host)
