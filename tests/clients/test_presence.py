"""The presence list of docs/presence.md, in Chromium."""

import pytest

from harness.presence import Presence
from harness.server import free_port


@pytest.fixture
def chat(serve, tmp_path):
    """The backend, and a server that asks and tells it."""
    folder = tmp_path / "chat"
    folder.mkdir()
    port = free_port()
    chat = Presence(folder, port)
    chat.server = serve("--events-url", chat.url, "--events", "connected,disconnected", auth=chat.url, port=port)
    yield chat.start()
    chat.kill()


def test_pages_see_each_other_come_and_go(chat, browser):
    one, other = browser(), browser()
    ann = one.visit(f"{chat.url}?name=ann")
    ann.shows("ann", of="online")
    ben = other.visit(f"{chat.url}?name=ben")
    ben.shows("ann, ben", of="online")
    ann.shows("ann, ben", of="online")
    ben.fill("text", "<b>hello</b>")
    ben.submit("form")
    ann.shows("ben: <b>hello</b>", of="messages")

    # A tab is closed.
    ben.close()
    ann.shows("ann", of="online")

    # The backend is restarted, and a tab is closed meanwhile.
    cat = other.visit(f"{chat.url}?name=cat")
    ann.shows("ann, cat", of="online")
    chat.kill()
    cat.close()
    chat.start()
    ann.shows("ann", of="online")

    # The browser is killed.
    other.visit(f"{chat.url}?name=dan").shows("ann, dan", of="online")
    ann.shows("ann, dan", of="online")
    other.kill()
    ann.shows("ann", of="online")
    assert not ann.complaints, ann.complaints
