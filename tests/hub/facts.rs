//! The facts in a snapshot, and a snapshot that has forgotten one of them.
//!
//! Knows: CBOR, and how enums are written. Never knows: what a fact means. A fact is named by the way to it: its record's
//! kind, then fields, variants and `each` for elements.

use std::collections::BTreeSet;
use std::convert::Infallible;

use minicbor::data::Type;
use minicbor::encode::Error;
use minicbor::{Decoder, Encoder};
use wsify::snapshot::RecordKind;

pub type Fact = Vec<String>;

/// The facts of a snapshot that are not 0, false or empty.
pub fn facts(snapshot: &[u8]) -> BTreeSet<Fact> {
    let (facts, _) = copy(snapshot, None);
    facts
}

/// The same snapshot without a fact, wherever it is: as a field it is missing.
pub fn without(snapshot: &[u8], fact: &Fact) -> Vec<u8> {
    copy(snapshot, Some((fact, Forgetting::Missing))).1
}

/// The same snapshot in which a fact is 0, false or empty, wherever it is.
pub fn with_nothing_of(snapshot: &[u8], fact: &Fact) -> Vec<u8> {
    copy(snapshot, Some((fact, Forgetting::Zero))).1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgetting {
    Missing,
    Zero,
}

fn copy(mut snapshot: &[u8], forgotten: Option<(&Fact, Forgetting)>) -> (BTreeSet<Fact>, Vec<u8>) {
    let mut facts = BTreeSet::new();
    let mut copy = Vec::new();
    while let Some((number, rest)) = snapshot.split_first_chunk::<4>() {
        let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
        let (content, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let kind = RecordKind::numbered(u32::from_le_bytes(*number)).expect("a kind");
        let content = match kind {
            RecordKind::Header | RecordKind::HubEnd | RecordKind::End => content.to_vec(),
            kind => {
                let mut copied = Vec::new();
                let mut copier = Copier {
                    from: Decoder::new(content),
                    to: Encoder::new(&mut copied),
                    path: vec![format!("{kind:?}")],
                    forgotten,
                    facts: &mut facts,
                };
                copier.value().expect("memory");
                copied
            }
        };
        copy.extend(number);
        copy.extend((content.len() as u64).to_le_bytes());
        copy.extend(content);
        snapshot = rest;
    }
    (facts, copy)
}

/// Copies a record, but for what is to be forgotten.
struct Copier<'r, 'c> {
    from: Decoder<'r>,
    to: Encoder<&'c mut Vec<u8>>,
    path: Fact,
    forgotten: Option<(&'c Fact, Forgetting)>,
    facts: &'c mut BTreeSet<Fact>,
}

impl Copier<'_, '_> {
    fn below(&mut self, step: String) -> Result<(), Error<Infallible>> {
        self.path.push(step);
        let copied = self.value();
        self.path.pop();
        copied
    }

    /// Whether this one is to be forgotten; `tells`: it is not 0, false or empty.
    fn forgets(&mut self, tells: bool) -> bool {
        if tells {
            self.facts.insert(self.path.clone());
        }
        self.forgotten == Some((&self.path, Forgetting::Zero))
    }

    fn value(&mut self) -> Result<(), Error<Infallible>> {
        match self.from.datatype().expect("a value") {
            Type::Map => self.map()?,
            Type::Array => self.array()?,
            Type::Bool => {
                let is = self.from.bool().expect("a bool");
                let forgets = self.forgets(is);
                self.to.bool(is && !forgets)?;
            }
            Type::Bytes => {
                let bytes = self.from.bytes().expect("bytes");
                let forgets = self.forgets(!bytes.is_empty());
                self.to.bytes(if forgets { b"" } else { bytes })?;
            }
            Type::String => {
                let text = self.from.str().expect("a text");
                let forgets = self.forgets(!text.is_empty());
                self.to.str(if forgets { "" } else { text })?;
            }
            Type::Null => {
                self.from.null().expect("nothing");
                self.to.null()?;
            }
            _ => {
                let number = self.from.u64().expect("a number");
                let forgets = self.forgets(number != 0);
                self.to.u64(if forgets { 0 } else { number })?;
            }
        }
        Ok(())
    }

    /// The field of this map that is to be missing, if it is there.
    fn missing(&self, count: u64) -> Option<u64> {
        let (fact, _) = self
            .forgotten
            .filter(|(_, how)| *how == Forgetting::Missing)?;
        let (field, way) = fact.split_last()?;
        if *way != *self.path {
            return None;
        }
        let mut probe = self.from.clone();
        (0..count).find_map(|_| {
            let key = probe.u64().expect("a field");
            probe.skip().expect("a value");
            (key.to_string() == *field).then_some(key)
        })
    }

    fn map(&mut self) -> Result<(), Error<Infallible>> {
        let count = self.from.map().expect("a map").expect("its length");
        let missing = self.missing(count);
        self.to.map(count - u64::from(missing.is_some()))?;
        for _ in 0..count {
            let key = self.from.u64().expect("a field");
            if missing == Some(key) {
                self.from.skip().expect("a value");
                continue;
            }
            self.to.u64(key)?;
            self.below(key.to_string())?;
        }
        Ok(())
    }

    fn array(&mut self) -> Result<(), Error<Infallible>> {
        let count = self.from.array().expect("an array").expect("its length");
        let mut probe = self.from.clone();
        let number = probe.u64().ok();
        let is_variant = count == 2 && probe.datatype().ok() == Some(Type::Array);
        match number.filter(|_| is_variant) {
            // The variant of an enum, and its fields.
            Some(variant) => {
                self.from = probe;
                self.to.array(2)?.u64(variant)?;
                let fields = self.from.array().expect("fields").expect("their number");
                self.to.array(fields)?;
                for field in 0..fields {
                    self.below(format!("variant {variant} field {field}"))?;
                }
            }
            None if self.forgets(count > 0) => {
                for _ in 0..count {
                    self.from.skip().expect("an element");
                }
                self.to.array(0)?;
            }
            None => {
                self.to.array(count)?;
                for _ in 0..count {
                    self.below("each".to_owned())?;
                }
            }
        }
        Ok(())
    }
}
