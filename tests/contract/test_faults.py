"""Faults around the server: no descriptors, a broken authorizer, a clock that jumps, a full disk, peers that vanish
(docs/limits.md). Measured bounds are generous."""

import glob
import os
import resource
import signal
import socket
import threading
import time

import pytest

from harness.authorizer import Reply
from harness.net import is_error, may_retry, request, until
from harness.server import KEY, upgrade
from harness.tools import absent
from harness.ws import PING, PONG, TEXT, closing, command, frame, text, upgraded

JSON = ("Content-Type", "application/json")

# -- no descriptors


@pytest.mark.parametrize(
    "first", [b"", b"G", request("POST", "/broadcast", [JSON, ("Content-Length", "9")]), request("GET", "/nothing"), upgrade()],
    ids=["silent", "a byte", "no body", "kept alive", "upgrades"],
)
def test_health_is_answered_at_the_fd_limit(serve, first):
    """Connections without a request are evicted, whatever holds the other descriptors."""
    server = serve("--handshake-timeout", "5m", files=64)
    crowd = [server.dial().send(first) for _ in range(150)]
    assert server.call("GET", "/health").status == 200
    assert server.metric('ended_total{reason="no_room"}') > 0
    assert crowd


def test_an_evicted_connection_gets_503(serve):
    server = serve("--handshake-timeout", "5m", files=64)
    oldest = server.dial()
    ws = server.ws().join("x")
    crowd = [server.dial() for _ in range(100)]
    response = oldest.response()
    may_retry(response)
    assert response.closes()
    oldest.at_end()
    ws.is_quiet()
    assert crowd


def test_websockets_at_the_fd_limit_are_left_alone(serve):
    """--max-connections is capped by the number of descriptors, so there is always room for a probe."""
    server = serve("--max-connections", "1000", files=64)
    crowd = []
    while len(crowd) < 64:
        stream = server.knock()
        response = stream.response()
        if response.status == 503:
            break
        crowd.append(stream)
    assert 8 <= len(crowd) < 64
    silent = [server.dial() for _ in range(60)]
    assert server.call("GET", "/health").status == 200
    for stream in crowd:
        stream.send(frame(9, b"x", key=b"abcd"))
        assert stream.exactly(3) == b"\x8a\x01x"
    assert silent


def test_a_free_descriptor_is_used_at_once(serve):
    server = serve("--handshake-timeout", "5m", files=64)
    held = []
    while (stream := server.knock()).response().status == 101:
        held.append(stream)
    for _ in range(10):
        held.pop().close()
        until(server.admits, "a free descriptor is used", 2)
        held.append(server.knock())
        assert held[-1].response().status == 101


# -- the authorizer

ENDLESS = {
    "a header without end": (b"HTTP/1.1 200 OK\r\nX-Pad: ", b"p" * 4096),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"X-Pad: p\r\n" * 400),
    "a body without end": (b"HTTP/1.1 200 OK\r\n\r\n", b"b" * 4096),
    "a state without end": (b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"state":"', b"s" * 4096),
    "chunks without end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"c" * 4096 + b"\r\n"),
    "interim answers without end": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
    "zeros without end": (b"", bytes(4096)),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_authorizer_that_does_not_end(serve, authorizer, what):
    """The client gets an answer in time, and neither memory nor a worker is lost."""
    server = serve("--authorizer-timeout", "1s", "--authorizer-workers", "2", auth=authorizer)
    begin, more = ENDLESS[what]
    authorizer.on(Reply(raw=begin + more * 5000, close=True), "connect")
    before = server.memory()[0]
    for _ in range(4):
        response = server.knock("/ws").response()
        assert response.status in (101, 503), response
    assert server.memory()[0] - before < 20 << 20
    authorizer.on(200, "connect")
    server.ws().join("x")


def test_an_authorizer_that_does_not_accept(serve):
    """Its kernel accepts connections, and no process reads from them."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        server = serve("--authorizer-timeout", "300ms", auth=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        crowd = [server.knock() for _ in range(20)]
        assert server.call("GET", "/health").status == 200
        for stream in crowd:
            may_retry(stream.response())


def test_no_descriptor_for_a_question(serve, authorizer):
    """The authorizer cannot be called: it is down until there is a descriptor again."""
    server = serve(auth=authorizer)
    kept = server.dial()
    for _ in range(2):
        assert kept.send(request("GET", "/health")).response().status == 200
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, hard))
    may_retry(kept.send(upgrade()).response())
    assert "Too many open files" in server.logged("the authorizer is down")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
    server.ws().join("x")


def test_a_rush_through_a_slow_authorizer(serve, authorizer):
    server = serve("--authorizer-workers", "4", auth=authorizer)
    witness = server.ws().join("x")

    def slowly(_):
        time.sleep(0.01)
        return 200

    authorizer.on(slowly, "connect")
    crowd = [server.knock() for _ in range(300)]
    for i in range(20):
        server.publish("x", str(i))
        witness.hears(str(i)).ping()
    for stream in crowd:
        upgraded(stream, KEY)


def test_a_flickering_authorizer_does_not_flood_the_log(serve, authorizer):
    server = serve("--drain-timeout", "300ms", auth=authorizer)
    turn = iter(range(10**9))
    authorizer.on(lambda _: 500 if next(turn) % 2 else 200, "connect")
    for _ in range(100):
        server.knock().response()
    server.signal(signal.SIGTERM)
    assert server.status() == 0
    server.finish()
    assert sum("authorizer" in entry["message"] for entry in server.log()) < 30


# -- peers that vanish

MOMENTS = {
    "accepted": b"",
    "within the request": upgrade()[:50],
    "a request that the server has not read": request("GET", "/metrics") * 50,
    "within a body": request("POST", "/broadcast", [JSON, ("Content-Length", "100")], length=False) + b'{"channel":',
    "the question open": upgrade("/ws?held=1"),
    "upgraded": upgrade(),
    "within a frame's header": upgrade() + b"\x81",
    "within a frame": upgrade() + text(command("join", "x"))[:-3],
    "within a message": upgrade() + frame(TEXT, '{"comm', fin=False),
    "a command's question open": upgrade() + text(command("leave", "held")),
    "a member": upgrade() + text(command("join", "x")),
    "the closing handshake": upgrade() + text(command("join", "x")) + closing(1000),
    "a violation": upgrade() + b"\x81\x01x",
    "refused": b"\x16\x03\x01",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_reset_at_every_moment(serve, authorizer, moment):
    server = serve(auth=authorizer)
    authorizer.hold(channel="held")
    witness = server.ws().join("x")
    authorizer.on(lambda q: None if "held" in q.peer["query"] else 200, "connect")
    for pause in (0, 0, 0, 0.002, 0.02, 0.05):
        stream = server.dial().send(MOMENTS[moment])
        time.sleep(pause)
        server.publish("x", '"' + "x" * 1000 + '"')  # amid a fan-out, where it is a member
        stream.reset()
        witness.hears('"' + "x" * 1000 + '"')
    for question in authorizer.about():
        question.release()
    until(lambda: server.metric("wsify_memberships") == 1, "the other memberships have ended")
    until(lambda: server.metric('wsify_connections{kind="websocket"}') == 1, "one WebSocket is left")
    witness.is_quiet()


def test_a_thousand_clients_leave_at_once(serve):
    server = serve()
    standing = server.ws().join("x")
    crowd = []
    for i in range(1000):
        crowd.append(server.dial().send(upgrade() + text(command("join", f"room-{i % 10}"))))
    for stream in crowd:
        upgraded(stream, KEY)
    for i, stream in enumerate(crowd):
        stream.reset() if i % 2 else stream.close()
        if i % 100 == 0:
            began = time.monotonic()
            standing.ping()
            assert time.monotonic() - began < 2
    until(lambda: server.metric("wsify_memberships") == 1, "one membership is left")


# -- clocks


def test_the_wall_clock_may_jump(serve, tmp_path):
    """Only the log and the Date header use it."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1") or absent("libfaketime is not installed (Debian: apt-get install faketime)")
    time_file = tmp_path / "time"
    time_file.write_text("+0")
    env = {
        "LD_PRELOAD": libraries[0], "FAKETIME_TIMESTAMP_FILE": str(time_file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "ASAN_OPTIONS": "verify_asan_link_order=0",
    }
    server = serve("--ping-interval", "1s", "--handshake-timeout", "1s", env=env)
    ws, slow = server.ws().join("x"), server.dial()
    until(lambda: server.call("GET", "/health").header("Date").endswith("GMT"), "there is a date")
    for offset, year in (("+20y", None), ("-20y", None), ("@1960-01-01 00:00:00", "1970"), ("+0", None)):
        time_file.write_text(offset)
        if year:
            until(lambda: year in server.call("GET", "/health").header("Date"), "the date follows")
        ws.is_quiet()
    # Deadlines neither fire at once nor never.
    is_error(slow.response(), 408)
    assert ws.next_frame().opcode == PING, "pings go on"
    ws.send(frame(PONG))
    server.publish("x", "1")
    ws.hears("1")


# -- the disk, the terminal


def test_a_full_disk_under_the_log(serve):
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        server = serve("--log-level", "debug", "--drain-timeout", "300ms", stdout=full)
        ws = server.ws().join("x")
        for _ in range(50):
            server.call("GET", "/nothing")
        until(lambda: server.metric("wsify_log_lines_dropped_total") > 0, "lines are dropped and counted")
        ws.is_quiet()
        server.signal(signal.SIGTERM)
        ws.is_closed(1012)
        assert server.status() == 0
    finally:
        os.close(full)


def test_an_idle_server_uses_no_cpu(serve, authorizer):
    """Without events nothing wakes the server, whatever happened before."""
    server = serve(auth=authorizer)
    ws = server.ws().join("x")
    ws.leaves()
    server.hang_up()
    before = server.cpu()
    threading.Event().wait(0.5)
    assert server.cpu() - before < 0.2
