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
        if json::is_value(span.of(message)) {
            Ok(span)
        } else {
            Err(SnapshotError::new("a part of a message that is not JSON"))
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
    /// The command in a snapshot. `message`: the one that it was parsed from.
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
    /// The post in a snapshot. `body`: what it was read from, or nothing.
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
        let post = if body.is_empty() {
            Post {
                channel: saved.channel.restore(None)?,
                content: saved.content.map(SavedSpan::restore),
            }
        } else {
            Post {
                channel: saved.channel.restore(Some(&body))?,
                content: saved.content.map(|it| it.restore_json(&body)).transpose()?,
            }
        };
        Ok((post, body))
    }
}

impl Verb {
    /// What [`Verb::as_str`] has returned.
    ///
    /// # Errors
    /// It is not a command.
    pub fn restore(text: &str) -> Result<Verb, SnapshotError> {
        let unknown = || SnapshotError::new(format!("unknown command {text:?}"));
        Verb::named(text).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, parse_post};
    use super::*;

    const MESSAGE: &[u8] =
        br#"{"command":"broadcast","args":{"channel":" a ","content":[1]},"id":"x"}"#;
    const BODY: &[u8] = br#"{"channel":"\u0061","content":{"b":2}}"#;

    #[test]
    fn commands_and_posts_come_back() {
        for message in [
            MESSAGE,
            br#"{"command":"join","args":{"channel":"\u0061"}}"#,
        ] {
            let command = parse(message).unwrap();
            let saved = minicbor::to_vec(command.save(message)).unwrap();
            let saved = minicbor::decode(&saved).unwrap();
            assert_eq!(Command::restore(saved), Ok((command, message.into())));
        }
        let post = parse_post(BODY).unwrap().unwrap();
        // Once it is with the broker, there is no body.
        for body in [BODY, b""] {
            let saved = minicbor::to_vec(post.save(body)).unwrap();
            let saved = minicbor::decode(&saved).unwrap();
            assert_eq!(Post::restore(saved), Ok((post.clone(), body.into())));
        }
    }

    #[test]
    fn parts_that_are_elsewhere_are_refused() {
        let span = |start, end| SavedSpan { start, end };
        let alterations: [fn(&mut SavedCommand); 8] = [
            |it| it.verb = "connect".into(),
            |it| it.message = b"{}".to_vec().into(),
            |it| it.args = SavedSpan { start: 9, end: 3 },
            |it| it.channel = SavedText::Raw(SavedSpan { start: 0, end: 0 }),
            |it| it.channel = SavedText::Decoded(" a".into()),
            |it| it.channel = SavedText::Decoded("wsify:".into()),
            |it| it.content.as_mut().unwrap().end = u32::MAX,
            |it| it.id.as_mut().unwrap().start = 1,
        ];
        for (nth, alter) in alterations.into_iter().enumerate() {
            let mut saved = parse(MESSAGE).unwrap().save(MESSAGE);
            alter(&mut saved);
            assert!(Command::restore(saved).is_err(), "{nth}");
        }
        let mut saved = parse_post(BODY).unwrap().unwrap().save(BODY);
        saved.content = Some(span(0, 3));
        assert!(Post::restore(saved).is_err());
    }
}
