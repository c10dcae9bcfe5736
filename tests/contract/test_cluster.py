"""Redis that is many: three nodes under load, a cluster of three masters with a replica each (docs/scaling.md#cluster)."""

import time

import pytest

from harness.certificates import Certificates
from harness.crowd import Crowd
from harness.joiner import Joiner
from harness.net import is_error, until
from harness.redis import health, is_down, is_up
from harness.redis_many import Cluster
from harness.server import free_port, run
from harness.ws import command

GAP = '{"channel":"%s","gap":true}'
CONTENT = '{"channel":"%s","content":%s}'
ALL = '{"gap":true}'


@pytest.fixture
def cluster(begin, tmp_path):
    return lambda **more: begin(Cluster, tmp_path / "group", **more)


@pytest.fixture
def record(record_property, capsys):
    def record(name, value):
        record_property(name, value)
        with capsys.disabled():
            print(f"\n  {name}: {value}", end="")

    return record


def post(server, channel, content="1"):
    return server.post(f'{{"channel":"{channel}","content":{content}}}')


def owners_of(group, channels):
    """The port of the master that has each channel."""
    stretches = group.owners(group.running()[0])
    slots = {channel: group.slot(channel) for channel in channels}
    return {channel: next(port for first, last, port in stretches if first <= slot <= last) for channel, slot in slots.items()}


def all_subscribed(group, channels, count):
    for port in set((owners := owners_of(group, channels)).values()):
        mine = [channel for channel, owner in owners.items() if owner == port]
        master = next(node for node in group.nodes if node.port == port)
        if master.ask("PUBSUB", "SHARDNUMSUB", *mine)[1::2] != [count] * len(mine):
            return False
    return True


def under_load(group, nodes, begin, record):
    """Under load `begin` changes the cluster. Channels of slots that have another master then had a gap, others had none and were
    never unavailable."""
    crowd = Crowd(nodes)
    crowd.start()
    crowd.goes_on()
    before = owners_of(group, crowd.channels)
    begin()
    over = time.monotonic()
    crowd.goes_on(deadline=30)
    for server in nodes:
        is_up(server)
    until(lambda: all_subscribed(group, crowd.channels, len(nodes)), "everything is subscribed")
    after = owners_of(group, crowd.channels)
    crowd.stop()
    concerned = {channel for channel in crowd.channels if before[channel] != after[channel]}
    assert concerned and len(concerned) < len(crowd.channels)
    acknowledged, unavailable = crowd.verify(lambda channel: channel in concerned)
    crowd.orders_agree()
    refused = {channel for _, channel, ok in crowd.outcomes.values() if not ok}
    assert refused <= concerned, f"not concerned, and yet unavailable: {sorted(refused - concerned)}"
    for server in nodes:
        assert server.metric("wsify_broker_gaps_total") >= len(concerned)
    record("channels concerned", len(concerned))
    record("acknowledged", acknowledged)
    record("unavailable", unavailable)
    record("first delivery behind it, ms, on each node", crowd.first_deliveries(over, concerned))
    crowd.close()


def promoted(group, master):
    """Waits until another node has the slots of this one."""
    former = master.port

    def done():
        views = {group.owners(node) for node in group.running() if node is not master}
        return len(views) == 1 and all(port != former for _, _, port in views.pop())

    until(done, lambda: f"another node has its slots; {group.logs()}")


# -- under load


def test_a_shard_is_killed_and_its_replica_promoted(cluster, node, record):
    group = cluster()
    nodes = [node(group.dsn) for _ in range(3)]

    def begin():
        group.nodes[1].kill()
        promoted(group, group.nodes[1])

    under_load(group, nodes, begin, record)


def test_a_failover_by_command(cluster, node, record):
    group = cluster()
    nodes = [node(group.dsn) for _ in range(3)]
    master = group.nodes[0]
    replica = group.replica_of(master)

    def begin():
        replica.ask("CLUSTER", "FAILOVER")
        promoted(group, master)

    under_load(group, nodes, begin, record)
    for server in nodes:
        server.logged(f'has a new master.*:{replica.port}"')
    # There is no link to the former master any more, and two to the new one from each node.
    until(lambda: not master.clients(), lambda: f"it is left: {master.clients()}")
    assert sorted(client["name"] for client in replica.clients()) == ["wsify-listens"] * 3 + ["wsify-publishes"] * 3


def test_slots_are_moved_by_reshard(cluster, node, record):
    group = cluster()
    nodes = [node(group.dsn) for _ in range(3)]
    source, target = group.nodes[0], group.nodes[1]

    def begin():
        group.cli("--cluster", "reshard", f"127.0.0.1:{source.port}", "--cluster-from", group.id(source), "--cluster-to", group.id(target),
                  "--cluster-slots", 1500, "--cluster-yes")

    under_load(group, nodes, begin, record)


def test_a_master_that_hangs_and_comes_back_as_a_replica(cluster, node, record):
    group = cluster()
    nodes = [node(group.dsn) for _ in range(3)]
    master = group.nodes[2]

    def begin():
        master.hang()
        promoted(group, master)

    try:
        under_load(group, nodes, begin, record)
    finally:
        master.go_on()
    until(lambda: master.role() == "slave", "it is a replica")
    for server in nodes:
        is_up(server)
        member = server.ws().join("x")
        assert post(server, "x").status == 201
        member.hears("1")


# -- without load


@pytest.mark.parametrize("option", ["FORCE", "TAKEOVER"])
def test_a_replica_takes_over_without_its_master(cluster, node, option):
    """Under load redis may deliver what was published just before once more (docs/scaling.md#cluster)."""
    group = cluster()
    servers = [node(group.dsn) for _ in range(2)]
    names = [f"c{n}" for n in range(30)]
    member = servers[0].ws(protocols="wsify.v1").join(*names)
    master = group.nodes[0]
    concerned = [name for name in names if group.owner(name) is master]
    all_are_told = [ALL] if group.owner("wsify:{nodes}") is master else []
    group.replica_of(master).ask("CLUSTER", "FAILOVER", option)
    promoted(group, master)
    for server in servers:
        is_up(server)
    until(lambda: all_subscribed(group, names, 1), "everything is subscribed")
    heard = sorted(member.hear() for _ in [*concerned, *all_are_told])
    assert heard == sorted([GAP % name for name in concerned] + all_are_told)
    for number, name in enumerate(names):
        servers[1].publish(name, str(number))
        member.hears(CONTENT % (name, number))
    member.is_quiet()


def test_channels_are_joined_while_slots_move(cluster, node):
    group = cluster(replicas=0)
    one, two = node(group.dsn), node(group.dsn)
    joiner = Joiner(one)
    for source, target in ((0, 1), (1, 2), (2, 0)):
        source, target = group.nodes[source], group.nodes[target]
        group.cli("--cluster", "reshard", f"127.0.0.1:{source.port}", "--cluster-from", group.id(source), "--cluster-to", group.id(target),
                  "--cluster-slots", 500, "--cluster-yes")
    names = joiner.stop()
    for server in (one, two):
        is_up(server)
    until(group.is_well, "the cluster is well")
    until(lambda: all_subscribed(group, names, 1), "everything is subscribed")
    joiner.hears_all(two)


# -- which nodes are in the cluster


def test_one_node_that_answers_is_enough_and_there_are_two_links_for_each_master(cluster, node):
    group = cluster(replicas=0)
    server = node(f"redis-cluster://127.0.0.1:{free_port()},127.0.0.1:{group.nodes[1].port}")
    for master in group.nodes:
        names = lambda: sorted(client["name"] for client in master.clients())
        until(lambda: names() == ["wsify-listens", "wsify-publishes"], lambda: f"two links: {names()}")
    member = server.ws().join(*(f"c{n}" for n in range(20)))
    for n in range(20):
        assert post(server, f"c{n}", str(n)).status == 201
        member.hears(str(n))
    member.is_quiet()


def test_a_replica_is_as_good_a_seed(cluster, node):
    group = cluster()
    server = node(f"redis-cluster://127.0.0.1:{group.nodes[4].port}")
    server.ws().join("x").say(command("broadcast", "x", "1")).hears("1")
    assert not group.nodes[4].clients()


def test_a_new_master_is_followed_and_an_old_one_left(cluster, node, tmp_path):
    group = cluster(masters=3, replicas=0)
    server = node(group.dsn)
    names = [f"c{n}" for n in range(60)]
    member = server.ws(protocols="wsify.v1").join(*names)
    new = group.join_empty_node()
    old = group.nodes[0]
    mine = [name for name in names if group.owner(name) is old]
    assert mine
    group.cli("--cluster", "reshard", f"127.0.0.1:{old.port}", "--cluster-from", group.id(old), "--cluster-to", group.id(new), "--cluster-slots",
              5461, "--cluster-yes")
    is_up(server)
    until(lambda: len(new.clients()) == 2 and not old.clients(), "it has two links to the new one and none to the old one")
    until(lambda: all(group.subscribers(name) == 1 for name in mine), "everything is subscribed there")
    heard = [member.hear() for _ in mine]
    assert sorted(heard) == sorted(GAP % name for name in mine)
    old.kill()
    for number, name in enumerate(names):
        assert post(server, name, str(number)).status == 201
        member.hears(CONTENT % (name, number))
    member.is_quiet()
    assert health(server)[0] == 200
    assert server.metric(rf'wsify_broker_shard_up.*:{new.port}"') == 1
    with pytest.raises(AssertionError):
        server.metric(rf'wsify_broker_shard_up.*:{old.port}"')


def test_the_seeds_may_all_be_gone_once_others_are_known(cluster, node):
    group = cluster(masters=3, replicas=1)
    server = node(f"redis-cluster://127.0.0.1:{group.nodes[0].port}")
    group.nodes[0].kill()
    promoted(group, group.nodes[0])
    is_up(server)
    for n in range(10):
        assert post(server, f"c{n}").status == 201


# -- a shard that is away


def test_a_shard_that_is_away_takes_only_its_channels_with_it(cluster, node):
    group = cluster(replicas=0)
    one, two = node(group.dsn), node(group.dsn)
    names = [f"c{n}" for n in range(30)]
    away = group.nodes[1]
    gone = [name for name in names if group.owner(name) is away]
    there = [name for name in names if name not in gone]
    assert gone and there
    member = one.ws(protocols="wsify.v1").join(*names)
    away.kill()
    for server in (one, two):
        is_down(server)
        for name in gone:
            is_error(post(server, name), 503, "unavailable")
        for name in there:
            assert post(server, name).status == 201
    # Channels of two shards have no common order.
    heard = sorted(member.hear() for _ in [*there, *there])
    assert heard == sorted(CONTENT % (name, 1) for name in [*there, *there])
    member.fails(command("broadcast", gone[0], "1", id=1), "unavailable", 1)
    late = one.ws(protocols="wsify.v1").join(gone[0], there[0])  # joins take effect here
    member.is_quiet()
    away.start()
    for server in (one, two):
        is_up(server)
    # What goes to users and connections may be concerned, too.
    all_are_told = [ALL] if group.owner("wsify:{nodes}") is away else []
    heard = sorted(member.hear() for _ in [*gone, *all_are_told])
    assert heard == sorted([GAP % name for name in gone] + all_are_told)
    heard = [late.hear() for _ in [gone[0], *all_are_told]]
    assert sorted(heard) == sorted([GAP % gone[0], *all_are_told])
    two.publish(gone[0], "2")
    late.hears(CONTENT % (gone[0], 2)).is_quiet()
    member.hears(CONTENT % (gone[0], 2)).is_quiet()
    shard = rf'shard="127.0.0.1:{away.port}"'
    assert one.metric(f"wsify_broker_shard_gaps_total.*{shard}") == len(gone) + len(all_are_told)
    assert one.metric(f"wsify_broker_shard_reconnections_total.*{shard}") == 1
    assert one.metric("wsify_broker_reconnections_total") == 1


def test_unreachable_at_start(cluster, serve):
    group = cluster(replicas=0)
    for process in group.nodes:
        process.kill()
    server = serve("--broker-driver", "redis", "--broker-dsn", group.dsn)
    is_down(server)
    server.logged("node of the broker's cluster does not answer")
    member = server.ws().join("x")
    is_error(post(server, "x"), 503, "unavailable")
    for process in group.nodes:
        process.start()
    until(group.is_well, "the cluster is well")
    is_up(server)
    assert post(server, "x").status == 201
    member.hears("1").is_quiet()


# -- what is shared


def test_nodes_share_their_channels_and_neighbours_by_spublish(cluster, node):
    group = cluster(replicas=0)
    nodes = [node(group.dsn, "--broker-prefix", "app:") for _ in range(2)]
    members = [server.ws().join("x", "{tag}y") for server in nodes]
    nodes[0].publish("x", "1")
    assert group.publish("app:x", "2") == 2
    assert group.publish("app:{tag}y", "3") == 2
    for member in members:
        member.hears("1", "2", "3")
    # Plain PUBLISH is another thing, and what is not JSON is dropped.
    group.nodes[0].ask("PUBLISH", "app:x", "4")
    group.publish("app:x", "no")
    nodes[1].publish("x", "5")
    for member in members:
        member.hears("5").is_quiet()
    assert nodes[0].metric('wsify_broker_messages_total.*not_json') == 1


def test_large_contents_and_many_at_once(cluster, node):
    group = cluster(replicas=0)
    one, two = node(group.dsn), node(group.dsn)
    member = two.ws().join("x")
    content = '"' + "y" * 500_000 + '"'
    one.publish("x", content)
    member.hears(content)
    ws = one.ws()
    for n in range(500):
        ws.say(command("broadcast", "x", str(n)))
    member.hears(*(str(n) for n in range(500))).is_quiet()


def test_passwords_and_acls(cluster, node, serve):
    rules = "user app on >secret resetchannels &app:* +cluster|shards +spublish +ssubscribe +sunsubscribe +ping"
    group = cluster(replicas=0, lines=[rules])
    server = node(group.dsn_of(group.nodes, "app:secret@"), "--broker-prefix", "app:")
    member = server.ws().join("x")
    server.publish("x", "1")
    member.hears("1")
    assert not any("secret" in line for line in server.out)
    # Only the older question is allowed.
    rules = [master.ask("ACL", "SETUSER", "app", "-cluster|shards", "+cluster|slots") for master in group.nodes]
    other = node(group.dsn_of(group.nodes, "app:secret@"), "--broker-prefix", "app:")
    other.publish("x", "2")
    member.hears("2").is_quiet()
    wrong = serve("--broker-driver", "redis", "--broker-dsn", group.dsn_of(group.nodes, "app:hunter2@"))
    is_down(wrong)
    assert "WRONGPASS" in wrong.logged("does not answer")
    # A channel that is refused says so; the others are as ever.
    outside = serve("--broker-driver", "redis", "--broker-dsn", group.dsn_of(group.nodes, "app:secret@"))
    is_up(outside)
    client = outside.ws()
    answer = client.ask(command("join", "x", id=1))
    assert answer["error"]["code"] == "unavailable" and "NOPERM" in answer["error"]["message"], answer


def test_a_redis_that_is_no_cluster(serve, redis):
    dsn = f"redis-cluster://127.0.0.1:{redis.port}"
    server = serve("--broker-driver", "redis", "--broker-dsn", dsn)
    is_down(server)
    assert "cluster support disabled" in server.logged("does not say which masters")
    status, out, _ = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--broker-driver", "redis", "--broker-dsn", dsn)
    assert status == 1 and "cluster support disabled" in out, out


def test_check_says_what_it_found(cluster):
    group = cluster()
    status, out, _ = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--broker-driver", "redis", "--broker-dsn", group.dsn)
    assert status == 0, out
    for master in group.masters:
        assert f"master 127.0.0.1:{master.port}: redis 7" in out, out
    assert "a cluster of 3 shards" in out and out.count("1 replica") == 3, out


def test_tls(cluster, node, tmp_path):
    certificates = Certificates(tmp_path)
    group = cluster(replicas=1, tls=certificates.redis_lines)
    server = node(group.dsn, env=certificates.trusted)
    names = [f"c{n}" for n in range(12)]
    member = server.ws().join(*names)
    for name in names:
        server.publish(name, "1")
        member.hears("1")
    group.nodes[0].kill()
    promoted(group, group.nodes[0])
    is_up(server)
    for name in names:
        server.publish(name, "2")
        member.hears("2")
    member.is_quiet()
