"""Starting: flags, environment, addresses, errors, and the log of a start (docs/operating.md, README.md#flags)."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest

from harness.net import DEADLINE, Stream, is_error, request, until
from harness.server import KEY, ROOT, binary, environment, free_port, run, upgrade
from harness.ws import command, fresh, upgraded

FLAGS = [
    "listen-addr", "reuse-port", "authorizer-url", "authorizer-timeout", "authorizer-workers", "authorizer-queue", "authorizer-key", "broker-driver", "broker-dsn",
    "broker-prefix", "broadcasting-key", "allowed-origins", "max-connections", "max-message-size", "max-channels", "max-queue-size",
    "handshake-timeout", "ping-interval", "drain-timeout", "log-level", "trusted-proxies", "proxy-protocol", "max-connections-per-ip",
    "max-message-rate", "max-total-queue-size",
]


def answers(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.settimeout(DEADLINE)
    sock.connect((host, port))
    stream = Stream(sock).send(request("GET", "/health"))
    assert stream.response().json() == {"status": "ok"}
    stream.close()


def answers_unix(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE)
    sock.connect(str(path))
    stream = Stream(sock)
    assert stream.send(request("GET", "/health")).response().json() == {"status": "ok"}
    return stream


def refuses(host, port):
    with pytest.raises(OSError):
        socket.create_connection((host, port), timeout=DEADLINE).close()


# -- addresses


def test_without_flags(serve):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", 3000))
        except OSError:
            pytest.skip("port 3000 is in use")
    server = serve(listen=[])
    server.await_start(lambda: answers("127.0.0.1", 3000))
    answers("::1", 3000)
    server.port = 3000
    server.ws().join("x").broadcast("y", "1")  # everything is allowed
    server.logged(r"listening.*:3000")


def test_a_port_is_all_interfaces(serve):
    port = free_port()
    serve(listen=[f":{port}"]).await_start(lambda: answers("127.0.0.1", port))
    answers("127.0.0.2", port)
    answers("::1", port)


def test_a_host_is_that_host(serve):
    port = free_port()
    serve(listen=[f"127.0.0.1:{port}"]).await_start(lambda: answers("127.0.0.1", port))
    refuses("127.0.0.2", port)
    refuses("::1", port)


def test_an_ipv6_host(serve):
    port = free_port("::1")
    serve(listen=[f"[::1]:{port}"]).await_start(lambda: answers("::1", port))
    refuses("127.0.0.1", port)


def test_a_host_may_be_a_name(serve):
    port = free_port()
    serve(listen=[f"localhost:{port}"]).await_start(lambda: answers_any(port))


def answers_any(port):
    try:
        answers("127.0.0.1", port)
    except OSError:
        answers("::1", port)


def test_a_port_chosen_by_the_kernel_is_logged(serve):
    server = serve(listen=["127.0.0.1:0"])
    line = server.logged(r"127\.0\.0\.1:[1-9]")
    answers("127.0.0.1", int(re.search(r"127\.0\.0\.1:(\d+)", line)[1]))


def test_addresses_may_be_repeated(serve, tmp_path):
    one, two, path = free_port(), free_port(), tmp_path / "s"
    server = serve(listen=[f"127.0.0.1:{one}", f"127.0.0.1:{two}", f"unix:{path}"])
    for port in (one, two):
        server.await_start(lambda port=port: answers("127.0.0.1", port))
    server.await_start(lambda: answers_unix(path))
    for part in (str(one), str(two), str(path)):
        server.logged(re.escape(part))


def test_members_meet_across_addresses(serve, tmp_path):
    port, path = free_port(), tmp_path / "s"
    server = serve(listen=[f"127.0.0.1:{port}", f"unix:{path}"])
    server.port = port
    server.await_start(lambda: server.dial().close())
    server.await_start(lambda: answers_unix(path))
    ws = server.ws().join("x")
    stream = answers_unix(path).send(upgrade())
    upgraded(stream, KEY).broadcast("x", "1")
    ws.hears("1")
    stream = answers_unix(path)
    stream.send(request("POST", "/broadcast", [("Content-Type", "application/json")], b'{"channel":"x","content":2}'))
    assert stream.response().status == 201, "a unix socket is as good as loopback"
    ws.hears("2")


@pytest.mark.parametrize("headers", [[("X-Forwarded-For", "127.0.0.1")], [("Origin", "https://a.example")]])
def test_a_proxy_on_a_unix_socket_is_not_loopback(serve, tmp_path, headers):
    path = tmp_path / "s"
    serve(listen=[f"unix:{path}"]).await_start(lambda: answers_unix(path))
    stream = answers_unix(path).send(request("GET", "/metrics", headers))
    is_error(stream.response(), 403)


def test_a_stale_socket_file_is_replaced_and_removed_at_the_end(serve, tmp_path):
    path = tmp_path / "s"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    assert path.exists()
    server = serve(listen=[f"unix:{path}"])
    server.await_start(lambda: answers_unix(path))
    server.signal(15)
    assert server.status() == 0
    assert not path.exists()


def test_a_socket_file_in_use_is_not_stale(serve, tmp_path):
    path = tmp_path / "s"
    serve(listen=[f"unix:{path}"]).await_start(lambda: answers_unix(path))
    status, _, err = run("--listen-addr", f"unix:{path}")
    assert status == 1 and str(path) in err, (status, err)
    answers_unix(path)


def test_a_file_that_is_no_socket_is_kept(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    status, _, err = run("--listen-addr", f"unix:{path}")
    assert status == 1 and str(path) in err, (status, err)
    assert path.read_text() == "precious"


# -- spellings, environment


@pytest.mark.parametrize("spelling", [["--max-channels", "1"], ["--max-channels=1"], ["-max-channels", "1"], ["-max-channels=1"]])
def test_spellings(serve, spelling):
    serve(*spelling).ws().join("a").fails(command("join", "b"), "too_many_channels")


@pytest.mark.parametrize("spelling", [["--listen-addr", "{}"], ["--listen-addr={}"], ["-listen-addr", "{}"], ["-listen-addr={}"]])
def test_spellings_of_an_address(serve, spelling):
    port = free_port()
    serve(*[part.format(f"127.0.0.1:{port}") for part in spelling], listen=[]).await_start(lambda: answers("127.0.0.1", port))


def test_a_value_may_hold_an_equals_sign_and_a_dash(serve):
    for spelling in (["--broadcasting-key", "a=b"], ["--broadcasting-key=a=b"], ["-broadcasting-key=a=b"]):
        assert serve(*spelling).call("GET", "/metrics?key=a%3Db").status == 200
    assert serve("--broadcasting-key=-secret").call("GET", "/metrics?key=-secret").status == 200


def test_the_environment(serve):
    port = free_port()
    server = serve(listen=[], env={"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}", "WSIFY_MAX_CHANNELS": "1", "WSIFY_BROADCASTING_KEY": "k"})
    server.port = port
    server.await_start(lambda: answers("127.0.0.1", port))
    server.ws().join("a").fails(command("join", "b"), "too_many_channels")
    is_error(server.call("GET", "/metrics"), 403)
    assert server.call("GET", "/metrics?key=k").status == 200


def test_lists_in_the_environment(serve):
    one, two = free_port(), free_port()
    server = serve(
        listen=[],
        env={"WSIFY_LISTEN_ADDR": f"127.0.0.1:{one},127.0.0.1:{two}", "WSIFY_ALLOWED_ORIGINS": "https://a.example,https://b.example"},
    )
    for port in (one, two):
        server.await_start(lambda port=port: answers("127.0.0.1", port))
    server.port = one
    server.ws(headers=[("Origin", "https://b.example")])
    is_error(server.knock(headers=[("Origin", "https://c.example")]).response(), 403)


def test_a_flag_wins_over_its_variable(serve):
    port = free_port()
    server = serve("--max-channels", "2", env={"WSIFY_MAX_CHANNELS": "1", "WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"})
    refuses("127.0.0.1", port)
    server.ws().join("a", "b").fails(command("join", "c"), "too_many_channels")


def test_an_empty_variable_is_none(serve):
    empty = {f"WSIFY_{name.upper().replace('-', '_')}": "" for name in FLAGS}
    server = serve(env=empty)
    server.ws(headers=[("Origin", "https://a.example")]).join("a", "b")
    assert server.call("GET", "/metrics").status == 200


def test_other_variables_are_ignored(serve):
    serve(
        env={
            "WSIFY_PORT": "tcp://10.0.0.1:3000",
            "WSIFY_SERVICE_HOST": "10.0.0.1",
            "WSIFY_SERVICE_PORT": "3000",
            "WSIFY_PORT_3000_TCP": "tcp://10.0.0.1:3000",
            "WSIFY_PORT_3000_TCP_PROTO": "tcp",
            "WSIFY_NONSENSE": "x",
            "LISTEN_ADDR": "x",
        }
    ).ws()


VARIABLES = [
    ("AUTHORIZER_TIMEOUT", "abc"), ("AUTHORIZER_WORKERS", "abc"), ("AUTHORIZER_QUEUE", "abc"), ("BROKER_DRIVER", "abc"), ("MAX_CONNECTIONS", "abc"),
    ("MAX_MESSAGE_SIZE", "abc"), ("MAX_CHANNELS", "abc"), ("MAX_QUEUE_SIZE", "abc"), ("HANDSHAKE_TIMEOUT", "abc"), ("PING_INTERVAL", "abc"),
    ("DRAIN_TIMEOUT", "abc"), ("LOG_LEVEL", "abc"), ("AUTHORIZER_URL", "abc"), ("BROKER_DSN", "abc"), ("LISTEN_ADDR", "abc"),
    ("TRUSTED_PROXIES", "abc"), ("PROXY_PROTOCOL", "abc"), ("MAX_CONNECTIONS_PER_IP", "abc"), ("MAX_MESSAGE_RATE", "abc"),
    ("MAX_TOTAL_QUEUE_SIZE", "abc"),
]


@pytest.mark.parametrize("name, value", VARIABLES)
def test_every_flag_has_a_variable(name, value):
    """Shown by the error about an invalid value."""
    status, _, err = run(env={f"WSIFY_{name}": value} | ({"WSIFY_BROKER_DRIVER": "redis"} if name == "BROKER_DSN" else {}))
    assert status == 2, (status, err)
    complains(err, name.lower().replace("_", "-"), value)


# -- values that are refused


def complains(err, flag, value):
    lines = err.strip().splitlines()
    assert len(lines) == 1, f"not one line on stderr: {err!r}"
    assert flag in lines[0].lower().replace("_", "-") and value in lines[0], lines[0]
    assert len(lines[0]) > len(flag) + len(value) + 15, f"it does not say what is accepted: {lines[0]!r}"


WRONG = [
    *[("listen-addr", v) for v in ("nonsense", ":", ":99999", ":-1", ":http", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "[::1]", "[::1:3000",
                                   "unix:", "127.0.0.1:80:80", "http://127.0.0.1:3000")],
    *[("authorizer-url", v) for v in ("nonsense", "ftp://a.example/", "http://", "https://", "//a.example", "http:/a.example", "http://a b/")],
    *[("authorizer-timeout", v) for v in ("abc", "-1s", "5x", "s", "5 parsecs", "1e99s")],
    *[("authorizer-workers", v) for v in ("abc", "-1", "1.5", "0", "1KiB", "99999999999999999999999")],
    *[("authorizer-queue", v) for v in ("abc", "-1", "1.5", "99999999999999999999999")],
    *[("broker-driver", v) for v in ("kafka", "Memory ", "memory,redis")],
    *[("allowed-origins", v) for v in ("a.example", "https://", "ws://", "https://a.example/", "https://*", "https://a.*.example", "https://u@a.example")],
    *[("max-connections", v) for v in ("abc", "-1", "1.5", "99999999999999999999999")],
    *[("max-message-size", v) for v in ("abc", "-1", "1XB", "MiB", "-1MiB")],
    *[("max-channels", v) for v in ("abc", "-1", "1.5")],
    *[("max-queue-size", v) for v in ("abc", "-1", "1XB")],
    *[("trusted-proxies", v) for v in ("abc", "10.0.0.0/33", "10.0.0.1:80", "*", "::1,10.0.0")],
    *[("proxy-protocol", v) for v in ("abc", "1", "v2")],
    *[("max-connections-per-ip", v) for v in ("abc", "-1", "1.5")],
    *[("max-message-rate", v) for v in ("abc", "-1", "1.5", "10/s")],
    *[("max-total-queue-size", v) for v in ("abc", "-1", "1XB", "0")],
    *[("handshake-timeout", v) for v in ("abc", "-1s", "5x")],
    *[("ping-interval", v) for v in ("abc", "-1s", "5x")],
    *[("drain-timeout", v) for v in ("abc", "-1s", "5x")],
    *[("log-level", v) for v in ("loud", "infos", "1")],
]


@pytest.mark.parametrize("flag, value", WRONG)
def test_an_invalid_value_is_refused(flag, value):
    status, _, err = run(f"--{flag}={value}")
    assert status == 2, (status, err)
    complains(err, flag, value.strip())


@pytest.mark.parametrize(
    "flag, value, item",
    [
        ("allowed-origins", "https://a.example,https://b.example/,https://c.example", "https://b.example/"),
        ("allowed-origins", "*,http://", "http://"),
        ("listen-addr", ":0, nonsense", "nonsense"),
        ("trusted-proxies", "10.0.0.0/8,10.0.0.0/33,::1", "10.0.0.0/33"),
    ],
)
def test_the_wrong_item_of_a_list_is_named(flag, value, item):
    status, _, err = run(f"--{flag}={value}")
    assert status == 2, (status, err)
    complains(err, flag, f'because of "{item}"')


def test_an_invalid_dsn_is_refused():
    for value in ("nonsense", "http://127.0.0.1:6379", "redis://h/x", "redis://h:99999"):
        status, _, err = run("--broker-driver", "redis", "--broker-dsn", value)
        assert status == 2, (value, status, err)
        complains(err, "broker-dsn", value)


def test_redis_needs_a_dsn():
    status, _, err = run("--broker-driver", "redis")
    assert status == 2, (status, err)
    complains(err, "broker-dsn", "")


@pytest.mark.parametrize(
    "args", [["--nonsense"], ["--nonsense", "1"], ["--nonsense=1"], ["-nonsense"], ["-nonsense=1"], ["--max-channel", "1"], ["--Listen-Addr", ":1"], ["-x"]]
)
def test_an_unknown_flag(args):
    status, _, err = run(*args)
    assert status == 2, (status, err)
    assert len(err.strip().splitlines()) == 1, err
    assert args[0].split("=")[0].lstrip("-") in err, err


@pytest.mark.parametrize("args", [["serve"], ["--max-channels", "1", "extra"]])
def test_a_stray_argument_is_refused(args):
    status, _, err = run(*args)
    assert status == 2 and args[-1] in err and len(err.strip().splitlines()) == 1, (status, err)


@pytest.mark.parametrize("spelling", [["--max-channels"], ["-max-channels"], ["--max-channels="]])
def test_a_flag_without_its_value(spelling):
    status, _, err = run(*spelling)
    assert status == 2 and "max-channels" in err and len(err.strip().splitlines()) == 1, (status, err)


def test_an_address_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, _, err = run("--listen-addr", address)
        assert status == 1, (status, err)
        assert address in err and len(err.strip().splitlines()) == 1, err


def test_one_address_of_two_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, _, err = run("--listen-addr", f"127.0.0.1:{free_port()}", "--listen-addr", address)
        assert status == 1 and address in err, (status, err)


def test_a_second_server_on_the_same_port(serve):
    server = serve()
    status, _, err = run("--listen-addr", f"127.0.0.1:{server.port}")
    assert status == 1 and str(server.port) in err, (status, err)
    server.ws()


@pytest.mark.parametrize("spelling", [["--reuse-port"], ["--reuse-port=true"], ["-reuse-port", "true"]])
def test_two_servers_share_a_port(serve, spelling):
    one = serve(*spelling)
    two = serve(*spelling, listen=[f"127.0.0.1:{one.port}", "127.0.0.1:0"])
    own = int(re.search(r"127\.0\.0\.1:(?!%d)(\d+)" % one.port, two.logged("listen.*127"))[1])

    # The kernel chooses one of them for each connection.
    def websockets():
        sock = socket.create_connection(("127.0.0.1", own), timeout=DEADLINE)
        stream = Stream(sock).send(request("GET", "/metrics"))
        body = stream.response().body.decode()
        stream.close()
        return int(float(re.search(r'^wsify_connections\{kind="websocket"\} (\S+)', body, re.M)[1]))

    clients = [one.ws() for _ in range(64)]  # all at one server: a chance of 2 to the power of -63
    assert 0 < websockets() < len(clients)
    for client in clients:
        client.ping()
    two.signal(signal.SIGTERM)  # clients of the other server do not notice
    two.status()
    alive = 0
    for client in clients:
        try:
            alive += bool(client.ping())
        except (AssertionError, OSError):
            pass
    assert 0 < alive < len(clients)
    for _ in range(20):
        assert one.admits()


def test_two_servers_share_all_interfaces(serve):
    port = free_port()
    servers = [serve("--reuse-port", listen=[f":{port}"]) for _ in range(2)]
    for server in servers:
        server.logged("listen")
    answers("127.0.0.1", port)
    answers("::1", port)


def test_a_port_is_only_shared_if_both_servers_ask_for_it(serve):
    plain, sharing = serve(), serve("--reuse-port")
    for flags, port in (["--reuse-port"], plain.port), ([], sharing.port), (["--reuse-port=false"], sharing.port):
        status, _, err = run(*flags, "--listen-addr", f"127.0.0.1:{port}")
        assert status == 1 and str(port) in err and len(err.strip().splitlines()) == 1, (status, err)
        assert ("--reuse-port" in err) == (flags == ["--reuse-port"]), err


def test_a_unix_socket_cannot_be_shared(serve, tmp_path):
    path = tmp_path / "s"
    server = serve("--reuse-port", listen=[f"unix:{path}"])
    server.await_start(lambda: answers_unix(path))
    status, _, err = run("--reuse-port", "--listen-addr", f"unix:{path}")
    assert status == 1 and str(path) in err and "TCP ports only" in err and len(err.strip().splitlines()) == 1, (status, err)
    answers_unix(path)


@pytest.mark.parametrize("address", ["203.0.113.1:3000", "unix:/nonexistent/directory/s"])
def test_another_failure_to_start(address):
    status, _, err = run("--listen-addr", address)
    assert status == 1, (status, err)
    assert address.removeprefix("unix:") in err and len(err.strip().splitlines()) == 1, err


def test_a_socket_path_that_is_too_long(tmp_path):
    path = str(tmp_path / ("s" * 120))
    status, _, err = run("--listen-addr", f"unix:{path}")
    assert status in (1, 2) and path in err, (status, err)


# -- units


@pytest.mark.parametrize("value, size", [("100", 100), ("2KiB", 2048), ("1MiB", 1 << 20), ("65536", 65536)])
def test_sizes(serve, value, size):
    server = serve("--max-message-size", value)
    body = b'{"channel":"x"}'
    assert server.post(body.ljust(size)).status == 201
    stream = server.dial().pour(request("POST", "/broadcast", [("Content-Type", "application/json")], body.ljust(size + 1)))
    is_error(stream.response(), 413)


@pytest.mark.parametrize("value", ["300ms", "1s"])
def test_durations(serve, value):
    is_error(serve("--handshake-timeout", value).dial().response(), 408)


def test_minutes(serve):
    serve("--handshake-timeout", "2m", "--ping-interval", "1m", "--drain-timeout", "2m", "--authorizer-timeout", "1m").ws()


# -- help and version


@pytest.mark.parametrize("flag", ["--help", "-help"])
def test_help_names_every_flag(flag):
    status, out, err = run(flag)
    assert status == 0 and err == "", (status, err)
    for name in [*FLAGS, "help", "version"]:
        assert f"--{name}" in out, f"--{name} is not in the help"


@pytest.mark.parametrize("flag", ["--version", "-version"])
def test_version(flag):
    status, out, err = run(flag)
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert status == 0 and err == "" and version in out, (status, out, err)
    assert len(out.strip().splitlines()) == 1


# -- the log of a start


def said(server):
    """The log up to a request, which the server has answered after it had started."""
    assert server.call("GET", "/health").status == 200
    server.logged(str(server.port))
    server.log()  # all of it is JSON lines
    return list(server.out)


def test_the_start_logs_addresses_broker_and_authorizer(serve, authorizer):
    server = serve("--broadcasting-key", "k", auth=authorizer)
    line = next(line for line in said(server) if str(server.port) in line)
    assert "127.0.0.1" in line and "memory" in line and "authorizer" in line.lower(), line


def warnings(lines):
    return [line for line in lines if '"warn' in line.lower()]


def test_the_start_warns_about_an_open_server(serve):
    server = serve()
    server.logged("warn.*authorizer|authorizer.*warn")
    server.logged("warn.*key|key.*warn")


def test_the_start_does_not_warn_about_a_closed_server(serve, authorizer):
    server = serve("--broadcasting-key", "k", auth=authorizer)
    said(server)
    server.ws().leaves()
    assert warnings(server.out) == []


def test_the_start_warns_about_each_open_part(serve, authorizer):
    with_key = serve("--broadcasting-key", "k")
    with_key.logged("warn.*authorizer|authorizer.*warn")
    without = serve(auth=authorizer)
    without.logged("warn.*key|key.*warn")
    assert len(warnings(said(with_key))) == 1
    assert len(warnings(said(without))) == 1


def test_the_log_is_on_stdout(serve):
    server = serve()
    said(server)
    assert server.err == []


def test_log_level(serve):
    quiet = serve("--log-level", "error")
    quiet.ws().leaves()
    quiet.signal(15)
    assert quiet.status() == 0
    quiet.finish()
    assert quiet.out == []
    warn = serve("--log-level", "warn")
    until(lambda: len(warn.out) >= 2, "two warnings")
    warn.signal(15)
    assert warn.status() == 0
    warn.finish()
    assert warnings(warn.out) == warn.out
    counts = {}
    for level in ("info", "debug"):
        server = serve("--log-level", level)
        server.ws().join("x").leaves()
        server.signal(15)
        assert server.status() == 0
        server.finish()
        counts[level] = len(server.out)
    assert counts["debug"] >= counts["info"] > 2


# -- limits on descriptors


def test_connections_up_to_the_fd_limit(serve):
    """0 means the fd limit less a reserve, so that /health is still answered."""
    server = serve(files=64)
    held = []
    while len(held) < 64:
        stream = server.knock()
        if (response := stream.response()).status != 101:
            is_error(response, 503)
            break
        held.append(stream)
    assert 8 <= len(held) < 64
    assert server.call("GET", "/health").status == 200
    held.pop().close()
    until(server.admits, "there is room again")


def test_the_soft_limit_is_raised_to_the_hard_one(serve):
    server = serve()
    limits = next(line for line in open(f"/proc/{server.pid}/limits") if line.startswith("Max open files"))
    soft, hard = limits.split()[3:5]
    assert soft == hard


def test_a_peer_that_goes_away_within_an_answer(serve):
    server = serve()
    for _ in range(20):
        server.dial().send(request("GET", "/health") * 200).reset()
    server.ws().join(fresh())


# -- the quick start at a terminal


def at_a_terminal(*flags, env=None):
    """(the process, its output at a terminal up to the quick start)"""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [binary(), *flags], env=environment(env), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    said = b""
    try:
        deadline = time.monotonic() + DEADLINE
        while b"from the backend" not in said and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                said += os.read(ours, 65536)
    finally:
        os.close(ours)
    return process, said.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_the_quick_start_at_a_terminal_works(where, tmp_path):
    port = free_port()
    address = f"127.0.0.1:{port}" if where == "tcp" else f"unix:{tmp_path}/it's.sock"
    env = {"WSIFY_BROADCASTING_KEY": "s3cret"}
    process, said = at_a_terminal("--listen-addr", address, env=env)
    try:
        assert "s3cret" not in said
        if where == "tcp":
            assert f"wscat -c ws://127.0.0.1:{port}/ws " in said, said
        else:
            assert "wscat -c 'ws+unix://" in said, said
        command = said[said.index("  curl ") :]
        done = subprocess.run(
            command.replace("curl ", "curl -s -o /dev/null -w '%{http_code}' ", 1), shell=True, env=environment(env),
            capture_output=True, text=True, timeout=DEADLINE,
        )
        assert done.stdout == "201", (command, done)
    finally:
        process.kill()
        process.wait()


def test_without_a_terminal_there_is_no_quick_start(serve):
    server = serve()
    assert not any("curl" in line or "wscat" in line for line in said(server))
