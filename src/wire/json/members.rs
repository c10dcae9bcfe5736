//! Any object or array, by its parts: names and values in their order, each value as it was written.
//!
//! Owns: nothing; all parts are lent from the text. Knows: JSON's syntax, through serde_json. Never knows: which names mean
//! something.

use std::borrow::Cow;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{NameSeed, NoObject, Seen, first_byte, utf8};

/// An object's members.
#[derive(Debug, Default)]
pub(in crate::wire) struct Members<'t> {
    pub(in crate::wire) all: Vec<(Cow<'t, str>, &'t str)>,
    /// The first name that came a second time.
    pub(in crate::wire) twice: Option<Cow<'t, str>>,
}

impl Members<'_> {
    /// The value of a name, `null` included.
    pub(in crate::wire) fn value(&self, name: &str) -> Option<&str> {
        let found = self.all.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| *value)
    }
}

/// The members of an object. A name that came twice is not an error here.
pub(in crate::wire) fn members(bytes: &[u8]) -> Result<Members<'_>, NoObject> {
    let text = utf8(bytes).map_err(NoObject::NotUtf8)?;
    match first_byte(text.as_bytes()) {
        Some(b'{') => {}
        _ => {
            let value = serde_json::from_str::<&RawValue>(text);
            return Err(value.map_or_else(NoObject::NotJson, |_| NoObject::AnotherType));
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json
        .deserialize_map(MembersVisitor)
        .map_err(NoObject::NotJson)?;
    json.end().map_err(NoObject::NotJson)?;
    Ok(members)
}

/// The elements of an array, as they were written. `None`: the text is not an array.
pub(in crate::wire) fn elements(text: &str) -> Option<Vec<&str>> {
    if first_byte(text.as_bytes()) != Some(b'[') {
        return None;
    }
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        let mut seen = Seen::default();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let value = map.next_value::<&RawValue>()?.get();
            if let Some(name) = seen.again(name.clone()) {
                members.twice.get_or_insert(name);
            }
            members.all.push((name, value));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_lent_as_they_were_written() {
        let text = " {\"a\" : 1.0 , \"\\u0062\":[ ], \"c\":{\"c\":1,\"c\":2}}\n";
        let members = members(text.as_bytes()).unwrap();
        let found: Vec<_> = members.all.iter().map(|(n, v)| (&**n, *v)).collect();
        assert_eq!(
            found,
            [("a", "1.0"), ("b", "[ ]"), ("c", r#"{"c":1,"c":2}"#)]
        );
        assert_eq!(members.twice, None);
        assert_eq!(members.value("b"), Some("[ ]"));
        assert_eq!(members.value("x"), None);
    }

    #[test]
    fn a_name_that_came_twice_is_found_in_any_spelling() {
        for (text, twice) in [
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"{"a":1,"\u0061":2,"a":3}"#, "a"),
            (r#"{"":1,"b":2,"":3,"b":4}"#, ""),
        ] {
            let members = members(text.as_bytes()).unwrap();
            assert_eq!(members.twice.as_deref(), Some(twice), "{text}");
        }
    }

    #[test]
    fn objects_arrays_and_other_json_are_distinguished() {
        for bad in ["[]", "null", "1", "\"{}\""] {
            let read = members(bad.as_bytes());
            assert!(matches!(read, Err(NoObject::AnotherType)), "{bad}");
        }
        for bad in ["", " ", "{", "{}x", "{\"a\":1,}", "\u{feff}{}", "x"] {
            let read = members(bad.as_bytes());
            assert!(matches!(read, Err(NoObject::NotJson(_))), "{bad}");
            assert_eq!(elements(bad), None, "{bad}");
        }
        assert!(matches!(
            members(b"{\"\xff\":1}"),
            Err(NoObject::NotUtf8(2))
        ));
        assert_eq!(
            elements(" [ 1.0,{}, \"]\"]\n"),
            Some(vec!["1.0", "{}", "\"]\""])
        );
        for bad in ["[1", "[]x", "[1,]", "{}", "1"] {
            assert_eq!(elements(bad), None, "{bad}");
        }
        let deep = format!("[{}]", "[".repeat(1 << 18) + &"]".repeat(1 << 18));
        assert_eq!(elements(&deep).map(|it| it.len()), Some(1));
    }
}
