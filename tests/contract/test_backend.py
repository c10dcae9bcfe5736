"""`POST /broadcast`, its key, and requests without one (docs/api.md#broadcast)."""

import json
import socket

import pytest

from harness.net import DEADLINE, Stream, chunked, is_error, request
from harness.server import Server, free_port
from harness.ws import command, fresh

JSON = ("Content-Type", "application/json")
SOME = b'{"channel":"some","content":1}'


def body(channel, content):
    return f'{{"channel":"{channel}","content":{content}}}'


# -- published


@pytest.mark.parametrize("form", ['{{"channel":"{0}","content":{1}}}', '{{"channel":"{0}","args":{{"content":{1}}}}}',
                                  '{{"content":{1},"channel":"{0}"}}', '{{"args":{{"content":{1}}},"channel":"{0}"}}',
                                  ' {{ "channel" : "{0}" ,\n"content" : {1} }} ', '{{"more":[],"channel":"{0}","content":{1}}}',
                                  '{{"channel":"{0}","args":{{"why":null,"content":{1}}}}}'])
def test_both_bodies(plain, form):
    channel = fresh()
    member = plain.ws().join(channel)
    response = plain.post(form.format(channel, '{"b":1.0,"a":[ 2 ]}'))
    assert response.status == 201
    assert response.body == b""
    member.hears('{"b":1.0,"a":[ 2 ]}').is_quiet()


@pytest.mark.parametrize("content", ["null", "1.0", "-0", "123456789012345678901234567890", '"\\u0041é"', '{"a":1,"a":2}', "[ 1 ,\t2]", "1e400"])
def test_content_byte_for_byte(plain, content):
    channel = fresh()
    raw, v1 = plain.ws().join(channel), plain.ws(protocols="wsify.v1").join(channel)
    plain.publish(channel, content)
    raw.hears(content)
    v1.hears(f'{{"channel":"{channel}","content":{content}}}')


@pytest.mark.parametrize("form", ['{{"channel":"{0}"}}', '{{"channel":"{0}","args":{{}}}}'])
def test_a_missing_content_is_null(plain, form):
    channel = fresh()
    member = plain.ws().join(channel)
    assert plain.post(form.format(channel)).status == 201
    member.hears("null")


def test_a_channel_without_members(plain):
    assert plain.publish(fresh(), "1").status == 201


def test_names_are_trimmed(plain):
    channel = fresh()
    member = plain.ws().join(channel)
    plain.publish(f" \t{channel}\u3000", "1")
    member.hears("1")


@pytest.mark.parametrize(
    "type",
    ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON", "APPLICATION/JSON ; x=y",
     'application/json; profile="a;b"'],
)
def test_content_types(plain, type):
    assert plain.post(SOME, type=type).status == 201


def test_posts_and_clients_messages_keep_their_order(plain):
    channel = fresh()
    members = [plain.ws().join(channel) for _ in range(3)]
    sender = plain.ws()
    for i in range(0, 60, 3):
        plain.publish(channel, str(i))
        sender.broadcast(channel, str(i + 1))
        plain.publish(channel, str(i + 2))
    for member in members:
        member.hears(*map(str, range(60))).is_quiet()


def test_pipelined_posts(plain):
    channel = fresh()
    member = plain.ws().join(channel)
    stream = plain.dial()
    stream.send(b"".join(request("POST", "/broadcast", [JSON], body(channel, i).encode()) for i in range(300)) + request("GET", "/health"))
    for _ in range(300):
        assert stream.response().status == 201
    assert stream.response().status == 200
    member.hears(*map(str, range(300))).is_quiet()


def test_pipelined_good_and_bad(plain):
    channel = fresh()
    member = plain.ws().join(channel)
    stream = plain.dial()
    good, blank = body(channel, 1).encode(), body(" ", 1).encode()
    stream.send(
        request("POST", "/broadcast", [JSON], good) + request("POST", "/broadcast", [JSON], blank)
        + request("POST", "/broadcast", [("Content-Type", "text/plain")], good) + request("POST", "/broadcast", [JSON], good)
    )
    assert stream.response().status == 201
    for status in (400, 415):
        response = stream.response()
        is_error(response, status)
        assert not response.closes(), "the body was read; nothing is out of step"
    assert stream.response().status == 201
    member.hears("1", "1").is_quiet()


def test_a_201_has_an_empty_body(plain):
    stream = plain.dial().send(request("POST", "/broadcast", [JSON], SOME) * 2)
    for _ in range(2):
        response = stream.response()
        assert response.status == 201 and response.header("Content-Length") == "0"


def test_a_member_that_leaves_meanwhile(plain):
    channel = fresh()
    for _ in range(20):
        member = plain.ws().join(channel)
        member.reset()
        assert plain.publish(channel, "1").status == 201


# -- errors


@pytest.mark.parametrize(
    "type", [None, "", "text/plain", "application/jsonp", "application/x-www-form-urlencoded", "application/json2; a=b",
             "text/json", "json", "application/problem+json", "multipart/form-data; boundary=application/json", "x application/json"]
)
def test_another_content_type_is_415(plain, type):
    stream = plain.dial().send(request("POST", "/broadcast", [("Content-Type", type)] if type is not None else [], SOME))
    response = stream.response()
    is_error(response, 415)
    stream.still_serves(response)


BAD = [
    b"", b" ", b"x", b"{", b"[]", b"1", b"null", b'"x"', b'["channel","x"]', b"{}", b'{"content":1}', b'{"channel":""}',
    b'{"channel":" \\t\\u00a0 ","content":1}', b'{"channel":null}', b'{"channel":1}', b'{"channel":["x"]}', b'{"channel":true}', b'{"Channel":"x"}',
    b'{"args":{"channel":"x","content":1}}', b'{"channel":"' + b"n" * 256 + b'","content":1}', b'{"channel":"' + "é".encode() * 128 + b'"}',
    b'{"channel":"x","args":1}', b'{"channel":"x","args":[]}', b'{"channel":"x","args":"y"}',
    b'{"channel":"x"}{}', b'{"channel":"x"}x', b'{"channel":"x",}', b'{"channel":"x","content":01}', b'{"channel":"x","content":[1,]}',
    b'{"channel":"x","content":}', b'{"channel":"x","content":NaN}', b'\xef\xbb\xbf{"channel":"x"}', b'{"channel":"\xff"}',
    b'{"channel":"x","content":"\xff"}', b'{"channel":"x","content":"\xed\xa0\x80"}', b"[" * 100_000,
    # a name given twice
    b'{"channel":"x","channel":"x"}', b'{"channel":"x","content":1,"content":1}', b'{"channel":"x","z":1,"z":2}',
    b'{"channel":"x","args":{"content":1},"args":{"content":2}}', b'{"channel":"x","args":{"content":1,"content":2}}',
    b'{"channel":"x","ch\\u0061nnel":"y"}',
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_bad_body_is_400(plain, number):
    witness = plain.ws().join("x")
    stream = plain.dial().send(request("POST", "/broadcast", [JSON], BAD[number]))
    response = stream.response()
    is_error(response, 400)
    stream.still_serves(response)
    witness.is_quiet()


def test_no_body_is_400(plain):
    stream = plain.dial().send(request("POST", "/broadcast", [JSON]))
    response = stream.response()
    is_error(response, 400)
    stream.still_serves(response)
    is_error(plain.dial().send(request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + chunked()).response(), 400)


def test_a_name_of_255_bytes(plain):
    name = fresh().ljust(255, "n")
    member = plain.ws().join(name)
    plain.publish(f"  {name} ", "1")
    member.hears("1")


def test_the_greatest_body(serve):
    server = serve("--max-message-size", "1000")
    fits = body("x", 1).ljust(1000).encode()
    for sent in (
        request("POST", "/broadcast", [JSON], fits),
        request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + chunked(fits),
        request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + chunked(*[fits[i : i + 1] for i in range(1000)]),
    ):
        stream = server.dial().send(sent)
        response = stream.response()
        assert response.status == 201, response
        stream.still_serves(response)


def test_a_body_over_the_size_is_413_and_the_end(serve):
    server = serve("--max-message-size", "1000")
    witness = server.ws().join("x")
    long = body("x", 1).ljust(1001).encode()
    for sent in (
        request("POST", "/broadcast", [JSON], long),
        request("POST", "/broadcast", [JSON], long) + request("GET", "/health"),
        request("POST", "/broadcast", [JSON, ("Content-Length", "1001")]),
        request("POST", "/broadcast", [JSON, ("Content-Length", str(1 << 62))]),
        request("POST", "/broadcast", [JSON, ("Content-Length", "1001"), ("Expect", "100-continue")]),
        request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + chunked(long),
        request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + chunked(long[:600], long[600:]),
        request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + b"7fffffffffffffff\r\n",
        request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")]) + b"3e9\r\n",
    ):
        stream = server.dial().send(sent)
        response = stream.response()
        is_error(response, 413)
        assert response.closes()
        stream.at_end()
    witness.is_quiet()


def test_the_default_size(plain):
    assert plain.post(SOME.ljust(1 << 20)).status == 201
    is_error(plain.dial().pour(request("POST", "/broadcast", [JSON], SOME.ljust((1 << 20) + 1))).response(), 413)


def test_memory_is_not_taken_for_endless_chunks_of_nothing(serve):
    """Extensions and trailers have limits, too."""
    server = serve()
    head = request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")])
    for endless in (b"1;" + b"x" * 3_000_000, b"0\r\n" + b"X-A: b\r\n" * 400_000):
        stream = server.dial().pour(head + endless)
        response = stream.response()
        assert response.status in (400, 413, 431), response
        is_error(response, response.status)
        stream.at_end()
    assert server.memory()[0] < 60 << 20


# -- the key


SECRET = "a key/with+odd=signs&é"
QUOTED = "a%20key/with%2Bodd%3Dsigns%26%C3%A9"


@pytest.fixture(scope="module")
def locked():
    server = Server("--broadcasting-key", SECRET)
    yield server
    server.finish()


@pytest.mark.parametrize("path", ["/broadcast", "/metrics"])
@pytest.mark.parametrize(
    "query, headers, allowed",
    [
        (f"?key={QUOTED}", [], True),
        (f"?a=b&key={QUOTED}&c", [], True),
        ("?key=" + "".join(f"%{b:02x}" for b in SECRET.encode()), [], True),
        (f"?key={QUOTED.replace('%20', '+')}", [], True),
        ("", [("Authorization", f"Bearer {SECRET}")], True),
        ("", [("authorization", f"bearer {SECRET}")], True),
        ("", [], False),
        ("?key", [], False),
        ("?key=", [], False),
        ("?key=wrong", [], False),
        (f"?key={QUOTED}x", [], False),
        (f"?key={QUOTED[:-6]}", [], False),
        (f"?Key={QUOTED}", [], False),
        (f"?xkey={QUOTED}", [], False),
        ("", [("Authorization", "Bearer wrong")], False),
        ("", [("Authorization", "Bearer ")], False),
        ("", [("Authorization", "Bearer")], False),
        ("", [("Authorization", f"Bearer {SECRET}x")], False),
        ("", [("Authorization", SECRET)], False),
        ("", [("Authorization", f"Basic {SECRET}")], False),
        ("", [("X-Key", SECRET)], False),
    ],
)
def test_the_key(locked, path, query, headers, allowed):
    headers = [(name, value.encode().decode("latin-1")) for name, value in headers]
    if path == "/metrics":
        response, right = locked.call("GET", path + query, headers), 200
    else:
        response, right = locked.call("POST", path + query, [*headers, JSON], SOME), 201
    if allowed:
        assert response.status == right, response
    else:
        is_error(response, 403)
        assert SECRET not in response.body.decode()


@pytest.mark.parametrize("headers", [[("X-Forwarded-For", "203.0.113.9")], [("Forwarded", "for=203.0.113.9")], [("X-Real-IP", "203.0.113.9")],
                                     [("Origin", "https://a.example")]])
def test_with_a_key_requests_from_anywhere_are_allowed(locked, headers):
    assert locked.call("POST", f"/broadcast?key={QUOTED}", [*headers, JSON], SOME).status == 201


def test_a_wrong_key_is_403_for_any_body(locked):
    for headers, sent in [
        ([("Content-Type", "text/plain")], SOME),
        ([], SOME),
        ([JSON], b"nonsense"),
        ([JSON], b'{"channel":""}'),
        ([JSON], b""),
    ]:
        is_error(locked.call("POST", "/broadcast?key=wrong", headers, sent), 403)


def test_a_wrong_key_with_too_long_a_body_is_403(locked):
    stream = locked.dial().pour(request("POST", "/broadcast?key=wrong", [JSON], b"x" * 2_000_000))
    is_error(stream.response(), 403)
    is_error(locked.dial().send(request("POST", "/broadcast?key=wrong", [JSON, ("Content-Length", "2000000")])).response(), 403)


def test_a_wrong_key_publishes_nothing(locked):
    channel = fresh()
    witness = locked.ws().join(channel)
    stream = locked.dial().send(request("POST", "/broadcast?key=wrong", [JSON], body(channel, '"wrong"').encode()))
    response = stream.response()
    is_error(response, 403)
    stream.still_serves(response)
    assert locked.call("POST", f"/broadcast?key={QUOTED}", [JSON], body(channel, 1).encode()).status == 201
    witness.hears("1")


def test_clients_and_health_need_no_key(locked):
    locked.ws().join(fresh())
    assert locked.call("GET", "/health").status == 200


def test_the_key_is_not_logged(serve):
    server = serve("--broadcasting-key", "Tr0ub4dor", "--log-level", "debug")
    server.call("POST", "/broadcast?key=Tr0ub4dor", [JSON], SOME)
    server.call("POST", "/broadcast?key=Tr0ub4dor", [JSON], b"bad")
    server.call("POST", "/broadcast", [JSON, ("Authorization", "Bearer Tr0ub4dor")], SOME)
    server.logged("request refused.*bad_message")
    server.logged("connection ended")
    assert not any("Tr0ub4dor" in line for line in server.out + server.err)


# -- without a key


def says_how(response):
    error = is_error(response, 403)
    assert "broadcasting-key" in error["message"].lower().replace("_", "-"), "the message says how to set a key"


@pytest.mark.parametrize(
    "headers",
    [[("X-Forwarded-For", "127.0.0.1")], [("x-forwarded-for", "203.0.113.9, 10.0.0.1")], [("Forwarded", "for=127.0.0.1")],
     [("X-Real-IP", "127.0.0.1")], [("X-Forwarded-For", "")], [("Origin", "https://a.example")], [("Origin", "null")],
     [("Origin", "http://127.0.0.1")], [("Origin", "")]],
)
def test_a_proxy_or_a_browser_is_not_loopback(plain, headers):
    channel = fresh()
    witness = plain.ws().join(channel)
    stream = plain.dial().send(request("POST", "/broadcast", [*headers, JSON], body(channel, 1).encode()))
    response = stream.response()
    says_how(response)
    stream.still_serves(response)
    says_how(plain.call("GET", "/metrics", headers))
    assert plain.call("GET", "/health", headers).status == 200
    witness.is_quiet()


def test_without_a_key_any_key_will_do(plain):
    """v3's backends that send one may publish on loopback."""
    assert plain.post(SOME, target="/broadcast?key=whatever").status == 201
    assert plain.post(SOME, headers=[("Authorization", "Bearer whatever")]).status == 201


def test_all_of_loopback_is_loopback(plain):
    stream = plain.dial(source="127.9.9.9").send(request("POST", "/broadcast", [JSON], SOME) + request("GET", "/metrics"))
    assert stream.response().status == 201
    assert stream.response().status == 200


def own_address():
    """An address of this machine that is not loopback. No packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
        return None if address.startswith("127.") or address == "0.0.0.0" else address


def test_other_peers_are_not_loopback(serve):
    address = own_address()
    if not address:
        pytest.skip("this machine has no address but loopback's")
    port = free_port(address)
    server = serve(listen=[f"{address}:{port}"])
    server.logged(str(port))
    stream = Stream(socket.create_connection((address, port), timeout=DEADLINE))
    for sent in (request("POST", "/broadcast", [JSON], SOME), request("GET", "/metrics")):
        response = stream.send(sent).response()
        says_how(response)
        if response.closes():
            stream = Stream(socket.create_connection((address, port), timeout=DEADLINE))
    stream.send(request("GET", "/health"))
    assert stream.response().status == 200


def test_loopback_on_a_dual_stack_socket_is_loopback(serve):
    port = free_port()
    server = serve(listen=[f":{port}"])
    server.port = port
    server.await_start(lambda: server.dial().close())
    assert server.post(SOME).status == 201
    if socket.has_ipv6:
        stream = Stream(socket.create_connection(("::1", port), timeout=DEADLINE))
        assert stream.send(request("POST", "/broadcast", [JSON], SOME)).response().status == 201


def test_members_hear_broadcasts_of_clients_and_backends(plain):
    channel = fresh()
    member = plain.ws().join(channel)
    member.say(command("broadcast", channel, "1")).hears("1")
    plain.publish(channel, "2")
    member.hears("2")
    assert json.loads(SOME)
