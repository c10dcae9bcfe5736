//! JSON for clients: answers to commands, errors, and content for members that use `wsify.v1`.
//!
//! Owns: the codes of errors. Knows: JSON. Never knows: what led to an error.

use std::borrow::Cow;

use super::channel_name::{BadChannel, ChannelName};
use super::json;

/// The fault's word in an answer (`docs/protocol.md#errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadMessage,
    UnknownCommand,
    BadChannel,
    TooManyChannels,
    NotAuthorized,
    Unavailable,
    AuthorizerDown,
    RateLimited,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadMessage => "bad_message",
            Code::UnknownCommand => "unknown_command",
            Code::BadChannel => "bad_channel",
            Code::TooManyChannels => "too_many_channels",
            Code::NotAuthorized => "not_authorized",
            Code::Unavailable => "unavailable",
            Code::AuthorizerDown => "authorizer_down",
            Code::RateLimited => "rate_limited",
        }
    }
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Fault {
    pub(super) fn bad_message(message: impl Into<Cow<'static, str>>) -> Fault {
        Fault {
            code: Code::BadMessage,
            message: message.into(),
        }
    }

    pub(super) fn bad_channel(message: impl Into<Cow<'static, str>>) -> Fault {
        Fault {
            code: Code::BadChannel,
            message: message.into(),
        }
    }
}

impl From<BadChannel> for Fault {
    fn from(bad: BadChannel) -> Fault {
        Fault::bad_channel(bad.to_string())
    }
}

/// A message that is not a command: the fault, and the parts of the message that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub fault: Fault,
    /// As JSON, as it was sent.
    pub id: Option<Box<str>>,
    pub command: Option<Box<str>>,
    /// Only a name that could be a channel's.
    pub channel: Option<Box<str>>,
}

impl Rejected {
    /// Appends the answer to the client.
    pub fn push(&self, out: &mut Vec<u8>) {
        push_error(
            out,
            self.id.as_deref(),
            self.fault.code,
            &self.fault.message,
            self.command.as_deref(),
            self.channel.as_deref(),
        );
    }
}

/// Appends the answer to a command with an `id` that has taken effect. `id` is JSON.
pub fn push_ok(out: &mut Vec<u8>, id: &str) {
    out.extend_from_slice(br#"{"id":"#);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(br#","ok":true}"#);
}

/// Appends the answer to what failed. `id` is JSON; `message` says what to do.
pub fn push_error(
    out: &mut Vec<u8>,
    id: Option<&str>,
    code: Code,
    message: &str,
    command: Option<&str>,
    channel: Option<&str>,
) {
    out.push(b'{');
    if let Some(id) = id {
        out.extend_from_slice(br#""id":"#);
        out.extend_from_slice(id.as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(br#""error":{"code":"#);
    json::push_string(out, code.as_str());
    out.extend_from_slice(br#","message":"#);
    json::push_string(out, message);
    if let Some(command) = command {
        out.extend_from_slice(br#","command":"#);
        json::push_string(out, command);
    }
    if let Some(channel) = channel {
        out.extend_from_slice(br#","channel":"#);
        json::push_string(out, channel);
    }
    out.extend_from_slice(b"}}");
}

/// Appends the first message to a client that uses `wsify.v1`; `channels` are those that it is in already.
pub fn push_welcome(out: &mut Vec<u8>, id: &str, user: Option<&str>, channels: &[ChannelName]) {
    out.extend_from_slice(br#"{"welcome":{"connection":"#);
    json::push_string(out, id);
    if let Some(user) = user {
        out.extend_from_slice(br#","user":"#);
        json::push_string(out, user);
    }
    out.extend_from_slice(br#","channels":["#);
    push_names(out, channels);
    out.extend_from_slice(b"]}}");
}

/// Appends what a client that uses `wsify.v1` is told when a backend has made it join a channel, or leave it.
pub fn push_moved(out: &mut Vec<u8>, joined: bool, channel: &str) {
    out.extend_from_slice(if joined {
        br#"{"joined":"#
    } else {
        br#"{"left":"#.as_slice()
    });
    json::push_string(out, channel);
    out.push(b'}');
}

/// Appends names, with commas between them.
pub(super) fn push_names(out: &mut Vec<u8>, names: &[ChannelName]) {
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::push_string(out, name.as_str());
    }
}

/// The bytes before the content for a member that uses `wsify.v1`: the same for all messages of a channel.
pub fn v1_prefix(channel: &str) -> Vec<u8> {
    v1_prefix_for("channel", channel)
}

/// The bytes before content that goes to what `target` and `name` say.
pub fn v1_prefix_for(target: &str, name: &str) -> Vec<u8> {
    let mut out = b"{".to_vec();
    json::push_string(&mut out, target);
    out.push(b':');
    json::push_string(&mut out, name);
    out.extend_from_slice(br#","content":"#);
    out
}

/// The bytes behind the content.
pub const V1_SUFFIX: &[u8] = b"}";

/// Appends content for a member that uses `wsify.v1`. `prefix` is the channel's [`v1_prefix`], `content` is JSON.
pub fn push_v1(out: &mut Vec<u8>, prefix: &[u8], content: &[u8]) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(content);
    out.extend_from_slice(V1_SUFFIX);
}

/// Appends what a client that speaks `wsify.v1` is told when it may have missed what goes to users and connections.
pub fn push_gap(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"gap":true}"#);
}

/// What a member that speaks `wsify.v1` is told when it may have missed messages of a channel.
pub fn v1_gap(channel: &str) -> Vec<u8> {
    let mut out = br#"{"channel":"#.to_vec();
    json::push_string(&mut out, channel);
    out.extend_from_slice(br#","gap":true}"#);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written() {
        let written = |push: &dyn Fn(&mut Vec<u8>)| {
            let mut out = b"before ".to_vec();
            push(&mut out);
            String::from_utf8(out.split_off(7)).unwrap()
        };
        assert_eq!(written(&|out| push_ok(out, "7")), r#"{"id":7,"ok":true}"#);
        assert_eq!(
            written(&|out| push_ok(out, r#""\u0061""#)),
            r#"{"id":"\u0061","ok":true}"#
        );
        assert_eq!(
            written(&|out| push_error(
                out,
                Some("7"),
                Code::NotAuthorized,
                "ask \"them\"",
                Some("join"),
                Some("h\"\\\n\u{1}é"),
            )),
            r#"{"id":7,"error":{"code":"not_authorized","message":"ask \"them\"","command":"join","channel":"h\"\\\n\u0001é"}}"#
        );
        assert_eq!(
            written(&|out| push_error(out, None, Code::Unavailable, "later", None, None)),
            r#"{"error":{"code":"unavailable","message":"later"}}"#
        );
        assert_eq!(
            written(&|out| push_v1(out, &v1_prefix("a\"b"), br#"{"x": 1.0}"#)),
            r#"{"channel":"a\"b","content":{"x": 1.0}}"#
        );
        assert_eq!(written(&push_gap), r#"{"gap":true}"#);
        assert_eq!(v1_gap("a\"b"), br#"{"channel":"a\"b","gap":true}"#);
        assert_eq!(
            written(&|out| {
                crate::wire::command::parse(br#"{"id":7,"command":"fl\"y","args":{"channel":"h"}}"#)
                    .unwrap_err()
                    .push(out)
            }),
            r#"{"id":7,"error":{"code":"unknown_command","message":"unknown command \"fl\\\"y\": send join, leave or broadcast","command":"fl\"y","channel":"h"}}"#
        );
    }
}
