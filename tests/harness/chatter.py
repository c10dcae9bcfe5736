"""Clients that never fall silent: each has a broadcast of its own under way, and the next one follows when it is acknowledged. They
check that nothing is lost, doubled or out of order. One thread drives them all."""

import selectors
import socket
import time
import zlib

from .net import DEADLINE
from .server import upgrade
from .ws import PING, PONG, TEXT, command, frame, text

# Connections that are made at once.
BATCH = 400


class Talker:
    __slots__ = ("acknowledged", "buffer", "heard", "number", "order", "room", "sent", "since", "sock")

    def __init__(self, number, room, sock):
        self.number, self.room, self.sock = number, room, sock
        self.buffer = bytearray()
        self.sent = self.acknowledged = 0
        self.since = 0.0
        self.heard = {}  # the number of the last message of each sender
        self.order = 0  # a checksum of all messages in their order


class Chatter:
    """`count` clients in rooms of `room` members each, at a server on 127.0.0.1."""

    def __init__(self, port, count, room=10, name="room"):
        self.port, self.name = port, name
        self.talkers = []
        self.longest = 0.0
        self.selector = selectors.EpollSelector()
        for start in range(0, count, BATCH):
            batch = [Talker(n, n // room, socket.create_connection(("127.0.0.1", port), DEADLINE)) for n in range(start, min(count, start + BATCH))]
            for talker in batch:
                talker.sock.sendall(upgrade() + text(command("join", self.channel(talker), id=0)))
            for talker in batch:
                self.joined(talker)
            self.talkers += batch

    def channel(self, talker):
        return f"{self.name} {talker.room}"

    def joined(self, talker):
        talker.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = b""
        while not got.endswith(b'{"id":0,"ok":true}'):
            data = talker.sock.recv(4096)
            assert data, f"the server has hung up: {got}"
            got += data
        assert got.startswith(b"HTTP/1.1 101 "), got
        talker.sock.setblocking(False)
        self.selector.register(talker.sock, selectors.EVENT_READ, talker)

    # -- talking

    def say(self, talker, now):
        talker.sent += 1
        talker.since = now
        content = f"[{talker.number},{talker.sent}]"
        self.send(talker, text(command("broadcast", self.channel(talker), content, id=talker.sent)))

    def send(self, talker, data):
        # There is always room for a message in a socket whose peer has acknowledged the one before.
        assert talker.sock.send(data) == len(data)

    def run(self, is_over, meanwhile=None):
        """Talks until `is_over()`, and then listens until everything is answered and heard. `meanwhile` is told how many broadcasts
        are acknowledged."""
        now = time.perf_counter()
        for talker in self.talkers:
            self.say(talker, now)
        acknowledged = 0
        while not is_over():
            acknowledged += self.listen(True)
            if meanwhile:
                meanwhile(acknowledged)
        end = time.monotonic() + DEADLINE
        while not self.is_done():
            assert time.monotonic() < end, f"not everything is answered and heard: {self.missing()}"
            self.listen(False)

    def listen(self, goes_on):
        """Reads what has come. Returns how many broadcasts were acknowledged."""
        acknowledged = 0
        for key, _ in self.selector.select(0.05):
            talker = key.data
            try:
                data = talker.sock.recv(65536)
            except BlockingIOError:
                continue
            assert data, f"the server has hung up on client {talker.number}"
            talker.buffer += data
            acknowledged += self.parse(talker, goes_on)
        return acknowledged

    def parse(self, talker, goes_on):
        buffer, at, acknowledged = talker.buffer, 0, 0
        while len(buffer) >= at + 2:
            first, size = buffer[at], buffer[at + 1]
            assert size < 126, f"a long or masked frame to client {talker.number}: {bytes(buffer[at : at + 10])}"
            if len(buffer) < at + 2 + size:
                break
            payload = bytes(buffer[at + 2 : at + 2 + size])
            at += 2 + size
            if first == 0x80 | PING:
                self.send(talker, frame(PONG, payload))
                continue
            assert first == 0x80 | TEXT, f"frame {first:#x} to client {talker.number}: {payload}"
            if payload.startswith(b"{"):
                assert payload == b'{"id":%d,"ok":true}' % (talker.acknowledged + 1), f"to client {talker.number} after {talker.sent} messages: {payload}"
                talker.acknowledged += 1
                acknowledged += 1
                now = time.perf_counter()
                self.longest = max(self.longest, now - talker.since)
                if goes_on:
                    self.say(talker, now)
            else:
                sender, number = payload[1:-1].split(b",")
                expected = talker.heard.get(sender, 0) + 1
                assert int(number) == expected, f"client {talker.number} hears {number} of {sender}, due: {expected}"
                talker.heard[sender] = expected
                talker.order = zlib.crc32(payload, talker.order)
        del buffer[:at]
        return acknowledged

    # -- what must hold

    def rooms(self):
        rooms = {}
        for talker in self.talkers:
            rooms.setdefault(talker.room, []).append(talker)
        return rooms.values()

    def missing(self):
        """Clients that are not answered, or that have not heard what is to be heard."""
        found = []
        for members in self.rooms():
            due = {str(it.number).encode(): it.sent for it in members if it.sent}
            found += [(it.number, it.sent, it.acknowledged) for it in members if it.acknowledged != it.sent or it.heard != due]
        return found[:5]

    def is_done(self):
        return not self.missing()

    def verify(self):
        """Everything was heard, and all members of a room have heard it in one order. Returns how many messages were sent."""
        assert not self.missing(), self.missing()
        for members in self.rooms():
            assert len({it.order for it in members}) == 1, f"members of room {members[0].room} hear different orders"
        return sum(it.sent for it in self.talkers)

    def close(self):
        self.selector.close()
        for talker in self.talkers:
            talker.sock.close()
