//! Bodies of `POST /broadcast`, `/disconnect`, `/join` and `/leave` (`docs/api.md#more-targets`, `docs/api.md#users-and-connections`).
//!
//! Owns: the names, types and ranges in them. Never knows: what is there, or what follows from a fault.
//!
//! Decision: the usual body of `/broadcast`, one object with one channel, is read by [`command::parse_post`] in one pass
//! without a copy. Only bodies with other targets are taken apart here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use super::{BackendCommand, MAX_TARGETS, Publishing, Recipient, Target};
use crate::wire::channel_name::ChannelName;
use crate::wire::command::{self, Post};
use crate::wire::json::members::{Members, elements, members};
use crate::wire::json::scalars::{beginning, integer, string, text, user};
use crate::wire::json::{self, utf8};
use crate::wire::server_message::Fault;

/// The close code of a connection that a backend has ended, if it does not name one.
const USUAL_CODE: u16 = 4403;
const USUAL_REASON: &str = "closed by the backend";
/// A close frame has room for no more (RFC 6455 5.5.1).
const MAX_REASON: usize = 123;

/// A body of `POST /broadcast`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// To one channel; the parts lie in the body.
    One(Post),
    Many(Vec<Publishing>),
}

/// # Errors
/// What is wrong first. Nothing of the body is to be published.
pub fn broadcast(body: &[u8]) -> Result<Broadcast, Fault> {
    if json::first_byte(body) != Some(b'[') {
        return match command::parse_post(body)? {
            Some(post) => Ok(Broadcast::One(post)),
            None => Ok(Broadcast::Many(vec![publishing(body, &mut Left::all())?])),
        };
    }
    let unreadable = |why: String| {
        Fault::bad_message(format!(
            r#"the body cannot be read, {why}; send [{{"channel":"hello","content":"any JSON"}}]"#
        ))
    };
    let text = utf8(body).map_err(|at| unreadable(format!("it is not UTF-8 at byte {at}")))?;
    let elements =
        elements(text).ok_or_else(|| unreadable("it begins as an array and is not JSON".into()))?;
    if elements.is_empty() {
        return Err(Fault::bad_message(
            "the body is []: give one object at least",
        ));
    }
    let mut left = Left::all();
    let all = elements.iter().enumerate().map(|(at, element)| {
        publishing(element.as_bytes(), &mut left).map_err(|fault| Fault {
            message: format!("object {at} of the body: {}", fault.message).into(),
            ..fault
        })
    });
    all.collect::<Result<_, _>>().map(Broadcast::Many)
}

/// Targets that a call may still have.
struct Left(usize);

impl Left {
    fn all() -> Left {
        Left(MAX_TARGETS)
    }

    fn take(&mut self, targets: usize) -> Result<(), Fault> {
        self.0 = self.0.checked_sub(targets).ok_or_else(|| {
            Fault::bad_message(format!(
                "there are more than {MAX_TARGETS} targets: send them in several calls"
            ))
        })?;
        Ok(())
    }
}

fn publishing(object: &[u8], left: &mut Left) -> Result<Publishing, Fault> {
    let own = object_of(object, r#"{"channels":["hello"],"content":"any JSON"}"#)?;
    let args = match given(&own, "args") {
        None => Members::default(),
        Some(args) if args.starts_with('{') => object_of(args.as_bytes(), "{}")?,
        Some(args) => return Err(wrong("args", args, "expected an object")),
    };
    let content = match (own.value("content"), args.value("content")) {
        (Some(_), Some(_)) => {
            let why = "both content and args.content are given: give one of them";
            return Err(Fault::bad_message(why));
        }
        (one, other) => one.or(other).unwrap_or("null"),
    };
    let (name, value) = only_one(&own, &["channel", "channels", "user", "connection"])?;
    let targets = match name {
        "channel" => vec![Target::Channel(channel(name, value)?)],
        "channels" => channels(value)?,
        _ => vec![Target::Recipient(recipient(name, value)?)],
    };
    left.take(targets.len())?;
    Ok(Publishing {
        targets,
        content: content.as_bytes().into(),
    })
}

/// Each channel once.
fn channels(value: &str) -> Result<Vec<Target>, Fault> {
    let expected = "expected an array of one channel name at least";
    let elements = elements(value).filter(|elements| !elements.is_empty());
    let elements = elements.ok_or_else(|| wrong("channels", value, expected))?;
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    for element in elements {
        let name = channel("channels", element)?;
        if seen.insert(name.clone()) {
            targets.push(Target::Channel(name));
        }
    }
    Ok(targets)
}

/// A body of `POST /disconnect`.
///
/// # Errors
/// What is wrong first.
pub fn disconnect(body: &[u8]) -> Result<BackendCommand, Fault> {
    let own = object_of(body, r#"{"user":"42"}"#)?;
    let (name, value) = only_one(&own, &["user", "connection"])?;
    let recipient = recipient(name, value)?;
    let code = given(&own, "code").map_or(Ok(USUAL_CODE), |value| {
        let code = integer(value, 1000, 4999).ok();
        let code = code.filter(|code| *code == 1000 || *code >= 4000);
        code.and_then(|code| u16::try_from(code).ok())
            .ok_or_else(|| {
                wrong(
                    "code",
                    value,
                    "expected 1000, or an integer from 4000 to 4999",
                )
            })
    })?;
    let reason = given(&own, "reason").map_or(Ok(USUAL_REASON.into()), |value| {
        string(value, 0, MAX_REASON).map_err(|expected| wrong("reason", value, expected))
    })?;
    Ok(BackendCommand::Disconnect {
        recipient,
        code,
        reason,
    })
}

/// A body of `POST /join` or `POST /leave`.
///
/// # Errors
/// What is wrong first.
pub fn membership(body: &[u8]) -> Result<(Recipient, ChannelName), Fault> {
    let own = object_of(body, r#"{"user":"42","channel":"hello"}"#)?;
    let (name, value) = only_one(&own, &["user", "connection"])?;
    let recipient = recipient(name, value)?;
    let value = given(&own, "channel").ok_or_else(|| {
        Fault::bad_channel(r#"there is no channel: name it, as in {"user":"42","channel":"hello"}"#)
    })?;
    Ok((recipient, channel("channel", value)?))
}

/// The members of an object, none of which has a name twice.
pub(in crate::wire) fn object_of<'t>(bytes: &'t [u8], example: &str) -> Result<Members<'t>, Fault> {
    let members = members(bytes)
        .map_err(|why| Fault::bad_message(format!("it cannot be read, {why}; send {example}")))?;
    match &members.twice {
        None => Ok(members),
        Some(name) => Err(Fault::bad_message(format!(
            "{:?} is given twice: give it once",
            beginning(name)
        ))),
    }
}

/// A value that is there; `null` counts as none.
pub(in crate::wire) fn given<'m>(members: &'m Members, name: &str) -> Option<&'m str> {
    members.value(name).filter(|value| *value != "null")
}

/// The only one of `names` that is given, and its value.
pub(in crate::wire) fn only_one<'m>(
    members: &'m Members,
    names: &[&'static str],
) -> Result<(&'static str, &'m str), Fault> {
    let mut found = names
        .iter()
        .filter_map(|name| Some((*name, given(members, name)?)));
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (Some((one, _)), Some((other, value))) => Err(wrong(
            other,
            value,
            format!("{one} is given too: give one of them"),
        )),
        (None, _) => Err(Fault::bad_message(format!(
            "there is no target: give one of {}",
            names.join(", ")
        ))),
    }
}

pub(in crate::wire) fn channel(field: &str, value: &str) -> Result<ChannelName, Fault> {
    let name = text(value).ok_or_else(|| wrong(field, value, "expected a channel name"))?;
    let name = ChannelName::check(&name).map_err(|bad| Fault {
        message: shown(field, value, &bad),
        ..Fault::from(bad)
    })?;
    Ok(ChannelName::checked(name))
}

pub(in crate::wire) fn recipient(name: &str, value: &str) -> Result<Recipient, Fault> {
    if name == "user" {
        let user = user(value).map_err(|expected| wrong(name, value, expected))?;
        return Ok(Recipient::User(user));
    }
    let id = text(value).ok_or_else(|| wrong(name, value, "expected the id of a connection"))?;
    Ok(Recipient::Connection(id.into()))
}

fn wrong(field: &str, value: &str, why: impl fmt::Display) -> Fault {
    Fault::bad_message(shown(field, value, &why))
}

fn shown(field: &str, value: &str, why: &impl fmt::Display) -> Cow<'static, str> {
    format!("{field} is {}: {why}", beginning(value)).into()
}
