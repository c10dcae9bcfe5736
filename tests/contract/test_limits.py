"""The limits that README.md names and the contract does not, over real sockets."""

import re

from harness.net import is_error, request, until
from harness.server import upgrade


def refused(stream, status, code):
    """The answer to an upgrade that may be granted later."""
    response = stream.response()
    is_error(response, status, code)
    assert re.fullmatch("[1-5]", response.header("Retry-After"))
    return response


# -- --max-connections-per-ip


def test_an_address_has_its_share(serve):
    server = serve("--max-connections-per-ip", "2")
    ws, _ = server.ws(), server.ws()
    stream = server.knock()
    response = refused(stream, 429, "too_many_connections")
    # The connection goes on, as with any refusal, and other requests are answered.
    stream.still_serves(response)
    # Another address is another client.
    for _ in range(2):
        assert server.dial("127.0.0.2").send(upgrade()).response().status == 101
    refused(server.dial("127.0.0.2").send(upgrade()), 429, "too_many_connections")
    # Who leaves makes room, at once.
    ws.leaves()
    until(server.admits, "there is room again")
    assert server.metric(r'wsify_handshakes_total\{outcome="too_many_connections"\}') >= 2


def test_an_upgrade_that_is_being_asked_about_has_its_place(serve, authorizer):
    server = serve("--max-connections-per-ip", "1", auth=authorizer)
    authorizer.hold("connect")
    first = server.knock()
    question = authorizer.asked(1)[0]
    refused(server.knock(), 429, "too_many_connections")
    question.release()
    assert first.response().status == 101


def test_whoever_comes_by_a_unix_socket_has_no_address(serve, tmp_path):
    path = tmp_path / "wsify.sock"
    server = serve("--max-connections-per-ip", "1", listen=[f"unix:{path}"])
    server.await_start(lambda: server.dial_unix(path))
    for _ in range(3):
        assert server.dial_unix(path).send(upgrade()).response().status == 101


def test_without_the_limit_an_address_has_what_there_is(plain):
    for _ in range(50):
        plain.ws()
    assert plain.dial().send(request("GET", "/health")).response().status == 200
