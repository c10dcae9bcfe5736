//! Reads the body of an answer of the type `application/vnd.wsify+json` (`docs/authorizer.md#fields`), and the array that
//! answers a batch (`docs/authorizer.md#batches`).
//!
//! Owns: each field's type and range. Knows: which fields belong to a question and a status. Never knows: how the body came,
//! or what a wrong one leads to for the client.
//!
//! Decision: all or nothing for a yes, field by field for a no. A yes with a part of its conditions would let in a client
//! that the authorizer meant to restrict. A no stays a no, whatever else it says.

use std::borrow::Cow;
use std::collections::HashSet;

use super::state::MAX_STATE;
use super::wrong::{AnswerField, WrongField};
use super::{Allow, AnswerFields, Asked, CloseWith, NewState};
use crate::wire::channel_name::{ChannelName, MAX_NAME};
use crate::wire::json::members::{Members, elements, members};
use crate::wire::json::scalars::{integer, string, text, user};
use crate::wire::json::utf8;

/// What a body may have besides content.
const BESIDES_CONTENT: usize = 64 * 1024;
/// Patterns of one `allow`, and their bytes: they are compared one by one with each command's channel.
const MAX_PATTERNS: usize = 100;
const MAX_PATTERN_BYTES: usize = 4 * 1024;
/// A year.
const MAX_EXPIRES_IN: i64 = 31_536_000;
/// A day.
const MAX_MAX_AGE: i64 = 86_400;
const MAX_MESSAGE: usize = 256;
/// A close frame has room for no more (RFC 6455 5.5.1).
const MAX_REASON: usize = 123;

const TWICE: &str = "has a name twice";

/// The flags that limit what a field may hold.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// `--max-channels`.
    pub channels: usize,
    /// `--max-message-size`.
    pub content: usize,
}

impl AnswerLimits {
    /// Bytes of a body.
    pub fn body(&self) -> usize {
        self.content.saturating_add(BESIDES_CONTENT)
    }
}

/// What a body says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Empty if anything is wrong in the body of a `200`.
    pub fields: AnswerFields,
    /// What cannot be used, in the body's order.
    pub wrong: Vec<WrongField>,
}

impl Reading {
    /// A body of which nothing is used.
    pub fn nothing(wrong: WrongField) -> Reading {
        Reading {
            fields: AnswerFields::default(),
            wrong: vec![wrong],
        }
    }
}

/// One answer of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchItem {
    pub status: u16,
    pub reading: Reading,
}

/// Reads the body of one answer.
pub fn read(asked: Asked, status: u16, body: &[u8], limits: &AnswerLimits) -> Reading {
    if body.len() > limits.body() {
        let why = format!("{} bytes at most", limits.body());
        return Reading::nothing(WrongField::body(body.len(), why));
    }
    match members(body) {
        Ok(members) => read_members(asked, status, body.len(), members, limits),
        Err(why) => Reading::nothing(WrongField::body(body.len(), why.to_string())),
    }
}

/// The names in a body: those that mean something in such an answer, and the others.
pub fn names(asked: Asked, status: u16, body: &[u8]) -> [Vec<String>; 2] {
    let members = members(body).unwrap_or_default();
    let names = members.all.into_iter().map(|(name, _)| name.into_owned());
    let (known, unknown) = names.partition(|name| {
        AnswerField::named(name).is_some_and(|field| belongs(field, asked, status))
    });
    [known, unknown]
}

/// The first answer in the array for a batch.
pub fn first_item(body: &[u8]) -> Option<&[u8]> {
    let items = elements(utf8(body).ok()?)?;
    items.first().map(|item| item.as_bytes())
}

/// Reads the array that answers the questions `asked`, in their order.
///
/// # Errors
/// The array does not say what each of them is answered.
pub fn read_items(
    asked: &[Asked],
    body: &[u8],
    limits: &AnswerLimits,
) -> Result<Vec<BatchItem>, WrongField> {
    let wrong = |why: String| WrongField::body(body.len(), why);
    let text = utf8(body).map_err(|at| wrong(format!("it is not UTF-8 at byte {at}")))?;
    let elements = elements(text).ok_or_else(|| wrong("it is no JSON array".to_owned()))?;
    let (found, expected) = (elements.len(), asked.len());
    if found != expected {
        let why = format!("an array of {found} answers to {expected} questions");
        return Err(wrong(why));
    }
    let items = asked.iter().zip(elements).enumerate();
    items
        .map(|(at, (asked, element))| {
            let members =
                members(element.as_bytes()).map_err(|why| wrong(format!("item {at}: {why}")))?;
            let status = status(&members).ok_or_else(|| {
                wrong(format!(
                    "item {at}: no `status`, an integer from 100 to 599"
                ))
            })?;
            let reading = read_members(*asked, status, element.len(), members, limits);
            Ok(BatchItem { status, reading })
        })
        .collect()
}

/// The status of an item. Which of two is meant cannot be known.
fn status(members: &Members) -> Option<u16> {
    let mut given = members.all.iter().filter(|(name, _)| name == "status");
    let (_, status) = given.next()?;
    let status = integer(status, 100, 599).ok()?;
    match given.next() {
        None => u16::try_from(status).ok(),
        Some(_) => None,
    }
}

fn read_members(
    asked: Asked,
    status: u16,
    len: usize,
    members: Members,
    limits: &AnswerLimits,
) -> Reading {
    if let Some(name) = &members.twice {
        let wrong = match AnswerField::named(name) {
            Some(field) => WrongField::new(field, members.value(name).unwrap_or_default(), TWICE),
            None => WrongField::body(len, TWICE),
        };
        return Reading::nothing(wrong);
    }
    let mut reading = Reading::default();
    let mut twice = false;
    for (name, value) in &members.all {
        let field = AnswerField::named(name).filter(|field| belongs(*field, asked, status));
        if let Some(field) = field
            && let Err(why) = set(&mut reading.fields, field, value, limits)
        {
            twice |= why == TWICE;
            reading.wrong.push(WrongField::new(field, value, why));
        }
    }
    let remembered = reading.fields.max_age.filter(|age| *age > 0);
    if let (Some(age), Some(_)) = (remembered, &reading.fields.content) {
        let why = "with `content` only 0: a remembered answer has no content";
        let wrong = WrongField::new(AnswerField::MaxAge, &age.to_string(), why);
        reading.wrong.push(wrong);
    }
    if twice || status == 200 && !reading.wrong.is_empty() {
        reading.fields = AnswerFields::default();
    }
    reading
}

/// Whether a field means something in such an answer.
fn belongs(field: AnswerField, asked: Asked, status: u16) -> bool {
    let yes = status == 200;
    let refusal = !yes && !(500..=599).contains(&status);
    let is_command = matches!(asked, Asked::Join | Asked::Leave | Asked::Broadcast);
    match field {
        AnswerField::Body => false,
        AnswerField::User | AnswerField::Channels => yes && asked == Asked::Connect,
        AnswerField::State => yes,
        AnswerField::Allow | AnswerField::ExpiresIn => yes && !is_command,
        AnswerField::MaxAge => (yes || refusal) && is_command,
        AnswerField::Content => yes && asked == Asked::Broadcast,
        AnswerField::Message => refusal,
        AnswerField::Close => refusal && asked != Asked::Connect,
    }
}

/// # Errors
/// What is accepted instead, or that a name is there twice.
fn set(
    fields: &mut AnswerFields,
    field: AnswerField,
    value: &str,
    limits: &AnswerLimits,
) -> Result<(), Cow<'static, str>> {
    let is_null = value == "null";
    match field {
        AnswerField::State if is_null => fields.state = Some(NewState::Removed),
        AnswerField::State => {
            at_most(value, MAX_STATE)?;
            fields.state = Some(NewState::Json(value.into()));
        }
        AnswerField::Content => {
            at_most(value, limits.content)?;
            fields.content = Some(value.as_bytes().into());
        }
        _ if is_null => {}
        AnswerField::User => fields.user = Some(user(value)?),
        AnswerField::Channels => fields.channels = channels(value, limits.channels)?,
        AnswerField::Allow => fields.allow = Some(allow(value)?),
        AnswerField::ExpiresIn => fields.expires_in = Some(seconds(value, 1, MAX_EXPIRES_IN)?),
        AnswerField::MaxAge => fields.max_age = Some(seconds(value, 0, MAX_MAX_AGE)?),
        AnswerField::Message => fields.message = Some(string(value, 1, MAX_MESSAGE)?),
        AnswerField::Close => fields.close = Some(close(value)?),
        AnswerField::Body => {}
    }
    Ok(())
}

fn at_most(value: &str, most: usize) -> Result<(), Cow<'static, str>> {
    if value.len() <= most {
        Ok(())
    } else {
        Err(format!("{most} bytes at most").into())
    }
}

fn seconds(value: &str, least: i64, most: i64) -> Result<u32, Cow<'static, str>> {
    let seconds = integer(value, least, most).ok();
    seconds
        .and_then(|seconds| u32::try_from(seconds).ok())
        .ok_or_else(|| format!("expected whole seconds from {least} to {most}").into())
}

fn channels(value: &str, most: usize) -> Result<Vec<ChannelName>, Cow<'static, str>> {
    let elements = elements(value).ok_or("expected an array of channel names")?;
    let mut seen = HashSet::new();
    let mut channels = Vec::new();
    for element in elements {
        let name = text(element).ok_or("expected an array of channel names")?;
        let name = ChannelName::check(&name).map_err(|why| why.to_string())?;
        if seen.contains(name) {
            continue;
        }
        if channels.len() >= most {
            return Err(format!("{most} channels at most (--max-channels)").into());
        }
        let name = ChannelName::checked(name);
        seen.insert(name.clone());
        channels.push(name);
    }
    Ok(channels)
}

/// The members of an object within a field.
fn inner<'t>(value: &'t str, expected: &'static str) -> Result<Members<'t>, Cow<'static, str>> {
    let members = members(value.as_bytes()).map_err(|_| expected)?;
    match members.twice {
        None => Ok(members),
        Some(_) => Err(TWICE.into()),
    }
}

fn allow(value: &str) -> Result<Allow, Cow<'static, str>> {
    const EXPECTED: &str =
        "expected an object with the arrays of strings `join`, `leave`, `broadcast`";
    let members = inner(value, EXPECTED)?;
    let mut allow = Allow::default();
    let (mut count, mut bytes) = (0_usize, 0_usize);
    for (name, value) in &members.all {
        let patterns = match &**name {
            "join" => &mut allow.join,
            "leave" => &mut allow.leave,
            "broadcast" => &mut allow.broadcast,
            _ => continue,
        };
        if *value == "null" {
            continue;
        }
        let elements = elements(value).ok_or(EXPECTED)?;
        count = count.saturating_add(elements.len());
        if count > MAX_PATTERNS {
            return Err(format!("{MAX_PATTERNS} patterns at most").into());
        }
        let mut found = Vec::new();
        for element in elements {
            let pattern = text(element).ok_or(EXPECTED)?;
            check_pattern(&pattern)?;
            bytes = bytes.saturating_add(pattern.len());
            found.push(pattern.into());
        }
        *patterns = found.into();
    }
    if bytes <= MAX_PATTERN_BYTES {
        Ok(allow)
    } else {
        Err(format!("{MAX_PATTERN_BYTES} bytes of patterns at most").into())
    }
}

pub(super) fn check_pattern(pattern: &str) -> Result<(), Cow<'static, str>> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    if name.trim().is_empty() && pattern != "*" {
        return Err("a pattern is blank".into());
    }
    if name.len() <= MAX_NAME {
        Ok(())
    } else {
        Err(format!("a pattern has over {MAX_NAME} bytes").into())
    }
}

fn close(value: &str) -> Result<CloseWith, Cow<'static, str>> {
    let expected = "expected {\"code\": 4000 to 4999, \"reason\": up to 123 bytes}";
    let members = inner(value, expected)?;
    let code = members.value("code").ok_or(expected)?;
    let code = integer(code, 4000, 4999).map_err(|_| expected)?;
    let reason = members.value("reason").filter(|reason| *reason != "null");
    let reason = reason.map(|reason| string(reason, 0, MAX_REASON));
    Ok(CloseWith {
        code: u16::try_from(code).map_err(|_| expected)?,
        reason: reason.transpose().map_err(|_| expected)?,
    })
}
