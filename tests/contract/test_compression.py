"""Compression (docs/protocol.md#compression): what is agreed to, what comes compressed, and what is hostile."""

import json
import os
import random
import zlib

import pytest

from harness.net import until
from harness.ws import BINARY, CLOSE, CONTINUATION, PING, TEXT, closing, command, compressed, deflate, frame, fresh, text

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
MIB = 1 << 20


def users(count):
    """A content that is worth compressing."""
    return json.dumps([{"id": n, "name": f"user-{n}", "online": n % 3 == 0} for n in range(count)])


LARGE = users(60)
assert len(LARGE) > 2048


@pytest.fixture
def on(serve):
    return serve("--compression", "on")


def contents(server, outcome):
    return server.metric(rf'^wsify_compression_contents_total\{{outcome="{outcome}"\}}$')


# -- what is agreed to


@pytest.mark.parametrize(
    "offer, answer",
    [
        ("permessage-deflate", BOTH),
        ("permessage-deflate; client_max_window_bits", BOTH),
        ("permessage-deflate; client_max_window_bits=8", BOTH),
        ('permessage-deflate; client_max_window_bits="15"', BOTH),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", BOTH),
        ("permessage-deflate;client_no_context_takeover", BOTH),
        ("permessage-deflate; server_max_window_bits=15", f"{BOTH}; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=8", f"{BOTH}; server_max_window_bits=8"),
        ('permessage-deflate; server_max_window_bits="12"', f"{BOTH}; server_max_window_bits=12"),
        # The first legal offer.
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", f"{BOTH}; server_max_window_bits=9"),
        ("permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9", f"{BOTH}; server_max_window_bits=9"),
        ("x-webkit-deflate-frame, permessage-deflate", BOTH),
        ('x; y="a, b", permessage-deflate', BOTH),
        # None that is legal.
        ("", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; unknown=1", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover=true", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=7", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=08", None),
        ("permessage-deflate; client_max_window_bits=16", None),
        ("permessage-deflate; client_max_window_bits=", None),
        ("permessage-deflate; client_max_window_bits=\"10", None),
        ("permessage-deflate;", None),
        ('x; y="a, permessage-deflate"', None),
    ],
)
def test_offers(shared_on, offer, answer):
    ws = shared_on.ws(deflate=offer)
    assert ws.extensions == answer
    ws.join(fresh())


@pytest.fixture(scope="module")
def shared_on():
    from harness.server import Server

    server = Server("--compression", "on")
    yield server
    server.finish()


def test_offers_on_several_lines(shared_on):
    lines = ["permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=10", "permessage-deflate"]
    headers = [("Sec-WebSocket-Extensions", line) for line in lines[:2]]
    ws = shared_on.ws(headers=headers, deflate=lines[2])
    assert ws.extensions == f"{BOTH}; server_max_window_bits=10"


def test_without_an_offer_nothing_is_confirmed(shared_on):
    assert shared_on.ws().extensions is None


@pytest.mark.parametrize("flags", [(), ("--compression", "off"), ("--compression", "off", "--compression-min-size", "1")])
def test_without_the_flag_nothing_is_agreed_to(serve, flags):
    server = serve(*flags)
    ws = server.ws(deflate=True).join("a")
    assert ws.extensions is None
    server.publish("a", LARGE)
    assert ws.hear() == LARGE and ws.compressed == 0
    ws.send(compressed(command("leave", "a"))).is_closed(1002)


def test_the_variables(serve):
    server = serve(env={"WSIFY_COMPRESSION": "on", "WSIFY_COMPRESSION_MIN_SIZE": "1KiB"})
    ws = server.ws(deflate=True).join("a")
    server.publish("a", json.dumps("x" * 1021))
    server.publish("a", json.dumps("x" * 1022))
    assert len(ws.hear()) == 1023 and ws.compressed == 0
    assert len(ws.hear()) == 1024 and ws.compressed == 1


# -- what comes compressed


def test_each_member_gets_the_content_as_it_agreed_to(on):
    small = "permessage-deflate; server_max_window_bits=14"
    members = [
        (on.ws(protocols=protocols, deflate=offer).join("a"), protocols, offer)
        for protocols in (None, "wsify.v1")
        for offer in (None, True, small)
        for _ in range(3)
    ]
    on.publish("a", LARGE)
    for ws, protocols, offer in members:
        expected = f'{{"channel":"a","content":{LARGE}}}' if protocols else LARGE
        assert ws.hear() == expected
        assert ws.compressed == (offer is True)
        if offer is True:
            assert ws.squeezed < len(expected) / 3
    assert contents(on, "compressed") == 1, "once for all of them"
    plain = on.metric('^wsify_compression_bytes_total{operation="deflate",form="plain"}$')
    squeezed = on.metric('^wsify_compression_bytes_total{operation="deflate",form="compressed"}$')
    assert plain == len(LARGE) and squeezed < plain / 3
    assert on.metric('^wsify_compression_seconds_total{operation="deflate"}$') > 0


def test_a_content_of_the_least_size_is_compressed_and_smaller_ones_are_not(on):
    ws, v1 = on.ws(deflate=True).join("a"), on.ws(deflate=True, protocols="wsify.v1").join("a")
    for size in (0, 1, 511, 512, 513):
        content = json.dumps("x" * (size - 2)) if size > 1 else "7" * size or "null"
        on.publish("a", content)
        for member in (ws, v1):
            before = member.compressed
            assert content in member.hear()
            assert member.compressed - before == (size >= 512), size
    assert contents(on, "too_small") == 3 and contents(on, "compressed") == 2


def test_what_does_not_get_smaller_is_plain(serve):
    server = serve("--compression", "on", "--compression-min-size", "100")
    ws, v1, other = (server.ws(**how).join("a") for how in ({"deflate": True}, {"deflate": True, "protocols": "wsify.v1"}, {}))
    letters = [chr(n) for n in range(32, 127) if chr(n) not in '"\\']
    noise = '"' + "".join(random.Random(7).choices(letters, k=98)) + '"'
    said = [LARGE, "1", noise, LARGE, noise, "2"]
    for content in said:
        server.publish("a", content)
    for content in said:
        assert ws.hear() == other.hear() == content
        assert content in v1.hear()
    assert ws.compressed == v1.compressed == 2
    assert [contents(server, outcome) for outcome in ("compressed", "not_smaller", "too_small")] == [2, 2, 2]


def test_many_contents_that_do_not_get_smaller(serve):
    server = serve("--compression", "on", "--compression-min-size", "100")
    ws, sender = server.ws(deflate=True).join("a"), server.ws()
    letters = [chr(n) for n in range(32, 127) if chr(n) not in '"\\']
    said = ['"' + "".join(random.Random(n).choices(letters, k=98 + n % 300)) + '"' for n in range(2000)] + [LARGE]
    sender.send(b"".join(text(command("broadcast", "a", content)) for content in said))
    ws.hears(*said)


def test_the_order_is_kept_between_plain_and_compressed(on):
    members = [on.ws(deflate=offer).join("a") for offer in (True, None)]
    sender = on.ws()
    said = [users(n % 40) for n in range(200)]
    sender.send(b"".join(text(command("broadcast", "a", content)) for content in said))
    for ws in members:
        ws.hears(*said)
    assert 0 < members[0].compressed < len(said)


def test_answers_and_errors_are_plain(on):
    ws = on.ws(deflate=True, protocols="wsify.v1")
    id = "i" * 2000
    ws.send(compressed(command("join", "a", id=id)))
    assert ws.answer() == {"id": id, "ok": True}
    assert ws.ask(command("nothing", "a", id=id))["error"]["code"] == "unknown_command"
    assert ws.compressed == 0


def test_no_message_refers_to_an_earlier_one(on):
    """Each is inflated by a decoder of its own (harness/ws.py), in any order."""
    ws = on.ws(deflate=True).join("a")
    for _ in range(5):
        on.publish("a", LARGE)
        assert ws.hear() == LARGE
    assert ws.compressed == 5 and ws.squeezed % 5 == 0, "every one has the same bytes"


def test_a_megabyte(on):
    ws = on.ws(deflate=True, protocols="wsify.v1").join("a")
    content = json.dumps([{"n": n, "text": "é€🦀"} for n in range(28_000)], ensure_ascii=False)
    assert MIB * 0.9 < len(content.encode()) < MIB - 100
    on.ws(deflate=True).send(compressed(command("broadcast", "a", content)))
    assert ws.hear() == f'{{"channel":"a","content":{content}}}'
    assert ws.compressed == 1


def test_a_join_and_a_leave_among_contents(on):
    sender, ws = on.ws(), on.ws(deflate=True)
    batch = b"".join(text(command("broadcast", "a", users(30 + n))) for n in range(20))
    for _ in range(5):
        ws.join("a")
        sender.send(batch + text(command("broadcast", "a", '"end"')))
        ws.hears(*[users(30 + n) for n in range(20)], '"end"')
        ws.leave("a")
        sender.send(batch)
        sender.is_quiet()
    ws.is_quiet()


# -- what clients send


@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; server_max_window_bits=9"])
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_compressed_messages(shared_on, kind, offer, level):
    ws, channel = shared_on.ws(deflate=offer), fresh()
    ws.join(channel)
    message = command("broadcast", channel, LARGE)
    ws.send(frame(kind, deflate(message, level), rsv=4)).hears(LARGE)
    ws.say(message).hears(LARGE)


@pytest.mark.parametrize("arrival", ["whole", "drip"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_compressed_fragments(shared_on, arrival, size):
    ws = shared_on.ws(deflate=True)
    payload = deflate(command("join", fresh(), id=1))
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    frames = [
        frame(TEXT if n == 0 else CONTINUATION, part, fin=False, rsv=0 if n else 4) + frame(PING, str(n).encode())
        for n, part in enumerate(parts)
    ]
    data = b"".join(frames) + frame(CONTINUATION)
    ws.stream.drip(data) if arrival == "drip" else ws.send(data)
    for n in range(len(parts)):
        assert ws.next().payload == str(n).encode()
    assert ws.answer() == {"id": 1, "ok": True}


def test_blocks_marked_as_the_last(shared_on):
    """RFC 7692 section 7.2.3.4: several, too, and with the empty block behind them or without it."""
    ws, message = shared_on.ws(deflate=True), command("join", fresh(), id=1)
    for halves in ([message], [message[:20], message[20:]]):
        payload = b""
        for half in halves:
            stream = zlib.compressobj(wbits=-15)
            payload += stream.compress(half.encode()) + stream.flush(zlib.Z_FINISH)
        for end in (b"", b"\0"):
            ws.send(frame(TEXT, payload + end, rsv=4))
            assert ws.answer() == {"id": 1, "ok": True}


def test_an_empty_message(shared_on):
    ws = shared_on.ws(deflate=True)
    for payload in (b"\0", b"\2\0"):
        ws.send(frame(TEXT, payload, rsv=4))
        assert ws.answer()["error"]["code"] == "bad_message"


def test_the_authorizer_sees_what_was_inflated(serve, authorizer):
    server = serve("--compression", "on", auth=authorizer)
    ws = server.ws(deflate=True)
    ws.send(compressed(command("broadcast", "a", LARGE, id=1)) + compressed(command("leave", "a", id=2)))
    assert ws.answer() == {"id": 1, "ok": True} and ws.answer() == {"id": 2, "ok": True}
    assert authorizer.about("broadcast")[0].args["content"] == json.loads(LARGE)


# -- what is hostile


HALF = deflate(command("join", "a"))
HELLO = bytes.fromhex("f248cdc9c90700")


@pytest.mark.parametrize(
    "name, code, bytes",
    [
        ("RSV1 on a continuation", 1002, frame(TEXT, HALF[:5], fin=False, rsv=4) + frame(CONTINUATION, HALF[5:], rsv=4)),
        ("RSV1 on a continuation of a plain message", 1002, frame(TEXT, b"{", fin=False) + frame(CONTINUATION, HALF, rsv=4)),
        ("RSV1 on a ping", 1002, frame(PING, b"", rsv=4)),
        ("RSV1 on a close", 1002, frame(CLOSE, b"\x03\xe8", rsv=4)),
        ("RSV1 on a stray continuation", 1002, frame(CONTINUATION, HALF, rsv=4)),
        ("RSV2", 1002, frame(TEXT, HALF, rsv=2)),
        ("RSV1 and RSV3", 1002, frame(TEXT, HALF, rsv=5)),
        ("a message within another", 1002, frame(TEXT, HALF[:5], fin=False, rsv=4) + frame(TEXT, HALF, rsv=4)),
        ("garbage", 1007, frame(TEXT, b"\xff" * 50, rsv=4)),
        ("garbage in a binary", 1007, frame(BINARY, b"\xff" * 50, rsv=4)),
        ("plain text", 1007, frame(TEXT, b'{"command":"join"}', rsv=4)),
        ("no bytes", 1007, frame(TEXT, b"", rsv=4)),
        ("a byte too few", 1007, frame(TEXT, HELLO[:-1], rsv=4)),
        ("half", 1007, frame(TEXT, HALF[: len(HALF) // 2], rsv=4)),
        ("half in fragments", 1007, frame(TEXT, HALF[:3], fin=False, rsv=4) + frame(CONTINUATION, HALF[3:9])),
        ("with its tail", 1007, frame(TEXT, HELLO + b"\0\0\xff\xff", rsv=4)),
        ("a window of an earlier message", 1007, frame(BINARY, HELLO, rsv=4) + frame(BINARY, bytes.fromhex("f200110000"), rsv=4)),
        ("a stored block that is cut", 1007, frame(TEXT, bytes.fromhex("000500faff48"), rsv=4)),
        ("no UTF-8", 1007, compressed(b'"\xff"')),
        ("half a character", 1007, compressed(b'"\xc3')),
        ("a bomb", 1009, compressed(b" " * (MIB + 1))),
        ("a large bomb", 1009, compressed(b"\0" * (100 * MIB), opcode=BINARY)),
        ("a bomb that is no text", 1009, frame(BINARY, deflate(b"\xff" * (2 * MIB)), rsv=4)),
        ("noise beyond the limit", 1009, frame(BINARY, deflate(os.urandom(2 * MIB), 0), rsv=4)),
        ("a length beyond the limit", 1009, frame(BINARY, b"", rsv=4, declared=2 * MIB)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_violations(shared_on, name, code, bytes):
    ws = shared_on.ws(deflate=True)
    ws.send(bytes)
    if name.startswith("a window"):
        assert ws.answer()["error"]["code"] == "bad_message"
    ws.is_closed(code)


def test_a_bomb_in_fragments(shared_on):
    payload = deflate(b" " * (64 * MIB))
    ws = shared_on.ws(deflate=True)
    ws.send(frame(TEXT, payload[:1], fin=False, rsv=4))
    ws.send(b"".join(frame(CONTINUATION, payload[at : at + 1000], fin=False) for at in range(1, len(payload), 1000)))
    ws.send(frame(CONTINUATION))
    ws.is_closed(1009)


def test_the_limit_is_that_of_the_message_not_of_its_compressed_form(serve):
    server = serve("--compression", "on", "--max-message-size", "4KiB")
    ws = server.ws(deflate=True).join("a")
    start = command("broadcast", "a", '"')[:-2]
    exact = start + "x" * (4096 - len(start) - 3) + '"}}'
    assert len(exact) == 4096
    ws.send(compressed(exact))
    assert ws.hear() == exact[len(start) - 1 : -2]
    # What cannot be compressed is a little larger then.
    noise = "".join(random.Random(1).choices("0123456789abcdef", k=4096 - len(start) - 3))
    stored = frame(TEXT, deflate(start + noise + '"}}', 0), rsv=4)
    assert len(stored) > 4096
    ws.send(stored)
    assert noise in ws.hear()
    ws.send(compressed(exact + " ")).is_closed(1009)


def test_bombs_take_no_memory(on):
    bomb = compressed(b"\0" * (200 * MIB), opcode=BINARY)
    on.ws(deflate=True).send(bomb).is_closed(1009)
    before = on.memory()
    for _ in range(30):
        on.ws(deflate=True).send(bomb).is_closed(1009)
    grown = [now - then for now, then in zip(on.memory(), before)]
    assert max(grown) < 8 * MIB, grown


def test_a_connection_owns_no_window(on):
    """Compressors and inflaters take 300 KB; a thousand connections that have used both take next to nothing."""
    def used():
        ws = on.ws(deflate=True)
        ws.send(compressed(command("join", "a", id=1)))
        assert ws.answer()["ok"]
        return ws

    first = [used() for _ in range(100)]
    on.publish("a", LARGE)
    before = on.memory()[0]
    more = [used() for _ in range(1000)]
    on.publish("a", LARGE)
    for ws in first:
        ws.hears(LARGE, LARGE)
    for ws in more:
        ws.hears(LARGE)
    grown = on.memory()[0] - before
    assert grown < 4 * MIB, f"{grown} bytes for 1,000 connections"


def test_messages_that_are_large_when_inflated_do_not_delay_others(on):
    """Each client sends 64 messages of a kilobyte that are a mebibyte, and no JSON."""
    message = compressed(b" " * MIB)
    hostile = [on.ws(deflate=True) for _ in range(5)]
    other = on.ws()
    for ws in hostile:
        ws.send(message * 64)
    for _ in range(20):
        other.ping()
    for ws in hostile:
        for _ in range(64):
            assert ws.answer()["error"]["code"] == "bad_message"
    assert on.metric("^wsify_compression_messages_total$") == 320


def test_a_close_and_half_a_message_before_it(shared_on):
    ws = shared_on.ws(deflate=True)
    ws.send(frame(TEXT, HALF[:5], fin=False, rsv=4) + closing(1000))
    assert ws.close_frame()[0] == 1000
    ws.stream.at_end()


def test_violations_are_logged_and_counted(serve):
    server = serve("--compression", "on")
    server.ws(deflate=True).send(frame(TEXT, b"\xff" * 50, rsv=4)).is_closed(1007)
    assert "compressed data" in server.logged("invalid_data")
    assert until(lambda: server.metric('^wsify_connections_ended_total{reason="invalid_data"}$') == 1, "it is counted")
