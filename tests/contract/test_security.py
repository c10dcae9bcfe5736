"""docs/security.md: origins, the key, request smuggling, header injection, and secrets in logs."""

import json
import re
import threading

import pytest

from harness.net import is_error, request, until
from harness.server import run, upgrade
from harness.ws import command, upgraded

JSON = ("Content-Type", "application/json")
SECRET = "hunter2hunter2"

# -- pages of other origins (cross-site WebSocket hijacking)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil.example",
        "https://evilapp.example.com", "https://sub.app.example.com", "https://app.example.com@evil.example", "https://app.example.com/",
        "https://app.example.com,https://evil.example", "https://app.example.com https://evil.example", "null", "app.example.com", "",
    ],
)
def test_an_upgrade_from_another_origin_is_refused(serve, authorizer, origin):
    server = serve("--allowed-origins", "https://app.example.com", auth=authorizer)
    stream = server.knock(headers=[("Origin", origin), ("Cookie", "session=abc")])
    response = stream.response()
    is_error(response, 403, "origin_not_allowed")
    # The page cannot read the refusal, and the authorizer never got its cookies.
    assert response.header("Access-Control-Allow-Origin") is None
    assert not authorizer.questions


def test_two_origin_headers_are_refused(serve):
    server = serve("--allowed-origins", "https://app.example.com")
    both = [("Origin", "https://app.example.com"), ("Origin", "https://evil.example")]
    is_error(server.knock(headers=both).response(), 403, "origin_not_allowed")
    assert server.knock(headers=both[:1]).response().status == 101


def test_a_page_may_not_use_backend_endpoints(plain):
    """A browser on this machine is on loopback like a backend, but a page decides what it sends."""
    page = [("Origin", "https://evil.example"), JSON]
    is_error(plain.call("POST", "/broadcast", page, b'{"channel":"x"}'), 403)
    is_error(plain.call("GET", "/metrics", page), 403)


# -- the key


@pytest.mark.parametrize("key", ["", "hunter2hunter", "hunter2hunter2 ", "hunter2hunter22", "Hunter2hunter2", "xunter2hunter2", "hunter2hunterx"])
def test_a_part_of_the_key_is_a_wrong_key(serve, key):
    server = serve("--broadcasting-key", SECRET)
    answers = [
        server.call("POST", "/broadcast", [JSON, ("Authorization", f"Bearer {key}x"[:-1] + "y")], b"{}"),
        server.call("POST", f"/broadcast?key={key.replace(' ', '+')}", [JSON], b"{}"),
        server.call("POST", "/broadcast", [], b"nonsense"),
    ]
    # Every wrong key gets the same answer.
    for answer in answers:
        is_error(answer, 403)
        assert answer.body == answers[0].body


# -- requests that two programs would read differently

HEAD = "POST /broadcast HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
BODY = '{"channel":"x"}'
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKS = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"

SMUGGLED = {
    "both length headers": HEAD + LENGTH + "Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "both length headers, turned": HEAD + "Transfer-Encoding: chunked\r\n" + LENGTH + "\r\n" + CHUNKS,
    "a length twice": HEAD + LENGTH + LENGTH + "\r\n" + BODY,
    "a length twice in one": HEAD + f"Content-Length: {len(BODY)}, {len(BODY)}\r\n\r\n" + BODY,
    "two lengths": HEAD + "Content-Length: 0\r\n" + LENGTH + "\r\n" + BODY,
    "a length with a sign": HEAD + f"Content-Length: +{len(BODY)}\r\n\r\n" + BODY,
    "a length in hexadecimal": HEAD + f"Content-Length: 0x{len(BODY):x}\r\n\r\n" + BODY,
    "a length with a blank": HEAD + "Content-Length: 1 5\r\n\r\n" + BODY,
    "a length with a fraction": HEAD + "Content-Length: 15.0\r\n\r\n" + BODY,
    "a blank before a colon": HEAD + f"Content-Length : {len(BODY)}\r\n\r\n" + BODY,
    "a tab before a colon": HEAD + "Transfer-Encoding\t: chunked\r\n\r\n" + CHUNKS,
    "a folded line": HEAD + "X-A: b\r\n " + LENGTH + "\r\n" + BODY,
    "a folded coding": HEAD + "Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "a folded first line": "GET /health HTTP/1.1\r\n Host: test\r\n\r\n",
    "identity before chunked": HEAD + "Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKS,
    "identity": HEAD + "Transfer-Encoding: identity\r\n\r\n" + BODY,
    "chunked before identity": HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "chunked twice": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "chunked and another": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + CHUNKS,
    "a coding like chunked": HEAD + "Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "chunked in quotes": HEAD + 'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS,
    "chunked with a parameter": HEAD + "Transfer-Encoding: chunked;q=1\r\n\r\n" + CHUNKS,
    "chunked behind a control character": HEAD + "Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "no coding": HEAD + "Transfer-Encoding:\r\n" + LENGTH + "\r\n" + BODY,
    "chunked in HTTP/1.0": HEAD.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "a line that ends in LF": HEAD + "X-A: b\n" + LENGTH + "\r\n" + BODY,
    "a first line that ends in LF": (HEAD + LENGTH + "\r\n" + BODY).replace("\r\n", "\n", 1),
    "a head that ends in LF": HEAD + LENGTH + "\n" + BODY,
    "LF alone": "GET /health HTTP/1.1\nHost: test\n\n",
    "a CR in a value": HEAD + "X-A: b\rc\r\n" + LENGTH + "\r\n" + BODY,
    "a CR in a name": HEAD + "X\rA: b\r\n" + LENGTH + "\r\n" + BODY,
    "a NUL in a value": HEAD + "X-A: b\0c\r\n" + LENGTH + "\r\n" + BODY,
    "a NUL in a name": HEAD + "X\0A: b\r\n" + LENGTH + "\r\n" + BODY,
    "no name": HEAD + ": b\r\n" + LENGTH + "\r\n" + BODY,
    "no colon": HEAD + "X-A\r\n" + LENGTH + "\r\n" + BODY,
    "two hosts": HEAD + "Host: other\r\n" + LENGTH + "\r\n" + BODY,
    "two blanks in the first line": "GET  /health HTTP/1.1\r\nHost: test\r\n\r\n",
    "a tab in the first line": "GET\t/health HTTP/1.1\r\nHost: test\r\n\r\n",
    "more behind the version": "GET /health HTTP/1.1 x\r\nHost: test\r\n\r\n",
    "a fragment": "GET /health#x HTTP/1.1\r\nHost: test\r\n\r\n",
}
SMUGGLED |= {
    f"chunks: {name}": HEAD + "Transfer-Encoding: chunked\r\n\r\n" + chunks
    for name, chunks in {
        "a size with 0x": "0x" + CHUNKS,
        "a size with a sign": "+" + CHUNKS,
        "a size with a blank before": " " + CHUNKS,
        "no size": "\r\n" + CHUNKS,
        "a size beyond 64 bits": "1" + "0" * 16 + "\r\n" + CHUNKS,
        "a size that is too small": CHUNKS.replace("f\r\n", "e\r\n", 1),
        "a size that is too large": CHUNKS.replace("f\r\n", "10\r\n", 1),
        "LF behind a size": CHUNKS.replace("\r\n", "\n", 1),
        "LF behind a chunk": f"f\r\n{BODY}\n0\r\n\r\n",
        "CR alone behind a size": f"f\r{BODY}\r\n0\r\n\r\n",
        "LF in an extension": f"f;a=b\nc\r\n{BODY}\r\n0\r\n\r\n",
        "LF at the end": f"f\r\n{BODY}\r\n0\r\n\n",
        "a folded trailer": f"f\r\n{BODY}\r\n0\r\nX-A: b\r\n c\r\n\r\n",
        "a trailer without a colon": f"f\r\n{BODY}\r\n0\r\nX-A\r\n\r\n",
    }.items()
}


@pytest.mark.parametrize("way", ["whole", "byte by byte"])
@pytest.mark.parametrize("name", SMUGGLED)
def test_ambiguous_requests_are_refused(plain, name, way):
    """One error and the end of the connection: the bytes behind are not read as a request."""
    sent = SMUGGLED[name].encode("latin-1")
    stream = plain.dial()
    if way == "whole":
        stream.pour(sent + request("GET", "/health"))
    else:
        for byte in sent:
            stream.pour(bytes([byte]))
        stream.pour(request("GET", "/health"))
    response = stream.final("POST")
    assert response.status in (400, 501), response
    is_error(response, response.status)
    assert response.closes()
    stream.at_end()


def test_the_same_requests_without_the_ambiguity(plain):
    """Shows that the table above fails for the ambiguity alone."""
    for good in HEAD + LENGTH + "\r\n" + BODY, HEAD + "Transfer-Encoding: chunked\r\n\r\n" + CHUNKS:
        stream = plain.dial().send(good.encode() + request("GET", "/health"))
        assert stream.final("POST").status == 201
        assert stream.response().status == 200


# -- header injection


INJECTED = "x\r\nSet-Cookie: evil=1\r\n\r\nHTTP/1.1 200 OK"


@pytest.mark.parametrize("way", ["raw", "percent-encoded", "JSON"])
def test_a_client_cannot_inject_a_header(serve, way):
    server = serve("--allowed-origins", "https://app.example.com", "--max-channels", "1")
    word = {"raw": INJECTED, "percent-encoded": INJECTED.replace("\r\n", "%0d%0a").replace(" ", "%20"), "JSON": INJECTED.replace("\r\n", "\\r\\n")}[way]
    places = [
        upgrade(f"/ws?{word}"), upgrade(headers=[("Origin", word)]), upgrade(headers=[("Sec-WebSocket-Protocol", word)]),
        upgrade(instead={"Sec-WebSocket-Version": word}), upgrade(instead={"Sec-WebSocket-Key": word}), upgrade(host=word),
        upgrade(f"/{word}"), request(word, "/ws"), request("OPTIONS", "/broadcast", [("Origin", word), ("Access-Control-Request-Headers", word)]),
        request("POST", f"/broadcast?key={word}", [("Content-Type", word)], b"{}"), request("GET", "/health", [("Expect", word)]),
        request("POST", "/broadcast", [JSON], json.dumps({"channel": "", "x": word}).encode()), request("GET", "/health", version=f"HTTP/1.1{word}"),
    ]
    for sent in places:
        stream = server.dial().send(sent)
        response = stream.response("OPTIONS" if sent.startswith(b"OPTIONS") else "GET")
        assert response.header("Set-Cookie") is None, (sent, response)
        assert not any("evil" in name or "evil" in value for name, value in response.headers), (sent, response)


def test_the_authorizer_cannot_inject_a_header(serve, authorizer):
    from harness.authorizer import Reply

    server = serve(auth=authorizer)
    state = json.dumps({"state": INJECTED}).encode()
    for status in 200, 403, 503:
        authorizer.on(Reply(status, state, (("Content-Type", "application/json"), ("Set-Cookie", "evil=1"))))
        response = server.knock().response()
        assert response.status == {200: 101}.get(status, status)
        assert not any("evil" in name + value for name, value in response.headers), response


# -- secrets in logs


def test_no_secret_is_logged(serve, authorizer):
    """No token of a query, no key and no credentials of the authorizer, at any level and for any outcome."""
    hook = f"http://user:{SECRET}@127.0.0.1:{authorizer.port}/hook?token={SECRET}"
    keys = ("--broadcasting-key", SECRET, "--authorizer-key", f"{SECRET},{SECRET}2")
    server = serve("--log-level", "debug", *keys, "--max-message-size", "1KiB", "--handshake-timeout", "500ms", auth=hook)
    ws = server.ws(f"/ws?token={SECRET}", protocols=f"wsify.v1, {SECRET}", headers=[("Cookie", f"session={SECRET}")])
    ws.join("x")
    authorizer.on(403, "leave")
    ws.ask(command("leave", "x", id=1), 1)
    authorizer.on(403, "connect")
    server.knock(f"/ws?token={SECRET}").response()
    authorizer.on(503, "connect")
    server.knock(f"/ws?token={SECRET}").response()
    for target in f"/broadcast?key={SECRET}", f"/broadcast?key={SECRET}x", f"/nothing?token={SECRET}", f"/metrics?key={SECRET}":
        for method in "GET", "POST", "BREW":
            server.call(method, target, [JSON, ("Authorization", f"Bearer {SECRET}")], b'{"channel":"x","content":"' + SECRET.encode() + b'"}')
            server.call(method, target, [], b"x" * 2000)
    for sent in (
        f"GET /ws?token={SECRET}# HTTP/1.1\r\nHost: test\r\n\r\n", f"GET http://user:{SECRET}@test/ws HTTP/1.1\r\nHost: test\r\n\r\n",
        f"GET /ws?token={SECRET} HTTP/9.9\r\n\r\n", f"GET /ws?token={SECRET} {SECRET}\r\n\r\n", f"GET /ws?token={SECRET}", f"{SECRET}\0\r\n\r\n",
        f"GET /ws HTTP/1.1\r\nHost: {SECRET}:x\r\n\r\n", f"GET /ws HTTP/1.1\r\nHost: test\r\nAuthorization: {SECRET}\0\r\n\r\n",
    ):
        server.dial().send(sent.encode("latin-1")).response()
    # The authorizer goes down, and comes back.
    authorizer.stop()
    until(lambda: server.knock(f"/ws?token={SECRET}").response().status == 503, "the authorizer is down")
    server.logged("the authorizer is down")
    server.signal(15)
    assert server.status() == 0
    server.finish()
    for line in server.out + server.err:
        assert SECRET not in line, line
    assert any("127.0.0.1" in line for line in server.out), "there is a log"


@pytest.mark.parametrize("url", [f"http://u:{SECRET}@127.0.0.1:1/{{}}?t={SECRET}", f"https://u:{SECRET}@127.0.0.1:1/?{SECRET}",
                                 f"http://u:{SECRET}@nonexistent.invalid/?t={SECRET}"])
def test_an_authorizer_that_cannot_be_reached_is_named_without_its_secrets(serve, url):
    server = serve("--authorizer-timeout", "2s", auth=url)
    is_error(server.knock(f"/ws?token={SECRET}").response(), 503)
    server.logged("the authorizer is down")
    server.signal(15)
    server.status()
    for line in server.out + server.err:
        assert SECRET not in line, line


@pytest.mark.parametrize(
    "flags",
    [
        ["--authorizer-url", f"ftp://u:{SECRET}@host/"], ["--authorizer-url", f"http://u:{SECRET}@/"], ["--authorizer-url", f"http://host/?{SECRET} "],
        ["--broadcasting-key", f"{SECRET}\n"], ["--broker-driver", "redis", "--broker-dsn", f"redis://:{SECRET}@h:x"], [f"--brodcasting-key={SECRET}"],
        [f"redis://:{SECRET}@host"], ["--authorizer-url", f"http://u:{SECRET}@host/", "--max-channels", "x"],
        ["--authorizer-key", f"{SECRET},"], ["--authorizer-key", f",{SECRET}"], ["--authorizer-key", f"{SECRET}\n"],
        ["--authorizer-key", f"{SECRET},{SECRET},{SECRET}"], ["--authorizer-key", SECRET, "--help"], [f"--authoriser-key={SECRET}"],
        ["--broadcasting-key", SECRET, "--help"], ["--broadcasting-key", SECRET, "--version"],
    ],
)
def test_no_error_of_the_command_line_shows_a_secret(flags):
    _, out, err = run(*flags)
    assert SECRET not in out + err, out + err
    assert out or err


def test_errors_about_variables_show_no_secret():
    variables = {"WSIFY_BROADCASTING_KEY": f"{SECRET}\n", "WSIFY_AUTHORIZER_KEY": f"{SECRET},", "WSIFY_AUTHORIZER_URL": f"ftp://u:{SECRET}@h/"}
    for name, value in variables.items():
        status, out, err = run(env={name: value})
        assert status == 2 and name in err and SECRET not in out + err, err


# -- slow attackers


def test_many_that_send_slowly(serve):
    """Slowloris: heads and bodies that never end hold half of the descriptors. Other connections are served meanwhile, and
    each slow one gets an error and is disconnected when its time is over, however it drips."""
    server = serve("--handshake-timeout", "1s", "--max-connections", "50")
    bodies = request("POST", "/broadcast", [JSON, ("Content-Length", "500")]) + b"{"
    slow = [server.dial().send(sent) for sent in (b"G", upgrade()[:-2], bodies, b"") for _ in range(50)]
    over = threading.Event()

    def drip():
        while not over.wait(0.05):
            for stream in slow:
                stream.pour(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        # They do not count as WebSockets.
        crowd = [server.ws().join("x") for _ in range(50)]
        server.publish("x", "1")
        for ws in crowd:
            ws.hears("1")
        statuses = {stream.response("POST").status for stream in slow}
    finally:
        over.set()
        thread.join()
    assert statuses <= {400, 408}, statuses
    assert server.call("GET", "/health").status == 200
    until(lambda: server.metric(r"^process_open_fds") < 50 + 40, "the slow ones are gone")
