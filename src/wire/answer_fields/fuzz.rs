//! Fuzzing: what must hold for any body of an answer. The target in `fuzz/` and the replayed corpus call it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken promise is to panic"
)]

use serde_json::Value;

use super::*;
use crate::wire::json::is_json;
use crate::wire::json::members::elements;

const ASKED: [Asked; 5] = [
    Asked::Connect,
    Asked::Join,
    Asked::Leave,
    Asked::Broadcast,
    Asked::Refresh,
];
const STATUSES: [u16; 6] = [200, 403, 201, 500, 599, 100];
/// Small ones, so that a fuzzer gets beyond them.
const LIMITS: AnswerLimits = AnswerLimits {
    channels: 3,
    content: 16,
};

/// Panics if a promise is broken. The first byte says what was asked and which status came; the body follows.
pub fn fuzz(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else {
        return;
    };
    let asked = ASKED[usize::from(*first) % ASKED.len()];
    let status = STATUSES[usize::from(*first) / ASKED.len() % STATUSES.len()];
    let reading = read(asked, status, body, &LIMITS);
    check(asked, status, body, &reading);
    check_items(asked, body);
}

fn check(asked: Asked, status: u16, body: &[u8], reading: &Reading) {
    let fields = &reading.fields;
    for wrong in &reading.wrong {
        assert!(!wrong.why.is_empty() && wrong.value.len() <= 64 + "…".len());
    }
    let refusal = status != 200 && status < 500;
    if status == 200 && !reading.wrong.is_empty() {
        assert_eq!(*fields, AnswerFields::default(), "half of a yes");
    }
    if status >= 500 {
        assert_eq!(*fields, AnswerFields::default(), "fields of a failure");
    }
    assert!(fields.user.is_none() || status == 200 && asked == Asked::Connect);
    assert!(fields.content.is_none() || status == 200 && asked == Asked::Broadcast);
    assert!(fields.state.is_none() || status == 200);
    assert!(fields.message.is_none() || refusal);
    assert!(fields.close.is_none() || refusal && asked != Asked::Connect);
    assert!(fields.content.is_none() || fields.max_age.unwrap_or_default() == 0);
    assert!(fields.channels.len() <= LIMITS.channels);
    for name in &fields.channels {
        assert_eq!(ChannelName::check(name.as_str()), Ok(name.as_str()));
    }
    let lies_in = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    if let Some(NewState::Json(state)) = &fields.state {
        assert!(is_json(state.as_bytes()) && lies_in(state.as_bytes()));
    }
    if let Some(content) = &fields.content {
        assert!(is_json(content) && lies_in(content));
    }
    check_allow(fields.allow.as_ref());
    // A second opinion. It holds less: no lone surrogates, no numbers beyond f64, no deep nesting.
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let text = |name: &str| value[name].as_str().map(Into::into);
        if fields.message.is_some() {
            assert_eq!(fields.message, text("message"));
        }
        if fields.max_age.is_some() {
            // As a fraction, since that is how serde_json reads -0.
            let seconds = value["max_age"].as_f64();
            assert_eq!(fields.max_age.map(f64::from), seconds);
        }
        if let Some(close) = &fields.close {
            assert_eq!(value["close"]["code"], close.code);
        }
        if let (Some(user), Some(text)) = (&fields.user, value["user"].as_str()) {
            assert_eq!(**user, *text);
        }
    } else if !is_json(body) {
        assert_eq!(reading.wrong.len(), 1);
    }
}

fn check_allow(allow: Option<&Allow>) {
    let Some(allow) = allow else {
        return;
    };
    for (verb, patterns) in [
        (Verb::Join, &allow.join),
        (Verb::Leave, &allow.leave),
        (Verb::Broadcast, &allow.broadcast),
    ] {
        for pattern in patterns {
            let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
            assert!(allow.permits(verb, prefix));
            assert!(pattern.len() <= 256);
        }
    }
}

/// An item means what it would mean by itself.
fn check_items(asked: Asked, body: &[u8]) {
    let Some(elements) = std::str::from_utf8(body).ok().and_then(elements) else {
        assert!(read_items(&[], body, &LIMITS).is_err());
        return;
    };
    let asked = vec![asked; elements.len()];
    if let Ok(items) = read_items(&asked, body, &LIMITS) {
        assert_eq!(items.len(), elements.len());
        for ((item, element), asked) in items.iter().zip(&elements).zip(&asked) {
            assert!((100..=599).contains(&item.status));
            check(*asked, item.status, element.as_bytes(), &item.reading);
            if element.len() <= LIMITS.body() {
                let alone = read(*asked, item.status, element.as_bytes(), &LIMITS);
                assert_eq!(item.reading, alone);
            }
        }
        let mut more = asked;
        more.push(Asked::Join);
        read_items(&more, body, &LIMITS).unwrap_err();
    }
}
