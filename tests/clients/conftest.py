"""A tool that is missing skips a test, with its name; where everything is to be tested (CI, WSIFY_TEST_ALL) it fails it."""

import os
import shutil

import pytest


def need(tool, package=None):
    path = shutil.which(tool)
    if path:
        return path
    missing = f"{tool} is not installed (Debian: apt-get install {package or tool})"
    if os.environ.get("CI") or os.environ.get("WSIFY_TEST_ALL"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def curl():
    return need("curl")


@pytest.fixture
def node():
    path = need("node", "nodejs")
    modules = os.path.join(os.path.dirname(__file__), "node_modules", "ws")
    if not os.path.isdir(modules):
        missing = "the ws package is not installed (npm ci in tests/clients)"
        if os.environ.get("CI") or os.environ.get("WSIFY_TEST_ALL"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@pytest.fixture
def chromium():
    return need("chromium")
