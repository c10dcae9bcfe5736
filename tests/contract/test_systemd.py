"""Under a service manager: readiness, the watchdog, and socket activation (docs/operating.md#notifications-to-systemd)."""

import os
import signal
import socket
import subprocess

import pytest

from harness.manager import Ear, start
from harness.net import DEADLINE, Stream, request, until
from harness.server import binary, environment, free_port


@pytest.fixture(params=["path", "abstract"])
def ear(request, tmp_path):
    ear = Ear(str(tmp_path / "notify") if request.param == "path" else f"@wsify-{os.getpid()}-{tmp_path.name}")
    yield ear
    ear.socket.close()


def test_ready_status_and_stopping_are_sent(serve, ear):
    server = serve("--drain-timeout", "2s", env={"NOTIFY_SOCKET": ear.name})
    ear.hears("READY=1")
    server.ws()
    ear.hears("STATUS=1 connections")
    server.signal(signal.SIGTERM)
    assert "EXTEND_TIMEOUT_USEC=7000000" in ear.hears("STOPPING=1")
    assert server.status() == 0


def test_the_server_listens_before_it_sends_ready(tmp_path, ear):
    path = tmp_path / "s"
    process = subprocess.Popen(
        [binary(), "--listen-addr", f"unix:{path}"], env=environment({"NOTIFY_SOCKET": ear.name}), stdout=subprocess.DEVNULL
    )
    try:
        ear.hears("READY=1")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    finally:
        process.kill()
        process.wait()


def test_the_watchdog_is_fed_by_the_loop_and_not_when_it_hangs(serve, ear):
    server = serve(env={"NOTIFY_SOCKET": ear.name, "WATCHDOG_USEC": "400000"})
    for _ in range(3):
        ear.hears("WATCHDOG=1")
    server.freeze()
    ear.is_quiet()  # earlier messages
    ear.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        ear.hears("WATCHDOG=1")
    ear.socket.settimeout(DEADLINE)
    server.thaw()
    ear.hears("WATCHDOG=1")


def test_a_watchdog_of_another_process_is_not_fed(serve, ear):
    server = serve(env={"NOTIFY_SOCKET": ear.name, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    ear.hears("READY=1")
    server.ws()
    assert "WATCHDOG=1" not in ear.hears("STATUS=1 connections")
    ear.is_quiet()


def test_a_missing_service_manager_changes_nothing(serve):
    server = serve(env={"NOTIFY_SOCKET": "/no/such/socket"})
    server.logged("NOTIFY_SOCKET")
    server.ws().join("x")


# -- sockets that are passed on


def health(family, address):
    sock = socket.socket(family)
    sock.settimeout(DEADLINE)
    sock.connect(address)
    stream = Stream(sock).send(request("GET", "/health"))
    assert stream.response().json() == {"status": "ok"}
    stream.close()


def test_sockets_of_the_manager_replace_the_addresses(tmp_path):
    tcp, unix, path = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX), tmp_path / "s"
    unix.bind(str(path))
    unix.listen()
    unused = free_port()
    process = start([tcp, unix], "--listen-addr", f"127.0.0.1:{unused}")
    try:
        # They listen already: an early connection waits.
        health(socket.AF_INET, tcp.getsockname())
        health(socket.AF_UNIX, str(path))
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", unused), timeout=DEADLINE)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    assert f"127.0.0.1:{tcp.getsockname()[1]}, unix:{path}" in out, out
    assert path.exists(), "the file belongs to the service manager"


def test_sockets_of_another_process_are_ignored():
    tcp, own = socket.create_server(("127.0.0.1", 0)), free_port()
    process = start([tcp], "--listen-addr", f"127.0.0.1:{own}", pid=1)
    try:

        def listens():
            try:
                health(socket.AF_INET, ("127.0.0.1", own))
                return True
            except OSError:
                return False

        until(listens, "wsify listens on its own address")
    finally:
        process.kill()
        process.communicate()


def test_a_passed_descriptor_that_is_no_listener_ends_the_start():
    with socket.socket() as idle, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, open("/dev/null") as file:
        for passed in (idle, datagrams, file):
            process = start([passed])
            _, err = process.communicate(timeout=DEADLINE)
            assert process.returncode == 1 and err.count("\n") == 1 and "descriptor 3" in err, err
