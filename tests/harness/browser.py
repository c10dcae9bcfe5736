"""Chromium without a window, driven by the DevTools protocol."""

import base64
import itertools
import json
import os
import signal
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from websockets.sync.client import connect

from .net import until

# A browser on a busy machine takes its time to start.
PATIENCE = 60
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server",
]


class Browser:
    """A process of its own, with a profile of its own."""

    def __init__(self, program, profile, log):
        self.pages = ExitStack()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )
        told = profile / "DevToolsActivePort"

        def port():
            assert self.process.poll() is None, log.read_text()
            return told.exists() and "\n" in told.read_text() and told.read_text().split()[0]

        self.port = until(port, log.read_text, PATIENCE)

    def visit(self, url):
        """A new tab that has loaded the page."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            tab = json.load(answer)
        page = Page(self.pages.enter_context(connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None, close_timeout=1)))
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.navigate", url=url)
        until(lambda: page.js("document.readyState + location.href") == f"complete{url}", f"{url} is loaded", PATIENCE)
        return page

    def kill(self):
        """Ends the process and what it started, as a crash would."""
        if self.process.poll() is None:
            # Its own session: what it started ends with it.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.pages.close()


class Page:
    """A tab."""

    def __init__(self, socket):
        self.socket, self.ids, self.complaints = socket, itertools.count(1), []

    def call(self, method, **params):
        wanted = next(self.ids)
        self.socket.send(json.dumps({"id": wanted, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=PATIENCE))
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(message["params"]))
            if message.get("id") == wanted:
                assert "error" not in message, message
                return message["result"]

    def js(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self, of):
        return self.js(f"document.getElementById('{of}').textContent")

    def sees(self, part, of="log"):
        return until(lambda: part in (text := self.text(of)) and text, lambda: f"{part!r} in {self.text(of)!r}", PATIENCE)

    def shows(self, text, of):
        until(lambda: self.text(of) == text, lambda: f"{text!r}, not {self.text(of)!r}", PATIENCE)

    def fill(self, field, text):
        self.js(f"document.getElementById('{field}').value = {json.dumps(text)}")

    def submit(self, form):
        self.js(f"document.getElementById('{form}').requestSubmit()")

    def close(self):
        """Closes the tab, as its user would."""
        self.call("Page.close")

    def picture(self, name, width, height, dark):
        if not (place := os.environ.get("WSIFY_SCREENSHOTS")):
            return
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        Path(place, f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
