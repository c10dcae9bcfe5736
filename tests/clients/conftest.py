"""Fixtures of the tests with third-party clients."""

from pathlib import Path

import pytest

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
