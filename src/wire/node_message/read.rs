//! Messages between nodes, read from JSON.
//!
//! Owns: the types and ranges in them. Knows: what backends may ask for. Never knows: the envelope, or which nodes there are.
//!
//! An unknown member is ignored. An unknown message is dropped, and counted as `unknown`.

use super::{NodeAnswer, NodeMessage, NodeMessageError};
use crate::wire::backend::answer::{
    CommandResult, ConnectionCounts, EntryValue, Listed, Page, PageEntry,
};
use crate::wire::backend::{BackendCommand, ConnectionFilter, MAX_LIMIT, Recipient, body};
use crate::wire::json::first_byte;
use crate::wire::json::members::{Members, elements};
use crate::wire::json::scalars::{integer, string, text};
use crate::wire::server_message::Fault;

/// Bytes of a text that only tells where something is: a name, an id, a prefix. Queries are bounded by the request's head.
const MAX_TEXT: usize = 16 * 1024;
/// Bytes of the reason why a command failed.
const MAX_WHY: usize = 4 * 1024;

/// A value cannot be used. Which one does not matter: no node sends it.
struct Bad;

impl From<Bad> for NodeMessageError {
    fn from(_: Bad) -> NodeMessageError {
        NodeMessageError::Malformed
    }
}

impl From<Fault> for Bad {
    fn from(_: Fault) -> Bad {
        Bad
    }
}

/// Reads a message, and hands it to `then`.
///
/// # Errors
/// It is not a message, or has a value of another type or range.
pub fn message<R>(
    bytes: &[u8],
    then: impl FnOnce(NodeMessage<'_>) -> R,
) -> Result<R, NodeMessageError> {
    let own = body::object_of(bytes, "").map_err(Bad::from)?;
    let name = own.value("command").and_then(text).ok_or(Bad)?;
    let message = match &*name {
        "here" => NodeMessage::Here {
            new: own.value("new") == Some("true"),
        },
        "gone" => NodeMessage::Gone,
        "content" => {
            let content = own.value("content").ok_or(Bad)?;
            NodeMessage::Content(recipient(&own)?, content)
        }
        "answer" => NodeMessage::Answer {
            number: number(&own)?,
            answer: answer(&own)?,
        },
        "disconnect" => request(&own, body::disconnect(bytes).map_err(Bad::from)?)?,
        "join" => {
            let (recipient, channel) = body::membership(bytes).map_err(Bad::from)?;
            request(&own, BackendCommand::Join(recipient, channel))?
        }
        "leave" => {
            let (recipient, channel) = body::membership(bytes).map_err(Bad::from)?;
            request(&own, BackendCommand::Leave(recipient, channel))?
        }
        "channels" => request(&own, list_channels(&own)?)?,
        "connections" => request(&own, list_connections(&own)?)?,
        _ => return Err(NodeMessageError::Unknown),
    };
    Ok(then(message))
}

fn request<'m>(own: &Members, command: BackendCommand) -> Result<NodeMessage<'m>, Bad> {
    let number = number(own)?;
    Ok(NodeMessage::Request { number, command })
}

fn number(own: &Members) -> Result<u32, Bad> {
    whole(own, "number", u32::MAX.into())?
        .and_then(|number| u32::try_from(number).ok())
        .ok_or(Bad)
}

/// A whole number; `None` if it is not there.
fn whole(own: &Members, name: &str, most: i64) -> Result<Option<u64>, Bad> {
    let Some(value) = own.value(name) else {
        return Ok(None);
    };
    let number = integer(value, 0, most).map_err(|_| Bad)?;
    u64::try_from(number).map(Some).map_err(|_| Bad)
}

fn recipient(own: &Members) -> Result<Recipient, Bad> {
    let (name, value) = body::only_one(own, &["user", "connection"])?;
    Ok(body::recipient(name, value)?)
}

fn given_text(own: &Members, name: &str) -> Result<Box<str>, Bad> {
    let value = own.value(name).ok_or(Bad)?;
    string(value, 0, MAX_TEXT).map_err(|_| Bad)
}

fn limit(own: &Members) -> Result<usize, Bad> {
    let limit = whole(own, "limit", MAX_LIMIT as i64)?.ok_or(Bad)? as usize;
    (limit > 0).then_some(limit).ok_or(Bad)
}

fn list_channels(own: &Members) -> Result<BackendCommand, Bad> {
    Ok(BackendCommand::ListChannels {
        prefix: given_text(own, "prefix")?,
        after: given_text(own, "after")?,
        limit: limit(own)?,
    })
}

fn list_connections(own: &Members) -> Result<BackendCommand, Bad> {
    let names = ["channel", "user", "connection"];
    let given = names.map(|name| body::given(own, name).is_some());
    let filter = match given {
        [false, false, false] => ConnectionFilter::All,
        _ => match body::only_one(own, &names)? {
            ("channel", value) => ConnectionFilter::Channel(body::channel("channel", value)?),
            (name, value) => ConnectionFilter::Recipient(body::recipient(name, value)?),
        },
    };
    Ok(BackendCommand::ListConnections {
        filter,
        after: given_text(own, "after")?,
        limit: limit(own)?,
    })
}

fn answer(own: &Members) -> Result<NodeAnswer, Bad> {
    if let Some(why) = own.value("failed") {
        let why = string(why, 0, MAX_WHY).map_err(|_| Bad)?;
        return Ok(NodeAnswer::Failed(why));
    }
    let result = match own.value("listed") {
        None => CommandResult::Counts(ConnectionCounts {
            connections: whole(own, "connections", i64::MAX)?.ok_or(Bad)?,
            full: whole(own, "full", i64::MAX)?.ok_or(Bad)?,
        }),
        Some(listed) => CommandResult::Page(page(own, listed)?),
    };
    let seq = whole(own, "seq", i64::MAX)?;
    Ok(NodeAnswer::Done { result, seq })
}

/// A page whose keys grow, and which is no longer than a page may be.
fn page(own: &Members, listed: &str) -> Result<Page, Bad> {
    let listed = match text(listed).as_deref() {
        Some("channels") => Listed::Channels,
        Some("connections") => Listed::Connections,
        _ => return Err(Bad),
    };
    let mut page = Page::new(listed, MAX_LIMIT);
    let entries = own.value("entries").and_then(elements).ok_or(Bad)?;
    for entry in entries {
        let entry = entry_of(listed, entry)?;
        let last = page.entries().last();
        if last.is_some_and(|last| last.key >= entry.key) || !page.add(entry) {
            return Err(Bad);
        }
    }
    match own.value("more") {
        Some("true") if !page.entries().is_empty() => page.end(),
        Some("false") => {}
        _ => return Err(Bad),
    }
    Ok(page)
}

fn entry_of(listed: Listed, entry: &str) -> Result<PageEntry, Bad> {
    let parts = elements(entry).ok_or(Bad)?;
    let [key, value] = parts.as_slice() else {
        return Err(Bad);
    };
    let value = match listed {
        Listed::Channels => {
            let members = integer(value, 0, i64::MAX).map_err(|_| Bad)?;
            EntryValue::Members(u64::try_from(members).map_err(|_| Bad)?)
        }
        Listed::Connections => {
            if first_byte(value.as_bytes()) != Some(b'{') {
                return Err(Bad);
            }
            EntryValue::Json(value.as_bytes().into())
        }
    };
    let key = string(key, 1, MAX_TEXT).map_err(|_| Bad)?;
    Ok(PageEntry { key, value })
}
