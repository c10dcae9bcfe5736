"""A service manager as far as wsify knows one: a socket that it notifies, and sockets that it is passed."""

import os
import socket
import subprocess
import time

from .net import DEADLINE
from .server import binary, environment


class Ear:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.name = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(DEADLINE)

    def hears(self, part):
        """Reads on until a message with that line, and returns it."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            message = self.socket.recv(4096).decode()
            if part in message.split("\n"):
                return message
        raise AssertionError(f"{part} is not among the messages")

    def is_quiet(self):
        self.socket.setblocking(False)
        try:
            while self.socket.recv(4096):
                pass
        except BlockingIOError:
            return
        finally:
            self.socket.settimeout(DEADLINE)


def start(listeners, *flags, pid=None, env=None):
    """wsify with these sockets as its descriptors from 3 on, as systemd passes them."""
    # The shell puts its own process id, which is then wsify's.
    moves = " ".join(f"{3 + n}<&{100 + n} {100 + n}<&-" for n in range(len(listeners)))
    script = f"export LISTEN_PID={pid or '$$'} LISTEN_FDS={len(listeners)}; exec {binary()} {' '.join(flags)} {moves}"

    def place():
        for n, listener in enumerate(listeners):
            os.dup2(listener.fileno(), 100 + n)

    # bash and not sh: dash knows only descriptors of one digit.
    return subprocess.Popen(
        ["bash", "-c", script], env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        preexec_fn=place, close_fds=False, text=True,
    )
