//! What is wrong with an answer's body, for the log (`docs/authorizer.md#wrong-fields`).
//!
//! Owns: how much of a value is shown. Knows: the fields' names. Never knows: how often it is logged.

use std::fmt;

use crate::wire::json::scalars::beginning;

/// A field of an answer, or its body as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerField {
    Body,
    User,
    State,
    Channels,
    Allow,
    ExpiresIn,
    MaxAge,
    Content,
    Message,
    Close,
}

impl AnswerField {
    pub const ALL: [AnswerField; 10] = [
        AnswerField::Body,
        AnswerField::User,
        AnswerField::State,
        AnswerField::Channels,
        AnswerField::Allow,
        AnswerField::ExpiresIn,
        AnswerField::MaxAge,
        AnswerField::Content,
        AnswerField::Message,
        AnswerField::Close,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AnswerField::Body => "body",
            AnswerField::User => "user",
            AnswerField::State => "state",
            AnswerField::Channels => "channels",
            AnswerField::Allow => "allow",
            AnswerField::ExpiresIn => "expires_in",
            AnswerField::MaxAge => "max_age",
            AnswerField::Content => "content",
            AnswerField::Message => "message",
            AnswerField::Close => "close",
        }
    }

    /// The field that a member's name means.
    pub fn named(name: &str) -> Option<AnswerField> {
        AnswerField::ALL
            .into_iter()
            .find(|field| *field != AnswerField::Body && field.as_str() == name)
    }
}

/// A field that cannot be used. Its text names the field, the beginning of its value, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongField {
    pub field: AnswerField,
    /// The value's first 64 bytes as they were written, or only its length.
    pub value: Box<str>,
    /// What is accepted, or what is wrong.
    pub why: Box<str>,
}

impl WrongField {
    /// `value`: as it was written. What may be private, a state or content, is not shown.
    pub(super) fn new(field: AnswerField, value: &str, why: impl Into<Box<str>>) -> WrongField {
        let shown = match field {
            AnswerField::Body | AnswerField::State | AnswerField::Content => {
                format!("{} bytes", value.len())
            }
            _ => beginning(value),
        };
        WrongField {
            field,
            value: shown.into(),
            why: why.into(),
        }
    }

    /// The body as a whole, which has this many bytes.
    pub fn body(len: usize, why: impl Into<Box<str>>) -> WrongField {
        WrongField {
            field: AnswerField::Body,
            value: format!("{len} bytes").into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for WrongField {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let field = self.field.as_str();
        write!(f, "{field}: {} ({})", self.value, self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_up_to_64_bytes() {
        let long = format!("{}é", "x".repeat(63));
        for (field, value, shown) in [
            (AnswerField::User, "-1.5", "user: -1.5 (why)"),
            (AnswerField::State, "\"secret\"", "state: 8 bytes (why)"),
            (AnswerField::Content, "\"secret\"", "content: 8 bytes (why)"),
            (AnswerField::Body, "{\"state\":1", "body: 10 bytes (why)"),
            (
                AnswerField::Message,
                &long,
                &format!("message: {}… (why)", "x".repeat(63)),
            ),
        ] {
            assert_eq!(WrongField::new(field, value, "why").to_string(), shown);
        }
    }

    #[test]
    fn fields_are_found_by_their_names() {
        for field in AnswerField::ALL {
            let named = AnswerField::named(field.as_str());
            assert_eq!(named, (field != AnswerField::Body).then_some(field));
        }
        assert_eq!(AnswerField::named("User"), None);
    }
}
