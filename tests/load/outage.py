#!/usr/bin/env python3
"""A crowd through an outage: clients connect, the authorizer dies, they send commands all the while, and it comes back.

    tests/load/outage.py [reject] [hold] [--clients 5000] [--seconds 60]

Prints how many clients are still there, how many commands were answered and how, how long it took after the outage, and
how many calls the authorizer got beside what it answered. Fails if a client or an answer is missing, or if the calls were
more than twice the answers. Best on a machine that does nothing else; what WSIFY_BIN names is measured, or what cargo
built last.
"""

import argparse
import asyncio
import multiprocessing
import resource
import struct
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.server import Server, upgrade
from harness.ws import PONG, command, frame, text

DELAY = 0.01
WORKERS = 64


class Asked(asyncio.Protocol):
    """A connection of the authorizer: it answers every question after a while, as one that waits for a database does."""

    def __init__(self, book):
        self.book, self.buffer = book, b""

    def connection_made(self, transport):
        self.transport = transport
        self.book["open"].add(transport)

    def connection_lost(self, _):
        self.book["open"].discard(self.transport)

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.book["begun"].append(time.monotonic())
            asyncio.get_running_loop().call_later(DELAY, self.answer)

    def answer(self):
        self.book["answered"].append(time.monotonic())
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def authorizer(pipe):
    """Is there, is not there, and is there again, as the pipe says; then sends when it was called and has answered."""
    book = {"begun": [], "answered": [], "open": set()}

    async def main():
        loop = asyncio.get_running_loop()
        port = 0
        while True:
            server = await loop.create_server(lambda: Asked(book), "127.0.0.1", port, backlog=1000)
            port = server.sockets[0].getsockname()[1]
            book["begun"].clear()
            book["answered"].clear()
            pipe.send(port)
            over = await loop.run_in_executor(None, pipe.recv)
            server.close()
            for transport in list(book["open"]):
                transport.abort()
            if over == "report":
                return pipe.send((book["begun"], book["answered"]))
            pipe.send("down")
            await loop.run_in_executor(None, pipe.recv)

    asyncio.run(main())


class Client(asyncio.Protocol):
    """A client that answers pings, and keeps what it is answered by the command's id."""

    def __init__(self, crowd):
        self.crowd, self.buffer, self.upgraded, self.said = crowd, b"", False, 0
        self.waits = {}

    def connection_made(self, transport):
        self.transport = transport
        transport.write(upgrade())

    def connection_lost(self, _):
        self.crowd.lost += 1

    def say(self):
        self.said += 1
        self.waits[self.said] = time.monotonic()
        self.transport.write(text(command("join", f"room {self.said % 7}", id=self.said)))

    def data_received(self, data):
        self.buffer += data
        if not self.upgraded:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self.crowd.opened += head.startswith(b"HTTP/1.1 101")
            self.upgraded, self.buffer = True, rest
        while len(self.buffer) >= 2:
            size, start = self.buffer[1], 2
            if size == 126:
                if len(self.buffer) < 4:
                    return
                (size,), start = struct.unpack("!H", self.buffer[2:4]), 4
            if len(self.buffer) < start + size:
                return
            opcode, payload = self.buffer[0] & 15, self.buffer[start : start + size]
            self.buffer = self.buffer[start + size :]
            if opcode == 9:
                self.transport.write(frame(PONG, payload))
            elif opcode == 8:
                self.crowd.closed[struct.unpack("!H", payload[:2])[0]] += 1
            elif opcode == 1:
                self.hears(payload)

    def hears(self, payload):
        # {"id":7,"ok":true} or {"id":7,"error":{"code":"…
        number = int(payload[6:].split(b",")[0])
        oldest = next(iter(self.waits))
        self.crowd.disordered += number != oldest
        since = self.waits.pop(number)
        kind = "ok" if b'"ok":true' in payload else payload.split(b'"code":"')[1].split(b'"')[0].decode()
        self.crowd.answers[kind] += 1
        self.crowd.slowest = max(self.crowd.slowest, time.monotonic() - since)
        self.crowd.last = time.monotonic()


class Crowd:
    def __init__(self):
        self.opened = self.lost = self.disordered = 0
        self.closed, self.answers, self.slowest, self.last = Counter(), Counter(), 0.0, 0.0


def crowd(port, count, pipe):
    async def main():
        loop = asyncio.get_running_loop()
        told, clients = Crowd(), []
        for start in range(0, count, 200):
            batch = range(min(200, count - start))
            made = await asyncio.gather(*(loop.create_connection(lambda: Client(told), "127.0.0.1", port) for _ in batch))
            clients += [client for _, client in made]
            while told.opened < len(clients):
                await asyncio.sleep(0.01)
        pipe.send(told.opened)
        over = loop.run_in_executor(None, pipe.recv)
        # Each client sends a command every ten seconds, evenly spread, until the authorizer is back.
        while not over.done():
            for nth, client in enumerate(clients):
                client.say()
                if nth % 50 == 0:
                    await asyncio.sleep(10 / (count / 50))
                if over.done():
                    break
        deadline = time.monotonic() + 120
        while any(client.waits for client in clients) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        missing = sum(len(client.waits) for client in clients)
        pipe.send((told.lost, dict(told.closed), dict(told.answers), missing, told.disordered, told.slowest, told.last))

    asyncio.run(main())


def start(function, *args):
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=function, args=(*args, there), daemon=True)
    process.start()
    return here


def pace(begun, answered):
    """The most calls beside answers: in all until every worker is busy, and in any second."""
    in_all, calls = 0.0, 0
    for at in begun:
        calls += 1
        done = sum(1 for when in answered[: 4 * WORKERS] if when <= at)
        if calls - done >= WORKERS or calls > 4 * WORKERS:
            break
        in_all = max(in_all, calls / (done + 0.5))
    seconds = {int(at - begun[0]) for at in begun}
    per_second = max(
        sum(second <= at - begun[0] < second + 1 for at in begun)
        / max(1, sum(second <= at - begun[0] < second + 1 for at in answered))
        for second in sorted(seconds)[:-1] or [0]
    )
    return in_all, per_second


def play(failure, clients, seconds):
    asked = start(authorizer)
    port = asked.recv()
    server = Server(
        *("--authorizer-url", f"http://127.0.0.1:{port}/", "--authorizer-failure", failure),
        *("--authorizer-hold", "5m", "--authorizer-workers", str(WORKERS)),
    )
    members = start(crowd, server.port, clients)
    print(f"{failure}: {members.recv()} clients are connected")
    asked.send("die")
    asked.recv()
    began, cpu = time.monotonic(), server.cpu()
    while time.monotonic() < began + seconds:
        time.sleep(1)
    share = (server.cpu() - cpu) / seconds
    held, memory = server.metric("^wsify_authorizer_held$"), server.memory()[0]
    asked.send("live")
    asked.recv()
    back = time.monotonic()
    # The clients go on for longer than the longest pause between two probes.
    time.sleep(8)
    members.send("enough")
    lost, closed, answers, missing, disordered, slowest, last = members.recv()
    asked.send("report")
    begun, answered = asked.recv()
    in_all, per_second = pace(begun, answered)
    print(f"{failure}: {seconds} s without it, {share:.1%} CPU, {held:.0f} held at the end, {memory / 2**20:.0f} MiB")
    print(f"{failure}: {clients - lost} of {clients} clients are still there; closed: {closed}")
    print(f"{failure}: answers {answers}, missing {missing}, out of order {disordered}; the slowest after {slowest:.1f} s")
    print(
        f"{failure}: back for {last - back:.1f} s when the last was answered; {len(begun)} calls, {len(answered)} answers; "
        f"at most {in_all:.2f} calls for an answer while it starts slowly, {per_second:.2f} in any second"
    )
    server.finish()
    return lost == missing == disordered == 0 and in_all <= 2 and per_second <= 2


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("modes", nargs="*", default=["reject", "hold"])
    arguments.add_argument("--clients", type=int, default=5_000)
    arguments.add_argument("--seconds", type=int, default=60)
    given = arguments.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = [play(mode, given.clients, given.seconds) for mode in given.modes]
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
