//! What must hold of any answer, for fuzzing only.
//!
//! Owns: nothing. Knows: that the pieces in which an answer comes change nothing. Never knows: a verdict.

#![expect(clippy::expect_used, clippy::panic, reason = "it is meant to panic")]

use serde_json::value::RawValue;

use super::{Malformed, parse_head};
use crate::wire::question::{MAX_STATE, read_state};

/// What has been read of an answer: its status, its body, and whether that is complete.
type Read = (u16, Vec<u8>, bool);

/// What must hold for any answer; the fuzz target and the replayed corpus call it. Panics where it does not.
///
/// The second byte is the size of the pieces in which the rest, the answer, arrives.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Some(([_, piece], answer)) = bytes.split_first_chunk() else {
        return;
    };
    let whole = read(answer, answer.len());
    let torn = read(answer, usize::from(*piece).max(1));
    match (&whole, &torn) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(_), Err(_)) => {}
        _ => panic!("{whole:?}, torn {torn:?}"),
    }
    let Ok(Some((status, body, _))) = whole else {
        return;
    };
    assert!((100..1000).contains(&status));
    assert_eq!(second_opinion(answer), Some(status));
    if let Ok(Some(state)) = read_state(&body) {
        assert!(state.len() <= MAX_STATE);
        serde_json::from_str::<&RawValue>(&state).expect("JSON");
    }
}

/// Reads an answer that arrives in pieces, to its end or that of the connection.
fn read(mut answer: &[u8], piece: usize) -> Result<Option<Read>, Malformed> {
    let mut input = Vec::new();
    let mut next = |input: &mut Vec<u8>| {
        let (fresh, rest) = answer.split_at(answer.len().min(piece));
        input.extend_from_slice(fresh);
        answer = rest;
        !fresh.is_empty()
    };
    let mut seen = 0;
    let mut head = loop {
        match parse_head(&input, seen)? {
            Some((head, used)) => {
                input.drain(..used);
                seen = 0;
                if !head.is_interim() {
                    break head;
                }
            }
            None => {
                seen = input.len();
                if !next(&mut input) {
                    return Ok(None);
                }
            }
        }
    };
    let mut body = Vec::new();
    loop {
        let fed = head.body.feed(&input, Some(&mut body))?;
        input.drain(..fed.used);
        if fed.complete {
            return Ok(Some((head.status, body, true)));
        }
        if !next(&mut input) {
            return Ok(Some((head.status, body, head.body.is_until_end())));
        }
    }
}

/// The status of an answer, interim ones left out, as httparse has it by itself.
fn second_opinion(mut answer: &[u8]) -> Option<u16> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; super::MAX_LINES];
        let mut response = httparse::Response::new(&mut headers);
        let mut parser = httparse::ParserConfig::default();
        parser.allow_obsolete_multiline_headers_in_responses(true);
        let parsed = parser.parse_response(&mut response, answer);
        let httparse::Status::Complete(used) = parsed.ok()? else {
            return None;
        };
        match response.code? {
            100 | 102..200 => answer = answer.get(used..)?,
            code => return Some(code),
        }
    }
}
