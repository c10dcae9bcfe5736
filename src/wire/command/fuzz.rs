//! Fuzzing: what must hold for any bytes as JSON from outside. The target in `fuzz/` and the replayed corpus call it.

#![expect(clippy::indexing_slicing, reason = "a broken promise is to panic")]

use super::*;
use crate::wire::server_message::{push_ok, push_v1, v1_prefix};

/// Panics if a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    use crate::wire::answer_fields::read_state;
    use crate::wire::question::{push_connection, push_question};
    use serde_json::Value;

    // A second opinion. It holds less: no lone surrogates, no numbers beyond f64, no deep nesting.
    let value = serde_json::from_slice::<Value>(bytes).ok();
    let same = |part: &[u8], value: &Value| match serde_json::from_slice::<Value>(part) {
        Ok(part) => part == *value,
        Err(_) => false,
    };

    match parse(bytes) {
        Ok(command) => {
            let (content, args) = (command.content(bytes), command.args(bytes));
            let channel = command.channel(bytes);
            assert!(json::is_json(bytes) && json::is_json(content) && json::is_json(args));
            let (inner, outer) = (content.as_ptr_range(), args.as_ptr_range());
            let inside = outer.start <= inner.start && inner.end <= outer.end;
            assert!(inside || content == b"null");
            assert_eq!(ChannelName::check(channel), Ok(channel));
            let copy = bytes.to_vec();
            assert_eq!(command.channel(&copy), channel);

            let mut asked = Vec::new();
            let verb = command.verb.as_str();
            push_question(&mut asked, verb, args, |out| {
                push_connection(out, b"1", b"unix", Some(channel), &[], command.id(bytes));
            });
            assert!(json::is_json(&asked));
            if let Ok(asked) = serde_json::from_slice::<Value>(&asked) {
                assert_eq!(asked["command"], verb);
                assert!(same(args, &asked["args"]));
                assert_eq!(asked["connection"]["id"], "1");
                assert_eq!(asked["connection"]["user"], channel);
            }

            if let Some(value) = &value {
                assert_eq!(value["command"], verb);
                let name = value["args"]["channel"].as_str().map(str::trim);
                assert_eq!(name, Some(channel));
                assert!(same(content, &value["args"]["content"]));
                assert!(same(args, &value["args"]));
                let id = command.id(bytes).unwrap_or("null");
                assert!(same(id.as_bytes(), &value["id"]));
            }

            let mut told = Vec::new();
            push_v1(&mut told, &v1_prefix(channel), content);
            assert!(json::is_json(&told));
            told.clear();
            push_ok(&mut told, command.id(bytes).unwrap_or("0"));
            assert!(json::is_json(&told));
        }
        Err(rejected) => {
            let mut told = Vec::new();
            rejected.push(&mut told);
            assert!(json::is_json(&told));
            if !json::is_json(bytes) {
                assert_eq!(rejected.fault.code, Code::BadMessage);
            }
        }
    }

    match parse_post(bytes) {
        Ok(None) => {}
        Ok(Some(post)) => {
            let (channel, content) = (post.channel(bytes), post.content(bytes));
            assert!(json::is_json(bytes) && json::is_json(content));
            assert_eq!(ChannelName::check(channel), Ok(channel));
            if let Some(value) = &value {
                assert_eq!(value["channel"].as_str().map(str::trim), Some(channel));
                let inner = &value["args"]["content"];
                assert!(same(content, &value["content"]) || same(content, inner));
            }
        }
        Err(fault) => assert!(!fault.message.is_empty()),
    }

    if let Ok(Some(state)) = read_state(bytes) {
        assert!(json::is_json(state.as_bytes()));
        if let Some(value) = &value {
            assert!(same(state.as_bytes(), &value["state"]));
        }
    }
}
