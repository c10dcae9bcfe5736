"""Frames, fragments, control frames and closing (RFC 6455; docs/protocol.md#closing, docs/protocol.md#violations)."""

import struct

import pytest

from harness.net import until
from harness.server import upgrade
from harness.ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, closing, command, frame, fresh, text

JOIN = command("join", "frames", id=1).encode()
OK = {"id": 1, "ok": True}


# -- fragments


@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("cuts", [[5], [0], [0, 0, 5, 5], list(range(1, len(JOIN))), [len(JOIN)]])
@pytest.mark.parametrize("arrival", ["whole", "drip"])
def test_fragments(plain, kind, cuts, arrival):
    edges = [0, *cuts, len(JOIN)]
    parts = [JOIN[a:b] for a, b in zip(edges, edges[1:])]
    frames = [frame(kind if i == 0 else CONTINUATION, part, fin=i == len(parts) - 1) for i, part in enumerate(parts)]
    ws = plain.ws()
    data = b"".join(frames) + text(JOIN)
    ws.stream.drip(data) if arrival == "drip" else ws.send(data)
    assert ws.answer() == OK
    assert ws.answer() == OK


@pytest.mark.parametrize("arrival", ["whole", "drip"])
def test_control_frames_between_fragments(plain, arrival):
    ws = plain.ws()
    data = (
        frame(TEXT, JOIN[:3], fin=False) + frame(PING, b"one") + frame(PONG, b"unsolicited") + frame(CONTINUATION, JOIN[3:9], fin=False)
        + frame(PING, b"two") + frame(CONTINUATION, JOIN[9:])
    )
    ws.stream.drip(data) if arrival == "drip" else ws.send(data)
    for payload in (b"one", b"two"):
        got = ws.next_frame()
        assert (got.opcode, got.payload) == (PONG, payload)
    assert ws.answer() == OK


def test_a_ping_between_fragments_is_answered_before_the_message_is_complete(plain):
    ws = plain.ws().send(frame(TEXT, JOIN[:3], fin=False)).ping(b"now")
    ws.send(frame(CONTINUATION, JOIN[3:]))
    assert ws.answer() == OK


def test_twenty_thousand_fragments(plain):
    ws = plain.ws()
    body = JOIN + b" " * 20_000
    ws.send(frame(TEXT, b"", fin=False) + b"".join(frame(CONTINUATION, body[i : i + 1], fin=False, key=b"abcd") for i in range(len(body))))
    ws.send(frame(CONTINUATION))
    assert ws.answer() == OK


# -- pings and pongs


@pytest.mark.parametrize("size", [0, 1, 60, 124, 125])
def test_a_ping_is_answered(plain, size):
    plain.ws().ping(bytes(range(size)))


def test_pings_are_answered_in_order_among_messages(plain):
    ws = plain.ws()
    ws.send(frame(PING, b"1") + text(command("nothing", id="a")) + frame(PING, b"2"))
    seen = [ws.next_frame() for _ in range(3)]
    assert [f.opcode for f in seen] == [PONG, TEXT, PONG]


def test_many_pings_at_once(plain):
    ws = plain.ws()
    ws.send(b"".join(frame(PING, str(i).encode()) for i in range(500)))
    answers = [ws.next_frame().payload for _ in range(1)]
    while answers[-1] != b"499":
        answers.append(ws.next_frame().payload)
    # RFC 6455 5.5.3: a pong for the latest ping would be enough.
    assert answers == sorted(answers, key=int)


def test_unsolicited_pongs(plain):
    plain.ws().send(frame(PONG) + frame(PONG, b"x" * 125)).is_quiet()


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
def test_any_masking_key(plain, key):
    ws = plain.ws().send(frame(TEXT, JOIN, key=key))
    assert ws.answer() == OK


# -- violations of RFC 6455


def header(first, second, rest=b""):
    return bytes([first, second]) + rest


BROKEN = {
    "unmasked text": frame(TEXT, JOIN, mask=False),
    "unmasked empty text": frame(TEXT, b"", mask=False),
    "unmasked ping": frame(PING, b"x", mask=False),
    "unmasked close": frame(CLOSE, b"\x03\xe8", mask=False),
    "unmasked continuation": frame(TEXT, JOIN[:3], fin=False) + frame(CONTINUATION, JOIN[3:], mask=False),
    **{f"rsv {rsv}": frame(TEXT, JOIN, rsv=rsv) for rsv in range(1, 8)},
    **{f"rsv {rsv} on a ping": frame(PING, b"x", rsv=rsv) for rsv in (1, 2, 4)},
    "rsv on a close": frame(CLOSE, b"\x03\xe8", rsv=4),
    "rsv on a continuation": frame(TEXT, JOIN[:3], fin=False) + frame(CONTINUATION, JOIN[3:], rsv=4),
    **{f"opcode {op}": frame(op, b"x") for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "opcode 3, empty": frame(3),
    "opcode 11 between fragments": frame(TEXT, JOIN[:3], fin=False) + frame(11, b""),
    "fragmented ping": frame(PING, b"x", fin=False),
    "fragmented pong": frame(PONG, b"", fin=False),
    "fragmented close": frame(CLOSE, b"\x03\xe8", fin=False),
    "ping of 126": frame(PING, b"x" * 126),
    "pong of 126": frame(PONG, b"x" * 126),
    "close of 126": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "ping of 65536": frame(PING, b"x" * 65536),
    "ping with a 64-bit length": frame(PING, b"x" * 5, form=64),
    "continuation of nothing": frame(CONTINUATION, JOIN),
    "continuation of nothing, unfinished": frame(CONTINUATION, JOIN, fin=False),
    "empty continuation of nothing": frame(CONTINUATION),
    "continuation behind a whole message": frame(PING, b"") + frame(CONTINUATION, b"x"),
    "a message within a message": frame(TEXT, JOIN[:3], fin=False) + frame(TEXT, JOIN[3:]),
    "binary within text": frame(TEXT, JOIN[:3], fin=False) + frame(BINARY, JOIN[3:]),
    "an unfinished message within a message": frame(BINARY, JOIN[:3], fin=False) + frame(TEXT, JOIN[3:], fin=False),
    "16 bits for 0": frame(TEXT, b"", form=16),
    "16 bits for 125": frame(TEXT, b" " * 125, form=16),
    "64 bits for 0": frame(TEXT, b"", form=64),
    "64 bits for 125": frame(TEXT, b" " * 125, form=64),
    "64 bits for 126": frame(TEXT, b" " * 126, form=64),
    "64 bits for 65535": frame(TEXT, b" " * 65535, form=64),
    "16 bits for a ping of 5": frame(PING, b"x" * 5, form=16),
    "16 bits for a close of 2": frame(CLOSE, b"\x03\xe8", form=16),
    "close of one byte": frame(CLOSE, b"\x03"),
    **{
        f"close code {code}": closing(code)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, 9999, 65535)
    },
    "close code 1005 with a reason": closing(1005, b"bye"),
    "a bad code behind a bad ping": frame(PING, b"", fin=False) + closing(1000),
}


@pytest.mark.parametrize("arrival", ["whole", "drip", "trailing"])
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_frame_is_1002(plain, what, arrival):
    channel = fresh()
    witness = plain.ws().join(channel)
    ws = plain.ws().join(channel)
    after = text(command("broadcast", channel, '"after"'))
    before = text(command("broadcast", channel, '"before"'))
    if arrival == "whole":
        ws.stream.pour(before + BROKEN[what])
    elif arrival == "trailing":
        ws.stream.pour(before + BROKEN[what] + after)
    else:
        if len(BROKEN[what]) > 1000:
            pytest.skip("too long for single bytes")
        ws.send(before)
        try:
            ws.stream.drip(BROKEN[what])
        except (BrokenPipeError, ConnectionResetError):
            pass
    heard = []
    while (got := ws.next_frame()).opcode != CLOSE:
        heard += [got.payload] if got.opcode == TEXT else []
    assert heard == [b'"before"']
    assert got.opcode == CLOSE and struct.unpack("!H", got.payload[:2])[0] == 1002, got
    assert got.payload[2:].decode("utf-8"), "every close carries a short reason"
    ws.stream.pour(closing(1002))
    ws.stream.at_end()
    plain.publish(channel, '"marker"')
    witness.hears('"before"', '"marker"')


@pytest.mark.parametrize(
    "head",
    [header(0x83, 0x80), header(0xC1, 0x80), header(0x81, 0x05), header(0x09, 0x80), header(0x89, 0xFE), header(0x80, 0x85),
     header(0x81, 0xFE, b"\0\x7d"), header(0x81, 0xFF, struct.pack("!Q", 65535))],
    ids=["opcode", "rsv", "unmasked", "fragmented ping", "long ping", "continuation", "16 bits", "64 bits"],
)
def test_a_broken_frame_is_refused_by_its_header(plain, head):
    """The payload may never come, so the server must not wait for it."""
    plain.ws().send(head).is_closed(1002)


@pytest.mark.parametrize("declared", [1 << 63, (1 << 63) - 1, (1 << 64) - 1, 1 << 62, (1 << 63) + 5, 1 << 32, (1 << 32) + 5, (1 << 20) + 1])
@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_a_declared_length_that_is_too_much(plain, declared, kind):
    plain.ws().send(frame(kind, declared=declared)).is_closed(1009)


def test_a_declared_length_that_is_too_much_for_a_continuation(plain):
    plain.ws().send(frame(TEXT, b"{", fin=False) + frame(CONTINUATION, declared=(1 << 64) - 1)).is_closed(1009)


def test_no_memory_is_allocated_for_payload_that_has_not_arrived(serve):
    server = serve()
    server.ws().join("warm").is_quiet()
    before = server.memory()
    crowd = [server.ws() for _ in range(300)]
    for ws in crowd:
        ws.send(frame(TEXT, b"x" * 10, declared=1 << 20))
        # A second, whole frame cannot follow; that the first part was read shows in the next connection's answer.
    for ws in crowd[:5]:
        server.ws().is_quiet()
    grown = [now - then for now, then in zip(server.memory(), before)]
    assert max(grown) < 40 << 20, f"{grown} bytes (resident, data) for 300 announced MiB"


# -- UTF-8

INVALID = {
    "a stray byte": b"\xff",
    "a lone continuation byte": b"\x80",
    "an overlong slash": b"\xc0\xaf",
    "an overlong NUL": b"\xe0\x80\x80",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "cut short by ASCII": b"\xe2\x82x",
}


@pytest.mark.parametrize("arrival", ["whole", "drip", "trailing"])
@pytest.mark.parametrize("what", INVALID)
def test_invalid_utf8_in_text_is_1007(plain, what, arrival):
    ws = plain.ws()
    data = frame(TEXT, b'{"command":"join","args":{"channel":"' + INVALID[what] + b'"}}')
    if arrival == "drip":
        try:
            ws.stream.drip(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
    else:
        ws.stream.pour(data + (text(JOIN) if arrival == "trailing" else b""))
    ws.is_closed(1007)


def test_text_that_ends_within_a_character_is_1007(plain):
    for tail in (b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"):
        plain.ws().send(frame(TEXT, b'"' + tail)).is_closed(1007)
        plain.ws().send(frame(TEXT, b'"' + tail, fin=False) + frame(CONTINUATION)).is_closed(1007)


@pytest.mark.parametrize("what", INVALID)
def test_invalid_utf8_fails_in_its_fragment(plain, what):
    plain.ws().send(frame(TEXT, b"abc" + INVALID[what], fin=False)).is_closed(1007)


def test_invalid_utf8_fails_across_fragments(plain):
    plain.ws().send(frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x82", fin=False) + frame(CONTINUATION, b"x", fin=False)).is_closed(1007)


@pytest.mark.parametrize("what", INVALID)
def test_invalid_utf8_fails_within_its_frame(plain, what):
    """Only a part of the frame has come."""
    whole = frame(TEXT, b"abc" + INVALID[what] + b"." * 100)
    plain.ws().send(whole[: 6 + 3 + len(INVALID[what])]).is_closed(1007)


def test_characters_cut_by_fragments_and_by_arrivals(plain):
    channel = fresh()
    ws = plain.ws().join(channel)
    content = '"aé€😀"'
    data = command("broadcast", channel, content).encode()
    ws.send(b"".join(frame(TEXT if i == 0 else CONTINUATION, data[i : i + 1], fin=i == len(data) - 1) for i in range(len(data))))
    ws.hears(content)
    ws.stream.drip(text(data))
    ws.hears(content)


def test_a_ping_may_have_any_bytes(plain):
    plain.ws().ping(b"\xff\xfe\x80")


# -- closing


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
@pytest.mark.parametrize("reason", [b"", "tschüß".encode()])
def test_a_close_code_is_echoed(plain, code, reason):
    plain.ws().leaves(code, reason)


def test_the_longest_reason(plain):
    plain.ws().leaves(4000, b"r" * 123)


def test_an_empty_close_is_answered_with_1000(plain):
    """A browser's close() sends an empty close frame. An empty answer would end it with 1005."""
    ws = plain.ws().send(frame(CLOSE))
    code, reason = ws.close_frame()
    assert code == 1000 and reason
    ws.stream.at_end()


@pytest.mark.parametrize("reason", list(INVALID.values()) + [b"caf\xc3"])
def test_a_close_reason_that_is_not_utf8_is_1007(plain, reason):
    plain.ws().send(closing(1000, reason)).is_closed(1007)


def test_a_close_byte_by_byte(plain):
    ws = plain.ws()
    ws.stream.drip(closing(4001, b"bye"))
    assert ws.close_frame()[0] == 4001
    ws.stream.at_end()


def test_a_close_between_fragments(plain):
    plain.ws().send(frame(TEXT, b"{", fin=False)).leaves(1000)


def test_commands_before_a_close_have_effect_and_those_behind_do_not(plain):
    channel = fresh()
    witness = plain.ws().join(channel)
    ws = plain.ws()
    ws.send(text(command("broadcast", channel, "1")) + text(command("broadcast", channel, "2")) + closing(1000) + text(command("broadcast", channel, "3")))
    assert ws.close_frame()[0] == 1000
    ws.stream.at_end()
    plain.publish(channel, "4")
    witness.hears("1", "2", "4")


def test_the_server_hangs_up_first(plain):
    """RFC 6455 7.1.1: the server closes the TCP connection first."""
    ws = plain.ws().send(closing(1000))
    assert ws.close_frame()[0] == 1000
    ws.stream.at_end()


def test_two_closes(plain):
    ws = plain.ws().send(closing(1000) + closing(1001))
    assert ws.close_frame()[0] == 1000
    ws.stream.at_end()


def test_a_hang_up_without_a_close(plain):
    channel = fresh()
    witness = plain.ws().join(channel)
    for end in ("half_close", "reset", "close"):
        ws = plain.ws().send(text(command("broadcast", channel, "1")))
        ws.is_quiet()
        getattr(ws.stream, end)()
        if end == "half_close":
            ws.stream.rest()
        witness.hears("1")


def test_a_client_that_has_shut_down_its_sending_side_receives_its_answers(plain):
    """As `nc -N` does at the end of its input."""
    channel = fresh()
    joins = text(command("join", channel, id=1)) + text(command("broadcast", channel, "1")) + text("x")
    for behind in (False, True):
        stream = plain.dial().send(upgrade() + (joins if behind else b""))
        if not behind:
            stream.head()
            stream.send(joins)
        got = stream.half_close().rest()
        assert behind == got.startswith(b"HTTP/1.1 101 "), got
        for part in (b'{"id":1,"ok":true}', b"\x81\x011", b'"code":"bad_message"'):
            assert got.count(part) == 1, got


def test_a_hang_up_within_a_frame(plain):
    for data in (frame(TEXT, JOIN)[:1], frame(TEXT, JOIN)[:10], frame(TEXT, JOIN, fin=False)):
        ws = plain.ws().send(data)
        ws.stream.half_close()
        ws.stream.rest()
    plain.ws().is_quiet()


def test_a_client_that_does_not_answer_a_close_is_disconnected(plain):
    """RFC 6455 7.1.7: after its close frame the server may hang up. It must not wait for ever."""
    ws = plain.ws().send(frame(3))
    assert ws.close_frame()[0] == 1002
    ws.stream.at_end()


# -- silence


def test_a_silent_client_is_pinged_and_then_disconnected(serve):
    ws = serve("--ping-interval", "300ms").ws()
    ws.answers_pings = False
    got = ws.next_frame()
    assert got.opcode == PING
    rest = ws.stream.rest()
    assert len(rest) == 0 or rest[0] == 0x88, f"nothing but the end, or a close: {rest}"


def test_pongs_keep_a_client(serve):
    server = serve("--ping-interval", "200ms")
    ws = server.ws()
    while ws.pings < 4:
        got = ws.next_frame()
        assert got.opcode == PING
        ws.pings += 1
        ws.send(frame(PONG, got.payload))
    ws.is_quiet()


def test_any_byte_keeps_a_client(serve):
    """Never a pong, but a byte of an unfinished frame for each ping."""
    ws = serve("--ping-interval", "200ms").ws()
    data = text(command("join", "drips", id=1))
    for i in range(5):
        ws.send(data[i : i + 1])
        assert ws.next_frame().opcode == PING
    ws.answers_pings = False
    ws.send(data[5:])
    assert ws.answer() == OK


def test_a_client_that_sends_is_not_pinged(serve):
    """Only received bytes count: a member that only listens is pinged, a client that sends is not."""
    server = serve("--ping-interval", "1s")
    listener, talker = server.ws().join("talk"), server.ws()
    while not listener.pings:
        talker.broadcast("talk", "1")
        listener.hear()
    assert talker.pings == 0


def test_a_client_with_a_pending_verdict_is_not_silent(serve, authorizer):
    """The server does not read during a question, so it cannot know whether the client is alive."""
    server = serve("--ping-interval", "200ms", auth=authorizer)
    clock, ws = server.ws(), server.ws()
    authorizer.hold("join")
    ws.say(command("join", "x", id=1))
    question = authorizer.asked(1, "join")[0]
    for _ in range(6):
        tick(clock)
    question.release()
    assert ws.answer() == OK
    ws.is_quiet()


def tick(clock):
    """Waits for one ping of the server, to measure its interval, and answers it."""
    got = clock.next_frame()
    assert got.opcode == PING
    clock.send(frame(PONG, got.payload))


def test_a_ping_interval_of_zero_means_no_pings(serve):
    """At least it does not mean "at once"."""
    ws = serve("--ping-interval", "0").ws()
    for _ in range(100):
        ws.is_quiet()
    assert ws.pings == 0


# -- slow readers (test_hostile.py has more)


def test_an_empty_queue_takes_any_message(serve):
    server = serve("--max-queue-size", "1KiB")
    ws = server.ws(rcvbuf=4096).join("big")
    content = "1" * 900_000
    server.publish("big", content)
    assert ws.hear() == content
    ws.is_quiet()


def test_a_frame_in_the_longest_form_is_read(plain):
    channel = fresh()
    ws = plain.ws().join(channel)
    data = command("broadcast", channel, '"' + "x" * 65400 + '"')
    for padding in (65535 - len(data), 65536 - len(data), 65537 - len(data)):
        ws.say(data + " " * padding)
        assert len(ws.hear()) == 65402


def test_closed_connections_are_not_leaked(serve):
    """The gauge of connections goes back to 0."""
    server = serve()
    for ending in ("leaves", "hang_up", "reset"):
        for _ in range(20):
            getattr(server.ws(), ending)()
    server.ws().send(frame(3)).is_closed(1002)
    until(lambda: server.metric(r"^\w*connections(\{.*websocket.*\})?$") == 0, "the gauge of connections is 0 again")
