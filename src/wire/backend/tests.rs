use super::body::{Broadcast, broadcast, disconnect, membership};
use super::query::{list_channels, list_connections};
use super::*;

fn channel(name: &str) -> Target {
    Target::Channel(ChannelName::checked(name))
}

fn user(name: &str) -> Recipient {
    Recipient::User(name.into())
}

fn connection(id: &str) -> Recipient {
    Recipient::Connection(id.into())
}

fn many(body: &str) -> Vec<(Vec<Target>, String)> {
    match broadcast(body.as_bytes()) {
        Ok(Broadcast::Many(all)) => all
            .into_iter()
            .map(|it| (it.targets, String::from_utf8(it.content.into()).unwrap()))
            .collect(),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn broadcast_bodies_name_their_targets() {
    let to_user = vec![Target::Recipient(user("42"))];
    for (body, expected) in [
        (
            r#"{"channels":[" a ","b","a"],"content":[ 1.0 ]}"#,
            vec![(vec![channel("a"), channel("b")], "[ 1.0 ]")],
        ),
        (
            r#"{"user":"42","args":{"content":{"a":1,"a":2}}}"#,
            vec![(to_user.clone(), r#"{"a":1,"a":2}"#)],
        ),
        (r#"{"user":42}"#, vec![(to_user.clone(), "null")]),
        (
            r#"{"user":" x ","content":null,"more":[{}]}"#,
            vec![(vec![Target::Recipient(user(" x "))], "null")],
        ),
        (
            r#"{"connection":"c-1","channel":null,"content":1}"#,
            vec![(vec![Target::Recipient(connection("c-1"))], "1")],
        ),
        (
            r#" [ {"channel":"a","content":1} , {"channel":"a","content":2},{"user":-7} ] "#,
            vec![
                (vec![channel("a")], "1"),
                (vec![channel("a")], "2"),
                (vec![Target::Recipient(user("-7"))], "null"),
            ],
        ),
    ] {
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(targets, content)| (targets, content.to_owned()))
            .collect();
        assert_eq!(many(body), expected, "{body}");
    }
    let one = broadcast(br#"{"channel":"a","content":1}"#);
    assert!(matches!(one, Ok(Broadcast::One(_))));
}

#[test]
fn faults_of_a_broadcast_body_name_the_value() {
    for (body, expected) in [
        ("[]", "the body is []"),
        (
            "[1]",
            "object 0 of the body: it cannot be read, it is JSON, but not an object",
        ),
        ("[{},]", "the body cannot be read"),
        (
            r#"[{"channel":"a"},{"channel":1}]"#,
            "object 1 of the body: channel is 1",
        ),
        (
            r#"[{"channel":"a"},{}]"#,
            "object 1 of the body: there is no target",
        ),
        (
            r#"{"channel":"a","user":"b"}"#,
            r#"user is "b": channel is given too"#,
        ),
        (
            r#"{"channels":["a"],"channel":"b"}"#,
            "channel is given too",
        ),
        (r#"{"user":null}"#, "there is no target"),
        (r#"{"channels":[]}"#, "channels is []: expected an array"),
        (
            r#"{"channels":"a"}"#,
            r#"channels is "a": expected an array"#,
        ),
        (
            r#"{"channels":["a",null]}"#,
            "channels is null: expected a channel name",
        ),
        (
            r#"{"channels":["a"," "]}"#,
            r#"channels is " ": the channel's name is blank"#,
        ),
        (
            r#"{"channels":[" wsify:x"]}"#,
            r#"channels is " wsify:x": channel names that begin"#,
        ),
        (
            r#"{"user":""}"#,
            r#"user is "": expected a string of 1 to 255 bytes"#,
        ),
        (r#"{"user":1.5}"#, "user is 1.5"),
        (r#"{"user":1e3}"#, "user is 1e3"),
        (r#"{"user":true}"#, "user is true"),
        (r#"{"connection":7}"#, "connection is 7: expected the id"),
        (r#"{"connection":"\ud800"}"#, r#"connection is "\ud800""#),
        (r#"{"user":"a","user":"a"}"#, r#""user" is given twice"#),
        (r#"{"user":"a","z":1,"z":2}"#, r#""z" is given twice"#),
        (
            r#"{"user":"a","args":{"content":1,"content":2}}"#,
            r#""content" is given twice"#,
        ),
        (
            r#"{"user":"a","args":[]}"#,
            "args is []: expected an object",
        ),
        (
            r#"{"user":"a","content":1,"args":{"content":2}}"#,
            "both content and args.content",
        ),
    ] {
        let fault = broadcast(body.as_bytes()).unwrap_err();
        assert!(
            fault.message.contains(expected),
            "{body}: {}",
            fault.message
        );
    }
    let bytes: [&[u8]; 3] = [b"[\xff]", b"{\"user\":\"\xff\"}", b"{\"user\":\"a\"} x"];
    for body in bytes {
        assert!(broadcast(body).is_err());
    }
}

#[test]
fn at_most_1000_targets_in_one_call() {
    let names = |count: usize| -> String {
        let names: Vec<String> = (0..count).map(|n| format!(r#""c{n}""#)).collect();
        format!(r#"{{"channels":[{}]}}"#, names.join(","))
    };
    assert_eq!(many(&names(1_000))[0].0.len(), 1_000);
    assert!(broadcast(names(1_001).as_bytes()).is_err());
    let both = format!(r#"[{},{{"user":1}}]"#, names(999));
    assert_eq!(many(&both).len(), 2);
    let both = format!(r#"[{},{{"user":1}}]"#, names(1_000));
    let fault = broadcast(both.as_bytes()).unwrap_err();
    assert!(
        fault.message.contains("more than 1000 targets"),
        "{}",
        fault.message
    );
}

#[test]
fn disconnects_have_a_code_and_a_reason() {
    let usual = "closed by the backend";
    for (body, recipient, code, reason) in [
        (r#"{"user":"42"}"#, user("42"), 4403, usual),
        (
            r#"{"connection":"x","code":null}"#,
            connection("x"),
            4403,
            usual,
        ),
        (r#"{"user":7,"code":1000,"reason":""}"#, user("7"), 1000, ""),
        (
            r#"{"user":"a","code":4999,"reason":"b","x":1}"#,
            user("a"),
            4999,
            "b",
        ),
    ] {
        let expected = BackendCommand::Disconnect {
            recipient,
            code,
            reason: reason.into(),
        };
        assert_eq!(disconnect(body.as_bytes()).unwrap(), expected, "{body}");
    }
    let long = format!(r#"{{"user":"a","reason":"{}"}}"#, "é".repeat(62));
    for body in [
        "[]",
        "{}",
        "x",
        r#"{"user":null}"#,
        r#"{"channel":"a"}"#,
        r#"{"user":"a","connection":"b"}"#,
        r#"{"user":"a","code":1001}"#,
        r#"{"user":"a","code":3999}"#,
        r#"{"user":"a","code":5000}"#,
        r#"{"user":"a","code":4000.0}"#,
        r#"{"user":"a","code":"4000"}"#,
        r#"{"user":"a","reason":1}"#,
        r#"{"user":"a","code":4000,"code":4000}"#,
        &long,
    ] {
        assert!(disconnect(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn joins_and_leaves_name_a_channel() {
    let read = |body: &str| membership(body.as_bytes());
    let found = read(r#"{"user":"42","channel":" a "}"#).unwrap();
    assert_eq!(found, (user("42"), ChannelName::checked("a")));
    for body in [
        r#"{"user":"42"}"#,
        r#"{"channel":"a"}"#,
        r#"{"user":"42","channel":""}"#,
        r#"{"user":"42","channel":"wsify:"}"#,
        r#"{"user":"42","channel":["a"]}"#,
        r#"{"user":"42","connection":"b","channel":"a"}"#,
        r#"{"user":"42","channels":["a"]}"#,
    ] {
        assert!(read(body).is_err(), "{body}");
    }
}

#[test]
fn lists_of_channels_are_asked_for() {
    for (query, prefix, after, limit) in [
        ("", "", "", 100),
        ("key=a&key=b&x=%ff&&=", "", "", 100),
        ("prefix=+a%20&after=%C3%A9+&limit=1", " a ", "é ", 1),
        ("pre%66ix=a&limit=1000", "a", "", 1_000),
        ("prefix=&after", "", "", 100),
    ] {
        let expected = BackendCommand::ListChannels {
            prefix: prefix.into(),
            after: after.into(),
            limit,
        };
        assert_eq!(list_channels(query), Ok(expected), "{query}");
    }
    for (query, expected) in [
        (
            "limit=0",
            r#"limit is "0": expected an integer from 1 to 1000"#,
        ),
        ("limit=1001", r#"limit is "1001""#),
        ("limit=", r#"limit is """#),
        ("limit=%2B1", r#"limit is "+1""#),
        ("limit=1&limit=1", "limit is given twice"),
        (
            "prefix=a&prefix=b",
            "prefix is given twice, the second time as b",
        ),
        ("after=%ff", "after is %ff: it is not UTF-8"),
        ("prefix=%ED%A0%80", "prefix is %ED%A0%80: it is not UTF-8"),
    ] {
        let why = list_channels(query).unwrap_err();
        assert!(why.contains(expected), "{query}: {why}");
    }
}

#[test]
fn lists_of_connections_have_a_filter() {
    let filters = [
        ("", ConnectionFilter::All),
        (
            "channel=+a+",
            ConnectionFilter::Channel(ChannelName::checked("a")),
        ),
        ("user=+a", ConnectionFilter::Recipient(user(" a"))),
        ("connection=", ConnectionFilter::Recipient(connection(""))),
    ];
    for (query, filter) in filters {
        let expected = BackendCommand::ListConnections {
            filter,
            after: "".into(),
            limit: 100,
        };
        assert_eq!(list_connections(query), Ok(expected), "{query}");
    }
    let long = format!("user={}", "u".repeat(256));
    for query in [
        "channel=",
        "channel=wsify:a",
        "user=",
        &long,
        "channel=a&user=b",
        "user=a&connection=b",
        "user=a&user=a",
        "connection=%ff",
        "limit=x",
    ] {
        assert!(list_connections(query).is_err(), "{query}");
    }
}
