use super::*;
use Asked::{Broadcast, Connect, Join, Leave, Refresh};

const LIMITS: AnswerLimits = AnswerLimits {
    channels: 3,
    content: 1000,
};

fn fields(asked: Asked, status: u16, body: &str) -> AnswerFields {
    let reading = read(asked, status, body.as_bytes(), &LIMITS);
    assert_eq!(reading.wrong, [], "{body}");
    reading.fields
}

/// The fields that are wrong, and what is used all the same.
fn wrong(asked: Asked, status: u16, body: &str) -> (Vec<AnswerField>, AnswerFields) {
    let reading = read(asked, status, body.as_bytes(), &LIMITS);
    let wrong = reading.wrong.iter().map(|it| it.field).collect();
    (wrong, reading.fields)
}

fn assert_wrong(asked: Asked, status: u16, field: AnswerField, bodies: &[&str]) {
    for body in bodies {
        let expected = (vec![field], AnswerFields::default());
        assert_eq!(wrong(asked, status, body), expected, "{body}");
    }
}

fn names(fields: &AnswerFields) -> Vec<&str> {
    fields.channels.iter().map(ChannelName::as_str).collect()
}

fn state(fields: AnswerFields) -> Option<String> {
    fields.state.map(|state| match state {
        NewState::Removed => "removed".to_owned(),
        NewState::Json(state) => state.into(),
    })
}

fn long(len: usize) -> String {
    "x".repeat(len)
}

#[test]
fn user_is_a_string_or_the_digits_of_an_integer() {
    let most = format!("{{\"user\":\"{}\"}}", long(255));
    let digits = format!("{{\"user\":{}}}", "9".repeat(255));
    for (body, user) in [
        (r#"{"user":"42"}"#, "42"),
        (r#"{"user":" 42 "}"#, " 42 "),
        (r#"{"user":"\u00e9\n"}"#, "é\n"),
        (r#"{"user": 42 }"#, "42"),
        (r#"{"user":0}"#, "0"),
        (r#"{"user":-7}"#, "-7"),
        (
            r#"{"user":123456789012345678901234567890}"#,
            "123456789012345678901234567890",
        ),
        (&most, &long(255)),
        (&digits, &"9".repeat(255)),
    ] {
        let found = fields(Connect, 200, body).user;
        assert_eq!(found.as_deref(), Some(user), "{body}");
    }
    let over = format!("{{\"user\":\"{}\"}}", long(256));
    let digits = format!("{{\"user\":{}}}", "9".repeat(256));
    let bodies = [
        r#"{"user":""}"#,
        r#"{"user":1.0}"#,
        r#"{"user":1e3}"#,
        r#"{"user":1E3}"#,
        r#"{"user":-1.5}"#,
        r#"{"user":true}"#,
        r#"{"user":{"id":1}}"#,
        r#"{"user":["a"]}"#,
        r#"{"user":"\ud800"}"#,
        &over,
        &digits,
    ];
    assert_wrong(Connect, 200, AnswerField::User, &bodies);
    assert_eq!(fields(Connect, 200, r#"{"user":null}"#).user, None);
}

#[test]
fn state_is_any_json_and_null_removes_it() {
    let most = format!("\"{}\"", long(4094));
    for asked in [Connect, Join, Leave, Broadcast, Refresh] {
        for (value, expected) in [
            (r#"{ "a":1.0, "a":2 }"#, r#"{ "a":1.0, "a":2 }"#),
            ("false", "false"),
            ("1e999", "1e999"),
            (r#""\ud800""#, r#""\ud800""#),
            ("[]", "[]"),
            ("null", "removed"),
            (&most, &most),
        ] {
            let body = format!("{{\"state\" : {value} }}");
            let found = state(fields(asked, 200, &body));
            assert_eq!(found.as_deref(), Some(expected), "{body}");
        }
        let over = format!("{{\"state\":\"{}\"}}", long(4095));
        assert_wrong(asked, 200, AnswerField::State, &[&over]);
        assert_eq!(state(fields(asked, 200, "{}")), None);
    }
}

#[test]
fn channels_are_names_each_once() {
    for (body, expected) in [
        (r#"{"channels":["a"," b ","a","\u0061"]}"#, vec!["a", "b"]),
        (r#"{"channels":["c","b","a"]}"#, vec!["c", "b", "a"]),
        (
            r#"{"channels":["c","b","a","a","b","c"]}"#,
            vec!["c", "b", "a"],
        ),
        (r#"{"channels":[]}"#, vec![]),
        (r#"{"channels":null}"#, vec![]),
    ] {
        assert_eq!(names(&fields(Connect, 200, body)), expected, "{body}");
    }
    let name = format!("{{\"channels\":[\"{}\"]}}", long(256));
    let bodies = [
        r#"{"channels":["a","b","c","d"]}"#,
        r#"{"channels":["a",""]}"#,
        r#"{"channels":["\u2003"]}"#,
        r#"{"channels":[" wsify:nodes"]}"#,
        r#"{"channels":["a",null]}"#,
        r#"{"channels":[1]}"#,
        r#"{"channels":[["a"]]}"#,
        r#"{"channels":["\udc00"]}"#,
        r#"{"channels":"a"}"#,
        r#"{"channels":{"a":1}}"#,
        r#"{"channels":false}"#,
        &name,
    ];
    assert_wrong(Connect, 200, AnswerField::Channels, &bodies);
    let most = format!("{{\"channels\":[\" {} \"]}}", long(255));
    assert_eq!(names(&fields(Connect, 200, &most)), [long(255)]);
}

fn patterns(count: usize, len: usize) -> String {
    let pattern = format!("\"{}\"", long(len));
    vec![pattern; count].join(",")
}

#[test]
fn allow_has_patterns_for_each_command() {
    let body = r#"{"allow":{"join":["a","b:*"],"broadcast":["*"," c "],"leave":null,"else":7}}"#;
    for asked in [Connect, Refresh] {
        let allow = fields(asked, 200, body).allow.unwrap();
        assert_eq!(*allow.join, ["a".into(), "b:*".into()]);
        assert_eq!(*allow.broadcast, ["*".into(), " c ".into()]);
        assert_eq!(allow.leave.len(), 0);
        assert_eq!(
            fields(asked, 200, r#"{"allow":{}}"#).allow,
            Some(Allow::default())
        );
        assert_eq!(fields(asked, 200, r#"{"allow":null}"#).allow, None);
    }
    let in_all = |join: &str, leave: &str| {
        format!("{{\"allow\":{{\"join\":[{join}],\"leave\":[{leave}]}}}}")
    };
    for good in [
        in_all(&patterns(50, 1), &patterns(50, 1)),
        in_all(&patterns(15, 255), &patterns(1, 255)),
        in_all(&patterns(16, 200), &patterns(8, 112)),
        in_all(&format!("\"{}*\"", long(255)), ""),
        in_all("\"a**\",\"*\",\"*a\"", ""),
    ] {
        assert!(fields(Connect, 200, &good).allow.is_some(), "{good}");
    }
    let bad = [
        in_all(&patterns(50, 1), &patterns(51, 1)),
        in_all(&patterns(16, 200), &patterns(1, 255).replace('x', "xxxx")),
        in_all(&patterns(16, 200), &patterns(9, 100)),
        in_all(&patterns(1, 256), ""),
        in_all(&format!("\"{}*\"", long(256)), ""),
        in_all("\"\"", ""),
        in_all("\" \"", ""),
        in_all("\" *\"", ""),
        in_all("1", ""),
        in_all("null", ""),
        in_all("\"\\ud800\"", ""),
    ];
    let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
    assert_wrong(Connect, 200, AnswerField::Allow, &bad);
    let types = [
        r#"{"allow":true}"#,
        r#"{"allow":["*"]}"#,
        r#"{"allow":"*"}"#,
        r#"{"allow":{"join":"*"}}"#,
        r#"{"allow":{"join":true}}"#,
        r#"{"allow":{"join":{}}}"#,
        r#"{"allow":{"join":[],"join":[]}}"#,
        r#"{"allow":{"x":1,"x":1}}"#,
    ];
    assert_wrong(Refresh, 200, AnswerField::Allow, &types);
}

#[test]
fn a_pattern_is_a_name_or_a_prefix_with_a_star() {
    let allow = |pattern: &str| Allow {
        join: [pattern.into()].into(),
        ..Allow::default()
    };
    for (pattern, channel, permits) in [
        ("*", "a", true),
        ("*", "*", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a", "A", false),
        ("a*", "a", true),
        ("a*", "ab", true),
        ("a*", "ba", false),
        ("é*", "éa", true),
        ("*a", "*a", true),
        ("*a", "ba", false),
        ("a*b", "a*b", true),
        ("a*b", "axb", false),
        ("a**", "a*", true),
        ("a**", "ab", false),
        (" a", "a", false),
    ] {
        let allow = allow(pattern);
        assert_eq!(allow.permits(Verb::Join, channel), permits, "{pattern}");
        assert_eq!(
            allow.pattern_for(Verb::Join, channel),
            permits.then_some(pattern)
        );
        assert!(!allow.permits(Verb::Leave, channel));
        assert!(!allow.permits(Verb::Broadcast, channel));
    }
}

#[test]
fn seconds_are_whole_and_within_their_range() {
    for (text, expires_in) in [("1", 1), ("31536000", 31_536_000)] {
        for asked in [Connect, Refresh] {
            let body = format!("{{\"expires_in\":{text}}}");
            assert_eq!(fields(asked, 200, &body).expires_in, Some(expires_in));
        }
    }
    for (text, max_age) in [("0", 0), ("-0", 0), ("86400", 86_400)] {
        for (asked, status) in [(Join, 200), (Leave, 404), (Broadcast, 200), (Join, 302)] {
            let body = format!("{{\"max_age\":{text}}}");
            assert_eq!(fields(asked, status, &body).max_age, Some(max_age));
        }
    }
    let wrong = |name: &str, text: &str| format!("{{\"{name}\":{text}}}");
    for text in ["0", "31536001", "-1", "1.0", "1e2", "\"60\"", "true", "[1]"] {
        let body = wrong("expires_in", text);
        assert_wrong(Connect, 200, AnswerField::ExpiresIn, &[&body]);
    }
    for text in [
        "86401",
        "-1",
        "60.0",
        "6e1",
        "\"60\"",
        "false",
        "{}",
        "99999999999999999999",
    ] {
        let body = wrong("max_age", text);
        assert_wrong(Join, 200, AnswerField::MaxAge, &[&body]);
        assert_wrong(Join, 403, AnswerField::MaxAge, &[&body]);
    }
    for name in ["expires_in", "max_age"] {
        let body = wrong(name, "null");
        assert_eq!(fields(Refresh, 200, &body), AnswerFields::default());
        assert_eq!(fields(Leave, 200, &body), AnswerFields::default());
    }
}

#[test]
fn content_is_any_json_as_it_was_written() {
    let most = format!("\"{}\"", long(998));
    for value in [
        "null",
        "{ \"a\" : 1.50,\"a\":2}",
        "1e999",
        "\"\\u00e9\"",
        &most,
    ] {
        let body = format!("{{\"content\":{value} }}");
        let content = fields(Broadcast, 200, &body).content.unwrap();
        assert_eq!(*content, *value.as_bytes());
    }
    let over = format!("{{\"content\":\"{}\"}}", long(999));
    assert_wrong(Broadcast, 200, AnswerField::Content, &[&over]);
    assert_eq!(fields(Broadcast, 200, "{}").content, None);
}

#[test]
fn a_content_is_not_remembered() {
    let body = r#"{"max_age":0,"content":1}"#;
    assert_eq!(fields(Broadcast, 200, body).max_age, Some(0));
    let bodies = [
        r#"{"max_age":1,"content":1}"#,
        r#"{"content":null,"max_age":60}"#,
    ];
    assert_wrong(Broadcast, 200, AnswerField::MaxAge, &bodies);
    // There is no content in a refusal, or in an answer to another command.
    assert_eq!(fields(Broadcast, 403, bodies[0]).max_age, Some(1));
    assert_eq!(fields(Join, 200, bodies[0]).max_age, Some(1));
}

#[test]
fn message_is_a_short_string() {
    let most = format!("{{\"message\":\"{}\"}}", long(256));
    for asked in [Connect, Join, Leave, Broadcast, Refresh] {
        for (body, message) in [
            (r#"{"message":"no"}"#, "no"),
            (r#"{"message":"\u00e9"}"#, "é"),
            (&most, &long(256)),
        ] {
            let found = fields(asked, 403, body).message;
            assert_eq!(found.as_deref(), Some(message));
        }
    }
    let over = format!("{{\"message\":\"{}\"}}", long(257));
    let bodies = [
        r#"{"message":""}"#,
        r#"{"message":1}"#,
        r#"{"message":[]}"#,
        &over,
    ];
    assert_wrong(Join, 400, AnswerField::Message, &bodies);
    assert_eq!(fields(Join, 400, r#"{"message":null}"#).message, None);
}

#[test]
fn close_has_a_code_and_perhaps_a_reason() {
    let with = |code, reason: Option<&str>| {
        Some(CloseWith {
            code,
            reason: reason.map(Into::into),
        })
    };
    let most = format!(
        "{{\"close\":{{\"code\":4999,\"reason\":\"{}\"}}}}",
        long(123)
    );
    for asked in [Join, Leave, Broadcast, Refresh] {
        for (body, close) in [
            (r#"{"close":{"code":4000}}"#, with(4000, None)),
            (
                r#"{"close":{"reason":"out","code":4403,"x":[]}}"#,
                with(4403, Some("out")),
            ),
            (r#"{"close":{"code":4001,"reason":null}}"#, with(4001, None)),
            (
                r#"{"close":{"code":4001,"reason":""}}"#,
                with(4001, Some("")),
            ),
            (&most, with(4999, Some(&long(123)))),
            (r#"{"close":null}"#, None),
        ] {
            assert_eq!(fields(asked, 403, body).close, close, "{body}");
        }
    }
    let over = most.replacen('x', "xx", 1);
    let bodies = [
        r#"{"close":{}}"#,
        r#"{"close":{"code":null}}"#,
        r#"{"close":{"code":1000}}"#,
        r#"{"close":{"code":3999}}"#,
        r#"{"close":{"code":5000}}"#,
        r#"{"close":{"code":4000.0}}"#,
        r#"{"close":{"code":"4000"}}"#,
        r#"{"close":{"code":4000,"reason":1}}"#,
        r#"{"close":{"reason":"x"}}"#,
        r#"{"close":4000}"#,
        r#"{"close":[4000]}"#,
        &over,
    ];
    assert_wrong(Leave, 403, AnswerField::Close, &bodies);
}

#[test]
fn fields_that_do_not_belong_are_ignored_whatever_their_type() {
    let wrong = |name: &str| format!("{{\"{name}\":[{{\"a\":1,\"a\":1}}],\"unknown\":-1}}");
    let everything = [Connect, Join, Leave, Broadcast, Refresh];
    let refusals = [201, 204, 301, 400, 403, 499, 100, 199];
    let ignored = |name: &str, asked: Asked, status: u16| {
        let read = fields(asked, status, &wrong(name));
        assert_eq!(read, AnswerFields::default(), "{name} {asked:?} {status}");
    };
    for asked in everything {
        for status in refusals {
            for name in [
                "user",
                "state",
                "channels",
                "allow",
                "expires_in",
                "content",
            ] {
                ignored(name, asked, status);
            }
        }
        for name in ["message", "close"] {
            ignored(name, asked, 200);
        }
        for field in AnswerField::ALL {
            ignored(field.as_str(), asked, 500);
            ignored(field.as_str(), asked, 599);
        }
        ignored("body", asked, 200);
        ignored("status", asked, 200);
    }
    for asked in [Join, Leave, Broadcast, Refresh] {
        ignored("user", asked, 200);
        ignored("channels", asked, 200);
    }
    for asked in [Join, Leave, Broadcast] {
        ignored("allow", asked, 200);
        ignored("expires_in", asked, 200);
    }
    for asked in [Connect, Refresh] {
        ignored("max_age", asked, 200);
        ignored("max_age", asked, 403);
    }
    for asked in [Connect, Join, Leave, Refresh] {
        ignored("content", asked, 200);
    }
    ignored("close", Connect, 403);
}

#[test]
fn a_body_that_is_no_object_is_wrong() {
    let long = format!("{{\"x\":\"{}\"}}", long(LIMITS.body()));
    let bodies = [
        "",
        " ",
        "null",
        "true",
        "[]",
        r#"[{"state":1}]"#,
        r#""{}""#,
        "{",
        "{}x",
        "{} {}",
        r#"{"state":1"#,
        r#"{"state":1,}"#,
        "\u{feff}{}",
        "<html>",
        &long,
    ];
    for asked in [Connect, Join, Leave, Broadcast, Refresh] {
        for status in [200, 403] {
            assert_wrong(asked, status, AnswerField::Body, &bodies);
        }
    }
    let reading = read(Join, 200, b"{\"state\":\"\xff\"}", &LIMITS);
    assert_eq!(reading.wrong[0].field, AnswerField::Body);
    let most = LIMITS.body() - r#"{"x":""}"#.len();
    let fits = format!("{{\"x\":\"{}\"}}", "x".repeat(most));
    assert_eq!(fields(Join, 200, &fits), AnswerFields::default());
}

#[test]
fn a_name_twice_makes_all_of_it_unusable() {
    for (body, field) in [
        (r#"{"state":1,"state":1}"#, AnswerField::State),
        (r#"{"state":1,"st\u0061te":null}"#, AnswerField::State),
        (r#"{"state":1,"x":1,"x":1}"#, AnswerField::Body),
        (r#"{"message":"a","message":"a"}"#, AnswerField::Message),
    ] {
        for status in [200, 403] {
            assert_wrong(Join, status, field, &[body]);
        }
    }
    // Of a refusal, too, nothing is used.
    let body = r#"{"message":"no","max_age":5,"close":{"code":4000,"code":4000}}"#;
    assert_wrong(Join, 403, AnswerField::Close, &[body]);
    let body = r#"{"message":"no","max_age":5,"x":1,"x":2}"#;
    assert_wrong(Join, 403, AnswerField::Body, &[body]);
    // Deeper it is the authorizer's own affair.
    let body = r#"{"state":{"a":1,"a":1},"content":{"b":1,"b":2},"x":{"c":1,"c":1}}"#;
    assert!(fields(Broadcast, 200, body).content.is_some());
}

#[test]
fn a_yes_is_used_as_a_whole_and_a_refusal_field_by_field() {
    let body = r#"{"user":"42","state":1,"channels":["a"],"allow":7,"expires_in":0}"#;
    let expected = (
        vec![AnswerField::Allow, AnswerField::ExpiresIn],
        AnswerFields::default(),
    );
    assert_eq!(wrong(Connect, 200, body), expected);
    let body = r#"{"message":7,"max_age":5,"close":{"code":4000}}"#;
    let (fields, used) = wrong(Join, 403, body);
    assert_eq!(fields, [AnswerField::Message]);
    assert_eq!((used.max_age, used.message), (Some(5), None));
    assert_eq!(used.close.map(|it| it.code), Some(4000));
    let reading = read(Join, 403, body.as_bytes(), &LIMITS);
    let text = reading.wrong[0].to_string();
    assert_eq!(text, "message: 7 (expected a string of 1 to 256 bytes)");
}

#[test]
fn an_array_answers_each_question_of_a_batch() {
    let asked = [Join, Broadcast, Connect, Leave];
    let body = br#" [{"status":200,"max_age":60},{"max_age":-1,"status":403,"message":"no"},
        {"status":200,"user":1.5,"state":1},{"status":503,"x":1}] "#;
    let items = read_items(&asked, body, &LIMITS).unwrap();
    let statuses: Vec<u16> = items.iter().map(|item| item.status).collect();
    assert_eq!(statuses, [200, 403, 200, 503]);
    let fields = |at: usize| &items[at].reading.fields;
    assert_eq!(fields(0).max_age, Some(60));
    assert_eq!(fields(1).message.as_deref(), Some("no"));
    assert_eq!(items[1].reading.wrong[0].field, AnswerField::MaxAge);
    assert_eq!(*fields(2), AnswerFields::default());
    assert_eq!(items[2].reading.wrong[0].field, AnswerField::User);
    assert_eq!(items[3].reading, Reading::default());
    assert_eq!(read_items(&[], b"[]", &LIMITS), Ok(vec![]));
}

#[test]
fn an_array_that_does_not_answer_all_answers_none() {
    for (body, why) in [
        ("", "no JSON array"),
        ("{}", "no JSON array"),
        (r#"{"status":200}"#, "no JSON array"),
        ("[", "no JSON array"),
        ("[]", "an array of 0 answers to 2"),
        (r#"[{"status":200}]"#, "an array of 1 answers to 2"),
        (r#"[{"status":200},{"status":200},{"status":200}]"#, "of 3"),
        (r#"[{"status":200},{}]"#, "item 1: no `status`"),
        (r#"[{"status":200},{"status":null}]"#, "item 1: no `status`"),
        (r#"[{"status":200},{"status":"200"}]"#, "item 1"),
        (r#"[{"status":200},{"status":200.0}]"#, "item 1"),
        (r#"[{"status":2e2},{"status":200}]"#, "item 0"),
        (r#"[{"status":99},{"status":200}]"#, "item 0"),
        (r#"[{"status":600},{"status":200}]"#, "item 0"),
        (r#"[{"status":200,"status":200},{"status":200}]"#, "item 0"),
        (r#"[200,{"status":200}]"#, "item 0: it is JSON, but not"),
        (r#"[null,{"status":200}]"#, "item 0: it is JSON, but not"),
    ] {
        let wrong = read_items(&[Join, Join], body.as_bytes(), &LIMITS).unwrap_err();
        assert_eq!(wrong.field, AnswerField::Body);
        assert!(wrong.why.contains(why), "{body}: {wrong}");
    }
    let wrong = read_items(&[Join], b"[{\"status\":200,\"x\":\"\xff\"}]", &LIMITS).unwrap_err();
    assert!(wrong.why.contains("not UTF-8 at byte"), "{wrong}");
    for status in [100, 599] {
        let body = format!(r#"[{{"status":{status}}}]"#);
        let items = read_items(&[Join], body.as_bytes(), &LIMITS).unwrap();
        assert_eq!(items[0].status, status);
    }
}

#[test]
fn a_name_twice_in_an_item_is_wrong_for_that_one() {
    let body = br#"[{"status":200,"state":1,"state":2},{"status":200,"state":3}]"#;
    let items = read_items(&[Join, Join], body, &LIMITS).unwrap();
    assert_eq!(items[0].reading.wrong[0].field, AnswerField::State);
    assert_eq!(items[0].reading.fields, AnswerFields::default());
    assert_eq!(state(items[1].reading.fields.clone()).as_deref(), Some("3"));
}

#[test]
fn names_are_sorted_into_those_that_mean_something_and_others() {
    let body = br#"{"user":1,"max_age":2,"x":3,"state":null}"#;
    let [known, unknown] = super::names(Connect, 200, body);
    assert_eq!(known, ["user", "state"]);
    assert_eq!(unknown, ["max_age", "x"]);
    assert_eq!(
        super::names(Connect, 200, b"["),
        [vec![], Vec::<String>::new()]
    );
}
