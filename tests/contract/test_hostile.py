"""Hostile and unlucky clients (docs/limits.md, docs/security.md). Broken frames are in test_frames.py."""

import fcntl
import os
import random
import select
import struct
import threading

import pytest

from harness.net import is_error, request, until
from harness.server import KEY, upgrade
from harness.ws import CLOSE, TEXT, command, frame, fresh, text, upgraded

JSON = ("Content-Type", "application/json")

# -- slow and silent handshakes


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", b"GET /ws HTTP/1.1\r\n", upgrade()[:-1], upgrade()[:-2], b"\r\n", request("POST", "/broadcast", [JSON, ("Content-Length", "5")]),
     request("POST", "/broadcast", [JSON, ("Content-Length", "5")]) + b"{}",
     request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + b"5\r\n{}"],
    ids=["silent", "a byte", "a line", "all but LF", "all but CRLF", "an empty line", "no body", "half a body", "half a chunk"],
)
def test_a_slow_handshake_is_408(serve, sent):
    stream = serve("--handshake-timeout", "300ms").dial().send(sent)
    response = stream.response()
    is_error(response, 408)
    assert response.closes()
    stream.at_end()


def test_dripping_does_not_help(serve):
    """The time runs from accept, not from the last byte."""
    stream = serve("--handshake-timeout", "500ms").dial()
    head = upgrade(headers=[("X-Pad", "p" * 10_000)])
    for i in range(len(head)):
        ready, _, _ = select.select([stream.sock], [], [], 0.02)
        if ready:
            break
        stream.pour(head[i : i + 1])
    is_error(stream.response(), 408)


def test_other_connections_are_served_during_slow_handshakes(serve):
    server = serve("--handshake-timeout", "1m")
    silent = [server.dial() for _ in range(100)]
    server.ws().join("x")
    assert server.call("GET", "/health").status == 200
    silent[0].send(upgrade())
    upgraded(silent[0], KEY)


def test_the_handshake_timeout_does_not_end_open_connections(serve):
    server = serve("--handshake-timeout", "300ms")
    ws = server.ws()
    for _ in range(2):
        is_error(server.dial().response(), 408)
    ws.is_quiet()


# -- readers that stop


def messages_up_to_the_end(ws):
    """The whole messages before a close or the end of the stream, and the close code."""
    messages = []
    while True:
        try:
            got = ws.next_frame()
        except AssertionError as end:
            assert "says nothing" not in str(end)
            return messages, None
        if got.opcode == CLOSE:
            return messages, struct.unpack("!H", got.payload[:2])[0]
        if got.opcode == TEXT:
            messages.append(got.payload)


@pytest.mark.parametrize("protocols", [None, "wsify.v1"])
def test_a_reader_that_stops_is_closed_and_slows_no_connection_down(serve, protocols):
    server = serve("--max-queue-size", "64KiB")
    slow = server.ws(rcvbuf=4096, protocols=protocols).join("x")
    fast, other = server.ws().join("x"), server.ws().join("y")
    post = server.dial()
    total, pad = 1500, "x" * 10_000
    for i in range(total):
        post.send(request("POST", "/broadcast", [JSON], f'{{"channel":"x","content":"{i} {pad}"}}'.encode()))
        assert post.response().status == 201
        fast.hears(f'"{i} {pad}"')
        if i % 100 == 0:
            other.is_quiet()
    messages, code = messages_up_to_the_end(slow)
    assert len(messages) < total, "15 MB were queued for it, and 64 KiB are allowed"
    assert code in (1008, None)
    for i, message in enumerate(messages):
        assert f'"{i} '.encode() in message[:40], "it never misses one silently"


def test_a_slow_reader_does_not_grow_the_server(serve):
    server = serve("--max-queue-size", "64KiB")
    crowd = [server.ws(rcvbuf=4096).join("x") for _ in range(50)]
    fast = server.ws().join("x")
    before = server.memory()[0]
    content = '"' + "x" * 50_000 + '"'
    for _ in range(200):
        server.publish("x", content)
        fast.hears(content)
    assert server.memory()[0] - before < 50 << 20
    assert crowd


def test_a_small_queue_takes_what_a_reader_reads(serve):
    """A slow but steady reader is not closed as long as its queue has room."""
    server = serve("--max-queue-size", "64KiB")
    ws = server.ws().join("x")
    for i in range(300):
        server.publish("x", f'"{i} {"x" * 20_000}"')
        assert ws.hear().startswith(f'"{i} ')


def test_answers_count_for_the_queue(serve):
    """A client that sends commands without end and reads nothing is closed, and costs no memory."""
    server = serve("--max-queue-size", "64KiB")
    ws = server.ws(rcvbuf=4096)
    before = server.memory()[0]
    ws.stream.sock.settimeout(0.5)
    block = b"".join(frame(TEXT, command("nothing", "x" * 100, id="i" * 100), key=b"abcd") for _ in range(1000))
    sent = 0
    try:
        while sent < 100 << 20:
            sent += ws.stream.sock.send(block)
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        pass  # closed, or not read from any more: both will do
    server.ws().is_quiet()
    assert server.memory()[0] - before < 40 << 20


# -- senders that flood


@pytest.mark.parametrize("what", ["commands", "pings", "small fragments", "posts"])
def test_a_sender_that_floods(serve, what):
    server = serve()
    over = threading.Event()
    quiet, witness = server.ws().join("x"), server.ws().join("x")
    block = {
        "commands": text(command("broadcast", "empty", "1")) * 500,
        "pings": frame(10, b"x") * 5000,
        "small fragments": frame(TEXT, b"", fin=False) + frame(0, b" ", fin=False) * 1000 + frame(0, command("leave", "z")),
        "posts": request("POST", "/broadcast", [JSON], b'{"channel":"empty"}') * 200,
    }[what]
    flooder = server.dial() if what == "posts" else server.ws().stream
    turns = []

    def flood():
        while not over.is_set():
            flooder.pour(block)
            turns.append(1)
            if what == "posts":
                for _ in range(200):
                    assert flooder.response().status == 201

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        until(lambda: len(turns) > 2, "the flood has begun")
        for i in range(100):
            quiet.broadcast("other", str(i)).ping()
            server.publish("x", str(i))
            quiet.hears(str(i))
            witness.hears(str(i))
    finally:
        over.set()
        thread.join()


def test_a_flood_from_many(serve):
    server = serve()
    crowd = [server.ws().join("x") for _ in range(20)]
    for ws in crowd:
        ws.send(text(command("broadcast", "x", '"' + "f" * 100 + '"')) * 20)
    for ws in crowd:
        ws.hears(*['"' + "f" * 100 + '"'] * 400).is_quiet()


def test_a_large_channel(serve):
    """Messages of other channels pass in between, and every member gets everything."""
    server = serve("--max-queue-size", "16MiB")
    crowd = []
    for _ in range(500):
        crowd.append(server.ws().join("large"))
    other = server.ws()
    post = server.dial()
    for i in range(40):
        post.send(request("POST", "/broadcast", [JSON], f'{{"channel":"large","content":{i}}}'.encode()))
    other.join("x").is_quiet().ping()
    for _ in range(40):
        assert post.response().status == 201
    for ws in crowd:
        ws.hears(*map(str, range(40)))


# -- the fd limit


def test_the_fd_limit(serve):
    server = serve("--handshake-timeout", "1m", files=64)
    crowd = [server.dial() for _ in range(100)]
    server_is_reached = crowd[0].send(request("GET", "/health")).response()
    assert server_is_reached.status == 200
    # The loop does not spin: half a second of nothing, measured as the process's own CPU time.
    before = server.cpu()
    threading.Event().wait(0.5)
    assert server.cpu() - before < 0.2, "CPU time while there is nothing to do"
    for stream in crowd[:90]:
        stream.close()
    # The waiting connections are accepted, and new ones too.
    for stream in crowd[-10:]:
        response = stream.pour(request("GET", "/health")).response()
        assert response.status in (200, 503)
        assert response.status == 200 or response.closes()
    for _ in range(5):
        assert server.call("GET", "/health").status == 200
    server.ws().join("x")


def test_the_fd_limit_again_and_again(serve):
    server = serve(files=64)
    for _ in range(5):
        for _ in range(90):
            server.knock()
        server.hang_up()
        until(server.admits, "there is room again")


# -- stdout


class Pipe:
    """Where the log goes to, in a pipe that holds a page."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, 1031, 4096)  # F_SETPIPE_SZ

    def close(self):
        os.close(self.reader)
        os.close(self.writer)


def busy(server, turns=20):
    """Causes log lines at level debug."""
    for _ in range(turns):
        server.ws().join("x").leaves()
        server.call("GET", "/nothing")
        for _ in range(50):
            server.dial().send(request("GET", "/nothing"))
        server.hang_up()


def test_a_blocked_stdout_drops_log_lines_and_counts_them(serve):
    pipe = Pipe()
    try:
        server = serve("--log-level", "debug", stdout=pipe.writer)

        def dropped():
            busy(server)
            return server.metric("log.*(drop|lost)|(drop|lost).*log") > 0

        until(dropped, "log lines are dropped and counted")
        busy(server)
        # Once it drains, a line reports how many were dropped.
        os.set_blocking(pipe.reader, False)
        text_ = b""

        def told():
            nonlocal text_
            try:
                text_ += os.read(pipe.reader, 65536)
            except BlockingIOError:
                busy(server, 1)
            return any(b"drop" in line.lower() or b"lost" in line.lower() for line in text_.splitlines())

        until(told, "a line about what was dropped")
        assert all(line.startswith(b"{") for line in text_.splitlines()), "no line is cut into another"
    finally:
        pipe.close()


def test_a_stdout_that_is_closed(serve):
    pipe = Pipe()
    server = serve("--log-level", "debug", "--drain-timeout", "300ms", stdout=pipe.writer)
    pipe.close()
    busy(server)
    ws = server.ws().join("x")
    server.publish("x", "1")
    ws.hears("1")
    server.signal(15)
    ws.is_closed(1012)
    assert server.status() == 0


def test_a_full_stdout_does_not_hold_up_a_stop(serve):
    pipe = Pipe()
    try:
        server = serve("--log-level", "debug", "--drain-timeout", "1s", stdout=pipe.writer)
        busy(server)
        server.signal(15)
        assert server.status() == 0
    finally:
        pipe.close()


# -- anything


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(plain, seed):
    """Seeded, so that a failure can be repeated. The server answers or closes, and does not crash."""
    chance = random.Random(seed)
    channel = fresh()
    good = [upgrade(), request("GET", "/health"), request("POST", "/broadcast", [JSON], b'{"channel":"x"}'),
            text(command("join", channel)), frame(9, b"x"), text("{}"), frame(8)]
    for _ in range(25):
        data = bytearray(b"".join(chance.choices(good, k=chance.randrange(1, 6))))
        for _ in range(chance.randrange(0, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        stream = plain.dial()
        if chance.random() < 0.5:
            stream.pour(upgrade())
        for start in range(0, len(data), step := chance.randrange(1, 200)):
            stream.pour(bytes(data[start : start + step]))
        chance.choice([stream.close, stream.reset])()
    assert plain.call("GET", "/health").status == 200
    plain.ws().join(channel)


def test_log_lines_cannot_be_forged(serve):
    server = serve("--log-level", "debug")
    server.call("GET", "/nothing%0a{%22level%22:%22fatal%22}")
    server.dial().send(b'GET /"}\xff HTTP/1.1\r\nHost: test\r\nUser-Agent: a"b\\c\r\n\r\n').response()
    ws = server.ws('/ws?x="}')
    ws.ask(command('"}\n{"', '"}\n{"'))
    ws.leaves(4000, b'"}\n{"')
    server.signal(15)
    assert server.status() == 0
    server.finish()
    assert all(isinstance(entry, dict) for entry in server.log())


def test_a_full_server_of_half_open_clients(serve):
    """Vanished clients are found by their silence."""
    server = serve("--max-connections", "3", "--ping-interval", "200ms")
    crowd = [server.ws() for _ in range(3)]
    for ws in crowd:
        ws.answers_pings = False
    until(server.admits, "their places are free again")
