//! Tables of commands and bodies.

use super::*;

/// What a message comes to, as one line.
fn outcome(message: &[u8]) -> String {
    match parse(message) {
        Ok(command) => format!(
            "{} {:?} {} {} {}",
            command.verb.as_str(),
            command.channel(message),
            text(command.content(message)),
            text(command.args(message)),
            command.id(message).unwrap_or("-"),
        ),
        Err(rejected) => {
            assert!(!rejected.fault.message.is_empty());
            format!(
                "{} {} {} {}",
                rejected.fault.code.as_str(),
                rejected.id.as_deref().unwrap_or("-"),
                rejected.command.as_deref().unwrap_or("-"),
                rejected.channel.as_deref().unwrap_or("-"),
            )
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn code(message: impl AsRef<[u8]>) -> Code {
    parse(message.as_ref()).unwrap_err().fault.code
}

const COMMANDS: &[(&str, &str)] = &[
    (
        r#"{"command":"join","args":{"channel":"hello"}}"#,
        r#"join "hello" null {"channel":"hello"} -"#,
    ),
    (
        r#"{"command":"leave","args":{"channel":"hello"},"id":7}"#,
        r#"leave "hello" null {"channel":"hello"} 7"#,
    ),
    (
        r#"{"command":"broadcast","args":{"channel":"h","content":{"any":"JSON"}}}"#,
        r#"broadcast "h" {"any":"JSON"} {"channel":"h","content":{"any":"JSON"}} -"#,
    ),
    // Digits, order and inner white space stay as sent; white space around a value is not part of it.
    (
        "{ \"command\" :\"broadcast\",\"args\"\t: \r\n{ \"content\" : { \"b\" : 1.00,\n\"a\":1e999 } , \"channel\":\"h\" } ,\"id\": 1.0e2 }",
        "broadcast \"h\" { \"b\" : 1.00,\n\"a\":1e999 } { \"content\" : { \"b\" : 1.00,\n\"a\":1e999 } , \"channel\":\"h\" } 1.0e2",
    ),
    (
        r#"{"command":"broadcast","args":{"channel":"h","content":123456789012345678901234567890}}"#,
        r#"broadcast "h" 123456789012345678901234567890 {"channel":"h","content":123456789012345678901234567890} -"#,
    ),
    (
        r#"{"command":"broadcast","args":{"channel":"h","content":"\ud800\u0041"}}"#,
        r#"broadcast "h" "\ud800\u0041" {"channel":"h","content":"\ud800\u0041"} -"#,
    ),
    (
        r#"{"command":"broadcast","args":{"channel":"h","content":null}}"#,
        r#"broadcast "h" null {"channel":"h","content":null} -"#,
    ),
    // Ids as they were sent; null means none.
    (
        r#"{"id":9007199254740993000000001,"command":"join","args":{"channel":"h"}}"#,
        r#"join "h" null {"channel":"h"} 9007199254740993000000001"#,
    ),
    (
        r#"{"id":-1,"command":"join","args":{"channel":"h"}}"#,
        r#"join "h" null {"channel":"h"} -1"#,
    ),
    (
        r#"{"id":"a\u0062\n","command":"join","args":{"channel":"h"}}"#,
        r#"join "h" null {"channel":"h"} "a\u0062\n""#,
    ),
    (
        r#"{"id":null,"command":"join","args":{"channel":"h"}}"#,
        r#"join "h" null {"channel":"h"} -"#,
    ),
    // Names and strings mean what they mean unescaped.
    (
        r#"{"c\u006fmmand":"\u006aoin","\u0061rgs" : {"ch\u0061nnel":"\u00a0h\u00e9\u2003"}}"#,
        r#"join "hé" null {"ch\u0061nnel":"\u00a0h\u00e9\u2003"} -"#,
    ),
    (
        "{\"command\":\"join\",\"args\":{\"channel\":\" \u{3000}h é\u{85} \"}}",
        "join \"h é\" null {\"channel\":\" \u{3000}h é\u{85} \"} -",
    ),
    // What is not known is passed over, whatever it holds.
    (
        r#"{"command":"join","x":{"a":1,"a":2},"Command":5,"channel":5,"args":{"channel":"h","args":{"a":[],"a":0},"id":{}},"":[]}"#,
        r#"join "h" null {"channel":"h","args":{"a":[],"a":0},"id":{}} -"#,
    ),
];

const REJECTED: &[(&str, &str)] = &[
    ("", "bad_message - - -"),
    ("   ", "bad_message - - -"),
    ("nonsense", "bad_message - - -"),
    ("{", "bad_message - - -"),
    ("{}", "bad_message - - -"),
    ("[]", "bad_message - - -"),
    ("null", "bad_message - - -"),
    ("7", "bad_message - - -"),
    (r#""join""#, "bad_message - - -"),
    (
        "\u{feff}{\"command\":\"join\",\"args\":{\"channel\":\"h\"}}",
        "bad_message - - -",
    ),
    (
        "{'command':'join','args':{'channel':'h'}}",
        "bad_message - - -",
    ),
    (
        r#"{"command":"join","args":{"channel":"h"},}"#,
        "bad_message - - -",
    ),
    (
        r#"{"command":"join","args":{"channel":"h",}}"#,
        "bad_message - - -",
    ),
    (
        r#"{"command":"join","args" {"channel":"h"}}"#,
        "bad_message - - -",
    ),
    (
        r#"{"command":"broadcast","args":{"channel":"h","content":01}}"#,
        "bad_message - - -",
    ),
    (
        r#"{"command":"broadcast","args":{"channel":"h","content":NaN}}"#,
        "bad_message - - -",
    ),
    (
        "{\"command\":\"join\",\"args\":{\"channel\":\"a\nb\"}}",
        "bad_message - - -",
    ),
    (
        r#"{"command":"join","args":{"channel":"\x"}}"#,
        "bad_message - - -",
    ),
    // Syntax comes before everything else.
    (
        r#"{"command":"fly","id":7,"args":{"channel":""}]"#,
        "bad_message - - -",
    ),
    // Types.
    (r#"{"id":7}"#, "bad_message 7 - -"),
    (
        r#"{"Command":"join","args":{"channel":"h"},"id":"x"}"#,
        r#"bad_message "x" - h"#,
    ),
    (
        r#"{"command":null,"args":{"channel":"h"}}"#,
        "bad_message - - h",
    ),
    (
        r#"{"command":1,"args":{"channel":"h"}}"#,
        "bad_message - - h",
    ),
    (
        r#"{"command":["join"],"args":{"channel":"h"}}"#,
        "bad_message - - h",
    ),
    (
        r#"{"command":"join","args":[],"id":7}"#,
        "bad_message 7 join -",
    ),
    (
        r#"{"command":"join","args":"{}","id":7}"#,
        "bad_message 7 join -",
    ),
    (
        r#"{"command":"join","args":1e999,"id":7}"#,
        "bad_message 7 join -",
    ),
    (
        r#"{"command":"join","args":{"channel":7},"id":7}"#,
        "bad_message 7 join -",
    ),
    (
        r#"{"command":"join","args":{"channel":{"x":1}}}"#,
        "bad_message - join -",
    ),
    (
        r#"{"command":"join","args":{"channel":"h"},"id":true}"#,
        "bad_message - join h",
    ),
    (
        r#"{"command":"join","args":{"channel":"h"},"id":[7]}"#,
        "bad_message - join h",
    ),
    (
        r#"{"command":"join","args":{"channel":"h"},"id":{}}"#,
        "bad_message - join h",
    ),
    (
        r#"{"command":"join","args":{"channel":"\ud800"},"id":7}"#,
        "bad_message 7 join -",
    ),
    (
        r#"{"command":"\udc00","args":{"channel":"h"},"id":7}"#,
        "bad_message 7 - h",
    ),
    (
        r#"{"command":"join","args":{"channel":"h","\ud800":1}}"#,
        "bad_message - - -",
    ),
    // A wrong type comes before an unknown command.
    (
        r#"{"command":"fly","args":{"channel":5}}"#,
        "bad_message - fly -",
    ),
    // Names given twice, known or not, escaped or not, here or in args.
    (
        r#"{"command":"join","command":"join","args":{"channel":"h"},"id":7}"#,
        "bad_message 7 - h",
    ),
    (
        r#"{"command":"join","args":{"channel":"h"},"args":{"channel":"h"}}"#,
        "bad_message - join -",
    ),
    (
        r#"{"command":"join","args":{"channel":"h"},"args":null}"#,
        "bad_message - join -",
    ),
    (
        r#"{"command":"join","args":{"channel":"h","channel":"h"},"id":7}"#,
        "bad_message 7 join -",
    ),
    (
        r#"{"command":"join","args":{"channel":"h","ch\u0061nnel":"h"}}"#,
        "bad_message - join -",
    ),
    (
        r#"{"command":"join","args":{"channel":"h"},"x":1,"\u0078":1}"#,
        "bad_message - join h",
    ),
    (
        r#"{"command":"join","args":{"":1,"channel":"h","":1}}"#,
        "bad_message - join h",
    ),
    (
        r#"{"id":1,"command":"join","id":2,"args":{"channel":"h"},"id":3}"#,
        "bad_message - join h",
    ),
    (
        r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"a":0}"#,
        "bad_message - - -",
    ),
    (
        r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"\u006a":0}"#,
        "bad_message - - -",
    ),
    // Unknown commands, before bad channels.
    (
        r#"{"command":"connect","args":{"channel":"h"},"id":7}"#,
        "unknown_command 7 connect h",
    ),
    (
        r#"{"command":"","args":{"channel":"h"}}"#,
        "unknown_command -  h",
    ),
    (
        r#"{"command":"Join","args":{"channel":"h"}}"#,
        "unknown_command - Join h",
    ),
    (
        r#"{"command":" join","args":{"channel":"h"}}"#,
        "unknown_command -  join h",
    ),
    (r#"{"command":"fly"}"#, "unknown_command - fly -"),
    (
        r#"{"command":"fly","args":{"channel":" h "}}"#,
        "unknown_command - fly h",
    ),
    // Channels.
    (r#"{"command":"join"}"#, "bad_channel - join -"),
    (
        r#"{"command":"join","args":null,"id":7}"#,
        "bad_channel 7 join -",
    ),
    (
        r#"{"command":"join","args":{},"id":7}"#,
        "bad_channel 7 join -",
    ),
    (r#"{"command":"join","args": { } }"#, "bad_channel - join -"),
    (
        r#"{"command":"join","args":{"channel":null}}"#,
        "bad_channel - join -",
    ),
    (
        r#"{"command":"join","args":{"channel":""}}"#,
        "bad_channel - join -",
    ),
    (
        r#"{"command":"join","args":{"channel":"\t\u2003 "}}"#,
        "bad_channel - join -",
    ),
    (
        r#"{"command":"join","channel":"h","args":{}}"#,
        "bad_channel - join -",
    ),
];

#[test]
fn commands_are_read() {
    for (message, expected) in COMMANDS {
        assert_eq!(outcome(message.as_bytes()), *expected, "{message}");
        fuzz(message.as_bytes());

        let padded = format!(" \r\n\t{message}\t\n");
        assert_eq!(outcome(padded.as_bytes()), *expected, "{message}, padded");

        let owned = message.as_bytes().to_vec();
        let command = parse(message.as_bytes()).unwrap();
        assert_eq!(
            command.channel(&owned),
            command.channel(message.as_bytes()),
            "{message}, a copy"
        );

        for len in 0..message.len() {
            let part = &message.as_bytes()[..len];
            assert_eq!(code(part), Code::BadMessage, "{message} up to {len}");
            fuzz(part);
        }
        for trailing in ["x", "{}", ",", "\u{0}", "}"] {
            let longer = format!("{message}{trailing}");
            assert_eq!(code(longer), Code::BadMessage, "{message} and {trailing}");
        }
    }
}

#[test]
fn messages_that_are_no_commands_are_rejected() {
    for (message, expected) in REJECTED {
        assert_eq!(outcome(message.as_bytes()), *expected, "{message}");
        let padded = format!("\n {message} \t");
        assert_eq!(outcome(padded.as_bytes()), *expected, "{message}, padded");
        for len in 0..=message.len() {
            fuzz(&message.as_bytes()[..len]);
        }
        for trailing in ["x", "{}"] {
            let longer = format!("{message}{trailing}");
            assert_eq!(code(longer), Code::BadMessage, "{message} and {trailing}");
        }
    }
}

#[test]
fn a_message_must_be_utf8_all_through() {
    let good = br#"{"command":"broadcast","args":{"channel":"h","content":"...."},"x":"...."}"#;
    let dots = (0..good.len()).filter(|i| good[*i] == b'.');
    for at in dots {
        for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82"] {
            let mut message = good.to_vec();
            message.splice(at..=at, bad.iter().copied());
            let rejected = parse(&message).unwrap_err();
            assert_eq!(rejected.fault.code, Code::BadMessage);
            let place = format!("byte {at}");
            assert!(rejected.fault.message.contains(&place), "{rejected:?}");
        }
    }
}

#[test]
fn faults_say_what_to_do() {
    for (message, word) in [
        (r#"nonsense"#, r#"send {"command":"join""#),
        (r#"[]"#, "not an object"),
        (r#"{"a":1,"a":1}"#, r#""a" is given twice in the message"#),
        (
            r#"{"args":{"b":1,"b":1}}"#,
            r#""b" is given twice in args: give it once"#,
        ),
        (r#"{"command":1}"#, "command is not a string"),
        (
            r#"{"command":"connect"}"#,
            "connect is not a command for clients",
        ),
        (
            r#"{"command":"fly"}"#,
            r#""fly": send join, leave or broadcast"#,
        ),
        (r#"{"command":"join"}"#, "name it as args.channel"),
        (
            r#"{"command":"join","args":{"channel":" "}}"#,
            "name is blank",
        ),
    ] {
        let rejected = parse(message.as_bytes()).unwrap_err();
        assert!(rejected.fault.message.contains(word), "{rejected:?}");
    }
}

#[test]
fn a_channel_has_at_most_255_bytes_without_its_white_space() {
    for (name, expected) in [
        ("a".repeat(255), Ok(255)),
        ("a".repeat(256), Err(BadChannel::TooLong(256))),
        (format!("\u{2003}{}\u{a0}", "a".repeat(255)), Ok(255)),
        ("é".repeat(127), Ok(254)),
        ("é".repeat(128), Err(BadChannel::TooLong(256))),
        ("\u{2003}\u{feff}".into(), Ok(3)),
        (" \u{85}\u{1680}\u{2028}\t".into(), Err(BadChannel::Blank)),
        ("".into(), Err(BadChannel::Blank)),
    ] {
        let checked = ChannelName::check(&name);
        assert_eq!(checked.map(str::len), expected, "{name:?}");

        let mut escaped = String::new();
        for unit in name.encode_utf16() {
            escaped += &format!("\\u{unit:04x}");
        }
        for name in [&name.replace('\t', "\\t"), &escaped] {
            let message = format!(r#"{{"id":1,"command":"join","args":{{"channel":"{name}"}}}}"#);
            let read = parse(message.as_bytes());
            match (read, checked) {
                (Ok(command), Ok(name)) => {
                    assert_eq!(command.channel(message.as_bytes()), name);
                }
                (Err(rejected), Err(bad)) => {
                    assert_eq!(rejected.fault, bad.into());
                    assert_eq!(rejected.id.as_deref(), Some("1"));
                    assert_eq!(rejected.command.as_deref(), Some("join"));
                    assert_eq!(rejected.channel, None);
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn long_names_are_not_echoed() {
    let long = "x".repeat(256);
    let message = format!(r#"{{"id":1,"command":"{long}","args":{{"channel":"{long}"}}}}"#);
    let rejected = parse(message.as_bytes()).unwrap_err();
    assert_eq!(rejected.fault.code, Code::UnknownCommand);
    assert_eq!((rejected.command, rejected.channel), (None, None));
    assert!(!rejected.fault.message.contains(&long));

    let message = format!(r#"{{"{long}":1,"{long}":1}}"#);
    let rejected = parse(message.as_bytes()).unwrap_err();
    assert!(!rejected.fault.message.contains(&long));
}

#[test]
fn hostile_sizes_are_read() {
    let deep = "[".repeat(1 << 20);
    assert_eq!(code(&deep), Code::BadMessage);
    let objects = r#"{"a":"#.repeat(1 << 18);
    assert_eq!(code(&objects), Code::BadMessage);
    let args = r#"{"args":"#.repeat(1 << 17);
    assert_eq!(code(&args), Code::BadMessage);

    let content = format!("{}{}", "[".repeat(1 << 19), "]".repeat(1 << 19));
    let message =
        format!(r#"{{"command":"broadcast","args":{{"channel":"h","content":{content}}}}}"#);
    let command = parse(message.as_bytes()).unwrap();
    assert_eq!(text(command.content(message.as_bytes())), content);

    let names: String = (0..100_000).map(|i| format!(r#""{i}":0,"#)).collect();
    for twice in ["", r#""77777":0,"#, r#""\u0037":0,"#] {
        for message in [
            format!(r#"{{{names}{twice}"command":"join","args":{{"channel":"h"}}}}"#),
            format!(r#"{{"command":"join","args":{{{names}{twice}"channel":"h"}}}}"#),
        ] {
            assert_eq!(parse(message.as_bytes()).is_ok(), twice.is_empty());
        }
    }
    let many = format!(r#"{{{}"a":0}}"#, r#""a":0,"#.repeat(100_000));
    assert_eq!(code(many), Code::BadMessage);
}

#[test]
fn posts_are_read() {
    for (body, channel, content) in [
        (
            r#"{"channel":"h","content":{"a": 1.0}}"#,
            "h",
            r#"{"a": 1.0}"#,
        ),
        (
            r#"{"channel":"h","args":{"content":[1, 2]}}"#,
            "h",
            "[1, 2]",
        ),
        (r#"{"args":{"content":1},"channel":" h\u0020"}"#, "h", "1"),
        (r#"{"channel":"h"}"#, "h", "null"),
        (r#"{"channel":"h","args":null}"#, "h", "null"),
        (r#"{"channel":"h","args":null,"content":2}"#, "h", "2"),
        (r#"{"channel":"h","args":{},"content":2}"#, "h", "2"),
        (
            r#"{"channel":"h","args":{"channel":7},"id":[],"command":0,"content":""}"#,
            "h",
            r#""""#,
        ),
    ] {
        let post = parse_post(body.as_bytes()).unwrap().unwrap();
        assert_eq!(post.channel(body.as_bytes()), channel, "{body}");
        assert_eq!(text(post.content(body.as_bytes())), content, "{body}");
        fuzz(body.as_bytes());
        for len in 0..body.len() {
            let fault = parse_post(&body.as_bytes()[..len]).unwrap_err();
            assert_eq!(fault.code, Code::BadMessage, "{body} up to {len}");
        }
        let fault = parse_post(format!("{body}x").as_bytes()).unwrap_err();
        assert_eq!(fault.code, Code::BadMessage);
    }
}

#[test]
fn bad_posts_are_refused() {
    for (body, code, word) in [
        ("", Code::BadMessage, r#"send {"channel":"hello""#),
        ("[]", Code::BadMessage, "not an object"),
        ("\"\u{0}", Code::BadMessage, "not JSON"),
        (
            r#"{"channel":"h","channel":"h"}"#,
            Code::BadMessage,
            r#""channel" is given twice in the body"#,
        ),
        (
            r#"{"channel":"h","args":{"x":1,"x":1}}"#,
            Code::BadMessage,
            "twice in args",
        ),
        (
            r#"{"channel":"h","content":1,"args":{"content":1}}"#,
            Code::BadMessage,
            "give one of them",
        ),
        (
            r#"{"channel":"h","content":null,"args":{"content":1}}"#,
            Code::BadMessage,
            "give one of them",
        ),
        (
            r#"{"channel":"h","args":[]}"#,
            Code::BadMessage,
            "args is not an object",
        ),
        (
            r#"{"channel":7}"#,
            Code::BadMessage,
            "channel is not a string",
        ),
        ("{}", Code::BadChannel, "there is no channel"),
        (
            r#"{"args":{"channel":"h"}}"#,
            Code::BadChannel,
            "there is no channel",
        ),
        (
            r#"{"channel":null}"#,
            Code::BadChannel,
            "there is no channel",
        ),
        (r#"{"channel":"\n"}"#, Code::BadChannel, "blank"),
    ] {
        let fault = parse_post(body.as_bytes()).unwrap_err();
        assert_eq!(fault.code, code, "{body}");
        assert!(fault.message.contains(word), "{body}: {fault:?}");
    }
    let long = format!(r#"{{"channel":"{}"}}"#, "x".repeat(256));
    let fault = parse_post(long.as_bytes()).unwrap_err();
    assert_eq!(fault, BadChannel::TooLong(256).into());
}

/// Random numbers that are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        high as usize % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn white(&mut self) -> &'static str {
        self.pick(&["", "", "", " ", "\n", "\t \r"])
    }

    fn string(&mut self) -> String {
        let parts = [
            "a",
            "B7",
            "é",
            "😀",
            "\\\"",
            "\\\\",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\n",
            "{",
            "]",
            ",",
            ":",
            "\\/",
            "\u{2028}",
            " ",
        ];
        let inside: String = (0..self.below(6)).map(|_| self.pick(&parts)).collect();
        format!("\"{inside}\"")
    }

    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 3 } else { 5 }) {
            0 => self.string(),
            1 => self
                .pick(&[
                    "0",
                    "-0.0",
                    "1.10",
                    "1E+2",
                    "-12e-3",
                    "98765432109876543210987",
                ])
                .into(),
            2 => self.pick(&["true", "false", "null"]).into(),
            3 => {
                let items: Vec<_> = (0..self.below(4)).map(|_| self.padded(depth - 1)).collect();
                format!("[{}{}]", self.white(), items.join(","))
            }
            _ => {
                let members: Vec<_> = (0..self.below(4))
                    .map(|_| {
                        let name = self.string();
                        format!(
                            "{}{name}{}:{}",
                            self.white(),
                            self.white(),
                            self.padded(depth - 1)
                        )
                    })
                    .collect();
                format!("{{{}{}}}", self.white(), members.join(","))
            }
        }
    }

    fn padded(&mut self, depth: usize) -> String {
        let value = self.value(depth);
        format!("{}{value}{}", self.white(), self.white())
    }
}

#[test]
fn contents_survive_byte_for_byte() {
    for seed in 1..=1_000 {
        let mut random = Random(seed);
        let content = random.value(4);
        let spaced = format!("{}{content}{}", random.white(), random.white());
        let (before, after) = (random.padded(2), random.padded(2));
        let w = random.white();
        let args = format!(
            r#"{{{w}"before":{before},"content":{spaced},{w}"channel"{w}:{w}"h","after":{after}{w}}}"#
        );
        let message =
            format!(r#"{w}{{"x":{before},"args"{w}:{w}{args}{w},"command":"broadcast"{w}}}"#);
        let bytes = message.as_bytes();
        let command = parse(bytes).unwrap_or_else(|r| panic!("seed {seed}: {message}: {r:?}"));
        assert_eq!(text(command.content(bytes)), content, "seed {seed}");
        assert_eq!(text(command.args(bytes)), args, "seed {seed}");
        assert_eq!(command.channel(bytes), "h", "seed {seed}");
        fuzz(bytes);

        let body = format!(r#"{{"channel":"h",{w}"content":{spaced}{w}}}"#);
        let post = parse_post(body.as_bytes()).unwrap().unwrap();
        assert_eq!(text(post.content(body.as_bytes())), content, "seed {seed}");
        let body = format!(r#"{{"args":{w}{args},"channel":"h"}}"#);
        let post = parse_post(body.as_bytes()).unwrap().unwrap();
        assert_eq!(text(post.content(body.as_bytes())), content, "seed {seed}");

        // Broken anywhere, it is answered and causes no panic.
        let mut broken = bytes.to_vec();
        for _ in 0..8 {
            let at = random.below(broken.len());
            match random.below(3) {
                0 => broken[at] = random.below(256) as u8,
                1 => drop(broken.remove(at)),
                _ => broken.insert(at, b"{}[],:\"\\ n0"[random.below(11)]),
            }
            fuzz(&broken);
        }
    }
}
