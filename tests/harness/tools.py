"""Programs that tests use and that may not be installed. If one is missing, the test is skipped, and the reason names it.
With CI or WSIFY_TEST_ALL set the test fails instead."""

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
