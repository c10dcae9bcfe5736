#!/usr/bin/env python3
"""Replacing the program again and again while every client has a broadcast under way: how long the loop stands still, the longest
round trip of another connection, memory, and whether anything is lost, doubled or closed.

    tests/load/handover.py [--connections 19000] [--times 10] [--room 10] [--idle] [-- flags of wsify]

The clients are in processes of their own, since a process has a limit on descriptors. With --idle they are connected and silent.
What WSIFY_BIN names is measured, or what cargo built last; a release build tells more. The last line is the verdict, and so is the
exit status: nothing lost, doubled or closed, less than a second, no growth.
"""

import argparse
import multiprocessing
import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.chatter import Chatter
from harness.handover import children, descriptors, hand_over
from harness.net import Stream
from harness.server import KEY, Server, upgrade
from harness.ws import command, upgraded

CLIENT_PROCESSES = 4
# Between two looks at memory, in seconds.
PACE = 0.002


def raise_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def talk(port, count, room, name, idle, pipe):
    """Clients: they connect, talk from one message of the test to the next, and say what they have sent and how long it took."""
    raise_limit()
    chatter = Chatter(port, count, room, name)
    pipe.send("connected")
    pipe.recv()
    try:
        if idle:
            while not pipe.poll(1):
                chatter.listen(False)
        # All of them begin with one broadcast, even the idle ones: so each is known to be served still.
        chatter.run(pipe.poll)
        pipe.send((chatter.verify(), chatter.longest))
    except AssertionError as failure:
        pipe.send(failure)


def probe(port, pipe):
    """Round trips of one connection that needs neither broker nor authorizer. Each message of the test is answered with the longest
    one since the message before, in seconds."""
    ws, longest = upgraded(Stream(socket.create_connection(("127.0.0.1", port))).send(upgrade()), KEY), 0.0
    pipe.send("connected")
    while True:
        began = time.perf_counter()
        ws.ask(command("marker", "x", id=1))
        longest = max(longest, time.perf_counter() - began)
        if pipe.poll():
            if pipe.recv() is None:
                return
            pipe.send(longest)
            longest = 0.0
        time.sleep(0.0005)


def start(function, *args):
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=function, args=(*args, there), daemon=True)
    process.start()
    return process, here


def resident(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def cpu(pid):
    """CPU seconds of a process and of its children that are gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Memory:
    """The most that the process, its children and its snapshot hold, from one look to the next."""

    def __init__(self, pid):
        self.pid = pid
        self.over = threading.Event()
        self.reset()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def reset(self):
        self.process = self.child = self.snapshot = 0

    def watch(self):
        while not self.over.wait(PACE):
            self.process = max(self.process, resident(self.pid))
            try:
                own = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            except OSError:
                own = children(self.pid)
            self.child = max(self.child, sum(map(resident, own)))
            if own:
                self.snapshot = max(self.snapshot, self.file())

    def file(self):
        size = 0
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            # The snapshot's descriptor is one of the last.
            if int(number) > 3:
                try:
                    path = f"/proc/{self.pid}/fd/{number}"
                    if "memfd:" in os.readlink(path):
                        size = max(size, os.stat(path).st_size)
                except OSError:
                    pass
        return size

    def stop(self):
        self.over.set()
        self.thread.join()


def mib(size):
    return f"{size / 2**20:.1f} MiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=19_000)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--room", type=int, default=10)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("flags", nargs="*")
    options = parser.parse_args()
    raise_limit()
    server = Server(*options.flags)
    each = -(-options.connections // CLIENT_PROCESSES // options.room) * options.room
    clients = []
    left = options.connections
    for n in range(CLIENT_PROCESSES):
        count = min(each, left)
        left -= count
        clients.append(start(talk, server.port, count, options.room, f"{n}", options.idle))
    for _, pipe in clients:
        assert pipe.recv() == "connected"
    prober, probed = start(probe, server.port)
    assert probed.recv() == "connected"
    for _, pipe in clients:
        pipe.send("talk")
    deliveries = lambda: server.metric("^wsify_deliveries_total$")
    before = deliveries()
    time.sleep(5)
    print(f"{options.connections} connections, {(deliveries() - before) / 5:,.0f} deliveries a second", flush=True)

    memory, findings, rows = Memory(server.pid), [], []
    for n in range(options.times):
        time.sleep(1)
        probed.send("now")
        usual = probed.recv()
        memory.reset()
        resting = resident(server.pid)
        began, used = time.perf_counter(), cpu(server.pid)
        entry = hand_over(server)
        took, used = time.perf_counter() - began, cpu(server.pid) - used
        time.sleep(1)
        probed.send("now")
        longest = probed.recv()
        row = (entry, longest, resident(server.pid), len(descriptors(server.pid)))
        rows.append(row)
        numbers = ", ".join(f"{name} {value}" for name, value in entry.items() if isinstance(value, (int, float)))
        print(
            f"{n + 1}: {numbers}; asked to done {took * 1000:.0f} ms, CPU {used * 1000:.0f} ms; longest round trip {longest * 1000:.0f} ms (before: {usual * 1000:.0f} ms); "
            f"memory {mib(resting)}, at most {mib(memory.process)} and a child's {mib(memory.child)}, snapshot {mib(memory.snapshot)}; "
            f"then {mib(row[2])}, {row[3]} descriptors",
            flush=True,
        )
        if entry["stood_still_ms"] >= 1000:
            findings.append(f"replacement {n + 1} stood still for {entry['stood_still_ms']} ms")
    memory.stop()
    sent = 0
    for _, pipe in clients:
        pipe.send("stop")
    for process, pipe in clients:
        said = pipe.recv()
        if isinstance(said, AssertionError):
            findings.append(str(said))
        else:
            sent += said[0]
            print(f"clients: {said[0]} broadcasts, the longest took {said[1] * 1000:.0f} ms")
        process.join()
    probed.send(None)
    prober.join()
    if len(rows) > 2:
        (_, _, early, some), (_, _, late, others) = rows[1], rows[-1]
        if late > early * 1.05 + 2**20:
            findings.append(f"memory grows from {mib(early)} to {mib(late)}")
        if others > some:
            findings.append(f"descriptors: {some} after the second, {others} after the last")
    server.finish()
    times = sorted(entry["stood_still_ms"] for entry, *_ in rows)
    print(f"{sent} broadcasts, each heard {options.room} times; stood still for {times[len(times) // 2]} ms (median), {times[-1]} ms at most")
    print("verdict:", "; ".join(findings) or "nothing lost, doubled or closed; less than a second; no growth")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
