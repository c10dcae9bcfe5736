#!/usr/bin/env python3
"""Months in minutes: a crowd of clients connects and leaves in every way. At the end the server's memory must be the same
as after the first minute. When all clients have left there is no descriptor, channel or byte more than before.

    tests/load/soak.py [--minutes 20] [--connections 2000] [--seed 1] [-- flags of wsify]

What WSIFY_BIN names is tested, or what cargo built last. The last line is the verdict, and so is the exit status.
"""

import argparse
import asyncio
import os
import random
import re
import resource
import socket
import statistics
import struct
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.net import request
from harness.server import Server, upgrade
from harness.ws import CLOSE, PING, PONG, TEXT, closing, command, frame, text

# Few channels have many members, most have a handful.
CHANNELS = 400
JSON = ("Content-Type", "application/json")
EVERY = 5  # seconds between two samples
FLAGS = ("--ping-interval", "5s", "--handshake-timeout", "3s", "--max-queue-size", "64KiB", "--authorizer-timeout", "1s")


class Crowd:
    """What all clients of a soak share."""

    def __init__(self, port, seed):
        self.port = port
        self.chance = random.Random(seed)
        self.seen = Counter()
        self.over = False

    def channel(self):
        return f"room-{int(CHANNELS * self.chance.random() ** 2)}"

    async def rest(self, seconds):
        """Sleeps for about so long, and no longer than the soak lasts."""
        end = time.monotonic() + self.chance.expovariate(1 / seconds)
        while not self.over and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 1))


class Line(asyncio.Protocol):
    """One connection. It counts what it receives by kind, and answers pings."""

    def __init__(self, crowd, answers_pings=True):
        self.crowd = crowd
        self.answers_pings = answers_pings
        self.buffer = bytearray()
        self.speaks_frames = False
        self.head = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _):
        for waits in (self.head, self.ended):
            if not waits.done():
                waits.set_result(None)

    def data_received(self, data):
        self.buffer += data
        if self.speaks_frames:
            self.frames()
        elif (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            status = int(self.buffer[9:12])
            length = re.search(rb"content-length: (\d+)", self.buffer[:end].lower())
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) >= size:
                del self.buffer[:size]
                self.speaks_frames = status == 101
                self.crowd.seen[f"HTTP {status}"] += 1
                if not self.head.done():
                    self.head.set_result(status)
                self.frames()

    def frames(self):
        while self.speaks_frames and len(self.buffer) >= 2:
            size, start = self.buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(self.buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(self.buffer[2:10], "big"), 10
            if len(self.buffer) < start + size:
                return
            opcode = self.buffer[0] & 15
            if opcode == PING and self.answers_pings:
                self.write(frame(PONG, bytes(self.buffer[start : start + size])))
            if opcode == CLOSE:
                code = int.from_bytes(self.buffer[start : start + 2], "big") if size else None
                self.crowd.seen[f"close {code}"] += 1
                self.write(closing(code or 1000))
                self.transport.close()
            elif opcode == TEXT:
                self.crowd.seen["messages"] += 1
            del self.buffer[: start + size]

    def write(self, data):
        if not self.transport.is_closing():
            self.transport.write(data)

    async def status(self, data):
        """Sends a request and awaits the status of its answer; None: the connection ended."""
        self.head = asyncio.get_running_loop().create_future()
        self.write(data)
        if self.transport.is_closing():
            return None
        return await asyncio.wait_for(self.head, 30)

    def reset(self):
        if self.transport.is_closing():
            return
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def dial(crowd, rcvbuf=None, **more):
    sock = socket.socket()
    sock.setblocking(False)
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, ("127.0.0.1", crowd.port))
    except OSError:
        sock.close()
        raise
    crowd.seen["connections"] += 1
    _, line = await loop.create_connection(lambda: Line(crowd, **more), sock=sock)
    return line


async def websocket(crowd, **more):
    headers = [("Sec-WebSocket-Protocol", "wsify.v1")] if crowd.chance.random() < 0.5 else []
    line = await dial(crowd, **more)
    if await line.status(upgrade(f"/ws?token={crowd.chance.randrange(1000)}", headers)) != 101:
        line.transport.close()
        return None
    return line


# -- the kinds of clients


async def talker(crowd):
    """Joins, broadcasts, leaves, and ends its connection in one of several ways."""
    line = await websocket(crowd)
    if line is None:
        return await crowd.rest(1)
    for _ in range(crowd.chance.randrange(1, 6)):
        line.write(text(command("join", crowd.channel(), id=1)))
    for _ in range(crowd.chance.randrange(1, 12)):
        await crowd.rest(4)
        if line.ended.done() or crowd.over:
            break
        act, channel = crowd.chance.random(), crowd.channel()
        if act < 0.35:
            size = int(2 ** crowd.chance.uniform(3, 13))
            line.write(text(command("broadcast", channel, '"' + "x" * size + '"')))
        elif act < 0.65:
            line.write(text(command("join", channel, id=2)))
        elif act < 0.85:
            line.write(text(command("leave", channel)))
        elif act < 0.95:
            line.write(frame(PING, b"x" * 20))
        else:
            line.write(text(crowd.chance.choice(["{}", "[", '{"command":"connect"}', command("join", " ")])))
    end = crowd.chance.randrange(6)
    if end == 0:
        line.transport.close()
    elif end == 1:
        line.reset()
    elif end == 2:
        line.write(text(command("broadcast", crowd.channel(), '"torn"'))[:9])
        line.reset()
    elif end == 3:
        line.write(crowd.chance.choice([b"\x81\x01x", frame(11), frame(TEXT, b"\xff"), frame(TEXT, declared=1 << 62, form=64)]))
        await asyncio.wait([line.ended], timeout=10)
    elif end == 4:
        line.write(text(command("broadcast", crowd.channel(), '"goodbye"')) + closing(1000))
        await asyncio.wait([line.ended], timeout=10)
    else:
        line.write(text(command("broadcast", crowd.channel(), '"gone"')))
        line.transport.close()
    line.transport.close()


async def stalled(crowd):
    """A member of the large channels that reads nothing."""
    line = await websocket(crowd, rcvbuf=4096)
    if line is None:
        return await crowd.rest(1)
    line.write(b"".join(text(command("join", f"room-{i}")) for i in range(5)))
    await crowd.rest(1)
    line.transport.pause_reading()
    await crowd.rest(15)
    line.reset() if crowd.chance.random() < 0.5 else line.transport.close()


async def mute(crowd):
    """Neither answers pings nor sends anything, as a half-open peer."""
    line = await websocket(crowd, answers_pings=False)
    if line is not None:
        await asyncio.wait([line.ended], timeout=20)
        line.transport.close()


async def half(crowd):
    """Begins a handshake and does not end it."""
    line = await dial(crowd)
    whole = upgrade()
    line.write(whole[: crowd.chance.randrange(len(whole))])
    await crowd.rest(2)
    if crowd.chance.random() < 0.4:
        line.reset()
    elif crowd.chance.random() < 0.5:
        await asyncio.wait([line.ended], timeout=10)
    line.transport.close()


async def impatient(crowd):
    """Requests an upgrade, and leaves before the authorizer has answered."""
    line = await dial(crowd)
    line.write(upgrade())
    await asyncio.sleep(crowd.chance.random() * 0.01)
    line.reset() if crowd.chance.random() < 0.5 else line.transport.close()


async def backend(crowd):
    """POSTs over a kept connection, and some other requests."""
    line = await dial(crowd)
    for _ in range(crowd.chance.randrange(1, 10)):
        size = int(2 ** crowd.chance.uniform(3, 14))
        body = f'{{"channel":"{crowd.channel()}","content":"{"x" * size}"}}'.encode()
        ask = crowd.chance.random()
        if ask < 0.8:
            data = request("POST", "/broadcast", [JSON], body)
        elif ask < 0.9:
            data = request("GET", crowd.chance.choice(["/health", "/metrics", "/nothing"]))
        elif ask < 0.95:
            data = request("POST", "/broadcast", [JSON], b"{")
        else:
            data = request("POST", "/broadcast", [JSON], body)[:-3]
        try:
            if await line.status(data) is None or crowd.over:
                break
        except TimeoutError:
            crowd.seen["no answer"] += 1
            break
        await crowd.rest(1)
    line.reset() if crowd.chance.random() < 0.2 else line.transport.close()


LIVES = {talker: 70, stalled: 4, mute: 3, half: 8, impatient: 5, backend: 10}


async def live(crowd):
    """One after the other, until it is over."""
    await crowd.rest(3)
    while not crowd.over:
        (life,) = crowd.chance.choices(list(LIVES), weights=LIVES.values())
        try:
            await life(crowd)
        except (OSError, TimeoutError) as error:
            crowd.seen[type(error).__name__] += 1
            await crowd.rest(1)


# -- the authorizer


async def authorize(reader, writer, chance):
    """Mostly allows. Sometimes it denies, is late or down, or sends nonsense or nothing."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
            await reader.readexactly(length)
            mood = chance.random()
            if mood < 0.9:
                state = b'{"state":{"user":%d}}' % chance.randrange(10**9)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(state), state))
            elif mood < 0.96:
                writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
            elif mood < 0.97:
                writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
            elif mood < 0.98:
                await asyncio.sleep(0.5)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            elif mood < 0.985:
                await asyncio.sleep(1.5)  # too late
                break
            elif mood < 0.99:
                writer.write(b"SSH-2.0-hello\r\n")
                break
            elif mood < 0.995:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
                break
            else:
                break
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


# -- sampling the server


class Looks:
    """Samples of the server: from /proc and from /metrics."""

    def __init__(self, server):
        self.server = server
        self.rows = []
        self.began = time.monotonic()

    def look(self):
        metrics = self.server.call("GET", "/metrics").body.decode()

        def metric(pattern):
            return int(sum(float(value) for value in re.findall(rf"^{pattern}\S* (\S+)$", metrics, re.MULTILINE)))

        row = {
            "seconds": round(time.monotonic() - self.began),
            "rss_kib": int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{self.server.pid}/status").read())[1]),
            "fds": len(os.listdir(f"/proc/{self.server.pid}/fd")),
            "threads": len(os.listdir(f"/proc/{self.server.pid}/task")),
            "websockets": metric('wsify_connections{kind="websocket"}'),
            "channels": metric("wsify_channels"),
            "memberships": metric("wsify_memberships"),
            "queued": metric("wsify_queued_bytes"),
            "accepted": metric("wsify_connections_accepted_total"),
            "deliveries": metric("wsify_deliveries_total"),
            "cpu": round(self.server.cpu(), 1),
        }
        self.rows.append(row)
        return row

    def between(self, start, end):
        return [row for row in self.rows if start <= row["seconds"] <= end]


def show(row):
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)


async def soak(options):
    chance = random.Random(options.seed)
    authorizer = await asyncio.start_server(lambda r, w: authorize(r, w, chance), "127.0.0.1", 0, backlog=1000)
    port = authorizer.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    server = Server("--authorizer-url", url, *FLAGS, *options.flags)
    crowd, looks = Crowd(server.port, options.seed), Looks(server)
    looks.began -= 1
    empty = looks.look()
    show(empty)
    lives = [asyncio.create_task(live(crowd)) for _ in range(options.connections)]
    looks.began = time.monotonic()
    end = looks.began + options.minutes * 60
    while time.monotonic() < end:
        await asyncio.sleep(EVERY)
        row = await asyncio.to_thread(looks.look)
        if len(looks.rows) % 6 == 0:
            show(row)
    crowd.over = True
    await asyncio.gather(*lives)
    for _ in range(60):
        await asyncio.sleep(1)
        last = await asyncio.to_thread(looks.look)
        if last["fds"] <= empty["fds"] and not last["websockets"]:
            break
    show(last)
    print("seen:", dict(sorted(crowd.seen.items())))
    authorizer.close()

    findings = []
    total = options.minutes * 60
    # Three minutes each in a 20-minute soak: the queues of slow readers depend on the crowd, and differ by a tenth of all
    # memory from one minute to the next.
    window = total * 0.15
    first = statistics.median(row["rss_kib"] for row in looks.between(60, 60 + window) or looks.rows[1:])
    late = statistics.median(row["rss_kib"] for row in looks.between(total - window, total))
    change = late / first - 1
    if abs(change) > 0.05:
        findings.append(f"memory: {first} KiB after the first minute, {late} KiB in the last {window:.0f} s")
    for what in ("fds", "websockets", "channels", "memberships", "queued"):
        if last[what] > empty[what]:
            findings.append(f"{what}: {empty[what]} at first, {last[what]} when all clients have left")
    if crowd.seen["no answer"]:
        findings.append(f"{crowd.seen['no answer']} requests were not answered within 30 s")
    server.signal(15)
    if server.status() != 0:
        findings.append(f"it ended with {server.process.returncode}: {server.err[-20:]}")
    server.finish()
    print(f"memory: {first} KiB after the first minute, {late} KiB in the last {window:.0f} s ({change:+.1%}), {last['rss_kib']} KiB when all have left")
    print("verdict:", "; ".join(findings) or "as after the first minute")
    return not findings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("flags", nargs="*")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.exit(0 if asyncio.run(soak(options)) else 1)


if __name__ == "__main__":
    main()
