"""The authorizer: its questions, and the effects of its answers (docs/authorizer.md)."""

import hashlib
import hmac
import json
import re
import select
import socket
import ssl
import subprocess
import time

import pytest

from harness.authorizer import Authorizer, Reply, with_state
from harness.net import DEADLINE, Stream, is_error, may_retry, media_type, request, until
from harness.server import KEY, free_port, run, upgrade
from harness.tools import need
from harness.ws import PING, PONG, TEXT, assert_error, closing, command, frame, fresh, text, upgraded

# -- the question


def test_a_post_of_json(asked, authorizer):
    asked.ws()
    question = authorizer.asked(1)[0]
    assert (question.method, question.target) == ("POST", "/hook")
    assert media_type(question.header("Content-Type")) == "application/json"
    assert question.header("Host") == f"127.0.0.1:{authorizer.port}"
    assert set(question.json) == {"command", "args", "connection"}
    assert question.command == "connect"
    assert set(question.args) == {"headers", "query"}


def test_the_url_is_called_unchanged(serve, authorizer):
    serve(auth=authorizer.url + "/a%20b?x=1&y=%26").ws()
    assert authorizer.asked(1)[0].target == "/hook/a%20b?x=1&y=%26"


def test_an_url_without_a_path(serve, authorizer):
    serve(auth=f"http://127.0.0.1:{authorizer.port}").ws()
    assert authorizer.asked(1)[0].target == "/"


def test_connect_has_every_header(asked, authorizer):
    asked.ws(
        headers=[
            ("user-agent", "tests/1"),
            ("x-FORWARDED-for", "203.0.113.1"),
            ("X-Forwarded-For", "203.0.113.2, 203.0.113.3"),
            ("Cookie", "a=b; c=d"),
            ("x_under-score", "1"),
            ("x.dot-9th", "2"),
            ("ORIGIN", "https://a.example"),
            ("X-Empty", ""),
            ("X-Blank", "  padded  "),
            ("Authorization", "Bearer x"),
            ("ETAG", "t"),
        ]
    )
    headers = authorizer.asked(1)[0].args["headers"]
    assert headers == {
        "Host": ["test"],
        "Upgrade": ["websocket"],
        "Connection": ["Upgrade"],
        "Sec-Websocket-Key": [KEY],
        "Sec-Websocket-Version": ["13"],
        "User-Agent": ["tests/1"],
        "X-Forwarded-For": ["203.0.113.1", "203.0.113.2, 203.0.113.3"],
        "Cookie": ["a=b; c=d"],
        "X_under-Score": ["1"],
        "X.dot-9th": ["2"],
        "Origin": ["https://a.example"],
        "X-Empty": [""],
        "X-Blank": ["padded"],
        "Authorization": ["Bearer x"],
        "Etag": ["t"],
    }


def test_connect_has_the_subprotocols(asked, authorizer):
    asked.ws(protocols="wsify.v1, token")
    assert authorizer.asked(1)[0].args["headers"]["Sec-Websocket-Protocol"] == ["wsify.v1, token"]


@pytest.mark.parametrize(
    "query, expected",
    [
        ("", {}),
        ("?", {}),
        ("?token=abc", {"token": ["abc"]}),
        ("?a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("?q=a+b%20c%2B", {"q": ["a b c+"]}),
        ("?a+b%3D=c%26d", {"a b=": ["c&d"]}),
        ("?flag&empty=", {"flag": [""], "empty": [""]}),
        ("?a=b=c", {"a": ["b=c"]}),
        ("?&&a=1&&", {"a": ["1"]}),
        ("?%C3%A9=%F0%9F%98%80", {"é": ["😀"]}),
        ("?q=%22%5C%0A%00", {"q": ['"\\\n\0']}),
        ("?x=http://a/b?c", {"x": ["http://a/b?c"]}),
    ],
)
def test_every_query_parameter(asked, authorizer, query, expected):
    ws = asked.ws("/ws" + query).join("x")
    connect, join = authorizer.asked(2)
    assert connect.args["query"] == expected
    assert connect.peer["query"] == expected
    assert join.peer["query"] == expected
    assert ws


@pytest.mark.parametrize("headers, target", [([("X-Odd", "caf\xe9 \xff")], "/ws"), ([], "/ws?x=%ff%fe&%c3=1"), ([], "/ws?x=%zz&y=%&z=%4")])
def test_the_question_is_json_for_any_headers_and_query(asked, authorizer, headers, target):
    asked.ws(target, headers).join("x")
    for question in authorizer.asked(2):
        json.loads(question.raw.decode("utf-8"))


def test_questions_about_commands(asked, authorizer):
    ws = asked.ws("/ws?token=abc")
    ws.join("hello").broadcast("other", '{"any":"JSON"}').leave("hello")
    _, join, broadcast, leave = authorizer.asked(4)
    assert (join.command, join.args) == ("join", {"channel": "hello"})
    assert (broadcast.command, broadcast.args) == ("broadcast", {"channel": "other", "content": {"any": "JSON"}})
    assert (leave.command, leave.args) == ("leave", {"channel": "hello"})
    for question in (join, broadcast, leave):
        assert set(question.json) == {"command", "args", "connection"}
        assert media_type(question.header("Content-Type")) == "application/json"
        assert question.peer["query"] == {"token": ["abc"]}
        assert set(question.peer) == {"id", "remote_addr", "query"}


@pytest.mark.parametrize(
    "args",
    ['{"channel":" hello\\t"}', '{"channel":"h","content":1.0}', '{"content":[ 1 , 123456789012345678901234567890 ],"channel":"h"}',
     '{"more":{"a":1,"a":2},"channel":"h"}', '{"channel":"\\u0068\\/"}', '{ "channel" : "h" }', '{"channel":"h","Channel":"i","content":{"é":"\\ud800"}}'],
)
def test_args_are_untouched(asked, authorizer, args):
    ws = asked.ws()
    assert ws.ask(f'{{"command":"broadcast","id":1,"args":{args}}}') == {"id": 1, "ok": True}
    assert args.encode() in authorizer.asked(2)[1].raw


def test_a_client_cannot_forge_the_connection(asked, authorizer):
    ws = asked.ws("/ws?token=real")
    forged = {"id": "forged", "remote_addr": "forged", "query": {"token": ["forged"]}, "state": "forged"}
    ws.say({"command": "join", "args": {"channel": "x", "connection": forged, "state": 1}, "connection": forged, "state": 1, "query": {}, "id": 1})
    assert ws.answer() == {"id": 1, "ok": True}
    connect, join = authorizer.asked(2)
    assert set(join.json) == {"command", "args", "connection"}
    assert join.peer == connect.peer
    assert join.raw.count(b'"connection"') == 2, "once of the server's, once within args"


def test_ids_and_addresses(asked, authorizer):
    crowd = [asked.ws() for _ in range(5)]
    for ws in crowd:
        ws.join("x").leave("x")
    connects = {q.peer["id"]: q.peer for q in authorizer.about("connect")}
    assert len(connects) == 5, "each connection has an id of its own"
    assert all(isinstance(id, str) and id for id in connects)
    for question in authorizer.asked(15):
        assert question.peer == connects[question.peer["id"]], "the same in every question"
    names = {f"127.0.0.1:{ws.stream.sock.getsockname()[1]}" for ws in crowd}
    assert {peer["remote_addr"] for peer in connects.values()} == names


def test_ids_are_not_used_again(asked, authorizer):
    for _ in range(10):
        asked.ws().leaves()
    assert len({q.peer["id"] for q in authorizer.asked(10)}) == 10


def test_an_ipv4_mapped_address_is_sent_as_ipv4(serve, authorizer):
    port = free_port()
    server = serve(listen=[f":{port}"], auth=authorizer)
    server.port = port
    server.await_start(lambda: server.dial().close())
    ws = server.ws()
    assert authorizer.asked(1)[0].peer["remote_addr"] == f"127.0.0.1:{ws.stream.sock.getsockname()[1]}"
    stream = Stream(socket.create_connection(("::1", port), timeout=DEADLINE))
    upgraded(stream.send(upgrade()), KEY)
    assert authorizer.asked(2)[1].peer["remote_addr"] == f"[::1]:{stream.sock.getsockname()[1]}"


def test_the_address_on_a_unix_socket_is_unix(serve, authorizer, tmp_path):
    path = str(tmp_path / "s")
    server = serve(listen=[f"unix:{path}"], auth=authorizer)

    def dial():
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return Stream(sock)

    server.await_start(lambda: dial().close())
    upgraded(dial().send(upgrade()), KEY).join("x")
    assert [q.peer["remote_addr"] for q in authorizer.asked(2)] == ["unix", "unix"]


def test_x_forwarded_for_of_an_untrusted_proxy_does_not_change_the_address(asked, authorizer):
    ws = asked.ws(headers=[("X-Forwarded-For", "203.0.113.9"), ("X-Real-IP", "203.0.113.9")])
    assert authorizer.asked(1)[0].peer["remote_addr"] == f"127.0.0.1:{ws.stream.sock.getsockname()[1]}"


# -- state


@pytest.mark.parametrize("state", ['{"user":42}', '"abc"', "7", "1.0", "123456789012345678901234567890", "[]", "true", '{"b":[ 1 ],"a":"\\u0041"}'])
def test_state_is_sent_with_later_questions(asked, authorizer, state):
    authorizer.on(with_state(state), "connect")
    asked.ws().join("x").leave("x")
    connect, *later = authorizer.asked(3)
    assert "state" not in connect.peer
    for question in later:
        assert question.peer["state"] == json.loads(state)
        assert b'"state":' + state.encode() in question.raw, "that value, not one like it"


def test_each_connection_has_its_own_state(asked, authorizer):
    authorizer.on(lambda q: with_state(json.dumps(q.args["query"]["name"][0])) if "name" in q.args["query"] else Reply(), "connect")
    crowd = {name: asked.ws(f"/ws?name={name}") for name in ("a", "b", "c")}
    stateless = asked.ws()
    for name, ws in crowd.items():
        ws.join(name)
    stateless.join("d")
    for question in authorizer.about("join"):
        assert question.peer.get("state") == (question.channel if question.channel in crowd else None)
    assert "state" not in authorizer.about("join", "d")[0].peer


@pytest.mark.parametrize("type", ["application/json; charset=utf-8", "Application/JSON"])
def test_state_with_other_spellings_of_the_type(asked, authorizer, type):
    authorizer.on(with_state("1", type), "connect")
    asked.ws().join("x")
    assert authorizer.asked(2)[1].peer["state"] == 1


def test_state_in_chunks(asked, authorizer):
    raw = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"sta\r\n7\r\nte":42}\r\n0\r\n\r\n'
    authorizer.on(Reply(raw=raw), "connect")
    asked.ws().join("x")
    assert authorizer.asked(2)[1].peer["state"] == 42


def test_state_up_to_the_end_of_the_connection(asked, authorizer):
    authorizer.on(Reply(raw=b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"state":42}', close=True), "connect")
    asked.ws().join("x")
    assert authorizer.asked(2)[1].peer["state"] == 42


@pytest.mark.parametrize("size, around, kept", [(4096, 0, True), (4097, 0, False), (4096, 50_000, True), (10, 100_000, False)])
def test_a_state_of_up_to_4_kib_in_a_body_of_up_to_64_kib(asked, authorizer, size, around, kept):
    body = b'{"state":"' + b"s" * (size - 2) + b'"' + b" " * around + b"}"
    authorizer.on(Reply(200, body, (("Content-Type", "application/json"),)), "connect")
    asked.ws().join("x")
    assert ("state" in authorizer.asked(2)[1].peer) == kept
    if not kept:
        line = json.loads(asked.logged("cannot be read"))
        assert line["level"] == "warn" and "KiB" in line["reason"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b'{"state":1}'),
        with_state("1", "text/plain"),
        with_state("1", "application/jsonp"),
        Reply(200, b"{}", (("Content-Type", "application/json"),)),
        Reply(200, b"", (("Content-Type", "application/json"),)),
        Reply(200, b"[1]", (("Content-Type", "application/json"),)),
        Reply(200, b'{"state":', (("Content-Type", "application/json"),)),
        Reply(200, b'{"State":1}', (("Content-Type", "application/json"),)),
        Reply(200, b"hello", (("Content-Type", "application/json"),)),
        Reply(200, b'{"state":"\xff"}', (("Content-Type", "application/json"),)),
        Reply(200, b"<html>hello</html>", (("Content-Type", "text/html"),)),
    ],
)
def test_answers_without_a_state(asked, authorizer, reply):
    """The 200 allows the connect all the same."""
    authorizer.on(reply, "connect")
    asked.ws().join("x")
    assert "state" not in authorizer.asked(2)[1].peer


def test_only_a_connect_sets_a_state(asked, authorizer):
    authorizer.on(with_state('"first"'), "connect")
    authorizer.on(with_state('"second"'), "join")
    asked.ws().join("x").leave("x")
    assert [q.peer.get("state") for q in authorizer.asked(3)] == [None, "first", "first"]


# -- the answers


NO = [201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 408, 410, 418, 429, 451, 499]
DOWN = [500, 501, 502, 503, 504, 511, 599]


def reply_of(status):
    location = (("Location", "/allowed"),) if 300 <= status < 400 else ()
    if status in (204, 304):
        return Reply(raw=f"HTTP/1.1 {status} Word\r\nX: y\r\n\r\n".encode())
    return Reply(status, b"body", location)


@pytest.mark.parametrize("status", NO)
def test_other_statuses_deny(asked, authorizer, status):
    authorizer.on(reply_of(status), "connect")
    stream = asked.knock()
    response = stream.response()
    is_error(response, 403)
    stream.still_serves(response)
    authorizer.on(200, "connect")
    authorizer.on(reply_of(status), channel="no")
    channel = fresh()
    ws = asked.ws().join(channel)
    for which in ("join", "leave", "broadcast"):
        answer = ws.fails(command(which, "no", id=5), "not_authorized", 5)
        assert (answer["error"]["command"], answer["error"]["channel"]) == (which, "no")
    ws.leave(channel)
    assert all(q.target == "/hook" and q.method == "POST" for q in authorizer.about()), "redirects are not followed"


@pytest.mark.parametrize("status", DOWN)
def test_5xx_is_down(asked, authorizer, status):
    authorizer.on(status, "connect")
    stream = asked.knock()
    response = stream.response()
    may_retry(response)
    stream.still_serves(response)
    authorizer.on(200, "connect")
    authorizer.on(status, channel="x")
    for which in ("join", "leave", "broadcast"):
        asked.ws().say(command(which, "x", id=1)).is_closed(1013)
    assert len(authorizer.about(channel="x")) == 3, "asked once, and not again"


GARBAGE = {
    "not http": Reply(raw=b"hello there\r\n\r\n", close=True),
    "binary": Reply(raw=bytes(range(256)), close=True),
    "no answer": Reply(drop=True),
    "half an answer": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-", close=True),
    "a status that is none": Reply(raw=b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", close=True),
    "tls": Reply(raw=b"\x15\x03\x01\x00\x02\x02\x28", close=True),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_not_http_is_down(asked, authorizer, what):
    authorizer.on(GARBAGE[what], "connect")
    may_retry(asked.knock().response())
    assert len(authorizer.about("connect")) == 1
    authorizer.on(200, "connect")
    ws = asked.ws()
    authorizer.on(GARBAGE[what], "join")
    ws.say(command("join", "x")).is_closed(1013)
    assert len(authorizer.about("join")) == 1, "what may have been read is never asked twice"
    asked.ws().leave("x")


def test_unreachable_is_down(serve):
    server = serve(auth=f"http://127.0.0.1:{free_port()}/hook")
    may_retry(server.knock().response())
    assert server.call("GET", "/health").json() == {"status": "ok"}
    server.publish("x", "1")


def test_an_authorizer_may_go_down_and_come_back(serve):
    authorizer = Authorizer()
    server = serve(auth=authorizer)
    ws = server.ws().join("x")
    authorizer.stop()
    ws.say(command("join", "y")).is_closed(1013)
    may_retry(server.knock().response())
    again = Authorizer(port=authorizer.port)
    try:
        server.ws().join("x")
    finally:
        again.stop()


def test_no_answer_in_time_is_down(serve, authorizer):
    server = serve("--authorizer-timeout", "300ms", auth=authorizer)
    authorizer.hold("connect")
    may_retry(server.knock().response())
    authorizer.on(200, "connect")
    ws = server.ws()
    authorizer.hold("join")
    ws.say(command("join", "x")).is_closed(1013)
    for question in authorizer.about("join"):
        question.release()
    assert len(authorizer.about("join")) == 1
    server.ws().leave("x")


def test_authorizer_timeout_is_for_one_whole_call(serve, authorizer):
    """An answer that drips in does not extend it."""
    server = serve("--authorizer-timeout", "400ms", auth=authorizer)
    authorizer.on(Reply(200, drip=True, headers=(("X-Pad", "p" * 400),)), "connect")
    may_retry(server.knock().response())


def test_authorizer_timeout_includes_a_state_that_drips(serve, authorizer):
    server = serve("--authorizer-timeout", "400ms", auth=authorizer)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    authorizer.on(Reply(raw=head), "connect")
    response = server.knock().response()
    assert response.status in (101, 503)


def test_denied_commands_have_no_effect(asked, authorizer):
    authorizer.on(403, "join", "a")
    authorizer.on(403, "leave", "b")
    authorizer.on(403, "broadcast", "b")
    ws = asked.ws().join("b")
    ws.fails(command("join", "a"), "not_authorized")
    ws.fails(command("leave", "b"), "not_authorized")
    ws.fails(command("broadcast", "b", '"no"'), "not_authorized")
    asked.publish("a", "1")
    asked.publish("b", "2")
    ws.hears("2").is_quiet()


def test_a_backend_is_not_asked_about(asked, authorizer):
    asked.publish("x", "1")
    asked.call("GET", "/health")
    asked.call("OPTIONS", "/ws")
    assert authorizer.about() == []


def test_commands_have_no_effect_while_the_authorizer_is_down(asked, authorizer):
    witness = asked.ws().join("x")
    authorizer.on(500, "broadcast")
    asked.ws().say(command("broadcast", "x", '"no"')).is_closed(1013)
    asked.publish("x", "1")
    witness.hears("1")


def test_commands_behind_one_that_closed_have_no_effect(asked, authorizer):
    witness = asked.ws().join("x")
    authorizer.on(500, "join")
    ws = asked.ws()
    ws.send(text(command("broadcast", "x", "1")) + text(command("join", "x")) + text(command("broadcast", "x", "2")))
    ws.is_closed(1013)
    asked.publish("x", "3")
    witness.hears("1", "3")
    assert len(authorizer.about("broadcast")) == 1


def test_an_empty_url_means_no_authorizer(serve):
    serve("--authorizer-url", "").ws().join("x")
    serve("--authorizer-url=").ws().join("x")


# -- one question per connection at a time


def test_one_question_at_a_time_in_order(asked, authorizer):
    ws = asked.ws()
    authorizer.hold("join")
    ws.send(b"".join(text(command("join", f"c{i}", id=i)) for i in range(5)))
    for i in range(5):
        questions = authorizer.asked(i + 1, "join")
        assert len(questions) == i + 1, "one question at a time"
        assert questions[i].channel == f"c{i}"
        # Another connection's whole round trip: time enough for a second question to come, if there were one.
        asked.ws().leaves()
        assert len(authorizer.about("join")) == i + 1
        questions[i].release(200 if i % 2 == 0 else 403)
        answer = ws.answer(i)
        assert ("ok" in answer) == (i % 2 == 0)


def test_no_message_overtakes_a_question(asked, authorizer):
    """Commands that fail without a question wait for their turn, too."""
    ws = asked.ws()
    authorizer.hold("join")
    ws.send(text(command("join", "x", id=1)) + text("nonsense") + text(command("connect", "x", id=3)))
    question = authorizer.asked(1, "join")[0]
    asked.ws().leaves()
    question.release()
    assert ws.answer() == {"id": 1, "ok": True}
    assert_error(ws.answer(), "bad_message")
    assert_error(ws.answer(), "unknown_command", 3)


def test_other_connections_never_wait(asked, authorizer):
    other = asked.ws().join("other")
    ws = asked.ws()
    authorizer.hold(channel="slow")
    ws.say(command("join", "slow", id=1))
    question = authorizer.asked(1, channel="slow")[0]
    for i in range(20):
        other.ping().say(command("broadcast", "other", str(i))).hears(str(i))
    asked.ws().join("other")
    question.release()
    assert ws.answer() == {"id": 1, "ok": True}


def test_other_connections_are_served_while_every_worker_waits(serve, authorizer):
    server = serve("--authorizer-workers", "1", auth=authorizer)
    member, ws = server.ws().join("x"), server.ws()
    authorizer.hold(channel="slow")
    ws.say(command("join", "slow"))
    authorizer.asked(1, channel="slow")
    member.ping()
    server.publish("x", "1")
    member.hears("1").is_quiet()
    assert server.call("GET", "/health").status == 200
    is_error(server.call("GET", "/ws"), 426)


def test_a_member_hears_messages_while_its_own_question_is_open(asked, authorizer):
    ws = asked.ws().join("x")
    authorizer.hold("leave")
    ws.say(command("leave", "x", id=1))
    question = authorizer.asked(1, "leave")[0]
    asked.publish("x", "1")
    ws.hears("1")
    question.release()
    assert ws.answer() == {"id": 1, "ok": True}


def test_pings_during_a_question_are_answered(asked, authorizer):
    ws = asked.ws()
    authorizer.hold("join")
    ws.say(command("join", "x", id=1))
    question = authorizer.asked(1, "join")[0]
    ws.send(frame(PING, b"p"))
    question.release()
    got = [ws.next_frame(), ws.next_frame()]
    assert sorted(f.opcode for f in got) == [TEXT, PONG]


@pytest.mark.parametrize("end", ["close", "half_close", "close frame"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_broadcast_is_published_though_the_client_hangs_up_at_once(asked, authorizer, end, count):
    witness = asked.ws().join("x")
    authorizer.hold("broadcast")
    ws = asked.ws()
    ws.send(b"".join(text(command("broadcast", "x", str(i))) for i in range(count)) + (closing(1000) if end == "close frame" else b""))
    if end == "close":
        ws.stream.close()
    elif end == "half_close":
        ws.stream.half_close()
    for i in range(count):
        authorizer.asked(i + 1, "broadcast")[i].release()
        witness.hears(str(i))
    if end == "close frame":
        assert ws.close_frame()[0] == 1000
        ws.stream.at_end()


def test_a_broadcast_and_a_hang_up_at_once_without_an_authorizer(plain):
    channel = fresh()
    witness = plain.ws().join(channel)
    for i in range(30):
        stream = plain.dial().send(upgrade() + text(command("broadcast", channel, str(i))))
        stream.half_close() if i % 2 else stream.close()
        if i % 2:
            stream.rest()
        witness.hears(str(i))


def test_a_late_verdict_is_ignored(serve, authorizer):
    """The slot of the connection that has gone may belong to a new one."""
    server = serve("--max-connections", "100", auth=authorizer)
    for i in range(10):
        authorizer.hold("connect")
        old = server.knock(f"/ws?name=old{i}")
        first = authorizer.asked(2 * i + 1)[-1]
        old.reset()
        new = server.knock(f"/ws?name=new{i}")
        second = authorizer.asked(2 * i + 2)[-1]
        assert second.args["query"]["name"] == [f"new{i}"]
        first.release(200)
        server.call("GET", "/health")
        second.release(403)
        is_error(new.response(), 403)


def test_a_late_verdict_on_a_join_does_not_make_a_member(asked, authorizer):
    for i in range(10):
        authorizer.on(200, "join")
        old = asked.ws()
        authorizer.hold("join", f"late{i}")
        old.say(command("join", f"late{i}"))
        question = authorizer.asked(1, "join", f"late{i}")[0]
        old.reset()
        new = asked.ws()
        question.release()
        asked.publish(f"late{i}", "1")
        new.is_quiet()


# -- connections to the authorizer


def test_connections_are_kept(serve, authorizer):
    server = serve("--authorizer-workers", "1", auth=authorizer)
    ws = server.ws()
    for _ in range(30):
        ws.join("x").leave("x")
    assert len(authorizer.about()) == 61
    assert authorizer.connections == 1


def test_connections_are_kept_after_a_no_and_after_bodies(serve, authorizer):
    server = serve("--authorizer-workers", "1", auth=authorizer)
    ws = server.ws()
    authorizer.on(Reply(403, b"no" * 1000), "join")
    authorizer.on(Reply(200, b"yes" * 1000), "leave")
    for _ in range(10):
        ws.fails(command("join", "x"), "not_authorized")
        ws.leave("x")
    assert authorizer.connections == 1


def test_no_more_connections_than_workers(asked, authorizer):
    crowd = [asked.ws() for _ in range(20)]
    for _ in range(5):
        for ws in crowd:
            ws.say(command("join", "x"))
        for ws in crowd:
            ws.is_quiet()
    assert len(authorizer.about("join")) == 100
    assert authorizer.connections <= 32


def test_a_connection_that_was_closed_meanwhile_is_not_used(serve, authorizer):
    server = serve("--authorizer-workers", "1", auth=authorizer)
    ws = server.ws()
    for i in range(15):
        authorizer.drop_connections()
        ws.join(f"c{i}")
    assert len(authorizer.about()) == 16, "each question once"


@pytest.mark.parametrize("announced", [True, False])
def test_a_connection_that_is_closed_after_each_answer(serve, authorizer, announced):
    server = serve("--authorizer-workers", "2", auth=authorizer)
    close = Reply(close=True, headers=(("Connection", "close"),) if announced else ())
    for reply in (close, Reply(raw=b"HTTP/1.0 200 OK\r\n\r\n", close=True)):
        authorizer.on(reply)
        ws = server.ws()
        for i in range(10):
            if not announced:
                # Otherwise the end may still be in transit when the server takes the connection.
                until(lambda: not authorizer.streams, "the authorizer has closed")
            ws.join(f"c{i}")
    assert len(authorizer.about()) == 22


def test_a_question_that_may_have_been_read_is_never_asked_twice(serve, authorizer):
    """Even on a connection that was used before, where HTTP clients often try again."""
    server = serve("--authorizer-workers", "1", auth=authorizer)
    for i in range(5):
        ws = server.ws().join("warm")
        authorizer.on(Reply(drop=True), "broadcast")
        ws.say(command("broadcast", "x", str(i))).is_closed(1013)
        assert len(authorizer.about("broadcast")) == i + 1


def test_an_interim_answer_is_skipped(asked, authorizer):
    authorizer.on(Reply(raw=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "connect")
    asked.ws()


def test_authorizer_workers_limits_the_calls_in_flight(serve, authorizer):
    server = serve("--authorizer-workers", "3", auth=authorizer)
    authorizer.hold("connect")
    crowd = [server.knock() for _ in range(8)]
    authorizer.asked(3)
    server.call("GET", "/health")
    assert len(authorizer.about()) == 3
    released = 0
    while released < 8:
        questions = authorizer.asked(released + 1)
        assert len(questions) <= released + 3
        questions[released].release()
        released += 1
    for stream in crowd:
        upgraded(stream, KEY)


def test_questions_over_the_queue_are_unavailable(serve, authorizer):
    server = serve("--authorizer-workers", "1", "--authorizer-queue", "2", auth=authorizer)
    ws = server.ws()
    authorizer.hold("connect")
    first = server.knock()
    authorizer.asked(2)
    crowd = [server.knock() for _ in range(5)]
    refused = set()
    # Two of them wait, and the others are refused meanwhile. Which ones is not known from outside.
    while len(refused) < 3:
        ready, _, _ = select.select([s.sock for s in crowd if s not in refused], [], [], DEADLINE)
        assert ready, f"{len(refused)} of 5 refused, 3 were due"
        for stream in crowd:
            if stream.sock in ready:
                may_retry(stream.response())
                refused.add(stream)
    ws.say(command("join", "x")).is_closed(1013)
    for count in (2, 3, 4):
        authorizer.asked(count)[-1].release()
    for stream in [first, *(s for s in crowd if s not in refused)]:
        upgraded(stream, KEY)
    assert len(authorizer.about("join")) == 0


def test_a_slow_verdict_does_not_count_for_the_handshake_timeout(serve, authorizer):
    """--handshake-timeout runs from accept to a complete request, not to the verdict."""
    server = serve("--handshake-timeout", "300ms", auth=authorizer)
    authorizer.hold("connect")
    stream = server.knock()
    question = authorizer.asked(1)[0]
    for _ in range(2):
        is_error(server.dial().response(), 408)  # the measure of time
    question.release()
    upgraded(stream, KEY)


# -- https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """An authority made for this run, and a certificate of it for localhost."""
    need("openssl")
    home = tmp_path_factory.mktemp("tls")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=home, check=True, capture_output=True)

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=Test Authority",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *ec, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost")
    (home / "ext").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-out", "leaf.pem", "-extfile", "ext")
    return home


@pytest.fixture
def secure(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "leaf.pem", certificate / "leaf.key")
    authorizer = Authorizer(tls=context)
    yield authorizer
    authorizer.stop()


def test_https_trusts_ssl_cert_file(serve, secure, certificate):
    server = serve("--authorizer-workers", "1", auth=secure, env={"SSL_CERT_FILE": str(certificate / "ca.pem")})
    server.ws("/ws?token=abc").join("x").leave("x")
    assert [q.command for q in secure.asked(3)] == ["connect", "join", "leave"]
    assert secure.connections == 1


def test_https_refuses_an_untrusted_certificate(serve, secure):
    may_retry(serve(auth=secure).knock().response())
    assert secure.about() == []


def test_https_checks_the_name(serve, secure, certificate):
    url = secure.url.replace("localhost", "127.0.0.1")
    may_retry(serve(auth=url, env={"SSL_CERT_FILE": str(certificate / "ca.pem")}).knock().response())
    assert secure.about() == []


def test_the_gauge_of_waiting_questions_goes_back(serve, authorizer):
    server = serve("--authorizer-workers", "1", "--authorizer-queue", "1", "--authorizer-timeout", "200ms", auth=authorizer)
    authorizer.hold("connect")
    for stream in [server.knock() for _ in range(6)]:
        may_retry(stream.response())
    authorizer.on(200, "connect")
    until(server.admits, "the queue has room again")


# -- clients that leave


@pytest.mark.parametrize("end", ["close", "reset"])
def test_clients_that_hang_up_do_not_delay_the_next_one(serve, authorizer, end):
    server = serve("--authorizer-workers", "1", "--authorizer-timeout", "2s", auth=authorizer)
    authorizer.hold("connect")
    crowd = [server.knock() for _ in range(12)]
    first = authorizer.asked(1, "connect")[0]
    until(lambda: server.metric("wsify_authorizer_questions_waiting") == 11, "eleven questions wait")
    for stream in crowd:
        getattr(stream, end)()
    until(lambda: server.metric("wsify_authorizer_questions_waiting") == 0, "no question waits any more")
    authorizer.on(200, "connect")
    living = server.knock()
    until(lambda: server.metric("wsify_authorizer_questions_waiting") == 1, "the next one waits for the worker")
    first.release()
    upgraded(living, KEY)
    assert len(authorizer.about("connect")) == 2, "only the first of the crowd was asked about"


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("flag", ["--max-connections", "--max-connections-per-ip"])
def test_a_client_that_hangs_up_no_longer_counts_at_once(serve, authorizer, end, flag):
    """Whether its question waits or is with a worker."""
    server = serve(flag, "2", "--authorizer-workers", "1", auth=authorizer)
    authorizer.hold("connect")
    pair = [server.knock(), server.knock()]
    held = authorizer.asked(1, "connect")[0]
    until(lambda: server.metric("wsify_authorizer_questions_waiting") == 1, "one waits")
    assert not server.admits()
    for stream in pair:
        getattr(stream, end)()
    until(lambda: server.metric('wsify_connections{kind="websocket"}'.replace("{", r"\{")) == 0, "they no longer count")
    authorizer.on(200, "connect")
    living = [server.knock(), server.knock()]
    until(lambda: server.metric("wsify_authorizer_questions_waiting") == 2, "both may ask")
    held.release()
    for stream in living:
        upgraded(stream, KEY)


def test_the_question_of_a_client_that_is_reset_is_withdrawn(serve, authorizer):
    server = serve("--authorizer-workers", "1", auth=authorizer)
    listener, busy, leaver = server.ws().join("x"), server.ws(), server.ws()
    authorizer.hold("join", "slow")
    busy.say(command("join", "slow"))
    held = authorizer.asked(1, "join", "slow")[0]
    leaver.say(command("broadcast", "x", 1))
    until(lambda: server.metric("wsify_authorizer_questions_waiting") == 1, "its question waits")
    leaver.stream.reset()
    until(lambda: server.metric("wsify_authorizer_questions_waiting") == 0, "it is withdrawn")
    held.release()
    busy.broadcast("x", "2")
    listener.hears("2")
    assert len(authorizer.about("broadcast")) == 1


def test_a_message_is_handled_though_the_client_closed_behind_it_and_is_written_to(asked, authorizer):
    """Bytes sent to a closed end lead to a reset, too."""
    listener, leaver = asked.ws().join("x"), asked.ws().join("x")
    authorizer.hold("broadcast")
    leaver.say(command("broadcast", "x", '"last words"'))
    held = authorizer.asked(1, "broadcast")[0]
    leaver.stream.close()
    for n in range(3):
        asked.publish("x", str(n))
        assert listener.hear() == str(n)
    held.release()
    listener.hears('"last words"')


def test_a_question_waits_no_longer_than_a_call_may_take(serve, authorizer):
    server = serve("--authorizer-workers", "1", "--authorizer-timeout", "300ms", auth=authorizer)
    authorizer.hold("connect")
    crowd = [server.knock() for _ in range(8)]
    for stream in crowd:
        may_retry(stream.response())
    assert len(authorizer.about("connect")) <= 2, "nearly all have timed out"


# -- forms of answers


def test_a_408_on_a_kept_connection_is_asked_once_more(serve, authorizer):
    """HAProxy sends it on a connection that was idle. RFC 9110 15.5.9: nothing was read."""
    server = serve("--authorizer-workers", "1", auth=authorizer)
    late = Reply(raw=b"HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\n", close=True)
    authorizer.on(lambda q: late if q.connection == 1 and len(authorizer.about()) > 1 else Reply(), None)
    server.ws().join("x")
    connect, join, again = authorizer.asked(3)
    assert join.raw == again.raw
    assert [connect.connection, join.connection, again.connection] == [1, 1, 2]


@pytest.mark.parametrize(
    "head",
    [
        b"X-Folded: a\r\n b\r\n\tc\r\n",
        b"Content-Type: application/json;\r\n charset=utf-8\r\n",
        b"X-Policy: x\r\n" * 120,
        b"X-Long: " + b"x" * 90_000 + b"\r\n",
    ],
    ids=["folded", "folded-type", "lines", "long"],
)
def test_heads_that_are_folded_or_long(serve, authorizer, head):
    server = serve("--authorizer-workers", "1", auth=authorizer)
    authorizer.on(Reply(raw=b"HTTP/1.1 200 OK\r\n" + head + b'Content-Length: 11\r\n\r\n{"state":1}'), "connect")
    server.ws().join("x")
    connect, join = authorizer.asked(2)
    assert connect.connection == join.connection
    assert join.peer.get("state") == (1 if b"json" in head else None)


@pytest.mark.parametrize("head", [b"X: y\r\n" * 130, b"X: " + b"x" * 103_000 + b"\r\n"], ids=["lines", "long"])
def test_heads_that_are_too_long_are_down(serve, authorizer, head):
    authorizer.on(Reply(raw=b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 0\r\n\r\n"), "connect")
    server = serve(auth=authorizer)
    may_retry(server.knock().response())
    assert "not HTTP" in json.loads(server.logged("authorizer is down"))["reason"]


# -- answers in the log and in taps


@pytest.mark.parametrize("status, kind", [(204, "2xx"), (302, "3xx"), (419, "4xx"), (401, "4xx"), (503, "5xx"), (700, "other")])
def test_the_status_of_an_answer_is_in_the_log_and_in_taps(serve, authorizer, status, kind):
    server = serve("--log-level", "debug", auth=authorizer)
    look = server.dial().send(request("GET", "/tap"))
    until(lambda: b"event: tap" in look.buffer or not look.more(), "the tap is open")
    authorizer.on(reply_of(status), "connect")
    assert server.knock().response().status in (403, 503)
    line = json.loads(server.logged("authorizer's answer is not 200"))
    assert (line["level"], line["status"], line["command"]) == ("debug", status, "connect")
    until(lambda: f'"status":{status}'.encode() in look.buffer or not look.more(), "the tap shows it")
    assert server.metric(rf'wsify_authorizer_answers_total\{{class="{kind}"\}}') == 1
    assert any(line["level"] == "warn" and line.get("status") == status for line in server.log()) == (kind == "2xx")


@pytest.mark.parametrize(
    "body, why",
    [
        (b'\xef\xbb\xbf{"state":1}', "byte order mark"),
        (b'<br />\n<b>Notice</b>: Undefined index\n{"state":1}', "'<'"),
        (b"hello", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"state":1,"state":2}', "twice"),
    ],
)
def test_an_answer_that_cannot_be_read_is_logged(asked, authorizer, body, why):
    authorizer.on(Reply(200, body, (("Content-Type", "application/json"),)), "connect")
    asked.ws()
    line = json.loads(asked.logged("answer to a connect cannot be read"))
    assert line["level"] == "warn" and why in line["reason"]


# -- signatures


OLD, NEW = "some-long-random-text", "an-even-longer-random-text"


def signed_at(question, *keys):
    """Checks the question's one signature, computed anew by each of the keys. Returns its time."""
    (signature,) = [value for name, value in question.headers if name.lower() == "x-wsify-signature"]
    sent = re.match(r"t=(\d+),", signature)[1]
    digests = [hmac.new(key.encode(), sent.encode() + b"." + question.raw, hashlib.sha256).hexdigest() for key in keys]
    assert signature == ",".join([f"t={sent}", *(f"v1={digest}" for digest in digests)])
    return int(sent)


@pytest.mark.parametrize("flags, keys", [([OLD], [OLD]), ([f"{OLD},{NEW}"], [OLD, NEW]), ([f"{NEW}, sch l\u00fc=ssel"], [NEW, "sch l\u00fc=ssel"])])
def test_every_question_is_signed_with_each_key(serve, authorizer, flags, keys):
    server = serve("--authorizer-key", *flags, auth=authorizer)
    begin = int(time.time())
    content = json.dumps("\u00e9" * 20_000, ensure_ascii=False)
    server.ws("/ws?token=abc").join("x").leave("x").broadcast("x", content)
    questions = authorizer.asked(4)
    assert [question.command for question in questions] == ["connect", "join", "leave", "broadcast"]
    for question in questions:
        assert begin <= signed_at(question, *keys) <= time.time()


def test_the_variable_is_the_flag(serve, authorizer):
    serve(auth=authorizer, env={"WSIFY_AUTHORIZER_KEY": f"{OLD},{NEW}"}).ws()
    signed_at(authorizer.asked(1)[0], OLD, NEW)


@pytest.mark.parametrize("flags", [[], ["--authorizer-key", ""], ["--authorizer-key="]])
def test_without_a_key_nothing_is_signed(serve, authorizer, flags):
    serve(*flags, auth=authorizer, env={"WSIFY_AUTHORIZER_KEY": OLD if flags else ""}).ws().join("x")
    assert all(question.header("X-Wsify-Signature") is None for question in authorizer.asked(2))


def test_a_repeated_question_is_signed_anew(serve, authorizer):
    """With the time at which it is sent again."""
    server = serve("--authorizer-workers", "1", "--authorizer-key", OLD, auth=authorizer)
    late = Reply(raw=b"HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\n", close=True)

    def reply(question):
        if question.connection > 1 or question.command == "connect":
            return Reply()
        until(lambda: int(time.time()) > signed_at(question, OLD), "the next second has begun")
        return late

    authorizer.on(reply)
    server.ws().join("x")
    connect, join, again = authorizer.asked(3)
    assert join.raw == again.raw and again.connection == 2
    assert signed_at(connect, OLD) <= signed_at(join, OLD) < signed_at(again, OLD)


def test_a_check_is_signed(authorizer):
    flags = ("--listen-addr", f"127.0.0.1:{free_port()}", "--authorizer-url", authorizer.url, "--authorizer-key", f"{OLD},{NEW}")
    status, out, err = run("--check", *flags)
    assert status == 0, out + err
    (question,) = authorizer.asked(1)
    assert question.header("X-Wsify-Probe") == "1"
    signed_at(question, OLD, NEW)
    authorizer.on(401)
    _, out, err = run("--check", *flags)
    assert "status 401" in out and OLD not in out + err and NEW not in out + err


@pytest.mark.parametrize(
    "value, why",
    [
        (",", "key 1 is empty"), (f",{NEW}", "key 1 is empty"), (f"{OLD},", "key 2 is empty"), (f"{OLD}, ,", "key 2 is empty"),
        (f"{OLD}\n", "key 1 has a control character"), (f"{OLD},{NEW}\x7f", "key 2 has a control character"), (f"{OLD},{NEW},{OLD}", "there are 3 keys"),
    ],
)
@pytest.mark.parametrize("by", ["flag", "variable"])
def test_keys_that_cannot_be_used_are_named_by_number(value, why, by):
    status, out, err = run(*["--authorizer-key", value] if by == "flag" else [], env={} if by == "flag" else {"WSIFY_AUTHORIZER_KEY": value})
    name = "--authorizer-key" if by == "flag" else "WSIFY_AUTHORIZER_KEY"
    assert (status, out) == (2, "")
    assert err.startswith(f'wsify: {name}: invalid value "***": expected ') and err.endswith(f"({why})\n"), err
    assert OLD not in err and NEW not in err


def test_no_key_is_shown(serve, authorizer):
    server = serve("--log-level", "debug", "--authorizer-key", f"{OLD},{NEW}", auth=authorizer)
    server.ws().join("x")
    authorizer.on(503)
    may_retry(server.knock().response())
    server.logged("authorizer is down")
    shown = server.call("GET", "/metrics").body.decode()
    server.signal(15)
    server.status()
    server.finish()
    _, out, err = run("--authorizer-key", f"{OLD},{NEW}", "--help")
    assert "--authorizer-key KEY[,KEY]" in out
    for text in (*server.out, *server.err, shown, out, err):
        assert OLD not in text and NEW not in text, text
