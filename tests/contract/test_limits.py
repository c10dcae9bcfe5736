"""The limits that README.md names and the contract does not, over real sockets."""

import re

from harness.net import is_error, request, until
from harness.server import upgrade
from harness.ws import assert_error, command, text


def refused(stream, status, code):
    """The answer to an upgrade that may be granted later."""
    response = stream.response()
    is_error(response, status, code)
    assert re.fullmatch("[1-5]", response.header("Retry-After"))
    return response


# -- --max-connections-per-ip


def test_an_address_has_its_share(serve):
    server = serve("--max-connections-per-ip", "2")
    ws, _ = server.ws(), server.ws()
    stream = server.knock()
    response = refused(stream, 429, "too_many_connections")
    # The connection goes on, as with any refusal, and other requests are answered.
    stream.still_serves(response)
    # Another address is another client.
    for _ in range(2):
        assert server.dial("127.0.0.2").send(upgrade()).response().status == 101
    refused(server.dial("127.0.0.2").send(upgrade()), 429, "too_many_connections")
    # Who leaves makes room, at once.
    ws.leaves()
    until(server.admits, "there is room again")
    assert server.metric(r'wsify_handshakes_total\{outcome="too_many_connections"\}') >= 2


def test_an_upgrade_that_is_being_asked_about_has_its_place(serve, authorizer):
    server = serve("--max-connections-per-ip", "1", auth=authorizer)
    authorizer.hold("connect")
    first = server.knock()
    question = authorizer.asked(1)[0]
    refused(server.knock(), 429, "too_many_connections")
    question.release()
    assert first.response().status == 101


def test_whoever_comes_by_a_unix_socket_has_no_address(serve, tmp_path):
    path = tmp_path / "wsify.sock"
    server = serve("--max-connections-per-ip", "1", listen=[f"unix:{path}"])
    server.await_start(lambda: server.dial_unix(path))
    for _ in range(3):
        assert server.dial_unix(path).send(upgrade()).response().status == 101


def test_without_the_limit_an_address_has_what_there_is(plain):
    for _ in range(50):
        plain.ws()
    assert plain.dial().send(request("GET", "/health")).response().status == 200


# -- --max-message-rate


def test_messages_have_their_rate(serve, authorizer):
    server = serve("--max-message-rate", "3", auth=authorizer)
    ws, other, member = server.ws(), server.ws(), server.ws().join("x")
    ws.send(b"".join(text(command("broadcast", "x", str(i), id=i)) for i in range(100)))
    answers = [ws.answer(i) for i in range(100)]
    done = [answer["id"] for answer in answers if "ok" in answer]
    # Three at once, and what the time that this took brings, which is not half a minute.
    assert done[:3] == [0, 1, 2] and len(done) < 100, done
    for answer in answers:
        if "error" in answer:
            assert_error(answer, "rate_limited", answer["id"])
            assert (answer["error"]["command"], answer["error"]["channel"]) == ("broadcast", "x")
    # What was refused reached nobody, neither the authorizer nor the members.
    member.hears(*map(str, done)).is_quiet()
    assert [q.args["content"] for q in authorizer.about("broadcast")] == done
    # Others have a rate of their own, and the connection stays and is soon heard again.
    other.does("broadcast", "x", "99")
    member.hears("99")
    until(lambda: "ok" in ws.ask(command("leave", "x", id="later"), "later"), "it may speak again")


def test_without_the_limit_there_is_no_rate(plain):
    ws = plain.ws()
    for i in range(2000):
        ws.say(command("leave", "x", id=i))
    for i in range(2000):
        assert ws.answer(i) == {"id": i, "ok": True}
