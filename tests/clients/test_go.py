"""Go's gorilla/websocket, which speaks compression only without context takeover."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.net import DEADLINE
from harness.tools import absent, need

# The first build compiles Go's own library.
PATIENCE = 300


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("go") / "client"
    done = subprocess.run(
        [need("go", "golang-go"), "build", "-o", path, "."], cwd=Path(__file__).with_name("go"),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )
    return str(path) if done.returncode == 0 else absent(f"go build: {done.stderr}")


def test_compression(program, serve):
    server = serve("--compression", "on")
    done = subprocess.run(
        [program, f"ws://127.0.0.1:{server.port}/ws"], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["extensions"] == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert json.loads(seen["joined"]) == {"id": 1, "ok": True} and seen["same"] is True
    assert server.metric("^wsify_compression_messages_total$") == 4
    assert server.metric(r'^wsify_compression_contents_total\{outcome="compressed"\}$') == 3
