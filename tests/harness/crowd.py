"""A crowd under load: clients on several nodes in many channels, publishers on each node, and an account of what was answered and
what was heard. What must hold whatever happens to redis meanwhile is checked in one place."""

import json
import selectors
import struct
import threading
import time
from collections import Counter, defaultdict

from .net import DEADLINE, request, until
from .ws import TEXT, command, frame, text

# Between two messages of one publisher, in seconds.
PACE = 0.004


class Member:
    """A client whose socket the crowd reads."""

    def __init__(self, node, number, v1):
        self.ws = node.ws(protocols="wsify.v1" if v1 else None)
        self.node, self.number, self.v1 = node, number, v1
        self.buffer = bytearray(self.ws.stream.buffer)
        self.sock = self.ws.stream.sock
        self.sock.setblocking(False)
        self.channels = []
        self.messages = []  # (when, JSON)
        self.answers = {}
        self.pings = 0

    def feed(self, data, now):
        buffer = self.buffer
        buffer += data
        while len(buffer) >= 2:
            assert not buffer[1] & 0x80 and buffer[0] & 0x80 and not buffer[0] & 0x70, bytes(buffer[:2])
            size, start = buffer[1] & 0x7F, 2
            if size == 126:
                if len(buffer) < 4:
                    return
                size, start = struct.unpack("!H", buffer[2:4])[0], 4
            assert size < 65536 and buffer[1] != 127, "nothing here is so long"
            if len(buffer) < start + size:
                return
            opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + size])
            del buffer[: start + size]
            if opcode == TEXT:
                self.heard(json.loads(payload), now)
            else:
                assert opcode == 9, f"opcode {opcode} to client {self.number}: {payload}"
                self.say_bytes(frame(10, payload))

    def heard(self, message, now):
        if "id" in message:
            self.answers[message["id"]] = message
        elif self.v1:
            if message == {"gap": True}:
                return  # what goes to users and connections, of which there is nothing here
            if "gap" in message:
                assert message == {"channel": message["channel"], "gap": True}, message
            self.messages.append((now, message))
        else:
            self.messages.append((now, {"channel": message["c"], "content": message}))

    def say_bytes(self, data):
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                time.sleep(0.001)


class Crowd:
    def __init__(self, nodes, channels=500, clients=200):
        self.nodes = nodes
        self.channels = [f"c{number}" for number in range(channels)]
        self.members = [Member(nodes[n % len(nodes)], n, v1=n % 4 != 3) for n in range(clients)]
        self.lock = threading.Lock()
        self.outcomes = {}  # (publisher, n) -> (node, channel, whether it was acknowledged)
        self.stopping = threading.Event()
        self.paused = threading.Event()
        self.failures = []
        self.selector = selectors.DefaultSelector()
        for member in self.members:
            self.selector.register(member.sock, selectors.EVENT_READ, member)
        self.reader = threading.Thread(target=self.guarded, args=(self.read,), daemon=True)
        self.reader.start()
        self.join(len(nodes))
        self.publishers = []

    def join(self, count):
        """Each channel has a member on each node; the last clients are in none."""
        groups = len(self.members) // count - 1
        for number, channel in enumerate(self.channels):
            for node in range(count):
                self.members[number * 7 % groups * count + node].channels.append(channel)
        for member in self.members:
            said = b"".join(text(command("join", channel, id=channel)) for channel in member.channels)
            member.say_bytes(said)
        joined = lambda: all(member.answers.get(c) == {"id": c, "ok": True} for member in self.members for c in member.channels)
        until(joined, "everything is joined")

    def guarded(self, work, *args):
        try:
            work(*args)
        except BaseException as failure:
            self.failures.append(failure)

    def read(self):
        while not self.stopping.is_set():
            for key, _ in self.selector.select(0.05):
                try:
                    data = key.data.sock.recv(1 << 17)
                except BlockingIOError:
                    continue
                assert data, f"the server has hung up on client {key.data.number}"
                key.data.feed(data, time.monotonic())

    # -- publishing

    def start(self):
        self.halt = threading.Event()
        for nth, node in enumerate(self.nodes):
            for work in (self.post, self.broadcast):
                thread = threading.Thread(target=self.guarded, args=(work, nth, node), daemon=True)
                self.publishers.append(thread)
                thread.start()

    def next_channel(self, nth, n):
        return self.channels[(n * 13 + nth * 101) % len(self.channels)]

    def post(self, nth, node):
        """A backend, one request after the other."""
        by, n = f"{nth}-post", 0
        stream = node.dial()
        while not self.halt.is_set():
            n += 1
            channel = self.next_channel(nth, n)
            body = f'{{"channel":"{channel}","content":{{"c":"{channel}","by":"{by}","n":{n}}}}}'
            stream.send(request("POST", "/broadcast", [("Content-Type", "application/json")], body.encode()))
            response = stream.response()
            assert response.status == 201 or (response.status, response.json()["error"]["code"]) == (503, "unavailable"), response
            self.outcomes[by, n] = (node, channel, response.status == 201)
            self.halt.wait(PACE)

    def broadcast(self, nth, node):
        """A client that has several broadcasts under way."""
        by, n = f"{nth}-ws", 0
        ws = node.ws()  # without gaps between the answers; it is in no channel
        while not self.halt.is_set():
            batch = range(n + 1, n + 9)
            for n in batch:
                channel = self.next_channel(nth, n * 3 + 1)
                ws.say(command("broadcast", channel, f'{{"c":"{channel}","by":"{by}","n":{n}}}', id=n))
            for n in batch:
                answer = ws.answer(n)
                assert answer == {"id": n, "ok": True} or answer["error"]["code"] == "unavailable", answer
                self.outcomes[by, n] = (node, self.next_channel(nth, n * 3 + 1), "error" not in answer)
            self.halt.wait(PACE * 8)

    def published(self):
        """How many were acknowledged, on each node."""
        counts = Counter(node.port for node, _, ok in list(self.outcomes.values()) if ok)
        return [counts[node.port] for node in self.nodes]

    def goes_on(self, more=150, deadline=None):
        """Every node has acknowledged so many more messages."""
        before = self.published()
        until(lambda: self.check() or all(now >= was + more for now, was in zip(self.published(), before)), lambda: f"every node publishes; {self.published()}", deadline)

    def check(self):
        if self.failures:
            raise self.failures[0]

    def stop(self):
        """No more is published; everything that is under way is awaited."""
        self.halt.set()
        for thread in self.publishers:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a publisher waits for an answer"
        self.check()
        for member in self.members:
            member.say_bytes(text(command("marker", "marker", id="end")))
        until(lambda: self.check() or all("end" in member.answers for member in self.members), "every client is answered")

    def close(self):
        self.stopping.set()
        self.reader.join(DEADLINE)
        self.selector.close()
        self.check()

    # -- what must hold

    def verify(self, concerned):
        """What was acknowledged by a node was heard by its members, once and in order; `concerned(channel)`: whether members of
        the channel had to be told of a gap (None: they may have been). Returns the numbers of (acknowledged, unavailable)."""
        acknowledged = defaultdict(set)
        for (by, n), (node, channel, ok) in self.outcomes.items():
            if ok:
                acknowledged[node.port, channel].add((by, n))
        for member in self.members:
            heard, gaps = defaultdict(list), Counter()
            for _, message in member.messages:
                assert message["channel"] in member.channels, f"client {member.number} hears of {message}"
                if "gap" in message:
                    gaps[message["channel"]] += 1
                else:
                    content = message["content"]
                    heard[message["channel"]].append((content["by"], content["n"]))
            for channel in member.channels:
                got = heard[channel]
                assert len(set(got)) == len(got), f"client {member.number} hears twice in {channel}: {Counter(got).most_common(3)}"
                missing = acknowledged[member.node.port, channel] - set(got)
                assert not missing, f"client {member.number} misses in {channel}: {sorted(missing)[:5]} of {len(missing)}"
                last = {}
                for by, n in got:
                    assert last.get(by, 0) < n, f"client {member.number} hears {by} {n} behind {last[by]} in {channel}"
                    last[by] = n
                due = concerned(channel) if member.v1 else False
                if due is not None:
                    assert (gaps[channel] > 0) == due, f"client {member.number} is told of {gaps[channel]} gaps in {channel}, due: {due}"
        ok = sum(it[2] for it in self.outcomes.values())
        return ok, len(self.outcomes) - ok

    def orders_agree(self):
        """All members of a channel hear what they both hear in the same order."""
        by_channel = defaultdict(list)
        for member in self.members:
            heard = defaultdict(list)
            for _, message in member.messages:
                if "gap" not in message:
                    heard[message["channel"]].append((message["content"]["by"], message["content"]["n"]))
            for channel, got in heard.items():
                by_channel[channel].append(got)
        for channel, all_heard in by_channel.items():
            first = {what: at for at, what in enumerate(all_heard[0])}
            for other in all_heard[1:]:
                places = [first[what] for what in other if what in first]
                assert places == sorted(places), f"the order in {channel} differs"

    def first_deliveries(self, since, channels):
        """For each node the time from `since` to the first content in one of these channels, in milliseconds. There is one on
        every node."""
        channels, first = set(channels), {}
        for member in self.members:
            for when, message in member.messages:
                if when >= since and message["channel"] in channels and "gap" not in message:
                    first[member.node.port] = min(first.get(member.node.port, when), when)
                    break
        assert len(first) == len(self.nodes), f"no content since on some of {[node.port for node in self.nodes]}: {first}"
        return [round((first[node.port] - since) * 1000) for node in self.nodes]
