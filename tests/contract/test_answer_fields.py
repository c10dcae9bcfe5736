"""Which answers have fields, which fields are wrong, and what that leads to (docs/authorizer.md#fields)."""

import json

import pytest

from harness.authorizer import Reply, with_body
from harness.net import is_error, may_retry
from harness.server import free_port, run
from harness.ws import assert_error, command

FIELDS = "application/vnd.wsify+json"
LIMIT = (1 << 20) + (64 << 10)


def many(count, length):
    return json.dumps(["x" * length] * count)


GOOD = [
    ("connect", "{}"),
    ("connect", ' {"user" : "42" }\n'),
    ("connect", '{"user":42}'),
    ("connect", '{"user":-9999999999999999999999}'),
    ("connect", json.dumps({"user": "u" * 255})),
    ("connect", '{"user":null,"channels":null,"allow":null,"expires_in":null}'),
    ("connect", '{"state":null}'),
    ("connect", json.dumps({"state": "s" * 4094})),
    ("connect", '{"state":{"a":1,"a":2},"x":{"b":1,"b":2}}'),
    ("connect", '{"channels":[" a ","a","b"]}'),
    ("connect", '{"channels":[]}'),
    ("connect", '{"allow":{}}'),
    ("connect", '{"allow":{"join":["*","a*","*a"],"leave":null,"unknown":1}}'),
    ("connect", f'{{"allow":{{"join":{many(60, 1)},"leave":{many(40, 1)}}}}}'),
    ("connect", f'{{"allow":{{"join":{many(16, 255)}}}}}'),
    ("connect", json.dumps({"allow": {"join": ["x" * 255 + "*"]}})),
    ("connect", '{"expires_in":1}'),
    ("connect", '{"expires_in":31536000}'),
    # These mean nothing in such an answer, whatever their type.
    ("connect", '{"max_age":"x","content":1,"message":[],"close":{"code":1,"code":1},"unknown":{}}'),
    ("join", '{"user":1.5,"channels":7,"allow":[],"expires_in":0,"content":1,"message":7,"close":7}'),
    ("join", '{"max_age":0}'),
    ("leave", '{"max_age":86400}'),
    ("broadcast", '{"content":null}'),
    ("broadcast", '{"content":{"a":1},"max_age":0}'),
]

WRONG = [
    ("connect", "user", '{"user":""}'),
    ("connect", "user", json.dumps({"user": "u" * 256})),
    ("connect", "user", '{"user":1.0}'),
    ("connect", "user", '{"user":1e3}'),
    ("connect", "user", '{"user":true}'),
    ("connect", "user", '{"user":{"id":1}}'),
    ("connect", "user", '{"user":"a","user":"a"}'),
    ("connect", "state", json.dumps({"state": "s" * 4095})),
    ("connect", "channels", '{"channels":"a"}'),
    ("connect", "channels", '{"channels":["a",1]}'),
    ("connect", "channels", '{"channels":[" "]}'),
    ("connect", "channels", '{"channels":[" wsify:x"]}'),
    ("connect", "channels", json.dumps({"channels": ["c" * 256]})),
    ("connect", "channels", '{"channels":["a","b","c","d"]}'),
    ("connect", "allow", '{"allow":true}'),
    ("connect", "allow", '{"allow":{"join":"*"}}'),
    ("connect", "allow", '{"allow":{"join":[""]}}'),
    ("connect", "allow", '{"allow":{"join":["  "]}}'),
    ("connect", "allow", '{"allow":{"join":[null]}}'),
    ("connect", "allow", json.dumps({"allow": {"join": ["x" * 256]}})),
    ("connect", "allow", f'{{"allow":{{"join":{many(60, 1)},"leave":{many(41, 1)}}}}}'),
    ("connect", "allow", f'{{"allow":{{"join":{many(16, 255)},"leave":{many(1, 17)}}}}}'),
    ("connect", "allow", '{"allow":{"join":[],"join":[]}}'),
    ("connect", "expires_in", '{"expires_in":0}'),
    ("connect", "expires_in", '{"expires_in":31536001}'),
    ("connect", "expires_in", '{"expires_in":60.0}'),
    ("connect", "expires_in", '{"expires_in":"60"}'),
    ("join", "state", json.dumps({"state": "s" * 4095})),
    ("join", "max_age", '{"max_age":-1}'),
    ("join", "max_age", '{"max_age":86401}'),
    ("join", "max_age", '{"max_age":1e1}'),
    ("leave", "max_age", '{"max_age":true}'),
    ("broadcast", "max_age", '{"content":1,"max_age":1}'),
    ("broadcast", "max_age", '{"content":null,"max_age":1}'),
    ("broadcast", "content", json.dumps({"content": "c" * (1 << 20)})),
    ("connect", "body", ""),
    ("connect", "body", "[]"),
    ("connect", "body", "null"),
    ("connect", "body", '{"user":"a"'),
    ("connect", "body", '{"x":1,"x":1}'),
    ("join", "body", b'{"x":"\xff"}'),
    ("join", "body", json.dumps({"x": "x" * LIMIT})),
]


def shown(value):
    return (value if isinstance(value, str) else repr(value))[:60]


def said(ws, name):
    return ws.say(command(name, "a", "0" if name == "broadcast" else None, id=1))


@pytest.fixture
def server(serve, authorizer):
    return serve("--max-channels", "3", auth=authorizer)


@pytest.mark.parametrize(("name", "body"), GOOD, ids=shown)
def test_good_fields(server, authorizer, name, body):
    authorizer.on(with_body(body), name)
    ws = server.ws()
    if name != "connect":
        assert said(ws, name).answer(1) == {"id": 1, "ok": True}


@pytest.mark.parametrize(("name", "field", "body"), WRONG, ids=shown)
def test_a_yes_with_a_wrong_field_counts_as_down(server, authorizer, name, field, body):
    authorizer.on(with_body(body), name)
    if name == "connect":
        may_retry(server.knock().response())
    else:
        said(server.ws(), name).is_closed(1013)
    line = json.loads(server.logged(f'"field":"{field}"'))
    assert (line["level"], line["command"], line["status"]) == ("warn", name, 200)
    assert len(line["value"].encode()) <= 64 + len("…".encode())
    if field in ("state", "content", "body"):
        assert line["value"].endswith(" bytes")
    # It concerns no other client.
    authorizer.on(200, name)
    server.ws().join("b")


@pytest.mark.parametrize(("name", "field", "body"), [case for case in WRONG if case[0] == "connect"], ids=shown)
def test_what_it_would_be_as_application_json(server, authorizer, name, field, body):
    """In v3's type only a state means something; a body that cannot be read is none."""
    authorizer.on(with_body(body, type="application/json"), name)
    ws = server.ws().join("b")
    authorizer.on(with_body('{"max_age":-1,"state":7,"message":1}', type="application/json"), "join")
    ws.join("c").leave("c")
    assert "state" not in authorizer.about("leave")[-1].peer


@pytest.mark.parametrize("type", [FIELDS, f"{FIELDS}; charset=utf-8", f"{FIELDS} ;a=b", "APPLICATION/VND.WSIFY+JSON"])
def test_the_type_opts_in(server, authorizer, type):
    authorizer.on(with_body({"user": 42, "state": [1.50]}, type=type), "connect")
    server.ws().join("a")
    peer = authorizer.about("join")[0].peer
    assert (peer["user"], peer["state"]) == ("42", [1.5])


@pytest.mark.parametrize("type", ["application/vnd.wsify+jsonx", "application/vnd.wsify", "text/json", "application/x+json"])
def test_another_type_does_not(server, authorizer, type):
    authorizer.on(with_body({"user": 1.5, "state": 1}, type=type))
    server.ws().join("a")
    assert set(authorizer.about("join")[0].peer) == {"id", "remote_addr", "query"}


# -- refusals


def test_a_refusal_stands_without_its_wrong_fields(server, authorizer):
    authorizer.on(with_body({"message": "", "close": {"code": 4001}}, 403), "join")
    ws = server.ws().say(command("join", "a", id=1))
    answer = ws.answer(1)
    assert_error(answer, "not_authorized", 1)
    assert answer["error"]["message"] == "the authorizer says no"
    ws.is_closed(4001)
    server.logged('"field":"message"')


@pytest.mark.parametrize(
    "body",
    ["", "[]", "nonsense", '{"message":"x","message":"x"}', '{"message":"x","close":{"code":4000,"code":4000}}', b'{"message":"\xff"}', "9" * LIMIT * 2],
    ids=shown,
)
def test_a_refusal_stands_whatever_its_body_is(server, authorizer, body):
    authorizer.on(with_body(body, 403))
    is_error(server.knock().response(), 403)
    authorizer.on(200, "connect")
    ws = server.ws().say(command("join", "a", id=1))
    answer = ws.answer(1)
    assert_error(answer, "not_authorized", 1)
    assert answer["error"]["message"] == "the authorizer says no"


@pytest.mark.parametrize("breaks", [True, False], ids=["breaks off", "hangs"])
@pytest.mark.parametrize("framing", ["Content-Length: 20", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("status", [200, 403])
def test_a_body_that_breaks_off_or_hangs_is_no_yes_but_a_no(serve, authorizer, status, framing, breaks):
    server = serve("--authorizer-timeout", "2s", auth=authorizer)
    half = f"HTTP/1.1 {status} X\r\nContent-Type: {FIELDS}\r\n{framing}\r\n\r\n{{".encode()
    ws = server.ws()
    # What hangs does so until the call's time is over.
    authorizer.on(Reply(raw=half, close=breaks))
    stream = server.knock()
    ws.say(command("join", "a", id=1))
    if status == 200:
        may_retry(stream.response())
        ws.is_closed(1013)
    else:
        is_error(stream.response(), 403)
        assert_error(ws.answer(1), "not_authorized", 1)


def test_a_body_has_room_for_a_content_and_64_kib(server, authorizer):
    content = json.dumps("c" * ((1 << 20) - 2))
    padding = " " * (LIMIT - len('{"content":}') - len(content))
    authorizer.on(with_body(f'{{"content":{content}{padding}}}'), "broadcast")
    ws = server.ws().join("a")
    ws.say(command("broadcast", "a", "1"))
    ws.hears(content)


# -- the log, and --check


def test_a_wrong_field_is_logged_once_a_minute_for_each_field(server, authorizer):
    value = json.dumps("a value " * 40)
    authorizer.on(with_body(f'{{"user":{value},"state":1}}'), "connect")
    for _ in range(3):
        may_retry(server.knock().response())
    authorizer.on(with_body(json.dumps({"state": "s3cret" * 1000})), "connect")
    may_retry(server.knock().response())
    server.logged('"field":"state"')
    lines = [line for line in server.log() if "field" in line]
    assert [line["field"] for line in lines] == ["user", "state"]
    assert lines[0]["value"] == value[:64] + "…" and "1 to 255 bytes" in lines[0]["reason"]
    assert lines[1]["value"] == "6002 bytes"
    assert "s3cret" not in "".join(server.out)


def checked(authorizer):
    status, out, err = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--authorizer-url", authorizer.url)
    assert err == ""
    return status, out.splitlines()


def test_check_says_which_fields_are_understood(authorizer):
    authorizer.on(with_body('{"user":1,"state":2,"max_age":3,"color":4}'))
    status, lines = checked(authorizer)
    assert status == 0, lines
    (good,) = [line for line in lines if "are understood" in line]
    assert good.startswith("ok ") and "user, state" in good
    (ignored,) = [line for line in lines if "are ignored" in line]
    assert ignored.startswith("-- ") and "max_age, color" in ignored


def test_check_says_which_fields_are_wrong(authorizer):
    authorizer.on(with_body('{"user":1.5,"expires_in":"x"}'))
    status, lines = checked(authorizer)
    assert status == 1, lines
    wrong = [line for line in lines if line.startswith("BAD") and "wrong field" in line]
    assert len(wrong) == 2 and "user: 1.5" in wrong[0] and 'expires_in: "x"' in wrong[1], lines


def test_check_says_that_application_json_has_a_state_only(authorizer):
    authorizer.on(with_body('{"user":1,"state":2}', type="application/json"))
    status, lines = checked(authorizer)
    assert status == 0, lines
    (ignored,) = [line for line in lines if "are ignored" in line]
    assert "user" in ignored and FIELDS in ignored
