"""What the fields of the authorizer's answers do: users, states, channels, patterns, remembered answers, refreshes."""

import json
import threading
import time

import pytest

from harness.authorizer import with_fields
from harness.net import is_error, may_retry, until
from harness.redis import Redis
from harness.ws import assert_error, command, fresh


def event_with(tap, text):
    """The data of the first event with this text."""
    arrived = lambda: [line for line in bytes(tap.buffer).decode().split("\n")[:-1] if text in line]
    found = until(lambda: arrived() or (tap.more() and arrived()), f"an event with {text}")
    return json.loads(found[0].removeprefix("data: "))


EVERYTHING = {"join": ["*"], "leave": ["*"], "broadcast": ["*"]}


def about(authorizer, name):
    return len(authorizer.about(name))


# -- user and state


@pytest.mark.parametrize("user, shown", [("o'neil \u00e9", "o'neil \u00e9"), (42, "42"), (12345678901234567890, "12345678901234567890")])
def test_a_user_is_in_every_later_question_in_the_log_and_in_taps(asked, authorizer, user, shown):
    authorizer.on(with_fields(user=user), "connect")
    tap = asked.dial().send(b"GET /tap HTTP/1.1\r\nHost: test\r\n\r\n")
    tap.head()
    ws = asked.ws()
    ws.join("a").broadcast("b", 1).leave("a")
    connect, *later = authorizer.asked(4)
    assert "user" not in connect.peer
    assert [question.peer["user"] for question in later] == [shown] * 3
    ws.leaves()
    assert event_with(tap, '"command":"join"')["user"] == shown


def test_the_access_log_has_the_user(serve, authorizer):
    server = serve("--access-log", "all", auth=authorizer)
    authorizer.on(with_fields(user="ann"), "connect")
    server.ws().leaves()
    line = json.loads(server.logged('"user":"ann"'))
    assert line["message"] == "connection ended" and line["reason"] == "closed"


def test_any_yes_replaces_the_state_and_null_removes_it(asked, authorizer):
    authorizer.on(with_fields(raw=b'{"state":{"n": 1.0}}'), "connect")
    authorizer.on(with_fields(raw=b'{"state":[2]}'), "join")
    authorizer.on(with_fields(raw=b'{"state":null}'), "leave")
    ws = asked.ws()
    ws.join("a").broadcast("b", 1).leave("a").broadcast("b", 2)
    states = [question.peer.get("state") for question in authorizer.asked(5)]
    assert states == [None, {"n": 1.0}, [2], [2], None]
    assert b'"state":{"n": 1.0}' in authorizer.about("join")[0].raw, "as it was written"


# -- refusals


def test_a_refused_connect_says_why(asked, authorizer):
    authorizer.on(with_fields(403, message="the token has expired"), "connect")
    response = asked.knock().response()
    is_error(response, 403, "not_authorized")
    assert response.json()["error"]["message"] == "the token has expired"


@pytest.mark.parametrize("name", ["join", "leave", "broadcast"])
def test_a_refusal_is_told_with_its_message(asked, authorizer, name):
    authorizer.on(with_fields(403, message="members only"), name)
    ws = asked.ws()
    answer = ws.fails(command(name, "a", 1, id=7), "not_authorized", 7)
    assert answer["error"]["message"] == "members only"
    ws.does({"join": "leave", "leave": "broadcast", "broadcast": "join"}[name], "b", 1)


@pytest.mark.parametrize(
    "close, reason",
    [
        ({"code": 4000, "reason": "banned"}, "banned"),
        ({"code": 4999}, "the authorizer says no"),
        ({"code": 4001, "reason": "\u00e9" * 61}, "\u00e9" * 61),
    ],
)
def test_a_refusal_may_close_the_connection_behind_its_error(asked, authorizer, close, reason):
    authorizer.on(with_fields(403, message="no", close=close), "broadcast")
    ws = asked.ws()
    ws.say(command("broadcast", "a", 1, id=1))
    ws.say(command("join", "a", id=2))
    assert_error(ws.answer(1), "not_authorized", 1)
    assert ws.is_closed(close["code"]) == reason
    assert not authorizer.about("join"), "what waited behind it is dropped"
    assert asked.metric('ended_total.*reason="refused"') == 1


# -- content


def test_a_content_takes_the_place_of_the_client_s_byte_for_byte(asked, authorizer):
    raw, v1 = asked.ws(), asked.ws(protocols="wsify.v1")
    for member in (raw, v1):
        member.join("a")
    content = '{ "from":42,"n": 1.00, "e":"\\u00e9" }'
    authorizer.on(with_fields(raw=f'{{"content": {content} }}'.encode()), "broadcast")
    asked.ws().broadcast("a", '"mine"')
    raw.hears(content)
    v1.hears(f'{{"channel":"a","content":{content}}}')


# -- allow


def test_what_allow_covers_is_not_asked_about(asked, authorizer):
    allow = {"join": ["news", "user:42:*"], "broadcast": ["*"]}
    authorizer.on(with_fields(allow=allow), "connect")
    ws = asked.ws()
    ws.join("news", " user:42:x ").broadcast("anything", 1)
    assert about(authorizer, "join") + about(authorizer, "broadcast") == 0
    authorizer.on(403, "join")
    for other in ("newsletter", "user:4", "NEWS"):
        ws.fails(command("join", other), "not_authorized")
    ws.leave("news")
    assert (about(authorizer, "join"), about(authorizer, "leave")) == (3, 1)
    assert asked.metric('unasked_total.*by="allow"') == 3
    assert asked.metric('questions_total.*command="join"') == 3


def test_a_tap_shows_why_there_was_no_question(asked, authorizer):
    authorizer.on(with_fields(allow={"join": ["a*"]}), "connect")
    tap = asked.dial().send(b"GET /tap HTTP/1.1\r\nHost: test\r\n\r\n")
    tap.head()
    asked.ws().join("abc")
    event = event_with(tap, '"by"')
    assert (event["verdict"], event["by"], event["pattern"]) == ("allow", "allow", "a*")


# -- max_age


def test_an_answer_is_remembered_for_its_connection_command_and_channel(asked, authorizer):
    authorizer.on(with_fields(max_age=600), "join", "a")
    ws, other = asked.ws(), asked.ws()
    ws.join("a").leave("a").join("a", " a ")
    assert about(authorizer, "join") == 1
    ws.join("b")
    other.join("a")
    assert [q.channel for q in authorizer.about("join")] == ["a", "b", "a"]
    assert asked.metric('unasked_total.*by="max_age"') == 2


def test_a_refusal_is_remembered_with_its_message_and_forgets_the_rest_of_its_channel(asked, authorizer):
    authorizer.on(with_fields(max_age=600), "broadcast")
    authorizer.on(with_fields(403, max_age=600, message="members only"), "join")
    ws = asked.ws()
    ws.broadcast("a", 1).broadcast("a", 2).broadcast("b", 1)
    for _ in range(3):
        assert ws.fails(command("join", "a"), "not_authorized")["error"]["message"] == "members only"
    assert (about(authorizer, "join"), about(authorizer, "broadcast")) == (1, 2)
    ws.broadcast("b", 2).broadcast("a", 3)
    assert [q.channel for q in authorizer.about("broadcast")] == ["a", "b", "a"]


def test_a_remembered_answer_lapses(asked, authorizer):
    authorizer.on(with_fields(max_age=1), "join")
    ws = asked.ws()
    ws.join("a").join("a")
    until(lambda: ws.join("a") and about(authorizer, "join") == 2, "it is asked about again")


# -- refresh


def test_a_connection_is_asked_about_again(asked, authorizer):
    authorizer.on(with_fields(user="ann", state=1, allow=EVERYTHING, expires_in=1), "connect")
    authorizer.on(with_fields(allow={"broadcast": ["*"]}, state=2), "refresh")
    began = time.monotonic()
    ws = asked.ws("/ws?a=b")
    ws.join("a").broadcast("b", 1)
    refresh = authorizer.asked(1, "refresh")[0]
    assert time.monotonic() - began >= 0.9
    assert (refresh.args, refresh.peer["user"], refresh.peer["state"]) == ({}, "ann", 1)
    assert refresh.peer["query"] == {"a": ["b"]}
    # Its answer has ended the earlier allow; user, membership and the new state stay.
    ws.broadcast("b", 1).leave("b")
    leave = authorizer.asked(1, "leave")[0]
    assert (leave.peer["user"], leave.peer["state"]) == ("ann", 2)
    assert about(authorizer, "broadcast") == about(authorizer, "join") == 0
    asked.publish("a", "1")
    ws.hears("1")
    assert about(authorizer, "refresh") == 1


def test_a_busy_connection_is_asked_about_before_its_next_message(asked, authorizer):
    authorizer.on(with_fields(allow=EVERYTHING, expires_in=1), "connect")
    authorizer.hold("refresh")
    member = asked.ws().join("a")
    ws = asked.ws()
    over = threading.Event()

    def flood():
        n = 0
        while not over.is_set():
            ws.say(command("broadcast", "a", n))
            n += 1
            time.sleep(0.001)

    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    # The member, too, is asked about.
    by_connection = until(
        lambda: (q := {q.peer["id"]: q for q in authorizer.about("refresh")}) and len(q) == 2 and q, "both are asked about"
    )
    over.set()
    flooding.join()
    ws.say(command("broadcast", "a", '"last"', id=1))
    # While the question is open, nothing is done.
    heard = []
    asked.publish("a", '"marker"')
    while not heard or heard[-1] != '"marker"':
        heard.append(member.hear())
    assert heard[:-1] == [str(n) for n in range(len(heard) - 1)]
    for question in by_connection.values():
        question.release(with_fields(allow={"broadcast": ["a"]}))
    assert ws.answer(1)["ok"]
    while (next := member.hear()) != '"last"':
        heard.insert(-1, next)
    assert heard[:-1] == [str(n) for n in range(len(heard) - 1)], "in order, none missing"
    assert about(authorizer, "broadcast") == 0


def test_a_refresh_waits_for_the_open_question(asked, authorizer):
    authorizer.on(with_fields(expires_in=1), "connect")
    authorizer.hold("join")
    ws = asked.ws()
    ws.say(command("join", "a", id=1))
    ws.say(command("leave", "a", id=2))
    (join,) = authorizer.asked(1, "join")
    time.sleep(1.2)
    assert about(authorizer, "refresh") == 0
    join.release()
    assert ws.answer(1)["ok"] and ws.answer(2)["ok"]
    order = [q.command for q in authorizer.asked(4)]
    assert order == ["connect", "join", "refresh", "leave"]


@pytest.mark.parametrize(
    "reply, code, reason",
    [
        (403, 4403, "the authorizer says no"),
        (with_fields(401, message="log in again"), 4403, "log in again"),
        (with_fields(403, close={"code": 4001, "reason": "banned"}), 4001, "banned"),
        (with_fields(403, close={"code": 4001}), 4001, "the authorizer says no"),
        (503, 1013, "the authorizer is down: come back later"),
    ],
)
def test_a_refresh_may_end_the_connection(asked, authorizer, reply, code, reason):
    authorizer.on(with_fields(expires_in=1), "connect")
    authorizer.on(reply, "refresh")
    assert asked.ws().is_closed(code) == reason


# -- channels


def test_channels_are_joined_with_the_101(serve, authorizer):
    server = serve("--max-channels", "2", auth=authorizer)
    authorizer.on(with_fields(channels=[" a ", "b", "a"]), "connect")
    ws = server.ws()
    for channel in ("a", "b"):
        server.publish(channel, "1")
        ws.hears("1")
    assert [q.command for q in authorizer.questions] == ["connect"]
    ws.fails(command("join", "c"), "too_many_channels")
    ws.leave("a").join("c")


@pytest.fixture
def redis():
    redis = Redis()
    yield redis
    redis.kill()


def test_the_101_comes_when_redis_has_the_channels_subscribed(node, authorizer, redis):
    server = node(redis.dsn, auth=authorizer)
    names = [fresh() for _ in range(20)]
    authorizer.on(with_fields(channels=names), "connect")
    for _ in range(3):
        ws = server.ws()
        for name in names:
            assert redis.publish(name, "1") == 1
        ws.hears(*["1"] * len(names))
        ws.leaves()
        until(lambda: not any(redis.subscribers(name) for name in names), "they are left")


def test_a_channel_that_redis_refuses_refuses_the_upgrade(node, authorizer, redis):
    redis.ask("ACL", "SETUSER", "default", "resetchannels", "&ok*")
    server = node(redis.dsn, auth=authorizer)
    authorizer.on(with_fields(channels=["ok", "forbidden"]), "connect")
    stream = server.knock()
    response = stream.response()
    is_error(response, 503, "unavailable")
    may_retry(response)
    until(lambda: redis.subscribers("ok") == 0, "nothing is held")
    authorizer.on(with_fields(channels=["ok"]), "connect")
    ws = server.ws()
    assert redis.publish("ok", "1") == 1
    ws.hears("1")
