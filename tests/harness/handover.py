"""Replacing the running program, and programs of the test's own to replace it by (docs/operating.md#replacing-the-program)."""

import os
import re
import shutil
import signal
from pathlib import Path

from .net import DEADLINE, until
from .server import binary

# The messages of its log.
REPLACED = "the program was replaced"
GOES_ON = "the handover is given up"
WENT_BACK = "went back"
# A program that hangs is ended after a while.
PATIENCE = DEADLINE + 15


def image(pid):
    """What no two programs have in common: where the kernel has put them."""
    return Path(f"/proc/{pid}/auxv").read_bytes()


def ask(server):
    """Asks for a replacement, and waits for nothing. Returns what was before, for `handed_over`."""
    before = image(server.pid), len(logged(server, REPLACED)), len(logged(server, GOES_ON))
    server.process.send_signal(signal.SIGUSR2)
    return before


def logged(server, message):
    """The log's lines with such a message."""
    return [entry for entry in server.log() if message in entry["message"]]


def hand_over(server):
    """Replaces the program, and waits until the new one serves. Returns what it logs."""
    return handed_over(server, ask(server))


def handed_over(server, before):
    """Waits until a replacement that was asked for is logged, and returns that line."""
    program, seen, failed = before

    def is_logged():
        assert server.process.poll() is None, f"wsify ended with {server.process.returncode}: {server.err} {server.out[-5:]}"
        assert len(logged(server, GOES_ON)) == failed, server.out[-5:]
        return logged(server, REPLACED)[seen:]

    entry = until(is_logged, lambda: f"the program is replaced: {server.out[-8:]} {server.err}", PATIENCE)[0]
    assert image(server.pid) != program, "another program"
    return entry


def fails(server, meanwhile=None):
    """Asks for a replacement that must fail while the old program still runs. Returns what it logs."""
    program, replaced, seen = ask(server)
    if meanwhile:
        meanwhile()
    entry = until(lambda: logged(server, GOES_ON)[seen:], lambda: f"it says why: {server.out[-8:]} {server.err}", PATIENCE)[0]
    assert image(server.pid) == program and len(logged(server, REPLACED)) == replaced, server.out[-5:]
    return entry


def each_descriptor(pid, look):
    """What `look` returns for each descriptor of a process."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(number)] = look(number)
        except FileNotFoundError:
            pass  # it was closed meanwhile
    return found


def descriptors(pid):
    """What each descriptor of a process is, without numbers that differ from one socket to the next."""
    links = each_descriptor(pid, lambda number: os.readlink(f"/proc/{pid}/fd/{number}"))
    return sorted(re.sub(r"\[\d+\]| \(deleted\)$", "", link) for link in links.values())


def closes_on_exec(pid):
    """Whether every descriptor but the first three is closed when the process executes another program."""
    infos = each_descriptor(pid, lambda number: Path(f"/proc/{pid}/fdinfo/{number}").read_text())
    flags = [int(re.search(r"flags:\s+(\d+)", info)[1], 8) for number, info in infos.items() if number > 2]
    return all(it & os.O_CLOEXEC for it in flags)


def children(pid):
    """The processes that it has started and that are not gone, dead ones too: their ids and names."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(rest.split()[1]) == pid:
            found[int(stat.parent.name)] = head.partition("(")[2]
    return found


def signals(pid):
    """Which signals a process blocks, ignores and handles."""
    return re.findall(r"^Sig(?:Blk|Ign|Cgt):.*$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)


class Releases:
    """Two copies of the program, which are different files. A test gives them names of its own."""

    def __init__(self, directory):
        self.directory = directory
        for name in ("old", "new"):
            shutil.copy(binary(), directory / name)

    def link(self, name, path):
        os.link(self.directory / name, path)
        return path

    def deploy(self, name, path):
        """Puts it in a path's place, as a deployment does: the file that was there stays as it is, without a name."""
        return put(self.link(name, beside(path)), path)

    def is_run_by(self, pid):
        """Which of them a process executes."""
        return next((name for name in ("old", "new") if os.path.samefile(f"/proc/{pid}/exe", self.directory / name)), None)

    def remove(self):
        shutil.rmtree(self.directory)


def beside(path):
    return path.with_name(f".{path.name}.new")


def put(file, path):
    """Renames one over the other."""
    if path.exists() and os.path.samefile(file, path):
        path.unlink()  # renaming does nothing where both are one file
    return file.rename(path)


def script(path, text, mode=0o755):
    """Puts a file with this text in a path's place."""
    file = beside(path)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return put(file, path)
