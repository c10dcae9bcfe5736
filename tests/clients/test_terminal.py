"""The log at a terminal, which the test plays, and in a pipe (docs/observing.md#logs)."""

import json
import os
import pty
import re

import pytest

from harness.net import until
from harness.server import Server
from harness.ws import command, frame

LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (ERROR|WARN |INFO |DEBUG) (\S.*?)(?:  (\S+=.*))?$")
COLOUR = re.compile(r"\x1b\[\d+m")


class Terminal:
    """A pseudo-terminal whose far side is read here."""

    def __init__(self):
        self.near, self.far = pty.openpty()
        os.set_blocking(self.near, False)
        self.seen = ""

    def reads(self, pattern):
        def found():
            try:
                self.seen += os.read(self.near, 65536).decode()
            except BlockingIOError:
                pass
            return re.search(pattern, self.seen)

        return until(found, lambda: f"{pattern!r} at the terminal: {self.seen!r}")

    def lines(self):
        """The log's lines, without the quick start's text and without colours."""
        seen = COLOUR.sub("", self.seen.replace("\r\n", "\n"))
        return [line for line in seen.splitlines() if re.match(r"\d{4}-", line)]

    def close(self):
        os.close(self.near)
        os.close(self.far)


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_a_terminal_is_shown_coloured_text(serve, terminal):
    server = serve("--access-log", "all", stdout=terminal.far, env={"TERM": "xterm"})
    server.ws("/ws?token=s3cret").leaves()
    terminal.reads("connection ended")
    terminal.reads("reason.*closed.*\n")
    assert COLOUR.search(terminal.seen) and "s3cret" not in terminal.seen
    assert len(terminal.lines()) >= 3
    for line in terminal.lines():
        assert LINE.match(line), line


@pytest.mark.parametrize("env", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_colours_can_be_declined(serve, terminal, env):
    serve(stdout=terminal.far, env=env)
    terminal.reads("listening.*\n")
    assert "\x1b" not in terminal.seen
    assert terminal.lines() and all(LINE.match(line) for line in terminal.lines()), terminal.seen


def test_a_terminal_can_have_json_and_a_pipe_text(serve, terminal):
    serve("--log-format", "json", stdout=terminal.far)
    terminal.reads("listening.*\n")
    assert all(json.loads(line)["level"] for line in terminal.seen.splitlines())

    server = serve("--log-format", "text")
    until(lambda: any("listening" in line for line in server.out), "a line of text")
    assert all(LINE.match(line) for line in server.out), server.out
    assert not COLOUR.search("".join(server.out))


def test_control_characters_of_a_client_do_not_reach_the_terminal(serve, terminal):
    server = serve("--access-log", "all", "--log-level", "debug", stdout=terminal.far, env={"NO_COLOR": "1"})
    evil = "\x1b]0;owned\x07\x9b31m"
    server.dial().send(b"GET /\x1b[2J HTTP/1.1\r\nHost: \x1b[2J\r\nUser-Agent: \x1b[2J\r\n\r\n").response()
    server.call("GET", "/%1b%5b2J?x=%1b%5b2J", [("User-Agent", "x\x1b[2J")])
    ws = server.ws("/ws?x=%1b%5b2J")
    ws.ask(command(evil, evil, f'"{"x"}"'))
    ws.ask(command("join", evil, id=evil))
    ws.leaves(4000, evil.encode())
    terminal.reads("reason=closed.*\n")
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]|owned|2J", terminal.seen), terminal.seen


def ended(server, reason):
    """The line about the only connection that ended for that reason."""

    def lines():
        return [line for line in server.log() if line["message"] == "connection ended" and line["reason"] == reason]

    (line,) = until(lines, lambda: f"an end by {reason} in {server.out}")
    return line


def test_one_line_for_each_end(serve):
    server = serve("--access-log", "all")
    ann = server.ws().join("a")
    for n in range(5):
        server.publish("a", n)
        ann.hears(str(n))
    ann.leaves(1000)
    line = ended(server, "closed")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert line["level"] == "info" and line["code"] == 1000
    assert (line["messages_in"], line["messages_out"]) == (1, 6)
    assert line["bytes_in"] > 150 and line["bytes_out"] > 100 and 0 <= line["duration_ms"] < 60_000
    # The probe that waited for the server, the five publishers, and ann.
    until(lambda: sum(line["message"] == "connection ended" for line in server.log()) == 7, lambda: f"seven ends in {server.out}")


def test_the_connection_of_a_log_line_is_the_id_in_questions(serve, authorizer):
    server = serve(auth=authorizer)
    ann = server.ws()
    ann.send(frame(0xB, b"reserved"))
    ann.is_closed(1002)
    line = ended(server, "protocol_error")
    (question,) = authorizer.asked()
    assert line["connection"] == question.peer["id"]
    assert line["remote_addr"] == question.peer["remote_addr"]
    assert line["code"] == 1002 and line["detail"]


def test_by_default_the_log_has_only_faults(serve):
    server = serve()
    for _ in range(20):
        server.ws("/ws?token=s3cret").join("a").leaves()
    server.call("GET", "/health")
    server.call("GET", "/nothing/s3cret?key=s3cret")
    server.logged("request refused")
    ann = server.ws()
    ann.reset()
    ended(server, "reset")
    lines = [line["message"] for line in server.log() if "there is no" not in line["message"]]
    assert lines == ["listening", "request refused", "connection ended"]
    assert "s3cret" not in "".join(server.out)
