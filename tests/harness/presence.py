"""The presence list of docs/presence.md, at ports of the test's own."""

import socket
import subprocess
import sys

from .net import until
from .server import ROOT, environment, free_port


class Presence:
    """The backend. It can be killed and started again."""

    def __init__(self, folder, server_port, env=None):
        self.port, self.env, self.process = free_port(), env, None
        self.url = f"http://127.0.0.1:{self.port}/"
        for name in ("presence.py", "presence.html", "wsify.js"):
            text = (ROOT / "docs" / "deploy" / name).read_text()
            (folder / name).write_text(text.replace("localhost:3000", f"127.0.0.1:{server_port}").replace("8000", str(self.port)))
        self.program, self.log = folder / "presence.py", folder / "presence.log"

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, self.program], env=environment(self.env), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self.listens, lambda: f"it listens: {self.log.read_text()}")
        return self

    def listens(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
