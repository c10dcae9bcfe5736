"""What --authorizer-failure does (docs/authorizer.md#failure)."""

import json
import re
import signal
import threading
import time

import pytest

from harness.authorizer import Authorizer, Reply, items
from harness.net import is_error, until
from harness.server import run
from harness.ws import PING, PONG, assert_error, command, frame

DOWN = {"status": "ok", "authorizer": "down"}


def health(server):
    answer = server.call("GET", "/health")
    return answer.status, answer.json()


def up(server):
    return server.metric("^wsify_authorizer_up$")


def held(server):
    return server.metric("^wsify_authorizer_held$")


def commands(ws, channel, count):
    """Joins a channel and publishes to it, without waiting for an answer."""
    ws.say(command("join", channel, id=0))
    for nth in range(1, count):
        ws.say(command("broadcast", channel, content=nth, id=nth))


class Counting:
    """An authorizer that takes a while, and counts what it is asked at once."""

    def __init__(self, port, takes):
        self.lock = threading.Lock()
        self.begun = self.answered = 0
        self.excess = []
        self.inner = Authorizer(port=port)
        self.inner.on(self.answer)
        self.takes = takes

    def answer(self, question):
        with self.lock:
            self.begun += 1
            self.excess.append((self.begun, self.answered))
        time.sleep(self.takes)
        with self.lock:
            self.answered += 1
        return 200


@pytest.mark.parametrize("value", ["drop", "hold,close"])
def test_other_values_are_no_failure_policy(value):
    status, _, err = run("--authorizer-failure", value)
    assert status == 2 and "--authorizer-failure" in err and "close, reject or hold" in err
    assert run("--authorizer-hold", "0")[0] == 2


def test_with_close_health_says_nothing_of_the_authorizer(serve, authorizer):
    server = serve(auth=authorizer)
    ws = server.ws()
    assert up(server) == 1
    authorizer.on(503)
    ws.say(command("join", "x")).is_closed(1013)
    assert up(server) == 0
    assert health(server) == (200, {"status": "ok"})
    server.logged("the authorizer is down")
    authorizer.on(403)
    is_error(server.knock().response(), 403)
    assert up(server) == 1
    assert json.loads(server.logged("answers again"))["down_ms"] >= 0


def test_with_reject_connections_outlive_an_outage(serve, authorizer):
    server = serve("--authorizer-failure", "reject", auth=authorizer)
    crowd = [server.ws().join("x") for _ in range(4)]
    assert all("question" not in question.json for question in authorizer.about())
    authorizer.on(503)
    for nth in range(8):
        for ws in crowd:
            assert_error(ws.ask(command("join", "y", id=nth)), "authorizer_down", id=nth)
    assert health(server) == (200, DOWN)
    assert up(server) == 0
    answer = server.knock().response()
    is_error(answer, 503)
    assert 1 <= int(answer.header("Retry-After")) <= 5
    # Five have failed; what else was asked were probes.
    assert 5 <= len(authorizer.about("join", "y")) < 20
    assert "503" in json.loads(server.logged("the authorizer is down"))["reason"]
    authorizer.on(200)
    until(lambda: crowd[0].ask(command("leave", "x", id=1)) == {"id": 1, "ok": True}, "an answer")
    assert health(server) == (200, {"status": "ok"}) and up(server) == 1
    assert json.loads(server.logged("answers again"))["down_ms"] > 0
    for ws in crowd:
        ws.join("z")


def test_with_hold_everything_is_done_in_order_when_the_authorizer_is_back(serve):
    authorizer = Authorizer()
    server = serve("--authorizer-failure", "hold", "--authorizer-workers", "16", auth=authorizer)
    crowd = [server.ws() for _ in range(60)]
    authorizer.stop()
    for nth, ws in enumerate(crowd):
        commands(ws, f"mine {nth}", 4)
    until(lambda: up(server) == 0, "it is down")
    late = [server.knock() for _ in range(5)]
    until(lambda: held(server) == 65, "all wait")
    assert health(server) == (200, DOWN)
    back = Counting(authorizer.port, 0.02)
    try:
        for ws in crowd:
            heard = [json.loads(ws.hear()) for _ in range(7)]
            answers = [line for line in heard if isinstance(line, dict)]
            assert answers == [{"id": nth, "ok": True} for nth in range(4)]
            assert [line for line in heard if not isinstance(line, dict)] == [1, 2, 3]
        for stream in late:
            assert stream.response().status == 101
    finally:
        back.inner.stop()
    # Until every worker was busy, no more was asked than twice what had been answered, and one.
    growing = [(begun, answered) for begun, answered in back.excess if begun - answered < 16]
    assert all(begun <= 2 * answered + 1 for begun, answered in growing[:15]), back.excess[:40]
    assert all(begun - answered <= 16 for begun, answered in back.excess)
    assert up(server) == 1


def test_with_hold_a_question_has_an_id_that_is_the_same_when_it_is_asked_again(serve, authorizer):
    server = serve("--authorizer-failure", "hold", auth=authorizer)
    ws = server.ws()
    authorizer.on(500, "join")
    ws.say(command("join", "x", id=1))
    first, again = authorizer.asked(2, "join")[:2]
    assert re.fullmatch("[0-9a-f]{32}", first.json["question"])
    assert first.raw == again.raw
    authorizer.on(200, "join")
    assert ws.answer() == {"id": 1, "ok": True}
    ws.join("y")
    ids = {question.json["question"] for question in authorizer.about()}
    assert len(ids) == 3, "connect, and two joins"


def test_with_hold_what_waits_too_long_is_closed(serve):
    authorizer = Authorizer()
    server = serve("--authorizer-failure", "hold", "--authorizer-hold", "1s", auth=authorizer)
    ws = server.ws()
    authorizer.stop()
    began = time.monotonic()
    ws.say(command("join", "x"))
    stream = server.knock()
    answer = stream.response()
    is_error(answer, 503)
    assert answer.header("Retry-After")
    ws.is_closed(1013)
    assert time.monotonic() - began >= 0.9


def test_with_hold_a_question_that_hangs_is_asked_again(serve, authorizer):
    server = serve("--authorizer-failure", "hold", "--authorizer-timeout", "200ms", auth=authorizer)
    ws = server.ws()
    authorizer.hold("join")
    ws.say(command("join", "x", id=1))
    authorizer.asked(2, "join")
    authorizer.on(200, "join")
    assert ws.answer() == {"id": 1, "ok": True}


def test_with_hold_the_full_queue_holds_too(serve, authorizer):
    server = serve("--authorizer-failure", "hold", "--authorizer-workers", "1", "--authorizer-queue", "1", auth=authorizer)
    crowd = [server.ws() for _ in range(5)]
    authorizer.hold("join")
    for ws in crowd:
        ws.say(command("join", "x", id=1))
    until(lambda: held(server) == 3, "three are held")
    assert up(server) == 1
    authorizer.on(200, "join")
    authorizer.asked(1, "join")[0].release()
    for ws in crowd:
        assert ws.answer() == {"id": 1, "ok": True}


def test_a_held_client_is_pinged_and_its_pings_are_answered(serve, authorizer):
    server = serve("--authorizer-failure", "hold", "--ping-interval", "300ms", auth=authorizer)
    ws = server.ws()
    authorizer.on(503)
    ws.say(command("join", "x", id=1))
    ws.ping(b"mine")
    for _ in range(4):
        got = ws.next_frame()
        assert got.opcode == PING
        ws.send(frame(PONG, got.payload))
    ws.ping(b"mine too")
    authorizer.on(200)
    assert ws.answer() == {"id": 1, "ok": True}


@pytest.mark.parametrize("how", ["half_close", "reset"])
def test_a_held_client_whose_socket_ends_has_left(serve, authorizer, how):
    server = serve("--authorizer-failure", "hold", auth=authorizer)
    listener, ws = server.ws().join("x"), server.ws()
    authorizer.on(503)
    ws.say(command("broadcast", "x", content=1)).say(command("broadcast", "x", content=2))
    until(lambda: held(server) == 1, "it is held")
    getattr(ws.stream, how)()
    until(lambda: held(server) == 0, "it has left")
    authorizer.on(200)
    assert listener.ask(command("join", "y", id=1)) == {"id": 1, "ok": True}
    listener.is_quiet()


def test_a_stop_tells_held_clients(serve):
    authorizer = Authorizer()
    server = serve("--authorizer-failure", "hold", "--drain-timeout", "2s", auth=authorizer)
    crowd = [server.ws() for _ in range(3)]
    authorizer.stop()
    for ws in crowd:
        ws.say(command("join", "x"))
    stream = server.knock()
    until(lambda: held(server) == 4, "all are held")
    server.signal(signal.SIGTERM)
    is_error(stream.response(), 503)
    for ws in crowd:
        ws.is_closed(1012)
    assert server.status() == 0


def test_a_tap_shows_what_is_held(serve, authorizer):
    server = serve("--authorizer-failure", "hold", auth=authorizer)
    ws = server.ws()
    tap = server.dial().send(b"GET /tap HTTP/1.1\r\nHost: test\r\n\r\n")
    while tap.line():
        pass
    authorizer.on(503, "join")
    ws.say(command("join", "x"))
    until(lambda: tap.more() and b"event: asked" in tap.buffer, "it is asked again")
    line = re.search(rb"event: held\r?\ndata: ([^\r\n]+)", tap.buffer)[1]
    shown = json.loads(line)
    assert (shown["command"], shown["channel"], shown["failed"], shown["reason"]) == ("join", "x", 1, "status 503")


def test_answers_other_than_5xx_end_an_outage_whatever_they_say(serve, authorizer):
    server = serve("--authorizer-failure", "reject", auth=authorizer)
    crowd = [server.ws() for _ in range(3)]
    authorizer.on(Reply(drop=True))
    until(
        lambda: [ws.ask(command("join", "x", id=1)) for ws in crowd] and health(server) == (200, DOWN),
        "it is down",
    )
    authorizer.on(403)
    until(lambda: crowd[0].ask(command("join", "x", id=1))["error"]["code"] == "not_authorized", "a refusal")
    assert health(server) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "spoiled", [Reply(500), items(), Reply(200, b"[]", (("Content-Type", "text/plain"),))], ids=["500", "an empty array", "another type"]
)
def test_with_hold_the_questions_of_a_failed_batch_are_asked_again_alone(serve, authorizer, spoiled):
    server = serve("--authorizer-failure", "hold", "--authorizer-batch", "64", "--authorizer-workers", "1", auth=authorizer)
    crowd = [server.ws() for _ in range(6)]
    plug = server.ws()
    usual, authorizer.batches = authorizer.batches, None
    before = len(authorizer.posts)
    plug.say(command("join", "plug", id=0))
    (busy,) = authorizer.called(before + 1)[before:]
    for nth, ws in enumerate(crowd):
        ws.say(command("join", "poison" if nth == 3 else "good", id=nth))
    until(lambda: server.metric("^wsify_authorizer_questions_waiting$") == 6, "all wait")

    def judge(call):
        poisoned = any(question.channel == "poison" for question in call.batch)
        return spoiled if poisoned else items(*[200] * len(call.batch))

    authorizer.batches = judge
    busy.release(items(200))
    assert plug.answer() == {"id": 0, "ok": True}
    for nth, ws in enumerate(crowd):
        if nth != 3:
            assert ws.answer() == {"id": nth, "ok": True}
    assert len(authorizer.posts[before + 1].batch) == 6
    assert all(len(call.batch) == 1 for call in authorizer.posts[before + 2 :])
    authorizer.batches = usual
    assert crowd[3].answer() == {"id": 3, "ok": True}
