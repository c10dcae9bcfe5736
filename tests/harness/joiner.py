"""A client that joins one channel after another while something happens to redis, and what must hold afterwards."""

import json
import threading

from .net import DEADLINE
from .ws import command

# Between two joins, in seconds.
PACE = 0.003
MOST = 900


class Joiner:
    """Joins fresh channels of a server until it is stopped."""

    def __init__(self, server):
        self.ws = server.ws(protocols="wsify.v1")
        self.joined, self.failure = [], None
        self.halt = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            for number in range(MOST):
                if self.halt.wait(PACE):
                    return
                channel = f"joined{number}"
                self.ws.say(command("join", channel, id=channel))
                while "id" not in (answer := json.loads(self.ws.hear())):
                    pass
                # A join takes effect here, whether the channel's redis is there or not.
                assert answer == {"id": channel, "ok": True}, answer
                self.joined.append(channel)
        except BaseException as failure:
            self.failure = failure

    def stop(self):
        """The channels that were joined."""
        self.halt.set()
        self.thread.join(DEADLINE)
        if self.failure:
            raise self.failure
        assert self.joined and not self.thread.is_alive()
        return self.joined

    def hears_all(self, publisher):
        """What another server publishes to each of them comes once. Gaps may come before it."""
        for channel in self.joined:
            publisher.publish(channel, "1")
        heard = []
        while len(heard) < len(self.joined):
            message = json.loads(self.ws.hear())
            assert "content" in message or message.get("gap") is True, message
            heard += [message["channel"]] if "content" in message else []
        assert sorted(heard) == sorted(self.joined)
        self.ws.is_quiet()
