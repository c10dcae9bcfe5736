"""Nodes on one redis: what backends ask of all of them, and what they do not believe (docs/scaling.md#nodes)."""

import hashlib
import hmac
import json
import signal
import threading
import time

import pytest

from harness.authorizer import named
from harness.net import DEADLINE, until
from harness.redis import is_down, is_up
from harness.redis_many import Cluster
from harness.ws import fresh

KEY = "some-long-random-text"
ALL = "wsify:{nodes}"
GAP = '{"gap":true}'
JSON = ("Content-Type", "application/json")


@pytest.fixture
def node(serve, authorizer, redis):
    """Starts a node whose clients name their user in the query."""
    authorizer.on(named, "connect")

    def start(*flags, key=KEY, dsn=None):
        given = ("--broadcasting-key", key) if key else ()
        server = serve("--broker-driver", "redis", "--broker-dsn", dsn or redis.dsn, *given, *flags, auth=authorizer)
        server.key = key
        server.client = lambda user, protocols="wsify.v1": server.ws(f"/ws?user={user}", protocols=protocols)
        is_up(server)
        return server

    return start


@pytest.fixture
def site(node):
    """Three nodes that know each other."""
    servers = [node() for _ in range(3)]
    for server in servers:
        knows(server, 3)
    return servers


def backend(server, method, target, body=None):
    headers = [JSON] if body is not None else []
    if server.key:
        headers.append(("Authorization", f"Bearer {server.key}"))
    return server.call(method, target, headers, json.dumps(body).encode() if body is not None else b"")


def answered(response):
    assert response.status == 200, response
    return json.loads(response.body)


def says(server, path, **body):
    return answered(backend(server, "POST", path, body))


def lists(server, target):
    return answered(backend(server, "GET", target))


def asked(count, answered=None):
    return {"asked": count, "answered": count if answered is None else answered}


def knows(server, count):
    """The node knows so many, and they answer it. A hanging one would be counted, too."""
    until(lambda: lists(server, "/channels?limit=1")["nodes"] == asked(count), f"{count} nodes know each other")


def dropped(server, reason):
    body = backend(server, "GET", "/metrics").body.decode()
    return float(body.partition(f'wsify_broker_hostile_total{{reason="{reason}"}} ')[2].split("\n")[0])


# -- on all nodes


def test_to_a_user_and_to_a_connection(site):
    user = fresh("user")
    clients = [server.client(user) for server in site]
    raw, other = site[2].client(user, None), site[1].client(fresh("user"))
    assert backend(site[0], "POST", "/broadcast", {"user": user, "content": {"a": 1}}).status == 201
    for client in clients:
        client.hears(f'{{"user":"{user}","content":{{"a": 1}}}}')
    raw.hears('{"a": 1}')
    id = clients[2].welcome["connection"]
    assert backend(site[1], "POST", "/broadcast", [{"connection": id, "content": 1}, {"user": "nobody"}]).status == 201
    clients[2].hears(f'{{"connection":"{id}","content":1}}')
    for client in (*clients, raw, other):
        client.is_quiet()


def test_the_order_for_a_user_is_the_same_on_all_nodes(site):
    user = fresh("user")
    clients = [server.client(user, None) for server in site]

    def publish(server, numbers):
        for n in numbers:
            assert backend(server, "POST", "/broadcast", {"user": user, "content": n}).status == 201

    threads = [threading.Thread(target=publish, args=(server, range(at * 100, at * 100 + 30))) for at, server in enumerate(site)]
    for thread in threads:
        thread.start()
    heard = [[client.hear() for _ in range(90)] for client in clients]
    for thread in threads:
        thread.join()
    assert heard[0] == heard[1] == heard[2]
    for at in range(3):
        own = [int(n) for n in heard[0] if int(n) // 100 == at]
        assert own == sorted(own) and len(own) == 30


def test_disconnect(site):
    user = fresh("user")
    clients = [server.client(user) for server in site for _ in range(2)]
    stays = site[2].client(fresh("user"))
    assert says(site[1], "/disconnect", user=user, code=4001, reason="bye") == {"connections": 6, "nodes": asked(3)}
    for client in clients:
        client.is_closed(4001)
    stays.is_quiet()
    id = stays.welcome["connection"]
    assert says(site[0], "/disconnect", connection=id) == {"connections": 1, "nodes": asked(3)}
    stays.is_closed(4403)
    assert says(site[0], "/disconnect", user="nobody") == {"connections": 0, "nodes": asked(3)}


def test_join_and_leave(site, redis):
    user, channel = fresh("user"), fresh()
    clients = [server.client(user) for server in site]
    assert says(site[0], "/join", user=user, channel=channel) == {"connections": 3, "nodes": asked(3)}
    # It is done, at redis too.
    assert redis.subscribers(channel) == 3
    redis.publish(channel, "1")
    for client in clients:
        client.hears(f'{{"joined":"{channel}"}}', f'{{"channel":"{channel}","content":1}}')
    assert says(site[2], "/leave", user=user, channel=channel) == {"connections": 3, "nodes": asked(3)}
    # So is this.
    assert redis.subscribers(channel) == 0
    for client in clients:
        client.hears(f'{{"left":"{channel}"}}').is_quiet()


def test_lists(site):
    prefix, user = fresh(), fresh("user")
    clients = []
    for server, names in zip(site, ("ace", "bcd", "cef"), strict=True):
        clients.append(server.client(user).join(*[prefix + name for name in names]))
    expected = [{"channel": prefix + name, "members": members} for name, members in zip("abcdef", (1, 1, 3, 1, 2, 1), strict=True)]
    assert lists(site[1], f"/channels?prefix={prefix}") == {"channels": expected, "nodes": asked(3)}
    for limit in (1, 2, 4):
        pages, after = [], ""
        while after is not None:
            page = lists(site[2], f"/channels?prefix={prefix}&limit={limit}&after={after}")
            assert len(page["channels"]) <= limit
            pages += page["channels"]
            after = page.get("next")
        assert pages == expected
    ids = sorted(client.welcome["connection"] for client in clients)
    page = lists(site[0], f"/connections?user={user}")
    assert [it["id"] for it in page["connections"]] == ids and page["nodes"] == asked(3)
    page = lists(site[0], f"/connections?channel={prefix}c&limit=2")
    assert [it["id"] for it in page["connections"]] == ids[:2] and page["next"] == ids[1]
    page = lists(site[1], f"/connections?channel={prefix}c&limit=2&after={ids[1]}")
    assert [it["id"] for it in page["connections"]] == ids[2:] and "next" not in page


def test_lists_have_the_last_event_of_each_node(node, receiver):
    servers = [node("--events-url", receiver.url, "--events", "connected") for _ in range(2)]
    for server in servers:
        knows(server, 2)
    clients = [servers[0].client("1"), servers[1].client("1"), servers[1].client("1")]
    names = [client.welcome["connection"][:16] for client in clients]
    assert lists(servers[0], "/connections")["seq"] == {names[0]: 1, names[1]: 2}


def test_each_node_tells_of_its_own_channels(node, receiver):
    servers = [node("--events-url", receiver.url, "--events", "occupied,vacated") for _ in range(2)]
    for server in servers:
        knows(server, 2)
    clients = [server.client("42") for server in servers]
    clients[0].join("a")
    # By the backend: one has been in it.
    assert says(servers[1], "/join", user="42", channel="a")["connections"] == 2
    assert says(servers[0], "/leave", user="42", channel="a")["connections"] == 2
    names = {client.welcome["connection"][:16] for client in clients}

    def told():
        by_node = {name: [] for name in names}
        for call in receiver.about():
            by_node[call.json["node"]] += [(event["seq"], event["event"], event["channel"]) for event in call.events]
        return by_node

    expected = [(1, "occupied", "a"), (2, "vacated", "a")]
    until(lambda: told() == {name: expected for name in names}, lambda: f"both tell of it: {told()}")


def test_other_subscribers_are_no_nodes(site, redis):
    wire = redis.wire()
    assert wire.ask("SUBSCRIBE", ALL)[0] == b"subscribe"
    assert redis.subscribers(ALL) == 4
    assert lists(site[0], "/channels?limit=1")["nodes"] == asked(3)
    wire.close()


# -- nodes that do not answer


def test_a_node_that_hangs(site):
    user = fresh("user")
    clients = [server.client(user) for server in site]
    site[2].freeze()
    try:
        begun = time.monotonic()
        assert says(site[0], "/disconnect", user=user) == {"connections": 2, "nodes": asked(3, 2)}
        took = time.monotonic() - begun
        assert 0.5 <= took < 1 + DEADLINE / 2
        assert lists(site[1], "/connections")["nodes"] == asked(3, 2)
        for client in clients[:2]:
            client.is_closed(4403)
    finally:
        site[2].thaw()
    # It acts later.
    clients[2].is_closed(4403)
    knows(site[0], 3)
    assert dropped(site[0], "replayed") == 0


def test_nodes_that_stop_and_come(site, node):
    site[2].process.send_signal(signal.SIGTERM)
    site[2].ends = True
    site[2].process.wait()
    # It has said so.
    assert lists(site[0], "/channels?limit=1")["nodes"] == asked(2)
    late = node()
    # The first answer of a new node knows the others already.
    assert lists(late, "/channels?limit=1")["nodes"] == asked(3)
    site[1].process.kill()
    site[1].ends = True
    site[1].process.wait()
    assert lists(site[0], "/channels?limit=1")["nodes"] == asked(3, 2)
    until(lambda: lists(site[0], "/channels?limit=1")["nodes"] == asked(2), "a crashed node is not asked any more", 30)


def test_without_redis_nothing_is_done(node, redis):
    server = node()
    client = server.client("42")
    redis.kill()
    is_down(server)
    calls = [
        ("POST", "/broadcast", {"user": "42", "content": 1}), ("POST", "/disconnect", {"user": "42"}),
        ("POST", "/join", {"user": "42", "channel": "a"}), ("POST", "/leave", {"user": "42", "channel": "a"}),
        ("GET", "/channels", None), ("GET", "/connections", None),
    ]
    for call in calls:
        assert backend(server, *call).status == 503, call
    client.is_quiet()
    redis.start()
    is_up(server)
    client.hears(GAP)
    assert says(server, "/disconnect", user="42") == {"connections": 1, "nodes": asked(1)}
    client.is_closed(4403)


def test_an_acl_that_forbids_the_channels_of_the_nodes(node, redis):
    redis.ask("ACL", "SETUSER", "limited", "on", ">secret", "allcommands", "allkeys", "resetchannels", "&a*")
    server = node(dsn=f"redis://limited:secret@127.0.0.1:{redis.port}")
    client = server.client("42").join("a")
    assert backend(server, "POST", "/broadcast", {"channel": "a", "content": 1}).status == 201
    client.hears('{"channel":"a","content":1}')
    response = backend(server, "GET", "/channels")
    assert response.status == 503 and "NOPERM" in response.json()["error"]["message"]
    redis.ask("ACL", "SETUSER", "limited", "&wsify:*")
    until(lambda: backend(server, "GET", "/channels").status == 200, "they are asked for again")


# -- hostile messages


def envelope(key, channel, message, node="00000000000000aa", time=None, count=1):
    """A message as a node says it. `key` None: not signed."""
    time = int(time_now() if time is None else time)
    head = f'{{"node":"{node}","time":{time},"count":{count}'
    if key is not None:
        derived = hmac.digest(key.encode(), b"wsify nodes 1\n", "sha256")
        signed = f"{channel}\n{node}\n{time}\n{count}\n{message}".encode()
        head += f',"signature":"{hmac.new(derived, signed, hashlib.sha256).hexdigest()}"'
    return f'{head},"message":{message}}}'.encode()


def time_now():
    return time.time() * 1000


KICK = '{"command":"disconnect","number":1,"user":"42"}'


def test_hostile_messages_change_nothing_and_are_counted(node, redis):
    server = node()
    client = server.client("42").join("a")
    malformed = [
        b"hello", b"", b"{}", b"[]", b"null", b"\xff\xfe", KICK.encode(), b'{"node":1}', b'{"node":"00000000000000aa"}',
        envelope(KEY, ALL, "{}", count=2), envelope(KEY, ALL, "[1]", count=3), envelope(KEY, ALL, '{"command":7}', count=4),
        envelope(KEY, ALL, '{"command":"disconnect","number":"1","user":"42"}', count=5),
        envelope(KEY, ALL, '{"command":"disconnect","number":1,"user":["42"]}', count=6),
        envelope(KEY, ALL, '{"command":"content","user":"42","content":}', count=7),
        envelope(KEY, ALL, '{"command":"join","number":1,"user":"42","channel":"wsify:x"}', count=8),
    ]
    table = {
        "malformed": malformed,
        "unsigned": [envelope(None, ALL, KICK)],
        "wrong_signature": [envelope("another", ALL, KICK), envelope(KEY, f"{ALL}:x", KICK), envelope(KEY, ALL, KICK).replace(b'"42"', b'"43"')],
        "old": [envelope(KEY, ALL, KICK, time=time_now() - 31_000), envelope(KEY, ALL, KICK, time=time_now() + 40_000)],
        "unknown": [envelope(KEY, ALL, '{"command":"shutdown"}', count=9), envelope(KEY, ALL, '{"command":"publish"}', count=10)],
        "too_large": [b"x" * (10 << 20), envelope(KEY, ALL, '{"command":"content","user":"42","content":"%s"}' % ("x" * (10 << 20)))],
    }
    for reason, messages in table.items():
        for message in messages:
            redis.publish(ALL, message)
        until(lambda: dropped(server, reason) == len(messages), lambda: f"{reason} is counted: {dropped(server, reason)} of {len(messages)}")
    client.is_quiet()
    lines = [line for line in server.log() if "channels of the nodes is dropped" in line["message"]]
    assert len(lines) == 1 and lines[0]["reason"] == "malformed"
    # It goes on as if nothing had been.
    assert backend(server, "POST", "/broadcast", {"user": "42", "content": 1}).status == 201
    client.hears('{"user":"42","content":1}')
    # What is signed as it has to be is done.
    redis.publish(ALL, envelope(KEY, ALL, KICK, count=11))
    client.is_closed(4403)


def test_what_was_said_before_is_dropped(site, redis):
    server = site[0]
    client = server.client("42")
    wire, said = redis.wire(), []
    wire.send("PSUBSCRIBE", "wsify:*")
    wire.read()
    assert says(site[1], "/join", user="42", channel="a")["connections"] == 1
    assert says(site[1], "/leave", user="42", channel="a")["connections"] == 1
    assert backend(site[1], "POST", "/broadcast", {"user": "42", "content": 1}).status == 201
    client.hears('{"joined":"a"}', '{"left":"a"}', '{"user":"42","content":1}')
    while not said or b'"content"' not in said[-1][1]:
        kind, _, channel, message = wire.read()
        said.append((channel, message))
    wire.close()
    assert sum(1 for _, message in said if b'"command":"join"' in message) == 1
    to_all = [message for channel, message in said if channel == ALL.encode()]
    for channel, message in said:
        redis.publish(channel, message)
    until(lambda: dropped(server, "replayed") == len(to_all), "all of it is dropped")
    client.is_quiet()


def test_other_keys_and_none(node, redis):
    keyed, other, open_one, open_two = node(), node(key="another key"), node(key=None), node(key=None)
    servers = [keyed, other, open_one, open_two]
    clients = [server.client("42") for server in servers]
    knows(open_one, 2)
    for server, count in ((keyed, 1), (other, 1), (open_one, 2), (open_two, 2)):
        page = lists(server, "/connections?user=42")
        assert (len(page["connections"]), page["nodes"]) == (count, asked(count))
    assert says(open_two, "/disconnect", user="42") == {"connections": 2, "nodes": asked(2)}
    for client in clients[2:]:
        client.is_closed(4403)
    assert backend(keyed, "POST", "/broadcast", {"user": "42", "content": 1}).status == 201
    clients[0].hears('{"user":"42","content":1}').is_quiet()
    clients[1].is_quiet()
    assert dropped(keyed, "wrong_signature") > 0 and dropped(keyed, "unsigned") > 0


def test_without_a_key_any_program_is_believed(node, redis):
    server = node(key=None)
    assert any("can publish at redis can do what a backend can" in line["message"] for line in server.log())
    client = server.client("42")
    for _ in range(2):
        redis.publish(ALL, envelope(None, ALL, '{"command":"content","user":"42","content":1}', time=1))
    client.hears('{"user":"42","content":1}', '{"user":"42","content":1}').is_quiet()
    redis.publish(ALL, b"not JSON")
    until(lambda: dropped(server, "malformed") == 1, "it is counted")
    redis.publish(ALL, envelope(None, ALL, KICK))
    client.is_closed(4403)


# -- gaps


def test_all_clients_are_told_of_a_gap_ahead_of_what_comes_next(node, redis):
    one, two = node(), node()
    knows(one, 2)
    mine, raw, elsewhere = one.client("42"), one.client("42", None), two.client("42")
    mine.join("a")
    # The node's link is told apart by its subscriptions: one, and two of the nodes.
    link = next(c["id"] for c in redis.clients() if c["name"] == "wsify-listens" and c["sub"] == "3")
    redis.ask("CLIENT", "KILL", "ID", link)
    until(lambda: redis.subscribers(ALL) == 2, "the channels of the nodes are subscribed again")
    assert backend(two, "POST", "/broadcast", {"user": "42", "content": 1}).status == 201
    heard = [mine.hear() for _ in range(3)]
    assert sorted(heard[:2]) == ['{"channel":"a","gap":true}', GAP] and heard[2] == '{"user":"42","content":1}'
    raw.hears("1").is_quiet()
    elsewhere.hears('{"user":"42","content":1}').is_quiet()


# -- a cluster


@pytest.fixture
def cluster(begin, tmp_path):
    return begin(Cluster, tmp_path, replicas=0)


def test_nodes_on_a_cluster(node, cluster):
    servers = [node(dsn=cluster.dsn) for _ in range(2)]
    for server in servers:
        knows(server, 2)
    clients = [server.client("42") for server in servers]
    assert backend(servers[0], "POST", "/broadcast", {"user": "42", "content": 1}).status == 201
    for client in clients:
        client.hears('{"user":"42","content":1}')
    assert says(servers[1], "/join", user="42", channel="a") == {"connections": 2, "nodes": asked(2)}
    assert lists(servers[0], "/channels")["channels"] == [{"channel": "a", "members": 2}]
    assert says(servers[0], "/disconnect", user="42") == {"connections": 2, "nodes": asked(2)}
