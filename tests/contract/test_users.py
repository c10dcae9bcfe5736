"""What a backend says to users and connections, and what it is listed (docs/api.md)."""

import json
import signal
import urllib.parse

import pytest

from harness.authorizer import named, with_fields
from harness.net import is_error, request, until
from harness.redis import Redis
from harness.ws import command, fresh

JSON = ("Content-Type", "application/json")


@pytest.fixture
def site(serve, authorizer):
    """A server whose clients name their user in the query."""
    authorizer.on(named, "connect")
    server = serve(auth=authorizer)
    server.client = lambda user, protocols="wsify.v1": server.ws(f"/ws?user={user}", protocols=protocols)
    server.answers = lambda path, **body: answered(server.post(json.dumps(body), path))
    server.lists = lambda target: answered(server.call("GET", target))
    return server


def answered(response):
    assert response.status == 200, response
    assert response.header("Content-Type") == "application/json"
    return json.loads(response.body)


# -- broadcast


def test_to_a_user_and_to_a_connection(site):
    user = fresh("user")
    v1, raw, other = site.client(user), site.client(user, None), site.client(fresh("user"))
    assert site.post(f'{{"user":"{user}","content":{{"a": 1.0}}}}').status == 201
    v1.hears(f'{{"user":"{user}","content":{{"a": 1.0}}}}')
    raw.hears('{"a": 1.0}')
    id = v1.welcome["connection"]
    assert site.post(f'{{"connection":"{id}","args":{{"content":2}}}}').status == 201
    v1.hears(f'{{"connection":"{id}","content":2}}')
    for ws in (v1, raw, other):
        ws.is_quiet()


def test_many_targets_in_one_call(site):
    user, a, b = fresh("user"), fresh(), fresh()
    ws = site.client(user).join(a, b)
    body = [{"channels": [a, b, a], "content": 1}, {"user": user, "content": 2}, {"channel": a}]
    response = site.post(json.dumps(body))
    assert (response.status, response.body) == (201, b"")
    heard = [json.loads(ws.hear()) for _ in range(4)]
    assert [m["content"] for m in heard if m.get("channel") == a] == [1, None]
    assert {"channel": b, "content": 1} in heard and {"user": user, "content": 2} in heard
    ws.is_quiet()


@pytest.mark.parametrize("bad", [
    "[]", "[1]", '[{"channel":"x"},]', '{"channels":[]}', '{"channels":"x"}', '{"channels":[1]}', '{"channels":[" "]}', '{"user":""}', '{"user":1.5}',
    '{"user":true}', '{"user":"u","channel":"x"}', '{"user":"u","connection":"x"}', '{"channels":["x"],"channel":"x"}', '{"connection":1}',
    '{"user":"u","content":1,"args":{"content":2}}', '{"user":"u","user":"u"}', '{"user":"u","args":1}', '{"channel":"wsify:x"}',
    '{"channels":["wsify:"]}', '{"channel":" wsify:user:1"}', '{"user":"%s"}' % ("u" * 256), json.dumps({"channels": [f"c{n}" for n in range(1001)]}),
])
def test_a_wrong_body_publishes_nothing(site, bad):
    channel = fresh()
    ws = site.client(fresh("user")).join(channel)
    is_error(site.post(bad), 400)
    if bad != "[]" and not bad.endswith(",]"):
        array = f'[{{"channel":"{channel}","content":1}},{bad.strip("[]") if bad.startswith("[") else bad}]'
        is_error(site.post(array), 400)
    ws.is_quiet()


def test_an_integer_is_a_user(site):
    ws = site.client("42")
    assert site.post('{"user":42,"content":1}').status == 201
    ws.hears('{"user":"42","content":1}')
    # Its digits are the name, however many there are.
    long = "9" * 30
    ws = site.client(f"-{long}")
    assert site.post(f'{{"user":-{long},"content":1}}').status == 201
    ws.hears(f'{{"user":"-{long}","content":1}}')


def test_a_user_is_not_trimmed(site):
    ws, other = site.client("%20u"), site.client("u")
    assert site.post('{"user":" u","content":1}').status == 201
    ws.hears('{"user":" u","content":1}')
    other.is_quiet()
    assert [it["id"] for it in site.lists("/connections?user=%20u")["connections"]] == [ws.welcome["connection"]]
    longest = "é" * 127 + "x"
    ws = site.client(urllib.parse.quote(longest))
    assert site.answers("/disconnect", user=longest) == {"connections": 1}
    ws.is_closed(4403)


def test_a_thousand_targets_in_all_objects_together(site):
    stem = fresh()
    ws = site.client(fresh("user")).join(f"{stem}0", f"{stem}999")
    names = [f"{stem}{n}" for n in range(1000)]
    body = [{"channels": names[:600], "content": 1}, {"channels": names[600:999], "content": 2}, {"channel": names[999], "content": 3}]
    assert site.post(json.dumps(body)).status == 201
    heard = [json.loads(ws.hear()) for _ in range(2)]
    assert {(it["channel"], it["content"]) for it in heard} == {(names[0], 1), (names[999], 3)}
    for more in ({"user": "u"}, {"connection": "c"}, {"channel": stem}):
        is_error(site.post(json.dumps([*body, more])), 400)
    ws.is_quiet()


def test_unknown_targets_are_no_error(site):
    for target in ({"channel": fresh()}, {"channels": [fresh()]}, {"user": fresh()}, {"connection": fresh()}):
        response = site.post(json.dumps(target | {"content": 1}))
        assert (response.status, response.body) == (201, b""), target
    for target in ({"user": fresh()}, {"connection": fresh()}):
        assert site.answers("/disconnect", **target) == {"connections": 0}
        assert site.answers("/join", channel="x", **target) == site.answers("/leave", channel="x", **target) == {"connections": 0}


# -- disconnect


def test_a_disconnect(site):
    user = fresh("user")
    ws, other = site.client(user), site.client(user, None)
    assert site.answers("/disconnect", user=user) == {"connections": 2}
    assert ws.is_closed(4403) == "closed by the backend"
    other.is_closed(4403)
    assert site.answers("/disconnect", user=user) == {"connections": 0}
    ws = site.client(user)
    id = ws.welcome["connection"]
    assert site.answers("/disconnect", connection=id, code=4999, reason="é" * 61) == {"connections": 1}
    assert ws.is_closed(4999) == "é" * 61
    assert site.answers("/disconnect", connection=id) == {"connections": 0}


def test_a_disconnect_without_a_reason(site):
    user = fresh("user")
    ws = site.client(user)
    assert site.answers("/disconnect", user=user, code=1000, reason="") == {"connections": 1}
    assert ws.close_frame() == (1000, "")


def test_a_disconnect_does_not_wait_for_the_open_question(site, authorizer):
    user, channel = fresh("user"), fresh()
    authorizer.on(lambda q: None, "join", channel)
    ws = site.client(user)
    ws.say(command("join", channel, id=1)).say(command("broadcast", channel, "1", id=2))
    until(lambda: authorizer.about("join"), "a question")
    assert site.answers("/disconnect", user=user) == {"connections": 1}
    ws.is_closed(4403)


def test_an_upgrade_under_way_does_not_survive(site, authorizer):
    user = fresh("user")
    authorizer.on(lambda q: None, "connect")
    stream = site.knock(f"/ws?user={user}")
    until(lambda: authorizer.about("connect"), "a question")
    assert site.answers("/disconnect", user=user) == {"connections": 0}
    authorizer.about("connect")[-1].release(with_fields(user=user))
    is_error(stream.response(), 403)
    authorizer.on(with_fields(user=user), "connect")
    site.client(user).is_quiet()


@pytest.mark.parametrize("body", [
    "[]", "{}", '{"user":""}', '{"channel":"x"}', '{"user":"u","connection":"c"}', '{"user":"u","code":1001}', '{"user":"u","code":3999}',
    '{"user":"u","code":5000}', '{"user":"u","code":4000.0}', '{"user":"u","code":"4000"}', '{"user":"u","reason":1}',
    '{"user":"u","reason":"%s"}' % ("r" * 124), '{"user":"u","code":4000,"code":4000}',
])
def test_a_wrong_disconnect(site, body):
    is_error(site.post(body, "/disconnect"), 400)


# -- join and leave


def test_they_do_not_wait_for_the_open_question(site, authorizer):
    user, channel, other = fresh("user"), fresh(), fresh()
    authorizer.hold("join", other)
    ws = site.client(user)
    ws.say(command("join", other, id=1))
    (question,) = authorizer.asked(1, "join", other)
    assert site.answers("/join", user=user, channel=channel) == {"connections": 1}
    site.publish(channel, "1")
    ws.hears(f'{{"joined":"{channel}"}}', f'{{"channel":"{channel}","content":1}}')
    assert site.answers("/leave", user=user, channel=channel) == {"connections": 1}
    ws.hears(f'{{"left":"{channel}"}}')
    question.release()
    assert ws.answer(1) == {"id": 1, "ok": True}
    ws.is_quiet()


def test_one_connection_joins_and_leaves(site):
    user, channel = fresh("user"), fresh()
    ws, other = site.client(user), site.client(user)
    id = ws.welcome["connection"]
    assert site.answers("/join", connection=id, channel=channel) == {"connections": 1}
    assert site.lists(f"/channels?prefix={channel}")["channels"] == [{"channel": channel, "members": 1}]
    assert site.answers("/leave", connection=id, channel=channel) == {"connections": 1}
    assert site.lists(f"/channels?prefix={channel}")["channels"] == []
    ws.hears(f'{{"joined":"{channel}"}}', f'{{"left":"{channel}"}}').is_quiet()
    other.is_quiet()


def test_join_and_leave(site):
    user, channel = fresh("user"), fresh()
    v1, raw = site.client(user), site.client(user, None)
    assert site.answers("/join", user=user, channel=f" {channel} ") == {"connections": 2}
    v1.hears(json.dumps({"joined": channel}, separators=(",", ":")))
    assert site.answers("/join", user=user, channel=channel) == {"connections": 2}
    site.publish(channel, "1")
    v1.hears(f'{{"channel":"{channel}","content":1}}')
    raw.hears("1")
    assert site.answers("/leave", user=user, channel=channel) == {"connections": 2}
    v1.hears(json.dumps({"left": channel}, separators=(",", ":")))
    assert site.answers("/leave", user=user, channel=channel) == {"connections": 2}
    site.publish(channel, "2")
    v1.is_quiet()
    raw.is_quiet()


def test_a_join_of_a_full_connection(serve, authorizer):
    authorizer.on(with_fields(user="42"), "connect")
    server = serve("--max-channels", "1", auth=authorizer)
    ws, full = server.ws(), server.ws().join(fresh())
    response = server.post(json.dumps({"user": "42", "channel": "x"}), "/join")
    assert answered(response) == {"connections": 1, "full": 1}
    ws.is_quiet()
    full.is_quiet()


@pytest.mark.parametrize("path", ["/join", "/leave"])
@pytest.mark.parametrize("body", [
    "{}", '{"user":"u"}', '{"channel":"x"}', '{"user":"u","channel":" "}', '{"user":"u","channel":"wsify:x"}', '{"user":"u","channel":1}',
    '{"user":"u","channels":["x"]}', '{"user":"u","connection":"c","channel":"x"}', '{"user":"u","channel":"%s"}' % ("c" * 256),
])
def test_a_wrong_join(site, path, body):
    is_error(site.post(body, path), 400)


# -- lists


def test_channels(site):
    stem = fresh()
    names = [f"{stem}:{end}" for end in ["é", "b", "a", "a:1", " x"]]
    ws = site.client("42").join(*names)
    site.client("43").join(names[1])
    expected = sorted(names, key=str.encode)
    prefix = urllib.parse.quote(f"{stem}:")
    whole = site.lists(f"/channels?prefix={prefix}")
    assert whole == {"channels": [{"channel": name, "members": 2 if name == names[1] else 1} for name in expected]}
    found, after = [], ""
    while True:
        page = site.lists(f"/channels?prefix={prefix}&limit=2&after={urllib.parse.quote(after)}")
        found += [entry["channel"] for entry in page["channels"]]
        if "next" not in page:
            break
        after = page["next"]
        assert len(page["channels"]) == 2 and after == found[-1]
    assert found == expected
    ws.leave(names[0])
    assert len(site.lists(f"/channels?prefix={prefix}")["channels"]) == 4


def test_a_page_has_a_hundred_entries_unless_told_otherwise(site):
    stem = fresh()
    names = [f"{stem}{n:03}" for n in range(101)]
    ws = site.client(fresh("user")).join(*names[:100])
    page = site.lists(f"/channels?prefix={stem}")
    assert [it["channel"] for it in page["channels"]] == names[:100] and "next" not in page
    ws.join(names[100])
    page = site.lists(f"/channels?prefix={stem}")
    assert [it["channel"] for it in page["channels"]] == names[:100] and page["next"] == names[99]
    user = fresh("user")
    ids = sorted(site.client(user).welcome["connection"] for _ in range(101))
    page = site.lists(f"/connections?user={user}")
    assert [it["id"] for it in page["connections"]] == ids[:100] and page["next"] == ids[99]
    assert "next" not in site.lists(f"/connections?user={user}&limit=101")
    assert {len(id) for id in ids} == {len(ids[0])}, "ids have a fixed width"


def test_prefix_and_after_are_not_trimmed(site):
    stem = fresh()
    site.client("42").join(f"{stem} a", f"{stem}b")
    for query, found in (
        (f"prefix={stem}+", [f"{stem} a"]), (f"prefix=+{stem}", []), (f"prefix={stem}&after={stem}+a", [f"{stem}b"]),
        (f"prefix={stem}&after={stem}+", [f"{stem} a", f"{stem}b"]),
    ):
        assert [it["channel"] for it in site.lists(f"/channels?{query}")["channels"]] == found, query


def test_connections(site):
    user, channel = fresh("user"), fresh()
    clients = [site.client(user) for _ in range(5)]
    clients[0].join(channel)
    clients[3].join(channel)
    ids = [ws.welcome["connection"] for ws in clients]
    page = site.lists(f"/connections?user={user}&limit=3")
    assert [it["id"] for it in page["connections"]] == sorted(ids)[:3]
    assert page["next"] == sorted(ids)[2]
    rest = site.lists(f"/connections?user={user}&after={page['next']}")
    assert [it["id"] for it in rest["connections"]] == sorted(ids)[3:] and "next" not in rest
    members = site.lists(f"/connections?channel=%20{channel}+")["connections"]
    assert [it["id"] for it in members] == sorted([ids[0], ids[3]])
    (one,) = site.lists(f"/connections?connection={ids[0]}")["connections"]
    assert one.pop("connected_ms") >= 0 and one.pop("remote_addr").startswith("127.0.0.1:")
    assert one == {"id": ids[0], "user": user, "channels": [channel], "channels_total": 1}
    assert site.lists("/connections?user=nobody&x=1&x=2") == {"connections": []}
    clients[1].leaves()
    until(lambda: len(site.lists(f"/connections?user={user}")["connections"]) == 4, "it is gone")


def test_a_page_ends_at_a_mebibyte(site):
    # A name is escaped to six times its length.
    stem = fresh()
    names = [f"{stem}{n:03}" + "\x01" * (250 - len(stem) - 3) for n in range(900)]
    ws = site.client("42")
    ws.join(*names)
    found, after, sizes = 0, "", []
    while True:
        response = site.call("GET", f"/channels?limit=1000&prefix={stem}&after={urllib.parse.quote(after)}")
        page = answered(response)
        sizes.append(len(response.body))
        found += len(page["channels"])
        if "next" not in page:
            break
        after = page["next"]
    assert found == 900 and len(sizes) == 2
    assert max(sizes) <= 1 << 20 and max(sizes) > 1_000_000
    (entry,) = site.lists(f"/connections?connection={ws.welcome['connection']}")["connections"]
    assert entry["channels"] == sorted(names)[:100] and entry["channels_total"] == 900


@pytest.mark.parametrize("target", [
    "/channels?limit=0", "/channels?limit=1001", "/channels?limit=x", "/channels?limit=", "/channels?limit=-1", "/channels?limit=1&limit=1",
    "/channels?prefix=%ff", "/channels?after=%ed%a0%80", "/channels?prefix=a&prefix=a", "/connections?channel=", "/connections?user=",
    "/connections?channel=a&user=b", "/connections?user=a&connection=b", "/connections?channel=wsify:a", "/connections?limit=1001",
    "/connections?user=" + "u" * 256, "/connections?after=a&after=b",
])
def test_wrong_queries(site, target):
    response = site.call("GET", target)
    is_error(response, 400)
    # The message names what is wrong.
    message = json.loads(response.body)["error"]["message"]
    assert any(name in message for name in ("limit", "prefix", "after", "channel", "user", "connection")), message


def test_a_list_and_the_events_after_it_have_no_gap(serve, authorizer, receiver):
    authorizer.on(with_fields(user="42"), "connect")
    flags = ("--events-url", receiver.url, "--events", "connected,disconnected,occupied,vacated")
    server = serve(*flags, auth=authorizer)
    before = json.loads(server.call("GET", "/channels").body)
    ((node, seq),) = before["seq"].items()
    assert (seq, before["channels"]) == (0, [])
    ws = server.ws(protocols="wsify.v1")
    assert ws.welcome["connection"].startswith(f"{node}-")
    server.post('{"user":"42","channel":"hello"}', "/join")
    server.post('{"user":"42","channel":"b"}', "/join")
    server.post('{"user":"42","channel":"b"}', "/leave")
    assert json.loads(server.call("GET", "/channels").body) == {"channels": [{"channel": "hello", "members": 1}], "seq": {node: 4}}
    server.post('{"user":"42"}', "/disconnect")
    assert json.loads(server.call("GET", "/connections").body) == {"connections": [], "seq": {node: 6}}
    events = receiver.has_taken(6)
    shown = [(e["event"], e.get("channel"), e.get("code"), e.get("reason")) for e in events]
    assert shown == [
        ("connected", None, None, None), ("occupied", "hello", None, None), ("occupied", "b", None, None), ("vacated", "b", None, None),
        ("vacated", "hello", None, None), ("disconnected", None, 4403, "disconnected"),
    ]


# -- all of them


@pytest.mark.parametrize("path, body, words", [
    ("/broadcast", '{"user":1.5}', ["user", "1.5"]), ("/broadcast", '{"channels":"abc"}', ["channels", "abc"]),
    ("/broadcast", '{"connection":77}', ["connection", "77"]), ("/broadcast", '{"user":"u","channel":"ccc"}', ["user", "channel"]),
    ("/broadcast", '[{"channel":"a"},{"user":true}]', ["1", "user", "true"]), ("/broadcast", '{"user":"u","args":77}', ["args", "77"]),
    ("/disconnect", '{"user":"u","code":1001}', ["code", "1001"]), ("/disconnect", '{"user":"u","reason":77}', ["reason", "77"]),
    ("/join", '{"user":"u","channel":77}', ["channel", "77"]), ("/leave", '{"user":"u","channel":"wsify:abc"}', ["channel", "wsify:abc"]),
    ("/channels?limit=1001", None, ["limit", "1001"]), ("/channels?after=%ff", None, ["after", "%ff"]),
    ("/connections?limit=abc", None, ["limit", "abc"]), ("/connections?channel=wsify:abc", None, ["channel", "wsify:abc"]),
])
def test_an_error_names_the_field_and_its_value(site, path, body, words):
    response = site.call("GET", path) if body is None else site.post(body, path)
    message = is_error(response, 400)["message"]
    assert all(word in message for word in words), message


@pytest.mark.parametrize("path", ["/broadcast", "/disconnect", "/join", "/leave"])
def test_a_body_over_the_size_is_413_and_the_end(serve, path):
    server = serve("--max-message-size", "1000")
    body = json.dumps({"user": "u"} if path in ("/broadcast", "/disconnect") else {"user": "u", "channel": "x"})
    assert server.post(body.ljust(1000), path).status in (200, 201)
    stream = server.dial().send(request("POST", path, [JSON], body.ljust(1001).encode()))
    response = stream.response()
    is_error(response, 413)
    assert response.closes()
    stream.at_end()


def test_they_go_on_answering_during_a_stop(serve, authorizer):
    authorizer.on(with_fields(user="42"), "connect")
    server = serve("--drain-timeout", "1m", auth=authorizer)
    crowd = [server.ws(protocols="wsify.v1") for _ in range(4)]
    server.signal(signal.SIGTERM)
    until(lambda: server.call("GET", "/health").status == 503, "it stops")
    # The first client is closed at once, and the next one after a quarter of a minute.
    left = until(lambda: len(found := answered(server.call("GET", "/connections"))["connections"]) == 3 and found, "three are left")
    ids = [it["id"] for it in left]
    (ws, *_) = [ws for ws in crowd if ws.welcome["connection"] == ids[-1]]
    target = {"connection": ids[-1]}
    assert answered(server.post(json.dumps(target | {"channel": "a"}), "/join")) == {"connections": 1}
    assert answered(server.call("GET", "/channels")) == {"channels": [{"channel": "a", "members": 1}]}
    assert server.post(json.dumps(target | {"content": 1})).status == 201
    assert server.post('{"channel":"a","content":2}').status == 201
    assert answered(server.post(json.dumps(target | {"channel": "a"}), "/leave")) == {"connections": 1}
    ws.hears('{"joined":"a"}', f'{{"connection":"{ids[-1]}","content":1}}', '{"channel":"a","content":2}', '{"left":"a"}')
    assert answered(server.post('{"user":"42"}', "/disconnect")) == {"connections": 3}
    ws.is_closed(4403)


@pytest.mark.parametrize("method, path", [("POST", "/disconnect"), ("POST", "/join"), ("POST", "/leave"), ("GET", "/channels"), ("GET", "/connections")])
def test_they_are_for_backends(serve, method, path):
    locked = serve("--broadcasting-key", "s3cret")
    body = b'{"user":"u","channel":"x"}' if method == "POST" else None
    is_error(locked.call(method, path, [JSON], body), 403)
    assert locked.call(method, f"{path}?key=s3cret", [JSON], body).status == 200
    assert locked.call(method, path, [JSON, ("Authorization", "Bearer s3cret")], body).status == 200
    is_error(serve().call(method, path, [JSON, ("Origin", "http://a")], body), 403)
    wrong = "GET" if method == "POST" else "POST"
    response = locked.call(wrong, path, [JSON], b"" if wrong == "POST" else None)
    is_error(response, 405)
    assert method in response.header("Allow")
    if method == "POST":
        is_error(locked.call(method, f"{path}?key=s3cret", [("Content-Type", "text/plain")], body), 415)
    else:
        assert locked.call("HEAD", f"{path}?key=s3cret").body == b""


def test_without_redis_nothing_is_done(node, authorizer):
    authorizer.on(with_fields(user="42"), "connect")
    redis = Redis()
    try:
        server = node(redis.dsn, auth=authorizer)
        ws = server.ws(protocols="wsify.v1")
        channel = fresh()
        response = server.post(json.dumps({"user": "42", "channel": channel}), "/join")
        assert answered(response)["connections"] == 1
        ws.hears(f'{{"joined":"{channel}"}}')
        assert redis.subscribers(channel) == 1
        server.publish(channel, "1")
        ws.hears(f'{{"channel":"{channel}","content":1}}')
    finally:
        redis.kill()
    until(lambda: server.call("GET", "/health").status == 503, "redis is away")
    for path, body in [("/disconnect", {"user": "42"}), ("/leave", {"user": "42", "channel": channel}), ("/broadcast", {"user": "42"})]:
        is_error(server.post(json.dumps(body), path), 503)
        is_error(server.post("{}", path), 400)
    for target in ["/channels", "/connections"]:
        is_error(server.call("GET", target), 503)
        is_error(server.call("GET", f"{target}?limit=0"), 400)


# -- wsify.v1


def test_the_welcome(serve, authorizer):
    authorizer.on(with_fields(user=42, channels=["news", "news", "a"], state={"n": 1}), "connect")
    server = serve(auth=authorizer)
    ws = server.ws(protocols="wsify.v1")
    id = authorizer.about("connect")[0].peer["id"]
    assert ws.welcome == {"connection": id, "user": "42", "channels": ["news", "a"]}
    (one,) = json.loads(server.call("GET", "/connections").body)["connections"]
    assert one["state"] == {"n": 1} and one["channels"] == ["a", "news"]
    anonymous = serve().ws(protocols="wsify.v1")
    assert list(anonymous.welcome) == ["connection", "channels"] and anonymous.welcome["channels"] == []
    server.ws().is_quiet()


@pytest.mark.parametrize("name", ["wsify:", "wsify:x", " wsify:x", "wsify:user:42"])
def test_reserved_names(site, authorizer, name):
    ws = site.client("42")
    for verb in ("join", "leave", "broadcast"):
        ws.fails(command(verb, name, id=1), "bad_channel", 1)
    assert not authorizer.about("join")
    ws.join("Wsify:x", "xwsify:")
    authorizer.on(with_fields(channels=["a", name]), "connect")
    is_error(site.knock().response(), 503)
