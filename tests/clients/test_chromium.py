"""Chromium: what only a browser does. It sends an Origin, asks before it posts, and fails when a subprotocol is not
confirmed. The page comes from an origin of its own and reports what it saw to there."""

import json
import os
import queue
import signal
import subprocess
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.browser import FLAGS, PATIENCE
from harness.handover import hand_over

PAGE = Path(__file__).with_name("page.html").read_bytes()


class Site:
    """Serves the page, and takes its reports."""

    def __init__(self):
        self.reports = reports = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                known = self.path.startswith("/page")
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(PAGE if known else b"")

            def do_POST(self):
                reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self, step):
        """The next report, which must be about that step."""
        report = self.reports.get(timeout=PATIENCE)
        assert report["step"] == step, report
        return report["seen"]


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def browse(chromium, site, tmp_path):
    started = []

    def browse(**asked):
        query = urllib.parse.quote(json.dumps(asked))
        log = (tmp_path / "chromium.log").open("wb")
        started.append(
            subprocess.Popen(
                [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"{site.origin}/page?{query}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        )

    yield browse
    for process in started:
        # Its own session: what it started ends with it.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_browser(browse, site, serve):
    allowed = serve("--allowed-origins", f"https://app.example.com,{site.origin}", "--drain-timeout", "500ms")
    refused = serve("--allowed-origins", "https://app.example.com")
    open_, locked = serve(), serve("--broadcasting-key", "s3cret")
    compressing = serve("--compression", "on")
    witnesses = [server.ws().join("browser-post") for server in (open_, locked)]
    browse(
        steps=["tour", "token", "v1", "compression", "refused", "post", "stop"],
        allowed=f"ws://127.0.0.1:{allowed.port}/ws",
        refused=f"ws://127.0.0.1:{refused.port}/ws",
        compressing=f"ws://127.0.0.1:{compressing.port}/ws",
        open=f"http://127.0.0.1:{open_.port}/broadcast",
        locked=f"http://127.0.0.1:{locked.port}/broadcast",
    )

    site.told("joined")
    allowed.publish("browser", '"from the backend"')
    seen = site.told("tour")
    assert seen.pop("closed")["code"] == 4000
    assert seen == {
        "extensions": "",
        "protocol": "",
        "joined": '{"id":1,"ok":true}',
        "heard": '{"from": "ü"}',
        "backend": '"from the backend"',
        "left": '{"id":2,"ok":true}',
    }
    assert site.told("token") == {"outcome": True, "protocol": "a-token"}
    # close() without a code.
    assert site.told("v1") == {"outcome": True, "protocol": "wsify.v1", "code": 1000, "clean": True}
    seen = site.told("compression")
    assert seen["extensions"].replace(" ", "") == "permessage-deflate;server_no_context_takeover;client_no_context_takeover"
    assert seen["same"] is True
    assert compressing.metric("^wsify_compression_messages_total$") > 3
    assert compressing.metric(r'^wsify_compression_contents_total\{outcome="compressed"\}$') == 3
    seen = site.told("refused")
    assert seen["code"] == 1006 and not seen["clean"], "an origin that is not allowed"

    seen = site.told("post")
    # Without CORS headers on the answer itself the page is not shown the status, only that it failed.
    assert seen["open"] in (403, "TypeError") and seen["simple"] in (403, 415, "TypeError")
    witnesses[0].is_quiet()
    # With the key it is published: the browser asked first (OPTIONS), and was allowed the headers that it asked for.
    assert seen["key"] in (201, "TypeError") and seen["custom"] == 201
    published = f'"http://127.0.0.1:{locked.port}/broadcast"'
    witnesses[1].hears(published, published).is_quiet()

    site.told("waits")
    allowed.signal(signal.SIGTERM)
    seen = site.told("stop")
    assert seen["code"] == 1012 and seen["clean"] and seen["reason"]
    assert allowed.status() == 0


def test_a_replacement_of_the_program(browse, site, serve):
    """The page does not notice: its socket stays open, what it sends arrives, what is sent to it is heard."""
    server = serve("--compression", "on", "--allowed-origins", site.origin, "--broadcasting-key", "k")
    url = f"127.0.0.1:{server.port}"
    witness = server.ws().join("posted")
    browse(steps=["replaced"], url=f"ws://{url}/ws", post=f"http://{url}/broadcast")
    for n in (1, 2, 3):
        assert site.told("replace") == n
        hand_over(server)
        assert server.post(f'{{"channel":"browser","content":{n}}}', headers=[("Authorization", "Bearer k")]).status == 201
    seen = site.told("replaced")
    assert seen.pop("node") == node_of(server)
    assert seen == {
        "joined": {"id": 1, "ok": True}, "same": True, "contents": [1, 201, 2, 201, 3, 201], "left": {"id": 2, "ok": True}, "closed": 4000,
    }
    for _ in range(3):
        assert json.loads(witness.hear()) == "é" * 200_000


def node_of(server):
    """The node's name, as a client that comes now is told."""
    return server.ws(protocols="wsify.v1").welcome["connection"].split("-")[0]
