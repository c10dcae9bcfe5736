//! The CBOR of a record, taken apart and put together: tests change single parts of it.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

/// CBOR, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Map(Vec<(u32, Part)>),
    Array(Vec<Part>),
    Leaf(Vec<u8>),
}

impl Part {
    fn read(from: &mut Decoder) -> Part {
        match from.datatype().unwrap() {
            Type::Map => {
                let count = from.map().unwrap().unwrap();
                let mut entry = || (from.u32().unwrap(), Part::read(from));
                Part::Map((0..count).map(|_| entry()).collect())
            }
            Type::Array => {
                let count = from.array().unwrap().unwrap();
                Part::Array((0..count).map(|_| Part::read(from)).collect())
            }
            _ => {
                let start = from.position();
                from.skip().unwrap();
                Part::Leaf(from.input()[start..from.position()].to_vec())
            }
        }
    }

    pub fn of(bytes: &[u8]) -> Part {
        Part::read(&mut Decoder::new(bytes))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new(Vec::new());
        match self {
            Part::Map(entries) => {
                out.map(entries.len() as u64).unwrap();
                for (key, part) in entries {
                    out.u32(*key).unwrap();
                    out.writer_mut().extend(part.bytes());
                }
            }
            Part::Array(parts) => {
                out.array(parts.len() as u64).unwrap();
                out.writer_mut().extend(parts.iter().flat_map(Part::bytes));
            }
            Part::Leaf(bytes) => out.writer_mut().extend(bytes),
        }
        out.into_writer()
    }
}
