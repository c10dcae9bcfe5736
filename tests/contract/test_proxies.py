"""The client's address behind a proxy: --trusted-proxies and --proxy-protocol, over real sockets and with real proxies
(docs/proxies.md)."""

import socket
import struct
import subprocess
from pathlib import Path

import pytest

from harness.net import Stream, is_error, request, until
from harness.server import KEY, environment, free_port, upgrade
from harness.tools import absent, need
from harness.ws import upgraded

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(address="203.0.113.7", port=51814, command=0x21, tlvs=b""):
    """A header of version 2, for a TCP connection over IPv4 or IPv6."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ip = socket.inet_pton(family, address)
    told = ip + ip + struct.pack("!HH", port, 443) + tlvs
    return V2 + struct.pack("!BBH", command, 0x21 if len(ip) == 16 else 0x11, len(told)) + told


def v1(address="203.0.113.7", port=51814):
    return f"PROXY TCP{6 if ':' in address else 4} {address} {address} {port} 443\r\n".encode()


def forwarded(*lines):
    return [("X-Forwarded-For", line) for line in lines]


def remote(authorizer):
    """The address in the last question."""
    return authorizer.asked(1)[-1].peer["remote_addr"]


# -- X-Forwarded-For


@pytest.mark.parametrize(
    "lines, address",
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7:5", "10.1.1.1"], "203.0.113.7:5"),
        (["192.0.2.66, 203.0.113.7, 10.1.1.1"], "203.0.113.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]:5"], "[2001:db8::7]:5"),
        (["203.0.113.7", "garbage", "10.1.1.1"], "10.1.1.1"),
    ],
)
def test_x_forwarded_for_of_a_trusted_proxy_is_the_clients_address(serve, authorizer, lines, address):
    server = serve("--trusted-proxies", "127.0.0.1,10.0.0.0/8", auth=authorizer)
    ws = server.ws(headers=forwarded(*lines))
    assert remote(authorizer) == address
    # The authorizer still gets the header that was sent, and later questions have the same address.
    assert authorizer.questions[0].args["headers"]["X-Forwarded-For"] == lines
    ws.join("x")
    assert remote(authorizer) == address


@pytest.mark.parametrize("flags", [[], ["--trusted-proxies", "10.0.0.0/8"], ["--trusted-proxies", "unix"]])
def test_x_forwarded_for_of_other_peers_is_ignored(serve, authorizer, flags):
    server = serve(*flags, auth=authorizer)
    stream = server.dial()
    port = stream.sock.getsockname()[1]
    stream.send(upgrade(headers=forwarded("203.0.113.7")))
    upgraded(stream, KEY)
    assert remote(authorizer) == f"127.0.0.1:{port}"


def test_a_proxy_on_a_unix_socket(serve, authorizer, tmp_path):
    path = tmp_path / "s"
    server = serve("--trusted-proxies", "unix", auth=authorizer, listen=[f"unix:{path}"])
    server.await_start(lambda: server.dial_unix(path))
    upgraded(server.dial_unix(path).send(upgrade(headers=forwarded("203.0.113.7"))), KEY)
    assert remote(authorizer) == "203.0.113.7"
    upgraded(server.dial_unix(path).send(upgrade()), KEY)
    assert remote(authorizer) == "unix"


def test_max_connections_per_ip_counts_clients_and_not_the_proxy(serve):
    server = serve("--trusted-proxies", "127.0.0.1", "--max-connections-per-ip", "1")
    first = server.ws(headers=forwarded("203.0.113.1"))
    server.ws(headers=forwarded("203.0.113.2"))
    stream = server.knock(headers=forwarded("203.0.113.1"))
    is_error(stream.response(), 429)
    server.logged('"remote_addr":"203.0.113.1",.*"reason":"too_many_connections"')
    # The proxy's connection is kept. The next request on it comes from another client.
    assert stream.send(upgrade(headers=forwarded("203.0.113.3"))).response().status == 101
    first.leaves()
    until(lambda: server.knock(headers=forwarded("203.0.113.1")).response().status == 101, "there is room again")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_forwarded_loopback_address_is_not_local(serve, address):
    server = serve("--trusted-proxies", "127.0.0.1")
    is_error(server.call("GET", "/metrics", forwarded(address)), 403)
    assert server.call("GET", "/metrics").status == 200


# -- the PROXY protocol

LISTEN = ["--proxy-protocol", "--trusted-proxies", "127.0.0.1,10.0.0.0/8"]


class Behind:
    """A server whose only trusted peer is 127.0.0.1. Connections from 127.0.0.2 are direct."""

    def __init__(self, serve, authorizer, *flags):
        self.server = serve(*LISTEN, *flags, auth=authorizer)

    def proxied(self, header):
        return self.server.dial().send(header)

    def direct(self):
        return self.server.dial("127.0.0.2")


@pytest.fixture
def behind(serve, authorizer):
    return Behind(serve, authorizer)


@pytest.mark.parametrize(
    "header, address",
    [
        (v1(), "203.0.113.7:51814"),
        (v1("2001:db8::7"), "[2001:db8::7]:51814"),
        (v2(), "203.0.113.7:51814"),
        (v2("2001:db8::7"), "[2001:db8::7]:51814"),
        (v2(tlvs=b"\x04\x00\x03abc" + b"\x05\x00\x10" + b"u" * 16), "203.0.113.7:51814"),
    ],
    ids=["v1", "v1 IPv6", "v2", "v2 IPv6", "v2 with TLVs"],
)
@pytest.mark.parametrize("way", ["whole", "byte by byte"])
def test_a_proxy_header_names_the_client(behind, authorizer, header, address, way):
    stream = behind.server.dial()
    (stream.send if way == "whole" else stream.drip)(header + upgrade())
    ws = upgraded(stream, KEY)
    assert remote(authorizer) == address
    ws.join("x")
    assert remote(authorizer) == address


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::1 1 1\r\n", v2(command=0x20), V2 + b"\x20\0\0\0", V2 + b"\x21\0\0\0"],
    ids=["UNKNOWN", "UNKNOWN with more", "LOCAL", "bare LOCAL", "UNSPEC"],
)
def test_a_proxy_header_without_an_address(behind, authorizer, header):
    stream = behind.proxied(header)
    port = stream.sock.getsockname()[1]
    upgraded(stream.send(upgrade()), KEY)
    assert remote(authorizer) == f"127.0.0.1:{port}"


def test_x_forwarded_for_behind_a_proxy_header(behind, authorizer):
    hops = forwarded("192.0.2.66")
    upgraded(behind.proxied(v2("10.1.1.1")).send(upgrade(headers=hops)), KEY)
    assert remote(authorizer) == "192.0.2.66"
    upgraded(behind.proxied(v2()).send(upgrade(headers=hops)), KEY)
    assert remote(authorizer) == "203.0.113.7:51814"


@pytest.mark.parametrize(
    "sent",
    [
        upgrade(), b"PROXY TCP4 nonsense\r\n", b"PROXY " + b"x" * 200, V2 + b"\x11\x11\0\x0c" + b"x" * 12, V2 + b"\x21\x11\xff\xff",
        V2 + b"\x21\x11\0\x04abcd", b"\x16\x03\x01", b"\r\n\r\n\r\n",
    ],
    ids=["none", "v1", "a long line", "v3", "too long", "too short", "TLS", "empty lines"],
)
def test_a_trusted_proxy_has_to_send_a_proxy_header(behind, sent):
    stream = behind.proxied(sent)
    response = stream.response()
    is_error(response, 400, "bad_proxy_header")
    assert response.closes()
    stream.at_end()


@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
def test_other_peers_may_not_send_a_proxy_header(behind, authorizer, header):
    is_error(behind.direct().send(header + upgrade()).response(), 400)
    upgraded(behind.direct().send(upgrade()), KEY)
    assert remote(authorizer).startswith("127.0.0.2:")


def test_a_proxy_header_has_a_time_limit(serve):
    server = serve(*LISTEN, "--handshake-timeout", "300ms")
    for sent in b"", v2()[:20], v1()[:-1], v2() + b"GET /ws":
        is_error(server.dial().send(sent).response(), 408)


def test_a_connection_with_a_proxy_header_is_never_local(behind):
    for header in v1("127.0.0.1"), v2("::1"), v2(command=0x20), b"PROXY UNKNOWN\r\n":
        stream = behind.proxied(header).send(request("GET", "/metrics"))
        is_error(stream.response(), 403)
        assert stream.send(request("GET", "/health")).response().status == 200
    assert behind.direct().send(request("GET", "/metrics")).response().status == 200


def test_max_connections_per_ip_counts_clients_by_their_proxy_header(serve):
    server = serve(*LISTEN, "--max-connections-per-ip", "1")
    upgraded(server.dial().send(v2("203.0.113.1") + upgrade()), KEY)
    upgraded(server.dial().send(v2("203.0.113.2") + upgrade()), KEY)
    is_error(server.dial().send(v1("203.0.113.1") + upgrade()).response(), 429)


def test_a_unix_socket_is_trusted(serve, authorizer, tmp_path):
    path = tmp_path / "s"
    server = serve("--proxy-protocol", auth=authorizer, listen=[f"unix:{path}"])
    server.await_start(lambda: server.dial_unix(path))
    upgraded(server.dial_unix(path).send(v2() + upgrade()), KEY)
    assert remote(authorizer) == "203.0.113.7:51814"
    is_error(server.dial_unix(path).send(upgrade()).response(), 400)


def test_without_trusted_proxies_the_proxy_protocol_has_no_effect(serve):
    server = serve("--proxy-protocol")
    server.logged("--proxy-protocol has no effect.*--trusted-proxies")
    is_error(server.dial().send(v1() + upgrade()).response(), 400)
    server.ws().join("x")


# -- third-party proxies


@pytest.fixture
def proxy(tmp_path):
    """Starts a proxy in the foreground: proxy(program, config, port), the arguments naming the file as {}."""
    running = []

    def start(arguments, text, port):
        config = tmp_path / "proxy.conf"
        config.write_text(text)
        process = subprocess.Popen(
            [argument.format(config) for argument in arguments], env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path,
        )
        running.append(process)

        def listens():
            assert process.poll() is None, process.stdout.read().decode()
            try:
                return socket.create_connection(("127.0.0.1", port), 1)
            except OSError:
                return None

        until(listens, "the proxy listens").close()

    yield start
    for process in running:
        process.terminate()
        process.wait()
        process.stdout.close()


def by(port):
    """A WebSocket through the proxy at `port`, from 127.0.0.3; and its client's address."""
    sock = socket.socket()
    sock.bind(("127.0.0.3", 0))
    sock.connect(("127.0.0.1", port))
    stream = Stream(sock)
    ws = upgraded(stream.send(upgrade(headers=forwarded("192.0.2.66"))), KEY)
    return ws, "127.0.0.3:%d" % sock.getsockname()[1]


HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
frontend f
    bind 127.0.0.1:{port}
    {rule}
    default_backend b
backend b
    option httpchk GET /health
    server s 127.0.0.1:{server} check inter 100ms {send}
"""


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
def test_haproxy_with_the_proxy_protocol(behind, authorizer, proxy, send):
    port = free_port()
    options = dict(mode="tcp", port=port, rule="unique-id-format %pid%rt" if "unique" in send else "", send=send)
    proxy([need("haproxy"), "-f", "{}", "-db"], HAPROXY.format(server=behind.server.port, **options), port)
    ws, address = by(port)
    assert remote(authorizer) == address
    ws.join("x").is_quiet()


def test_haproxy_with_x_forwarded_for(serve, authorizer, proxy):
    server = serve("--trusted-proxies", "127.0.0.1", auth=authorizer)
    port = free_port()
    options = dict(mode="http", port=port, rule="option forwardfor", send="")
    proxy([need("haproxy"), "-f", "{}", "-db"], HAPROXY.format(server=server.port, **options), port)
    ws, _ = by(port)
    assert remote(authorizer) == "127.0.0.3"
    ws.join("x").is_quiet()


NGINX = """
daemon off; pid nginx.pid; error_log nginx.log; {modules}
events {{ worker_connections 100; }}
{body}
"""

NGINX_HTTP = """
http {{
    access_log off;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    server {{
        listen 127.0.0.1:{port};
        location = /ws {{
            proxy_pass http://127.0.0.1:{server};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For {hops};
        }}
    }}
}}
"""

STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

NGINX_STREAM = """
stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_pass 127.0.0.1:{server};
        proxy_protocol on;
    }}
}}
"""


@pytest.mark.parametrize("hops", ["$remote_addr", "$proxy_add_x_forwarded_for", "$remote_addr:$remote_port"])
def test_nginx_with_x_forwarded_for(serve, authorizer, proxy, hops):
    server = serve("--trusted-proxies", "127.0.0.1", auth=authorizer)
    port = free_port()
    body = NGINX_HTTP.format(port=port, server=server.port, hops=hops)
    proxy([need("nginx"), "-p", ".", "-e", "nginx.log", "-c", "{}"], NGINX.format(modules="", body=body), port)
    ws, address = by(port)
    assert remote(authorizer) == (address if "port" in hops else "127.0.0.3")
    ws.join("x").is_quiet()


def test_nginx_with_the_proxy_protocol(behind, authorizer, proxy):
    nginx = need("nginx")
    if not STREAM.is_file():
        absent(f"{STREAM} is not installed (Debian: apt-get install libnginx-mod-stream)")
    port = free_port()
    body = NGINX_STREAM.format(port=port, server=behind.server.port)
    modules = f"load_module {STREAM};"
    proxy([nginx, "-p", ".", "-e", "nginx.log", "-c", "{}"], NGINX.format(modules=modules, body=body), port)
    ws, address = by(port)
    assert remote(authorizer) == address
    ws.join("x").is_quiet()
