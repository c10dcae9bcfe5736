"""Fixtures of the tests with third-party clients."""

from pathlib import Path

import pytest

from harness.browser import Browser
from harness.tools import absent, need


@pytest.fixture
def curl():
    return need("curl")


@pytest.fixture
def node():
    path = need("node", "nodejs")
    if not Path(__file__).with_name("node_modules").joinpath("ws").is_dir():
        absent("the ws package is not installed (npm ci in tests/clients)")
    return path


@pytest.fixture
def chromium():
    return need("chromium")


@pytest.fixture
def browser(chromium, tmp_path):
    """Starts browsers, each a process of its own."""
    started = []

    def browser():
        started.append(Browser(chromium, tmp_path / f"profile{len(started)}", tmp_path / "chromium.log"))
        return started[-1]

    yield browser
    for it in started:
        it.kill()


@pytest.fixture
def visit(browser):
    """Opens a page in a browser of its own."""
    return lambda url: browser().visit(url)
