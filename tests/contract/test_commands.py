"""Commands of clients and their answers (docs/protocol.md#commands)."""

import json
import threading

import pytest

from harness.ws import BINARY, TEXT, assert_error, command, frame, fresh, text

# -- join, leave, broadcast


def test_every_member_gets_a_broadcast(plain):
    channel = fresh()
    members = [plain.ws().join(channel) for _ in range(5)]
    plain.ws().broadcast(channel, '{"any":"JSON"}')
    for member in members:
        member.hears('{"any":"JSON"}').is_quiet()


def test_a_sender_that_is_a_member_hears_its_own_broadcast(plain):
    channel = fresh()
    ws = plain.ws().join(channel)
    ws.say(command("broadcast", channel, '"me"')).hears('"me"').is_quiet()


def test_the_sender_need_not_be_a_member(plain):
    channel = fresh()
    member, sender = plain.ws().join(channel), plain.ws()
    sender.broadcast(channel, "1")
    member.hears("1")
    sender.is_quiet()


def test_a_broadcast_without_members(plain):
    plain.ws().broadcast(fresh(), "1").is_quiet()


def test_success_without_id_is_silent(plain):
    channel = fresh()
    ws = plain.ws()
    ws.say(command("join", channel)).say(command("leave", channel)).say(command("broadcast", channel, "1")).is_quiet()


def test_messages_of_other_channels_are_not_heard(plain):
    mine, other = fresh(), fresh()
    ws, stranger = plain.ws().join(mine), plain.ws().join(other)
    stranger.say(command("broadcast", other, "1")).hears("1")
    stranger.say(command("broadcast", mine, "2")).is_quiet()
    ws.hears("2").is_quiet()


@pytest.mark.parametrize("pair", [("a", "A"), ("a", "ab"), ("\u00e9", "e\u0301"), ("x", "x\u0000"), ("1", "01"), ("*", "a")])
def test_names_are_compared_as_they_are(plain, pair):
    stem = fresh()
    one, two = (f"{stem}{name}" for name in pair)
    ws = plain.ws().join(one)
    plain.ws().broadcast(two, "1").broadcast(one, "2")
    ws.hears("2")


def test_joining_twice_is_joining_once(plain):
    channel = fresh()
    ws = plain.ws().join(channel, channel)
    plain.ws().broadcast(channel, "1")
    ws.hears("1").is_quiet()
    ws.leave(channel)
    plain.ws().broadcast(channel, "2")
    ws.is_quiet()


def test_after_a_leave_nothing_is_heard(plain):
    channel = fresh()
    ws, witness = plain.ws().join(channel), plain.ws().join(channel)
    plain.publish(channel, "1")
    ws.hears("1").leave(channel)
    plain.publish(channel, "2")
    witness.hears("1", "2")
    ws.is_quiet()


def test_leaving_a_channel_without_membership_does_nothing(plain):
    channel, mine = fresh(), fresh()
    ws = plain.ws().join(mine)
    ws.leave(channel).leave(channel).join(channel).leave(channel).leave(channel)
    plain.publish(mine, "1")
    ws.hears("1")


def test_leaving_and_joining_again(plain):
    channel = fresh()
    ws = plain.ws()
    for i in range(20):
        ws.join(channel)
        plain.publish(channel, f"{i}")
        ws.hears(f"{i}").leave(channel)
        plain.publish(channel, '"lost"')
    ws.is_quiet()


def test_a_hang_up_leaves_every_channel(plain):
    channel = fresh()
    witness = plain.ws().join(channel)
    for i in range(10):
        plain.ws().join(channel).hang_up()
        plain.publish(channel, f"{i}")
        witness.hears(f"{i}")


def test_pipelined_commands(plain):
    channel = fresh()
    ws = plain.ws()
    ws.send(b"".join(text(m) for m in [
        command("broadcast", channel, "0"), command("join", channel), command("broadcast", channel, "1"),
        command("leave", channel), command("broadcast", channel, "2"), command("join", channel),
        command("broadcast", channel, "3"),
    ]))
    ws.hears("1", "3").is_quiet()


def test_byte_by_byte(plain):
    channel = fresh()
    ws = plain.ws()
    ws.stream.drip(text(command("join", channel, id=1)) + text(command("broadcast", channel, '"b"')))
    assert ws.answer() == {"id": 1, "ok": True}
    ws.hears('"b"')


def test_a_binary_message_is_a_message(plain):
    channel = fresh()
    ws = plain.ws()
    ws.send(frame(BINARY, command("join", channel, id=1)))
    assert ws.answer() == {"id": 1, "ok": True}
    ws.send(frame(BINARY, command("broadcast", channel, '"b"')))
    got = ws.next_frame()
    assert (got.opcode, got.payload) == (TEXT, b'"b"'), "members get text"


@pytest.mark.parametrize("space", [" ", "\n\t\r ", "  \n"])
def test_white_space_around_the_message(plain, space):
    ws = plain.ws()
    ws.say(space + command("join", fresh(), id=1) + space)
    assert ws.answer() == {"id": 1, "ok": True}


def test_any_order_of_names_and_unknown_ones(plain):
    channel = fresh()
    ws = plain.ws()
    ws.say(f'{{"more":[1,{{"a":1,"a":2}}],"id":1,"args":{{"why":"x","channel":"{channel}"}},"command":"join"}}')
    assert ws.answer() == {"id": 1, "ok": True}
    ws.say(f'{{"args":{{"content":[1],"x":null,"channel":"{channel}"}},"command":"broadcast"}}').hears("[1]")


def test_escaped_names_are_the_same_names(plain):
    channel = fresh()
    ws = plain.ws()
    ws.say(f'{{"c\\u006fmmand":"\\u006aoin","\\u0061rgs":{{"ch\\u0061nnel":"{channel}"}},"\\u0069d":1}}')
    assert ws.answer() == {"id": 1, "ok": True}
    plain.publish(channel, "1")
    ws.hears("1")


# -- the content, byte for byte

CONTENTS = [
    "null", "true", "false", "0", "-0", "1.0", "1.10", "1e5", "1E+5", "-1.5e-300", "1e999999", "123456789012345678901234567890",
    "0.1000000000000000055511151231257827", '""', '"a"', '"\\u0041\\/\\n"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\u0000"',
    '"é€😀"', '"\u2028\u007f"', '"</script>&<>"', "[]", "{}", "[ ]", "{ }", "[1, 2 ,3]", '{"b":1,"a":2}', '{ "b" : 1 ,\n"a":\t2 }',
    '{"a":1,"a":2}', '{"":{"":[[[{}]]]}}', '{"channel":"x","content":1,"command":"join"}', '{"id":1,"ok":true}',
]


@pytest.mark.parametrize("content", CONTENTS)
def test_content_byte_for_byte(plain, content):
    channel = fresh()
    raw, v1 = plain.ws().join(channel), plain.ws(protocols="wsify.v1").join(channel)
    plain.ws().broadcast(channel, content)
    raw.hears(content)
    v1.hears(f'{{"channel":"{channel}","content":{content}}}')


@pytest.mark.parametrize("before, after", [(" ", " "), ("\n\t", "\r\n"), ("", "   ")])
def test_white_space_around_the_content_is_not_the_content(plain, before, after):
    channel = fresh()
    ws = plain.ws().join(channel)
    ws.say(f'{{"command":"broadcast","args":{{"channel":"{channel}","content":{before}[1, 2]{after}}}}}').hears("[1, 2]")


def test_no_content_is_null(plain):
    channel = fresh()
    ws = plain.ws().join(channel)
    ws.say(command("broadcast", channel)).hears("null")
    v1 = plain.ws(protocols="wsify.v1").join(channel)
    v1.say(command("broadcast", channel)).hears(f'{{"channel":"{channel}","content":null}}')


@pytest.mark.parametrize("depth", [100, 127, 128, 129, 1000, 20000])
def test_deep_content(plain, depth):
    channel = fresh()
    ws = plain.ws().join(channel)
    content = "[" * depth + "]" * depth
    ws.say(command("broadcast", channel, content)).hears(content)


@pytest.mark.parametrize("size", [1, 100, 113, 125, 126, 127, 128, 1000, 65533, 65535, 65536, 65537, 300_000, 1_000_000])
def test_content_of_any_size(plain, size):
    channel = fresh()
    ws = plain.ws().join(channel)
    content = "1" * size
    ws.say(command("broadcast", channel, content))
    assert ws.hear() == content


# -- channel names


@pytest.mark.parametrize(
    "name", [" {} ", "\t{}\n", "\u00a0{}", "{}\u3000", "\u2003\u2028{}\u2029\u205f", "\u0085{}\u1680", "\r\n\u000b\u000c{}", "\u202f{}"]
)
def test_a_name_is_trimmed(plain, name):
    channel = fresh()
    name = name.format(channel)
    ws = plain.ws().join(name)
    plain.ws().broadcast(channel, "1")
    ws.hears("1")
    plain.ws().broadcast(name, "2")
    ws.hears("2")
    ws.leave(channel)
    plain.ws().broadcast(name, "3")
    ws.is_quiet()
    v1 = plain.ws(protocols="wsify.v1").join(name)
    v1.say(command("broadcast", name, "4")).hears(f'{{"channel":"{channel}","content":4}}')


@pytest.mark.parametrize("name", ["\u200b{}", "{}\ufeff", "{}\u180e", "\u0000{}", "a b {}", "\u001c{}"])
def test_characters_that_are_no_white_space_are_kept(plain, name):
    """U+200B, U+FEFF, U+180E and U+001C do not have the property White_Space."""
    channel = fresh()
    ws = plain.ws().join(name.format(channel))
    plain.ws().broadcast(channel, "1").broadcast(name.format(channel), "2")
    ws.hears("2")


BLANK = ["", " ", "\t\n", "\u00a0", "\u3000 \u2003"]


@pytest.mark.parametrize("which", ["join", "leave", "broadcast"])
@pytest.mark.parametrize("name", BLANK)
def test_a_blank_name(plain, which, name):
    answer = plain.ws().fails(command(which, name, id=1), "bad_channel", 1)
    assert answer["error"]["command"] == which


@pytest.mark.parametrize("which", ["join", "leave", "broadcast"])
def test_no_name(plain, which):
    ws = plain.ws()
    ws.fails(command(which, id=1), "bad_channel", 1)
    ws.fails({"command": which, "id": 2}, "bad_channel", 2)
    ws.fails({"command": which, "args": {"content": 1, "Channel": "x"}, "id": 3}, "bad_channel", 3)
    ws.is_quiet()


def test_a_name_has_at_most_255_bytes(plain):
    ws = plain.ws()
    stem = fresh()
    for longest in [stem + "n" * (255 - len(stem)), stem + "x" * ((255 - len(stem)) % 2) + "é" * ((255 - len(stem)) // 2)]:
        assert len(longest.encode()) == 255
        ws.join(longest).join(f"  {longest}\u3000")
        plain.ws().broadcast(longest, "1")
        ws.hears("1")
        for which in ("join", "leave", "broadcast"):
            ws.fails(command(which, longest + "n", id=2), "bad_channel", 2)
        ws.fails(command("join", longest[:-1] + "\U0001f600", id=3), "bad_channel", 3)
    ws.fails(command("join", "x" * 100_000, id=4), "bad_channel", 4)
    ws.is_quiet()


def test_the_length_of_a_name_is_that_of_its_unescaped_form(plain):
    ws = plain.ws()
    name = "\\u0041" * 255
    assert ws.ask(f'{{"command":"join","args":{{"channel":"{name}"}},"id":1}}') == {"id": 1, "ok": True}
    ws.leave("A" * 255)


@pytest.mark.parametrize("name", ['"', "\\", "a\"b\\c/d", "\u0001", "\n.\n", "\u007f", "\u2028x", "é", "😀", "</script>", "\u0000"])
def test_a_name_is_escaped_as_json_in_messages(plain, name):
    channel = fresh() + name + "."
    v1 = plain.ws(protocols="wsify.v1").join(channel)
    v1.say(command("broadcast", channel, "1.0"))
    heard = v1.hear()
    assert json.loads(heard) == {"channel": channel, "content": 1}
    assert heard.endswith(',"content":1.0}')


# -- order


def test_one_sender_is_heard_in_order(plain):
    channel = fresh()
    member, sender = plain.ws().join(channel), plain.ws()
    sender.send(b"".join(text(command("broadcast", channel, str(i))) for i in range(2000)))
    member.hears(*map(str, range(2000))).is_quiet()


def test_all_members_hear_the_same_order(plain):
    channel = fresh()
    members = [plain.ws().join(channel) for _ in range(4)]
    senders, each = 6, 200

    def send(number):
        ws = plain.ws()
        for i in range(each):
            ws.say(command("broadcast", channel, f"[{number},{i}]"))
        ws.is_quiet().hang_up()

    threads = [threading.Thread(target=send, args=(n,)) for n in range(senders)]
    for thread in threads:
        thread.start()
    heard = [[member.hear() for _ in range(senders * each)] for member in members]
    for thread in threads:
        thread.join()
    for member, list_ in zip(members, heard):
        assert list_ == heard[0]
        member.is_quiet()
    assert len(set(heard[0])) == senders * each, "each exactly once"
    for number in range(senders):
        mine = [json.loads(m)[1] for m in heard[0] if m.startswith(f"[{number},")]
        assert mine == sorted(mine), "a sender's own order is kept"


def test_members_that_come_and_go_miss_nothing_in_between(plain):
    """A member hears a run without gaps from its join to its leave, while another client keeps broadcasting."""
    channel = fresh()
    over = threading.Event()
    steady = plain.ws().join(channel)

    def talk():
        ws = plain.ws()
        for i in range(100_000):
            if over.is_set():
                break
            ws.say(command("broadcast", channel, str(i)))
            steady.hears(str(i))

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        ws = plain.ws()
        for turn in range(50):
            ws.say(command("join", channel, id="in"))
            assert ws.hear() == '{"id":"in","ok":true}', "nothing is heard before the join has taken effect"
            first = int(ws.hear())
            ws.say(command("leave", channel, id="out"))
            expected = first + 1
            while not (heard := ws.hear()).startswith("{"):
                assert int(heard) == expected
                expected += 1
            assert heard == '{"id":"out","ok":true}'
            ws.is_quiet()
    finally:
        over.set()
        talker.join()


# -- ids


@pytest.mark.parametrize(
    "id",
    ["7", "0", "-1", "-0", "1.0", "1.50", "1e3", "1E+3", "12345678901234567890123", "0.30000000000000004441", '"a"', '""', '"é"',
     '"\\"\\\\"', '"\\u0000"', '"null"'],
)
@pytest.mark.parametrize("which", ["join", "leave", "broadcast", "unknown"])
def test_an_answer_has_the_id_of_its_command(plain, id, which):
    ws = plain.ws()
    ws.say(f'{{"id":{id},"command":"{which}","args":{{"channel":"{fresh()}"}}}}')
    heard = ws.hear()
    answer = json.loads(heard)
    assert answer["id"] == json.loads(id)
    if which != "unknown":
        assert set(answer) == {"id", "ok"} and answer["ok"] is True
    else:
        assert_error(answer, "unknown_command", json.loads(id))
    if not id.startswith('"'):
        assert heard.startswith(f'{{"id":{id},'), "numbers keep every digit"


def test_the_answer_byte_for_byte(plain):
    ws = plain.ws()
    ws.say(command("join", fresh(), id=7)).hears('{"id":7,"ok":true}')


def test_id_null_counts_as_no_id(plain):
    channel = fresh()
    ws = plain.ws().say(f'{{"command":"join","args":{{"channel":"{channel}"}},"id":null}}').is_quiet()
    answer = ws.ask({"command": "nothing", "id": None})
    assert_error(answer, "unknown_command")
    ws.say(command("broadcast", channel, "1")).hears("1")


@pytest.mark.parametrize("id", ["true", "false", "[]", "[1]", "{}", '{"a":1}'])
def test_an_id_of_another_type(plain, id):
    ws = plain.ws()
    channel = fresh()
    ws.fails(f'{{"command":"join","args":{{"channel":"{channel}"}},"id":{id}}}', "bad_message")
    plain.publish(channel, "1")
    ws.is_quiet()


def test_a_command_is_answered_when_it_has_taken_effect(plain):
    channel = fresh()
    ws = plain.ws()
    for i in range(50):
        ws.join(channel)
        plain.publish(channel, str(i))
        ws.hears(str(i)).leave(channel)
        plain.publish(channel, "-1")
    ws.is_quiet()


def test_answers_come_in_order(plain):
    ws = plain.ws()
    channel = fresh()
    ws.send(b"".join(text(command(("join", "nothing", "leave")[i % 3], channel, id=i)) for i in range(600)))
    assert [ws.answer()["id"] for _ in range(600)] == list(range(600))


# -- errors


BAD = [
    "", " ", "hello", "{", '{"command":"join"', '{"command":"join","args":{"channel":"x"}', "[]", "[1]", "1", "null", "true", '"x"',
    '{"command":"join","args":{"channel":"x"}}x', '{"command":"join","args":{"channel":"x"}}{}', '{"command":"join","args":{"channel":"x"},}',
    "{'command':'join'}", '{"command":"join",args:{}}', '\ufeff{"command":"join","args":{"channel":"x"}}', "{]",
    '{"command":"join","args":{"channel":"x","content":01}}', '{"command":"join","args":{"channel":"x","content":1.}}',
    '{"command":"join","args":{"channel":"x","content":.5}}', '{"command":"join","args":{"channel":"x","content":+1}}',
    '{"command":"join","args":{"channel":"x","content":NaN}}', '{"command":"join","args":{"channel":"x","content":"\\x"}}',
    '{"command":"join","args":{"channel":"x","content":"\\u12"}}', '{"command":"join","args":{"channel":"x","content":tru}}',
    '{"command":"join","args":{"channel":"x","content":"a\nb"}}', '{"command":"join","args":{"channel":"x","content":[1,]}}',
    '{"command":"join","args":{"channel":"x","content":}}', '{"command":"broadcast","args":{"channel":"x","content":{"a"}}}',
    '{"command":"join","args":{"channel":"\\ud800"}}', "[" * 100_000, '{"a":' * 100_000,
    # wrong types
    '{"command":1,"args":{"channel":"x"}}', '{"command":null,"args":{"channel":"x"}}', '{"command":["join"],"args":{"channel":"x"}}',
    '{"command":"join","args":1}', '{"command":"join","args":"x"}', '{"command":"join","args":["x"]}', '{"command":"join","args":true}',
    '{"command":"join","args":{"channel":1}}', '{"command":"join","args":{"channel":["x"]}}', '{"command":"join","args":{"channel":true}}',
    '{"command":"join","args":{"channel":{"channel":"x"}}}', '{"command":"broadcast","args":{"channel":1,"content":2}}',
    # a name given twice
    '{"command":"join","command":"leave","args":{"channel":"x"}}', '{"command":"join","command":"join","args":{"channel":"x"}}',
    '{"command":"join","args":{"channel":"x"},"args":{"channel":"y"}}', '{"command":"join","args":{"channel":"x","channel":"y"}}',
    '{"command":"broadcast","args":{"channel":"x","content":1,"content":2}}', '{"command":"join","args":{"channel":"x"},"z":1,"z":1}',
    '{"command":"join","args":{"channel":"x","z":1,"z":2}}', '{"command":"join","args":{"channel":"x","ch\\u0061nnel":"y"}}',
    '{"command":"join","c\\u006fmmand":"leave","args":{"channel":"x"}}', '{"command":"join","args":{"channel":"x"},"":1,"":2}',
    '{"command":"join","args":{"channel":"x"},"id":null,"id":null}',
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_message(plain, number):
    ws = plain.ws()
    answer = ws.ask(BAD[number])
    assert_error(answer, "bad_message")
    ws.is_quiet().join(fresh())


def test_binary_that_is_not_utf8_is_a_bad_message(plain):
    ws = plain.ws()
    ws.send(frame(BINARY, b'{"command":"join","args":{"channel":"\xff"}}'))
    assert_error(ws.answer(), "bad_message")
    ws.is_quiet()


@pytest.mark.parametrize(
    "message",
    ['{"id":7,"command":"join","args":{"channel":1}}', '{"id":7,"command":"join","args":[]}', '{"args":{"channel":true},"command":"join","id":7}'],
)
def test_a_bad_message_names_its_id_where_known(plain, message):
    answer = plain.ws().fails(message, "bad_message", 7)
    assert answer["error"].get("command", "join") == "join"


@pytest.mark.parametrize("name", ["connect", "Connect", "Join", "JOIN", " join", "join ", "", "ping", "subscribe", "broadcasts", "join\u0000", "é"])
def test_unknown_command(plain, name):
    answer = plain.ws().fails(command(name, "x", id=3), "unknown_command", 3)
    assert answer["error"]["command"] == name


def test_unknown_command_without_args(plain):
    ws = plain.ws()
    ws.fails({"command": "connect"}, "unknown_command")
    ws.fails({"command": "connect", "args": {}, "id": "c"}, "unknown_command", "c")


def test_no_command(plain):
    """Either code fits."""
    ws = plain.ws()
    for message in ["{}", '{"args":{"channel":"x"},"id":1}', '{"Command":"join","args":{"channel":"x"}}', '{"COMMAND":"join"}']:
        answer = ws.ask(message)
        assert answer["error"]["code"] in ("bad_message", "unknown_command"), answer
    ws.is_quiet()


def test_names_are_matched_with_their_case(plain):
    channel = fresh()
    ws = plain.ws()
    ws.fails({"command": "join", "Args": {"channel": channel}, "id": 1}, "bad_channel", 1)
    ws.fails({"command": "join", "args": {"Channel": channel}, "id": 1}, "bad_channel", 1)
    ws.say({"command": "join", "args": {"channel": channel}, "Id": 1}).is_quiet()
    ws.say({"command": "broadcast", "args": {"channel": channel, "Content": 1}}).hears("null")
    ws.say({"command": "join", "COMMAND": "leave", "args": {"channel": channel, "CHANNEL": "y"}, "id": 2})
    assert ws.answer() == {"id": 2, "ok": True}


def test_too_many_channels(serve):
    server = serve("--max-channels", "3")
    ws = server.ws().join("a", "b", "c")
    for _ in range(2):
        answer = ws.fails(command("join", "d", id=1), "too_many_channels", 1)
        assert (answer["error"]["command"], answer["error"]["channel"]) == ("join", "d")
    ws.join("a", " b ")
    ws.broadcast("d", "1").leave("d")
    ws.leave("b").join("d")
    ws.fails(command("join", "b"), "too_many_channels")
    server.publish("b", "1")
    server.publish("d", "2")
    ws.hears("2")
    server.ws().join("x", "y", "z"), "the limit is one connection's"


def test_a_join_over_max_channels_is_not_asked_about(serve, authorizer):
    ws = serve("--max-channels", "1", auth=authorizer).ws().join("a")
    ws.fails(command("join", "b", id=1), "too_many_channels", 1)
    assert len(authorizer.about("join")) == 1


def test_a_thousand_channels_by_default(plain):
    ws = plain.ws()
    stem = fresh()
    ws.send(b"".join(text(command("join", f"{stem}-{i}", id=i)) for i in range(1000)))
    for i in range(1000):
        assert ws.answer() == {"id": i, "ok": True}
    ws.fails(command("join", stem, id="more"), "too_many_channels", "more")


def test_invalid_commands_are_not_asked_about(asked, authorizer):
    ws = asked.ws()
    for message in BAD:
        assert ws.ask(message)["error"]["code"] == "bad_message"
    for message in [command("connect", "x"), command("nothing", "x"), command("join", " "), command("join"), command("broadcast", "n" * 256)]:
        assert ws.ask(message)["error"]["code"] in ("unknown_command", "bad_channel")
    assert [q.command for q in authorizer.about()] == ["connect"]
    ws.join("fine")
    assert [q.command for q in authorizer.about()] == ["connect", "join"]


def test_an_error_has_its_command_and_channel(asked, authorizer):
    authorizer.on(403, channel="hello")
    ws = asked.ws()
    for which in ("join", "leave", "broadcast"):
        answer = ws.fails(command(which, "hello", id=7), "not_authorized", 7)
        assert (answer["error"]["command"], answer["error"]["channel"]) == (which, "hello")
        ws.fails(command(which, "hello"), "not_authorized")


def test_an_error_is_one_text_message_whatever_the_subprotocol(plain):
    ws = plain.ws(protocols="wsify.v1")
    ws.fails(command("nothing", id=1), "unknown_command", 1)
    ws.join(fresh())


# -- sizes


def message_of(size, id):
    return command("nothing", "x", id=id).ljust(size)


@pytest.mark.parametrize("limit, bytes_", [("1000", 1000), ("64KiB", 65536), ("1MiB", 1 << 20)])
def test_a_message_of_the_greatest_size(serve, limit, bytes_):
    server = serve("--max-message-size", limit)
    ws = server.ws()
    assert len(message_of(bytes_, 1)) == bytes_
    ws.say(message_of(bytes_, 1))
    assert ws.answer()["error"]["code"] == "unknown_command"
    ws.stream.pour(text(message_of(bytes_ + 1, 1)))
    ws.is_closed(1009)


def test_the_default_is_1_mib(plain):
    ws = plain.ws()
    ws.say(message_of(1 << 20, 1))
    assert ws.answer()["error"]["code"] == "unknown_command"
    ws.stream.pour(text(message_of((1 << 20) + 1, 1)))
    ws.is_closed(1009)


def test_a_fragmented_message_has_the_same_limit(serve):
    server = serve("--max-message-size", "1000")
    ws = server.ws()
    whole = message_of(1000, 1).encode()
    parts = [whole[:400], whole[400:800], b"", whole[800:]]
    ws.send(b"".join(frame(TEXT if i == 0 else 0, part, fin=i == 3) for i, part in enumerate(parts)))
    assert ws.answer()["error"]["code"] == "unknown_command"
    parts[2] = b" "
    ws.stream.pour(b"".join(frame(TEXT if i == 0 else 0, part, fin=i == 3) for i, part in enumerate(parts)))
    ws.is_closed(1009)


def test_a_message_that_is_too_big_is_refused_by_its_header(serve):
    server = serve("--max-message-size", "1000")
    server.ws().send(frame(TEXT, declared=1001)).is_closed(1009)
    ws = server.ws().send(frame(TEXT, b"x" * 600, fin=False))
    ws.send(frame(0, declared=401)).is_closed(1009)
