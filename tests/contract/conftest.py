"""Fixtures of the tests with redis."""

import pytest

from harness.redis import Redis, is_up


@pytest.fixture
def begin():
    """Starts a redis, or several: begin(Redis, "--requirepass", "secret")."""
    begun = []

    def begin(make, *args, **more):
        begun.append(make(*args, **more))
        return begun[-1]

    yield begin
    for it in begun:
        it.kill()


@pytest.fixture
def redis(begin):
    return begin(Redis)


@pytest.fixture
def node(serve):
    """Starts a server that shares its channels, and waits until its links are up."""

    def start(dsn, *flags, **more):
        server = serve("--broker-driver", "redis", "--broker-dsn", dsn, *flags, **more)
        is_up(server)
        return server

    return start
