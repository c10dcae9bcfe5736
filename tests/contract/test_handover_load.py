"""Replacing the running program again and again under load (docs/operating.md#replacing-the-program)."""

import threading

import pytest

from harness.chatter import Chatter
from harness.handover import ask, children, descriptors, hand_over, image
from harness.net import DEADLINE, request, until
from harness.server import KEY
from harness.ws import upgraded

JSON = ("Content-Type", "application/json")
TIMES = 8


class Work:
    """Threads that go on until they are stopped; what fails in one of them fails the test."""

    def __init__(self):
        self.over = threading.Event()
        self.failures = []
        self.threads = []

    def start(self, work):
        def guarded():
            try:
                work()
            except BaseException as failure:
                self.failures.append(failure)

        self.threads.append(threading.Thread(target=guarded, daemon=True))
        self.threads[-1].start()

    def check(self):
        if self.failures:
            raise self.failures[0]
        return True

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(2 * DEADLINE)
            assert not thread.is_alive(), "it waits for something"
        self.check()


@pytest.fixture
def work():
    work = Work()
    yield work
    work.over.set()


def test_two_hundred_clients_lose_nothing(serve, work):
    """They talk all the time, a backend posts, and others come and go. Everything is answered and heard once, in order."""
    server = serve("--max-queue-size", "16MiB")
    chatter = Chatter(server.port, 200, room=20)
    listener = server.ws().join("posts")
    told = [0, 0, 0]

    def acknowledged(count):
        told[0] = count

    def post():
        stream = server.dial()
        while not work.over.is_set():
            first = told[1]
            bodies = [f'{{"channel":"posts","content":{n}}}'.encode() for n in range(first, first + 8)]
            stream.send(b"".join(request("POST", "/broadcast", [JSON], body) for body in bodies))
            assert [stream.response().status for _ in bodies] == [201] * 8
            told[1] += 8

    def come_and_go():
        while not work.over.is_set():
            stream = server.dial().send(server.upgrade())
            ws = upgraded(stream, KEY).join("room 0")
            told[2] += 1
            (ws.hang_up if told[2] % 2 else ws.reset)()

    for job in (lambda: chatter.run(work.over.is_set, acknowledged), post, come_and_go):
        work.start(job)
    before = None
    for n in range(TIMES):
        goes_on = list(told)
        until(lambda: work.check() and all(now > was + 1 for now, was in zip(told, goes_on)), lambda: f"everything goes on; {told}, before {goes_on}")
        hand_over(server)
        if n == 0:
            before = len([name for name in descriptors(server.pid) if name != "socket:"])
    goes_on = list(told)
    until(lambda: work.check() and all(now > was + 1 for now, was in zip(told, goes_on)), "everything goes on")
    work.stop()
    assert chatter.verify() > 200
    listener.hears(*map(str, range(told[1]))).is_quiet()
    assert server.metric(r'^wsify_connections_ended_total\{reason="too_slow"\}$') == 0
    assert not children(server.pid)
    assert len([name for name in descriptors(server.pid) if name != "socket:"]) == before
    chatter.close()


def test_requests_without_a_pause(serve, work):
    """Signals come faster than the program can be replaced. None of them ends it, and the last replacement is complete."""
    server = serve("--max-queue-size", "16MiB")
    chatter = Chatter(server.port, 60, room=10)
    work.start(lambda: chatter.run(work.over.is_set))
    for _ in range(4):
        before = image(server.pid)
        until(lambda: ask(server) and work.check() and image(server.pid) != before, "the program is replaced")
    until(lambda: work.check() and not children(server.pid), "the last one is complete")
    work.stop()
    assert chatter.verify() > 60
    chatter.close()


def test_with_an_authorizer_and_events(serve, work, authorizer, receiver):
    """Questions are asked once each, whatever was under way."""
    server = serve("--authorizer-workers", "4", "--events-url", receiver.url, "--events", "connected,disconnected", auth=authorizer)
    chatter = Chatter(server.port, 40, room=10)
    told = [0]

    def acknowledged(count):
        told[0] = count

    work.start(lambda: chatter.run(work.over.is_set, acknowledged))
    for _ in range(4):
        was = told[0]
        until(lambda: work.check() and told[0] > was + 40, "it goes on")
        hand_over(server)
    work.stop()
    sent = chatter.verify()
    asked = [(q.peer["id"], q.args["content"][1]) for q in authorizer.about("broadcast")]
    assert len(asked) == len(set(asked)) == sent
    chatter.close()
    events = receiver.has_taken(80)
    assert [event["seq"] for event in events] == list(range(1, 81))
    assert len({call.node for call in receiver.about()}) == 1
