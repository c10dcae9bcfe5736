"""Several servers share their channels through redis, and redis goes down (docs/scaling.md#redis)."""

import json
import signal
import subprocess
import threading
import time
from urllib.parse import quote

import pytest

from harness.certificates import Certificates
from harness.net import DEADLINE, is_error, request, until
from harness.redis import Old, Redis, Scripted, health, is_down, is_up
from harness.server import free_port, run
from harness.tools import need
from harness.ws import command, fresh


@pytest.fixture
def start(begin):
    """Starts a redis of the test's own."""
    return lambda *arguments, **more: begin(Redis, *arguments, **more)


def post(server, channel, content):
    return server.post(f'{{"channel":{json.dumps(channel)},"content":{content}}}')


# -- channels are shared


@pytest.mark.parametrize("count", [2, 3])
def test_nodes_share_their_channels(redis, node, count):
    nodes = [node(redis.dsn) for _ in range(count)]
    members = [n.ws().join("x") for n in nodes]
    v1 = nodes[0].ws(protocols="wsify.v1").join("x")
    for number, n in enumerate(nodes):
        n.ws().broadcast("x", f"[{number}]")
        n.publish("x", f'{{"from": {number}}}')
    for member in members:
        for number in range(count):
            member.hears(f"[{number}]", f'{{"from": {number}}}')
        member.is_quiet()  # each exactly once
    for number in range(count):
        v1.hears(f'{{"channel":"x","content":[{number}]}}', f'{{"channel":"x","content":{{"from": {number}}}}}')
    v1.is_quiet()


def test_all_members_hear_the_same_order_and_each_publisher_in_its_own(redis, node):
    nodes = [node(redis.dsn) for _ in range(3)]
    members = [n.ws().join("x") for n in nodes]
    count = 300

    def publish(number):
        ws = nodes[number].ws()
        for i in range(count):
            ws.say(command("broadcast", "x", f"[{number},{i}]"))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    heard = [[json.loads(member.hear()) for _ in range(3 * count)] for member in members]
    for thread in threads:
        thread.join(DEADLINE)
    assert heard[0] == heard[1] == heard[2]
    for number in range(3):
        assert [i for n, i in heard[0] if n == number] == list(range(count))
    for member in members:
        member.is_quiet()


def test_messages_published_after_the_answer_to_a_join_are_heard(redis, node):
    one, two = node(redis.dsn), node(redis.dsn)
    member, publisher = one.ws(), two.ws()
    for number in range(50):
        channel = fresh()
        member.join(channel)
        publisher.broadcast(channel, str(number))
        member.hears(str(number))
        member.leave(channel)
        publisher.broadcast(channel, '"late"')
    member.is_quiet()


def test_a_broadcast_is_answered_when_it_has_come_back(redis, node):
    server = node(redis.dsn)
    member = server.ws().join("x")
    for number in range(50):
        assert server.publish("x", str(number)).body == b""
    member.hears(*map(str, range(50)))


# -- v3's wire


def test_redis_cli_publishes(redis, node):
    member = node(redis.dsn).ws().join("x")
    done = subprocess.run([need("redis-cli", "redis-tools"), "-p", str(redis.port), "publish", "x", '{"b":1.50, "a":  2}'],
                          capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout.strip() in ("1", "(integer) 1")
    member.hears('{"b":1.50, "a":  2}').is_quiet()


@pytest.mark.parametrize("prefix", ["", "app:", "ä/*?[x]"])
def test_the_wire_is_v3s(redis, node, prefix):
    server = node(redis.dsn, "--broker-prefix", prefix)
    wire = redis.wire()
    wire.ask("SUBSCRIBE", prefix + "kanal-ö")
    content = '{"z":1.0000000000000000001,"a" : "\\u00e4ö\\u0000", "e":[ ]}'
    server.ws().broadcast(" kanal-ö ", content)
    server.publish("kanal-ö", content)
    for _ in range(2):
        assert wire.read() == [b"message", (prefix + "kanal-ö").encode(), content.encode()]
    member = server.ws().join("kanal-ö")
    assert redis.publish(prefix + "kanal-ö", content) == 2
    assert redis.publish("elsewhere:kanal-ö", "1") == 0
    member.hears(content).is_quiet()
    wire.close()


def test_prefixes_keep_apart(redis, node):
    one, two = node(redis.dsn, "--broker-prefix", "one:"), node(redis.dsn, "--broker-prefix", "two:")
    members = [one.ws().join("x"), two.ws().join("x")]
    one.ws().broadcast("x", "1")
    two.ws().broadcast("x", "2")
    members[0].hears("1").is_quiet()
    members[1].hears("2").is_quiet()


def test_content_that_is_not_json_is_dropped_counted_and_logged_once(redis, node):
    server = node(redis.dsn)
    member = server.ws().join("x")
    hostile = ["", "no", "{", '{"a":1}}', "1 2", "NaN", "'a'", b"\xff", b'"\xff"', '"\n"', b"\x00", "[1,]", "01"]
    for content in hostile:
        assert redis.publish("x", content) == 1
    redis.publish("x", '"fine"')
    member.hears('"fine"').is_quiet()
    assert server.metric(r'wsify_broker_messages_total\{outcome="not_json"\}') == len(hostile)
    server.logged("not JSON")
    assert sum("not JSON" in line for line in server.out) == 1, server.out


def test_a_content_that_clients_may_send_is_not_too_large_for_the_links(start, node):
    redis = start("--client-output-buffer-limit", "pubsub 0 0 0")
    server = node(redis.dsn, "--max-message-size", "80MiB")
    member = server.ws().join("x")
    content = '"' + "x" * (70 << 20) + '"'
    server.publish("x", content)
    assert member.hear() == content
    assert server.metric("wsify_broker_reconnections_total") == 0


def test_large_contents(redis, node):
    one, two = node(redis.dsn), node(redis.dsn)
    member = two.ws().join("x")
    content = '"' + "x" * 900_000 + '"'
    for _ in range(5):
        one.publish("x", content)
        member.hears(content)


# -- links and subscriptions


def test_two_connections_however_many_clients(redis, node):
    server = node(redis.dsn)
    clients = [server.ws().join(f"c{n}", "all") for n in range(30)]
    for number, client in enumerate(clients):
        client.broadcast(f"c{number}-other", "1")
    names = sorted(client["name"] for client in redis.clients())
    assert names == ["wsify-listens", "wsify-publishes"]
    assert len(redis.ask("CLIENT", "LIST").splitlines()) == 3  # and the one that asks


def test_a_channel_is_subscribed_while_it_has_a_member(redis, node):
    server = node(redis.dsn)
    one, two = server.ws(), server.ws()
    assert redis.subscribers("x") == 0
    one.join("x")
    two.join("x")
    assert redis.subscribers("x") == 1
    one.leave("x")
    assert redis.subscribers("x") == 1
    two.hang_up()
    until(lambda: redis.subscribers("x") == 0, "the last member's end ends the subscription")
    one.join("x").leave("x").join("x")
    redis.publish("x", "1")
    one.hears("1").is_quiet()
    assert redis.subscribers("x") == 1


# -- authentication and the DSN


def test_a_password(start, node):
    redis = start("--requirepass", "secret")
    redis.auth = ("secret",)
    server = node(f"redis://:secret@127.0.0.1:{redis.port}")
    server.ws().join("x").say(command("broadcast", "x", "1")).hears("1")


def test_a_user_and_a_percent_encoded_password(redis, node):
    user, password = "us:er", "p@ss/w?#%ö:"
    assert redis.ask("ACL", "SETUSER", user, "on", ">" + password, "&app:*", "+publish", "+subscribe", "+unsubscribe", "+ping") == b"OK"
    redis.ask("ACL", "SETUSER", "default", "resetpass", ">root")
    redis.auth = ("root",)
    server = node(f"redis://{quote(user, '')}:{quote(password, '')}@127.0.0.1:{redis.port}", "--broker-prefix", "app:")
    server.ws().join("x").say(command("broadcast", "x", "1")).hears("1")


@pytest.mark.parametrize("credentials", ["", ":wrong@", "nobody:wrong@"])
def test_a_wrong_password_is_logged_and_not_shown(start, serve, credentials):
    redis = start("--requirepass", "right")
    server = serve("--broker-driver", "redis", "--broker-dsn", f"redis://{credentials}127.0.0.1:{redis.port}")
    is_down(server)
    server.logged("password")
    assert not any("wrong" in line for line in server.out), server.out
    server.ws().fails(command("broadcast", "x", "1", id=1), "unavailable", 1)
    redis.auth = ("right",)
    assert redis.ask("CONFIG", "SET", "requirepass", "wrong" if "wrong" in credentials else "") == b"OK"
    if "nobody" not in credentials:
        is_up(server)


def speaks(server, channel="x"):
    server.ws().join(channel).say(command("broadcast", channel, "1")).hears("1")


def test_a_password_is_sent_to_a_redis_that_has_none(redis, node):
    speaks(node(f"redis://:whatever@127.0.0.1:{redis.port}"))


def test_a_password_is_sent_alone_to_a_redis_without_users(serve):
    old = Old("secret")
    try:
        is_up(serve("--broker-driver", "redis", "--broker-dsn", f"redis://:secret@127.0.0.1:{old.port}"))
        stranger = serve("--broker-driver", "redis", "--broker-dsn", f"redis://:other@127.0.0.1:{old.port}")
        stranger.logged("refuses the user and the password")
        named = serve("--broker-driver", "redis", "--broker-dsn", f"redis://default:secret@127.0.0.1:{old.port}")
        named.logged("refuses the user and the password")
    finally:
        old.stop()


@pytest.mark.parametrize("password", ["", "secret"])
def test_a_redis_that_has_too_many_clients_says_so(start, serve, password):
    redis = start("--maxclients", "4", *(["--requirepass", password] if password else []))
    redis.auth = (password,) if password else None
    others = [redis.wire() for _ in range(4)]
    dsn = f"redis://:{password}@127.0.0.1:{redis.port}"
    server = serve("--broker-driver", "redis", "--broker-dsn", dsn)
    is_down(server)
    assert "max number of clients" in json.loads(server.logged("broker is down"))["reason"]
    status, out, _ = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--broker-driver", "redis", "--broker-dsn", dsn)
    assert status == 1 and "max number of clients" in out, out
    for wire in others:
        wire.close()
    is_up(server)


def test_a_user_without_a_password_is_ignored(redis, node):
    server = node(f"redis://nobody@127.0.0.1:{redis.port}")
    speaks(server)
    assert "the user" in json.loads(server.logged("have no effect"))["parts"]


def test_a_unix_socket(start, node, tmp_path):
    redis = start("--unixsocket", str(tmp_path / "redis.sock"), "--requirepass", "secret")
    redis.auth = ("secret",)
    for dsn in (f"unix://:secret@{tmp_path}/redis.sock?db=7", f"UNIX://default:secret@{tmp_path}/redis.sock?db=7"):
        server = node(dsn)
        assert {client["db"] for client in redis.clients()} == {"7"}
        speaks(server)
        assert not any("secret" in line for line in server.out), server.out
        server.signal(signal.SIGKILL)
        until(lambda: not redis.clients(), "its links are gone")


def test_a_unix_socket_that_is_not_there_yet(start, serve, tmp_path):
    path = tmp_path / "redis.sock"
    server = serve("--broker-driver", "redis", "--broker-dsn", f"unix://{path}")
    is_down(server)
    server.logged(str(path))
    start("--unixsocket", str(path))
    is_up(server)


def test_parameters_of_the_go_client_are_accepted(redis, node):
    options = "pool_size=10&read_timeout=3s&protocol=3&client_name=me&db=4"
    server = node(f"REDIS://:{redis.port}/2/?{options}")
    assert {client["db"] for client in redis.clients()} == {"4"}
    speaks(server)
    assert json.loads(server.logged("have no effect"))["parts"] == "pool_size, read_timeout, protocol, client_name"


def test_a_dsn_without_its_driver_is_ignored(serve):
    is_up(serve("--broker-dsn", "nonsense"))


def test_a_database_is_selected(redis, node):
    server = node(f"{redis.dsn}/7")
    assert {client["db"] for client in redis.clients()} == {"7"}
    server.ws().join("x").say(command("broadcast", "x", "1")).hears("1")


def test_tls(start, node, serve, tmp_path):
    certificates = Certificates(tmp_path)
    redis = start(*(part for line in certificates.redis_lines for part in f"--{line}".split(" ", 1)), tls=True)
    trusted = certificates.trusted
    for host in ("localhost", "127.0.0.1"):
        server = node(f"rediss://{host}:{redis.tls_port}", env=trusted)
        server.ws().join("x").say(command("broadcast", "x", '"' + "y" * 300_000 + '"')).hears('"' + "y" * 300_000 + '"')
    stranger = serve("--broker-driver", "redis", "--broker-dsn", f"rediss://localhost:{redis.tls_port}")
    is_down(stranger)
    stranger.logged("certificate")


# -- while redis is down


def test_unreachable_at_start(start, serve):
    port = free_port()
    server = serve("--broker-driver", "redis", "--broker-dsn", f"redis://127.0.0.1:{port}")
    is_down(server)
    server.logged("broker is down")
    assert server.metric("wsify_broker_up") == 0
    client = server.ws().join("x")
    client.fails(command("broadcast", "x", "1", id=1), "unavailable", 1)
    is_error(post(server, "x", "1"), 503, "unavailable")
    redis = start(port=port)
    is_up(server)
    until(lambda: redis.subscribers("x") == 1, "what was joined while it was down is subscribed")
    redis.publish("x", "2")
    client.hears("2").is_quiet()
    server.logged("broker is up")
    assert server.metric("wsify_broker_up") == 1


def test_redis_is_killed_and_comes_back(redis, node):
    one, two = node(redis.dsn), node(redis.dsn)
    members = [n.ws().join("x") for n in (one, two)]
    redis.kill()
    for server, member in zip((one, two), members):
        is_down(server)
        member.fails(command("broadcast", "x", "1", id=1), "unavailable", 1)
        is_error(post(server, "x", "1"), 503, "unavailable")
        member.join("later").leave("x")
        member.ping()  # members stay connected
    redis.start()
    for server in (one, two):
        is_up(server)
        downs = json.loads(server.logged("broker is up again"))
        assert any(key.endswith("ms") and value > 0 for key, value in downs.items() if isinstance(value, int)), downs
        assert server.metric("wsify_broker_reconnections_total") == 1
    assert redis.subscribers("later") == 2 and redis.subscribers("x") == 0
    one.publish("later", "2")
    for member in members:
        member.hears("2").is_quiet()


def test_acknowledged_messages_are_heard_though_redis_is_killed(redis, node):
    one, two = node(redis.dsn), node(redis.dsn)
    member = one.ws().join("x")
    acknowledged, failed, number = [], [], 0
    writers = (("one", one.ws()), ("two", two.ws()))
    for _ in range(3):
        batch = range(number, number + 300)
        number += 300
        for n in batch:
            for name, ws in writers:
                ws.say(command("broadcast", "x", json.dumps([name, n]), id=n))
        for n in batch:
            for name, ws in writers:
                answer = ws.answer(n)
                if answer != {"id": n, "ok": True}:
                    assert answer["error"]["code"] == "unavailable", answer
                (failed if "error" in answer else acknowledged).append([name, n])
            if n == batch[50]:
                redis.kill()  # while it is being published
        redis.start()
        is_up(one)
        is_up(two)
    assert len(acknowledged) >= 3 * 2 * 50 and failed
    one.publish("x", '"end"')
    heard = []
    while (content := json.loads(member.hear())) != "end":
        heard.append(content)
    assert len({tuple(h) for h in heard}) == len(heard), "none is heard twice"
    # redis does not report delivery to other servers, so only this server's member must have heard what it acknowledged.
    missed = [a for a in acknowledged if a[0] == "one" and a not in heard]
    assert missed == []
    for name in ("one", "two"):
        of = [n for publisher, n in heard if publisher == name]
        assert of == sorted(of)


@pytest.mark.parametrize("link", ["wsify-publishes", "wsify-listens"])
def test_one_link_is_killed(redis, node, link):
    server = node(redis.dsn)
    member = server.ws().join("x")
    victim = redis.link(link)
    assert redis.ask("CLIENT", "KILL", "ID", victim) == 1
    until(lambda: any(c["name"] == link and c["id"] != victim for c in redis.clients()), "the link is back")
    is_up(server)
    server.publish("x", "1")
    member.hears("1").is_quiet()
    assert len(redis.clients()) == 2


def test_a_pause_loses_nothing(redis, node):
    server = node(redis.dsn)
    member = server.ws().join("x")
    redis.ask("CLIENT", "PAUSE", "1000", "ALL")
    server.ws().broadcast("x", "1")
    member.hears("1").is_quiet()
    assert health(server)[0] == 200


def test_a_redis_that_hangs(redis, node):
    server = node(redis.dsn)
    member = server.ws().join("x")
    redis.hang()
    began = time.monotonic()
    is_error(post(server, "x", "1"), 503, "unavailable")
    assert 4 < time.monotonic() - began < 5 + DEADLINE / 2
    is_down(server)
    is_error(post(server, "x", "1"), 503, "unavailable")  # now at once
    member.ping()
    redis.go_on()
    is_up(server)
    server.publish("x", '"after"')
    heard = [member.hear()]
    while heard[-1] != '"after"':
        heard.append(member.hear())
    assert heard in (['"after"'], ["1", '"after"'])


def test_a_silent_redis_that_hangs_is_noticed(redis, node):
    server = node(redis.dsn)
    redis.hang()
    is_down(server, 10 + DEADLINE)
    redis.go_on()
    is_up(server)


def test_subscriptions_are_restored(redis, node):
    server = node(redis.dsn)
    members = [server.ws() for _ in range(5)]
    names = [f"c{n}" for n in range(500)]
    for number, name in enumerate(names):
        members[number % 5].join(name)
    redis.kill()
    is_down(server)
    redis.start()
    is_up(server)
    assert sum(redis.ask("PUBSUB", "NUMSUB", *names)[1::2]) == 500
    for name in names:
        redis.publish(name, f'"{name}"')
    for number, member in enumerate(members):
        member.hears(*(f'"{name}"' for name in names[number::5])).is_quiet()


def allow_nothing(redis):
    assert redis.ask("ACL", "SETUSER", "default", "resetchannels") == b"OK"


def allow_all(redis):
    assert redis.ask("ACL", "SETUSER", "default", "allchannels") == b"OK"


def unavailable(ws, content):
    """The error's message."""
    ws.say(content)
    error = json.loads(ws.hear())["error"]
    assert error["code"] == "unavailable", error
    return error["message"]


def test_a_channel_that_redis_refuses_once_is_subscribed_later(redis, node):
    """An ACL that is changed in two steps."""
    server = node(redis.dsn)
    members = [server.ws().join(f"c{n}") for n in range(20)]
    allow_nothing(redis)  # this ends the listening link
    is_down(server)
    server.logged("refuses a channel")
    assert server.metric("wsify_broker_up") == 0
    message = unavailable(members[0], command("broadcast", "c0", "1"))
    assert "NOPERM" in message, message
    response = post(server, "c0", "1")
    is_error(response, 503, "unavailable")
    assert "NOPERM" in response.json()["error"]["message"]
    allow_all(redis)
    is_up(server)
    assert server.metric("wsify_broker_up") == 1
    for n, member in enumerate(members):
        assert server.publish(f"c{n}", str(n)).body == b""
        member.hears(str(n)).is_quiet()


def test_some_of_the_restored_channels_are_refused(redis, node):
    server = node(redis.dsn)
    good, bad = server.ws().join("good:1", "good:2"), server.ws().join("bad")
    allow_nothing(redis)
    redis.ask("ACL", "SETUSER", "default", "&good:*", "&elsewhere")
    is_down(server)
    until(lambda: redis.subscribers("good:1") == 1 and redis.subscribers("good:2") == 1, "the others are subscribed")
    server.logged("refuses a channel")
    for channel in ("good:1", "good:2"):
        until(lambda: post(server, channel, "1").status == 201, "an allowed channel is published to")
        good.hears("1")
    assert server.publish("elsewhere", "1").body == b""  # it has no member here
    is_error(post(server, "bad", "1"), 503, "unavailable")
    is_down(server)
    bad.leave("bad")
    is_up(server)  # nothing is missed any more
    allow_all(redis)
    bad.join("bad")
    server.publish("bad", "2")
    bad.hears("2").is_quiet()


def test_the_error_of_a_refused_first_join_has_the_reason(redis, node):
    server = node(redis.dsn)
    client = server.ws()
    before = redis.link("wsify-listens")
    allow_nothing(redis)  # this ends the listening link
    until(lambda: any(c["name"] == "wsify-listens" and c["id"] != before for c in redis.clients()), "the link is back")
    is_up(server)
    until(lambda: "NOPERM" in unavailable(client, command("join", "x", id=1)), "redis refuses the channel")
    message = unavailable(client, command("join", "x", id=2))
    assert "NOPERM" in message and "another" not in message, message
    allow_all(redis)
    client.join("x")
    is_up(server)
    server.publish("x", "1")
    client.hears("1").is_quiet()


def test_the_error_of_a_refused_publication_has_the_reason(redis, node):
    server = node(redis.dsn)
    client = server.ws()
    redis.ask("ACL", "SETUSER", "default", "-publish")
    message = unavailable(client, command("broadcast", "x", "1", id=1))
    assert "NOPERM" in message and "publish" in message, message
    response = post(server, "x", "1")
    is_error(response, 503, "unavailable")
    assert "NOPERM" in response.json()["error"]["message"]
    assert "NOPERM" in json.loads(server.logged("refuses to publish"))["reason"]
    redis.ask("ACL", "SETUSER", "default", "+publish")
    server.publish("x", "1")


# -- a replica


def test_a_master_that_becomes_a_replica_and_back(start, redis, node):
    master = start()
    server = node(redis.dsn)
    member = server.ws().join("x")
    redis.ask("REPLICAOF", "127.0.0.1", master.port)
    is_down(server, 5 + DEADLINE)
    assert "replica" in json.loads(server.logged("broker is down"))["reason"]
    member.fails(command("broadcast", "x", "1", id=1), "unavailable", 1)
    is_error(post(server, "x", "1"), 503, "unavailable")
    redis.ask("REPLICAOF", "NO", "ONE")
    is_up(server)
    server.publish("x", "2")
    member.hears("2").is_quiet()


def test_a_replica_at_the_start(start, redis, serve):
    replica = start("--replicaof", "127.0.0.1", str(redis.port))
    server = serve("--broker-driver", "redis", "--broker-dsn", replica.dsn)
    is_down(server)
    assert "replica" in json.loads(server.logged("broker is down"))["reason"]
    status, out, _ = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--broker-driver", "redis", "--broker-dsn", replica.dsn)
    assert status == 1 and "replica" in out, out


def test_a_user_that_may_not_ask_for_the_role(redis, node):
    redis.ask("ACL", "SETUSER", "app", "on", ">secret", "allchannels", "+publish", "+subscribe", "+unsubscribe", "+ping", "-role")
    speaks(node(f"redis://app:secret@127.0.0.1:{redis.port}"))


# -- a stop while redis hangs


def test_a_stop_while_redis_hangs(redis, node):
    server = node(redis.dsn, "--drain-timeout", "2s")
    asking, joining, idle = (server.ws() for _ in range(3))
    redis.hang()
    asking.say(command("broadcast", "x", "1"))
    joining.say(command("join", "x"))
    backend = server.dial().send(request("POST", "/broadcast", [("Content-Type", "application/json")], b'{"channel":"x","content":1}'))
    idle.ping()  # what came before has been read
    server.signal(signal.SIGTERM)
    for ws in (asking, joining, idle):
        ws.is_closed(1012)
    is_error(backend.response(), 503, "draining")
    assert server.status() == 0
    redis.go_on()


def test_a_flood_from_redis_does_not_delay_other_connections(redis, node):
    server = node(redis.dsn)
    server.ws().join("quiet")
    member = server.ws().join("flood")
    wire = redis.wire()
    flood = b"*3\r\n$7\r\nPUBLISH\r\n$5\r\nflood\r\n$1\r\n1\r\n" * 20_000
    threading.Thread(target=wire.sock.sendall, args=(flood,), daemon=True).start()
    bystander = server.ws()
    for _ in range(50):
        bystander.ping()
    member.hears(*["1"] * 20_000).is_quiet()
    wire.close()


def test_a_channel_that_is_left_while_refused_is_not_subscribed_again(node):
    """No SUBSCRIBE follows its UNSUBSCRIBE."""
    broker = Scripted()
    try:
        server = node(broker.dsn)
        leaving, staying = server.ws().join("a"), server.ws().join("b")
        broker.refuses = True
        broker.asked.clear()
        broker.hang_up()
        until(lambda: any(len(channels) == 2 for _, channels in broker.asked), "both are asked for again")
        leaving.hang_up()
        until(lambda: (b"SUBSCRIBE", [b"b"]) in broker.asked, lambda: f"the other is asked for alone: {broker.asked}")
        is_up(server)
        staying.is_quiet()
        assert [name for name, channels in broker.asked if channels == [b"a"]] == [b"UNSUBSCRIBE"]
    finally:
        broker.stop()


def test_contents_of_other_nodes_are_compressed(node, redis):
    """Each node compresses for its members, if it is to."""
    nodes = [node(redis.dsn, "--compression", compression) for compression in ("on", "off")]
    members = [server.ws(deflate=True).join("a") for server in nodes]
    content = json.dumps(["a content"] * 100)
    for server in nodes:
        server.publish("a", content)
        for ws in members:
            ws.hears(content)
    assert [ws.compressed for ws in members] == [2, 0]
