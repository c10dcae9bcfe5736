"""curl: HTTP as backends and health checks send it."""

import json
import subprocess

import pytest

from harness.handover import hand_over
from harness.net import DEADLINE, until
from harness.server import KEY
from harness.ws import accept_for, command, fresh


@pytest.fixture
def run(curl):
    def run(server, *args, path="/health", input=None, status=0):
        done = subprocess.run(
            [curl, "--silent", "--show-error", "--noproxy", "*", "--max-time", str(DEADLINE), *args, f"http://127.0.0.1:{server.port}{path}"],
            input=input, capture_output=True, timeout=DEADLINE + 5, check=False,
        )
        assert done.returncode == status, (done.returncode, done.stderr)
        return done.stdout.decode()

    return run


def code(run, server, *args, **more):
    return int(run(server, "--output", "/dev/null", "--write-out", "%{http_code}", *args, **more))


JSON = ("--header", "Content-Type: application/json")


def test_health(run, plain):
    assert json.loads(run(plain)) == {"status": "ok"}


def test_a_post(run, plain):
    channel = fresh()
    member = plain.ws().join(channel)
    out = run(plain, "--include", *JSON, "--data", f'{{"channel":"{channel}","content":"curl"}}', path="/broadcast")
    assert out.startswith("HTTP/1.1 201 ") and out.endswith("\r\n\r\n")
    member.hears('"curl"')


@pytest.mark.parametrize(
    "args, path, status",
    [
        ((), "/nothing", 404),
        (("--request", "DELETE"), "/health", 405),
        ((), "/broadcast", 405),
        ((), "/ws", 426),
        (("--data", "{}"), "/broadcast", 415),
        ((*JSON, "--data", "{}"), "/broadcast", 400),
        ((*JSON, "--data", "{}", "--header", "Origin: https://a.example"), "/broadcast", 403),
        (("--request", "OPTIONS"), "/broadcast", 204),
        (("--head",), "/health", 200),
        (("--head",), "/nothing", 404),
        (("--http1.0",), "/health", 200),
        ((), "/metrics", 200),
    ],
)
def test_statuses(run, plain, args, path, status):
    assert code(run, plain, *args, path=path) == status


def test_head_is_over_at_once(run, plain):
    out = run(plain, "--head")
    assert out.startswith("HTTP/1.1 200 ") and "content-length: " in out.lower()


def test_http_1_0(run, plain):
    out = run(plain, "--http1.0", "--include")
    assert out.endswith('{"status":"ok"}')


def test_several_urls_on_one_connection(run, plain):
    out = run(plain, "--verbose", "--stderr", "-", "--next", "--silent", f"http://127.0.0.1:{plain.port}/nothing", path="/health")
    assert out.count("Re-using existing connection") == 1 or out.count("Reusing existing connection") == 1, out


@pytest.mark.parametrize(
    "headers, interim", [(("--header", "Expect: 100-continue"), True), (("--header", "Expect:"), False), (("--header", "Transfer-Encoding: chunked"), None)]
)
def test_a_large_body(run, plain, headers, interim):
    """100 KiB; curl waits a second for the 100 and then sends all the same, so the wait is looked at."""
    channel = fresh()
    member = plain.ws().join(channel)
    content = json.dumps("x" * 102_400)
    out = run(
        plain, "--include", *JSON, *headers, "--expect100-timeout", str(DEADLINE), "--data-binary", "@-", path="/broadcast",
        input=f'{{"channel":"{channel}","content":{content}}}'.encode(),
    )
    assert " 201 " in out
    if interim is not None:
        assert ("100 Continue" in out) == interim
    assert member.hear() == content


def test_too_large_a_body(run, plain):
    """curl reads the answer while it still sends."""
    out = run(plain, "--include", *JSON, "--header", "Expect:", "--data-binary", "@-", path="/broadcast", input=b"x" * 5_000_000)
    assert out.startswith("HTTP/1.1 413 ")
    out = run(plain, "--include", *JSON, "--data-binary", "@-", "--expect100-timeout", str(DEADLINE), path="/broadcast", input=b"x" * 5_000_000)
    assert "HTTP/1.1 413 " in out


def test_a_key(run, serve):
    server = serve("--broadcasting-key", "s3cret")
    post = (*JSON, "--data", '{"channel":"x"}')
    assert code(run, server, *post, path="/broadcast") == 403
    assert code(run, server, *post, path="/broadcast?key=s3cret") == 201
    assert code(run, server, *post, "--oauth2-bearer", "s3cret", path="/broadcast") == 201


def test_an_upgrade(run, plain):
    """An upgrade tried by hand. curl then waits for frames, so it has a time limit."""
    out = run(
        plain, "--include", "--no-buffer", "--http1.1", "--max-time", "0.5", "--header", "Connection: Upgrade", "--header", "Upgrade: websocket",
        "--header", "Sec-WebSocket-Version: 13", "--header", f"Sec-WebSocket-Key: {KEY}", path="/ws", status=28,
    )
    assert out.startswith("HTTP/1.1 101 ") and accept_for(KEY) in out


def test_a_unix_socket(curl, serve, tmp_path):
    path = tmp_path / "s"
    server = serve(listen=[f"unix:{path}"])
    server.logged(str(path))
    out = subprocess.run([curl, "--silent", "--unix-socket", path, "http://wsify/health"], capture_output=True, timeout=DEADLINE, check=True)
    assert json.loads(out.stdout) == {"status": "ok"}


def test_a_replacement_of_the_program(curl, serve):
    """In the middle of an upload in chunks, and of a download that curl takes slowly."""
    server = serve()
    member = server.ws().join("x")
    names = sorted(f"{n:03}{'y' * 240}" for n in range(400))
    for name in names:
        member.say(command("join", name))
    member.is_quiet()
    start = lambda *args: subprocess.Popen(
        [curl, "--silent", "--show-error", "--noproxy", "*", "--max-time", str(2 * DEADLINE), *args], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, bufsize=0,
    )
    url = f"http://127.0.0.1:{server.port}"
    upload = start(*JSON, "--request", "POST", "--upload-file", "-", "--write-out", "%{http_code}", f"{url}/broadcast")
    received = lambda: server.metric("^wsify_received_bytes_total$")
    upload.stdin.write(b'{"channel":"x","content":"' + b"z" * 100_000)
    until(lambda: received() > 100_000, "half of it has come")
    pages = [f"{url}/channels?limit=400&after=%20"] * 30
    download = start(*pages)
    begun = download.stdout.read(1000)
    for _ in range(2):
        hand_over(server)
    upload.stdin.write(b'z"}')
    assert upload.communicate(timeout=DEADLINE)[0] == b"201"
    member.hears('"' + "z" * 100_001 + '"')
    rest, _ = download.communicate(timeout=2 * DEADLINE)
    decoder, text, found = json.JSONDecoder(), (begun + rest).decode(), []
    while text:
        page, end = decoder.raw_decode(text)
        text = text[end:]
        found.append([it["channel"] for it in page["channels"]])
    assert found == [[*names, "x"][:400]] * 30
    assert download.returncode == 0
