#!/usr/bin/env python3
"""Latency under strain: the round trips of one connection while a crowd leaves at once or rushes in through a slow
authorizer; accepting at the limit on file descriptors; the memory of stalled readers.

    tests/load/strain.py [limit] [leave] [rush] [stalled]

Crowd, prober and authorizer are processes of their own. Best on a machine that does nothing else; what WSIFY_BIN names
is measured, or what cargo built last.
"""

import asyncio
import multiprocessing
import resource
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.server import Server, upgrade
from harness.ws import command, text

UPGRADE = upgrade()


def raise_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def probe(port, over, out):
    """Round trips of one connection: a command that needs neither broker nor authorizer."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(UPGRADE)
    sock.recv(4096)
    ask, took = text(command("marker", "x", id=1)), []
    out.send("ready")
    while not over.is_set():
        began = time.perf_counter()
        sock.sendall(ask)
        sock.recv(4096)
        took.append(time.perf_counter() - began)
        time.sleep(0.0005)
    out.send(took)


def crowd(port, count, ready, go, out):
    """`count` connections: with `go` they are made first and leave then, without they rush in. Says how long it took."""
    raise_limit()
    began = time.perf_counter()
    sockets = []
    for start in range(0, count, 500):
        batch = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(500, count - start))]
        for sock in batch:
            sock.sendall(UPGRADE)
        sockets += batch
        if go:
            for sock in batch:
                sock.recv(4096)
    admitted = sum(sock.recv(4096).startswith(b"HTTP/1.1 101") for sock in sockets) if not go else count
    if go:
        ready.set()
        go.wait()
        began = time.perf_counter()
        for sock in sockets:
            sock.close()
    out.send((time.perf_counter() - began, admitted))


def authorizer(delay, out):
    async def serve(reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(length)
                await asyncio.sleep(delay)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
        out.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def start(function, *args):
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=function, args=(*args, there), daemon=True)
    process.start()
    return process, here


def told(name, took):
    took = sorted(took)
    at = lambda share: took[min(len(took) - 1, int(len(took) * share))] * 1000
    print(f"{name}: round trips {len(took)}, median {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, longest {at(1):.2f} ms", flush=True)


def probed(server, act):
    over = multiprocessing.Event()
    process, out = start(probe, server.port, over)
    out.recv()
    act()
    over.set()
    took = out.recv()
    process.join()
    return took


def leave():
    """10,000 close at once."""
    server = Server()
    ready, go = multiprocessing.Event(), multiprocessing.Event()
    process, out = start(crowd, server.port, 10_000, ready, go)
    ready.wait()

    def act():
        time.sleep(0.5)
        go.set()
        print(f"leave: closing took the crowd {out.recv()[0]:.2f} s")
        while server.metric('wsify_connections{kind="websocket"}') > 1:
            time.sleep(0.01)

    told("leave", probed(server, act))
    process.join()
    server.finish()


def rush():
    """19,000 connect at once, and the authorizer takes 5 ms for each."""
    asked, out = start(authorizer, 0.005)
    server = Server("--authorizer-url", f"http://127.0.0.1:{out.recv()}/", "--authorizer-queue", "30000", "--handshake-timeout", "1m")

    def act():
        _, out = start(crowd, server.port, 19_000, None, None)
        took, admitted = out.recv()
        print(f"rush: {admitted} of 19,000 admitted in {took:.1f} s")

    told("rush", probed(server, act))
    server.finish()
    asked.terminate()


def limit():
    """Acceptance and CPU time at the limit on file descriptors."""
    server = Server("--handshake-timeout", "5m", files=256)
    held = []
    while (stream := server.knock()).response().status == 101:
        held.append(stream)
    silent = [server.dial() for _ in range(300)]
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert server.call("GET", "/health").status == 200
        took.append(time.perf_counter() - began)
    told("limit, /health behind 300 silent connections", took)
    for stream in silent:
        stream.close()
    # All descriptors are in use, by WebSockets and by connections that have just been answered.
    before = server.cpu()
    threading.Event().wait(5)
    print(f"limit: {(server.cpu() - before) / 5:.1%} CPU with nothing to do")
    more = [server.dial() for _ in range(300)]
    before = server.cpu()
    threading.Event().wait(5)
    print(f"limit: {(server.cpu() - before) / 5:.1%} CPU while hundreds wait and make way")
    for stream in more:
        stream.close()
    took = []
    for _ in range(50):
        began = time.perf_counter()
        held.pop().close()
        while (stream := server.knock()).response().status != 101:
            stream.close()
        took.append(time.perf_counter() - began)
        held.append(stream)
    told("limit, from a close to the next one's 101", took)
    server.finish()


def stalled():
    """1,000 members that read nothing, and 32 MiB for them."""
    server = Server()
    members = [server.ws(rcvbuf=4096).join("x") for _ in range(1000)]
    before = server.memory()[0]
    peak = 0
    for _ in range(512):
        server.publish("x", '"' + "x" * 65_536 + '"')
        peak = max(peak, server.memory()[0])
    print(f"stalled: {(peak - before) / 2**20:.1f} MiB more at most, for {len(members)} stalled readers and --max-queue-size 1 MiB")
    server.finish()


def main():
    raise_limit()
    tools = {"limit": limit, "leave": leave, "rush": rush, "stalled": stalled}
    for name in sys.argv[1:] or tools:
        tools[name]()


if __name__ == "__main__":
    main()
