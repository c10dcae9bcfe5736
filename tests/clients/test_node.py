"""Node's `ws`: the same tour by another implementation, which checks what it reads in its own way."""

import json
import subprocess
import threading
from pathlib import Path

import pytest

from harness.handover import PATIENCE, hand_over
from harness.net import DEADLINE


@pytest.fixture
def play(node):
    def play(scene, server):
        done = subprocess.run(
            [node, Path(__file__).with_name("tour.mjs"), scene, f"ws://127.0.0.1:{server.port}/ws"],
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return play


def test_a_tour(play, plain):
    seen = play("tour", plain)
    assert seen["extensions"] == "" and seen["protocol"] == "wsify.v1" and seen["welcome"] == []
    assert seen["acks"] == [{"id": 1, "ok": True}] * 2
    assert seen["heard"] == ['[1.0, "é"]', '{"channel":"node","content":[1.0, "é"]}']
    assert seen["pong"] == "hello"
    assert seen["fragments"] == "2"
    assert seen["left"] == {"id": 2, "ok": True}
    assert seen["error"]["error"]["code"] == "unknown_command"
    assert seen["closed"]["code"] == 4000


def test_compression(play, serve):
    server = serve("--compression", "on")
    seen = play("compression", server)
    assert seen["extensions"] == ["permessage-deflate", "permessage-deflate", ""]
    assert seen["same"] is True
    # It compresses all that it sends, if it is to; and a window of 10 bits is left plain by the server.
    assert server.metric("^wsify_compression_messages_total$") == 8
    assert server.metric(r'^wsify_compression_contents_total\{outcome="compressed"\}$') == 6


@pytest.mark.parametrize("verdict, status", [(403, 403), (404, 403), (500, 503)])
def test_a_refused_handshake(play, asked, authorizer, verdict, status):
    authorizer.on(verdict, "connect")
    seen = play("refused", asked)
    assert seen["status"] == status
    assert json.loads(seen["body"])["error"]["message"]
    assert ("retry" in seen) == (status == 503)


def test_a_close_when_the_authorizer_is_down(play, asked, authorizer):
    authorizer.on(502, "join", "down")
    seen = play("down", asked)
    assert seen["code"] == 1013 and seen["reason"]


def test_large_messages(play, plain):
    seen = play("large", plain)
    assert seen["same"] is True
    assert seen["closed"]["code"] == 1009 and seen["closed"]["reason"]


def test_a_replacement_of_the_program(node, serve):
    """Between two fragments, between two compressed ones, and while the socket is full of messages that are not read."""
    server = serve("--compression", "on", "--max-queue-size", "16MiB")
    process = subprocess.Popen(
        [node, Path(__file__).with_name("tour.mjs"), "replaced", f"ws://127.0.0.1:{server.port}/ws"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    late = threading.Timer(3 * PATIENCE, process.kill)  # then there is no further line
    late.start()
    try:
        while (line := process.stdout.readline()) == "replace\n":
            for n in range(40):
                server.publish("node-paused", f'"{n}{"x" * 20_000}"')
            hand_over(server)
            process.stdin.write("replaced\n")
            process.stdin.flush()
        assert line, process.communicate(timeout=DEADLINE)[1]
        seen = json.loads(line)
    finally:
        late.cancel()
        process.kill()
        process.communicate()
    assert seen == {"fragments": '"torn"', "compressed": True, "pong": "again", "paused": [f"{n}" for n in range(40)] * 3, "closed": 4000}
