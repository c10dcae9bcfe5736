"""The files of docs/deploy that no page's commands run: proxies with TLS, units, and the client in Python."""

import difflib
import shutil
import socket
import ssl
import subprocess
import sys

import pytest

from blocks import ROOT, deploy
from harness.net import DEADLINE, Stream, is_error, request, until
from harness.server import KEY, free_port, upgrade
from harness.tools import absent, need
from harness.ws import upgraded


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for ws.example.com, its key, and both in one file, as HAProxy wants them."""
    folder = tmp_path_factory.mktemp("certificate")
    crt, key, both = (folder / name for name in ("ws.pem", "ws.key", "ws.both.pem"))
    subprocess.run(
        [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=ws.example.com", "-addext", "subjectAltName=DNS:ws.example.com", "-keyout", key, "-out", crt],
        check=True, capture_output=True,
    )
    both.write_text(crt.read_text() + key.read_text())
    return crt, key, both


def tls(port, certificate, source):
    context = ssl.create_default_context(cafile=certificate)
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0))
    return Stream(context.wrap_socket(sock, server_hostname="ws.example.com"))


def goes_through(port, certificate, server, authorizer):
    """A WebSocket by the proxy, whose client's address is known, and nothing but /ws."""
    ws = upgraded(tls(port, certificate, "127.0.0.3").send(upgrade("/ws?token=abc", [("X-Forwarded-For", "192.0.2.66")])), KEY)
    assert authorizer.asked(1)[-1].peer["remote_addr"] == "127.0.0.3"
    ws.join("hello")
    server.publish("hello", "1")
    ws.hears("1")
    for path in ("/broadcast", "/metrics", "/tap", "/health", "/"):
        assert tls(port, certificate, "127.0.0.3").send(request("GET", path)).response().status == 404, path


def test_nginx(serve, authorizer, shell, listens, certificate):
    nginx, port = need("nginx"), free_port()
    crt, key, _ = certificate
    server = serve("--trusted-proxies", "127.0.0.1", auth=authorizer)
    text = deploy("nginx.conf").read_text()
    for here, there in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"), ("/etc/ssl/ws.example.com.pem", str(crt)),
        ("/etc/ssl/ws.example.com.key", str(key)), ("127.0.0.1:3000", f"127.0.0.1:{server.port}"),
    ):
        assert here in text
        text = text.replace(here, there)
    temporary = "".join(f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = shell.cwd / "nginx.conf"
    config.write_text(
        f"daemon off; pid nginx.pid; error_log nginx.log; events {{ worker_connections 100; }}\n"
        f"http {{ access_log off; {temporary}\n{text}\n}}\n"
    )
    listens(shell.start(f"exec {nginx} -p . -e nginx.log -c {config}"), port)
    goes_through(port, crt, server, authorizer)


def haproxy(shell, port, both, text, replacements):
    for here, there in ((":443", f"127.0.0.1:{port}"), ("/etc/ssl/ws.example.com.both.pem", str(both)), *replacements):
        assert here in text, here
        text = text.replace(here, there)
    config = shell.cwd / "haproxy.cfg"
    config.write_text(text)
    return shell.start(f"exec {need('haproxy')} -f {config} -db")


def test_haproxy(serve, authorizer, shell, listens, certificate):
    crt, _, both = certificate
    port, server = free_port(), serve("--trusted-proxies", "127.0.0.1", auth=authorizer)
    text = deploy("haproxy.cfg").read_text()
    listens(haproxy(shell, port, both, text, [("127.0.0.1:3000", f"127.0.0.1:{server.port}")]), port)
    goes_through(port, crt, server, authorizer)


def test_haproxy_before_nodes(serve, authorizer, shell, listens, certificate):
    """Two nodes of three are down: HAProxy takes them out, and every client can connect."""
    crt, _, both = certificate
    port, server = free_port(), serve("--trusted-proxies", "127.0.0.1", auth=authorizer)
    text, nodes = deploy("haproxy.cfg").read_text(), deploy("haproxy-nodes.cfg").read_text()
    text = text[: text.index("\nbackend wsify") + 1] + nodes
    addresses = [("10.0.0.1:3000", f"127.0.0.1:{server.port}"), ("10.0.0.2:3000", "127.0.0.1:1"), ("10.0.0.3:3000", "127.0.0.1:1")]
    listens(haproxy(shell, port, both, text, addresses), port)
    admits = lambda: tls(port, crt, "127.0.0.4").send(upgrade()).response().status == 101
    until(lambda: all(admits() for _ in range(5)), "the nodes that are not there are taken out")
    goes_through(port, crt, server, authorizer)


@pytest.mark.parametrize("unit", ["wsify.service", "wsify.socket", "wsify@.service"])
def test_units(unit, tmp_path):
    analyze = shutil.which("systemd-analyze") or absent("systemd-analyze is not installed")
    for name in ("wsify.service", "wsify.socket", "wsify@.service"):
        text = deploy(name).read_text()
        # The program has to be there for the check.
        (tmp_path / name).write_text(text.replace("/usr/local/bin/wsify", "/bin/true"))
    here = tmp_path / unit.replace("@", "@1")
    if "@" in unit:
        here.symlink_to(tmp_path / unit)
    done = subprocess.run([analyze, "verify", here], capture_output=True, text=True, timeout=DEADLINE * 3, check=False)
    complaints = [line for line in done.stderr.splitlines() if "wsify" in line]
    assert done.returncode == 0 and not complaints, done.stderr


def test_the_template_is_the_unit_but_for_these_lines():
    one, many = (deploy(name).read_text().splitlines()[1:] for name in ("wsify.service", "wsify@.service"))
    changes = [line for line in difflib.ndiff(one, many) if line[0] in "+-"]
    assert changes == [
        "- Description=wsify, a WebSocket publish/subscribe server",
        "+ Description=wsify, process %i",
        "- ExecStart=/usr/local/bin/wsify",
        "+ ExecStart=/usr/local/bin/wsify --reuse-port",
        "+ User=wsify",
    ]


def test_variables_are_the_programs():
    flags = (ROOT / "README.md").read_text()
    for name in ("wsify.env", "cluster.env"):
        for line in deploy(name).read_text().splitlines()[1:]:
            assert f"`{line.split('=')[0]}`" in flags, line


def test_the_client_in_python(serve):
    server = serve()
    done = subprocess.run(
        [sys.executable, deploy("client.py"), f"ws://127.0.0.1:{server.port}/ws"], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, done.stderr
    welcome, first, *middle, last = done.stdout.splitlines()
    assert welcome.startswith('{"welcome":{"connection":"')
    assert first == '{"id":1,"ok":true}' and last == '{"id":3,"ok":true}'
    assert sorted(middle) == ['{"channel":"hello","content":42}', '{"id":2,"ok":true}']


def test_without_a_key_a_proxy_is_not_local(serve, authorizer):
    """What the pages say of a request that slips through."""
    server = serve("--trusted-proxies", "127.0.0.1", auth=authorizer)
    is_error(server.call("GET", "/metrics", [("X-Forwarded-For", "203.0.113.7")]), 403)
