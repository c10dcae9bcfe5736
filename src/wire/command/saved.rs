//! Commands in a snapshot, with the messages that they were parsed from.

use minicbor::{Decode, Encode};

use super::{Command, Post, Text, Verb};
use crate::snapshot::SnapshotError;
use crate::wire::channel_name::ChannelName;
use crate::wire::json::{self, Span};

/// A client's command, and its message.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedCommand {
    #[n(0)]
    verb: Box<str>,
    #[n(1)]
    channel: SavedText,
    #[n(2)]
    content: Option<SavedSpan>,
    #[n(3)]
    args: SavedSpan,
    #[n(4)]
    id: Option<SavedSpan>,
    #[cbor(n(5), with = "minicbor::bytes")]
    message: Box<[u8]>,
}

/// A body of `POST /broadcast` that was read, and the body itself.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedPost {
    #[n(0)]
    channel: SavedText,
    #[n(1)]
    content: Option<SavedSpan>,
    /// Empty once it is with the broker.
    #[cbor(n(2), with = "minicbor::bytes")]
    body: Box<[u8]>,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(map)]
struct SavedSpan {
    #[n(0)]
    start: u32,
    #[n(1)]
    end: u32,
}

#[derive(Debug, Encode, Decode)]
enum SavedText {
    /// Where its name lies.
    #[n(0)]
    Raw(#[n(0)] SavedSpan),
    /// What its name means, when escapes hide it.
    #[n(1)]
    Decoded(#[n(0)] Box<str>),
}

impl SavedSpan {
    fn of(span: Span) -> SavedSpan {
        let (start, end) = span.bounds();
        SavedSpan { start, end }
    }

    fn restore(self) -> Span {
        Span::new(self.start as usize, self.end as usize)
    }

    /// The part, which is to be JSON.
    fn restore_json(self, message: &[u8]) -> Result<Span, SnapshotError> {
        let span = self.restore();
        match json::is_value(span.of(message)) {
            true => Ok(span),
            false => Err(SnapshotError::new("a part of a message that is not JSON")),
        }
    }
}

impl SavedText {
    fn of(text: &Text) -> SavedText {
        match text {
            Text::Raw(span) => SavedText::Raw(SavedSpan::of(*span)),
            Text::Decoded(name) => SavedText::Decoded(name.clone()),
        }
    }

    /// `message`: in which it lies. `None`: it is no longer there.
    fn restore(self, message: Option<&[u8]>) -> Result<Text, SnapshotError> {
        let text = match self {
            SavedText::Raw(span) => Text::Raw(span.restore()),
            SavedText::Decoded(name) => Text::Decoded(name),
        };
        if let Some(message) = message {
            ChannelName::restore(text.of(message))?;
        }
        Ok(text)
    }
}

impl Command {
    /// `message`: the one that it was parsed from.
    pub fn save(&self, message: &[u8]) -> SavedCommand {
        SavedCommand {
            verb: self.verb.as_str().into(),
            channel: SavedText::of(&self.channel),
            content: self.content.map(SavedSpan::of),
            args: SavedSpan::of(self.args),
            id: self.id.map(SavedSpan::of),
            message: message.into(),
        }
    }

    /// The command, and its message.
    ///
    /// # Errors
    /// Its parts do not lie in the message, or are no JSON, or no channel's name.
    pub fn restore(saved: SavedCommand) -> Result<(Command, Box<[u8]>), SnapshotError> {
        let message = saved.message;
        let json = |span: Option<SavedSpan>| span.map(|it| it.restore_json(&message)).transpose();
        let command = Command {
            verb: Verb::restore(&saved.verb)?,
            channel: saved.channel.restore(Some(&message))?,
            content: json(saved.content)?,
            args: saved.args.restore_json(&message)?,
            id: json(saved.id)?,
        };
        Ok((command, message))
    }
}

impl Post {
    /// `body`: what it was read from, or nothing.
    pub fn save(&self, body: &[u8]) -> SavedPost {
        SavedPost {
            channel: SavedText::of(&self.channel),
            content: self.content.map(SavedSpan::of),
            body: body.into(),
        }
    }

    /// The post, and its body.
    ///
    /// # Errors
    /// There is a body, and its parts do not lie in it, or are no JSON, or no channel's name.
    pub fn restore(saved: SavedPost) -> Result<(Post, Box<[u8]>), SnapshotError> {
        let body = saved.body;
        let post = match body.is_empty() {
            true => Post {
                channel: saved.channel.restore(None)?,
                content: saved.content.map(SavedSpan::restore),
            },
            false => Post {
                channel: saved.channel.restore(Some(&body))?,
                content: saved.content.map(|it| it.restore_json(&body)).transpose()?,
            },
        };
        Ok((post, body))
    }
}

impl Verb {
    /// What [`Verb::as_str`] has returned.
    ///
    /// # Errors
    /// It is no command.
    pub fn restore(text: &str) -> Result<Verb, SnapshotError> {
        let unknown = || SnapshotError::new(format!("there is no command {text:?}"));
        Verb::named(text).ok_or_else(unknown)
    }
}
