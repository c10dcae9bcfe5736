"""Python's `websockets`: the whole tour as its users would write it, and what a strict client finds in our frames."""

import json
import signal
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from harness.authorizer import with_fields
from harness.handover import hand_over
from harness.net import DEADLINE


def url(server, path="/ws"):
    return f"ws://127.0.0.1:{server.port}{path}"


def client(server, path="/ws", **more):
    return connect(url(server, path), proxy=None, open_timeout=DEADLINE, close_timeout=DEADLINE, **more)


def ask(ws, **message):
    ws.send(json.dumps(message))
    return json.loads(ws.recv(DEADLINE))


def test_a_tour(asked, authorizer):
    authorizer.on(403, "join", "secret")
    with client(asked, "/ws?token=abc", additional_headers={"X-Client": "python"}) as one, client(asked) as two:
        assert ask(one, command="join", args={"channel": "hello"}, id=1) == {"id": 1, "ok": True}
        assert ask(two, command="join", args={"channel": "hello"}, id="a") == {"id": "a", "ok": True}
        one.send('{"command":"broadcast","args":{"channel":"hello","content":{"n": 1.0}}}')
        assert one.recv(DEADLINE) == two.recv(DEADLINE) == '{"n": 1.0}'
        assert ask(one, command="join", args={"channel": "secret"}, id=2)["error"]["code"] == "not_authorized"
        assert ask(one, command="leave", args={"channel": "hello"}, id=3) == {"id": 3, "ok": True}
        asked.publish("hello", '"behind"')
        assert two.recv(DEADLINE) == '"behind"'
        assert ask(one, command="leave", args={"channel": "hello"}, id=4) == {"id": 4, "ok": True}
    connect_question = authorizer.about("connect")[0]
    assert connect_question.args["headers"]["X-Client"] == ["python"]
    assert connect_question.args["headers"]["User-Agent"][0].startswith("Python")
    assert connect_question.args["query"] == {"token": ["abc"]}


def test_wsify_v1(plain):
    with client(plain, subprotocols=["other", "wsify.v1"]) as ws:
        assert ws.subprotocol == "wsify.v1"
        assert json.loads(ws.recv())["welcome"]["channels"] == []
        assert ask(ws, command="join", args={"channel": "python-v1"}, id=1) == {"id": 1, "ok": True}
        assert ask(ws, command="broadcast", args={"channel": "python-v1", "content": [1]}) == {"channel": "python-v1", "content": [1]}


def test_an_unknown_subprotocol_alone(plain):
    with client(plain, subprotocols=["a-token"]) as ws:
        assert ws.subprotocol == "a-token"


def test_deflate_is_offered_and_declined(plain):
    """The default of this client is to offer it."""
    with client(plain, compression="deflate") as ws:
        assert "permessage-deflate" in ws.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        assert ask(ws, command="join", args={"channel": "x" * 200}, id=1) == {"id": 1, "ok": True}


@pytest.mark.parametrize(
    "asked, told",
    [
        ({}, ""),
        ({"client_max_window_bits": 9}, ""),
        ({"server_no_context_takeover": True, "client_no_context_takeover": True}, ""),
        ({"server_max_window_bits": 15}, "; server_max_window_bits=15"),
        ({"server_max_window_bits": 10}, "; server_max_window_bits=10"),
    ],
    ids=str,
)
def test_deflate_is_agreed_to(serve, asked, told):
    """What this client compresses, and how it takes what is compressed, follows from the answer."""
    server = serve("--compression", "on")
    offer = ClientPerMessageDeflateFactory(**asked)
    content = [{"user": f"user-{n}", "é": n} for n in range(100)]
    with client(server, compression=None, extensions=[offer]) as ws, client(server, compression=None) as other:
        both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        assert ws.response.headers["Sec-WebSocket-Extensions"] == both + told
        for one in (ws, other):
            assert ask(one, command="join", args={"channel": "c"}, id=1) == {"id": 1, "ok": True}
        for _ in range(3):
            ws.send(json.dumps({"command": "broadcast", "args": {"channel": "c", "content": content}}))
            assert json.loads(ws.recv(DEADLINE)) == json.loads(other.recv(DEADLINE)) == content
        # Fragments, compressed as one message.
        ws.send(iter(['{"command":"broadcast",', '"args":{"channel":"c",', '"content":"torn"}}']))
        assert ws.recv(DEADLINE) == other.recv(DEADLINE) == '"torn"'
    assert server.metric("^wsify_compression_messages_total$") >= 4
    compressed = server.metric(r'^wsify_compression_contents_total\{outcome="compressed"\}$')
    assert compressed == (0 if "10" in told else 3)


def test_a_message_of_1_mib(plain):
    """In fragments, too: an iterable is sent as one message in several frames."""
    message = '{"command":"broadcast","args":{"channel":"python-mib","content":"'
    message += "é" * ((2**20 - len(message) - 3) // 2)
    message = message + "x" * (2**20 - len(message.encode()) - 3) + '"}}'
    assert len(message.encode()) == 2**20
    with client(plain) as ws:
        ask(ws, command="join", args={"channel": "python-mib"}, id=1)
        for sent in (message, [message[:1000], message[1000:500_000], message[500_000:]]):
            ws.send(sent)
            heard = ws.recv(DEADLINE)
            assert heard == message[message.index('"content":') + 10 : -2]


def test_a_ping(plain):
    with client(plain) as ws:
        assert ws.ping(b"hello").wait(DEADLINE)


def test_keep_alive_of_both_sides(serve):
    """The client pings by itself and answers the server's pings by itself."""
    server = serve("--ping-interval", "200ms")
    with client(server, ping_interval=0.1, ping_timeout=DEADLINE) as ws, client(server, ping_interval=None) as clock:
        ask(clock, command="join", args={"channel": "c"}, id=1)
        assert ws.ping().wait(DEADLINE)
        stop = server.ws()
        while stop.pings < 4:
            assert stop.next_frame().opcode == 9
            stop.pings += 1
            stop.send(b"\x8a\x80\0\0\0\0")
        assert ask(clock, command="leave", args={"channel": "c"}, id=2) == {"id": 2, "ok": True}


@pytest.mark.parametrize("code, reason", [(1000, ""), (1001, "going"), (4001, "tschüß")])
def test_a_close_of_the_client(plain, code, reason):
    with client(plain) as ws:
        ws.close(code, reason)
        assert ws.close_code == code


def test_1009(plain):
    with client(plain) as ws:
        with pytest.raises(ConnectionClosedError) as closed:
            ws.send(b" " * (2**20 + 1))
            ws.recv(DEADLINE)
        assert closed.value.rcvd.code == 1009 and closed.value.rcvd.reason


def test_1013(asked, authorizer):
    authorizer.on(503, "join")
    with client(asked) as ws:
        with pytest.raises(ConnectionClosedError) as closed:
            ask(ws, command="join", args={"channel": "x"})
        assert closed.value.rcvd.code == 1013 and closed.value.rcvd.reason


def test_1012(serve):
    server = serve("--drain-timeout", "300ms")
    with client(server) as ws:
        server.signal(signal.SIGTERM)
        with pytest.raises((ConnectionClosedError, ConnectionClosedOK)) as closed:
            ws.recv(DEADLINE)
        assert closed.value.rcvd.code == 1012 and closed.value.rcvd.reason
    assert server.status() == 0


def test_a_refused_handshake(asked, authorizer):
    for verdict, status in ((401, 403), (500, 503)):
        authorizer.on(verdict, "connect")
        with pytest.raises(InvalidStatus) as refused, client(asked):
            pass
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["error"]["message"]
        assert ("Retry-After" in refused.value.response.headers) == (status == 503)


def test_an_origin(serve):
    server = serve("--allowed-origins", "https://app.example.com")
    with client(server, origin="https://app.example.com") as ws:
        assert ask(ws, command="join", args={"channel": "x"}, id=1) == {"id": 1, "ok": True}
    with pytest.raises(InvalidStatus) as refused, client(server, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403


def test_a_crowd(plain):
    with ExitStack() as stack:
        crowd = [stack.enter_context(client(plain)) for _ in range(30)]
        for ws in crowd:
            ask(ws, command="join", args={"channel": "python-crowd"}, id=1)
        for i in range(20):
            plain.publish("python-crowd", str(i))
        for ws in crowd:
            assert [ws.recv(DEADLINE) for _ in range(20)] == [str(i) for i in range(20)]


def test_fields_of_the_authorizer_s_answers(asked, authorizer):
    authorizer.on(with_fields(user=42, channels=["news"], allow={"broadcast": ["news"]}), "connect")
    authorizer.on(with_fields(403, message="members only"), "join")
    authorizer.on(with_fields(403, message="no", close={"code": 4001, "reason": "banned"}), "leave")
    with client(asked, subprotocols=["wsify.v1"]) as ws:
        welcome = json.loads(ws.recv())["welcome"]
        assert (welcome["user"], welcome["channels"]) == ("42", ["news"])
        assert ask(ws, command="broadcast", args={"channel": "news", "content": 1}) == {"channel": "news", "content": 1}
        error = ask(ws, command="join", args={"channel": "secret"}, id=1)["error"]
        assert (error["code"], error["message"]) == ("not_authorized", "members only")
        assert ask(ws, command="leave", args={"channel": "news"}, id=2)["error"]["message"] == "no"
        with pytest.raises(ConnectionClosedError) as ended:
            ws.recv(DEADLINE)
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4001, "banned")


def test_a_connection_that_may_not_go_on(asked, authorizer):
    authorizer.on(with_fields(expires_in=1), "connect")
    authorizer.on(403, "refresh")
    with client(asked) as ws, pytest.raises(ConnectionClosedError) as ended:
        ws.recv(DEADLINE)
    assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4403, "the authorizer says no")


def test_a_replacement_of_the_program(serve):
    """In the middle of a message in fragments, and of one that is compressed; pings, closes and clients that come later."""
    server = serve("--compression", "on")

    def torn(*parts):
        for part in parts:
            yield part
            hand_over(server)

    with client(server, compression=None) as plain, client(server, compression="deflate") as deflating:
        for ws in (plain, deflating):
            assert ask(ws, command="join", args={"channel": "x"}, id=1) == {"id": 1, "ok": True}
        content = "é" * 3000
        for ws in (plain, deflating):
            ws.send(torn('{"command":"broadcast","args":{"channel":"x",', f'"content":"{content}', '"}}'))
            assert plain.recv(DEADLINE) == deflating.recv(DEADLINE) == f'"{content}"'
        assert plain.ping(b"still there").wait(DEADLINE) and deflating.ping(b"too").wait(DEADLINE)
        with client(server) as late:
            assert ask(late, command="join", args={"channel": "x"}, id=1) == {"id": 1, "ok": True}
            server.publish("x", "2")
            assert plain.recv(DEADLINE) == deflating.recv(DEADLINE) == late.recv(DEADLINE) == "2"
        plain.close(4001, "done")
        assert plain.close_code == 4001
    assert server.metric("^wsify_compression_messages_total$") == 3
