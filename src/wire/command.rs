//! Messages of clients and bodies of `POST /broadcast`, read (`docs/protocol.md#commands`, `docs/api.md#broadcast`).
//!
//! Owns: the shape of a command and of a POST body. Knows: which names and types make a command, and in what order its
//! faults are reported. Never knows: whether it is allowed, or the members of a channel.
//!
//! Decisions
//! - Spans into the message rather than copied parts, because the usual command is read, carried out and dropped while
//!   its message lies in the receive buffer. A command that waits for the authorizer keeps a copy of the message, in
//!   which the spans mean the same. Reconsider when a command is kept longer than its message.
//! - Faults are reported in the order of reading: first the whole syntax and all types (`bad_message`), then the verb
//!   (`unknown_command`), then the channel (`bad_channel`). So nothing doubtful reaches the authorizer.

use std::borrow::Cow;

use super::channel_name::{BadChannel, ChannelName, MAX_NAME};
use super::json::{self, Given, Span};
use super::server_message::{Code, Fault, Rejected};

mod fuzz;
mod saved;

#[doc(hidden)]
pub use fuzz::fuzz;
pub use saved::{SavedCommand, SavedPost};

const EXAMPLE: &str = r#"{"command":"join","args":{"channel":"hello"}}"#;

/// The commands of clients. `connect` is not among them: only the server uses it, in questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Join,
    Leave,
    Broadcast,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Join => "join",
            Verb::Leave => "leave",
            Verb::Broadcast => "broadcast",
        }
    }

    fn named(name: &str) -> Option<Verb> {
        [Verb::Join, Verb::Leave, Verb::Broadcast]
            .into_iter()
            .find(|verb| verb.as_str() == name)
    }
}

/// A name that has passed [`ChannelName::check`]: where it lies, or what it means when escapes hide it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Raw(Span),
    Decoded(Box<str>),
}

impl Text {
    /// `name` is what the JSON string at `span` means.
    fn check(name: Cow<str>, span: Span) -> Result<Text, BadChannel> {
        let trimmed = ChannelName::check(&name)?;
        Ok(match &name {
            Cow::Owned(_) => Text::Decoded(trimmed.into()),
            Cow::Borrowed(name) => {
                let white = trimmed.as_ptr().addr().wrapping_sub(name.as_ptr().addr());
                Text::Raw(span.quoted(white, trimmed.len()))
            }
        })
    }

    fn of<'m>(&'m self, message: &'m [u8]) -> &'m str {
        match self {
            Text::Raw(span) => json::utf8(span.of(message)).unwrap_or_default(),
            Text::Decoded(name) => name,
        }
    }
}

/// A client's command, complete and well formed. Its parts lie in the message that it was parsed from; the accessors
/// take that message, or a copy of it. (With another message they give a meaningless part of it, or nothing.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub verb: Verb,
    channel: Text,
    content: Option<Span>,
    args: Span,
    id: Option<Span>,
}

impl Command {
    /// The channel's name, trimmed and checked.
    pub fn channel<'m>(&'m self, message: &'m [u8]) -> &'m str {
        self.channel.of(message)
    }

    /// The content's JSON exactly as it was sent, `null` if there was none.
    pub fn content<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        self.content.map_or(b"null", |span| span.of(message))
    }

    /// The same command with another content, and the message that it lies in.
    pub fn with_content(self, message: &[u8], content: &[u8]) -> (Command, Box<[u8]>) {
        let message = [message, content].concat();
        let start = message.len().saturating_sub(content.len());
        let content = Some(Span::new(start, message.len()));
        (Command { content, ..self }, message.into())
    }

    /// The JSON of `args` exactly as it was sent.
    pub fn args<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        self.args.of(message)
    }

    /// The JSON of `id` exactly as it was sent: a string or a number.
    pub fn id<'m>(&self, message: &'m [u8]) -> Option<&'m str> {
        let span = self.id?;
        json::utf8(span.of(message)).ok()
    }
}

/// Reads a client's message, text or binary.
///
/// The usual message takes no heap allocation, and none takes more than linear time or a deep stack.
///
/// # Errors
/// A `bad_message`, an `unknown_command` or a `bad_channel` (`docs/protocol.md#errors`).
pub fn parse(message: &[u8]) -> Result<Command, Rejected> {
    let (text, object) = json::read(message).map_err(|why| Rejected {
        fault: Fault::bad_message(format!("the message cannot be read, {why}; send {EXAMPLE}")),
        id: None,
        command: None,
        channel: None,
    })?;
    judge(text, &object).map_err(|fault| {
        let id = id(text, object.own.id).ok().flatten();
        let command = readable(text, object.own.command);
        let channel = readable(text, object.args.channel);
        Rejected {
            fault,
            id: id.map(|span| span.of_str(text).into()),
            command: command.as_deref().and_then(short).map(Into::into),
            channel: channel.and_then(|name| ChannelName::echo(&name).map(Into::into)),
        }
    })
}

fn judge(text: &str, object: &json::Object) -> Result<Command, Fault> {
    let (own, args) = (&object.own, &object.args);
    refuse_twice(own.twice.as_deref(), "the message")?;
    refuse_twice(args.twice.as_deref(), "args")?;

    let command = own.command.once().ok_or_else(|| {
        Fault::bad_message(r#"there is no "command": send join, leave or broadcast"#)
    })?;
    let command = string(text, command, "command")?;
    let id = id(text, own.id)?;
    let args_span = args_span(text, own.args)?;
    let channel = channel(text, args.channel)?;

    let verb = Verb::named(&command).ok_or_else(|| unknown_command(&command))?;

    // Without `args` there is no channel: the fault of `args` is reported.
    let (Some((name, at)), Some(args_span)) = (channel, args_span) else {
        return Err(Fault::bad_channel(
            r#"there is no channel: name it as args.channel, as in {"channel":"hello"}"#,
        ));
    };
    Ok(Command {
        verb,
        channel: Text::check(name, at)?,
        content: args.content.once(),
        args: args_span,
        id,
    })
}

fn unknown_command(command: &str) -> Fault {
    let message = match short(command) {
        Some("connect") => {
            "connect is not a command for clients: send join, leave or broadcast".into()
        }
        Some(command) => {
            format!("unknown command {command:?}: send join, leave or broadcast").into()
        }
        None => "unknown command: send join, leave or broadcast".into(),
    };
    Fault {
        code: Code::UnknownCommand,
        message,
    }
}

/// A body of `POST /broadcast`. As with [`Command`], its parts lie in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    channel: Text,
    content: Option<Span>,
}

impl Post {
    /// The channel's name, trimmed and checked.
    pub fn channel<'b>(&'b self, body: &'b [u8]) -> &'b str {
        self.channel.of(body)
    }

    /// The content's JSON exactly as it was sent, `null` if there was none.
    pub fn content<'b>(&self, body: &'b [u8]) -> &'b [u8] {
        self.content.map_or(b"null", |span| span.of(body))
    }
}

/// Reads a body of `POST /broadcast` to one channel, in either form (`docs/api.md#broadcast`). `None`: it may have another
/// target.
///
/// # Errors
/// `bad_message`: not JSON, not an object, a name given twice, wrong types, the content in both places. `bad_channel`:
/// a channel that is missing, blank or too long.
pub fn parse_post(body: &[u8]) -> Result<Option<Post>, Fault> {
    let (text, object) = json::read(body).map_err(|why| {
        Fault::bad_message(format!(
            r#"the body cannot be read, {why}; send {{"channel":"hello","content":"any JSON"}}"#
        ))
    })?;
    let (own, args) = (&object.own, &object.args);
    if own.targets {
        return Ok(None);
    }
    refuse_twice(own.twice.as_deref(), "the body")?;
    refuse_twice(args.twice.as_deref(), "args")?;
    args_span(text, own.args)?;
    let content = match (own.content.once(), args.content.once()) {
        (Some(_), Some(_)) => {
            return Err(Fault::bad_message(
                "both content and args.content are given: give one of them",
            ));
        }
        (one, other) => one.or(other),
    };
    let (name, at) = channel(text, own.channel)?.ok_or_else(|| {
        Fault::bad_channel(r#"there is no channel: name it, as in {"channel":"hello"}"#)
    })?;
    Ok(Some(Post {
        channel: Text::check(name, at)?,
        content,
    }))
}

fn refuse_twice(name: Option<&str>, place: &str) -> Result<(), Fault> {
    let Some(name) = name else {
        return Ok(());
    };
    let name = short(name).map_or("a name".into(), |name| format!("{name:?}"));
    Err(Fault::bad_message(format!(
        "{name} is given twice in {place}: give it once"
    )))
}

/// The text of the JSON string at `value`.
fn string<'m>(text: &'m str, value: Span, name: &str) -> Result<Cow<'m, str>, Fault> {
    let raw = value.of_str(text);
    if !raw.starts_with('"') {
        return Err(Fault::bad_message(format!(
            "{name} is not a string: write it in double quotes"
        )));
    }
    json::unquote(raw).map_err(|why| {
        Fault::bad_message(format!(
            "{name} is not Unicode text ({why}): escape both halves of a surrogate pair"
        ))
    })
}

/// The text of a value that may be echoed, if it is one string.
fn readable(text: &str, given: Given) -> Option<Cow<'_, str>> {
    string(text, given.once()?, "").ok()
}

/// A value that is there; `null` counts as none.
fn present(text: &str, given: Given) -> Option<Span> {
    given.once().filter(|span| span.of_str(text) != "null")
}

fn id(text: &str, given: Given) -> Result<Option<Span>, Fault> {
    let id = present(text, given);
    match id.and_then(|span| span.of_str(text).as_bytes().first()) {
        None | Some(b'"' | b'-' | b'0'..=b'9') => Ok(id),
        Some(_) => Err(Fault::bad_message(
            "id is neither a string nor a number: send one of these, or no id",
        )),
    }
}

fn args_span(text: &str, given: Given) -> Result<Option<Span>, Fault> {
    let args = present(text, given);
    if args.is_some_and(|span| !span.of_str(text).starts_with('{')) {
        return Err(Fault::bad_message(
            r#"args is not an object: send one, as in {"channel":"hello"}"#,
        ));
    }
    Ok(args)
}

/// A channel's name, not yet trimmed, and where its string lies.
fn channel(text: &str, given: Given) -> Result<Option<(Cow<'_, str>, Span)>, Fault> {
    present(text, given)
        .map(|span| Ok((string(text, span, "channel")?, span)))
        .transpose()
}

/// `text`, if it is short enough to be echoed.
fn short(text: &str) -> Option<&str> {
    (text.len() <= MAX_NAME).then_some(text)
}

#[cfg(test)]
mod tests;
