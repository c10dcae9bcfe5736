"""Replacing the running program: connections, their grants, what is due and what was counted go over
(docs/operating.md#replacing-the-program)."""

import json
import os
import re
import signal
import threading
import time

import pytest

from harness.authorizer import Authorizer, items, with_fields
from harness.handover import (
    GOES_ON, PATIENCE, REPLACED, ask, children, closes_on_exec, descriptors, hand_over, handed_over, image, logged, signals,
)
from harness.net import is_error, request, until
from harness.receiver import line
from harness.server import KEY
from harness.ws import PING, closing, command, frame, text, upgraded

JSON = ("Content-Type", "application/json")


def again_and_again(server, happens, what):
    """Replaces the program until something that is due has happened: no replacement may put it off."""

    def happened():
        if happens():
            return True
        hand_over(server)
        return False

    until(happened, what)


def lists(server, target="/connections"):
    """Without the times that differ from one call to the next."""
    found = json.loads(server.call("GET", target).body)
    for connection in found.get("connections", ()):
        del connection["connected_ms"]
    return found


def samples(server):
    body = server.call("GET", "/metrics").body.decode()
    return {name: float(value) for name, value in re.findall(r"^([^#\s].*?) (\S+)$", body, re.MULTILINE)}


def health(server):
    answer = server.call("GET", "/health")
    return answer.status, answer.json()


# -- the process


def test_the_process_is_the_same_and_its_log_says_what_was_done(serve):
    server = serve("--drain-timeout", "300ms", env={"UNRELATED": "1"})
    crowd = [server.ws().join("x") for _ in range(7)]
    of_process = lambda name: open(f"/proc/{server.pid}/{name}").read()
    before = of_process("cmdline"), server.metric("^process_start_time_seconds$"), signals(server.pid)
    entry = hand_over(server)
    assert entry["level"] == "info"
    assert entry["connections"] >= 7
    assert entry["stood_still_ms"] >= 0
    assert server.process.poll() is None
    assert (of_process("cmdline"), server.metric("^process_start_time_seconds$"), signals(server.pid)) == before
    assert "UNRELATED=1" in of_process("environ").split("\0")
    for ws in crowd:
        ws.is_quiet()
    server.signal(signal.SIGTERM)
    for ws in crowd:
        ws.is_closed(1012)
    assert server.status() == 0


def test_ten_replacements_leave_nothing_behind(serve, authorizer, receiver):
    server = serve("--events-url", receiver.url, "--authorizer-workers", "2", auth=authorizer)
    crowd = [server.ws().join("x") for _ in range(20)]
    receiver.on(200)
    seen = []
    for n in range(10):
        hand_over(server)
        crowd[0].does("join", f"again {n}")  # so that there is a worker, and its connection
        crowd[1].broadcast(f"unheard {n}", "1")
        until(lambda: not children(server.pid), lambda: f"no process is left: {children(server.pid)}")
        assert closes_on_exec(server.pid)
        environ = len(open(f"/proc/{server.pid}/environ").read())
        seen.append((descriptors(server.pid), environ))
    first, last = seen[1], seen[-1]
    assert len(last[0]) == len(first[0]), (first, last)
    assert not any("memfd" in name for name in last[0]), last
    assert abs(last[1] - first[1]) < 64, "the environment does not grow"
    assert len(logged(server, REPLACED)) == 10
    server.publish("x", "1")
    for ws in crowd:
        ws.hears("1").is_quiet()


def test_replacements_at_the_limit_on_descriptors(serve):
    """It works or it says why; connections stay in any case."""
    server = serve(files=64, env={})
    held = []
    while (stream := server.knock()).response().status == 101:
        held.append(stream)
    before = image(server.pid)
    ask(server)
    said = until(lambda: logged(server, REPLACED) + logged(server, GOES_ON), lambda: f"it says what it did: {server.out}", PATIENCE)
    assert server.process.poll() is None
    assert (image(server.pid) != before) == (REPLACED in said[0]["message"]), said
    for stream in held:
        stream.send(frame(PING, b"x"))
        assert stream.exactly(3) == b"\x8a\x01x"
    held.pop().close()
    until(server.admits, "there is room again")


@pytest.mark.parametrize("value", ["probe", "check 1", "take 3 4", "1"])
def test_a_variable_of_an_operator_is_not_taken_for_the_program_s_own(serve, value):
    """What one program leaves to the next is for that one alone; other variables are ignored."""
    server = serve(env={"WSIFY_HANDOVER": value})
    ws = server.ws().join("x")
    hand_over(server)
    ws.is_quiet()


# -- connections and users


def test_connections_keep_their_ids_users_states_and_channels(serve, authorizer):
    authorizer.on(lambda q: with_fields(user=q.args["query"]["user"][0], state={"n": 1.0}, channels=["news"]), "connect")
    authorizer.on(with_fields(raw=b'{"state":[2]}'), "join", "more")
    server = serve(auth=authorizer)
    ann, bob = server.ws("/ws?user=ann&q=%C3%A9", protocols="wsify.v1"), server.ws("/ws?user=bob")
    bob.join("more")
    before = lists(server), lists(server, "/channels")
    assert len(before[0]["connections"]) == 2
    id = ann.welcome["connection"]
    hand_over(server)
    assert (lists(server), lists(server, "/channels")) == before
    assert lists(server, f"/connections?connection={id}")["connections"][0]["user"] == "ann"
    # What goes to a user, to a connection and to a channel finds it.
    for target, content in (('"user":"ann"', 1), (f'"connection":"{id}"', 2), ('"channel":"news"', 3)):
        assert server.post(f'{{{target},"content":{content}}}').status == 201
        ann.hears(f'{{{target},"content":{content}}}')
    bob.hears("3")
    # The authorizer is told the same of them.
    asked = [authorizer.about("connect")[0].peer, authorizer.about("join")[0].peer]
    ann.join("more")
    bob.leave("more")
    question, last = authorizer.about("join")[-1], authorizer.about("leave")[-1]
    assert question.peer == asked[0] | {"user": "ann", "state": {"n": 1.0}}
    assert last.peer == asked[1] | {"state": [2]}
    newcomer = server.ws("/ws?user=cid", protocols="wsify.v1")
    assert newcomer.welcome["connection"] not in [it["id"] for it in before[0]["connections"]]
    assert newcomer.welcome["connection"].split("-")[0] == id.split("-")[0], "it is the same node"
    # A backend acts on them as before.
    assert json.loads(server.post('{"user":"ann","channel":"late"}', "/join").body) == {"connections": 1}
    ann.hears('{"joined":"late"}')
    assert json.loads(server.post('{"user":"bob"}', "/disconnect").body) == {"connections": 1}
    bob.is_closed(4403)


def test_order_goes_on_among_old_and_new_members(serve):
    server = serve()
    members = [server.ws().join("x") for _ in range(3)]
    for n in range(30):
        server.publish("x", str(n))
        if n % 10 == 5:
            hand_over(server)
            members.append(server.ws().join("x"))
    server.publish("x", '"end"')
    for ws, first in zip(members, (0, 0, 0, 6, 16, 26)):
        ws.hears(*map(str, range(first, 30)), '"end"').is_quiet()


def test_addresses_behind_proxies_and_limits_on_them_go_over(serve):
    flags = ("--max-connections-per-ip", "3", "--max-message-rate", "5", "--trusted-proxies", "127.0.0.1", "--proxy-protocol=true")
    server = serve(*flags, "--broadcasting-key", "k")

    def come(source, what, cut=None):
        """A stream, and what is still to be sent."""
        data = f"PROXY TCP4 {source} 127.0.0.1 4711 80\r\n".encode() + what
        return server.dial().send(data[:cut]), data[cut:] if cut else b""

    def status(source):
        stream, _ = come(source, server.upgrade())
        return stream.response().status

    begun = [come("192.0.2.2", server.upgrade(), cut) for cut in (5, 30, 60)]
    full = [upgraded(come("192.0.2.1", server.upgrade())[0], KEY) for _ in range(3)]
    assert status("192.0.2.1") == 429
    for n in range(5):
        full[0].say(command("join", f"{n}", id=n))
    hand_over(server)
    for n in range(5):
        assert full[0].answer()["id"] == n
    assert status("192.0.2.1") == 429
    for stream, rest in begun:
        upgraded(stream.send(rest), KEY).join("x")
    page = come("192.0.2.3", request("GET", "/connections?key=k"))[0].response().json()
    assert sorted(it["remote_addr"] for it in page["connections"]) == ["192.0.2.1:4711"] * 3 + ["192.0.2.2:4711"] * 3
    full[1].hang_up()
    until(lambda: status("192.0.2.1") == 101, "there is room again")


def test_metrics_go_on(serve, authorizer, receiver):
    authorizer.on(403, "join", "secret")
    server = serve("--compression", "on", "--events-url", receiver.url, "--max-message-size", "64KiB", auth=authorizer)
    ws, other = server.ws(deflate=True).join("a", "b"), server.ws()
    ws.fails(command("join", "secret", id=1), "not_authorized", 1)
    ws.fails("{}", "bad_message")
    server.publish("a", '"' + "x" * 1000 + '"')
    ws.hears('"' + "x" * 1000 + '"')
    server.call("GET", "/nothing")
    server.call("GET", "/ws")
    server.ws().send(frame(11)).close_frame()
    server.ws().leaves()
    receiver.has_taken(2)
    until(lambda: samples(server)["wsify_events_waiting"] == 0, "all calls are counted")
    before = samples(server)
    counts = {name for name in before if re.search(r"_(total|count|sum|bucket)\b", name) and before[name]}
    assert len(counts) > 40, counts
    hand_over(server)
    after = samples(server)
    assert set(before) <= set(after), set(before) - set(after)
    assert all(after[name] >= before[name] for name in counts), [(name, before[name], after[name]) for name in counts if after[name] < before[name]]
    still = re.compile(r"^wsify_(channels|memberships|queued_bytes|laggards|commands|deliveries|fanouts|handshakes|authorizer|compression|events|connections\{)(?!_lag)")
    assert {n: v for n, v in after.items() if still.match(n)} == {n: v for n, v in before.items() if still.match(n)}
    server.publish("a", "1")
    ws.hears("1")
    assert samples(server)["wsify_deliveries_total"] == before["wsify_deliveries_total"] + 1
    other.is_quiet()


def test_lines_that_taps_have_lost_stay_counted(serve):
    server = serve()
    server.dial(rcvbuf=4096).send(request("GET", "/tap"))
    ws = server.ws()
    lost = lambda: server.metric("^wsify_tap_lines_lost_total$")

    def is_lost():
        for n in range(500):
            ws.say(command("marker", "marker", id=n))
        for n in range(500):
            ws.answer(n)
        return lost()

    until(is_lost, "the tap loses lines")
    before = lost()
    hand_over(server)
    assert lost() >= before


def test_every_line_of_the_log_is_written_once(serve):
    server = serve("--access-log", "all")
    crowd = [server.ws() for _ in range(200)]
    for ws in crowd:
        ws.send(closing(1000))
    hand_over(server)
    until(lambda: len(logged(server, "connection ended")) >= 200, lambda: f"all ends are logged: {len(server.out)}")
    ids = [entry["connection"] for entry in logged(server, "connection ended") if entry.get("code") == 1000]
    assert len(ids) == len(set(ids)) == 200


def test_the_access_log_counts_what_was_before(serve):
    server = serve("--access-log", "all")
    began = time.monotonic()
    ws = server.ws()
    for n in range(3):
        ws.does("join", f"c{n}")
        hand_over(server)
    ws.leaves(4001)
    entry = json.loads(server.logged('"code":4001'))
    assert (entry["messages_in"], entry["messages_out"]) == (3, 3), entry
    sent = len(text(command("join", "c0", id="id-1-1"))) * 3
    assert entry["bytes_in"] > sent and entry["bytes_out"] > 100, entry
    assert entry["duration_ms"] <= (time.monotonic() - began) * 1000 + 1


def test_a_log_that_is_not_read_does_not_prevent_it(serve):
    reading, writing = os.pipe()
    try:
        server = serve("--access-log", "all", stdout=writing)
        ws = server.ws().join("x")
        while not server.metric("^wsify_log_lines_dropped_total$"):
            for _ in range(500):
                server.dial().close()
        before = image(server.pid)
        ask(server)
        until(lambda: image(server.pid) != before, "the program is replaced")
        server.publish("x", "1")
        ws.hears("1").is_quiet()
    finally:
        os.close(reading)
        os.close(writing)


# -- questions


def test_questions_are_asked_once_and_answered_whether_they_were_in_flight_or_waited(serve, authorizer):
    server = serve("--authorizer-workers", "2", auth=authorizer)
    listener, crowd = server.ws().join("x"), [server.ws() for _ in range(12)]
    knocking_from = len(authorizer.about("connect"))
    authorizer.hold("broadcast")
    for n, ws in enumerate(crowd):
        ws.say(command("broadcast", "x", n, id=n)).say(command("broadcast", "x", n + 100, id=n + 100))
    in_flight = authorizer.asked(2, "broadcast")
    knocking = [server.dial().send(server.upgrade() + text(command("join", "y", id=9))) for _ in range(3)]
    until(lambda: server.metric("^wsify_authorizer_questions_waiting$") == 13, "they wait")
    gone = crowd.pop()
    gone.reset()
    crowd[3].stream.half_close()  # it is heard to the end
    before = ask(server)
    # Clients go on being read and served meanwhile.
    for _ in range(20):
        listener.is_quiet()
    assert len(authorizer.about("broadcast")) == 2 and image(server.pid) == before[0]
    authorizer.on(200, "broadcast")
    for question in in_flight:
        question.release()
    handed_over(server, before)
    heard = [int(listener.hear()) for _ in range(2 * len(crowd))]
    assert sorted(heard) == sorted([n for n in range(11)] + [n + 100 for n in range(11)])
    for n, ws in enumerate(crowd):
        assert heard.index(n) < heard.index(n + 100)
        assert [ws.answer() for _ in range(2)] == [{"id": n, "ok": True}, {"id": n + 100, "ok": True}]
    for stream in knocking:
        assert upgraded(stream, KEY).answer() == {"id": 9, "ok": True}
    listener.is_quiet()
    asked = [question.args["content"] for question in authorizer.about("broadcast")]
    assert sorted(asked) == sorted(heard), "each question once, and none of the client that has left"
    assert len(authorizer.about("connect")) == knocking_from + 3


def test_a_question_in_flight_puts_it_off_for_the_authorizers_time_and_no_longer(serve, authorizer):
    server = serve("--authorizer-timeout", "1s", auth=authorizer)
    ws, other = server.ws(), server.ws().join("x")
    authorizer.hold("join", "y")
    ws.say(command("join", "y", id=1))
    authorizer.asked(1, "join", "y")
    hand_over(server)
    ws.is_closed(1013)
    other.is_quiet()
    server.publish("x", "1")
    other.hears("1")


def test_much_behind_an_open_question(serve, authorizer):
    """More than the server reads while the question is open: the rest stays in the socket and is read by the new program."""
    server = serve("--authorizer-workers", "1", "--max-queue-size", "16MiB", auth=authorizer)
    plug, ws = server.ws(), server.ws().join("x")
    authorizer.hold("join", "plug")
    plug.say(command("join", "plug", id=0))
    (question,) = authorizer.asked(1, "join", "plug")
    authorizer.on(lambda q: with_fields(max_age=60), "broadcast")
    count, filler = 600, "x" * 1000
    ws.stream.sock.settimeout(60)
    sender = threading.Thread(target=lambda: [ws.say(command("broadcast", "x", f'"{n} {filler}"')) for n in range(count)])
    sender.start()
    before = ask(server)
    question.release()
    handed_over(server, before)
    ws.hears(*(f'"{n} {filler}"' for n in range(count)))
    sender.join()
    assert plug.answer() == {"id": 0, "ok": True}
    ws.is_quiet()


def test_batches_of_questions(serve, authorizer):
    server = serve("--authorizer-workers", "1", "--authorizer-batch", "64", auth=authorizer)
    plug, crowd = server.ws(), [server.ws() for _ in range(9)]
    usual, authorizer.batches = authorizer.batches, None
    before = len(authorizer.posts)
    plug.say(command("join", "plug", id=0))
    (busy,) = authorizer.called(before + 1)[before:]
    for n, ws in enumerate(crowd):
        ws.say(command("join", "x", id=n))
    until(lambda: server.metric("^wsify_authorizer_questions_waiting$") == 9, "all wait")
    authorizer.batches = usual
    asked = ask(server)
    busy.release(items(200))
    handed_over(server, asked)
    assert plug.answer() == {"id": 0, "ok": True}
    for n, ws in enumerate(crowd):
        assert ws.answer() == {"id": n, "ok": True}
    assert sum(len(call.batch) for call in authorizer.posts[before:]) == 10


def test_what_the_authorizer_has_allowed_holds(serve, authorizer):
    allow = {"join": ["free*"], "broadcast": ["*"]}
    authorizer.on(with_fields(user="ann", allow=allow, expires_in=3600), "connect")
    authorizer.on(with_fields(max_age=3600), "join", "once")
    authorizer.on(with_fields(403, max_age=3600, message="members only"), "join", "never")
    server = serve(auth=authorizer)
    ws = server.ws()
    ws.join("once", "free1").leave("once")
    ws.fails(command("join", "never", id=1), "not_authorized", 1)
    hand_over(server)
    before = len(authorizer.questions)
    ws.join("once", "free2").broadcast("any", "1")
    assert ws.fails(command("join", "never", id=1), "not_authorized", 1)["error"]["message"] == "members only"
    assert len(authorizer.questions) == before, "nothing of it is asked about"
    ws.join("other")
    assert len(authorizer.questions) == before + 1


# -- an outage


def test_what_is_held_in_an_outage_is_asked_when_the_authorizer_is_back(serve):
    authorizer = Authorizer()
    server = serve("--authorizer-failure", "hold", auth=authorizer)
    listener, crowd = server.ws().join("x"), [server.ws() for _ in range(10)]
    authorizer.on(500)
    for n, ws in enumerate(crowd):
        ws.say(command("broadcast", "x", n, id=n)).say(command("broadcast", "x", n + 100, id=n + 100))
    knocking = server.knock()
    until(lambda: server.metric("^wsify_authorizer_up$") == 0 and server.metric("^wsify_authorizer_held$") == 11, "all are held")
    left = crowd.pop()
    left.reset()
    until(lambda: server.metric("^wsify_authorizer_held$") == 10, "one has left")
    for _ in range(2):
        hand_over(server)
        assert server.metric("^wsify_authorizer_up$") == 0 and server.metric("^wsify_authorizer_held$") == 10
        assert health(server) == (200, {"status": "ok", "authorizer": "down"})
    authorizer.on(200)
    heard = [int(listener.hear()) for _ in range(18)]
    assert sorted(heard) == sorted([*range(9), *range(100, 109)])
    for n, ws in enumerate(crowd):
        assert [ws.answer() for _ in range(2)] == [{"id": n, "ok": True}, {"id": n + 100, "ok": True}]
    assert knocking.response().status == 101
    assert server.metric("^wsify_authorizer_up$") == 1
    assert json.loads(server.logged("answers again"))["down_ms"] > 0
    by_content = {}
    for question in authorizer.about("broadcast"):
        by_content.setdefault(question.args["content"], set()).add(question.json["question"])
    assert all(len(ids) == 1 for ids in by_content.values()), "asked again, it has the id that it had"
    authorizer.stop()


def test_with_reject_the_outage_is_known(serve, authorizer):
    server = serve("--authorizer-failure", "reject", auth=authorizer)
    crowd = [server.ws().join("x") for _ in range(3)]
    authorizer.on(503)
    down = lambda: [ws.ask(command("join", "y", id=1)) for ws in crowd] and health(server)[1].get("authorizer") == "down"
    until(down, "it is down")
    hand_over(server)
    assert health(server) == (200, {"status": "ok", "authorizer": "down"})
    assert crowd[0].ask(command("join", "y", id=2))["error"]["code"] == "authorizer_down"
    authorizer.on(200)
    until(lambda: crowd[0].ask(command("join", "y", id=3)).get("ok"), "an answer")
    assert health(server) == (200, {"status": "ok"})


# -- what is due


def test_a_ping_is_due_when_it_was(serve):
    server = serve("--ping-interval", "1s")
    began = time.monotonic()
    ws, silent = server.ws(), server.ws()
    gone = lambda: server.metric(r'^wsify_connections_ended_total\{reason="silent"\}$') == 1
    ws.stream.sock.setblocking(False)

    def answers():
        """Lets the client answer pings."""
        try:
            while ws.stream.more():
                pass
        except BlockingIOError:
            pass
        while len(ws.stream.buffer) >= 2:
            got = ws.next_frame()
            assert got.opcode == PING, got
            ws.pings += 1
            ws.send(frame(10, got.payload))
        return gone()

    again_and_again(server, answers, "the client that answers no ping is ended")
    assert time.monotonic() - began >= 1.5 and ws.pings >= 1
    # What may have come while no program ran puts its end off.
    heard = silent.stream.rest()
    assert heard and heard == frame(PING, mask=False) * (len(heard) // 2), heard


def test_a_request_is_due_when_it_was(serve):
    server = serve("--handshake-timeout", "1s")
    began = time.monotonic()
    half, silent = server.dial().send(server.upgrade()[:40]), server.dial()
    silent.sock.setblocking(False)
    over = lambda: server.metric(r'^wsify_connections_ended_total\{reason="handshake_timeout"\}$') == 2
    again_and_again(server, over, "both are ended")
    assert time.monotonic() - began >= 0.9
    assert half.response().status == 408
    half.at_end()


def test_grants_end_when_they_were_to_end(serve, authorizer):
    server = serve(auth=authorizer)
    authorizer.on(with_fields(allow={"join": ["*"]}, expires_in=2), "connect")
    authorizer.on(with_fields(max_age=1), "broadcast")
    began = time.monotonic()
    ws = server.ws().join("x").broadcast("y", "1")
    again_and_again(server, lambda: authorizer.about("refresh"), "it is asked about again")
    assert time.monotonic() - began >= 1.7
    ws.join("z")
    assert len(authorizer.about("join")) == 1, "the refresh has ended what was allowed"
    until(lambda: ws.broadcast("y", "1") and len(authorizer.about("broadcast")) > 1, "what was remembered has lapsed")
    assert len(authorizer.about("refresh")) == 1


def test_what_is_held_is_held_no_longer_than_it_would_have_been(serve, authorizer):
    server = serve("--authorizer-failure", "hold", "--authorizer-hold", "2s", auth=authorizer)
    ws = server.ws()
    authorizer.on(503)
    began = time.monotonic()
    ws.say(command("join", "x"))
    knocking = server.knock()
    closed = lambda: server.metric("^wsify_authorizer_held$") == 0 and time.monotonic() - began > 1
    again_and_again(server, closed, "nothing is held any more")
    assert time.monotonic() - began >= 1.9
    ws.is_closed(1013)
    is_error(knocking.response(), 503)


def test_a_close_that_is_not_answered_ends_when_it_was_to_end(serve):
    server = serve()
    ws = server.ws()
    ws.send(frame(11))
    assert ws.close_frame()[0] == 1002
    sockets = lambda: descriptors(server.pid).count("socket:")
    before = sockets()
    again_and_again(server, lambda: sockets() < before, "its socket is closed")
    ws.stream.at_end()


# -- a stop


def test_a_stop_goes_on(serve, authorizer):
    server = serve("--drain-timeout", "2s", "--authorizer-workers", "1", auth=authorizer)
    crowd = [server.ws().join("x") for _ in range(12)]
    asking = server.ws()
    begun = server.dial().send(request("GET", "/health")[:-5])
    assert health(server)[0] == 200
    authorizer.hold("join", "y")
    asking.say(command("join", "y", id=1))
    (question,) = authorizer.asked(1, "join", "y")
    server.signal(signal.SIGTERM)
    until(lambda: health(server) == (503, {"status": "draining"}), "it drains")
    before = ask(server)
    question.release()
    handed_over(server, before)
    assert health(server) == (503, {"status": "draining"})
    assert server.knock().response().status == 503
    response = begun.send(request("GET", "/health")[-5:]).response()
    assert response.json() == {"status": "draining"} and response.closes()
    assert asking.answer() == {"id": 1, "ok": True}
    for ws in (*crowd, asking):
        ws.is_closed(1012)
    assert server.status() == 0
    assert [entry["message"] for entry in server.log()].count("stopped") == 1


def test_the_signal_behind_a_replacement_is_the_second(serve):
    server = serve("--drain-timeout", "10m")
    for _ in range(3):
        server.ws()
    server.signal(signal.SIGTERM)
    until(lambda: health(server)[1]["status"] == "draining", "it drains")
    hand_over(server)
    assert health(server)[1]["status"] == "draining"
    server.signal(signal.SIGINT)
    assert server.status() == 128 + signal.SIGINT


@pytest.mark.parametrize("phase", ["at once", "a question is awaited", "the first trial", "the second trial", "another program runs"])
def test_a_stop_at_any_time_of_a_replacement_stops(serve, authorizer, phase):
    server = serve("--drain-timeout", "500ms", auth=authorizer)
    crowd = [server.ws().join("x") for _ in range(5)]
    if phase == "a question is awaited":
        authorizer.hold("join", "y")
        crowd[0].say(command("join", "y"))
        authorizer.asked(1, "join", "y")
    before, tried = image(server.pid), set()
    ask(server)
    # What is waited for may be over before it is seen.
    trials = {"the first trial": 1, "the second trial": 2, "another program runs": 3}.get(phase, 0)
    until(lambda: tried.update(children(server.pid)) or len(tried) >= trials or image(server.pid) != before, phase)
    server.signal(signal.SIGTERM)
    for ws in crowd:
        ws.is_closed(1012)
    assert server.status() == 0
    assert [entry["message"] for entry in server.log()].count("stopped") == 1


def test_a_request_right_behind_a_stop_changes_nothing(serve):
    server = serve("--drain-timeout", "500ms")
    crowd = [server.ws().join("x") for _ in range(5)]
    server.signal(signal.SIGTERM)
    ask(server)
    for ws in crowd:
        ws.is_closed(1012)
    assert server.status() == 0


def test_a_second_request_meanwhile_is_ignored(serve, authorizer):
    server = serve(auth=authorizer)
    ws, other = server.ws(), server.ws().join("x")
    authorizer.hold("join", "y")
    ws.say(command("join", "y", id=1))
    (question,) = authorizer.asked(1, "join", "y")
    before = ask(server)
    for _ in range(2):
        other.is_quiet()
        ask(server)
    other.is_quiet()
    question.release()
    handed_over(server, before)
    assert ws.answer() == {"id": 1, "ok": True}
    hand_over(server)
    ws.join("z")
    other.is_quiet()


# -- events


def test_events_go_on(serve, receiver):
    server = serve("--events-url", receiver.url, "--events", "connected,disconnected,occupied,vacated")
    server.ws().join("a").leaves()
    receiver.has_taken(4)
    receiver.hold()
    before = len(receiver.about())
    stays = server.ws().join("b")
    call = receiver.calls(before + 1)[before]
    for _ in range(20):
        server.ws().leaves()
    asked = ask(server)
    receiver.on(200)
    call.release()
    handed_over(server, asked)
    stays.leaves()
    server.ws().leaves()
    events = receiver.has_taken(4 + 2 + 40 + 2 + 2)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({call.node for call in receiver.about()}) == 1
    assert [line(event) for event in events[-4:]] == ["vacated b", "disconnected 1000 closed b", "connected", "disconnected 1000 closed"]
    ids = [event["connection"]["id"] for event in events if "connection" in event]
    assert all(ids.count(id) == 2 for id in ids), "each has a beginning and an end"
    assert events[-3]["duration_ms"] >= 0
    assert lists(server, "/channels")["seq"] == {call.node: events[-1]["seq"]}


@pytest.mark.parametrize("answer", [500, None], ids=["a failed call", "a call that hangs"])
def test_the_batch_in_flight_is_never_lost(serve, receiver, answer):
    server = serve("--events-url", receiver.url, "--events", "connected", "--authorizer-timeout", "1s", "--events-queue", "3")
    receiver.on(answer)
    server.ws()
    first = receiver.calls(1)[0]
    for _ in range(5):
        server.ws()
    hand_over(server)
    receiver.on(200)
    events = receiver.has_taken(4)
    assert receiver.about()[1].raw == first.raw, "the same events again, byte for byte"
    assert [event["seq"] for event in events] == [1, 4, 5, 6]
    assert server.metric("^wsify_events_dropped_total$") == 2
