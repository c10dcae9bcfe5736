"""After the listening connection was lost, wsify.v1 members are told that they may have missed messages; with one redis. Sentinel
and cluster have files of their own."""

import json
import re

from harness.net import request, until
from harness.redis import is_down, is_up
from harness.ws import command

GAP = '{"channel":"%s","gap":true}'
ALL = '{"gap":true}'  # what goes to users and connections
CONTENT = '{"channel":"%s","content":%s}'


def test_members_are_told_once_in_order_and_others_are_not(redis, node):
    one, two = node(redis.dsn), node(redis.dsn)
    member = one.ws(protocols="wsify.v1").join("x", "y")
    raw, outside = one.ws().join("x"), one.ws(protocols="wsify.v1")
    elsewhere = two.ws(protocols="wsify.v1").join("x")
    one.publish("x", "1")
    # The first node's link is told apart by its subscriptions: two, and two of the nodes.
    mine = next(c["id"] for c in redis.clients() if c["name"] == "wsify-listens" and c["sub"] == "4")
    redis.ask("CLIENT", "KILL", "ID", mine)
    until(lambda: redis.subscribers("x") == 2 and redis.subscribers("y") == 1, "everything is subscribed again")
    is_up(one)
    two.publish("x", "2")
    heard = [member.hear() for _ in range(5)]
    for gap in (GAP % "y", ALL):
        assert heard.pop(heard.index(gap)), heard
    assert heard == [CONTENT % ("x", 1), GAP % "x", CONTENT % ("x", 2)]
    raw.hears("1", "2").is_quiet()
    elsewhere.hears(CONTENT % ("x", 1), CONTENT % ("x", 2)).is_quiet()
    member.is_quiet()
    outside.hears(ALL).is_quiet()
    assert one.metric("wsify_broker_gaps_total") == 3 and two.metric("wsify_broker_gaps_total") == 0
    shard = f'{{shard="127.0.0.1:{redis.port}"}}'
    assert one.metric(f"wsify_broker_shard_gaps_total{shard}") == 3
    assert one.metric(f"wsify_broker_shard_reconnections_total{shard}") == 1
    assert one.metric(f"wsify_broker_shard_up{shard}") == 1


def test_the_publishing_link_makes_no_gap(redis, node):
    server = node(redis.dsn)
    member = server.ws(protocols="wsify.v1").join("x")
    victim = redis.link("wsify-publishes")
    redis.ask("CLIENT", "KILL", "ID", victim)
    until(lambda: any(c["name"] == "wsify-publishes" and c["id"] != victim for c in redis.clients()), "the link is back")
    is_up(server)
    server.publish("x", "1")
    member.hears(CONTENT % ("x", 1)).is_quiet()
    assert server.metric("wsify_broker_gaps_total") == 0


def test_who_joined_while_redis_was_away_is_told_too(redis, node):
    server = node(redis.dsn)
    early = server.ws(protocols="wsify.v1").join("x")
    redis.kill()
    is_down(server)
    late = server.ws(protocols="wsify.v1").join("x", "z")
    gone = server.ws(protocols="wsify.v1").join("x").leave("x")
    redis.start()
    is_up(server)
    after = server.ws(protocols="wsify.v1").join("x")
    server.publish("x", "1")
    heard = [early.hear() for _ in range(3)]
    assert sorted(heard) == sorted([GAP % "x", ALL, CONTENT % ("x", 1)]) and heard[-1] == CONTENT % ("x", 1)
    heard = sorted(late.hear() for _ in range(4))
    assert heard == sorted([GAP % "x", GAP % "z", ALL, CONTENT % ("x", 1)])
    after.hears(CONTENT % ("x", 1)).is_quiet()
    gone.hears(ALL).is_quiet()
    # Published and heard as ever.
    after.say(command("broadcast", "x", "2", id=1))
    assert {after.hear(), after.hear()} == {CONTENT % ("x", 2), '{"id":1,"ok":true}'}


def test_taps_show_gaps(redis, node):
    server = node(redis.dsn)
    member, raw = server.ws(protocols="wsify.v1").join("x"), server.ws().join("x")
    taps = [server.dial().send(request("GET", target)) for target in ("/tap", "/tap?channel=x", "/tap?channel=y")]
    for tap in taps:
        until(lambda: b"event: tap" in tap.buffer or not tap.more(), "the tap is open")
    redis.ask("CLIENT", "KILL", "ID", redis.link("wsify-listens"))
    assert {member.hear(), member.hear()} == {GAP % "x", ALL}
    is_up(server)
    server.publish("x", "1")
    member.hears(CONTENT % ("x", 1))
    raw.hears("1")
    server.ws().join("y")
    everything, x, y = (shown(tap, last) for tap, last in zip(taps, ("fanout", "fanout", "join"), strict=True))
    of_channel, of_all = {"channel": "x", "members": 2}, {"clients": 2}
    assert [gap for gap in everything if "channel" in gap] == [of_channel]
    assert [gap for gap in everything if "channel" not in gap] == [of_all]
    assert [gap for gap in x if "channel" in gap] == [of_channel]
    assert [gap for gap in y if "channel" in gap] == []


def shown(tap, last):
    """The gaps that a tap shows before an event of this name: their data, without the time."""
    until(lambda: f"event: {last}".encode() in tap.buffer or not tap.more(), f"the tap shows {last}")
    events = re.findall(rb"event: gap\r?\ndata: (.*?)\r?\n", tap.buffer)
    return [{name: value for name, value in json.loads(data).items() if name != "time"} for data in events]
