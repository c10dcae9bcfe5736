"""Limits per address, rates, and the memory of all queues (docs/limits.md)."""

import json
import re

from harness.net import is_error, request, until
from harness.server import upgrade
from harness.ws import TEXT, assert_error, command, frame, text


def refused(stream, status, code):
    """The answer to an upgrade that may be granted later."""
    response = stream.response()
    is_error(response, status, code)
    assert re.fullmatch("[1-5]", response.header("Retry-After"))
    return response


# -- --max-connections-per-ip


def test_an_address_has_at_most_max_connections_per_ip(serve):
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
    # A connection that leaves makes room at once.
    ws.leaves()
    until(server.admits, "there is room again")
    assert server.metric(r'wsify_handshakes_total\{outcome="too_many_connections"\}') >= 2


def test_an_upgrade_with_an_open_question_counts(serve, authorizer):
    server = serve("--max-connections-per-ip", "1", auth=authorizer)
    authorizer.hold("connect")
    first = server.knock()
    question = authorizer.asked(1)[0]
    refused(server.knock(), 429, "too_many_connections")
    question.release()
    assert first.response().status == 101


def test_connections_on_a_unix_socket_do_not_count(serve, tmp_path):
    path = tmp_path / "wsify.sock"
    server = serve("--max-connections-per-ip", "1", listen=[f"unix:{path}"])
    server.await_start(lambda: server.dial_unix(path))
    for _ in range(3):
        assert server.dial_unix(path).send(upgrade()).response().status == 101


def test_without_max_connections_per_ip_an_address_is_not_limited(plain):
    for _ in range(50):
        plain.ws()
    assert plain.dial().send(request("GET", "/health")).response().status == 200


# -- --max-message-rate


def test_rate_limited_messages_are_answered_and_the_connection_stays(serve, authorizer):
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
    # Rate-limited messages reached neither the authorizer nor the members.
    member.hears(*map(str, done)).is_quiet()
    assert [q.args["content"] for q in authorizer.about("broadcast")] == done
    # Other connections have rates of their own. The connection stays, and its later messages are handled.
    other.does("broadcast", "x", "99")
    member.hears("99")
    until(lambda: "ok" in ws.ask(command("leave", "x", id="later"), "later"), "its messages are handled again")


def test_without_max_message_rate_messages_are_not_limited(plain):
    ws = plain.ws()
    for i in range(2000):
        ws.say(command("leave", "x", id=i))
    for i in range(2000):
        assert ws.answer(i) == {"id": i, "ok": True}


# -- --max-total-queue-size


def test_queues_of_slow_readers_have_a_total_limit(serve):
    """Eight members that read nothing, each in a channel of its own, could hold 50 MB less the kernel's buffers. The limit
    for all of them is 4 MB."""
    server = serve("--max-total-queue-size", "4MiB", "--max-queue-size", "64MiB")
    slow = [server.ws(rcvbuf=4096).join(f"own-{i}") for i in range(8)]
    fast = server.ws().join("fast")
    before = server.memory()[0]
    content = json.dumps("x" * 900_000)
    for turn in range(12):
        for i in range(len(slow)):
            server.publish(f"own-{i}", content)
        server.publish("fast", str(turn))
        fast.hears(str(turn))
    assert server.memory()[0] - before < 24 << 20
    assert server.metric(r'^wsify_connections_ended_total\{reason="too_slow"\}') > 0
    server.logged("queue memory is used up.*--max-total-queue-size")
    # When they have gone, there is room again, and the log says so.
    for ws in slow:
        ws.reset()
    until(lambda: server.call("GET", "/health") and any("there is queue memory again" in line for line in list(server.out)), "the log says so")
    server.publish("fast", content)
    fast.hears(content)


def test_incomplete_messages_and_bodies_have_a_total_limit(serve):
    """The connections with the longest incomplete messages are disconnected. Other messages are handled meanwhile."""
    server = serve("--max-total-queue-size", "4MiB", "--handshake-timeout", "1m")
    other = server.ws().join("x")
    before = server.memory()[0]
    begun = frame(TEXT, b" " * 1_000_000, key=b"abcd")[:900_000]
    crowd = [server.ws() for _ in range(40)]
    for ws in crowd:
        ws.stream.pour(begun)
    other.is_quiet()
    bodies = request("POST", "/broadcast", [("Content-Type", "application/json"), ("Content-Length", "1000000")]) + b" " * 900_000
    posts = [server.dial().pour(bodies) for _ in range(10)]
    ended = lambda reason: server.metric(rf'^wsify_connections_ended_total\{{reason="{reason}"\}}')
    until(lambda: ended("overloaded") >= 30, "the largest holders are disconnected")
    assert server.memory()[0] - before < 24 << 20
    # A message that comes at once, or holds little, is handled.
    for i in range(10):
        other.broadcast("y", str(i)).is_quiet()
    assert server.post(b'{"channel":"x","content":7}').status == 201
    other.hears("7")
    assert len(crowd) + len(posts) == 50


def test_a_disconnect_over_the_total_limit_has_its_code(serve):
    server = serve("--max-total-queue-size", "100KiB")
    ws, stream = server.ws(), server.dial()
    ws.send(frame(TEXT, b" " * 200_000, key=b"abcd")[:90_000])
    assert ws.close_frame()[0] == 1013
    stream.send(request("POST", "/broadcast", [("Content-Type", "application/json"), ("Content-Length", "200000")]) + b" " * 90_000)
    response = stream.response("POST")
    is_error(response, 503, "overloaded")
    assert response.header("Retry-After") and response.closes()


# -- a full server


def test_a_full_server_logs_it_once(serve):
    """It takes the next as soon as one has gone; the log waits until a tenth has."""
    server = serve("--max-connections", "20")
    crowd = [server.ws() for _ in range(20)]
    for _ in range(3):
        refused(server.knock(), 503, "full")
        crowd.pop().leaves()
        until(server.admits, "one has gone, and another may come")
        crowd.append(server.ws())
    server.logged("the server is full")
    assert sum("the server is full" in line for line in server.out) == 1
    assert not any("no longer full" in line for line in server.out)
    while len(crowd) > 17:
        crowd.pop().leaves()
    server.logged("no longer full")
