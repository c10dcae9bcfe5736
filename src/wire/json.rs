//! One JSON object, read in one pass: where the values that mean something lie, and whether a name came twice.
//!
//! Owns: spans into a text, and the reading and writing of JSON strings. Knows: the names that have a meaning in a
//! message and in its `args` (`docs/protocol.md#commands`). Never knows: what any of them is for, or which of them must
//! be there.
//!
//! Chose serde_json's raw values over its `Value`. Content is forwarded byte for byte, deep nesting must not use the
//! stack, and the usual message is read without a heap allocation. (serde_json keeps one small stack of its own for a
//! value nested in two others or more.) Reconsider when a profile shows this reading.
//!
//! Chose positions by comparing addresses over a scanner of our own, because serde_json lends text, not positions.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(super) mod members;
pub(super) mod scalars;

/// A part of a text, in bytes. It belongs to the text that it was found in, or to a copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        // `read` takes no text beyond 4 GiB, so neither is cut.
        Span {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Where it begins, and where it ends.
    pub(super) fn bounds(self) -> (u32, u32) {
        (self.start, self.end)
    }

    /// The part itself; empty when `text` is too short to be the span's own.
    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    pub(super) fn of_str(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Of a span that is a string without escapes: the `len` bytes that lie `offset` behind its opening quote.
    pub(super) fn quoted(self, offset: usize, len: usize) -> Span {
        let start = (self.start as usize)
            .saturating_add(1)
            .saturating_add(offset);
        Span::new(start, start.saturating_add(len))
    }
}

/// How often a name was given, and its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Given {
    #[default]
    Never,
    Once(Span),
    /// Which one is meant is unknown.
    Twice,
}

impl Given {
    fn note(&mut self, value: Span) {
        *self = match self {
            Given::Never => Given::Once(value),
            Given::Once(_) | Given::Twice => Given::Twice,
        };
    }

    /// The one value; JSON's `null` is a value, too.
    pub(super) fn once(self) -> Option<Span> {
        match self {
            Given::Once(span) => Some(span),
            Given::Never | Given::Twice => None,
        }
    }
}

/// The names of one object that mean something in one place or another.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    pub(super) command: Given,
    pub(super) id: Given,
    pub(super) args: Given,
    pub(super) channel: Given,
    pub(super) content: Given,
    pub(super) state: Given,
    /// A backend may have named its target in another way than as `channel`.
    pub(super) targets: bool,
    /// The first name, of any, that came a second time.
    pub(super) twice: Option<Box<str>>,
}

impl KnownNames {
    fn note(&mut self, name: &str, value: Span) {
        match name {
            "command" => self.command.note(value),
            "id" => self.id.note(value),
            "args" => self.args.note(value),
            "channel" => self.channel.note(value),
            "content" => self.content.note(value),
            "state" => self.state.note(value),
            "channels" | "user" | "connection" => self.targets = true,
            _ => {}
        }
    }
}

/// An object, and the object under its `args` (nothing is in it when `args` is not an object).
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) own: KnownNames,
    pub(super) args: KnownNames,
}

/// Why a text is not an object.
#[derive(Debug)]
pub(super) enum NoObject {
    /// The first byte that is not UTF-8.
    NotUtf8(usize),
    NotJson(serde_json::Error),
    /// JSON, but of another type.
    AnotherType,
    /// Over 4 GiB, which spans cannot count.
    TooLong,
}

impl fmt::Display for NoObject {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NoObject::NotUtf8(at) => write!(f, "it is not UTF-8 at byte {at}"),
            NoObject::NotJson(error) => write!(f, "it is not JSON: {error}"),
            NoObject::AnotherType => f.write_str("it is JSON, but not an object"),
            NoObject::TooLong => f.write_str("it is over 4 GiB"),
        }
    }
}

/// Checks the whole of `bytes` and finds the names that mean something.
///
/// A name that came twice, or a value of a wrong type, is not an error here: the caller may still need the rest.
pub(super) fn read(bytes: &[u8]) -> Result<(&str, Object), NoObject> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(NoObject::TooLong);
    }
    let text = utf8(bytes).map_err(NoObject::NotUtf8)?;
    if text.as_bytes().get(after_white(text, 0)) != Some(&b'{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => NoObject::AnotherType,
            Err(error) => NoObject::NotJson(error),
        });
    }
    let mut object = Object::default();
    let level = ObjectReader {
        text,
        object: &mut object,
        is_args: false,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    level.deserialize(&mut json).map_err(NoObject::NotJson)?;
    json.end().map_err(NoObject::NotJson)?;
    if object.own.args == Given::Twice {
        // Which `args` these would belong to is unknown.
        object.args = KnownNames::default();
    }
    Ok((text, object))
}

/// One level of reading: the object itself, or the one under its `args`. `Text` is the whole `&str`, `Into` the
/// `&mut Object` that is filled.
struct ObjectReader<Text, Into> {
    text: Text,
    object: Into,
    is_args: bool,
}

impl<'de> DeserializeSeed<'de> for ObjectReader<&'de str, &mut Object> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectReader<&'de str, &mut Object> {
    /// Where the last member ends, if there is any.
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<usize>, A::Error> {
        let ObjectReader {
            text,
            object,
            is_args,
        } = self;
        let mut end = None;
        let mut seen = Seen::default();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let brace = match name {
                Cow::Borrowed("args") if !is_args => brace_after(text, &name),
                _ => None,
            };
            let value = match brace {
                Some(start) => {
                    let last = map.next_value_seed(ObjectReader {
                        text,
                        object: &mut *object,
                        is_args: true,
                    })?;
                    let inside = last.unwrap_or(start.saturating_add(1));
                    let brace = after_white(text, inside);
                    Span::new(start, brace.saturating_add(1))
                }
                None => span_in(text, map.next_value::<&RawValue>()?.get()),
            };
            // A name with escapes does not lie in the text, so its brace could not be found before its value was read.
            if let (Cow::Owned(escaped), false) = (&name, is_args)
                && escaped == "args"
                && value.of_str(text).starts_with('{')
            {
                let args = ObjectReader {
                    text,
                    object: &mut *object,
                    is_args: true,
                };
                let mut json = serde_json::Deserializer::from_str(value.of_str(text));
                args.deserialize(&mut json).map_err(A::Error::custom)?;
            }
            end = Some(value.end as usize);
            let names = if is_args {
                &mut object.args
            } else {
                &mut object.own
            };
            names.note(&name, value);
            if let Some(name) = seen.again(name) {
                names.twice.get_or_insert_with(|| name.into());
            }
        }
        Ok(end)
    }
}

/// Reads a name: borrowed from the text when nothing in it is escaped.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Cow<'de, str>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Where `part`, which serde_json lent out of `text`, lies in it.
fn span_in(text: &str, part: &str) -> Span {
    let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    Span::new(start, start.wrapping_add(part.len()))
}

/// The position of the brace that opens the value of `name`, which lies in the text, if the value is an object.
fn brace_after(text: &str, name: &str) -> Option<usize> {
    let quote = span_in(text, name).end as usize;
    let colon = after_white(text, quote.saturating_add(1));
    let start = after_white(text, colon.saturating_add(1));
    (text.as_bytes().get(start) == Some(&b'{')).then_some(start)
}

/// The first byte that is not white space of JSON's.
pub(super) fn first_byte(text: &[u8]) -> Option<u8> {
    let white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    text.iter().copied().find(|byte| !white(byte))
}

/// The position of the first byte from `at` on that is not white space of JSON's.
fn after_white(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    let white = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    at.saturating_add(white.count())
}

/// The names seen so far. A few are compared one by one, which needs no allocation. More are hashed with the standard
/// library's keyed hash, so that no choice of names makes this quadratic.
struct Seen<Name> {
    few: [Name; FEW],
    len: usize,
    many: HashSet<Name>,
}

/// Twice the names that a message and its `args` have together.
const FEW: usize = 8;

impl<Name: Default> Default for Seen<Name> {
    fn default() -> Self {
        Seen {
            few: Default::default(),
            len: 0,
            many: HashSet::new(),
        }
    }
}

impl<Name: Eq + Hash + Clone> Seen<Name> {
    /// Remembers `name`. Returns it if it was seen before.
    fn again(&mut self, name: Name) -> Option<Name> {
        if self.few.iter().take(self.len).any(|seen| *seen == name) {
            return Some(name);
        }
        if let Some(free) = self.few.get_mut(self.len) {
            *free = name;
            self.len = self.len.saturating_add(1);
            return None;
        }
        if self.many.contains(&name) {
            return Some(name);
        }
        self.many.insert(name);
        None
    }
}

/// The text that a JSON string means. It is borrowed when nothing in it is escaped.
///
/// # Errors
/// An escaped surrogate without its other half: JSON's grammar allows it, but it is no Unicode text.
pub(super) fn unquote(raw: &str) -> serde_json::Result<Cow<'_, str>> {
    match raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')) {
        Some(plain) if !plain.as_bytes().contains(&b'\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(raw).map(Cow::Owned),
    }
}

/// Appends `text` as a JSON string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    // Neither a string as JSON nor writing to a `Vec` can fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a number.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    // As above.
    let _ = serde_json::to_writer(out, &number);
}

/// Whether the whole of `bytes` is one JSON value (RFC 8259), in UTF-8.
pub fn is_json(bytes: &[u8]) -> bool {
    utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// `bytes` as text, or the position of the first byte that is not UTF-8. Whether this is a JSON value, and nothing
/// else.
pub fn is_value(bytes: &[u8]) -> bool {
    let text = utf8(bytes).ok();
    text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    simdutf8::basic::from_utf8(bytes).or_else(|_| {
        // The fast check does not report the position.
        std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_whole_value_in_utf8() {
        for good in [
            "null",
            " 1.50 ",
            "1e999",
            r#""\ud800""#,
            "[]",
            r#"{"a":1,"a":2}"#,
            "\t{\"é\":[true,false,null,-0]}\r\n",
        ] {
            assert!(is_json(good.as_bytes()), "{good}");
            assert!(!is_json(format!("{good}x").as_bytes()), "{good}x");
            assert!(!is_json(format!("{good} 1").as_bytes()), "{good} 1");
        }
        for bad in [
            &b""[..],
            b" ",
            b"nul",
            b"hello",
            b"01",
            b"1.",
            b".5",
            b"+1",
            b"[1,]",
            b"{\"a\"}",
            b"{a:1}",
            b"'a'",
            b"\"\t\"",
            b"\"\\x\"",
            b"\"\xff\"",
            b"\xef\xbb\xbf1",
            b"[",
            b"// 1\n1",
            b"NaN",
        ] {
            assert!(!is_json(bad), "{bad:?}");
        }
        assert!(!is_json("[".repeat(1 << 20).as_bytes()));
    }

    #[test]
    fn values_are_found_where_they_lie() {
        for (text, value) in [
            (r#"{"args":{}}"#, "{}"),
            (r#"{"args" : { } , "x":1}"#, "{ }"),
            (r#"{"args":{"x":[{}] }}"#, r#"{"x":[{}] }"#),
            (
                r#"{"args":{"args":{"args":{}}}}"#,
                r#"{"args":{"args":{}}}"#,
            ),
            (r#"{"x":{"args":1},"args":"}"}"#, r#""}""#),
            (r#"{"\u0061rgs" : { "id":1} }"#, r#"{ "id":1}"#),
            ("{\"é\":\"é\",\"args\":\t-1.0\n}", "-1.0"),
        ] {
            let (_, object) = read(text.as_bytes()).unwrap();
            let span = object.own.args.once().unwrap();
            assert_eq!(span.of_str(text), value, "{text}");
            assert_eq!(span.of(text.as_bytes()), value.as_bytes());
            assert!(span.of(b"{").is_empty());
        }
    }

    #[test]
    fn an_escaped_name_is_unescaped() {
        for text in [
            r#"{"args":{"id":1,"args":{"id":2}}}"#,
            r#"{"\u0061rgs":{"\u0069d":1,"\u0061rgs":{"id":2}}}"#,
        ] {
            let (_, object) = read(text.as_bytes()).unwrap();
            assert_eq!(object.args.id.once().unwrap().of_str(text), "1", "{text}");
            assert_eq!(object.own.id, Given::Never);
        }
        let (_, object) = read(br#"{"id":1,"i\u0064":2}"#).unwrap();
        assert_eq!(
            (object.own.id, object.own.twice.as_deref()),
            (Given::Twice, Some("id"))
        );
        for lone in [r#"{"\ud800":1}"#, r#"{"\u0061rgs":{"\udc00":1}}"#] {
            assert!(
                matches!(read(lone.as_bytes()), Err(NoObject::NotJson(_))),
                "{lone}"
            );
        }
    }

    #[test]
    fn a_name_is_known_again_among_few_and_many() {
        for count in [1, FEW - 1, FEW, FEW + 1, 5 * FEW] {
            let names: Vec<String> = (0..count).map(|i| i.to_string()).collect();
            for again in &names {
                let mut seen = Seen::default();
                for name in &names {
                    assert_eq!(seen.again(name.as_str()), None);
                }
                assert_eq!(seen.again(again.as_str()), Some(again.as_str()));
                assert_eq!(seen.again("another"), None);
            }
        }
    }
}
