"""`GET /ws`: the handshake, its refusals, origins and subprotocols (docs/protocol.md#connecting)."""

import itertools

import pytest

from harness.net import chunked, is_error, list_of, may_retry, request
from harness.server import KEY, UPGRADE, upgrade
from harness.ws import Ws, accept_for, command, fresh, text, upgraded


# -- a correct upgrade


def test_the_example_of_the_rfc(plain):
    ws = plain.ws()
    assert ws.response.header("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert ws.protocol is None
    assert ws.response.header("Content-Length") is None
    ws.join(fresh())


@pytest.mark.parametrize("order", range(4))
def test_any_order_of_headers(plain, order):
    headers = list(UPGRADE)
    headers = headers[order:] + headers[:order]
    stream = plain.dial().send(request("GET", "/ws", headers[::-1]))
    upgraded(stream, KEY)


@pytest.mark.parametrize("case", [str.lower, str.upper, str.swapcase, str.title])
def test_any_case(plain, case):
    headers = [(case(name), case(value) if name in ("Upgrade", "Connection") else value) for name, value in UPGRADE]
    upgraded(plain.dial().send(request("GET", "/ws", headers)), KEY)


@pytest.mark.parametrize(
    "value", ["keep-alive, Upgrade", "Upgrade, keep-alive", "keep-alive,upgrade", "a, b ,UPGRADE, c", "upgrade,"]
)
def test_connection_is_a_list(plain, value):
    upgraded(plain.dial().send(upgrade(instead={"Connection": value})), KEY)


def test_connection_in_two_headers(plain):
    upgraded(plain.dial().send(upgrade(headers=[("Connection", "keep-alive")])), KEY)
    upgraded(plain.dial().send(request("GET", "/ws", [("Connection", "keep-alive"), *UPGRADE])), KEY)


def test_white_space_around_values(plain):
    upgraded(plain.dial().send(upgrade(instead={name: f"  {value}\t " for name, value in UPGRADE})), KEY)


def test_another_key(plain):
    key = "AAAAAAAAAAAAAAAAAAAAAA=="
    upgraded(plain.dial().send(upgrade(instead={"Sec-WebSocket-Key": key})), key)
    assert accept_for(key) != accept_for(KEY)


def test_a_query(plain):
    plain.ws("/ws?token=abc&x=%20").join(fresh())


def test_byte_by_byte(plain):
    stream = plain.dial().drip(upgrade() + text(command("join", fresh(), id=1)))
    assert upgraded(stream, KEY).answer() == {"id": 1, "ok": True}


def test_behind_other_requests(plain):
    stream = plain.dial().send(request("GET", "/health") + request("GET", "/ws") + upgrade())
    assert stream.response().status == 200
    assert stream.response().status == 426
    upgraded(stream, KEY).join(fresh())


def test_no_extension_is_confirmed(plain):
    plain.ws(headers=[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]).join(fresh())


def test_a_body_on_an_upgrade_is_not_read_as_frames(plain):
    """RFC 9110 has no body in an upgrade. Its bytes are no command, and break nothing else."""
    stream = plain.dial().send(request("GET", "/ws", [*UPGRADE], body=b"hello"))
    response = stream.response()
    if response.status == 101:
        Ws(stream, response).join(fresh())
    else:
        is_error(response, 400)


CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize(
    "headers, body",
    [
        ([("Content-Length", "0")], b""),
        ([CHUNKED], chunked()),
        ([CHUNKED], b"000;x=y\r\n\r\n"),
        ([CHUNKED], chunked(trailers=b"A: b\r\n")),
    ],
)
def test_an_upgrade_with_an_empty_body_is_allowed(asked, authorizer, headers, body):
    channel = fresh()
    frames = text(command("join", channel)) + text(command("broadcast", channel, "1"))
    whole = asked.dial().send(upgrade(headers=headers) + body + frames)
    upgraded(whole, KEY).hears("1")
    # In any pieces, and with another request before it.
    dripped = asked.dial().drip(request("GET", "/health") + upgrade(headers=headers) + body + frames)
    assert dripped.response().status == 200
    upgraded(dripped, KEY).hears("1")
    commands = [question.command for question in authorizer.about()]
    assert sorted(commands) == ["broadcast"] * 2 + ["connect"] * 2 + ["join"] * 2


def test_an_upgrade_waits_for_the_end_of_its_empty_body(asked, authorizer):
    stream = asked.dial().send(upgrade(headers=[CHUNKED]) + b"0\r\n")
    asked.call("GET", "/health")
    assert authorizer.about() == []
    upgraded(stream.send(b"\r\n"), KEY)


@pytest.mark.parametrize("body", [chunked(b"hello"), b"5", b"1;", b"-1\r\n", b"\x81\x80\0\0\0\0"])
def test_a_chunked_body_on_an_upgrade_is_400(asked, authorizer, body):
    stream = asked.dial().send(upgrade(headers=[CHUNKED]) + body + b"\r\n")
    is_error(stream.response(), 400)
    stream.at_end()
    assert authorizer.about() == []


def test_a_chunked_body_on_no_upgrade_keeps_the_connection_in_step(plain):
    stream = plain.dial().send(request("GET", "/ws", [CHUNKED]) + chunked(b"GET /nothing HTTP/1.1\r\n\r\n") + request("GET", "/health"))
    is_error(stream.response(), 426)
    assert stream.response().status == 200


def test_frames_behind_the_request_are_kept(plain):
    channel = fresh()
    frames = [text(command("join", channel)), text(command("broadcast", channel, "1")), text(command("leave", channel, id=9))]
    ws = upgraded(plain.dial().send(upgrade() + b"".join(frames)), KEY)
    ws.hears("1")
    assert ws.answer() == {"id": 9, "ok": True}


def test_a_frame_in_two_parts_around_the_question(asked, authorizer):
    authorizer.hold("connect")
    whole = text(command("join", fresh(), id=1))
    stream = asked.dial().send(upgrade() + whole[:5])
    question = authorizer.asked(1)[0]
    stream.send(whole[5:20])
    question.release()
    ws = upgraded(stream, KEY).send(whole[20:])
    assert ws.answer() == {"id": 1, "ok": True}


def test_frames_before_a_late_101_are_handled_in_order(asked, authorizer):
    channel = fresh()
    authorizer.hold("connect")
    stream = asked.dial().send(upgrade() + text(command("join", channel)))
    question = authorizer.asked(1)[0]
    stream.send(text(command("broadcast", channel, "1")) + text(command("broadcast", channel, "2")))
    stream.send(text(command("leave", channel, id="last")))
    assert [q.command for q in authorizer.about()] == ["connect"], "nothing is asked before the connect is allowed"
    question.release()
    ws = upgraded(stream, KEY)
    ws.hears("1", "2")
    assert ws.answer() == {"id": "last", "ok": True}
    assert [q.command for q in authorizer.about()] == ["connect", "join", "broadcast", "broadcast", "leave"]


def test_frames_behind_a_refused_upgrade_are_not_handled(asked, authorizer):
    authorizer.on(403, "connect")
    stream = asked.dial().send(upgrade() + text(command("broadcast", fresh(), "1")))
    is_error(stream.response(), 403)
    asked.call("GET", "/health")
    assert [q.command for q in authorizer.about()] == ["connect"]


# -- not an upgrade


@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/ws"),
        request("GET", "/ws?token=abc"),
        upgrade(without=["Upgrade"]),
        upgrade(without=["Connection"]),
        upgrade(without=["Upgrade", "Connection"]),
        upgrade(instead={"Connection": "keep-alive"}),
        upgrade(instead={"Connection": "notupgrade"}),
        upgrade(instead={"Connection": "Upgraded"}),
        upgrade(instead={"Connection": "-upgrade"}),
        upgrade(instead={"Upgrade": "h2c"}),
        upgrade(instead={"Upgrade": "websockets"}),
        upgrade(instead={"Upgrade": ""}),
        upgrade(version="HTTP/1.0"),
    ],
)
def test_not_an_upgrade_is_426(plain, data):
    stream = plain.dial().send(data)
    response = stream.response()
    is_error(response, 426)
    assert "websocket" in list_of(response.header("Upgrade"))
    assert "upgrade" in list_of(response.header("Connection")), "RFC 9110 7.8: Upgrade is named in Connection"
    if b"HTTP/1.1" in data:
        stream.still_serves(response)


# -- another version


@pytest.mark.parametrize("version", ["12", "14", "8", "0", "7", "130", "13a", "13.0", "-13", "013", "", "websocket"])
def test_another_version_is_426(plain, version):
    stream = plain.dial().send(upgrade(instead={"Sec-WebSocket-Version": version}))
    response = stream.response()
    is_error(response, 426)
    assert response.header("Sec-WebSocket-Version") == "13"
    stream.still_serves(response)


def test_no_version_is_426(plain):
    stream = plain.dial().send(upgrade(without=["Sec-WebSocket-Version"]))
    response = stream.response()
    is_error(response, 426)
    assert response.header("Sec-WebSocket-Version") == "13"
    stream.still_serves(response)


# -- the key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",  # no padding
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "AAAAAAAAAAAAAAAAAAAA",  # 15 bytes
        "AAAAAAAAAAAAAAAAAAAAAAA=",  # 17 bytes
        "AAAAAAAAAAAAAAAAAAAAAAAA",  # 18 bytes
        "AAAAAAAAAAAAAAAAAAAAAA==AAAA",
        "dGhlIHNhbXBsZSBub25j!Q==",
        "dGhlIHNhbXBs ZSBub25jZQ=",
        "-_-_-_-_-_-_-_-_-_-_-w==",  # the other alphabet
        "=======================",
    ],
)
def test_a_malformed_key_is_400(plain, key):
    stream = plain.dial().send(upgrade(instead={"Sec-WebSocket-Key": key}))
    response = stream.response()
    is_error(response, 400)
    stream.still_serves(response)


@pytest.mark.parametrize("last", "ARZf")
def test_unused_bits_of_the_key_may_be_set(plain, last):
    key = f"AAAAAAAAAAAAAAAAAAAAA{last}=="
    upgraded(plain.dial().send(upgrade(instead={"Sec-WebSocket-Key": key})), key)


def test_no_key_is_400(plain):
    is_error(plain.dial().send(upgrade(without=["Sec-WebSocket-Key"])).response(), 400)


def test_two_keys_are_400(plain):
    """RFC 6455 11.3.1: it must not appear more than once."""
    for other in (KEY, "AAAAAAAAAAAAAAAAAAAAAA=="):
        is_error(plain.dial().send(upgrade(headers=[("Sec-WebSocket-Key", other)])).response(), 400)


def test_a_malformed_upgrade_is_not_asked_about(asked, authorizer):
    for data in [
        request("GET", "/ws"),
        upgrade(instead={"Sec-WebSocket-Version": "12"}),
        upgrade(without=["Sec-WebSocket-Key"]),
    ]:
        assert asked.dial().send(data).response().status in (400, 426)
    assert authorizer.about() == []


def test_after_a_refusal_the_same_connection_may_upgrade(plain):
    stream = plain.dial().send(upgrade(instead={"Sec-WebSocket-Version": "12"}))
    response = stream.response()
    if not response.closes():
        upgraded(stream.send(upgrade()), KEY)


# -- origins


ORIGINS = "https://app.example.com,http://localhost:8080"


@pytest.mark.parametrize(
    "origin, allowed",
    [
        ("https://app.example.com", True),
        ("http://localhost:8080", True),
        ("http://app.example.com", False),
        ("https://example.com", False),
        ("https://evil-app.example.com", False),
        ("https://app.example.com.evil.example", False),
        ("https://app.example.com:444", False),
        ("https://app.example.com/", False),
        ("http://localhost", False),
        ("http://localhost:80800", False),
        ("null", False),
        ("", False),
        ("https://app.example.com,http://localhost:8080", False),
        ("https://app.example.com http://localhost:8080", False),
    ],
)
def test_origins(serve, authorizer, origin, allowed):
    server = serve("--allowed-origins", ORIGINS, auth=authorizer)
    stream = server.knock(headers=[("Origin", origin)])
    if allowed:
        upgraded(stream, KEY)
    else:
        is_error(stream.response(), 403)
        assert authorizer.about() == [], "the authorizer is not asked about it"


@pytest.mark.parametrize(
    "origin, allowed",
    [
        ("https://a.example.com", True),
        ("https://a.b.example.com", True),
        ("https://example.com", False),
        ("https://evil-example.com", False),
        ("https://a.example.com:8443", False),
        ("http://a.example.com", False),
        ("file://", True),
        ("file:///", False),
        ("capacitor://localhost", True),
        ("capacitor://anything", True),
        ("ionic://localhost", False),
        ("null", True),
    ],
)
def test_patterns_of_origins(serve, origin, allowed):
    server = serve("--allowed-origins", "https://*.example.com,file://,capacitor://,null")
    stream = server.knock(headers=[("Origin", origin)])
    if allowed:
        upgraded(stream, KEY)
    else:
        is_error(stream.response(), 403)


def test_an_upgrade_without_an_origin_is_allowed(serve):
    serve("--allowed-origins", ORIGINS).ws()


def test_two_origins_of_which_one_is_allowed(serve):
    server = serve("--allowed-origins", ORIGINS)
    for pair in (["https://app.example.com", "https://evil.example"], ["https://evil.example", "https://app.example.com"]):
        response = server.knock(headers=[("Origin", origin) for origin in pair]).response()
        assert response.status in (400, 403)


@pytest.mark.parametrize("origin", ["https://a.example", "null", "http://127.0.0.1:1"])
def test_a_star_allows_all_origins(plain, origin):
    plain.ws(headers=[("Origin", origin)])


# -- subprotocols


@pytest.mark.parametrize(
    "offered, confirmed",
    [
        (["wsify.v1"], "wsify.v1"),
        (["wsify.v1, token"], "wsify.v1"),
        (["token, wsify.v1"], "wsify.v1"),
        (["token,other,wsify.v1"], "wsify.v1"),
        (["token", "wsify.v1"], "wsify.v1"),
        (["wsify.v1", "token", "other"], "wsify.v1"),
        (["token"], "token"),
        (["eyJhbGciOiJIUzI1NiJ9.e30.abc_-"], "eyJhbGciOiJIUzI1NiJ9.e30.abc_-"),
        (["wsify.v2"], "wsify.v2"),
        (["WSIFY.V1"], "WSIFY.V1"),
        (["  token  "], "token"),
        (["token, other"], None),
        (["token", "other"], None),
        (["a,b,c"], None),
    ],
)
def test_subprotocols(plain, offered, confirmed):
    ws = plain.ws(headers=[("Sec-WebSocket-Protocol", line) for line in offered])
    assert ws.protocol == confirmed
    channel = fresh()
    ws.join(channel)
    plain.publish(channel, "7")
    ws.hears(f'{{"channel":"{channel}","content":7}}' if confirmed == "wsify.v1" else "7")


# -- a full server


def test_a_full_server_is_503_and_health_is_answered(serve):
    server = serve("--max-connections", "2")
    first, second = server.ws(), server.ws()
    stream = server.knock()
    response = stream.response()
    may_retry(response)
    stream.still_serves(response)
    assert server.call("GET", "/health").json() == {"status": "ok"}
    channel = fresh()
    first.join(channel)
    server.publish(channel, "1")
    first.hears("1")
    second.leaves()
    # The connection no longer counts once the server has read the end of the stream.
    server.ws().join(channel)
    assert server.knock().response().status == 503


def test_upgrades_under_way_count(serve, authorizer):
    server = serve("--max-connections", "2", auth=authorizer)
    server.ws()
    authorizer.hold("connect")
    waiting = server.knock()
    authorizer.asked(2)
    may_retry(server.knock().response())
    authorizer.about()[1].release(403)
    is_error(waiting.response(), 403)
    authorizer.on(200, "connect")
    server.ws()


def test_plain_requests_do_not_count(serve):
    server = serve("--max-connections", "1")
    kept = [server.dial() for _ in range(5)]
    server.ws()
    for stream in kept:
        stream.send(request("GET", "/health"))
        assert stream.response().status == 200
    for stream in kept:
        may_retry(stream.send(upgrade()).response())


def test_a_full_server_does_not_ask_about_upgrades(serve, authorizer):
    server = serve("--max-connections", "1", auth=authorizer)
    server.ws()
    may_retry(server.knock().response())
    assert len(authorizer.about()) == 1


def test_retry_after_is_random(serve):
    server = serve("--max-connections", "1")
    server.ws()
    stream = server.dial()
    seen = set()
    for _ in itertools.repeat(None, 60):
        response = stream.send(upgrade()).response()
        seen.add(may_retry(response))
        if response.closes():
            stream = server.dial()
    assert len(seen) >= 3, f"60 answers of {seen} are not random"
