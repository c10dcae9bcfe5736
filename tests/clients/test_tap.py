"""`GET /tap` with curl, while something happens (docs/observing.md#tap)."""

import json
import shutil
import subprocess
import threading

import pytest

from harness.net import is_error, request, until
from harness.server import environment
from harness.ws import command

if not shutil.which("curl"):
    pytest.skip("curl is not installed", allow_module_level=True)


class Curl:
    """A curl at `/tap`, and its events so far: (event, data)."""

    def __init__(self, server, query="", *more):
        url = f"http://127.0.0.1:{server.port}/tap{query}"
        self.process = subprocess.Popen(
            ["curl", "-sNg", *more, url], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment()
        )
        self.events = []
        self.thread = threading.Thread(target=self.collect, daemon=True)
        self.thread.start()
        self.first("tap")

    def collect(self):
        event = None
        for line in self.process.stdout:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                self.events.append((event, json.loads(value)))

    def first(self, event, **fields):
        """Waits for such an event, and returns its data."""

        def found():
            return next(
                (data for name, data in list(self.events) if name == event and fields.items() <= data.items()), None
            )

        return until(found, lambda: f"{event} {fields} among {self.events}")

    def ends(self):
        assert self.process.wait(20) == 0, "the answer ends in good order"
        self.thread.join(20)
        return self

    def hang_up(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(20)


@pytest.fixture
def tap(request):
    curls = []

    def open(*arguments):
        curls.append(Curl(*arguments))
        return curls[-1]

    yield open
    for curl in curls:
        curl.hang_up()


def test_connected_but_nothing_arrives(asked, authorizer, tap):
    """Because ann never joined the channel."""
    ann = asked.ws("/ws?user=42&token=s3cret")
    authorizer.on(403, "join", "room")
    look = tap(asked, "?query=user:42")
    found = look.first("found")
    assert found["channels"] == [] and look.first("watching")["connections"] == 1
    ann.say(command("join", "room"))
    asked.publish("room", '"ann does not hear it"')
    look.first("question", command="join", channel="room")
    verdict = look.first("verdict", command="join", verdict="deny")
    assert verdict["took_ms"] > 0 and verdict["connection"] == found["connection"]
    look.first("refused", command="join", channel="room", code="not_authorized")
    authorizer.on(200, "join", "room")
    ann.answer()
    ann.join("room")
    asked.publish("room", '"ann hears it"')
    look.first("deliver", channel="room", messages=1, queued_bytes=0)
    ann.hears('"ann hears it"').leaves(4000)
    look.first("end", reason="closed", code=4000)
    assert all(data.get("connection") in (found["connection"], None) for _, data in look.events)
    assert "s3cret" not in str(look.events)


def test_the_key_rule_is_that_of_a_backend(serve, tap):
    server = serve("--broadcasting-key", "k")
    is_error(server.call("GET", "/tap"), 403)
    is_error(server.call("GET", "/tap?key=wrong"), 403)
    tap(server, "?key=k&channel=a")
    tap(server, "", "-H", "Authorization: Bearer k")


def test_http_1_0_and_head(serve, tap):
    server = serve()
    tap(server, "", "--http1.0")
    head = server.call("HEAD", "/tap")
    assert head.status == 200 and head.header("Content-Type").startswith("text/event-stream")
    is_error(server.call("POST", "/tap", body=b""), 405)
    assert "GET" in server.call("POST", "/tap", body=b"").header("Allow")


def test_hanging_up_ends_a_tap(serve, tap):
    server = serve()
    looks = [tap(server) for _ in range(10)]
    assert server.metric("^wsify_taps$") == 10
    full = server.call("GET", "/tap")
    is_error(full, 503)
    assert full.header("Retry-After")
    looks[0].hang_up()
    until(lambda: server.metric("^wsify_taps$") == 9, "the tap is gone")
    tap(server)


def test_a_stop_ends_a_tap(serve, tap):
    server = serve("--drain-timeout", "5s")
    look = tap(server)
    server.signal(15)
    look.ends().first("bye", reason="stopping")
    assert server.status() == 0


def test_a_tap_that_does_not_read_slows_no_connection_down(serve):
    server = serve()
    slow = server.dial(rcvbuf=4096).send(request("GET", "/tap"))
    until(lambda: server.metric("^wsify_taps$") == 1, "there is one tap")
    ann = server.ws().join("room")
    content = json.dumps("x" * 500)
    for _ in range(100):
        for _ in range(100):
            ann.say(command("broadcast", "room", content))
        ann.hears(*[content] * 100)
        if server.metric("^wsify_tap_lines_lost_total$") > 0:
            break
    assert server.metric("^wsify_tap_lines_lost_total$") > 0
    assert server.metric("^wsify_queued_bytes$") < 400_000
    text = b""
    while b"event: lost\n" not in text:
        assert slow.more()
        text = bytes(slow.buffer)
