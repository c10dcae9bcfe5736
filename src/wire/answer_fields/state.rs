//! The state in an answer (`docs/authorizer.md#state`).
//!
//! Owns: how long it may be, and how it is read where it is all that an answer may say. Knows: JSON. Never knows: whose state
//! it is.

use crate::wire::json::{self, NoObject};

/// Bytes of a `state`, which goes with each later question of its connection.
pub const MAX_STATE: usize = 4 * 1024;

/// Whether a connection may have this state.
pub fn is_state(state: &str) -> bool {
    state.len() <= MAX_STATE && state != "null" && json::is_value(state.as_bytes())
}

/// The JSON text of `state` in the `application/json` body that a `connect` was answered with. `None`: there is none, or
/// it is `null`.
///
/// # Errors
/// What is wrong with a body that cannot be read, in words for the log. None of its content is in them.
pub fn read_state(body: &[u8]) -> Result<Option<Box<str>>, String> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    if body.starts_with(b"\xEF\xBB\xBF") {
        return Err("it begins with a byte order mark (BOM)".to_owned());
    }
    let (text, object) = match json::read(body) {
        Ok(read) => read,
        Err(NoObject::NotJson(_)) if body.trim_ascii_start().starts_with(b"<") => {
            let why = "it begins with '<': a notice of the program or a page of HTML stands before the JSON or in its place";
            return Err(why.to_owned());
        }
        Err(why) => return Err(why.to_string()),
    };
    if object.own.twice.is_some() {
        return Err("a name occurs twice".to_owned());
    }
    let state = object.own.state.once().map(|span| span.of_str(text));
    match state.filter(|state| *state != "null") {
        Some(state) if state.len() > MAX_STATE => {
            Err(format!("its state is over {} KiB", MAX_STATE / 1024))
        }
        state => Ok(state.map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_kept_as_it_was_written() {
        for (body, state) in [
            (r#"{"state":{"user": 42}}"#, Some(r#"{"user": 42}"#)),
            (" { \"x\":1, \"state\" : 1.0 }\n", Some("1.0")),
            (r#"{"st\u0061te":""}"#, Some(r#""""#)),
            (r#"{"state":false}"#, Some("false")),
            (r#"{"state":1,"args":{"a":1,"a":2},"command":7}"#, Some("1")),
            (r#"{"state":null}"#, None),
            (r#"{"State":1}"#, None),
            (r#"{"args":{"state":1}}"#, None),
            ("{}", None),
            (" \r\n", None),
            ("", None),
        ] {
            let read = read_state(body.as_bytes()).unwrap();
            assert_eq!(read.as_deref(), state, "{body}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_read_says_why() {
        let long = format!(r#"{{"state":"{}"}}"#, "x".repeat(MAX_STATE - 1));
        for (body, why) in [
            ("\u{feff}{\"state\":1}", "byte order mark"),
            ("<br />\n<b>Notice</b>: x\n{\"state\":1}", "begins with '<'"),
            ("<!DOCTYPE html>", "begins with '<'"),
            (r#"{"state":1,"state":1}"#, "twice"),
            (r#"{"state":1,"x":1,"x":1}"#, "twice"),
            (r#"[{"state":1}]"#, "not an object"),
            ("null", "not an object"),
            (r#"{"state":1"#, "not JSON: EOF"),
            (r#"{"state":1} x"#, "not JSON: trailing"),
            ("ok", "not JSON"),
            (&long, "over 4 KiB"),
        ] {
            let found = read_state(body.as_bytes()).unwrap_err();
            assert!(found.contains(why), "{body}: {found}");
        }
        assert!(read_state(b"{\"state\":\"\xff\"}").is_err());
        let fits = long.replacen('x', "", 1);
        assert_eq!(
            read_state(fits.as_bytes()).unwrap().unwrap().len(),
            MAX_STATE
        );
    }
}
