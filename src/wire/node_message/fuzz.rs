//! Fuzzing: what must hold for any bytes on a channel of the nodes. The target in `fuzz/` and the replayed corpus call it.

use super::envelope::{Envelope, NodeSeal};
use super::replay::ReplayWindow;
use super::{ALL_NODES, NodeAnswer, NodeMessage, NodeMessageError, read};
use crate::wire::backend::answer::CommandResult;
use crate::wire::json::is_json;

/// Panics if a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    let (open, keyed) = (NodeSeal::default(), NodeSeal::new(Some("key"), ""));
    // Only a holder of the key can sign.
    assert!(keyed.open(ALL_NODES, bytes).is_err());
    let message = match open.open(ALL_NODES, bytes) {
        Ok(envelope) => {
            assert_eq!(open.seal(ALL_NODES, &envelope), bytes);
            let signed = keyed.seal(ALL_NODES, &envelope);
            assert_eq!(keyed.open(ALL_NODES, &signed), Ok(envelope));
            let mut window = ReplayWindow::default();
            let first = window.admit(envelope.count, envelope.time);
            assert_eq!(first, envelope.count > 0);
            assert!(!window.admit(envelope.count, envelope.time));
            envelope.message
        }
        // So that the messages are found without an envelope, too.
        Err(_) => bytes,
    };
    check(message);
}

fn check(message: &[u8]) {
    let written = read::message(message, |read| {
        assert!(is_json(message));
        if let NodeMessage::Content(_, content) = &read {
            assert!(is_json(content.as_bytes()));
        }
        if let NodeMessage::Answer {
            answer:
                NodeAnswer::Done {
                    result: CommandResult::Page(page),
                    ..
                },
            ..
        } = &read
        {
            assert!(
                page.entries()
                    .is_sorted_by(|one, other| one.key < other.key)
            );
        }
        (read.json(), format!("{read:?}"))
    });
    match written {
        // What is read is written in a form that is read as the same.
        Ok((json, shown)) => {
            let again = read::message(&json, |read| format!("{read:?}"));
            assert_eq!(again.as_deref(), Ok(&*shown));
            let envelope = Envelope {
                node: 1,
                time: 2,
                count: 3,
                message: &json,
            };
            assert!(is_json(&NodeSeal::default().seal("c", &envelope)));
        }
        Err(why) => assert!(matches!(
            why,
            NodeMessageError::Malformed | NodeMessageError::Unknown
        )),
    }
}
