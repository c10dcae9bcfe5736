//! JSON values of one type and range, each from the text of its value.
//!
//! Owns: the checks, and what is said of a value that fails one. Knows: JSON as serde_json has checked it. Never knows: which
//! field a value belongs to.

use std::borrow::Cow;

use super::unquote;

/// Bytes of a user's name (`docs/authorizer.md#fields`).
pub(in crate::wire) const MAX_USER: usize = 255;
/// How much of a value is shown, in bytes.
const SHOWN: usize = 64;

/// The text of a JSON string. `None`: it is another value, or no Unicode text.
pub(in crate::wire) fn text(value: &str) -> Option<Cow<'_, str>> {
    if value.starts_with('"') {
        unquote(value).ok()
    } else {
        None
    }
}

/// # Errors
/// What is accepted instead.
pub(in crate::wire) fn string(
    value: &str,
    least: usize,
    most: usize,
) -> Result<Box<str>, Cow<'static, str>> {
    text(value)
        .filter(|text| (least..=most).contains(&text.len()))
        .map(|text| text.into())
        .ok_or_else(|| format!("expected a string of {least} to {most} bytes").into())
}

/// # Errors
/// What is accepted instead.
pub(in crate::wire) fn integer(
    value: &str,
    least: i64,
    most: i64,
) -> Result<i64, Cow<'static, str>> {
    // What is neither text nor a fraction nor an exponent, but JSON, is read as Rust reads it.
    let number = value.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("expected an integer from {least} to {most}").into())
}

/// A user's name. An integer's digits are the name, as they were written.
///
/// # Errors
/// What is accepted instead.
pub(in crate::wire) fn user(value: &str) -> Result<Box<str>, Cow<'static, str>> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) && value.len() <= MAX_USER {
        return Ok(value.into());
    }
    string(value, 1, MAX_USER).map_err(|_| {
        format!("expected a string of 1 to {MAX_USER} bytes, or an integer without fraction and exponent").into()
    })
}

/// The first bytes of a text, up to a whole character.
pub(in crate::wire) fn beginning(text: &str) -> String {
    let whole = (0..=SHOWN.min(text.len()))
        .rev()
        .find_map(|end| text.split_at_checked(end));
    match whole {
        Some((shown, "")) => shown.to_owned(),
        Some((shown, _)) => format!("{shown}…"),
        None => String::new(),
    }
}
