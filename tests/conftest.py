"""Fixtures for contract/ and clients/. A test gets a server of its own by `serve`, or shares `plain`."""

import pytest

from harness.authorizer import Authorizer
from harness.handover import Releases
from harness.receiver import Receiver
from harness.server import Server


@pytest.fixture
def serve():
    """Starts servers with flags: serve("--max-channels", "3"). `auth` sets the authorizer."""
    servers = []

    def start(*flags, auth=None, **more):
        if auth is not None:
            flags = (*flags, "--authorizer-url", auth if isinstance(auth, str) else auth.url)
        server = Server(*flags, **more)
        servers.append(server)
        return server

    yield start
    failures = []
    for server in servers:
        try:
            server.finish()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture(scope="session")
def shared():
    """A server without flags, shared by the tests of a pytest worker. Tests keep apart by channel names."""
    server = Server()
    yield server
    server.finish()


@pytest.fixture
def plain(shared):
    """A server without flags, which must outlive the test."""
    assert shared.process.poll() is None, f"wsify ended before this test: {shared.err}"
    yield shared
    shared.hang_up()
    assert shared.process.poll() is None, f"wsify ended during this test: {shared.err}"
    assert not any("panicked" in line for line in shared.err), shared.err


@pytest.fixture
def authorizer():
    authorizer = Authorizer()
    yield authorizer
    authorizer.stop()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def asked(serve, authorizer):
    """A server of this test's own, which asks `authorizer`."""
    return serve(auth=authorizer)


@pytest.fixture(scope="session")
def releases(tmp_path_factory):
    """Two copies of the program, for tests that replace its file."""
    releases = Releases(tmp_path_factory.mktemp("releases"))
    yield releases
    releases.remove()
