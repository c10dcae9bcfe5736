"""The playground in Chromium, driven by its own protocol. With WSIFY_SCREENSHOTS=DIRECTORY it leaves pictures there."""

import json
import signal

from harness.authorizer import with_fields


def test_a_visit(visit, serve, authorizer):
    def answer(question):
        if question.command == "connect":
            return with_fields(user="<42>", channels=["hall"])
        return 403 if question.args.get("channel") == "secret" else 200

    authorizer.on(answer)
    server = serve("--playground", "--drain-timeout", "300ms", auth=authorizer)
    page = visit(f"http://127.0.0.1:{server.port}/")
    page.fill("query", "token=abc")
    page.submit("connect")
    page.sees("connected", of="state")
    assert authorizer.about("connect")[0].args["query"] == {"token": ["abc"]}
    page.sees(f"User <42>, connection {authorizer.about('connect')[0].peer['id']}", of="identity")
    page.sees("hall ×", of="channels")
    assert server.post('{"user":"<42>","channel":"hall"}', "/leave").body == b'{"connections":1}'
    page.sees("← left hallby the backend")
    assert server.post('{"user":"<42>","content":{"n":2.0}}').status == 201
    page.sees('← user <42>{"n":2.0}')
    page.submit("join")
    page.sees("✓ join hello (")
    page.sees("hello ×", of="channels")

    page.fill("content", '{"n": 1.000000000000000000001}')
    page.submit("broadcast")
    page.sees('← hello{"n": 1.000000000000000000001}')
    page.fill("content", "no JSON")
    page.submit("broadcast")
    page.sees('← hello"no JSON"')
    # Contents and names of channels are shown as text, never as markup.
    evil = '<img src=x onerror="window.evil=1"><script>window.evil=1</script>'
    server.publish("hello", json.dumps(evil))
    page.sees("<img src=x onerror=")
    page.fill("channel", evil)
    page.submit("join")
    page.sees(f"{evil} ×", of="channels")
    assert page.js("window.evil === undefined && !document.querySelector('#log img, #channels img')")

    page.fill("channel", "secret")
    page.submit("join")
    page.sees("✗ join secret: not_authorized")
    asked = len(authorizer.about())
    page.js("document.getElementById('measure').click()")
    page.sees(" ms", of="latency")
    assert len(authorizer.about()) == asked, "a round trip is not the authorizer's affair"
    page.sees("1", of="connections")
    page.sees("0", of="deliveries")
    assert page.js("document.getElementById('numbers-note').textContent") == ""
    page.js("document.querySelector('#channels button').click()")
    page.sees("✓ leave hello (")

    page.picture("desktop-light", 1280, 900, dark=False)
    page.picture("desktop-dark", 1280, 900, dark=True)
    page.picture("phone-light", 390, 844, dark=False)
    page.picture("phone-dark", 390, 844, dark=True)
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    assert page.js("document.documentElement.scrollWidth") <= 360, "nothing is cut off on a phone"
    small = page.js("[...document.querySelectorAll('button, input')].filter(e => e.offsetHeight && e.offsetHeight < 44).length")
    assert small == 0, "a finger hits every control"
    unnamed = page.js("[...document.querySelectorAll('input, textarea')].filter(e => !e.labels.length).length")
    assert unnamed == 0, "every field has its label"

    server.signal(signal.SIGTERM)
    page.sees("closed with 1012")
    page.sees("the server is stopping: come back in a second")
    page.sees("closed (1012)", of="state")
    assert server.status() == 0
    policy = [complaint for complaint in page.complaints if "Content Security Policy" in complaint or "exception" in complaint]
    assert not policy, policy


def test_without_the_key_the_page_shows_an_explanation(visit, serve):
    server = serve("--playground", "--broadcasting-key", "s3cret")
    page = visit(f"http://127.0.0.1:{server.port}/")
    page.sees("only with its key", of="numbers-note")
    page.fill("key", "s3cret")
    page.sees("0", of="connections")


def test_an_end_is_explained(visit, serve, authorizer):
    authorizer.on(403, "connect")
    server = serve("--playground", auth=authorizer)
    page = visit(f"http://127.0.0.1:{server.port}/")
    page.submit("connect")
    page.sees("closed with 1006")
    page.sees("A browser hides why: 403 is the authorizer's no")
    assert not page.js("document.getElementById('open').disabled")


def test_the_playground_is_off_without_its_flag(serve):
    assert serve().call("GET", "/").status == 404
    server = serve("--playground")
    page = server.call("GET", "/")
    assert page.status == 200 and b"<!doctype html>" in page.body
    assert server.call("HEAD", "/").body == b""
    response = server.call("POST", "/", body=b"")
    assert response.status == 405
