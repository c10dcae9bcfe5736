"""A scripted receiver of events: it records calls, and answers as the test says."""

from dataclasses import dataclass

from .authorizer import Authorizer, Question
from .net import until


@dataclass
class Call(Question):
    """One call, with a batch of events."""

    command = "events"
    channel = None

    @property
    def events(self):
        return self.json["events"]

    @property
    def node(self):
        return self.json["node"]

    @property
    def taken(self):
        return self.reply is not None and 200 <= self.reply.status < 300


class Receiver(Authorizer):
    kind = Call

    def calls(self, count=1):
        """Waits until that many calls have come, and returns all of them."""
        return self.asked(count)

    def taken(self):
        """The events of the calls that were answered with 2xx, in the order in which they came."""
        return [event for call in self.about() if call.taken for event in call.events]

    def has_taken(self, count):
        """Waits until that many events were taken, and returns them all. Each came once, and in its order."""
        events = until(
            lambda: (taken := self.taken()) and len(taken) >= count and taken,
            lambda: f"{count} events; there are {[line(event) for event in self.taken()]}",
        )
        seqs = [event["seq"] for event in events]
        assert seqs == sorted(set(seqs)), seqs
        return events

    def told(self, count):
        """The same as short lines: `connected`, `occupied a`, `disconnected 1000 closed a,b`."""
        return [line(event) for event in self.has_taken(count)]


def line(event):
    if "channel" in event:
        return f"{event['event']} {event['channel']}"
    if "code" in event:
        return f"{event['event']} {event['code']} {event['reason']} {','.join(event['channels'])}".rstrip()
    return event["event"]
