"""Programs that tests use but do not bring. One that is missing skips a test, with its name; where everything is to be
tested (CI, WSIFY_TEST_ALL) it fails it."""

import os
import shutil

import pytest


def absent(what):
    if os.environ.get("CI") or os.environ.get("WSIFY_TEST_ALL"):
        pytest.fail(what)
    pytest.skip(what)


def need(tool, package=None):
    """The tool's path."""
    return shutil.which(tool) or absent(f"{tool} is not installed (Debian: apt-get install {package or tool})")
