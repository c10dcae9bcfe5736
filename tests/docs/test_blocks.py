"""Every block of commands in README.md and docs/, run as it is printed but for ports, paths and time. A block behind
`<!-- test: NAME -->` is run by `test_NAME`; tests/source/documentation.rs checks that each block has one."""

import hmac
import http.client
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from blocks import ROOT, block, commands, deploy, on
from harness.authorizer import with_fields
from harness.net import DEADLINE, until
from harness.presence import Presence
from harness.redis import Redis
from harness.redis_many import Cluster, Watched
from harness.server import Server, binary, free_port
from harness.tools import absent, need
from harness.ws import command

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CLIENTS = ROOT / "tests" / "clients"


def publishes(out):
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("HTTP/1.1 201 "), out.stdout


# -- README: the transcripts


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, text, cwd):
        self.near, far = pty.openpty()
        self.process = subprocess.Popen(["bash", "-c", text], cwd=cwd, stdin=far, stdout=far, stderr=far, start_new_session=True)
        os.close(far)
        os.set_blocking(self.near, False)
        self.seen = ""

    def shows(self, text):
        def found():
            try:
                self.seen += ESCAPES.sub("", os.read(self.near, 65536).decode()).replace("\r", "")
            except (BlockingIOError, OSError):
                pass
            _, there, rest = self.seen.partition(text)
            if there:
                self.seen = rest
            return there

        until(found, lambda: f"{text!r} in {self.seen!r}")

    def types(self, text):
        os.write(self.near, text.encode() + b"\r")

    def finish(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait()
        os.close(self.near)


def play(transcript, port):
    """Types the text after `$` and `>`, and waits for everything else, in order."""
    need("npx", "npm")
    if not (CLIENTS / "node_modules" / "wscat").is_dir():
        absent("wscat is not installed (npm ci in tests/clients)")
    terminal = None
    try:
        for line in on(port, transcript).splitlines():
            if line.startswith("$ "):
                if terminal:
                    terminal.finish()
                terminal = Terminal(line[2:], CLIENTS)
            elif line.startswith("> "):
                terminal.types(line[2:])
                terminal.shows(line[2:])
            else:
                terminal.shows(line)
    finally:
        terminal.finish()


def test_wscat(serve):
    play(block("wscat"), serve().port)


AUTHORIZERS = {
    "py": ("python3 {}", "python3", "python3"),
    "mjs": ("node {}", "node", "nodejs"),
    "php": ("php -S 127.0.0.1:{port} {}", "php", "php-cli"),
    "go": ("go run {}", "go", "golang-go"),
}


def start_authorizer(language, shell, listens, key=None):
    """The example at a port of its own: its URL. With a key it checks signatures."""
    how, program, package = AUTHORIZERS[language]
    need(program, package)
    port = free_port()
    copy = shell.cwd / f"authorizer.{language}"
    copy.write_text(deploy(copy.name).read_text().replace("8000", str(port)))
    env = {"GOCACHE": str(ROOT / "target" / "go-cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    env |= {"AUTHORIZER_KEY": key} if key else {}
    if language == "go":
        # The first build compiles the standard library too, which may take minutes on a busy machine.
        build = ["go", "build", "-o", os.devnull, str(copy)]
        subprocess.run(build, env=os.environ | env, check=True, timeout=300)
    listens(shell.start(how.format(copy, port=port), env), port)
    return f"http://127.0.0.1:{port}/"


RECEIVERS = {
    "py": ("python3 {}", "python3", "python3"),
    "php": ("php -S 127.0.0.1:{port} {}", "php", "php-cli"),
}


def online(shell, language):
    """The ids that a receiver has in its list."""
    if language == "php":
        path = shell.cwd / "events.json"
        return sorted(json.loads(path.read_text())["online"]) if path.exists() else []
    with sqlite3.connect(shell.cwd / "events.db") as db:
        try:
            return sorted(id for (id,) in db.execute("select id from online"))
        except sqlite3.OperationalError:
            return []


@pytest.mark.parametrize("language", RECEIVERS)
def test_events(language, shell, listens):
    """Each receiver, with wsify started by the line that is printed: its list is right, whatever comes twice."""
    how, program, package = RECEIVERS[language]
    need(program, package)
    hook, port = free_port(), free_port()
    copy = shell.cwd / f"receiver.{language}"
    copy.write_text(deploy(copy.name).read_text().replace("9000", str(hook)))
    assert how.split()[0] in copy.read_text().splitlines()[0], "the file says how to run it"
    receiver = shell.start(how.format(copy, port=hook))
    listens(receiver, hook)
    (text,) = commands("events")
    env = {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"}
    listens(shell.start(text.replace("9000", str(hook)), env), port)
    server = Remote(port)
    crowd = [server.ws().join("a") for _ in range(3)]
    until(lambda: len(online(shell, language)) == 3, "three are in the list")
    (node,) = {id.split("-")[0] for id in online(shell, language)}
    # A call that comes again changes nothing.
    connection = {"id": f"{node}-0", "remote_addr": "unix", "query": {}}
    again = {"node": node, "events": [{"seq": 1, "event": "connected", "time": "", "connection": connection}]}
    assert posted(f"http://127.0.0.1:{hook}/", json.dumps(again).encode(), None) == 204
    assert len(online(shell, language)) == 3
    # Nor does a receiver that was killed: the list and the number are on disk.
    receiver.finish()
    crowd.pop().leaves()
    listens(shell.start(how.format(copy, port=hook)), hook)
    until(lambda: len(online(shell, language)) == 2, "two are left")
    for ws in crowd:
        ws.leaves()
    until(lambda: not online(shell, language), "the list is empty")


def hears_online(ws, *names):
    """Waits for a list of these; those before it may have been made meanwhile."""
    heard = lambda: json.loads(ws.hear())
    until(lambda: heard() == {"channel": "online", "content": list(names)}, f"{names} are online")


@pytest.mark.parametrize("key", [None, "some-long-random-text"])
def test_presence(key, shell, listens):
    """With wsify started by the line that is printed: the list is right, whatever comes twice or not at all."""
    port = free_port()
    chat = Presence(shell.cwd, port, {"AUTHORIZER_KEY": key} if key else None)
    (text,) = commands("presence")
    text = text.replace("http://127.0.0.1:8000/", chat.url)
    env = {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}", "WSIFY_EVENTS_QUEUE": "1", **({"WSIFY_AUTHORIZER_KEY": key} if key else {})}
    try:
        server = Remote(port)
        running = shell.start(text, env)
        listens(running, port)
        chat.start()
        join = lambda name: server.ws(f"/ws?name={name}", protocols="wsify.v1")
        ann = join("ann")
        hears_online(ann, "ann")
        names = ["ann", "ben", "cat", "dan", "eli", "fay"]
        crowd = [join(name) for name in names[1:]]
        hears_online(ann, *names)

        # A call that comes again changes nothing. One that is not signed is refused.
        node = ann.welcome["connection"].split("-")[0]
        again = {"node": node, "events": [{"seq": 1, "event": "disconnected", "time": "", "connection": {"id": ann.welcome["connection"]}}]}
        body, now = json.dumps(again).encode(), int(time.time())
        signature = f"t={now},v1={hmac.new((key or '').encode(), f'{now}.'.encode() + body, 'sha256').hexdigest()}"
        assert posted(chat.url, body, signature) == 200
        hears_online(ann, *names)
        assert posted(chat.url, body, None) == (401 if key else 200)

        # The backend hangs, and events are dropped: it asks for the list.
        os.kill(chat.process.pid, signal.SIGSTOP)
        for left in range(len(crowd), 0, -1):
            # In a turn of its own: one is in the call, one may wait, and the others are too many.
            crowd.pop().hang_up()
            until(lambda: server.metric('wsify_connections{kind="websocket"}') == left, "it is gone")
        until(lambda: server.metric("wsify_events_dropped_total") > 0, "an event is dropped")
        os.kill(chat.process.pid, signal.SIGCONT)
        hears_online(ann, "ann")

        # The server crashes, and the next one begins with 1.
        running.finish()
        listens(shell.start(text, env), port)
        eve = join("eve")
        hears_online(eve, "eve")

        # Only names are admitted, and a name is not another's.
        for target in ("/ws", "/ws?name=", "/ws?name=%3Cb%3E", "/ws?name=" + "x" * 21):
            assert server.knock(target).response().status == 403, target
        eve.say(command("broadcast", "chat", '{"from":"eve","text":"hi"}')).hears('{"channel":"chat","content":{"from":"eve","text":"hi"}}')
        for verb, channel, content in (
            ("broadcast", "chat", '{"from":"ann","text":"hi"}'), ("broadcast", "chat", '["eve"]'), ("broadcast", "chat", None),
            ("broadcast", "online", "[]"), ("leave", "online", None), ("join", "other", None),
        ):
            eve.fails(command(verb, channel, content, id=1), "not_authorized", 1)
    finally:
        chat.kill()


def test_wscat_with_an_authorizer(serve, shell, listens):
    play(block("wscat_with_an_authorizer"), serve(auth=start_authorizer("py", shell, listens)).port)


@pytest.mark.parametrize("language", AUTHORIZERS)
def test_with_an_authorizer(language, shell, listens):
    """Each of the four, with wsify started by the line that is printed."""
    url = start_authorizer(language, shell, listens)
    first = deploy(f"authorizer.{language}").read_text().splitlines()[0]
    assert AUTHORIZERS[language][0].split()[0] in first, "the file says how to run it"
    port = free_port()
    (line,) = commands("with_an_authorizer")
    process = shell.start(line.replace("http://127.0.0.1:8000/", url), {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"})
    listens(process, port)
    server = Remote(port)
    for target in ("/ws", "/ws?token=", "/ws?token=constructor", "/ws?token=__proto__", "/ws?token=abcd"):
        assert server.knock(target).response().status == 403, target
    ws = server.ws("/ws?token=abc")
    ws.join("hello", "user:42").broadcast("hello", "1")
    for channel in ("user:7", "user:", "hell", "secret"):
        ws.say(command("join", channel, id=1))
        assert until_error(ws, "not_authorized")["message"] == "not for user 42"
    ws.leave("hello")
    # The answer to the connect has named the channels that need no question.
    assert server.metric("^wsify_authorizer_unasked_total") == 3


@pytest.mark.parametrize("language", [language for language in AUTHORIZERS if language != "php"])
def test_batches(language, shell, listens):
    """These understand batches; what one of them cannot read harms no other question for long."""
    url = start_authorizer(language, shell, listens)
    (line,) = commands("batches")
    port = free_port()
    listens(shell.start(line.replace("http://127.0.0.1:8000/", url), {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"}), port)
    server = Remote(port)
    assert server.knock("/ws?token=abcd").response().status == 403
    crowd = [server.ws("/ws?token=abc").join("hello") for _ in range(12)]
    odd = ["1" * 5000, "[" * 2000 + "]" * 2000, '"\\ud800"']
    for number, ws in enumerate(crowd):
        ws.say(command("broadcast", "secret", (odd[number : number + 1] or ["1"])[0], id=number))
    for ws in crowd[len(odd) :]:
        assert until_error(ws, "not_authorized")["message"] == "not for user 42"
    assert posted(url, b"[nonsense", None) == 500
    assert posted(url, b"nonsense", None) == 400


@pytest.mark.parametrize("language", AUTHORIZERS)
def test_signed_questions(language, shell, listens):
    """Each of the four accepts a correct and recent signature, and nothing else."""
    (line,) = commands("signed_questions")
    key = re.match(r"WSIFY_AUTHORIZER_KEY=(\S+) ", line)[1]
    url = start_authorizer(language, shell, listens, key)
    for keys, status in ((key, 101), (f"old,{key}", 101), (f"{key},new", 101), ("old,new", 403), ("", 403)):
        port = free_port()
        here = line.replace("http://127.0.0.1:8000/", url).replace(f"={key} ", f"={keys} ")
        listens(shell.start(here, {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"}), port)
        assert Remote(port).knock("/ws?token=abc").response().status == status, keys

    body = b'{"command":"connect","args":{},"connection":{"query":{"token":["abc"]}}}'
    forged = body.replace(b"args", b"arg5")
    code = lambda t, text=body, key=key: hmac.new(key.encode(), f"{t}.".encode() + text, "sha256").hexdigest()
    now = int(time.time())
    right = code(now)
    for header, status in (
        (f"t={now},v1={right}", 200),
        (f"t={now},v1={code(now, key='old')},v1={right}", 200),
        (f"t={now},v1={right},v2=abc", 200),
        *((f"t={now + skew},v1={code(now + skew)}", 200) for skew in (-30, 30)),
        *((f"t={now + skew},v1={code(now + skew)}", 401) for skew in (-3600, -90, 120, 3600)),
        (None, 401), ("", 401), ("t=,v1=", 401), (f"t={now}", 401), (f"t={now},v1=", 401), (f"v1={right}", 401), (f"v1={right},t={now}", 401),
        (f"t={now},v1={code(now, key='old')}", 401), (f"t={now},v1={code(now, key='')}", 401), (f"t={now},v1={code(now, forged)}", 401),
        (f"t={now - 1},v1={right}", 401), (f"t={now},t={now - 3600},v1={code(now - 3600)}", 401), (f"t={now},v1={right[:-1]}", 401),
        (f"t={now},v1={right[:-1]}{'0' if right[-1] != '0' else '1'}", 401), (f"t={now},v1={right[:-1]}\xe9", 401), (f"t=\xb2,v1={right}", 401),
        (f"t={'9' * 5000},v1={code('9' * 5000)}", 401), (f"t=-1,v1={code(-1)}", 401), (f"t=nan,v1={code('nan')}", 401),
    ):
        assert posted(url, body, header) == status, header
    assert posted(url, b"not JSON", "t=1,v1=0") == 401


def posted(url, body, signature):
    """The status of the answer to such a question."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=DEADLINE)
    try:
        headers = {"Content-Type": "application/json"} | ({} if signature is None else {"X-Wsify-Signature": signature.encode("latin-1")})
        connection.request("POST", "/", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def until_error(ws, code):
    while "error" not in (heard := ws.hear()):
        pass
    error = json.loads(heard)["error"]
    assert error["code"] == code, heard
    return error


class Remote(Server):
    """A running server that the test has started in another way."""

    def __init__(self, port):
        self.port, self.dialled = port, []


# -- README: setting up


def test_set_up(shell, listens):
    """With the profile that is built already."""
    (line,) = commands("set_up")
    assert line == "cargo run --release"
    if not (ROOT / "target" / "release" / "wsify").exists():
        line = line.replace(" --release", "")
    port = free_port()
    listens(shell.start(line, {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"}, cwd=ROOT), port)
    assert "-- --listen-addr :8080" in block("set_up")


def test_run_the_tests():
    (line,) = commands("run_the_tests")
    assert os.access(ROOT / line, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / line], check=True)


def test_publish(serve, shell):
    server = serve()
    ws = server.ws().join("hello")
    need("curl")
    publishes(shell.run(on(server.port, block("publish"))))
    ws.hears('"from the backend"')


def test_leave(serve):
    server = serve()
    ws = server.ws().join("hello")
    ws.say(block("leave").removeprefix("> ").strip()).is_quiet()
    server.publish("hello", "1")
    ws.is_quiet()


def test_playground(shell, listens):
    port = free_port()
    listens(shell.start(block("playground"), {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"}), port)
    page = Remote(port).call("GET", "/")
    assert page.status == 200 and b"<!doctype html>" in page.body


def test_broadcast_with_a_key(serve, shell):
    server = serve("--broadcasting-key", "KEY")
    ws = server.ws().join("hello")
    need("curl")
    publishes(shell.run(on(server.port, block("broadcast_with_a_key"))))
    ws.hears('{"any":"JSON"}')


def users(serve, authorizer):
    authorizer.on(with_fields(user="42"), "connect")
    return serve("--broadcasting-key", "KEY", auth=authorizer)


def test_broadcast_to_a_user(serve, authorizer, shell):
    server = users(serve, authorizer)
    ws = server.ws(protocols="wsify.v1")
    need("curl")
    publishes(shell.run(on(server.port, block("broadcast_to_a_user"))))
    ws.hears('{"user":"42","content":{"any":"JSON"}}')


def test_disconnect(serve, authorizer, shell):
    server = users(serve, authorizer)
    clients = [server.ws(), server.ws()]
    need("curl")
    assert shell.run(on(server.port, block("disconnect"))).stdout == '{"connections":2}'
    for ws in clients:
        assert ws.is_closed(4001) == "logged out"


def test_join_and_leave(serve, authorizer, shell):
    server = users(serve, authorizer)
    ws = server.ws(protocols="wsify.v1")
    need("curl")
    assert shell.run(on(server.port, block("join_and_leave"))).stdout == '{"connections":1}' * 2
    ws.hears('{"joined":"hello"}', '{"left":"hello"}')


def test_lists(serve, authorizer, shell):
    server = users(serve, authorizer)
    ws = server.ws(protocols="wsify.v1").join("hello", "other")
    need("curl")
    out = shell.run(on(server.port, block("lists"))).stdout
    channels, connections = out[: out.index("}]}") + 3], out[out.index("}]}") + 3 :]
    assert json.loads(channels) == {"channels": [{"channel": "hello", "members": 1}]}
    (one,) = json.loads(connections)["connections"]
    assert one["id"] == ws.welcome["connection"] and one["channels"] == ["hello", "other"]


# -- docs/protocol.md


def test_browser_client(serve, shell):
    """The module by the lines that are printed: it joins, hears, and joins again after the server has stopped."""
    node = need("node", "nodejs")
    if not (CLIENTS / "node_modules" / "ws").is_dir():
        absent("the ws package is not installed (npm ci in tests/clients)")
    server = serve("--drain-timeout", "300ms")
    program = shell.cwd / "page.mjs"
    (shell.cwd / "wsify.mjs").write_text(deploy("wsify.js").read_text())
    text = block("browser_client").replace("./wsify.js", "./wsify.mjs")
    text = text.replace("wss://ws.example.com", f"ws://127.0.0.1:{server.port}")
    # Node 20 has no WebSocket of its own.
    ws = (CLIENTS / "node_modules" / "ws" / "wrapper.mjs").as_uri()
    program.write_text(f'import {{ WebSocket }} from "{ws}";\nglobalThis.WebSocket ??= WebSocket;\n{text}')
    page = shell.start(f"{node} {program}")
    until(lambda: server.metric("wsify_memberships") == 1, "it joins")
    server.publish("hello", '{"n":1}')
    page.prints("hello { n: 1 }")
    server.signal(15)
    assert server.status() == 0
    again = serve(listen=[f"127.0.0.1:{server.port}"])
    again.port = server.port
    until(lambda: again.process.poll() is None and memberships(again) == 1, "it comes back and joins again")
    again.publish("hello", "2")
    page.prints("hello 2")


def memberships(server):
    try:
        return server.metric("wsify_memberships")
    except OSError:
        return None


# -- docs/operating.md


def test_install(shell):
    (line,) = commands("install")
    (shell.cwd / "target" / "release").mkdir(parents=True)
    (shell.cwd / "target" / "release" / "wsify").write_bytes(b"x")
    done = shell.run(line.replace("/usr/local/bin/", "."))
    assert done.returncode == 0 and os.access(shell.cwd / "wsify", os.X_OK), done.stderr


def test_typo(shell):
    line, expected = block("typo").splitlines()
    done = shell.run(line.removeprefix("$ "))
    assert done.returncode == 2 and done.stderr.startswith(expected.removesuffix("...")), done.stderr


def test_check(serve, shell, listens):
    url, taken = start_authorizer("py", shell, listens), serve()
    line, *expected = block("check").splitlines()
    line = line.removeprefix("$ ").replace("http://127.0.0.1:8000/", url)
    done = shell.run(line, {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{taken.port}"})
    general = lambda text: re.sub(r"\d+ ms", "N ms", text.replace(url, "URL").replace(f"127.0.0.1:{taken.port}", ":3000"))
    expected = [general(text.replace("http://127.0.0.1:8000/", url)) for text in expected]
    assert (done.returncode, general(done.stdout).splitlines()) == (1, expected)


def test_systemctl(serve, shell):
    lines = commands("systemctl")
    assert all("wsify" in line for line in lines[:3]) and deploy("wsify.service").is_file()
    need("curl")
    done = shell.run(on(serve().port, lines[-1]))
    assert done.stdout.startswith("HTTP/1.1 200 ") and '{"status":"ok"}' in done.stdout, done


def test_replace(serve, shell):
    """The commands, for a server that was started from the file that they replace."""
    install, reload = (line.removeprefix("sudo ") for line in commands("replace"))
    shell.run("mkdir -p target/release bin")
    shutil.copy(binary(), shell.cwd / "target/release/wsify")
    install = install.replace("/usr/local/bin/", "bin/")
    assert shell.run(install).returncode == 0
    assert reload == "systemctl reload wsify"
    unit = deploy("wsify.service").read_text()
    (replace,) = re.findall("^ExecReload=(.*)$", unit, re.MULTILINE)
    server = serve(program=shell.cwd / "bin/wsify")
    ws = server.ws().join("hello")
    assert shell.run(install).returncode == 0
    assert shell.run(replace.replace("$MAINPID", str(server.pid))).returncode == 0
    page = (ROOT / "docs" / "operating.md").read_text()
    shown = json.loads(re.search('^{"time".*"stood_still_ms".*$', page, re.MULTILINE)[0])
    logged = lambda: [entry for entry in server.log() if entry["message"] == shown["message"]]
    (entry,) = until(logged, "the program is replaced")
    assert list(entry) == list(shown) and entry["connections"] >= 1, entry
    ws.is_quiet()


def test_publish_with_the_key_of_the_unit(serve, shell):
    """The server has the variables of the environment file."""
    lines = [line for line in deploy("wsify.env").read_text().splitlines() if not line.startswith("#")]
    env = dict(line.split("=", 1) for line in lines)
    server = serve(env=env)
    need("curl")
    publishes(shell.run(on(server.port, block("publish_with_the_key_of_the_unit"))))


def test_docker():
    """There is no image registry to build from: what the commands name is there."""
    build, start = commands("docker")
    dockerfile = (ROOT / re.search(r"-f (\S+)", build)[1]).read_text()
    assert 'ENTRYPOINT ["/wsify"]' in dockerfile and "EXPOSE 3000" in dockerfile
    assert "-t wsify" in build and " wsify --authorizer-url " in start and "3000:3000" in start
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "target" in ignored and not {"src", "benches", "tests", "Cargo.lock"} & set(ignored), "the manifest names these"


def test_sysctl(shell):
    (line,) = commands("sysctl")
    name, value = line.split()[-1].split("=")
    assert value == "65535" and os.path.exists(f"/proc/sys/{name.replace('.', '/')}")


# -- docs/scaling.md


@pytest.fixture
def redis():
    redis = Redis()
    yield redis
    redis.kill()


def test_redis_node(redis, shell, listens):
    (line,) = commands("redis_node")
    nodes = []
    for _ in range(2):
        port = free_port()
        here = line.replace("redis://user:password@redis.internal:6379/0", redis.dsn)
        listens(shell.start(here, {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"}), port)
        nodes.append(Remote(port))
        until(lambda: nodes[-1].call("GET", "/health").status == 200, "it is with redis")
    ws = nodes[0].ws().join("hello")
    nodes[1].publish("hello", "1")
    ws.hears("1")


def test_sentinel_node(shell, listens, tmp_path):
    (line,) = commands("sentinel_node")
    group = Watched(tmp_path / "redis", replicas=0, sentinels=3)
    try:
        speaks_through(line.replace("redis-sentinel://user:password@s1:26379,s2:26379,s3:26379/mymaster", group.dsn), shell, listens)
    finally:
        group.kill()


def test_cluster_node(shell, listens, tmp_path):
    (line,) = commands("cluster_node")
    group = Cluster(tmp_path / "redis", replicas=0)
    try:
        speaks_through(line.replace("redis-cluster://user:password@n1:6379,n2:6379", group.dsn), shell, listens)
    finally:
        group.kill()


def speaks_through(line, shell, listens):
    """A node starts, and a channel works."""
    port = free_port()
    listens(shell.start(line, {"WSIFY_LISTEN_ADDR": f"127.0.0.1:{port}"}), port)
    node = Remote(port)
    until(lambda: node.call("GET", "/health").status == 200, "it is with redis")
    ws = node.ws().join("hello")
    node.publish("hello", "1")
    ws.hears("1")


def test_systemctl_four(shell):
    (line,) = commands("systemctl_four")
    done = shell.run(line.replace("sudo systemctl", "echo"))
    assert done.stdout.split()[-4:] == [f"wsify@{n}" for n in range(1, 5)]
    assert deploy("wsify@.service").is_file()


def test_an_address_for_each_process(shell, listens):
    """Two processes share one address, and each has one of its own."""
    line = block("an_address_for_each_process").strip().removeprefix("ExecStart=/usr/local/bin/")
    shared, own = free_port(), [free_port(), free_port()]
    for n in (0, 1):
        here = line.replace(":3000", f"127.0.0.1:{shared}").replace("127.0.0.1:3100%i", f"127.0.0.1:{own[n]}")
        listens(shell.start(here), own[n])
    for port in (*own, shared):
        assert Remote(port).call("GET", "/health").status == 200


# -- docs/observing.md


def test_tap(serve, shell, listens):
    """The events that are printed, with the same fields."""
    server = serve(auth=start_authorizer("py", shell, listens))
    ann = server.ws("/ws?user=42&token=abc")
    need("curl")
    line, *rest = block("tap").splitlines()
    process = shell.start(on(server.port, line.removeprefix("$ ")))
    expected = [text for text in rest if text.startswith(("event", "data"))]
    heard = lambda: [text for text in process.lines if text.startswith(("event", "data"))]
    until(lambda: len(heard()) >= 6, lambda: f"three events in {heard()}")
    ann.say(command("join", "Hello"))
    until(lambda: len(heard()) >= len(expected), lambda: f"all events in {heard()}")
    shape = lambda text: text if text.startswith("event") else list(json.loads(text.removeprefix("data: ")))
    assert [shape(text) for text in heard()] == [shape(text) for text in expected]


def test_metrics(serve, shell):
    need("curl")
    done = shell.run(on(serve().port, block("metrics")))
    assert "\nwsify_connections{" in done.stdout


# -- docs/performance.md and docs/hacking.md: commands that take too long are not run, but their targets and files exist


def named(kind):
    """The targets of this kind that Cargo.toml names."""
    return re.findall(rf'\[\[{kind}\]\]\nname = "(\w+)"', (ROOT / "Cargo.toml").read_text())


def test_bench_versus():
    (line,) = commands("bench_versus")
    assert line.split()[-1] in named("bench")


def test_benches():
    for line in commands("benches"):
        assert re.match(r"cargo bench --bench (\w+)", line)[1] in named("bench"), line
    assert (ROOT / "benches" / "versus" / "client" / "fanout.rs").is_file()


def test_cargo():
    targets = {path.parent.name for path in (ROOT / "tests").glob("*/main.rs")} | set(named("test"))
    profiles = re.findall(r"\[profile\.(\w+)\]", (ROOT / "Cargo.toml").read_text())
    for line in commands("cargo"):
        for test in re.findall(r"--test (\w+)", line):
            assert test in targets, line
        for profile in re.findall(r"--profile (\w+)", line):
            assert profile in profiles, line
        for module in re.findall(r"--lib (\S+)", line):
            assert (ROOT / "src" / f"{module.replace('::', '/')}.rs").is_file(), line
        if line.startswith("tests/"):
            assert os.access(ROOT / line.split()[0], os.X_OK), line
        if line.startswith("tests/") and "--" in line:
            done = subprocess.run([ROOT / line.split()[0], "--help"], capture_output=True, text=True, timeout=DEADLINE, check=False)
            assert done.returncode == 0, done.stderr
            for flag in re.findall(r"--\w+", line):
                assert flag in done.stdout, line
    readers = [ROOT / "tests" / "hub" / "seeds.rs", ROOT / "tests" / "source" / "mutants.rs"]
    read = "".join(path.read_text() for path in readers)
    for variable in {name for line in commands("cargo") for name in re.findall(r"WSIFY_[A-Z]+", line)}:
        assert f'"{variable}"' in read, f"docs name {variable}, which no test reads"


def test_pytest(shell):
    (line,) = commands("pytest")
    if not (ROOT / "target" / "venv").is_dir():
        absent("target/venv is not there (tests/run makes it)")
    done = shell.run(f"{line} --collect-only", cwd=ROOT)
    assert done.returncode == 0 and "join" in done.stdout, done.stdout + done.stderr


def test_fuzz():
    targets = {path.stem for path in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs")}
    for line in commands("fuzz"):
        script, *arguments = line.split()
        assert os.access(ROOT / script, os.X_OK), line
        for argument in arguments:
            assert argument.isdigit() or argument in targets or (ROOT / argument).exists(), line


def test_echo():
    (line,) = commands("echo")
    assert '[[example]]\nname = "echo"' in (ROOT / "Cargo.toml").read_text() and "--example echo" in line


def test_autobahn(shell):
    """The specification that it writes; the image cannot be had here."""
    (shell.cwd / "target").mkdir()
    text = block("autobahn")
    assert "docker run" in text
    done = shell.run(text[: text.index("docker run")])
    assert done.returncode == 0, done.stderr
    spec = json.loads((shell.cwd / "target" / "autobahn-spec.json").read_text())
    assert spec["servers"][0]["url"].split("//")[1] in block("echo")
