use super::read::message;
use super::*;
use crate::wire::backend::ConnectionFilter;
use crate::wire::backend::answer::{ConnectionCounts, EntryValue, Listed, Page, PageEntry};
use crate::wire::channel_name::ChannelName;

fn user(name: &str) -> Recipient {
    Recipient::User(name.into())
}

fn name(name: &str) -> ChannelName {
    ChannelName::checked(name)
}

fn request(command: BackendCommand) -> NodeMessage<'static> {
    NodeMessage::Request { number: 7, command }
}

fn done(result: CommandResult, seq: Option<u64>) -> NodeMessage<'static> {
    let answer = NodeAnswer::Done { result, seq };
    NodeMessage::Answer { number: 7, answer }
}

fn page(listed: Listed, entries: Vec<(&str, EntryValue)>, more: bool) -> CommandResult {
    let mut page = Page::new(listed, 1_000);
    for (key, value) in entries {
        let key = key.into();
        assert!(page.add(PageEntry { key, value }));
    }
    if more {
        page.end();
    }
    CommandResult::Page(page)
}

#[test]
fn messages_are_written_and_read() {
    let connection = Recipient::Connection("a\"b".into());
    let json = |text: &str| EntryValue::Json(text.as_bytes().into());
    let members = EntryValue::Members;
    let counts = ConnectionCounts {
        connections: 2,
        full: 1,
    };
    let table = [
        (
            NodeMessage::Here { new: true },
            r#"{"command":"here","new":true}"#,
        ),
        (NodeMessage::Here { new: false }, r#"{"command":"here"}"#),
        (NodeMessage::Gone, r#"{"command":"gone"}"#),
        (
            NodeMessage::Content(user("4\"2"), r#"{"a": 1.0}"#),
            r#"{"command":"content","user":"4\"2","content":{"a": 1.0}}"#,
        ),
        (
            NodeMessage::Content(connection, "null"),
            r#"{"command":"content","connection":"a\"b","content":null}"#,
        ),
        (
            request(BackendCommand::Disconnect {
                recipient: user("42"),
                code: 4001,
                reason: "".into(),
            }),
            r#"{"command":"disconnect","number":7,"user":"42","code":4001,"reason":""}"#,
        ),
        (
            request(BackendCommand::Join(user("42"), name("a"))),
            r#"{"command":"join","number":7,"user":"42","channel":"a"}"#,
        ),
        (
            request(BackendCommand::Leave(user("42"), name("a"))),
            r#"{"command":"leave","number":7,"user":"42","channel":"a"}"#,
        ),
        (
            request(BackendCommand::ListChannels {
                prefix: " p".into(),
                after: "".into(),
                limit: 100,
            }),
            r#"{"command":"channels","number":7,"prefix":" p","after":"","limit":100}"#,
        ),
        (
            request(BackendCommand::ListConnections {
                filter: ConnectionFilter::All,
                after: "x".into(),
                limit: 1,
            }),
            r#"{"command":"connections","number":7,"after":"x","limit":1}"#,
        ),
        (
            request(BackendCommand::ListConnections {
                filter: ConnectionFilter::Channel(name("a")),
                after: "".into(),
                limit: 1,
            }),
            r#"{"command":"connections","number":7,"channel":"a","after":"","limit":1}"#,
        ),
        (
            request(BackendCommand::ListConnections {
                filter: ConnectionFilter::Recipient(user("1")),
                after: "".into(),
                limit: 1,
            }),
            r#"{"command":"connections","number":7,"user":"1","after":"","limit":1}"#,
        ),
        (
            done(CommandResult::Counts(counts), None),
            r#"{"command":"answer","number":7,"connections":2,"full":1}"#,
        ),
        (
            done(
                page(
                    Listed::Channels,
                    vec![("a", members(1)), ("b", members(2))],
                    true,
                ),
                Some(17),
            ),
            r#"{"command":"answer","number":7,"listed":"channels","entries":[["a",1],["b",2]],"more":true,"seq":17}"#,
        ),
        (
            done(
                page(
                    Listed::Connections,
                    vec![("x", json(r#"{"id":"x"}"#))],
                    false,
                ),
                None,
            ),
            r#"{"command":"answer","number":7,"listed":"connections","entries":[["x",{"id":"x"}]],"more":false}"#,
        ),
        (
            NodeMessage::Answer {
                number: u32::MAX,
                answer: NodeAnswer::Failed("no".into()),
            },
            r#"{"command":"answer","number":4294967295,"failed":"no"}"#,
        ),
    ];
    for (value, text) in table {
        assert_eq!(String::from_utf8(value.json()).unwrap(), text);
        let read = message(text.as_bytes(), |read| assert_eq!(read, value));
        assert_eq!(read, Ok(()), "{text}");
    }
}

#[test]
fn members_that_a_newer_version_adds_are_ignored_and_new_messages_are_unknown() {
    let text = br#" {"more":[1], "command" : "here" , "new":1} "#;
    let read = message(text, |read| read == NodeMessage::Here { new: false });
    assert_eq!(read, Ok(true));
    for text in [
        r#"{"command":"dance"}"#,
        r#"{"command":""}"#,
        r#"{"command":"publish"}"#,
    ] {
        assert_eq!(
            message(text.as_bytes(), |_| ()),
            Err(NodeMessageError::Unknown)
        );
    }
}

#[test]
fn malformed_node_messages_are_refused() {
    for text in [
        "",
        "null",
        "[]",
        "hello",
        "{}",
        r#"{"command":1}"#,
        r#"{"command":"here""#,
        r#"{"command":"here","command":"here"}"#,
        r#"{"command":"content","user":"1"}"#,
        r#"{"command":"content","content":1}"#,
        r#"{"command":"content","user":"1","connection":"2","content":1}"#,
        r#"{"command":"content","user":"","content":1}"#,
        r#"{"command":"content","channel":"a","content":1}"#,
        r#"{"command":"join","user":"1","channel":"a"}"#,
        r#"{"command":"join","number":-1,"user":"1","channel":"a"}"#,
        r#"{"command":"join","number":4294967296,"user":"1","channel":"a"}"#,
        r#"{"command":"join","number":1.5,"user":"1","channel":"a"}"#,
        r#"{"command":"join","number":1,"user":"1","channel":"wsify:a"}"#,
        r#"{"command":"join","number":1,"user":"1"}"#,
        r#"{"command":"disconnect","number":1,"user":"1","code":1001}"#,
        r#"{"command":"channels","number":1,"prefix":"","after":"","limit":0}"#,
        r#"{"command":"channels","number":1,"prefix":"","after":"","limit":1001}"#,
        r#"{"command":"channels","number":1,"prefix":1,"after":"","limit":1}"#,
        r#"{"command":"channels","number":1,"after":"","limit":1}"#,
        r#"{"command":"connections","number":1,"user":"1","channel":"a","after":"","limit":1}"#,
        r#"{"command":"connections","number":1,"channel":" ","after":"","limit":1}"#,
        r#"{"command":"answer","number":1}"#,
        r#"{"command":"answer","number":1,"connections":-1,"full":0}"#,
        r#"{"command":"answer","number":1,"connections":1}"#,
        r#"{"command":"answer","number":1,"failed":1}"#,
        r#"{"command":"answer","number":1,"listed":"users","entries":[],"more":false}"#,
        r#"{"command":"answer","number":1,"listed":"channels","entries":{},"more":false}"#,
        r#"{"command":"answer","number":1,"listed":"channels","entries":[],"more":true}"#,
        r#"{"command":"answer","number":1,"listed":"channels","entries":[["a",1]]}"#,
        r#"{"command":"answer","number":1,"listed":"channels","entries":[["b",1],["a",1]],"more":false}"#,
        r#"{"command":"answer","number":1,"listed":"channels","entries":[["a",1],["a",1]],"more":false}"#,
        r#"{"command":"answer","number":1,"listed":"channels","entries":[["a"]],"more":false}"#,
        r#"{"command":"answer","number":1,"listed":"channels","entries":[["a","1"]],"more":false}"#,
        r#"{"command":"answer","number":1,"listed":"connections","entries":[["a",1]],"more":false}"#,
        r#"{"command":"answer","number":1,"listed":"connections","entries":[],"more":false,"seq":"1"}"#,
    ] {
        let read = message(text.as_bytes(), |_| ());
        assert_eq!(read, Err(NodeMessageError::Malformed), "{text}");
    }
    assert_eq!(
        message(b"{\"command\":\"\xff\"}", |_| ()),
        Err(NodeMessageError::Malformed)
    );
}

#[test]
fn a_page_has_no_more_entries_than_a_page_may_have() {
    let entries: Vec<String> = (0..1_001).map(|n| format!(r#"["{n:04}",1]"#)).collect();
    let text = |count: usize| {
        let entries = entries[..count].join(",");
        format!(
            r#"{{"command":"answer","number":1,"listed":"channels","entries":[{entries}],"more":false}}"#
        )
    };
    assert_eq!(message(text(1_000).as_bytes(), |_| ()), Ok(()));
    assert_eq!(
        message(text(1_001).as_bytes(), |_| ()),
        Err(NodeMessageError::Malformed)
    );
}

#[test]
fn channels_of_nodes_are_reserved_and_in_one_slot() {
    use crate::wire::hash_slot::hash_slot;
    let own = channel_of(0xa265_abcd_a451_4c6f);
    assert_eq!(own, "wsify:{nodes}:a265abcda4514c6f");
    for prefix in ["", "app:", "{a}:", "}{", "{"] {
        let [all, own] =
            [ALL_NODES, &own].map(|name| hash_slot(prefix.as_bytes(), name.as_bytes()));
        assert_eq!(all, own, "{prefix}");
    }
    assert!(ChannelName::check(&own).is_err());
}
