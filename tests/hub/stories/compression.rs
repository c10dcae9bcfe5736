//! Which members get what compressed, and what compressed messages of clients come to.

use wsify::effect::Verdict;
use wsify::hub::Settings;

use crate::client::{
    CLOSE, COMPRESSED, Client, DEFLATE, TEXT, broadcast, close, compress, frame, join, leave, post,
    text, with_id,
};
use crate::rig::{Rig, settings};

const V1: &str = "Sec-WebSocket-Protocol: wsify.v1\r\n";
const V1_DEFLATE: &str =
    "Sec-WebSocket-Protocol: wsify.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
const SMALL_WINDOW: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=14\r\n";

/// The smallest content that is compressed in these stories.
const MIN_SIZE: usize = 100;

fn rig() -> Rig {
    Rig::with(Settings {
        compression: Some(MIN_SIZE),
        ..settings()
    })
}

fn member(rig: &mut Rig, channel: &str, headers: &str) -> Client {
    let mut client = rig.websocket_with(headers);
    assert_eq!(rig.says(&mut client, &join(channel)), [""; 0]);
    client
}

/// Content that is worth it, `n` of which differ.
fn large(n: usize) -> String {
    format!(r#"{{"n":{n},"x":"{}"}}"#, "x".repeat(MIN_SIZE))
}

/// Content of this size that does not get smaller.
fn noise(size: usize) -> String {
    let mut seed = 7u64;
    let letters = (0..size - 2).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // Of so many that a letter's code takes eight bits, as each comes about once.
        char::from(b'#' + (seed % 57) as u8)
    });
    format!("\"{}\"", letters.collect::<String>().replace('\\', "~"))
}

/// The value of a metric.
fn metric(rig: &mut Rig, name: &str) -> f64 {
    let mut client = rig.client();
    client.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    rig.run();
    let _ = client.hear();
    let text = client.head.clone();
    client.far.leave();
    rig.run();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect(name).parse().expect("a number")
}

fn contents(rig: &mut Rig, outcome: &str) -> f64 {
    let name = format!("wsify_compression_contents_total{{outcome=\"{outcome}\"}}");
    metric(rig, &name)
}

#[test]
fn a_broadcast_is_compressed_once_whoever_hears_it() {
    let mut rig = rig();
    let mut members: Vec<(&str, Client)> = Vec::new();
    for headers in ["", V1, DEFLATE, V1_DEFLATE, SMALL_WINDOW] {
        for _ in 0..3 {
            members.push((headers, member(&mut rig, "a", headers)));
        }
    }
    let mut ann = rig.websocket();
    let content = large(1);
    rig.says(&mut ann, &broadcast("a", &content));
    for (headers, member) in &mut members {
        let v1 = headers.contains("wsify.v1");
        let expected = if v1 {
            format!(r#"{{"channel":"a","content":{content}}}"#)
        } else {
            content.clone()
        };
        assert_eq!(member.hear(), [expected], "{headers}");
        let compressed = usize::from([DEFLATE, V1_DEFLATE].contains(headers));
        assert_eq!(member.compressed, compressed, "{headers}");
    }
    assert_eq!(contents(&mut rig, "compressed"), 1.0);
    let bytes = "wsify_compression_bytes_total{operation=\"deflate\",form=";
    let plain = metric(&mut rig, &format!("{bytes}\"plain\"}}"));
    assert_eq!(plain, content.len() as f64);
    assert!(metric(&mut rig, &format!("{bytes}\"compressed\"}}")) < plain / 2.0);
    let seconds = "wsify_compression_seconds_total{operation=\"deflate\"}";
    assert!(metric(&mut rig, seconds) > 0.0);
}

#[test]
fn without_the_flag_it_is_never_agreed_to() {
    let mut rig = Rig::new();
    let mut ann = member(&mut rig, "a", V1_DEFLATE);
    assert_eq!(ann.header("Sec-WebSocket-Extensions"), None);
    rig.says(&mut ann, &broadcast("a", &large(1)));
    assert_eq!(ann.compressed, 0);
    let compressed = frame(COMPRESSED, &compress(join("b").as_bytes()));
    assert_eq!(rig.sends(&mut ann, &compressed), ["close 1002", "end"]);
}

#[test]
fn the_answer_names_what_was_agreed_to() {
    let mut rig = rig();
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let ann = rig.websocket_with(DEFLATE);
    assert_eq!(ann.header("Sec-WebSocket-Extensions"), Some(both));
    let ben = rig.websocket_with(SMALL_WINDOW);
    let told = format!("{both}; server_max_window_bits=14");
    assert_eq!(ben.header("sec-websocket-extensions"), Some(&told[..]));
    let unknown = "Sec-WebSocket-Extensions: permessage-deflate; mine\r\n";
    let eve = rig.websocket_with(unknown);
    assert_eq!(eve.header("Sec-WebSocket-Extensions"), None);
}

#[test]
fn a_small_window_means_plain_contents_and_compressed_messages_all_the_same() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", SMALL_WINDOW);
    let said = frame(COMPRESSED, &compress(broadcast("a", &large(1)).as_bytes()));
    assert_eq!(rig.sends(&mut ann, &said), [large(1)]);
    assert_eq!(ann.compressed, 0);
    assert_eq!(contents(&mut rig, "compressed"), 0.0);
}

#[test]
fn contents_too_small_to_compress_are_sent_plain_and_in_order() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", DEFLATE);
    let mut ben = member(&mut rig, "a", V1_DEFLATE);
    let mut eve = member(&mut rig, "a", "");
    let said = [
        large(1),
        "2".to_owned(),
        noise(MIN_SIZE),
        large(4),
        format!("\"{}\"", "x".repeat(MIN_SIZE - 3)),
        format!("\"{}\"", "x".repeat(MIN_SIZE - 2)),
    ];
    let messages: Vec<u8> = said
        .iter()
        .flat_map(|content| text(&broadcast("a", content)))
        .collect();
    // All in one turn, and so in one batch, and then one by one.
    assert_eq!(rig.sends(&mut eve, &messages), said);
    assert_eq!((ann.hear(), ann.compressed), (said.to_vec(), 3));
    assert_eq!((ben.hear().len(), ben.compressed), (6, 3));
    for content in &said {
        assert_eq!(rig.says(&mut eve, &broadcast("a", content)), [&content[..]]);
    }
    assert_eq!((ann.hear(), ann.compressed), (said.to_vec(), 6));
    assert_eq!(contents(&mut rig, "compressed"), 6.0);
    assert_eq!(contents(&mut rig, "not_smaller"), 2.0);
    assert_eq!(contents(&mut rig, "too_small"), 4.0);
}

#[test]
fn nothing_is_compressed_where_no_member_wants_it() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", "");
    let mut ben = member(&mut rig, "a", DEFLATE);
    let mut eve = rig.websocket_with(DEFLATE);
    rig.says(&mut ben, &leave("a"));
    rig.says(&mut eve, &broadcast("a", &large(1)));
    assert_eq!(ann.hear(), [large(1)]);
    rig.says(&mut eve, &broadcast("nobody", &large(1)));
    for outcome in ["compressed", "not_smaller", "too_small"] {
        assert_eq!(contents(&mut rig, outcome), 0.0);
    }
}

#[test]
fn answers_and_errors_are_plain() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", V1_DEFLATE);
    let id = "7".repeat(200);
    let said = format!(r#"{{"id":{id},"command":"leave","args":{{"channel":"a"}}}}"#);
    let compressed = frame(COMPRESSED, &compress(said.as_bytes()));
    let heard = rig.sends(&mut ann, &compressed);
    assert_eq!(heard, [format!(r#"{{"id":{id},"ok":true}}"#)]);
    let said = format!(r#"{{"id":{id},"command":"x"}}"#);
    assert!(rig.says(&mut ann, &said)[0].contains("unknown_command"));
    assert_eq!(ann.compressed, 0);
}

#[test]
fn what_backends_and_other_nodes_publish_is_compressed_too() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", DEFLATE);
    let mut backend = rig.client();
    let body = format!(r#"{{"channel":"a","content":{}}}"#, large(1));
    assert_eq!(rig.sends(&mut backend, &post(&body)), ["201"]);
    assert!(rig.hub.arrived("a", large(2).as_bytes()));
    rig.run();
    assert_eq!((ann.hear(), ann.compressed), (vec![large(1), large(2)], 2));
}

#[test]
fn joining_and_leaving_within_a_compressed_batch_loses_and_repeats_nothing() {
    for headers in [DEFLATE, V1_DEFLATE] {
        let mut rig = rig();
        let mut crowd: Vec<Client> = (0..100)
            .map(|n| member(&mut rig, "a", ["", headers][n % 2]))
            .collect();
        let mut leaver = member(&mut rig, "a", headers);
        let mut joiner = rig.websocket_with(headers);
        let mut ann = rig.websocket();
        for n in 0..3 {
            ann.say(&broadcast("a", &large(n)));
        }
        rig.tick();
        // The batch is going out; some have had it.
        joiner.say(&with_id(1, &join("a")));
        leaver.say(&with_id(1, &leave("a")));
        rig.tick();
        for n in 3..6 {
            ann.say(&broadcast("a", &large(n)));
        }
        rig.run();
        ann.hear();
        for member in &mut crowd {
            assert_eq!(member.hear().len(), 6);
        }
        let (left, joined) = (leaver.hear(), joiner.hear());
        assert_eq!(left.len(), 4, "three contents, then the answer");
        assert_eq!(left[3], r#"{"id":1,"ok":true}"#);
        assert_eq!(joined[0], r#"{"id":1,"ok":true}"#);
        assert_eq!(joined.len(), 4, "{joined:?}");
        assert!(left[0].contains(&large(0)) && joined[1].contains(&large(3)));
        assert_eq!((leaver.compressed, joiner.compressed), (3, 3));
        for client in crowd.iter().chain([&leaver, &joiner, &ann]) {
            client.far.reset();
        }
        rig.run();
        rig.assert_empty();
    }
}

#[test]
fn a_slow_reader_gets_compressed_contents_whole() {
    let mut rig = rig();
    let mut slow = member(&mut rig, "a", V1_DEFLATE);
    let mut ann = rig.websocket();
    slow.far.narrow(20);
    for n in 0..20 {
        rig.says(&mut ann, &broadcast("a", &large(n)));
    }
    let mut heard = Vec::new();
    while heard.len() < 20 {
        slow.far.widen(7);
        rig.run();
        heard.extend(slow.hear());
    }
    let all = (0..20).map(|n| format!(r#"{{"channel":"a","content":{}}}"#, large(n)));
    assert!(heard.into_iter().eq(all));
    assert_eq!(slow.compressed, 20);
}

#[test]
fn compressed_messages_come_whole_in_fragments_and_byte_by_byte() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", DEFLATE);
    let said = broadcast("a", &large(1));
    let payload = compress(said.as_bytes());
    let (front, back) = payload.split_at(payload.len() / 2);
    let fragments = [frame(0x41, front), frame(0x89, b"p"), frame(0x80, back)].concat();
    let mut single: Vec<u8> = frame(0x42, &payload[..1]);
    for byte in &payload[1..] {
        single.extend(frame(0x00, &[*byte]));
    }
    single.extend(frame(0x80, b""));
    assert_eq!(
        rig.sends(&mut ann, &frame(COMPRESSED, &payload)),
        [large(1)]
    );
    assert_eq!(
        rig.sends(&mut ann, &fragments),
        ["pong p".to_owned(), large(1)]
    );
    assert_eq!(rig.sends(&mut ann, &single), [large(1)]);
    for byte in &fragments {
        ann.send(&[*byte]);
        rig.run();
    }
    assert_eq!(ann.hear(), ["pong p".to_owned(), large(1)]);
    // Plain ones stay possible.
    assert_eq!(rig.says(&mut ann, &broadcast("a", "1")), ["1"]);
    let inflated = metric(&mut rig, "wsify_compression_messages_total");
    assert_eq!(inflated, 4.0);
}

#[test]
fn the_authorizer_is_asked_about_what_was_inflated() {
    let mut rig = Rig::with(Settings {
        authorizer: true,
        compression: Some(MIN_SIZE),
        ..settings()
    });
    let mut ann = member(&mut rig, "a", DEFLATE);
    ann.send(&frame(
        COMPRESSED,
        &compress(broadcast("a", &large(1)).as_bytes()),
    ));
    ann.send(&frame(COMPRESSED, &compress(leave("a").as_bytes())));
    rig.run();
    assert_eq!(rig.asked(), ["broadcast a"]);
    let body = String::from_utf8(rig.questions[0].body.clone()).unwrap();
    assert!(body.contains(&large(1)));
    rig.answer(Verdict::Allow);
    assert_eq!(rig.asked(), ["leave a"]);
    rig.answer(Verdict::Allow);
    assert_eq!((ann.hear(), ann.compressed), (vec![large(1)], 1));
}

#[test]
fn malformed_compressed_messages_end_the_connection() {
    let payload = compress(broadcast("a", &large(1)).as_bytes());
    let cut = &payload[..payload.len() - 1];
    let bomb = compress(&vec![b' '; (1 << 20) + 1]);
    let exact = compress(&vec![b' '; 1 << 20]);
    #[rustfmt::skip]
    let table: &[(&str, Vec<u8>, &str)] = &[
        ("RSV1 on a continuation", [frame(0x41, &payload[..9]), frame(0xC0, &payload[9..])].concat(), "close 1002"),
        ("RSV1 on a ping", frame(0xC9, b""), "close 1002"),
        ("RSV1 on a close", frame(0xC8, b""), "close 1002"),
        ("RSV2", frame(0xA1, &payload), "close 1002"),
        ("RSV3", frame(0xD1, &payload), "close 1002"),
        ("garbage", frame(COMPRESSED, &[0xFF; 40]), "close 1007"),
        ("nothing", frame(COMPRESSED, b""), "close 1007"),
        ("an early end", frame(COMPRESSED, cut), "close 1007"),
        ("an early end in fragments", [frame(0x41, &cut[..9]), frame(0x80, &cut[9..])].concat(), "close 1007"),
        ("a shared window", frame(COMPRESSED, &[0xF2, 0x00, 0x11, 0x00, 0x00]), "close 1007"),
        ("no UTF-8", frame(COMPRESSED, &compress(b"\"\xFF\"")), "close 1007"),
        ("a bomb", frame(COMPRESSED, &bomb), "close 1009"),
        ("a bomb in fragments", [frame(0x42, &bomb[..400]), frame(0x80, &bomb[400..])].concat(), "close 1009"),
        ("a large one", frame(0xC2, &compress(&vec![0; 4 << 20])), "close 1009"),
    ];
    for (name, bytes, expected) in table {
        let mut rig = rig();
        let mut ann = member(&mut rig, "a", DEFLATE);
        assert_eq!(rig.sends(&mut ann, bytes), [*expected, "end"], "{name}");
        ann.far.reset();
        rig.run();
        rig.assert_empty();
    }
    // The largest one there may be is not a command, and no violation.
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", DEFLATE);
    let heard = rig.sends(&mut ann, &frame(COMPRESSED, &exact));
    assert!(heard[0].contains("bad_message"), "{heard:?}");
    assert_eq!(rig.says(&mut ann, &broadcast("a", "1")), ["1"]);
}

#[test]
fn a_violation_is_logged_as_what_it_was() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", DEFLATE);
    rig.logged();
    rig.sends(&mut ann, &frame(COMPRESSED, &[0xFF; 40]));
    ann.far.leave();
    rig.run();
    rig.pass(10_000);
    let ended = rig.logged();
    let reasons: Vec<_> = ended.iter().map(|line| line["reason"].clone()).collect();
    assert_eq!(reasons, ["invalid_data"]);
}

#[test]
fn after_its_own_close_the_server_passes_over_compressed_messages() {
    let mut rig = rig();
    let mut ann = member(&mut rig, "a", DEFLATE);
    let payload = compress(broadcast("a", "1").as_bytes());
    let garbage = frame(COMPRESSED, &[0xFF; 40]);
    ann.send(&frame(0x41, &payload[..5]));
    rig.run();
    rig.hub.drain(0);
    rig.run();
    assert_eq!(ann.hear(), ["close 1012"]);
    // Half a message is completed, another one is none; then comes the close.
    ann.send(&[frame(0x80, &payload[5..]), garbage].concat());
    rig.run();
    assert!(!ann.far.is_dropped());
    ann.send(&close(1012));
    rig.run();
    assert_eq!(ann.hear(), ["end"]);
}

#[test]
fn inflating_does_not_delay_others() {
    // Each message has a hundred bytes, and 64 KiB when it is inflated: it counts for 33.
    const CLIENTS: usize = 20;
    const MESSAGES: usize = 30;
    let mut rig = rig();
    let mut hostile: Vec<Client> = (0..CLIENTS).map(|_| rig.websocket_with(DEFLATE)).collect();
    let large = frame(COMPRESSED, &compress(&vec![b' '; 64 * 1024]));
    for client in &hostile {
        client.send(&large.repeat(MESSAGES));
    }
    let mut answered = 0;
    while answered < CLIENTS * MESSAGES {
        rig.tick();
        let heard: Vec<usize> = hostile
            .iter_mut()
            .map(|client| client.hear().len())
            .collect();
        // 512 and 4,096 messages in a turn, and as many again for those with work left over.
        let most = heard.iter().max().unwrap();
        assert!(*most <= 2 * 16, "{most} of one connection");
        let all: usize = heard.iter().sum();
        assert!((1..=2 * 130).contains(&all), "{all} of all connections");
        answered += all;
    }
}

#[test]
fn a_close_frame_may_follow_half_a_compressed_message() {
    let mut rig = rig();
    let mut ann = rig.websocket_with(DEFLATE);
    let said = [
        frame(0x41, &[0xFF; 9]),
        frame(CLOSE, &1000u16.to_be_bytes()),
    ]
    .concat();
    assert_eq!(rig.sends(&mut ann, &said), ["close 1000", "end"]);
    let mut ben = member(&mut rig, "a", "");
    ben.send(&frame(TEXT, broadcast("a", "1").as_bytes()));
    rig.run();
    assert_eq!(ben.hear(), ["1"]);
}
