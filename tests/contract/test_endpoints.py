"""Endpoints and HTTP (docs/api.md#endpoints, docs/api.md#http). `GET /ws` is in test_upgrade.py."""

import json
import re

import pytest

from harness.net import chunked, is_error, list_of, media_type, request
from harness.ws import fresh

GET_ONLY = {"/health", "/metrics", "/ws"}
JSON = ("Content-Type", "application/json")


# -- the table


def test_health(plain):
    response = plain.call("GET", "/health")
    assert response.status == 200
    assert response.json() == {"status": "ok"}


def test_health_with_a_query(plain):
    assert plain.call("GET", "/health?verbose=1").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_head_is_get_without_the_body(plain, path):
    with_body = plain.call("GET", path)
    stream = plain.dial().send(request("HEAD", path))
    head = stream.response("HEAD")
    assert head.status == 200
    assert head.header("Content-Type") == with_body.header("Content-Type")
    if path == "/health":
        assert head.header("Content-Length") == str(len(with_body.body))
    stream.send(request("GET", "/health"))
    assert stream.response().json() == {"status": "ok"}, "bytes of a body behind the answer to HEAD"


def test_head_of_a_stream_has_its_headers_and_no_length(plain):
    """RFC 9110 9.3.2 and 8.6: the length of the stream is not known."""
    got = [plain.dial().send(request(method, "/tap")) for method in ("GET", "HEAD")]
    streamed, head = [stream.head() for stream in got]
    drop = ("Date",)
    assert [h for h in streamed[2] if h[0] not in drop] == [h for h in head[2] if h[0] not in drop]
    assert "content-length" not in [name.lower() for name, _ in head[2]]
    got[1].at_end()


@pytest.mark.parametrize("path", ["/nothing", "/ws", "/broadcast"])
def test_head_of_an_error_has_no_body(plain, path):
    stream = plain.dial().send(request("HEAD", path) + request("GET", "/health"))
    assert stream.response("HEAD").status == {"/nothing": 404, "/ws": 426, "/broadcast": 405}[path]
    assert stream.response().json() == {"status": "ok"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "BREW"])
@pytest.mark.parametrize("path", ["/", "/nothing", "/wsx", "/ws/", "/broadcast/", "/healthy", "/WS", "/ws/x", "//ws"])
def test_any_other_path_is_404(plain, method, path):
    stream = plain.dial().send(request(method, path, body=b"{}" if method in ("POST", "PUT", "PATCH") else None))
    response = stream.response()
    is_error(response, 404)
    stream.still_serves(response)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "BREW", "TRACE"])
@pytest.mark.parametrize("path", ["/health", "/metrics", "/ws", "/broadcast"])
def test_another_method_is_405_with_allow(plain, method, path):
    known = {"GET", "HEAD"} if path in GET_ONLY else {"POST"}
    if method in known:
        return
    stream = plain.dial().send(request(method, path, body=b"{}" if method in ("POST", "PUT", "PATCH") else None))
    response = stream.response(method)
    assert response.status == 405
    if method != "HEAD":
        is_error(response, 405)
    allow = {item.upper() for item in list_of(response.header("Allow"))}
    assert known & {"GET", "POST"} <= allow <= known | {"OPTIONS"}, allow
    stream.still_serves(response)


def test_a_method_in_lower_case_is_another_method(plain):
    is_error(plain.call("get", "/health"), 405)


# -- OPTIONS and CORS


@pytest.mark.parametrize("path", ["/ws", "/broadcast", "/health", "/metrics", "/nothing", "*"])
def test_options_on_any(plain, path):
    stream = plain.dial().send(request("OPTIONS", path, [("Origin", "https://a.example")]))
    response = stream.response()
    assert response.status == 204
    assert response.header("Access-Control-Allow-Origin") in ("*", "https://a.example")
    stream.still_serves(response)


def test_preflight_names_methods_and_headers(plain):
    ask = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,authorization"),
    ]
    response = plain.call("OPTIONS", "/broadcast", ask)
    assert response.status == 204
    assert "post" in list_of(response.header("Access-Control-Allow-Methods"))
    allowed = list_of(response.header("Access-Control-Allow-Headers"))
    assert {"content-type", "authorization"} <= set(allowed), "a * does not cover Authorization"


@pytest.mark.parametrize(
    "requested, allowed",
    [
        (["x-custom, content-type"], ["x-custom", "content-type"]),
        (["X-One", "x-two,,x!#$%&'*+-.^_`|~"], ["x-one", "x-two", "x!#$%&'*+-.^_`|~"]),
        (["a b, c/d, \"e\", <script>, x-good, \u00fc"], ["x-good"]),
        (["a b"], []),
        ([], []),
    ],
)
def test_preflight_echoes_requested_headers_that_are_tokens(serve, requested, allowed):
    server = serve("--allowed-origins", "https://a.example")
    ask = [("Access-Control-Request-Method", "POST"), *[("Access-Control-Request-Headers", line) for line in requested]]
    response = server.call("OPTIONS", "/broadcast", [("Origin", "https://a.example"), *ask])
    assert response.status == 204
    assert list_of(response.header("Access-Control-Allow-Headers")) == allowed
    response = server.call("OPTIONS", "/broadcast", [("Origin", "https://b.example"), *ask])
    assert response.status == 204
    assert response.header("Access-Control-Allow-Headers") is None, "another origin is allowed nothing"


def test_options_with_a_body_keeps_the_connection_in_step(plain):
    stream = plain.dial().send(request("OPTIONS", "/broadcast", body=b"GET /nothing HTTP/1.1\r\n\r\n") + request("GET", "/health"))
    assert stream.response().status == 204
    assert stream.response().status == 200


@pytest.mark.parametrize(
    "origin, allowed",
    [
        ("https://app.example.com", True),
        ("http://localhost:8080", True),
        ("https://evil.example", False),
        ("https://app.example.com.evil.example", False),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("null", False),
    ],
)
def test_cors_goes_by_allowed_origins(serve, origin, allowed):
    server = serve("--allowed-origins", "https://app.example.com, http://localhost:8080")
    response = server.call("OPTIONS", "/broadcast", [("Origin", origin), ("Access-Control-Request-Method", "POST")])
    assert response.status == 204
    assert response.header("Access-Control-Allow-Origin") == (origin if allowed else None)
    assert "origin" in list_of(response.header("Vary")), "a cache must not serve this to another origin"


# -- /metrics


def test_metrics_are_prometheus_text(plain):
    response = plain.call("GET", "/metrics")
    assert response.status == 200
    assert media_type(response.header("Content-Type")) == "text/plain"
    kinds, seen = {}, set()
    text = response.body.decode()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram", "summary", "untyped") and name not in kinds, line
            kinds[name] = kind
        elif not line.startswith("#") and line:
            match = re.fullmatch(
                r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*\})? ([0-9.eE+-]+|NaN|[+-]Inf)', line
            )
            assert match, f"not a sample: {line!r}"
            float(match[3])
            assert match[1] + (match[2] or "") not in seen, f"twice: {line!r}"
            seen.add(match[1] + (match[2] or ""))
            family = re.sub("_(bucket|sum|count|total)$", "", match[1])
            assert match[1] in kinds or family in kinds, f"no type for {line!r}"
    assert seen


def test_metrics_count_connections(serve):
    server = serve()
    held = [server.ws() for _ in range(3)]
    assert len(held) == server.metric(r"^\w*connections(\{.*websocket.*\})?$")


# -- HTTP/1.1 (RFC 9112)


def test_keep_alive(plain):
    stream = plain.dial()
    for path, status in [("/health", 200), ("/nothing", 404), ("/ws", 426), ("/health", 200)] * 5:
        stream.send(request("GET", path))
        response = stream.response()
        assert response.status == status
        assert not response.closes()


def test_connection_close_is_honoured(plain):
    for value in ["close", "Close", "foo, close", "close, foo"]:
        stream = plain.dial().send(request("GET", "/health", [("Connection", value)]) + request("GET", "/health"))
        response = stream.response()
        assert response.status == 200 and response.closes()
        stream.at_end()


def test_pipelined_requests_are_answered_in_order(plain):
    paths = [("/health", 200), ("/nothing", 404), ("/broadcast", 405), ("/ws", 426)] * 50
    stream = plain.dial().send(b"".join(request("GET", path) for path, _ in paths))
    assert [stream.response().status for _ in paths] == [status for _, status in paths]


def test_a_refused_upgrade_leaves_the_connection_usable(asked, authorizer):
    authorizer.on(403, "connect")
    stream = asked.knock()
    response = stream.response()
    is_error(response, 403)
    stream.still_serves(response)


@pytest.mark.parametrize("path, status", [("/health", 200), ("/nothing", 404), ("/ws", 426)])
def test_byte_by_byte(plain, path, status):
    stream = plain.dial()
    for _ in range(2):
        stream.drip(request("GET", path, [("X-Thing", "a value")]))
        assert stream.response().status == status


def test_the_end_of_input_behind_a_request_loses_no_answer(plain):
    stream = plain.dial().send(request("GET", "/health") * 3).half_close()
    for _ in range(3):
        assert stream.response().status == 200
    stream.at_end()


def test_http_1_0(plain):
    stream = plain.dial().send(request("GET", "/health", version="HTTP/1.0", host=None))
    response = stream.response()
    assert response.json() == {"status": "ok"}
    assert "keep-alive" not in (response.header("Connection") or "").lower()
    stream.at_end()


def test_http_1_0_keep_alive(plain):
    stream = plain.dial().send(request("GET", "/health", [("Connection", "keep-alive")], version="HTTP/1.0"))
    response = stream.response()
    assert response.status == 200
    if "keep-alive" in (response.header("Connection") or "").lower():
        stream.send(request("GET", "/health"))
        assert stream.response().status == 200
    else:
        stream.at_end()


def test_http_1_0_post(plain):
    body = b'{"channel":"x"}'
    stream = plain.dial().send(request("POST", "/broadcast", [JSON], body, version="HTTP/1.0", host=None))
    assert stream.response().status == 201
    stream.at_end()


def test_empty_lines_before_a_request_are_skipped(plain):
    """RFC 9112 2.2."""
    stream = plain.dial().send(b"\r\n" + request("GET", "/health") + b"\r\n" + request("GET", "/health"))
    assert stream.response().status == 200
    assert stream.response().status == 200


def test_absolute_form(plain):
    """RFC 9112 3.2.2: a server must accept it."""
    assert plain.call("GET", "http://test/health").json() == {"status": "ok"}


def test_a_get_with_a_body_keeps_the_connection_in_step(plain):
    smuggled = request("GET", "/nothing")
    stream = plain.dial().send(request("GET", "/health", body=smuggled) + request("GET", "/health"))
    first = stream.response()
    assert first.status == 200
    if first.closes():
        stream.at_end()
    else:
        assert stream.response().status == 200, "the body was read as a request"


BODY = b'{"channel":"bodies","content":1}'


@pytest.mark.parametrize(
    "encoded",
    [
        chunked(BODY),
        chunked(BODY[:10], BODY[10:11], BODY[11:]),
        chunked(*[BODY[i : i + 1] for i in range(len(BODY))]),
        chunked(BODY, trailers=b"X-Sum: 1\r\nX-More: 2\r\n"),
        b"%X\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
        b"000%x\r\n%s\r\n000\r\n\r\n" % (len(BODY), BODY),
        b'%x;name=value;quoted="a;b"\r\n%s\r\n0;last\r\n\r\n' % (len(BODY), BODY),
    ],
    ids=["one", "three", "bytes", "trailers", "upper", "zeros", "extensions"],
)
@pytest.mark.parametrize("arrival", ["whole", "drip"])
def test_chunked_bodies(plain, encoded, arrival):
    head = request("POST", "/broadcast", [JSON, ("Transfer-Encoding", "chunked")])
    stream = plain.dial()
    if arrival == "whole":
        stream.send(head + encoded + request("GET", "/health"))
    else:
        stream.drip(head + encoded).send(request("GET", "/health"))
    assert stream.response().status == 201
    assert stream.response().json() == {"status": "ok"}


def test_chunked_is_matched_regardless_of_case(plain):
    stream = plain.dial().send(request("POST", "/broadcast", [JSON, ("transfer-encoding", "Chunked")]) + chunked(BODY))
    assert stream.response().status == 201


def test_content_length_bodies_byte_by_byte(plain):
    stream = plain.dial().drip(request("POST", "/broadcast", [JSON], BODY)).send(request("GET", "/health"))
    assert stream.response().status == 201
    assert stream.response().status == 200


def test_expect_100_continue(plain):
    channel = fresh()
    member = plain.ws().join(channel)
    content = json.dumps("x" * 100_000)
    body = f'{{"channel":"{channel}","content":{content}}}'.encode()
    head = request("POST", "/broadcast", [JSON, ("Expect", "100-continue"), ("Content-Length", str(len(body)))])
    stream = plain.dial().send(head)
    assert stream.response().status == 100, "nothing else is due before the body"
    stream.send(body)
    assert stream.response().status == 201
    assert member.hear() == content
    stream.send(request("GET", "/health"))
    assert stream.response().status == 200


def test_expect_100_continue_with_chunks(plain):
    stream = plain.dial().send(request("POST", "/broadcast", [JSON, ("Expect", "100-Continue"), ("Transfer-Encoding", "chunked")]))
    assert stream.response().status == 100
    stream.send(chunked(BODY))
    assert stream.response().status == 201


def test_expect_with_the_body_at_once(plain):
    stream = plain.dial().send(request("POST", "/broadcast", [JSON, ("Expect", "100-continue")], BODY))
    assert stream.final().status == 201


@pytest.mark.parametrize(
    "target, headers, status",
    [
        ("/nothing", [JSON], 404),
        ("/health", [JSON], 405),
        ("/broadcast", [("Content-Type", "text/plain")], 415),
        ("/broadcast", [JSON, ("Origin", "https://a.example")], 403),
    ],
)
def test_a_body_may_be_refused_before_it_is_sent(plain, target, headers, status):
    """Either 100 and the answer after the body, or the answer at once."""
    stream = plain.dial().send(request("POST", target, [*headers, ("Expect", "100-continue"), ("Content-Length", "5")]))
    response = stream.response()
    if response.status == 100:
        stream.send(b"12345")
        response = stream.response()
        is_error(response, status)
        stream.still_serves(response)
    else:
        is_error(response, status)
        # RFC 9110 10.1.1: the client may send the body all the same, or not; the server knows only by closing,
        # or by reading what was announced.
        stream.pour(b"12345")
        stream.still_serves(response)


def test_http_1_0_gets_no_interim_answer(plain):
    """RFC 9110 10.1.1."""
    stream = plain.dial().send(request("POST", "/broadcast", [JSON, ("Expect", "100-continue")], BODY, version="HTTP/1.0"))
    assert stream.response().status == 201


# -- malformed requests


POST = "POST /broadcast HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
MALFORMED = {
    "both length headers": POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both length headers, turned": POST + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "no host": "GET /health HTTP/1.1\r\n\r\n",
    "two hosts": "GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "obs-fold": "GET /health HTTP/1.1\r\nHost: test\r\nX-A: b\r\n c\r\n\r\n",
    "obs-fold by tab": "GET /health HTTP/1.1\r\nHost: test\r\nX-A: b\r\n\tc\r\n\r\n",
    "a blank before the first header": "GET /health HTTP/1.1\r\n Host: test\r\n\r\n",
    "a blank before the colon": "GET /health HTTP/1.1\r\nHost: test\r\nX-A : b\r\n\r\n",
    "a blank in a name": "GET /health HTTP/1.1\r\nHost: test\r\nX A: b\r\n\r\n",
    "no name": "GET /health HTTP/1.1\r\nHost: test\r\n: b\r\n\r\n",
    "no colon": "GET /health HTTP/1.1\r\nHost: test\r\nnonsense\r\n\r\n",
    "a NUL in a value": "GET /health HTTP/1.1\r\nHost: test\r\nX-A: b\0c\r\n\r\n",
    "a CR in a value": "GET /health HTTP/1.1\r\nHost: test\r\nX-A: b\rc\r\n\r\n",
    "no version": "GET /health\r\nHost: test\r\n\r\n",
    "a version in lower case": "GET /health http/1.1\r\nHost: test\r\n\r\n",
    "no target": "GET HTTP/1.1\r\nHost: test\r\n\r\n",
    "a method that is no token": "G@T /health HTTP/1.1\r\nHost: test\r\n\r\n",
    "a blank in the target": "GET /hea lth HTTP/1.1\r\nHost: test\r\n\r\n",
    "a length that is no number": POST + "Content-Length: abc\r\n\r\n",
    "a negative length": POST + "Content-Length: -1\r\n\r\n",
    "a signed length": POST + "Content-Length: +1\r\n\r\nx",
    "a hexadecimal length": POST + "Content-Length: 0x1\r\n\r\nx",
    "an empty length": POST + "Content-Length: \r\n\r\n",
    "a blank in a length": POST + "Content-Length: 1 1\r\n\r\nx",
    "lengths that differ": POST + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ",
    "lengths that differ, in a list": POST + "Content-Length: 3, 4\r\n\r\n{}  ",
    "a length beyond 64 bits": POST + "Content-Length: 99999999999999999999999\r\n\r\n",
    "chunked is not the last coding": POST + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
ODD_CHUNKS = {
    "not hexadecimal": "g\r\n",
    "empty": "\r\n",
    "negative": "-1\r\n",
    "signed": "+1\r\nx\r\n0\r\n\r\n",
    "prefixed": "0x1\r\nx\r\n0\r\n\r\n",
    "blank before": " 1\r\nx\r\n0\r\n\r\n",
    "beyond 64 bits": "11111111111111111\r\n",
    "no CRLF behind the data": "1\r\nxx\r\n0\r\n\r\n",
    "bare LF behind the data": "1\r\nx\n0\r\n\r\n",
    "bare CR in the size line": "1\rx\r\n",
    "bare LF behind the size": "1\nx\r\n0\r\n\r\n",
    "a trailer that is no header": "0\r\nnonsense\r\n\r\n",
}
MALFORMED |= {f"odd chunk: {k}": POST + "Transfer-Encoding: chunked\r\n\r\n" + v for k, v in ODD_CHUNKS.items()}


@pytest.mark.parametrize("arrival", ["whole", "drip"])
@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_is_400_and_the_end(plain, what, arrival):
    stream = plain.dial()
    bad = MALFORMED[what].encode("latin-1")
    if arrival == "whole":
        # A good request comes first. The request behind must not be answered.
        stream.send(request("GET", "/health") + bad + request("GET", "/health"))
        assert stream.response().status == 200
    else:
        try:
            stream.drip(bad)
        except (BrokenPipeError, ConnectionResetError):
            pass
    response = stream.response()
    if what == "a length beyond 64 bits" and response.status == 413:
        is_error(response, 413)  # a valid number, but too large
    else:
        is_error(response, 400)
    assert response.closes()
    stream.at_end()


@pytest.mark.parametrize("coding", ["gzip", "identity", "gzip, chunked", "chunkedd", "x"])
def test_an_unknown_transfer_coding_ends_the_connection(plain, coding):
    """RFC 9112 6.1 has 501 for codings that are not understood; where chunked is not the last it has 400."""
    stream = plain.dial().send((POST + f"Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n").encode() + request("GET", "/health"))
    response = stream.response()
    assert response.status in (400, 501)
    is_error(response, response.status)
    assert response.closes()
    stream.at_end()


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.10", "HTTP/11"])
def test_another_version(plain, version):
    stream = plain.dial().send(request("GET", "/health", version=version))
    response = stream.response()
    assert response.status in (400, 505)
    is_error(response, response.status)
    stream.at_end()


def test_lengths_that_agree_may_pass(plain):
    """RFC 9112 6.3: a server may take them as one or refuse them. It must not read two bodies."""
    length = f"Content-Length: {len(BODY)}\r\n"
    stream = plain.dial().send((POST + length + length + "\r\n").encode() + BODY + request("GET", "/health"))
    response = stream.response()
    if response.status == 201:
        assert stream.response().status == 200
    else:
        is_error(response, 400)
        stream.at_end()


# -- 431


def padded(path, size, method="GET"):
    """A request whose head, its empty line included, has that many bytes."""
    bare = request(method, path, [("X-Pad", "")])
    return request(method, path, [("X-Pad", "p" * (size - len(bare)))])


@pytest.mark.parametrize("path, status", [("/health", 200), ("/ws", 426), ("/nothing", 404), ("/broadcast", 405)])
def test_a_head_of_16_kib(plain, path, status):
    stream = plain.dial().send(padded(path, 16384))
    assert stream.response().status == status
    stream.send(padded(path, 16385))
    response = stream.response()
    is_error(response, 431)
    assert response.closes()
    stream.at_end()


def test_a_head_of_16_kib_in_two_parts(plain):
    for cut in (100, 16383, 16384):
        whole = padded("/health", 16385)
        stream = plain.dial().send(whole[:cut])
        stream.pour(whole[cut:])
        is_error(stream.response(), 431)
        stream.at_end()


def test_a_head_of_16_kib_byte_by_byte(plain):
    stream = plain.dial().drip(padded("/health", 16384))
    assert stream.response().status == 200


def test_a_long_target_is_a_long_head(plain):
    is_error(plain.call("GET", "/health?" + "q" * 17000), 431)


def test_a_head_without_an_end(plain):
    stream = plain.dial().send(request("GET", "/health")[:-2] + b"X-Pad: " + b"p" * 16384)
    is_error(stream.response(), 431)


def test_an_endless_head_is_answered_though_the_client_keeps_sending(plain):
    stream = plain.dial().pour(request("GET", "/health")[:-2] + b"X-Pad: " + b"p" * 3_000_000)
    is_error(stream.response(), 431)
    stream.at_end()


@pytest.mark.parametrize("path, status", [("/health", 200), ("/ws", 426), ("/nothing", 404)])
def test_a_hundred_headers(plain, path, status):
    """Host counts like any other."""
    stream = plain.dial().send(request("GET", path, [(f"X-{i}", "v") for i in range(99)]))
    assert stream.response().status == status
    stream.send(request("GET", path, [(f"X-{i}", "v") for i in range(100)]))
    response = stream.response()
    is_error(response, 431)
    assert response.closes()
    stream.at_end()


def test_an_upgrade_with_too_many_headers(plain):
    stream = plain.dial().send(plain.upgrade(headers=[(f"X-{i}", "v") for i in range(96)]))
    is_error(stream.response(), 431)


def test_an_upgrade_with_a_hundred_headers(plain):
    plain.ws(headers=[(f"X-{i}", "v") for i in range(95)]).join(fresh())


# -- not HTTP


HELLO = bytes.fromhex("160301020001000001fc0303") + bytes(range(256)) * 2


@pytest.mark.parametrize("arrival", ["whole", "first byte"])
def test_a_tls_hello(plain, arrival):
    stream = plain.dial().send(HELLO if arrival == "whole" else HELLO[:1])
    response = stream.response()
    error = is_error(response, 400)
    assert "tls" in error["message"].lower(), "the message says what to do"
    assert response.closes()
    stream.at_end()


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x80\xff" * 50 + b"\r\n\r\n", b"*1\r\n$4\r\nPING\r\n",
             b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["ssh", "postgres", "binary", "redis", "http2"],
)
def test_not_http(plain, data):
    stream = plain.dial().send(data)
    response = stream.response()
    assert response.status in ((400, 505) if b"HTTP/2" in data else (400,))
    is_error(response, response.status)
    stream.at_end()


# -- answers are not lost to a reset


def test_an_answer_reaches_a_client_that_keeps_sending(plain):
    """The whole 3 MB body is sent before the answer is read."""
    body = b"x" * 3_000_000
    stream = plain.dial().pour(request("POST", "/broadcast", [JSON], body))
    is_error(stream.response(), 413)
    stream.at_end()


def test_a_bad_request_is_answered_though_the_client_keeps_sending(plain):
    stream = plain.dial().pour(b"nonsense\r\n\r\n" + b"x" * 1_000_000)
    is_error(stream.response(), 400)
    stream.at_end()


def test_an_answer_reaches_a_client_that_has_ended_its_stream(plain):
    stream = plain.dial().send(MALFORMED["no host"].encode()).half_close()
    is_error(stream.response(), 400)
    stream.at_end()


# 75 s of idleness on a kept-alive connection is not tested here: no flag shortens it.
