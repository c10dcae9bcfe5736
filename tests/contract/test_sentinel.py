"""Redis that fails over: three nodes under load, a master and two replicas under three sentinels (docs/scaling.md#redis)."""

import time

import pytest

from harness.certificates import Certificates
from harness.crowd import Crowd
from harness.joiner import Joiner
from harness.net import is_error, until
from harness.redis import health, is_down, is_up
from harness.redis_many import StaleSentinel, Watched
from harness.server import free_port, run

GAP = '{"channel":"%s","gap":true}'


@pytest.fixture
def watched(begin, tmp_path):
    return lambda **more: begin(Watched, tmp_path / "group", **more)


def subscribed(master, channels, count):
    """Every channel is subscribed by every node."""
    return master.ask("PUBSUB", "NUMSUB", *channels)[1::2] == [count] * len(channels)


def fails_over(group, nodes, begin, record):
    """Under load `begin` makes another node the master. What must hold does."""
    crowd = Crowd(nodes)
    crowd.start()
    crowd.goes_on()
    former = group.master
    begin(former, crowd)
    master = group.failed_over(former)
    over = time.monotonic()
    crowd.goes_on(deadline=30)
    for server in nodes:
        is_up(server)
    until(lambda: subscribed(master, crowd.channels, len(nodes)), "everything is subscribed at the new master")
    crowd.stop()
    # By now every publisher that gets an answer has it.
    acknowledged, unavailable = crowd.verify(lambda channel: True)
    crowd.orders_agree()
    record("acknowledged", acknowledged)
    record("unavailable", unavailable)
    record("first delivery after the failover, ms, on each node", crowd.first_deliveries(over, crowd.channels))
    crowd.close()
    return master


@pytest.fixture
def record(record_property, capsys):
    def record(name, value):
        record_property(name, value)
        with capsys.disabled():
            print(f"\n  {name}: {value}", end="")

    return record


PASSWORDS = {
    "lines": ["requirepass secret", "masterauth secret"],
    "sentinel_lines": ["requirepass other", "sentinel auth-pass mymaster secret", "sentinel sentinel-pass other"],
    "auth": ("secret",),
    "sentinel_auth": ("other",),
}


@pytest.mark.parametrize("how", ["kill", "command", "stop", "passwords", "a stale sentinel", "sentinels that were gone"])
def test_a_failover_under_load(watched, node, record, how):
    group = watched(**(PASSWORDS if how == "passwords" else {}))
    stale = StaleSentinel(group.nodes[2].port)
    dsn = group.dsn
    if how == "passwords":
        dsn = group.dsn_of(group.sentinels, ":secret@", "?sentinel_password=other")
    elif how == "a stale sentinel":
        dsn = group.dsn_of([stale, *group.sentinels])
    nodes = [node(dsn) for _ in range(3)]

    def begin(master, crowd):
        if how == "command":
            group.sentinels[0].ask("SENTINEL", "FAILOVER", "mymaster")
        elif how == "stop":
            master.hang()
        elif how == "sentinels that were gone":
            for sentinel in group.sentinels:
                sentinel.kill()
            nodes[0].logged("sentinel of the broker does not answer")
            crowd.goes_on()
            # The master is there, and is enough.
            assert all(ok for _, _, ok in crowd.outcomes.values())
            for sentinel in group.sentinels:
                sentinel.start()
            until(group.is_settled, lambda: f"the sentinels know each other again; {group.logs()}")
            master.kill()
        else:
            master.kill()

    former = group.master
    master = fails_over(group, nodes, begin, record)
    stale.stop()
    if how == "stop":
        # It comes back, takes itself for the master for a moment, and becomes a replica.
        former.go_on()
        until(lambda: former.role() == "slave", "the former master is a replica", 30)
    for server in nodes:
        is_up(server)
        server.logged(f'has a new master.*:{master.port}"')
        assert server.metric("wsify_broker_gaps_total") == 501  # and that of users and connections
        assert server.metric(f'wsify_broker_shard_up.*:{master.port}"') == 1
    assert master.ask("PUBSUB", "NUMSUB", "c1")[1] == 3


def test_channels_are_joined_during_a_failover(watched, node):
    group = watched(replicas=1)
    one, two = node(group.dsn), node(group.dsn)
    joiner = Joiner(one)
    until(lambda: len(joiner.joined) > 20, "it joins")
    former = group.master
    former.kill()
    master = group.failed_over(former)
    for server in (one, two):
        is_up(server)
    names = joiner.stop()
    until(lambda: subscribed(master, names, 1), "everything is subscribed")
    joiner.hears_all(two)


def test_one_sentinel_that_answers_is_enough(watched, node):
    group = watched()
    first, second, third = group.sentinels
    first.kill()
    second.hang()
    server = node(group.dsn)
    member = server.ws(protocols="wsify.v1").join("x")
    second.go_on()
    third.kill()
    former = group.master
    # Two of three are needed for a failover; the one that answers is told of it by the other.
    first.start()
    former.kill()
    master = group.failed_over(former)
    is_up(server)
    until(lambda: master.ask("PUBSUB", "NUMSUB", "x")[1] == 1, "it is subscribed at the new master")
    server.publish("x", "1")
    assert sorted(member.hear() for _ in range(2)) == [GAP % "x", '{"gap":true}']
    member.hears('{"channel":"x","content":1}').is_quiet()


def test_all_sentinels_are_gone_for_a_while(watched, node):
    group = watched(replicas=1)
    server = node(group.dsn)
    member = server.ws().join("x")
    for sentinel in group.sentinels:
        sentinel.kill()
    server.logged("sentinel of the broker does not answer")
    server.publish("x", "1")  # the master is there
    member.hears("1").is_quiet()
    assert health(server)[0] == 200
    former = group.nodes[0]
    former.kill()
    is_down(server)
    is_error(server.post('{"channel":"x","content":1}'), 503, "unavailable")
    former.start()  # as a master, as no other node says otherwise
    is_up(server)
    server.publish("x", "2")
    member.hears("2").is_quiet()


@pytest.mark.parametrize("real", [2, 1])
@pytest.mark.parametrize("names", ["a replica", "nothing"])
def test_sentinels_that_disagree(watched, node, names, real):
    """One was cut off long ago, and goes on naming what is no master any more."""
    group = watched(replicas=1)
    stale = StaleSentinel(group.nodes[1].port if names == "a replica" else free_port())
    try:
        server = node(group.dsn_of([stale, *group.sentinels[:real]]))
        member = server.ws().join("x")
        assert group.master.ask("PUBSUB", "NUMSUB", "x")[1] == 1
        server.publish("x", "1")
        member.hears("1").is_quiet()
    finally:
        stale.stop()


def test_sentinels_and_redis_with_passwords_of_their_own(watched, node, serve):
    group = watched(**PASSWORDS, replicas=1)
    dsn = group.dsn_of(group.sentinels, ":secret@", "?sentinel_password=other")
    server = node(dsn)
    member = server.ws().join("x")
    server.publish("x", "1")
    member.hears("1")
    assert not any("secret" in line or "other@" in line or "password=other" in line for line in server.out), server.out
    former = group.master
    former.kill()
    group.failed_over(former)
    is_up(server)
    server.publish("x", "2")
    member.hears("2").is_quiet()
    for wrong, reason in [("", "NOAUTH"), ("?sentinel_password=hunter2", "sentinel_password")]:
        other = serve("--broker-driver", "redis", "--broker-dsn", group.dsn_of(group.sentinels, ":secret@", wrong))
        is_down(other)
        line = other.logged("a sentinel (does not say|of the broker)")
        assert reason in line and "hunter2" not in line, line
        status, out, _ = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--broker-driver", "redis", "--broker-dsn",
                             group.dsn_of(group.sentinels, ":secret@", wrong))
        assert status == 1 and reason in out and "hunter2" not in out, out


def test_what_sentinels_and_redis_have_to_allow(watched, node):
    """The permissions that docs/scaling.md names."""
    redis_rules = "user app on >secret resetchannels &* +publish +subscribe +unsubscribe +ping +role"
    sentinel_rules = "user app on >other resetchannels &+switch-master +sentinel +subscribe +unsubscribe"
    group = watched(replicas=1, lines=[redis_rules], sentinel_lines=[sentinel_rules])
    server = node(group.dsn_of(group.sentinels, "app:secret@", "?sentinel_user=app&sentinel_password=other"))
    member = server.ws().join("x")
    server.publish("x", "1")
    member.hears("1")
    former = group.master
    former.kill()
    master = group.failed_over(former)
    is_up(server)
    server.publish("x", "2")
    member.hears("2").leave("x")
    until(lambda: master.subscribers("x") == 0, "it is not subscribed any more")
    denied = {entry[entry.index(b"object") + 1] for process in (master, *group.sentinels) for entry in process.ask("ACL", "LOG")}
    assert denied <= {b"client|setname"}


def test_a_name_that_sentinels_do_not_know(watched, serve):
    group = watched(replicas=0, sentinels=1)
    server = serve("--broker-driver", "redis", "--broker-dsn", group.dsn.replace("mymaster", "other"))
    is_down(server)
    assert "no master of that name" in server.logged("sentinel does not say")


def test_check_says_what_it_found(watched):
    group = watched(replicas=2)
    group.sentinels[1].kill()
    status, out, _ = run("--check", "--listen-addr", f"127.0.0.1:{free_port()}", "--broker-driver", "redis", "--broker-dsn", group.dsn)
    assert status == 0, out
    assert "2 of 3 sentinels" in out, out
    assert f"master 127.0.0.1:{group.nodes[0].port}: redis 7" in out and "2 replicas" in out, out


def test_tls(watched, node, tmp_path):
    certificates = Certificates(tmp_path)
    group = watched(tls=certificates.redis_lines, replicas=1)
    server = node(group.dsn, env=certificates.trusted)
    member = server.ws().join("x")
    server.publish("x", "1")
    member.hears("1")
    former = group.master
    former.kill()
    group.failed_over(former)
    is_up(server)
    server.publish("x", "2")
    member.hears("2").is_quiet()
