"""Events (docs/events.md)."""

import hashlib
import hmac
import json
import re
import signal
import ssl
import time

import pytest

from harness.authorizer import Reply, with_fields
from harness.certificates import Certificates
from harness.net import is_error, until
from harness.receiver import Receiver, line
from harness.redis import Redis
from harness.server import free_port, run
from harness.ws import closing, command, frame

ALL = ("--events", "connected,disconnected,occupied,vacated")


@pytest.fixture
def told(serve, receiver):
    """A server that tells `receiver` all events."""
    return serve("--events-url", receiver.url, *ALL)


def fill(server, count, channel="x"):
    """Makes `2 * count` events: a channel is occupied and vacated."""
    ws = server.ws()
    for _ in range(count):
        ws.join(channel).leave(channel)
    return ws


# -- what is told


def test_a_life_is_told_in_its_order(told, receiver):
    ws = told.ws("/ws?token=a%22&x=1")
    ws.join("hello").join("b").leave("b")
    ws.leaves(1001)
    events = receiver.has_taken(6)
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert [line(event) for event in events] == [
        "connected", "occupied hello", "occupied b", "vacated b", "vacated hello", "disconnected 1001 closed hello",
    ]
    connected, disconnected = events[0], events[-1]
    assert list(connected) == ["seq", "event", "time", "connection"]
    assert list(events[1]) == ["seq", "event", "time", "channel"]
    assert list(disconnected) == ["seq", "event", "time", "connection", "code", "reason", "duration_ms", "channels"]
    assert disconnected["connection"] == connected["connection"]
    assert list(connected["connection"]) == ["id", "remote_addr", "query"]
    assert connected["connection"]["query"] == {"token": ['a"'], "x": ["1"]}
    assert re.fullmatch(r"127\.0\.0\.1:\d+", connected["connection"]["remote_addr"])
    (node,) = {call.node for call in receiver.calls()}
    assert re.fullmatch(r"[0-9a-f]{16}", node) and connected["connection"]["id"].startswith(f"{node}-")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in events)
    assert 0 <= disconnected["duration_ms"] < 60_000


def test_by_default_only_ends_are_told(serve, receiver):
    server = serve("--events-url", receiver.url)
    ws = server.ws().join("a", "c", "b")
    ws.leaves()
    assert receiver.told(1) == ["disconnected 1000 closed a,b,c"]


def test_each_end_has_its_code_and_reason(told, receiver):
    for end, expected in (
        (lambda ws: ws.leaves(4001), "4001 closed"),
        (lambda ws: ws.send(frame(8)).close_frame(), "1000 closed"),
        (lambda ws: ws.hang_up(), "1006 left"),
        (lambda ws: ws.reset(), "1006 reset"),
        (lambda ws: ws.send(frame(1, b"x", mask=False)), "1002 protocol_error"),
        (lambda ws: ws.send(frame(1, b"\xff")), "1007 invalid_text"),
        (lambda ws: ws.send(frame(1, declared=1 << 63)), "1009 too_big"),
    ):
        before = len(receiver.taken())
        end(told.ws())
        assert receiver.told(before + 2)[before:] == ["connected", f"disconnected {expected}"]


def test_a_connection_is_shown_as_in_questions_with_user_and_state(serve, receiver, authorizer):
    authorizer.on(with_fields(user="o'neil", state={"n": 1}, channels=["news"]), "connect")
    server = serve("--events-url", receiver.url, *ALL, auth=authorizer)
    ws = server.ws("/ws?a=b")
    authorizer.on(with_fields(state=[2]), "join")
    ws.join("more")
    ws.leaves()
    events = receiver.has_taken(6)
    assert [line(event) for event in events] == [
        "connected", "occupied news", "occupied more", "vacated more", "vacated news",
        "disconnected 1000 closed more,news",
    ]
    shown = dict(authorizer.asked(2, None)[-1].peer)
    assert events[0]["connection"] == shown and shown["user"] == "o'neil"
    assert list(shown) == ["id", "remote_addr", "user", "query", "state"]
    assert events[-1]["connection"] == shown | {"state": [2]}


def test_a_connection_is_gone_when_its_close_frame_is_sent(serve, receiver, authorizer):
    authorizer.on(with_fields(user="42"), "connect")
    server = serve("--events-url", receiver.url, *ALL, auth=authorizer)
    listed = lambda target: json.loads(server.call("GET", target).body)
    # It has not read the close frame, and does not answer it.
    ws = server.ws().join("a")
    assert server.post('{"user":"42"}', "/disconnect").body == b'{"connections":1}'
    assert receiver.told(4)[2:] == ["vacated a", "disconnected 4403 disconnected a"]
    assert listed("/connections")["connections"] == listed("/channels")["channels"] == []
    assert server.metric("^wsify_connections.*websocket") == 0
    server.publish("a", "1")
    assert ws.close_frame()[0] == 4403
    # The code that was sent first counts, and the end is told once.
    ws.send(closing(4000))
    ws.stream.at_end()
    server.ws().leaves(4001)
    assert receiver.told(6)[4:] == ["connected", "disconnected 4001 closed"]


def test_the_first_hundred_channels_are_named_in_byte_order(serve, receiver):
    server = serve("--events-url", receiver.url)
    names = [f"c{nth}" for nth in range(110)] + ["Z", "é"]
    server.ws().join(*names).leaves()
    (event,) = receiver.has_taken(1)
    assert event["channels"] == sorted(names, key=str.encode)[:100]


@pytest.mark.parametrize("verb", ["join", "broadcast"])
def test_a_disconnect_of_a_user_whose_command_waits_for_redis(node, receiver, authorizer, verb):
    authorizer.on(with_fields(user="42"), "connect")
    redis = Redis()
    try:
        server = node(redis.dsn, "--events-url", receiver.url, auth=authorizer)
        ws = server.ws().join("a")
        redis.hang()
        ws.say(command(verb, "b", "1" if verb == "broadcast" else None, id=1)).say(command("broadcast", "a", "2", id=2))
        authorizer.asked(1, verb, "b")
        # It is answered, and redis is asked.
        until(lambda: server.metric('^wsify_authorizer_answers_total{class="200"}') == 3, "the authorizer's answer")
        # The nodes cannot be asked; what redis still has of it is done when redis goes on.
        is_error(server.post('{"user":"42"}', "/disconnect"), 503, "unavailable")
        redis.go_on()
        (told,) = receiver.told(1)
        assert told.startswith("disconnected 4403 disconnected a")
        other = server.ws().join("c")
        server.publish("c", "3")
        other.hears("3").is_quiet()
        other.leaves()
        assert receiver.told(2)[1:] == ["disconnected 1000 closed c"]
    finally:
        redis.go_on()
        redis.kill()


def test_refused_upgrades_and_requests_are_not_told(serve, receiver, authorizer):
    server = serve("--events-url", receiver.url, *ALL, auth=authorizer)
    authorizer.on(403)
    assert server.knock().response().status == 403
    authorizer.on(503)
    assert server.knock().response().status == 503
    server.call("GET", "/health")
    assert server.call("GET", "/ws").status == 426
    authorizer.on(200)
    server.ws().leaves()
    assert receiver.told(2) == ["connected", "disconnected 1000 closed"]


def test_each_start_has_another_name_and_begins_with_1(serve, receiver):
    nodes = set()
    for nth in range(2):
        server = serve("--events-url", receiver.url)
        server.ws().leaves()
        call = receiver.calls(nth + 1)[-1]
        assert call.events[0]["seq"] == 1
        nodes.add(call.node)
    assert len(nodes) == 2


# -- how it is sent


def test_calls_are_posts_of_json_on_one_connection(told, receiver):
    for _ in range(20):
        told.ws().leaves()
    receiver.has_taken(40)
    for call in receiver.calls():
        assert (call.method, call.target) == ("POST", "/hook")
        assert call.header("Content-Type") == "application/json"
        assert call.header("X-Wsify-Signature") is None and call.header("X-Wsify-Probe") is None
    assert receiver.connections == 1


def test_what_happens_during_a_call_makes_the_next_one(told, receiver):
    receiver.hold()
    ws = told.ws()
    receiver.calls(1)
    for _ in range(10):
        ws.join("a").leave("a")
    receiver.on(200)
    receiver.calls(1)[0].release()
    assert receiver.told(21) == ["connected"] + ["occupied a", "vacated a"] * 10
    assert [len(call.events) for call in receiver.calls(2)] == [1, 20]


def test_a_batch_has_a_thousand_events_at_most(told, receiver):
    receiver.hold()
    fill(told, 600)
    receiver.on(200)
    receiver.calls(1)[0].release()
    receiver.has_taken(1201)
    sizes = [len(call.events) for call in receiver.calls(3)]
    assert sizes[0] == 1 and max(sizes) == 1000 and sum(sizes) == 1201, sizes


def test_a_batch_has_a_mebibyte_at_most(told, receiver):
    receiver.hold()
    first = told.ws()
    receiver.calls(1)
    long = "x" * 14_000
    crowd = [told.ws(f"/ws?{long}") for _ in range(100)]
    receiver.on(200)
    receiver.calls(1)[0].release()
    receiver.has_taken(101)
    sizes = [len(call.raw) for call in receiver.calls(3)]
    assert max(sizes) <= 1 << 20 and sizes[1] > (1 << 20) - 20_000, sizes
    assert first and crowd


def test_credentials_are_sent_and_not_shown(serve, receiver):
    url = receiver.url.replace("http://", "http://us%20er:p%40ss@") + "?token=hidden"
    server = serve("--events-url", url)
    server.ws().leaves()
    call = receiver.calls()[0]
    assert call.header("Authorization") == "Basic dXMgZXI6cEBzcw=="
    assert call.target == "/hook?token=hidden"
    out = "".join(server.out)
    assert "p%40ss" not in out and "hidden" not in out and "token=***" in out


def signed_at(call, *keys):
    """Checks the signature, computed anew by each of the keys. Returns its time."""
    signature = call.header("X-Wsify-Signature")
    sent = re.match(r"t=(\d+),", signature)[1]
    digests = [hmac.new(key.encode(), sent.encode() + b"." + call.raw, hashlib.sha256).hexdigest() for key in keys]
    assert signature == ",".join([f"t={sent}", *(f"v1={digest}" for digest in digests)])
    return int(sent)


def test_calls_are_signed_with_every_key(serve, receiver):
    server = serve("--events-url", receiver.url, "--authorizer-key", "old,new")
    server.ws().leaves()
    assert abs(signed_at(receiver.calls()[0], "old", "new") - time.time()) < 60


# -- https


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.directory / "leaf.pem", certificates.directory / "leaf.key")
    receiver = Receiver(tls=context)
    yield receiver
    receiver.stop()


def test_events_are_sent_over_https(serve, secure, certificates):
    url = secure.url.replace("https://", "https://user:secret@")
    server = serve("--events-url", url, *ALL, "--authorizer-key", "k", env=certificates.trusted)
    for _ in range(10):
        server.ws().leaves()
    secure.has_taken(20)
    assert secure.connections == 1
    for call in secure.calls():
        signed_at(call, "k")
        assert call.header("Authorization") == "Basic dXNlcjpzZWNyZXQ="
    # It comes back on another connection.
    secure.drop_connections()
    server.ws().leaves()
    assert secure.told(22)[20:] == ["connected", "disconnected 1000 closed"]
    assert not any("secret" in row for row in server.out)


@pytest.mark.parametrize("trusted", [False, True], ids=["an authority that is not trusted", "another name"])
def test_a_certificate_that_does_not_fit_gets_no_events(serve, secure, certificates, trusted):
    url = secure.url.replace("localhost", "[::ffff:127.0.0.1]") if trusted else secure.url
    server = serve("--events-url", url, env=certificates.trusted if trusted else None)
    server.ws().leaves()
    assert "certificate" in server.logged("receiver of events is down")
    assert secure.about() == []
    assert server.call("GET", "/health").status == 200


def test_a_check_posts_over_https(secure, certificates):
    status, out, _ = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--events-url", secure.url, env=certificates.trusted)
    assert status == 0 and "ok  the receiver of events" in out
    status, out, _ = check("--events-url", secure.url)
    assert status == 1 and "certificate" in out
    assert len(secure.calls()) == 1


# -- when it is not taken

FAILURES = {
    "301": Reply(301, headers=(("Location", "/other"),)),
    "304": Reply(304),
    "400": Reply(400),
    "404": Reply(404),
    "429": Reply(429),
    "500": Reply(500, b"x" * 100_000),
    "503": Reply(503),
    "not HTTP": Reply(0, raw=b"hello\r\n\r\n", close=True),
    "nothing": Reply(0, drop=True),
    "half a head": Reply(0, raw=b"HTTP/1.1 200 OK\r\nContent-", close=True),
}


@pytest.mark.parametrize("name", FAILURES)
def test_anything_but_2xx_means_the_same_call_again(serve, receiver, name):
    server = serve("--events-url", receiver.url, *ALL, "--authorizer-key", "k")
    receiver.on(FAILURES[name])
    ws = server.ws()
    receiver.calls(1)
    ws.join("a")
    receiver.calls(3)
    receiver.on(200)
    assert receiver.told(2) == ["connected", "occupied a"]
    calls = receiver.calls()
    *failed, last = [call for call in calls if call.events[0]["seq"] == 1]
    assert len(failed) >= 3 and {call.raw for call in failed} == {last.raw}
    assert {call.target for call in calls} == {"/hook"}
    for call in calls:
        signed_at(call, "k")
    assert server.logged("receiver of events is down")
    assert server.logged("receiver of events is up again")


def test_a_repeated_call_is_signed_anew(serve, receiver):
    server = serve("--events-url", receiver.url, "--authorizer-key", "k")
    receiver.on(500)
    server.ws().leaves()
    times = until(
        lambda: len(found := {signed_at(call, "k") for call in receiver.about()}) > 1 and found, "another second"
    )
    assert len(times) > 1 and len({call.raw for call in receiver.about()}) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_takes_the_events(told, receiver, status):
    receiver.on(Reply(status, headers=(("Content-Length", "0"),) if status != 204 else (("X-A", "b"),)))
    told.ws().leaves()
    assert receiver.told(2) == ["connected", "disconnected 1000 closed"]
    told.ws().leaves()
    receiver.has_taken(4)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"x" * 1_000_000),
        Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", close=True),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", close=True),
        Reply(200, b'{"allow":false}', (("Content-Type", "application/vnd.wsify+json"),)),
        # Said beforehand: one that is still on its way cannot be seen, and costs a call.
        Reply(200, headers=(("Connection", "close"),), close=True),
    ],
    ids=["a large body", "odd chunks", "a body that breaks off", "fields", "a close"],
)
def test_the_body_of_an_answer_does_not_matter(told, receiver, reply):
    receiver.on(reply)
    for _ in range(3):
        told.ws().leaves()
    assert receiver.told(6) == ["connected", "disconnected 1000 closed"] * 3
    assert not any("receiver" in row for row in told.out)


def test_a_receiver_that_is_not_there_is_told_later(serve):
    port = free_port()
    server = serve("--events-url", f"http://127.0.0.1:{port}/hook", *ALL)
    ws = server.ws().join("a")
    assert "connection refused" in server.logged("receiver of events is down")
    assert server.call("GET", "/health").status == 200
    receiver = Receiver(port=port)
    try:
        assert receiver.told(2) == ["connected", "occupied a"]
        ws.leaves()
        assert receiver.told(4)[2:] == ["vacated a", "disconnected 1000 closed a"]
        assert re.search(r'"down_ms":\d+', server.logged("receiver of events is up again"))
    finally:
        receiver.stop()


def test_a_receiver_that_hangs_is_called_again_and_slows_nothing_down(serve, receiver):
    server = serve("--events-url", receiver.url, *ALL, "--authorizer-timeout", "300ms")
    receiver.hold()
    first = server.ws().join("a")
    receiver.calls(1)
    # While a call hangs, everything else goes on.
    for _ in range(50):
        other = server.ws().join("a")
        other.broadcast("a", "1")
        first.hears("1")
        other.hears("1")
        other.leaves()
    assert "timed out" in server.logged("receiver of events is down")
    calls = receiver.calls(2)
    assert calls[0].raw == calls[1].raw
    receiver.on(200)
    for call in receiver.about():
        call.release()
    # The answer to the call that was given up is not heard: its events come again.
    until(lambda: any(event["seq"] == 102 for event in receiver.taken()), "the last event")
    seqs = [event["seq"] for event in receiver.taken()]
    assert sorted(set(seqs)) == list(range(1, 103)) and seqs == sorted(seqs)


def test_the_timeout_is_for_the_whole_call(serve, receiver):
    """A byte now and then is no answer."""
    server = serve("--events-url", receiver.url, "--authorizer-timeout", "500ms")
    receiver.on(Reply(200, drip=True))
    server.ws().leaves()
    assert "timed out" in server.logged("receiver of events is down")
    receiver.on(200)
    until(lambda: server.metric("wsify_events_waiting") == 0, "the events are taken")
    assert len({call.raw for call in receiver.about()}) == 1


def test_a_slow_answer_is_waited_for(told, receiver):
    receiver.on(Reply(200, b"{}", drip=True))
    told.ws().leaves()
    assert receiver.told(2) == ["connected", "disconnected 1000 closed"]


# -- 413


def bites(most):
    """A receiver that takes so many events in one call."""
    return lambda call: 200 if len(call.events) <= most else 413


def test_a_413_halves_the_batch(told, receiver):
    receiver.hold()
    fill(told, 25)
    receiver.on(bites(7))
    receiver.calls(1)[0].release()
    events = receiver.has_taken(51)
    assert [event["seq"] for event in events] == list(range(1, 52))
    sizes = [len(call.events) for call in receiver.about()]
    assert sizes[:5] == [1, 50, 25, 12, 6], sizes
    assert not any("receiver" in row for row in told.out)


def test_an_event_that_gets_a_413_alone_is_dropped_counted_and_logged(serve, receiver):
    server = serve("--events-url", receiver.url, "--events", "occupied")
    receiver.on(lambda call: 413 if any(event["channel"] == "bad" for event in call.events) else 200)
    ws = server.ws().join("a", "bad", "b", "c")
    events = receiver.has_taken(3)
    assert [(event["seq"], event["channel"]) for event in events] == [(1, "a"), (3, "b"), (4, "c")]
    assert server.metric("wsify_events_dropped_total") == 1
    assert server.metric('wsify_events_calls_total{outcome="too_large"}') >= 1
    assert '"dropped":1' in server.logged(r"too large \(413\)")
    assert ws


# -- limits


def test_what_waits_is_bounded_and_the_gap_shows(serve, receiver):
    server = serve("--events-url", receiver.url, "--events", "occupied,vacated", "--events-queue", "10")
    receiver.hold()
    ws = server.ws().join("first")
    receiver.calls(1)
    for _ in range(20):
        ws.join("a").leave("a")
    assert server.metric("wsify_events_waiting") == 11
    assert server.metric("wsify_events_lag_seconds") > 0
    receiver.on(200)
    receiver.calls(1)[0].release()
    events = receiver.has_taken(11)
    assert [event["seq"] for event in events] == [1, *range(32, 42)]
    assert server.metric("wsify_events_dropped_total") == 30
    assert server.metric("wsify_events_total") == 41
    assert '"dropped":1' in server.logged("--events-queue")
    until(lambda: server.metric("wsify_events_waiting") == 0, "nothing waits")
    assert server.metric("wsify_events_lag_seconds") == 0


def test_what_waits_counts_against_the_total_queue(serve, receiver):
    server = serve("--events-url", receiver.url, "--events", "connected", "--max-total-queue-size", "400KiB")
    receiver.hold()
    first = server.ws()
    receiver.calls(1)
    for _ in range(30):
        server.ws("/ws?" + "x" * 10_000).leaves()
    first.leaves()
    dropped = server.metric("wsify_events_dropped_total")
    assert 15 <= dropped <= 25
    receiver.on(200)
    receiver.calls(1)[0].release()
    events = receiver.has_taken(31 - int(dropped))
    assert [event["seq"] for event in events][1:] == list(range(int(dropped) + 2, 32))


def test_metrics_count_events_by_kind(told, receiver):
    ws = told.ws().join("a")
    ws.leaves()
    receiver.has_taken(4)
    for kind in ("connected", "disconnected", "occupied", "vacated"):
        assert told.metric(f'wsify_events_total{{event="{kind}"}}') == 1
    until(lambda: told.metric('wsify_events_calls_total{outcome="taken"}') >= 1, "a call is counted")
    assert told.metric("wsify_events_dropped_total") == 0


# -- stopping


def test_a_stop_tells_every_end_before_the_exit(serve, receiver):
    server = serve("--events-url", receiver.url, *ALL, "--drain-timeout", "4s")
    crowd = [server.ws().join("a", f"c{nth}") for nth in range(20)]
    receiver.on(lambda call: 200 if len(receiver.about()) % 2 else 503)
    server.signal(signal.SIGTERM)
    for ws in crowd:
        ws.is_closed(1012)
    assert server.status() == 0
    told = [line(event) for event in receiver.has_taken(82)]
    assert sum(it.startswith("disconnected 1012 stopping a,c") for it in told) == 20
    assert told.count("connected") == 20 and told.count("vacated a") == 1 and len(told) == 82
    assert '"events_left":0' in server.logged("stopped")


def test_a_stop_tries_a_receiver_at_once_whatever_pause_was_under_way(serve):
    port = free_port()
    server = serve("--events-url", f"http://127.0.0.1:{port}/hook", "--drain-timeout", "10m")
    server.ws().leaves()
    server.logged("receiver of events is down")
    server.signal(signal.SIGTERM)
    server.logged("stopping")
    assert server.process.poll() is None
    receiver = Receiver(port=port)
    try:
        assert receiver.told(1) == ["disconnected 1000 closed"]
        assert server.status() == 0
    finally:
        receiver.stop()


def test_a_receiver_that_comes_back_near_the_end_of_a_stop_gets_every_event(serve):
    port = free_port()
    server = serve("--events-url", f"http://127.0.0.1:{port}/hook", *ALL, "--drain-timeout", "8s")
    crowd = [server.ws().join("a") for _ in range(10)]
    server.logged("receiver of events is down")
    server.signal(signal.SIGTERM)
    for ws in crowd:
        ws.is_closed(1012)
    # No client is left. It waits for the receiver, and goes on calling it.
    assert server.process.poll() is None
    receiver = Receiver(port=port)
    try:
        told = receiver.told(22)
        assert told.count("connected") == told.count("disconnected 1012 stopping a") == 10
        assert (told[1], told[-2]) == ("occupied a", "vacated a")
        assert server.status() == 0
        assert '"events_left":0' in server.logged("stopped")
    finally:
        receiver.stop()


def test_a_stop_does_not_wait_longer_than_its_time(serve):
    server = serve("--events-url", f"http://127.0.0.1:{free_port()}/hook", "--drain-timeout", "500ms")
    server.ws().leaves()
    server.signal(signal.SIGTERM)
    assert server.status() == 0
    assert '"events_left":1' in server.logged("stopped")


def test_a_stop_without_events_is_over_at_once(serve, receiver):
    server = serve("--events-url", receiver.url, "--drain-timeout", "10m")
    server.ws().leaves()
    receiver.has_taken(1)
    server.signal(signal.SIGTERM)
    assert server.status() == 0


def test_a_call_that_hangs_does_not_hold_up_a_second_signal(serve, receiver):
    server = serve("--events-url", receiver.url, "--drain-timeout", "10m")
    receiver.hold()
    server.ws().leaves()
    receiver.calls(1)
    server.signal(signal.SIGTERM)
    server.logged("stopping")
    server.signal(signal.SIGTERM)
    assert server.status() == 143


# -- flags


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--events", "connected,join"), ["--events", "join", "vacated"]),
        (("--events", "all"), ["--events", "all", "vacated"]),
        (("--events-url", "ftp://u:s3cret@host/"), ["--events-url", "http://", "***"]),
        (("--events-url", "http://u:s3cret@host:99999/"), ["--events-url", "***"]),
        (("--events-queue", "0"), ["--events-queue", "0"]),
        (("--events-queue", "many"), ["--events-queue", "many"]),
    ],
)
def test_wrong_values_are_named(flags, named):
    status, out, err = run(*flags)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert all(word in err for word in named) and "s3cret" not in err, err


def test_variables_set_the_same(serve, receiver):
    server = serve(env={"WSIFY_EVENTS_URL": receiver.url, "WSIFY_EVENTS": "occupied, vacated", "WSIFY_EVENTS_QUEUE": "3"})
    server.ws().join("a").leave("a")
    assert receiver.told(2) == ["occupied a", "vacated a"]


def test_without_a_url_events_do_nothing(serve):
    server = serve(*ALL, "--events-queue", "1")
    server.ws().join("a").leaves()
    assert server.metric("wsify_events_total") == 0


def check(*flags):
    return run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", *flags)


def test_a_check_posts_a_batch_without_events(receiver):
    status, out, _ = check("--events-url", receiver.url, "--authorizer-key", "k")
    assert status == 0 and "ok  the receiver of events" in out
    (call,) = receiver.calls()
    assert call.header("X-Wsify-Probe") == "1" and call.json == {"node": "0" * 16, "events": []}
    signed_at(call, "k")


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 413, 500])
def test_a_check_expects_2xx(receiver, status):
    receiver.on(Reply(status, headers=(("X-A", "b"),) if status == 204 else ()))
    done, out, _ = check("--events-url", receiver.url)
    found = next(row for row in out.splitlines() if "receiver of events" in row)
    assert (done == 0) == (status < 300) == found.startswith("ok "), out
    assert str(status) in found


def test_a_check_says_that_a_receiver_is_down():
    done, out, _ = check("--events-url", f"http://u:s3cret@127.0.0.1:{free_port()}/")
    assert done == 1 and "connection refused" in out and "s3cret" not in out


def test_the_text_of_events_is_json_in_utf8(told, receiver):
    name = 'é"\\\u2028\U0001f600'
    told.ws("/ws?%C3%A9=%00%ff+%22").join(name).leaves()
    events = receiver.has_taken(4)
    assert events[1]["channel"] == name
    assert events[0]["connection"]["query"] == {"é": ["\0\ufffd \""]}
    assert all(json.loads(call.raw.decode("utf-8")) for call in receiver.calls())
