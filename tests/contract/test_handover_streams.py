"""Replacing the running program: what is half read or half sent goes on (docs/operating.md#replacing-the-program)."""

import json

import pytest

from harness.handover import ask, hand_over, handed_over, script
from harness.net import chunked, is_error, request, until
from harness.server import KEY
from harness.ws import CONTINUATION, PING, PONG, TEXT, closing, command, compressed, deflate, frame, text, upgraded

JSON = ("Content-Type", "application/json")


def post(content, channel="x", **more):
    return request("POST", "/broadcast", [JSON], f'{{"channel":"{channel}","content":{content}}}'.encode(), **more)


def post_chunked(*parts):
    return request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")], chunked(*parts), length=False)


def is_read(server):
    """What was sent before is read by now: the server has answered something later."""
    assert server.call("GET", "/health").status == 200


def torn(server, streams):
    """`streams`: (stream, data, where it is cut). Sends the first parts, replaces the program, and sends the rest one after the
    other; yields each stream then."""
    for stream, data, cut in streams:
        stream.send(data[:cut])
    is_read(server)
    hand_over(server)
    for stream, data, cut in streams:
        stream.send(data[cut:])
        yield stream


# -- frames


def test_a_frame_is_cut_anywhere(serve):
    server = serve()
    witness = server.ws().join("x")
    cases = []
    for size in (10, 300, 70_000):
        content = '"' + "x" * size + '"'
        whole = len(text(command("broadcast", "x", content, id=1)))
        cuts = range(1, whole) if size == 10 else [*range(1, 17), whole // 2, whole - 1]
        cases += [(content, cut) for cut in cuts]
    clients = [server.ws() for _ in cases]
    streams = [
        (ws.stream, text(command("broadcast", "x", content, id=n)), cut) for n, (ws, (content, cut)) in enumerate(zip(clients, cases))
    ]
    for n, _ in enumerate(torn(server, streams)):
        assert clients[n].answer() == {"id": n, "ok": True}
        witness.hears(cases[n][0])
    for ws in (*clients, witness):
        ws.is_quiet()


def test_a_control_frame_is_cut_anywhere(serve):
    server = serve()
    ping, close = frame(PING, b"are you there"), closing(4000, b"done")
    cases = [(ping, cut) for cut in range(1, len(ping))] + [(close, cut) for cut in range(1, len(close))]
    clients = [server.ws() for _ in cases]
    for n, _ in enumerate(torn(server, [(ws.stream, *case) for ws, case in zip(clients, cases)])):
        if cases[n][0] is ping:
            got = clients[n].next()
            assert (got.opcode, got.payload) == (PONG, b"are you there")
            clients[n].is_quiet()
        else:
            assert clients[n].close_frame()[0] == 4000
            clients[n].stream.at_end()


def test_fragments_with_a_replacement_between_them(serve):
    """One cut is within a character: the check of the UTF-8 goes over, too."""
    server = serve()
    good, bad, wrong = (server.ws().join("x") for _ in range(3))
    message = command("broadcast", "x", '"é"', id=1).encode()
    within = message.index("é".encode()) + 1
    for ws in (good, bad, wrong):
        ws.send(frame(TEXT, message[:7], fin=False))
    is_read(server)
    hand_over(server)
    for ws in (good, bad, wrong):
        ws.ping()
        ws.send(frame(CONTINUATION, message[7:within], fin=False))
    is_read(server)
    hand_over(server)
    bad.send(frame(CONTINUATION, b'"}}')).is_closed(1007)
    wrong.send(text("{}")).is_closed(1002)
    good.send(frame(CONTINUATION, message[within:]))
    assert good.answer() == {"id": 1, "ok": True}
    good.hears('"é"')
    good.is_quiet()


def test_a_long_message_in_parts_has_the_limit_it_had(serve):
    server = serve("--max-message-size", "200000")
    good, big = server.ws().join("x"), server.ws()
    message = command("broadcast", "x", '"' + "x" * 199_000 + '"').encode()
    for ws in (good, big):
        ws.send(frame(TEXT, message[:120_000], fin=False))
    is_read(server)
    hand_over(server)
    big.send(frame(CONTINUATION, message[:80_001])).is_closed(1009)
    good.send(frame(CONTINUATION, message[120_000:150_000], fin=False))
    hand_over(server)
    good.send(frame(CONTINUATION, message[150_000:])).hears('"' + "x" * 199_000 + '"')


def test_bytes_behind_a_close_frame(serve):
    """The handshake of a close goes on: the server has sent its frame, the client's is due."""
    server = serve()
    ws = server.ws()
    ws.send(frame(11))
    code, _ = ws.close_frame()
    hand_over(server)
    assert code == 1002
    ws.send(closing(1002)).stream.at_end()


# -- compression


@pytest.fixture
def compressing(serve):
    return serve("--compression", "on", "--compression-min-size", "1")


CONTENT = json.dumps([{"user": f"user-{n}", "é": n} for n in range(100)])


def test_compressed_messages_are_cut(compressing):
    data = compressed(command("broadcast", "x", CONTENT, id=1))
    cuts = [*range(1, 12), len(data) // 3, len(data) // 2, len(data) - 1]
    clients = [compressing.ws(deflate=True) for _ in cuts]
    witness, plain = compressing.ws(deflate=True).join("x"), compressing.ws().join("x")
    for n, _ in enumerate(torn(compressing, [(ws.stream, data, cut) for ws, cut in zip(clients, cuts)])):
        assert clients[n].answer() == {"id": 1, "ok": True}
        witness.hears(CONTENT)
        plain.hears(CONTENT)
    assert witness.compressed == len(cuts) and plain.compressed == 0


def test_compressed_fragments(compressing):
    ws, other = compressing.ws(deflate=True).join("x"), compressing.ws(deflate=True)
    payload = deflate(command("broadcast", "x", CONTENT))
    ws.send(frame(TEXT, payload[:50], fin=False, rsv=4))
    other.send(frame(TEXT, b"\xff\xff\xff", fin=False, rsv=4))
    is_read(compressing)
    hand_over(compressing)
    ws.ping().send(frame(CONTINUATION, payload[50:120], fin=False))
    hand_over(compressing)
    ws.send(frame(CONTINUATION, payload[120:])).hears(CONTENT)
    assert ws.compressed == 1
    other.send(frame(CONTINUATION, b"\xff")).is_closed(1007)


def test_what_was_inflated_before_counts(compressing):
    ws = compressing.ws(deflate=True)
    payload = deflate(command("broadcast", "x", '"' + "x" * (2 << 20) + '"'))
    ws.send(frame(TEXT, payload[: len(payload) * 2 // 5], fin=False, rsv=4))
    is_read(compressing)
    hand_over(compressing)
    ws.send(frame(CONTINUATION, payload[len(payload) * 2 // 5 : len(payload) * 3 // 5])).is_closed(1009)


def test_what_was_agreed_to_holds(compressing):
    """A client that asked for a small window hears everything plain; one without the extension may not compress."""
    small, none = compressing.ws(deflate="permessage-deflate; server_max_window_bits=10").join("x"), compressing.ws().join("x")
    hand_over(compressing)
    small.send(compressed(command("broadcast", "x", CONTENT))).hears(CONTENT)
    assert small.compressed == 0
    none.hears(CONTENT).send(compressed(command("broadcast", "x", CONTENT))).is_closed(1002)


# -- requests


def test_an_upgrade_is_cut_anywhere(serve):
    server = serve()
    data = server.upgrade("/ws?a=b", [("Sec-WebSocket-Protocol", "wsify.v1")]) + text(command("join", "x", id=1))
    clients = []
    for stream in torn(server, [(server.dial(), data, cut) for cut in range(1, len(data), 3)]):
        clients.append(upgraded(stream, KEY))
        assert clients[-1].protocol == "wsify.v1" and clients[-1].answer() == {"id": 1, "ok": True}
    server.publish("x", "1")
    for ws in clients:
        ws.hears('{"channel":"x","content":1}').is_quiet()


def test_a_post_is_cut_anywhere(serve):
    server = serve()
    witness = server.ws().join("x")
    whole = lambda n: post(n)
    parts = lambda n: post_chunked(b'{"channel":"x",', f'"content":{n}}}'.encode())
    cases = [(n, make(n), n - 1000) for make in (whole, parts) for n in range(1001, 1000 + len(make(1000)), 2)]
    dialled = [server.dial() for _ in cases]
    for (n, _, _), stream in zip(cases, torn(server, [(stream, data, cut) for stream, (_, data, cut) in zip(dialled, cases)])):
        assert stream.response().status == 201
        assert stream.send(request("GET", "/health")).response().status == 200, "the connection is kept"
        witness.hears(str(n))
    witness.is_quiet()


def test_an_upload_goes_on_through_several_replacements(serve):
    server = serve("--max-queue-size", "4MiB")
    witness = server.ws().join("x")
    content = '"' + "".join(f"{n:07}" for n in range(100_000)) + '"'
    body = f'{{"channel":"x","content":{content}}}'.encode()
    whole = post(content)
    pieces = post_chunked(*(body[at : at + 9_999] for at in range(0, len(body), 9_999)))
    uploads = [(server.dial(), data) for data in (whole, pieces)]
    for part in range(4):
        for stream, data in uploads:
            stream.send(data[len(data) * part // 4 : len(data) * (part + 1) // 4])
        if part < 3:
            is_read(server)
            hand_over(server)
    for stream, _ in uploads:
        assert stream.response().status == 201
    witness.hears(content, content).is_quiet()


def test_the_body_behind_100_continue(serve):
    server = serve()
    witness = server.ws().join("x")
    head, _, body = post("1").partition(b"\r\n\r\n")
    stream = server.dial().send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert stream.response().status == 100
    hand_over(server)
    assert stream.send(body).response().status == 201
    witness.hears("1")


def test_an_answer_is_not_lost_to_a_reset(serve):
    """What the client still sends behind an error is read and thrown away, by the new program too."""
    server = serve("--max-message-size", "1KiB")
    body = b"x" * 400_000
    stream = server.dial().send(request("POST", "/broadcast", [JSON, ("Content-Length", len(body))]) + body[:100_000])
    is_read(server)
    hand_over(server)
    stream.pour(body[100_000:])
    response = stream.response()
    is_error(response, 413)
    assert response.closes()
    stream.at_end()


def test_pipelined_posts_are_answered_in_order_and_once(serve):
    server = serve()
    witness = server.ws().join("x")
    data = b"".join(post(n) for n in range(300))
    stream = server.dial()
    for third in range(3):
        stream.send(data[len(data) * third // 3 : len(data) * (third + 1) // 3])
        if third < 2:
            hand_over(server)
    assert [stream.response().status for _ in range(300)] == [201] * 300
    witness.hears(*map(str, range(300))).is_quiet()


# -- what waits to be sent


def waits(server):
    return server.metric("^wsify_queued_bytes$")


def test_members_that_read_slowly_get_everything_in_order(serve):
    """The contents are shared by all of them, and each has read another part."""
    server = serve("--max-queue-size", "16MiB", "--compression", "on")
    slow = [server.ws(rcvbuf=4096, deflate=n % 2 == 0 or None, protocols="wsify.v1" if n % 3 else None).join("x", f"own {n}") for n in range(12)]
    for ws in slow:
        ws.stream.sock.settimeout(60)
    contents = ["[" + ",".join(str(n * m) for m in range(1, 9_000)) + "]" for n in range(40)]
    for n, content in enumerate(contents):
        if n == 20:
            hand_over(server)
        server.publish("x", content)
    for n in range(12):
        server.publish(f"own {n}", str(n))
    queued = waits(server)
    assert queued > 1 << 20, "much waits"
    assert server.metric("^wsify_laggards$") == 12
    hand_over(server)
    assert waits(server) == queued
    assert server.metric("^wsify_laggards$") == 12
    heard = lambda ws, channel, content: ws.hears(f'{{"channel":"{channel}","content":{content}}}' if ws.protocol else content)
    for n, ws in enumerate(slow):
        for content in contents[: n * 2]:
            heard(ws, "x", content)
    hand_over(server)
    for n, ws in enumerate(slow):
        for content in contents[n * 2 :]:
            heard(ws, "x", content)
        heard(ws, f"own {n}", str(n))
    until(lambda: waits(server) == 0, "nothing waits")
    assert all(ws.compressed == 40 for ws in slow[::2])


def test_the_limit_on_what_waits_counts_what_waited_before(serve):
    server = serve("--max-queue-size", "2MiB")
    other = server.ws().join("y")
    server.ws(rcvbuf=4096).join("x")  # reads nothing
    content = '"' + "x" * 100_000 + '"'
    while waits(server) < 1_500_000:
        server.publish("x", content)
    hand_over(server)
    for _ in range(8):
        server.publish("x", content)
    until(lambda: server.metric(r'^wsify_connections_ended_total\{reason="too_slow"\}$') == 1, "it is closed")
    other.is_quiet()


def test_answers_that_are_not_read_yet(serve):
    """Pipelined requests for long answers: what is sent, what waits to be sent, and what waits to be asked."""
    server = serve()
    ws = server.ws()
    names = [f"{n:03}" + "x" * 240 for n in range(500)]
    for name in names:
        ws.say(command("join", name))
    ws.is_quiet()
    slow = server.dial(rcvbuf=4096)
    slow.send(request("GET", "/channels?limit=500") * 40)
    until(lambda: waits(server) > 0, "it waits")
    for _ in range(2):
        hand_over(server)
    for n in range(40):
        response = slow.response()
        assert response.status == 200
        assert [it["channel"] for it in response.json()["channels"]] == names
        if n in (1, 20):
            hand_over(server)


def test_a_peer_that_has_hung_up_meanwhile(serve, releases, tmp_path):
    """Ends that come while the loop stands still are noticed afterwards. A script that has the program's place stops the process
    when the old program has left it and the new one has not begun."""
    path = releases.link("old", tmp_path / "wsify")
    server = serve(program=path)
    script(path, f'#!/bin/sh\ncase $WSIFY_HANDOVER in take*) kill -STOP $$ ;; esac\nexec {releases.directory / "new"} "$@"\n')
    crowd = [server.ws().join("x") for _ in range(30)]
    assert server.metric(r'^wsify_connections\{kind="websocket"\}$') == 30
    before = ask(server)
    server.is_frozen()
    for n, ws in enumerate(crowd[:20]):
        (ws.reset if n % 2 else ws.hang_up)()
    server.thaw()
    handed_over(server, before)
    assert releases.is_run_by(server.pid) == "new"
    until(lambda: server.metric(r'^wsify_connections\{kind="websocket"\}$') == 10, "they have left")
    server.publish("x", "1")
    for ws in crowd[20:]:
        ws.hears("1")


def test_taps_get_a_bye(serve):
    server = serve()
    taps = [server.dial().send(request("GET", "/tap", version=version)) for version in ("HTTP/1.1", "HTTP/1.0")]
    for tap in taps:
        until(lambda: tap.more() and b"event: tap" in tap.buffer, "it is open")
    hand_over(server)
    for tap in taps:
        rest = tap.rest()
        assert rest.count(b"event: bye") == 1, rest
    assert server.metric("^wsify_taps$") == 0
    assert server.dial().send(request("GET", "/tap")).head()[1] == 200
