"""Replacing the running program while messages come and go by redis: none is lost, none comes twice, and no client is told of a gap
(docs/operating.md#replacing-the-program)."""

import json
import threading

import pytest

from harness.authorizer import named, with_fields
from harness.certificates import Certificates
from harness.crowd import Crowd
from harness.handover import ask, hand_over, handed_over, logged, script
from harness.net import DEADLINE, is_error, request, until
from harness.redis import Redis, Scripted, health, is_down, is_up
from harness.redis_many import Cluster, Watched
from harness.server import KEY
from harness.ws import command, text, upgraded

JSON = ("Content-Type", "application/json")
CONTENT = '{"channel":"%s","content":%s}'
# Between two messages of a neighbour, in seconds.
PACE = 0.001


class Neighbour:
    """Another program that publishes numbers to channels in turn, until it is stopped."""

    def __init__(self, publish, channels):
        self.publish, self.channels = publish, channels
        self.count = 0
        self.halt = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.halt.wait(PACE):
            self.publish(self.channels[self.count % len(self.channels)], str(self.count))
            self.count += 1

    def stop(self):
        self.halt.set()
        self.thread.join(DEADLINE)
        return self.count


def no_gaps(*servers):
    for server in servers:
        assert server.metric("^wsify_broker_gaps_total$") == 0
        assert server.metric("^wsify_broker_reconnections_total$") == 0
        assert server.metric("^wsify_broker_up$") == 1


def goes_on_under_load(nodes, replaced, times, channels=60, clients=30):
    """Clients and backends of all nodes publish while some are replaced again and again."""
    crowd = Crowd(nodes, channels=channels, clients=clients)
    crowd.start()
    crowd.goes_on(20)
    for _ in range(times):
        for server in replaced:
            hand_over(server)
            crowd.goes_on(20)
    crowd.stop()
    acknowledged, unavailable = crowd.verify(lambda channel: False)
    crowd.orders_agree()
    crowd.close()
    assert acknowledged and not unavailable
    no_gaps(*nodes)


# -- one redis


def test_nothing_is_lost_or_doubled_under_load(redis, node):
    nodes = [node(redis.dsn) for _ in range(2)]
    links = lambda: sorted(client["id"] for client in redis.clients())
    before = links()
    goes_on_under_load(nodes, nodes, 3)
    assert links() == before, "the links are the same"


def test_what_a_neighbour_publishes_meanwhile_is_heard_once_and_in_order(redis, node):
    server = node(redis.dsn)
    channels = [f"c{n}" for n in range(7)]
    members = [server.ws(protocols="wsify.v1").join(*channels) for _ in range(3)]
    wire = redis.wire()
    neighbour = Neighbour(lambda channel, content: wire.ask("PUBLISH", channel, content), channels)
    for _ in range(6):
        hand_over(server)
        seen = neighbour.count
        until(lambda: neighbour.count > seen + 20, "it goes on")
    count = neighbour.stop()
    for ws in members:
        heard = [json.loads(ws.hear()) for _ in range(count)]
        for n, channel in enumerate(channels):
            assert [it["content"] for it in heard if it["channel"] == channel] == [*range(n, count, len(channels))]
        ws.is_quiet()
    no_gaps(server)
    # Subscriptions go on being looked after.
    for ws in members:
        ws.leave("c0")
    until(lambda: redis.subscribers("c0") == 0, "it is not subscribed any more")
    members[0].join("new")
    assert redis.subscribers("new") == 1
    server.publish("new", "1")
    members[0].hears(CONTENT % ("new", 1))


def test_a_message_of_redis_is_cut_anywhere(serve):
    """What has come of it goes over."""
    redis = Scripted()
    server = serve("--broker-driver", "redis", "--broker-dsn", redis.dsn)
    is_up(server)
    ws = server.ws(protocols="wsify.v1").join("x")
    link = redis.listening
    push = b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$9\r\n\"content\"\r\n"
    for cut in (1, 3, 7, 15, 17, 23, 27, 29, 33, len(push) - 1):
        link.sendall(push + push[:cut])
        ws.hears(CONTENT % ("x", '"content"'))
        hand_over(server)
        link.sendall(push[cut:] + push)
        ws.hears(*[CONTENT % ("x", '"content"')] * 2).is_quiet()
    assert server.metric("^wsify_broker_reconnections_total$") == 0
    redis.stop()


def test_publications_and_subscriptions_without_a_receipt_are_awaited(redis, node):
    server = node(redis.dsn, "--max-message-size", "64KiB")
    member, crowd = server.ws().join("x"), [server.ws() for _ in range(4)]
    redis.hang()
    posts = server.dial().send(b"".join(request("POST", "/broadcast", [JSON], f'{{"channel":"x","content":{n}}}'.encode()) for n in range(5)))
    crowd[0].say(command("broadcast", "x", "100", id=1))
    crowd[1].say(command("join", "y", id=2)).say(command("broadcast", "y", "1", id=3))
    crowd[2].say(command("join", "x", id=4))
    is_untouched = server.ws()
    before = ask(server)
    for _ in range(10):
        is_untouched.ping()
    redis.go_on()
    handed_over(server, before)
    assert [posts.response().status for _ in range(5)] == [201] * 5
    assert crowd[0].answer() == {"id": 1, "ok": True}
    heard = [int(member.hear()) for _ in range(6)]
    assert [n for n in heard if n < 100] == [0, 1, 2, 3, 4] and 100 in heard
    assert crowd[1].answer() == {"id": 2, "ok": True}
    assert sorted([crowd[1].hear(), crowd[1].hear()]) == ["1", '{"id":3,"ok":true}']
    answers = [crowd[2].hear()]
    while '"id":4' not in answers[-1]:
        answers.append(crowd[2].hear())
    server.publish("x", "7")
    member.hears("7").is_quiet()
    no_gaps(server)


def test_publications_that_redis_does_not_confirm_are_handed_over(redis, node):
    """They are not awaited as long as questions: nodes go on talking to each other, and then there may always be some."""
    server = node(redis.dsn, "--authorizer-timeout", "10m")
    member, client = server.ws().join("x"), server.ws()
    redis.hang()
    posts = server.dial().send(request("POST", "/broadcast", [JSON], b'{"channel":"x","content":1}'))
    client.say(command("broadcast", "x", "2", id=2))
    client.say(command("broadcast", "x", "3", id=3))
    hand_over(server)
    redis.go_on()
    assert posts.response().status == 201
    assert client.answer() == {"id": 2, "ok": True} and client.answer() == {"id": 3, "ok": True}
    heard = [member.hear() for _ in range(3)]
    assert sorted(heard) == ["1", "2", "3"] and heard.index("2") < heard.index("3")
    member.is_quiet()
    no_gaps(server)


def test_a_redis_that_is_down_is_awaited_by_the_new_program(redis, node):
    server = node(redis.dsn)
    member = server.ws(protocols="wsify.v1").join("x")
    redis.kill()
    is_down(server)
    late = server.ws(protocols="wsify.v1").join("late")
    hand_over(server)
    assert health(server)[0] == 503
    assert member.ask(command("broadcast", "x", "1", id=1))["error"]["code"] == "unavailable"
    is_error(server.post('{"channel":"x","content":1}'), 503)
    later = server.ws(protocols="wsify.v1").join("later")
    redis.start()
    is_up(server)
    for ws, channel in ((member, "x"), (late, "late"), (later, "later")):
        # Its channel's, and the one for what goes to users and connections.
        assert {ws.hear(), ws.hear()} == {f'{{"channel":"{channel}","gap":true}}', '{"gap":true}'}
        server.publish(channel, "2")
        ws.hears(CONTENT % (channel, 2)).is_quiet()


def test_commands_to_other_nodes_are_awaited(redis, node, authorizer):
    authorizer.on(named, "connect")
    one, two = node(redis.dsn, auth=authorizer), node(redis.dsn, auth=authorizer)
    here, there = one.ws("/ws?user=ann"), two.ws("/ws?user=ann")
    joined = lambda: json.loads(one.post('{"user":"ann","channel":"x"}', "/join").body)
    until(lambda: joined() == {"connections": 2, "nodes": {"asked": 2, "answered": 2}}, lambda: f"both know each other; {joined()}")
    backend = one.dial()
    for server in (one, two, one):
        body = b'{"user":"ann","channel":"y"}'
        for path in ("/join", "/leave"):
            backend.send(request("POST", path, [JSON], body))
            before = ask(server)
            answer = backend.response().json()
            # A node that stands still for more than a second answers too late, and acts all the same.
            assert answer["nodes"]["asked"] == 2 and answer["connections"] == answer["nodes"]["answered"], answer
            handed_over(server, before)
    assert json.loads(one.post('{"user":"ann"}', "/disconnect").body)["connections"] == 2
    here.is_closed(4403)
    there.is_closed(4403)


def test_links_with_tls_are_made_anew(begin, node, tmp_path):
    certificates = Certificates(tmp_path)
    lines = (part for line in certificates.redis_lines for part in f"--{line}".split(" ", 1))
    redis = begin(Redis, *lines, tls=True)
    server = node(f"rediss://localhost:{redis.tls_port}", env=certificates.trusted)
    member, raw = server.ws(protocols="wsify.v1").join("x"), server.ws().join("x")
    before = sorted(client["id"] for client in redis.clients())
    hand_over(server)
    is_up(server)
    until(lambda: redis.subscribers("x") == 1, "the channel is subscribed again")
    assert not set(before) & {client["id"] for client in redis.clients()}
    server.publish("x", "1")
    heard = [member.hear()]
    while heard[-1] != CONTENT % ("x", 1):
        heard.append(member.hear())
    assert heard[:-1] in ([], ['{"channel":"x","gap":true}'], ['{"gap":true}', '{"channel":"x","gap":true}'], ['{"channel":"x","gap":true}', '{"gap":true}'])
    raw.hears("1").is_quiet()
    (entry,) = logged(server, "over TLS cannot be handed over")
    assert entry["links"] == 2, entry


# -- sentinel and cluster


def test_under_sentinels(begin, node, tmp_path):
    group = begin(Watched, tmp_path / "watched")
    nodes = [node(group.dsn) for _ in range(2)]
    links = lambda: sorted(client["id"] for client in group.master.clients())
    before = links()
    goes_on_under_load(nodes, nodes, 2)
    assert links() == before, "the links are the same"
    # The new program still follows the master.
    former = group.master
    group.sentinels[0].ask("SENTINEL", "FAILOVER", "mymaster")
    group.failed_over(former)
    member = nodes[0].ws().join("after")
    until(lambda: group.master.subscribers("after") == 1, "it is subscribed at the new master")
    until(lambda: nodes[1].post('{"channel":"after","content":1}').status == 201, "it is published there")
    assert member.hear() == "1"


def test_in_a_cluster(begin, node, tmp_path):
    group = begin(Cluster, tmp_path / "cluster", replicas=0)
    nodes = [node(group.dsn) for _ in range(2)]
    links = lambda: sorted((master.port, client["id"]) for master in group.masters for client in master.clients())
    before = links()
    goes_on_under_load(nodes, nodes[:1], 3)
    assert links() == before, "the links are the same"
    # The new program still follows a slot.
    slot = group.slot("moves")
    member = nodes[0].ws().join("moves")
    group.move(slot, next(master for master in group.masters if not group.has(master, slot)))
    until(lambda: group.subscribers("moves") == 1, "it is subscribed at the new owner")
    until(lambda: nodes[1].post('{"channel":"moves","content":1}').status == 201, "it is published there")
    assert member.hear() == "1"
    assert upgraded(nodes[0].dial().send(nodes[0].upgrade() + text(command("join", "moves", id=1))), KEY).answer() == {"id": 1, "ok": True}


# -- several nodes


def allowed(question):
    """The answer to a client that may name its user in the query. Nothing further is asked about it."""
    user = question.args["query"].get("user")
    fields = {"user": user[0]} if user else {}
    return with_fields(allow={"join": ["*"], "broadcast": ["*"]}, **fields)


def writer(server, by):
    """What publishes to a user by one node, in requests one after the other."""
    stream = server.dial()

    def publish(user, content):
        body = f'{{"user":"{user}","content":{{"by":{by},"n":{content}}}}}'
        stream.send(request("POST", "/broadcast", [JSON], body.encode()))
        response = stream.response()
        assert response.status == 201, response

    return publish


def says(server, path, **body):
    return json.loads(server.post(json.dumps(body), path).body)


class Nodes:
    """Nodes under load, with a user who has a client on each of them, to whom each of them writes."""

    def __init__(self, servers):
        self.servers = servers
        self.clients = [server.ws("/ws?user=ann", protocols="wsify.v1") for server in servers]
        self.all = {"asked": len(servers), "answered": len(servers)}
        self.joined = []
        known = lambda: [json.loads(server.call("GET", "/channels?limit=1").body)["nodes"] for server in servers]
        until(lambda: known() == [self.all] * len(servers), lambda: f"all know each other; {known()}")
        self.crowd = Crowd(servers, channels=30, clients=8 * len(servers))
        self.crowd.start()
        self.writers = [Neighbour(writer(server, by), ["ann"]) for by, server in enumerate(servers)]
        self.go_on()

    def go_on(self):
        """Everything goes on at all nodes; each of them knows the others, and all answer it."""
        seen = [it.count for it in self.writers]
        self.crowd.goes_on(20)
        until(lambda: all(it.count > was + 5 for it, was in zip(self.writers, seen)), "every node writes to the user")
        for server in self.servers:
            self.is_complete(lambda: json.loads(server.call("GET", "/connections?user=ann").body), lambda it: len(it["connections"]))
            self.join(server)

    def join(self, server):
        channel = f"joined {len(self.joined)}"
        self.joined.append(channel)
        self.is_complete(lambda: says(server, "/join", user="ann", channel=channel), lambda it: it["connections"])

    def is_complete(self, call, count):
        """A node that stands still for more than a second answers too late. It is asked all the same, and no other is."""

        def is_answered_by_all():
            answer = call()
            assert answer["nodes"]["asked"] == len(self.servers), answer
            return answer["nodes"] == self.all and count(answer) == len(self.servers)

        until(is_answered_by_all, lambda: f"all nodes answer: {call()}")

    def verify(self):
        """Everything was heard once, by all clients of the user in one order."""
        counts = [it.stop() for it in self.writers]
        self.crowd.stop()
        heard = []
        for ws in self.clients:
            contents, joined = [], []
            while len(contents) < sum(counts) or len(joined) < len(self.joined):
                message = json.loads(ws.hear())
                if "joined" in message:
                    joined.append(message["joined"])
                else:
                    assert message["user"] == "ann", message
                    contents.append((message["content"]["by"], message["content"]["n"]))
            ws.is_quiet()
            assert joined == self.joined
            heard.append(contents)
        for contents in heard:
            assert contents == heard[0], "one order"
        for by, count in enumerate(counts):
            assert [n for writer, n in heard[0] if writer == by] == list(range(count))
        acknowledged, unavailable = self.crowd.verify(lambda channel: False)
        self.crowd.orders_agree()
        self.crowd.close()
        assert acknowledged and not unavailable
        no_gaps(*self.servers)


@pytest.mark.parametrize("kind", ["one redis", "a cluster"])
def test_nodes_are_replaced_one_after_the_other_and_at_once(begin, node, authorizer, releases, tmp_path, kind):
    authorizer.on(allowed, "connect")
    group = begin(Redis) if kind == "one redis" else begin(Cluster, tmp_path / "cluster", replicas=0)
    paths = [releases.link("old", tmp_path / f"wsify{n}") for n in range(3)]
    first, second, third = servers = [node(group.dsn, auth=authorizer, program=path) for path in paths]
    nodes = Nodes(servers)
    for server in servers:
        hand_over(server)
        nodes.go_on()
    for server, before in [(server, ask(server)) for server in servers]:
        handed_over(server, before)
    nodes.go_on()
    # One stands still, in the middle of its replacement, while the next one is replaced.
    stands, goes_on = tmp_path / "stands", tmp_path / "goes on"
    waits = f'case $WSIFY_HANDOVER in check*) touch "{stands}"; while [ ! -e "{goes_on}" ]; do sleep 0.02; done ;; esac'
    script(paths[0], f'#!/bin/sh\n{waits}\nexec {releases.directory / "new"} "$@"\n')
    before = ask(first)
    until(stands.exists, "it stands still")
    assert says(third, "/join", user="ann", channel="meanwhile") == {"connections": 2, "nodes": {"asked": 3, "answered": 2}}
    nodes.joined.append("meanwhile")
    hand_over(second)
    goes_on.touch()
    handed_over(first, before)
    assert releases.is_run_by(first.pid) == "new"
    nodes.go_on()
    nodes.verify()
    assert all(server.metric("^wsify_broker_nodes$") == 3 for server in servers)
