"""Many questions in one call (docs/authorizer.md#batches)."""

import hashlib
import hmac
import json

import pytest

from harness.authorizer import Reply, items, with_body
from harness.net import may_retry, media_type, until
from harness.server import KEY, free_port, run
from harness.ws import assert_error, command, upgraded

MIB = 1 << 20


def commands(call):
    return [question.command for question in call.batch]


@pytest.fixture
def one_by_one(serve, authorizer):
    """A server with batches of up to 64 and a single worker: what comes while a call is under way is the next batch."""
    return serve("--authorizer-batch", "64", "--authorizer-workers", "1", auth=authorizer)


class Crowd:
    """Clients that speak while the only worker is busy."""

    def __init__(self, server, authorizer, count):
        self.server, self.authorizer = server, authorizer
        self.plug = server.ws()
        self.clients = [server.ws() for _ in range(count)]
        self.before = len(authorizer.posts)
        self.usual, authorizer.batches = authorizer.batches, None
        self.plug.say(command("join", "plug"))
        (self.busy,) = authorizer.called(self.before + 1)[self.before :]

    def say(self, *messages):
        """Each client says its message; all of them wait for the worker."""
        for ws, message in zip(self.clients, messages, strict=True):
            ws.say(message)
        until(lambda: self.server.metric("^wsify_authorizer_questions_waiting$") == len(messages), "all questions wait")

    def release(self, reply):
        """The call that was under way is answered, and from now on batches get this reply. Returns the next batch."""
        self.authorizer.batches = reply
        self.busy.release(items(200))
        return self.authorizer.called(self.before + 2)[self.before + 1]


def test_every_call_is_an_array(one_by_one, authorizer):
    one_by_one.ws("/ws?token=abc").join("a").broadcast("a", "1")
    calls = authorizer.called(3)
    assert [commands(call) for call in calls] == [["connect"], ["join"], ["broadcast"]]
    assert authorizer.questions == []
    for call in calls:
        assert call.method == "POST" and media_type(call.header("Content-Type")) == "application/json"
        assert int(call.header("Content-Length")) == len(call.raw)
        (question,) = call.batch
        assert set(question.json) == {"command", "args", "connection"}
        assert question.peer["query"] == {"token": ["abc"]}


def test_by_default_every_question_is_alone(asked, authorizer):
    asked.ws().join("a")
    assert [q.command for q in authorizer.asked(2)] == ["connect", "join"]
    assert authorizer.posts == []


def test_what_waits_while_the_worker_is_busy_is_one_batch_of_64(one_by_one, authorizer):
    crowd = Crowd(one_by_one, authorizer, 70)
    crowd.say(*[command("join", f"room {i}", id=i) for i in range(70)])

    def judge(call):
        numbers = [int(question.channel.split()[1]) for question in call.batch]
        return items(*[200 if n % 2 else {"status": 403, "message": f"not {n}"} for n in numbers])

    batch = crowd.release(judge).batch
    rest = authorizer.called(crowd.before + 3)[crowd.before + 2].batch
    assert (len(batch), len(rest)) == (64, 6)
    # In which order the server reads from several clients is not known.
    rooms = [question.channel for question in batch + rest]
    assert sorted(rooms) == sorted(f"room {i}" for i in range(70))
    assert len({question.peer["id"] for question in batch + rest}) == 70
    for number, ws in enumerate(crowd.clients):
        answer = json.loads(ws.hear())
        if number % 2:
            assert answer == {"id": number, "ok": True}
        else:
            assert_error(answer, "not_authorized", number)
            assert answer["error"]["message"] == f"not {number}"
    assert one_by_one.metric("^wsify_authorizer_batch_size_sum$") == len(authorizer.posts) - 2 + 70
    assert one_by_one.metric("^wsify_authorizer_batch_size_count$") == len(authorizer.posts)


def test_the_questions_of_a_client_are_in_separate_calls_and_in_order(one_by_one, authorizer):
    crowd = Crowd(one_by_one, authorizer, 1)
    crowd.say(command("join", "a", id=1))
    (ws,) = crowd.clients
    ws.say(command("broadcast", "a", "7", id=2))
    crowd.release(crowd.usual)
    ws.hears('{"id":1,"ok":true}')
    assert {ws.hear(), ws.hear()} == {"7", '{"id":2,"ok":true}'}
    assert [commands(call) for call in authorizer.posts[crowd.before + 1 :]] == [["join"], ["broadcast"]]


def test_items_have_fields_of_their_own(one_by_one, authorizer):
    crowd = Crowd(one_by_one, authorizer, 4)
    crowd.say(*[command("broadcast", f"c{i}", "0", id=i) for i in range(4)])
    answers = {
        "c0": {"status": 200, "content": {"new": 1.50}},
        "c1": {"status": 403, "message": "no", "close": {"code": 4001, "reason": "out"}},
        "c2": {"status": 200, "max_age": 1.5},
        "c3": {"status": 503},
    }
    type = "application/vnd.wsify+json; charset=utf-8"
    crowd.release(lambda call: items(*[answers.get(question.channel, 200) for question in call.batch], type=type))
    good, refused, wrong, failed = crowd.clients
    assert good.answer(0) == {"id": 0, "ok": True}
    answer = refused.answer(1)
    assert_error(answer, "not_authorized", 1)
    assert answer["error"]["message"] == "no"
    refused.is_closed(4001)
    # Each of these is down for its own question.
    wrong.is_closed(1013)
    failed.is_closed(1013)
    one_by_one.logged(r'"field":"max_age","value":"1\.5"')
    good.join("still there")


def test_the_types_that_are_understood(one_by_one, authorizer):
    for type in ("application/json", "application/json; charset=utf-8", "Application/VND.wsify+JSON"):
        authorizer.batches = lambda call, type=type: items({"status": 200, "user": "u"}, type=type)
        one_by_one.ws()


@pytest.mark.parametrize(
    "reply",
    [
        with_body("[]"),
        with_body('[{"status":200},{"status":200}]'),
        with_body('[{"status":"200"}]'),
        with_body('[{"status":200.0}]'),
        with_body('[{"status":99}]'),
        with_body('[{"status":600}]'),
        with_body('[{"status":200,"status":200}]'),
        with_body("[{}]"),
        with_body("[200]"),
        with_body('{"status":200}'),
        with_body('[{"status":200}'),
        with_body(b'[{"status":200,"x":"\xff"}]'),
        with_body('[{"status":200}]', type="text/plain"),
        with_body('[{"status":200}]', type="application/jsonp"),
        Reply(200),
        with_body('[{"status":200}]', close=True, status=200, type="application/json\r\nContent-Length: 100"),
        with_body('[{"status":500}]'),
        with_body('[{"status":200}]', status=500),
        Reply(drop=True),
    ],
    ids=lambda reply: (reply.body or reply.encode())[:30].decode("latin-1") + (reply.headers[0][1][:20] if reply.headers else ""),
)
def test_an_array_that_does_not_answer_counts_as_down(one_by_one, authorizer, reply):
    ws = one_by_one.ws()
    authorizer.batches = reply
    may_retry(one_by_one.knock().response())
    ws.say(command("join", "a")).is_closed(1013)


@pytest.mark.parametrize("status", [201, 204, 302, 403, 404])
def test_another_status_holds_for_all_whatever_the_body_says(one_by_one, authorizer, status):
    crowd = Crowd(one_by_one, authorizer, 3)
    crowd.say(*[command("join", f"c{i}", id=i) for i in range(3)])
    crowd.release(Reply(status) if status == 204 else with_body('[{"status":200,"message":"x"},{"status":200},{}]', status=status))
    for number, ws in enumerate(crowd.clients):
        answer = ws.answer(number)
        assert_error(answer, "not_authorized", number)
        assert answer["error"]["message"] == "the authorizer says no"
    authorizer.batches = crowd.usual
    crowd.clients[0].join("still there")


def test_a_call_has_at_most_one_mebibyte(one_by_one, authorizer):
    crowd = Crowd(one_by_one, authorizer, 3)
    # Two of these are over the limit together, and so is the last by itself.
    contents = [json.dumps("x" * size) for size in (600_000, 600_000, MIB - 100)]
    crowd.say(*[command("broadcast", f"c{i}", content, id=i) for i, content in enumerate(contents)])
    crowd.release(crowd.usual)
    for number, ws in enumerate(crowd.clients):
        assert ws.answer(number) == {"id": number, "ok": True}
    calls = authorizer.posts[crowd.before + 1 :]
    assert [len(call.batch) for call in calls] == [1, 1, 1]
    crowd = Crowd(one_by_one, authorizer, 2)
    crowd.say(*[command("broadcast", f"c{i}", json.dumps("x" * 500_000), id=i) for i in range(2)])
    batch = crowd.release(crowd.usual)
    assert len(batch.batch) == 2 and len(batch.raw) <= MIB


def test_a_question_that_was_withdrawn_is_in_no_batch(one_by_one, authorizer):
    crowd = Crowd(one_by_one, authorizer, 3)
    crowd.say(*[command("join", f"c{i}", id=i) for i in range(3)])
    crowd.clients[1].reset()
    until(lambda: one_by_one.metric("^wsify_authorizer_questions_waiting$") == 2, "it is withdrawn")
    batch = crowd.release(crowd.usual).batch
    assert sorted(question.channel for question in batch) == ["c0", "c2"]


def test_the_signature_covers_the_array(serve, authorizer):
    serve("--authorizer-batch", "2", "--authorizer-key", "k", auth=authorizer).ws()
    (call,) = authorizer.called(1)
    t, v1 = call.header("X-Wsify-Signature").split(",")
    assert v1 == "v1=" + hmac.new(b"k", t[2:].encode() + b"." + call.raw, hashlib.sha256).hexdigest()


def test_there_are_8_workers_by_default(serve, authorizer):
    server = serve("--authorizer-batch", "2", auth=authorizer)
    usual, authorizer.batches = authorizer.batches, None
    streams = [server.knock() for _ in range(30)]
    authorizer.called(8)
    until(lambda: server.metric("^wsify_authorizer_questions_waiting$") + sum(len(c.batch) for c in authorizer.posts) == 30, "all are asked or wait")
    assert len(authorizer.posts) == 8
    authorizer.batches = usual
    for call in list(authorizer.posts):
        call.release(items(*[200 for _ in call.batch]))
    for stream in streams:
        upgraded(stream, KEY)


def test_a_quiet_server_waits_for_no_batch_to_fill(serve, authorizer):
    server = serve("--authorizer-batch", "1000", auth=authorizer)
    server.ws().join("a", "b", "c")
    assert [len(call.batch) for call in authorizer.called(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("value", ["0", "1001", "-1", "many", "1.5"])
def test_a_batch_has_1_to_1000_questions(value):
    status, out, err = run(f"--authorizer-batch={value}")
    assert (status, out) == (2, "") and "--authorizer-batch" in err and value in err and "1000" in err


def checked(authorizer, *flags):
    status, out, err = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--authorizer-url", authorizer.url, *flags)
    assert err == ""
    return status, out.splitlines()


def test_check_says_whether_batches_are_understood(authorizer):
    status, lines = checked(authorizer, "--authorizer-batch", "64")
    assert status == 0 and "ok  it understands batches: 2 questions in one call" in lines, lines
    (call,) = authorizer.posts
    assert commands(call) == ["connect", "connect"] and call.header("X-Wsify-Probe") == "1"
    authorizer.batches = Reply(200)
    status, lines = checked(authorizer, "--authorizer-batch", "64")
    assert status == 1, lines
    assert [line for line in lines if line.startswith("BAD") and "the answer to a batch" in line], lines
    # An array that cannot be used, and an item that counts as down.
    for answer in (items(200), items(200, 500), items(200, {"status": 200, "user": ""})):
        authorizer.batches = answer
        status, lines = checked(authorizer, "--authorizer-batch", "64")
        assert status == 1 and [line for line in lines if line.startswith("BAD the authorizer at")], lines
        understood = [line for line in lines if "understands batches: 2" in line]
        assert len(understood) == (len(json.loads(answer.body)) == 2), lines
        assert not [line for line in lines if "are understood: user" in line], lines
    authorizer.batches = Reply(401)
    status, lines = checked(authorizer, "--authorizer-batch", "64")
    assert status == 0 and [line for line in lines if "whether it understands batches is not known" in line], lines


def test_check_asks_alone_without_batches(authorizer):
    status, lines = checked(authorizer)
    assert status == 0 and authorizer.posts == [] and len(authorizer.questions) == 1
    assert [line for line in lines if "batches are off" in line], lines
