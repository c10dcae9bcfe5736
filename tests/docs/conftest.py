"""Fixtures of the tests of the documentation."""

import socket

import pytest

from blocks import Shell
from harness.net import until


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    yield shell
    shell.finish()


@pytest.fixture
def listens():
    """Waits until what was started accepts connections at a port of this machine."""

    def wait(running, port):
        def accepts():
            assert running.process.poll() is None, running.lines
            try:
                return socket.create_connection(("127.0.0.1", port), 1)
            except OSError:
                return None

        until(accepts, f"something listens at port {port}").close()

    return wait
