"""Replacing the running program: its listeners and its service manager (docs/operating.md#replacing-the-program)."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from harness.handover import ask, fails, hand_over, image
from harness.manager import Ear, start
from harness.net import DEADLINE, Stream, request, until
from harness.server import KEY, free_port, upgrade
from harness.ws import upgraded


@pytest.fixture
def ear(tmp_path):
    ear = Ear(str(tmp_path / "notify"))
    yield ear
    ear.socket.close()


def ws_at(family, address):
    sock = socket.socket(family)
    sock.settimeout(DEADLINE)
    sock.connect(address)
    return upgraded(Stream(sock).send(upgrade()), KEY)


# -- listeners


def test_a_unix_socket(serve, tmp_path):
    path = tmp_path / "s"
    port = free_port()
    server = serve("--drain-timeout", "300ms", listen=[f"unix:{path}", f"127.0.0.1:{port}"])
    server.await_start(lambda: server.dial_unix(path).close())
    server.port = port
    file = os.stat(path)
    old = ws_at(socket.AF_UNIX, str(path)).join("x")
    for _ in range(2):
        hand_over(server)
        assert os.stat(path).st_ino == file.st_ino
        old.is_quiet()
        ws_at(socket.AF_UNIX, str(path)).join("x").leaves()
        assert server.admits()
    server.signal(signal.SIGTERM)
    old.is_closed(1012)
    assert server.status() == 0
    assert not path.exists(), "the file is removed at the end"


def test_connections_that_are_not_accepted_yet(serve):
    """The loop stands still while they come: they wait in the listener."""
    server = serve()
    before = image(server.pid)
    ask(server)
    dialled = []
    until(lambda: dialled.append(server.knock()) or image(server.pid) != before, "the program is replaced")
    for stream in dialled:
        upgraded(stream, KEY).join("x").leaves()


def test_a_shared_port(serve):
    """Both go on taking connections, and the new program listens with the flag, too."""
    port = free_port()
    servers = [serve("--reuse-port=true", listen=[f"127.0.0.1:{port}"]) for _ in range(2)]
    for server in servers:
        server.logged('"listening"')
        server.port = port
    hand_over(servers[0])
    accepted = lambda server: sum(os.readlink(f"/proc/{server.pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{server.pid}/fd"))
    before = [accepted(server) for server in servers]
    clients = []

    def both():
        clients.append(servers[0].ws())
        return all(accepted(server) > was for server, was in zip(servers, before))

    until(both, "both take connections")
    third = serve("--reuse-port=true", listen=[f"127.0.0.1:{port}"])
    third.logged('"listening"')
    hand_over(servers[0])
    for ws in clients:
        ws.is_quiet()


def test_several_addresses_and_a_port_of_the_kernels_choice(serve):
    server = serve(listen=["127.0.0.1:0", "[::1]:0"])
    ports = [int(address.rpartition(":")[2]) for address in until(lambda: server.log(), "it listens")[0]["addresses"].split(", ")]
    crowd = [ws_at(family, (host, port)) for family, host, port in zip((socket.AF_INET, socket.AF_INET6), ("127.0.0.1", "::1"), ports)]
    hand_over(server)
    for ws, family, host, port in zip(crowd, (socket.AF_INET, socket.AF_INET6), ("127.0.0.1", "::1"), ports):
        ws.is_quiet()
        ws_at(family, (host, port)).leaves()
        ws.leaves()


def test_sockets_of_the_manager(tmp_path):
    """LISTEN_FDS has said which they are once; they go over as the others, and their files stay the manager's."""
    tcp, unix, path = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX), tmp_path / "s"
    unix.bind(str(path))
    unix.listen()
    process = start([tcp, unix], "--drain-timeout", "300ms")
    try:
        crowd = [ws_at(socket.AF_INET, tcp.getsockname()), ws_at(socket.AF_UNIX, str(path))]
        for _ in range(2):
            before = image(process.pid)
            process.send_signal(signal.SIGUSR2)
            until(lambda: image(process.pid) != before, "the program is replaced")
            for ws in crowd:
                ws.join("x")
            crowd += [ws_at(socket.AF_INET, tcp.getsockname()), ws_at(socket.AF_UNIX, str(path))]
        process.send_signal(signal.SIGTERM)
        for ws in crowd:
            ws.is_closed(1012)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    assert path.exists()


# -- the service manager


def monotonic_usec():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_manager_is_told(serve, ear):
    server = serve(env={"NOTIFY_SOCKET": ear.name, "WATCHDOG_USEC": "400000"})
    ear.hears("READY=1")
    ws = server.ws()
    for _ in range(2):
        before = monotonic_usec()
        entry = hand_over(server)
        lines = ear.hears("RELOADING=1").split("\n")
        (stamp,) = [line.removeprefix("MONOTONIC_USEC=") for line in lines if line.startswith("MONOTONIC_USEC=")]
        assert before <= int(stamp) <= monotonic_usec(), (before, lines, entry)
        ear.hears("READY=1")
        ear.hears("WATCHDOG=1")
    ws.is_quiet()
    server.signal(signal.SIGTERM)
    ear.hears("STOPPING=1")


def test_a_file_that_is_replaced_as_soon_as_the_program_listens(serve, ear, releases, tmp_path):
    """The manager is slow to take READY=1, and the deployment does not wait for it."""
    path = releases.link("old", tmp_path / "wsify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        other.connect(ear.name.replace("@", "\0", 1))
        with pytest.raises(BlockingIOError):
            while other.send(b"X=1"):
                pass
    server = serve(env={"NOTIFY_SOCKET": ear.name}, program=path)
    releases.deploy("new", path)
    ear.hears("READY=1")
    hand_over(server)
    assert releases.is_run_by(server.pid) == "new"


def test_the_manager_is_told_of_a_failure(serve, ear, releases, tmp_path):
    """READY=1 ends the reload in any case: the service is as ready as it was."""
    path = releases.link("old", tmp_path / "wsify")
    server = serve(env={"NOTIFY_SOCKET": ear.name}, program=path)
    ear.hears("READY=1")
    path.unlink()
    fails(server)
    ear.hears("RELOADING=1")
    ear.hears("READY=1")
    assert server.admits()


def test_a_reload_by_systemd(tmp_path, releases):
    """The unit of docs/operating.md, as far as a transient one can be it."""
    if not Path("/run/systemd/system").is_dir() or os.geteuid() != 0 or not shutil.which("systemd-run"):
        pytest.skip("there is no systemd here, or the test is not root's")
    path, port, unit = releases.link("old", tmp_path / "wsify"), free_port(), f"wsify-test-{os.getpid()}"
    run = lambda *command: subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout
    run(
        "systemd-run", f"--unit={unit}", "--collect", "--property=Type=notify", "--property=NotifyAccess=main",
        "--property=ExecReload=kill -USR2 $MAINPID", str(path), "--listen-addr", f"127.0.0.1:{port}",
    )
    shown = lambda name: run("systemctl", "show", "--value", f"--property={name}", unit).strip()
    try:
        until(lambda: shown("ActiveState") == "active", "it is active")
        pid = int(shown("MainPID"))
        ws = ws_at(socket.AF_INET, ("127.0.0.1", port)).join("x")
        releases.deploy("new", path)
        run("systemctl", "reload", unit)
        until(lambda: releases.is_run_by(pid) == "new" and shown("ActiveState") == "active", "it is replaced")
        assert int(shown("MainPID")) == pid and shown("NRestarts") == "0"
        ws.is_quiet()
    finally:
        run("systemctl", "stop", unit)
