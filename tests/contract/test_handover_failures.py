"""Replacing the running program by one that is none, that fails, or that may not: the old one goes on, and nothing is lost
(docs/operating.md#replacing-the-program)."""

import os
import resource
import shutil
import signal
from pathlib import Path

import pytest

from harness.handover import (
    GOES_ON, PATIENCE, REPLACED, WENT_BACK, ask, beside, children, closes_on_exec, descriptors, fails, hand_over, handed_over, image, logged, put, script,
)
from harness.net import request, until
from harness.receiver import line
from harness.server import binary
from harness.ws import CONTINUATION, TEXT, command, frame, text

JSON = ("Content-Type", "application/json")


# What has begun is not due while a program that hangs is tried.
FLAGS = ("--handshake-timeout", "5m")


class Site:
    """A server that was started from a file of its own, and clients that are in the middle of everything."""

    def __init__(self, server, path):
        self.server, self.path = server, path
        self.members = [server.ws(protocols="wsify.v1" if n % 2 else None).join("x") for n in range(6)]
        self.slow = server.ws(rcvbuf=4096).join("y")
        self.published = 0
        self.begin()

    def begin(self):
        """Half of everything."""
        self.message = text(command("broadcast", "x", '"torn"', id="torn"))
        self.torn = self.server.ws().send(self.message[:20])
        self.fragments = self.server.ws().send(frame(TEXT, b'{"command":"join",', fin=False))
        self.body = b'{"channel":"x","content":"upload"}'
        self.upload = self.server.dial().send(request("POST", "/broadcast", [JSON], self.body)[:-10])
        for _ in range(20):
            self.server.publish("y", '"' + "y" * 30_000 + '"')
            self.published += 1
        self.descriptors = descriptors(self.server.pid)

    def goes_on(self):
        """Everything goes on as if nothing had been tried."""
        hears = lambda content: [ws.hears(f'{{"channel":"x","content":{content}}}' if ws.protocol else content) for ws in self.members]
        self.torn.send(self.message[20:])
        assert self.torn.answer() == {"id": "torn", "ok": True}
        hears('"torn"')
        self.fragments.send(frame(CONTINUATION, b'"args":{"channel":"z"},"id":1}'))
        assert self.fragments.answer() == {"id": 1, "ok": True}
        assert self.upload.send(self.body[-10:]).response().status == 201
        hears('"upload"')
        for ws in self.members:
            ws.is_quiet()
        self.slow.hears(*['"' + "y" * 30_000 + '"'] * self.published).is_quiet()
        self.published = 0
        assert self.server.admits()

    def is_untouched(self):
        """There is neither a process nor a descriptor more than before."""
        until(lambda: not children(self.server.pid), lambda: f"no process is left: {children(self.server.pid)}")
        until(lambda: len(descriptors(self.server.pid)) <= len(self.descriptors), lambda: f"{descriptors(self.server.pid)}, before {self.descriptors}")
        assert closes_on_exec(self.server.pid)

    def can_be_replaced(self, releases):
        """By a good program, after all."""
        if self.path.is_dir():
            self.path.rmdir()
        releases.deploy("new", self.path)
        hand_over(self.server)
        assert releases.is_run_by(self.server.pid) == "new"

    def was_left_alone(self, releases):
        """By an attempt that failed: everything goes on, and goes over in the next one."""
        self.is_untouched()
        self.goes_on()
        self.begin()
        self.can_be_replaced(releases)
        self.goes_on()


@pytest.fixture
def site(serve, releases, tmp_path):
    path = releases.link("old", tmp_path / "wsify")
    return Site(serve(*FLAGS, program=path), path)


def holders(file):
    """The processes that have a file open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.path.samefile(link, file):
                found.add(int(link.parts[2]))
        except OSError:
            pass  # it was closed meanwhile, or is another user's
    return found


# -- programs that are none


def true(path):
    shutil.copy(shutil.which("true"), beside(path))
    put(beside(path), path)


def half(path):
    """An upload that broke off."""
    with open(binary(), "rb") as whole:
        script(path, whole.read(100_000))


def directory(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


BAD = {
    "a text": lambda path: script(path, "this is not a program\n"),
    "an empty file": lambda path: script(path, ""),
    "true": true,
    "the beginning of a program": half,
    "not executable": lambda path: script(path, "#!/bin/sh\n", 0o644),
    "an interpreter that is missing": lambda path: script(path, "#!/no/such/interpreter\n"),
    "a directory": directory,
    "nothing": lambda path: path.unlink(),
    "a link to nothing": dangling,
    "it exits 1": lambda path: script(path, "#!/bin/sh\necho to the log; echo it is broken >&2; exit 1\n"),
    "it crashes": lambda path: script(path, "#!/bin/sh\nkill -SEGV $$\n"),
    "it floods": lambda path: script(path, "#!/bin/sh\nexec yes\n"),
    "it complains at length": lambda path: script(path, "#!/bin/sh\necho it is broken >&2; yes | head -n 100000 >&2; exit 1\n"),
    "it says what it is not": lambda path: script(path, "#!/bin/sh\necho wsify 4.0.0; echo ok; exit 0\n"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_program_changes_nothing(site, releases, bad):
    BAD[bad](site.path)
    entry = fails(site.server)
    assert entry["level"] in ("warn", "error") and entry["reason"], entry
    if bad in ("it exits 1", "it complains at length"):
        assert "it is broken" in entry["reason"], entry
    site.was_left_alone(releases)


def test_a_program_that_hangs_is_ended(site, releases):
    script(site.path, "#!/bin/sh\nexec sleep 1000\n")
    seen = image(site.server.pid)
    ask(site.server)
    until(lambda: "sleep" in children(site.server.pid).values(), "it is tried")
    # The loop goes on meanwhile.
    for _ in range(50):
        site.members[0].is_quiet()
    until(lambda: not children(site.server.pid), "it is ended", PATIENCE)
    assert image(site.server.pid) == seen
    site.was_left_alone(releases)


@pytest.mark.parametrize("ends", ["wait", "exit 1", 'exec "$real" "$@"'], ids=["it hangs", "it fails", "it is a program"])
def test_what_a_script_has_started_ends_with_it(serve, releases, tmp_path, ends):
    """The trials leave no process behind, whatever they come to."""
    path = releases.link("old", tmp_path / "wsify")
    server = serve(program=path)
    started = tmp_path / "started"
    begins = f'case $WSIFY_HANDOVER in take*) ;; *) sleep 60 > "{started}" & ;; esac'
    script(path, f'#!/bin/sh\nreal={releases.directory / "new"}\n{begins}\n{ends}\n')
    before = ask(server)
    until(started.exists, "it is tried")
    if ends.startswith("exec"):
        handed_over(server, before)
    else:
        until(lambda: logged(server, GOES_ON), "it is given up", PATIENCE)
    until(lambda: not holders(started), lambda: f"they are ended: {holders(started)}")


@pytest.mark.parametrize("then", ["exit 1", "kill -SEGV $$", "exit 0", "exec cat >&2", "ulimit -v 4096; exec \"$real\" \"$@\""])
def test_a_program_that_fails_with_the_snapshot_changes_nothing(site, releases, then):
    """A script passes the first trial on to a good program, and fails in the second."""
    real = releases.directory / "new"
    script(site.path, f'#!/bin/sh\nreal={real}\ncase $WSIFY_HANDOVER in check*) {then} ;; esac\nexec "$real" "$@"\n')
    fails(site.server)
    site.was_left_alone(releases)


def test_why_a_program_fails_is_known_even_if_sigchld_is_ignored(serve, releases, tmp_path):
    """Some parents ignore it, and their children inherit that."""
    path = releases.link("old", tmp_path / "wsify")
    server = serve(program=script(tmp_path / "start", f'#!/bin/sh\nexec env --ignore-signal=CHLD {path} "$@"\n'))
    script(path, "#!/bin/sh\necho it is broken >&2; exit 3\n")
    assert fails(server)["reason"] == "it ends with exit status: 3: it is broken"
    releases.deploy("new", path)
    hand_over(server)
    until(lambda: not children(server.pid), "no process is left")


def test_a_script_that_starts_the_program_is_a_program(site, releases):
    script(site.path, f'#!/bin/sh\nexec {releases.directory / "new"} "$@"\n')
    for _ in range(2):
        hand_over(site.server)
        assert releases.is_run_by(site.server.pid) == "new"
        site.goes_on()
        site.begin()
    site.can_be_replaced(releases)
    site.goes_on()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGALRM])
def test_a_program_that_fails_when_it_has_taken_over_makes_room_for_the_old_one(site, releases, number):
    """It is stopped as soon as it runs, is hit by what a fault leads to before it is done, and goes on."""
    server = site.server
    bits = lambda *numbers: sum(1 << (number - 1) for number in numbers)
    handled = bits(signal.SIGALRM, signal.SIGSEGV, signal.SIGABRT, signal.SIGSYS)

    def mask(name):
        with open(f"/proc/{server.pid}/status") as status:
            return int(next(row for row in status if row.startswith(name)).split()[1], 16)

    def is_taking_over():
        """It runs, it could go back, and it is not done."""
        return releases.is_run_by(server.pid) == "new" and mask("SigBlk") & bits(signal.SIGUSR2) and mask("SigCgt") & handled == handled

    def hit():
        """Whether it was hit while it took over."""
        releases.deploy("new", site.path)
        _, seen, _ = ask(server)
        until(lambda: releases.is_run_by(server.pid) == "new" or logged(server, GOES_ON), "it runs")
        assert not logged(server, GOES_ON), server.out[-5:]
        while len(logged(server, REPLACED)) == seen:
            server.freeze()
            hits = is_taking_over()
            if hits:
                server.process.send_signal(number)
            server.thaw()
            if hits:
                return True
        # It was faster. The old one is put back, for another try.
        releases.deploy("old", site.path)
        hand_over(server)
        return False

    until(hit, "it is hit while it takes over")
    entry = until(lambda: logged(server, WENT_BACK), lambda: f"it goes back: {server.out[-5:]} {server.err}", PATIENCE)[0]
    assert entry["level"] in ("warn", "error") and entry["reason"], entry
    assert releases.is_run_by(server.pid) == "old"
    site.is_untouched()
    site.goes_on()
    site.begin()
    releases.deploy("new", site.path)
    hand_over(server)
    assert releases.is_run_by(server.pid) == "new"
    site.goes_on()


# -- where the program lies


def test_a_new_file_under_the_same_name(site, releases):
    """The usual deployment: the running program's file has no name any more."""
    for name in ("new", "old", "new"):
        releases.deploy(name, site.path)
        hand_over(site.server)
        assert releases.is_run_by(site.server.pid) == name
        site.goes_on()
        site.begin()


def test_the_same_file_again(site):
    before = image(site.server.pid)
    hand_over(site.server)
    assert image(site.server.pid) != before
    site.goes_on()


@pytest.mark.parametrize("flipped", ["file", "directory"])
def test_a_symbolic_link_that_is_flipped(serve, releases, tmp_path, flipped):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        releases.link(name, tmp_path / name / "wsify")
    link = tmp_path / ("wsify" if flipped == "file" else "current")
    target = lambda name: f"{name}/wsify" if flipped == "file" else name
    link.symlink_to(target("old"))
    server = serve(program=link if flipped == "file" else link / "wsify")
    ws = server.ws().join("x")
    for name in ("new", "old", "new"):
        beside(link).symlink_to(target(name))
        beside(link).rename(link)
        hand_over(server)
        assert releases.is_run_by(server.pid) == name
        ws.is_quiet()


def test_a_symbolic_link_to_a_program_that_has_another_name(serve, releases, tmp_path):
    """A supervisor may give a process any name."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        releases.link(name, tmp_path / name / "wsify")
    link = tmp_path / "current"
    link.symlink_to("old")
    server = serve(program=script(tmp_path / "start", f'#!/bin/bash\nexec -a "the server" {link}/wsify "$@"\n'))
    ws = server.ws().join("x")
    for name in ("new", "old"):
        beside(link).symlink_to(name)
        beside(link).rename(link)
        hand_over(server)
        assert releases.is_run_by(server.pid) == name
        ws.is_quiet()


def test_a_relative_path_and_one_that_is_searched_for(serve, releases, tmp_path):
    (tmp_path / "bin").mkdir()
    path = releases.link("old", tmp_path / "bin" / "wsify")
    servers = [serve(program="bin/wsify", cwd=tmp_path), serve(program="./wsify", cwd=tmp_path / "bin")]
    servers.append(serve(program="wsify", env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}))
    members = [server.ws().join("x") for server in servers]
    releases.deploy("new", path)
    for server, ws in zip(servers, members):
        hand_over(server)
        assert releases.is_run_by(server.pid) == "new"
        ws.is_quiet()


# -- what it needs


def test_files_and_directories_that_the_flags_name_may_be_gone(serve, releases, tmp_path):
    """A listener goes over, whatever has become of its file."""
    directory = tmp_path / "run"
    directory.mkdir()
    path = directory / "s"
    server = serve(program=releases.link("old", tmp_path / "wsify"), listen=[f"unix:{path}"])
    server.await_start(lambda: server.dial_unix(path).close())
    stream = server.dial_unix(path)
    shutil.rmtree(directory)
    hand_over(server)
    assert stream.send(request("GET", "/health")).response().status == 200


def limited(server, kind, soft):
    """Lowers a limit of the running program, and returns what it was."""
    before = resource.prlimit(server.pid, kind)
    resource.prlimit(server.pid, kind, (soft, before[1]))
    return before


@pytest.mark.parametrize("kind, soft", [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_FSIZE, 70_000), (resource.RLIMIT_NOFILE, 3)],
                         ids=["no files", "no long files", "no descriptors"])
def test_a_limit_that_is_too_low(site, releases, kind, soft):
    """Nothing can be written, or opened: there is no snapshot."""
    before = limited(site.server, kind, soft)
    fails(site.server)
    resource.prlimit(site.server.pid, kind, before)
    site.was_left_alone(releases)


def test_a_limit_on_memory_that_is_nearly_reached(site, releases):
    """An allocation that fails would end the program. The new one may have as much as it takes. It works or it says why."""
    server = site.server
    script(site.path, f'#!/bin/sh\nulimit -v unlimited\nexec {releases.directory / "new"} "$@"\n')
    outcomes = lambda: len(logged(server, REPLACED) + logged(server, GOES_ON))
    for more in range(0, 1 << 20, 1 << 16):
        status = Path(f"/proc/{server.pid}/status").read_text()
        size = int(status.partition("VmSize:")[2].split()[0]) << 10
        before, seen = limited(server, resource.RLIMIT_AS, size + more), outcomes()
        ask(server)
        until(lambda: outcomes() > seen, lambda: f"it says what it did: {server.out[-3:]} {server.err}", PATIENCE)
        resource.prlimit(server.pid, resource.RLIMIT_AS, before)
    site.was_left_alone(releases)


def test_a_new_program_without_memory(site, releases):
    """The new program may have less than it takes."""
    script(site.path, f'#!/bin/sh\nulimit -v 4096\nexec {releases.directory / "new"} "$@"\n')
    fails(site.server)
    site.was_left_alone(releases)


def test_a_configuration_that_does_not_fit_any_more(serve, releases, tmp_path):
    """A later release that takes fewer values, or the same one in another environment: a script stands in for both."""
    path = releases.link("old", tmp_path / "wsify")
    site = Site(serve(*FLAGS, program=path), path)
    script(path, f'#!/bin/sh\nexec {releases.directory / "new"} "$@" --no-such-flag\n')
    entry = fails(site.server)
    assert "--no-such-flag" in entry["reason"], entry
    script(path, f'#!/bin/sh\nWSIFY_MAX_MESSAGE_SIZE=many exec {releases.directory / "new"} "$@"\n')
    entry = fails(site.server)
    assert "MAX_MESSAGE_SIZE" in entry["reason"], entry
    site.is_untouched()
    site.goes_on()


def test_questions_and_events_survive_a_failed_attempt(serve, releases, tmp_path, authorizer, receiver):
    path = releases.link("old", tmp_path / "wsify")
    server = serve("--events-url", receiver.url, "--events", "connected", "--authorizer-workers", "1", auth=authorizer, program=path)
    listener, crowd = server.ws().join("x"), [server.ws() for _ in range(5)]
    authorizer.hold("broadcast")
    for n, ws in enumerate(crowd):
        ws.say(command("broadcast", "x", n, id=n))
    first = authorizer.asked(1, "broadcast")[0]
    script(path, f'#!/bin/sh\ncase $WSIFY_HANDOVER in check*) exit 1 ;; esac\nexec {releases.directory / "new"} "$@"\n')
    authorizer.on(200, "broadcast")
    fails(server, meanwhile=first.release)
    assert sorted(int(listener.hear()) for _ in crowd) == [0, 1, 2, 3, 4]
    for n, ws in enumerate(crowd):
        assert ws.answer() == {"id": n, "ok": True}
    server.ws()
    assert [line(event) for event in receiver.has_taken(7)] == ["connected"] * 7
    assert len(authorizer.about("broadcast")) == 5


def test_taps_end_only_when_the_program_is_replaced(site):
    tap = site.server.dial().send(request("GET", "/tap"))
    until(lambda: tap.more() and b"event: tap" in tap.buffer, "it is open")
    site.path.unlink()
    fails(site.server)
    site.server.publish("y", "1")
    site.published += 1
    until(lambda: b"event: fanout" in tap.buffer or tap.more() and False, "it goes on")


def test_a_stop_ends_an_attempt_that_hangs(site):
    script(site.path, "#!/bin/sh\nexec sleep 1000\n")
    ask(site.server)
    until(lambda: "sleep" in children(site.server.pid).values(), "it is tried")
    (child,) = children(site.server.pid)
    site.server.signal(signal.SIGTERM)
    site.server.logged('"stopping')
    site.server.signal(signal.SIGTERM)
    assert site.server.status() == 128 + signal.SIGTERM
    until(lambda: not os.path.exists(f"/proc/{child}"), "the child does not outlive it")
