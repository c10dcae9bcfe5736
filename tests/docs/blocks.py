"""The blocks of README.md and docs/ by the name in the comment in front of them, and a shell to run them in."""

import os
import re
import signal
import subprocess
import threading

from harness.net import DEADLINE, until
from harness.server import ROOT, binary, environment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)<!-- test: (\w+) -->\n\1```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def block(name):
    """The text of that name. A block that stands in two pages is the same in both."""
    found = set()
    for page in PAGES:
        for indent, named, _, text in FENCE.findall(page.read_text()):
            if named == name:
                found.add(re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
    assert len(found) == 1, f"{name}: {len(found)} different blocks"
    return found.pop()


def commands(name):
    """The block's commands, one a line, without comments; continued lines are joined."""
    text = block(name).replace("\\\n", " ")
    lines = (re.sub(r"\s+#\s.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def deploy(name):
    """A file of docs/deploy."""
    return ROOT / "docs" / "deploy" / name


def on(port, text):
    """The text with the example's server at `port`."""
    return text.replace("localhost:3000", f"127.0.0.1:{port}").replace("127.0.0.1:3000", f"127.0.0.1:{port}")


class Running:
    """A process, and the lines it has printed so far."""

    def __init__(self, process):
        self.process, self.lines = process, []
        self.thread = threading.Thread(target=self.collect, daemon=True)
        self.thread.start()

    def collect(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def prints(self, line):
        until(lambda: line in self.lines, lambda: f"{line!r} in {self.lines}")

    def finish(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.thread.join(DEADLINE)
        self.process.stdout.close()


class Shell:
    """Runs blocks as they are printed; `wsify` is the program under test."""

    def __init__(self, tmp_path):
        self.cwd, self.running = tmp_path, []
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "wsify").symlink_to(binary())
        # Tests have no further rights, so `sudo` only runs its command.
        (tmp_path / "bin" / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (tmp_path / "bin" / "sudo").chmod(0o755)

    def environment(self, extra=None):
        return environment({"PATH": f"{self.cwd / 'bin'}:{os.environ['PATH']}", **(extra or {})})

    def run(self, text, env=None, cwd=None):
        return subprocess.run(
            ["bash", "-euc", text], cwd=cwd or self.cwd, env=self.environment(env), capture_output=True, text=True,
            timeout=DEADLINE * 3, stdin=subprocess.DEVNULL, check=False,
        )

    def start(self, text, env=None, cwd=None):
        """In a session of its own, so that it ends with what it started."""
        process = subprocess.Popen(
            ["bash", "-euc", text], cwd=cwd or self.cwd, env=self.environment(env), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        self.running.append(Running(process))
        return self.running[-1]

    def finish(self):
        for running in self.running:
            running.finish()
