"""`wsify --check` tries everything that a start needs, and prints the results (docs/operating.md#checking)."""

import socket

import pytest

from harness.authorizer import with_fields
from harness.net import request
from harness.server import free_port, run


def check(*flags, env=None):
    """(status, the lines)."""
    status, out, err = run("--check", *flags, env=env)
    assert err == "", err
    return status, out.splitlines()


def line(lines, word):
    (found,) = [line for line in lines if word in line]
    return found


def test_all_is_well(authorizer):
    listen = f"127.0.0.1:{free_port()}"
    status, lines = check("--listen-addr", listen, "--authorizer-url", authorizer.url, "--broadcasting-key", "s3cret")
    assert status == 0, lines
    assert line(lines, listen).startswith("ok ")
    assert line(lines, "the authorizer").startswith("ok ")
    assert "s3cret" not in "".join(lines)


def test_the_authorizer_is_asked_about_a_made_up_client(authorizer):
    check("--listen-addr", f"127.0.0.1:{free_port()}", "--authorizer-url", authorizer.url)
    (question,) = authorizer.asked()
    assert question.header("X-Wsify-Probe") == "1"
    assert question.header("Content-Type") == "application/json"
    assert question.command == "connect"
    assert question.args["headers"]["Upgrade"] == ["websocket"]
    assert question.peer["query"] == {} and question.peer["id"]


def test_clients_cannot_pass_for_the_checks_client(asked, authorizer):
    asked.ws().join("a")
    assert all(question.header("X-Wsify-Probe") is None for question in authorizer.asked(2))


@pytest.mark.parametrize(("status", "right"), [(200, True), (401, True), (302, True), (500, False), (503, False)])
def test_a_no_is_an_answer_and_500_is_not(authorizer, status, right):
    authorizer.on(status)
    done, lines = check("--listen-addr", f"127.0.0.1:{free_port()}", "--authorizer-url", authorizer.url)
    assert (done == 0) == right, lines
    assert line(lines, "the authorizer").startswith("ok " if right else "BAD"), lines


@pytest.mark.parametrize(("status", "hint"), [(201, "2xx other than 200"), (204, "2xx other than 200"), (302, "redirects are not followed"), (404, None)])
def test_a_no_that_may_not_be_meant_is_explained(authorizer, status, hint):
    authorizer.on(status)
    done, lines = check("--listen-addr", f"127.0.0.1:{free_port()}", "--authorizer-url", authorizer.url)
    hints = [text for text in lines if "count" in text and "as a no" in text]
    assert done == 0 and len(hints) == (hint is not None) and all(hint in text for text in hints), lines


def test_a_wrong_field_is_not_called_understood(authorizer):
    authorizer.on(with_fields(user="", state=1))
    done, lines = check("--listen-addr", f"127.0.0.1:{free_port()}", "--authorizer-url", authorizer.url)
    assert done == 1 and line(lines, "its answer has a wrong field: user").startswith("BAD"), lines
    assert line(lines, "are understood").endswith("understood: state"), lines


def test_faults_are_named_and_no_secret_is_shown():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        in_use = f"127.0.0.1:{taken.getsockname()[1]}"
        status, lines = check(
            "--listen-addr", in_use, "--authorizer-url", f"http://user:s3cret@127.0.0.1:{free_port()}/hook?token=s3cret",
            "--broker-driver", "redis", "--broker-dsn", f"redis://user:s3cret@127.0.0.1:{free_port()}",
        )
    assert status == 1
    assert "in use" in line(lines, in_use)
    assert "connection refused" in line(lines, "the authorizer").lower()
    assert "connection refused" in line(lines, "the broker").lower()
    assert sum(line.startswith("BAD") for line in lines) == 3, lines
    assert "s3cret" not in "".join(lines)


def test_a_value_that_cannot_be_used_is_status_2():
    status, out, err = run("--check", "--max-channels=many")
    assert (status, out) == (2, "") and "max-channels" in err


def test_a_check_leaves_no_socket_file_and_disturbs_no_server(tmp_path, serve):
    path = tmp_path / "wsify.sock"
    status, lines = check("--listen-addr", f"unix:{path}", env={"WSIFY_CHECK": "false"})
    assert status == 0 and not path.exists(), lines
    # As a variable it means the same; and a server that runs is not disturbed.
    server = serve()
    status, out, _ = run("--listen-addr", f"127.0.0.1:{server.port}", env={"WSIFY_CHECK": "true"})
    assert status == 1 and "running already" in out
    assert server.dial().send(request("GET", "/health")).response().status == 200
