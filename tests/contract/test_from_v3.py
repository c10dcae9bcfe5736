"""Clients, backends and authorizers of v3 work unchanged, and v3's faults are fixed (docs/from-v3.md)."""

import json

from harness.authorizer import Reply
from harness.net import is_error, may_retry, request
from harness.server import free_port
from harness.ws import TEXT, closing, command, frame, fresh, text

JSON = ("Content-Type", "application/json")


def test_a_v3_tour(asked, authorizer):
    """The messages and bodies of v3's README, in the order a v3 client and backend send them."""
    authorizer.on(lambda q: 200 if q.command != "connect" or q.args["query"].get("token") == ["secret"] else 401)
    is_error(asked.knock("/ws").response(), 403)
    ws = asked.ws("/ws?token=secret")
    ws.say('{"command": "join", "args": {"channel": "hello"}}').is_quiet()
    ws.say('{"command": "broadcast", "args": {"channel": "hello", "content": {"hi": 1}}}').hears('{"hi": 1}')
    asked.post('{"channel": "hello", "content": "from the backend"}')
    ws.hears('"from the backend"')
    ws.say('{"command": "leave", "args": {"channel": "hello"}}').is_quiet()


def test_a_v3_authorizer_can_read_questions(asked, authorizer):
    """It decodes {command, args} and knows nothing of `connection`."""
    asked.ws("/ws?a=1", headers=[("X-Token", "t")]).join("hello")
    connect, join = authorizer.asked(2)
    assert connect.args["headers"]["X-Token"] == ["t"] and connect.args["query"] == {"a": ["1"]}
    assert (join.command, join.args) == ("join", {"channel": "hello"})


def test_a_forged_connect(asked, authorizer):
    ws = asked.ws()
    ws.fails('{"command":"connect","args":{"headers":{"X":["y"]},"query":{},"channel":"x"},"id":1}', "unknown_command", 1)
    assert len(authorizer.about()) == 1


def test_a_bad_frame_does_not_run_the_previous_command_again(plain):
    channel = fresh()
    ws = plain.ws().join(channel)
    ws.say(command("broadcast", channel, "1")).hears("1")
    for bad in ("nonsense", "", "[]", "{}", '{"args":{}}', '{"command":null}'):
        assert "error" in ws.ask(bad)
    ws.is_quiet()
    witness = plain.ws().join(channel)
    ws.send(frame(3)).is_closed(1002)
    witness.is_quiet()


def test_arguments_do_not_leak_from_one_command_into_the_next(asked, authorizer):
    ws = asked.ws().join("x")
    ws.say(command("broadcast", "x", '"secret"')).hears('"secret"')
    ws.say('{"command":"broadcast","args":{"channel":"x"}}').hears("null")
    ws.fails('{"command":"broadcast","args":{"content":1}}', "bad_channel")
    ws.fails('{"command":"broadcast"}', "bad_channel")
    ws.say('{"command":"leave","args":{"channel":"x"}}').is_quiet()
    assert authorizer.about("broadcast")[1].args == {"channel": "x"}


def test_leaving_a_channel_without_membership_does_not_hang(plain):
    plain.ws().leave(fresh()).is_quiet().leaves()


def test_a_double_join_is_delivered_once(plain):
    channel = fresh()
    ws = plain.ws().join(channel, channel, channel)
    plain.publish(channel, "1")
    ws.hears("1").is_quiet()


def test_a_charset_is_accepted(plain):
    assert plain.post('{"channel":"x"}', type="application/json; charset=utf-8").status == 201


def test_the_readmes_body(plain):
    channel = fresh()
    ws = plain.ws().join(channel)
    assert plain.post(f'{{"channel":"{channel}","args":{{"content":"hi"}}}}').status == 201
    ws.hears('"hi"')


def test_broadcast_is_not_open_to_other_machines(plain):
    is_error(plain.post('{"channel":"x"}', headers=[("X-Forwarded-For", "203.0.113.9")]), 403)


def test_redirects_are_not_followed(serve, authorizer):
    for status in (301, 302, 303, 307, 308):
        authorizer.on(Reply(status, headers=(("Location", authorizer.url + "/allowed"),)), "connect")
        is_error(serve(auth=authorizer).knock().response(), 403)
    assert {(q.method, q.target) for q in authorizer.about()} == {("POST", "/hook")}


def test_unknown_commands_are_not_passed_on(asked, authorizer):
    ws = asked.ws()
    for name in ("ping", "auth", "connect", "Join"):
        ws.fails(command(name, "x"), "unknown_command")
    assert len(authorizer.about()) == 1


def test_names_are_matched_with_their_case(plain):
    channel = fresh()
    ws = plain.ws().join(channel)
    ws.fails({"command": "broadcast", "args": {"CHANNEL": channel, "content": 1}}, "bad_channel")
    ws.say({"command": "broadcast", "args": {"channel": channel, "CONTENT": 1}}).hears("null")
    is_error(plain.post(json.dumps({"Channel": channel, "content": 1})), 400)


def test_32_mib_is_too_much(plain):
    ws = plain.ws()
    ws.stream.pour(frame(TEXT, declared=32 << 20))
    ws.is_closed(1009)


def test_an_authorizer_that_is_down_is_503_and_not_403(serve):
    may_retry(serve(auth=f"http://127.0.0.1:{free_port()}/").knock().response())


def test_broadcast_trims_names(plain):
    channel = fresh()
    ws = plain.ws().join(f" {channel} ")
    plain.publish(f"\t{channel}\n", "1")
    ws.hears("1")


def test_messages_of_one_sender_keep_their_order(plain):
    channel = fresh()
    members = [plain.ws().join(channel) for _ in range(3)]
    plain.ws().send(b"".join(text(command("broadcast", channel, str(i))) for i in range(500)) + closing(1000))
    for member in members:
        member.hears(*map(str, range(500)))


def test_the_webhook_has_a_time_limit(serve, authorizer):
    server = serve("--authorizer-timeout", "300ms", auth=authorizer)
    authorizer.hold()
    may_retry(server.knock().response())


def test_a_refused_key_is_403(serve):
    server = serve("--broadcasting-key", "k")
    stream = server.dial().send(request("POST", "/broadcast?key=x", [JSON], b'{"channel":"x"}'))
    is_error(stream.response(), 403)
    assert server.post('{"channel":"x"}', target="/broadcast?key=k").status == 201
