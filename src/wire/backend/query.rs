//! Queries of `GET /channels` and `GET /connections` (`docs/api.md#lists`).
//!
//! Owns: the parameters, their types and ranges. Never knows: what is there.
//!
//! Decision: parameters that mean something are decoded strictly rather than the lenient way of [`http::query_pairs`].
//! A name in which bytes were replaced would silently be another one.
//!
//! [`http::query_pairs`]: crate::wire::http::query_pairs

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::{BackendCommand, ConnectionFilter, MAX_LIMIT, Recipient, USUAL_LIMIT};
use crate::wire::channel_name::ChannelName;
use crate::wire::json::scalars::{MAX_USER, beginning};

/// # Errors
/// What is wrong first.
pub fn list_channels(query: &str) -> Result<BackendCommand, String> {
    let [prefix, after, limit] = parameters(query, ["prefix", "after", "limit"])?;
    Ok(BackendCommand::ListChannels {
        prefix: prefix.unwrap_or_default().into(),
        after: after.unwrap_or_default().into(),
        limit: self::limit(limit)?,
    })
}

/// # Errors
/// What is wrong first.
pub fn list_connections(query: &str) -> Result<BackendCommand, String> {
    let names = ["channel", "user", "connection", "after", "limit"];
    let [channel, user, connection, after, limit] = parameters(query, names)?;
    let filter = match (channel, user, connection) {
        (None, None, None) => ConnectionFilter::All,
        (Some(name), None, None) => {
            let bad = |bad| format!("channel is {:?}: {bad}", beginning(&name));
            let name = ChannelName::check(&name).map_err(bad)?;
            ConnectionFilter::Channel(ChannelName::checked(name))
        }
        (None, Some(user), None) => {
            if !(1..=MAX_USER).contains(&user.len()) {
                let shown = beginning(&user);
                return Err(format!("user is {shown:?}: expected 1 to {MAX_USER} bytes"));
            }
            ConnectionFilter::Recipient(Recipient::User(user.into()))
        }
        (None, None, Some(id)) => ConnectionFilter::Recipient(Recipient::Connection(id.into())),
        _ => return Err("give at most one of channel, user, connection".into()),
    };
    Ok(BackendCommand::ListConnections {
        filter,
        after: after.unwrap_or_default().into(),
        limit: self::limit(limit)?,
    })
}

fn limit(value: Option<String>) -> Result<usize, String> {
    let Some(value) = value else {
        return Ok(USUAL_LIMIT);
    };
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let limit = value.parse().ok().filter(|_| digits);
    let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| {
        let shown = beginning(&value);
        format!("limit is {shown:?}: expected an integer from 1 to {MAX_LIMIT}")
    })
}

/// The values of the parameters that mean something; others are ignored.
fn parameters<const N: usize>(
    query: &str,
    names: [&str; N],
) -> Result<[Option<String>; N], String> {
    let mut values = [const { None }; N];
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = decode(name);
        let slots = names.iter().zip(&mut values);
        let Some((name, slot)) = { slots }.find(|(known, _)| known.as_bytes() == &*name) else {
            continue;
        };
        let raw = beginning(value);
        let value = String::from_utf8(decode(value).into_owned())
            .map_err(|_| format!("{name} is {raw}: it is not UTF-8"))?;
        if slot.replace(value).is_some() {
            return Err(format!(
                "{name} is given twice, the second time as {raw}: give it once"
            ));
        }
    }
    Ok(values)
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_decode(spaced.as_bytes()).collect())
    } else {
        percent_decode(text.as_bytes()).into()
    }
}
