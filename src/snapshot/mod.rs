//! The format of a snapshot: all that a program hands over to the one that replaces it.
//!
//! Owns: [`SnapshotWriter`] and [`SnapshotReader`], the kinds of records, the header. Knows: bytes. Never knows: what a
//! record means; each module saves and restores its own state, in files named `saved.rs`.
//!
//! A snapshot is a sequence of records: the header, any number of others, and the end. Each is its kind (`u32`), the
//! length of its content (`u64`), both little-endian, and its content in CBOR (RFC 8949).
//!
//! - Releases understand each other's snapshots: a record of an unknown kind is skipped, and so is an unknown field.
//!   Fields and kinds are added, and their numbers are never used for anything else. A new field is an `Option`, or has
//!   a default.
//! - What a reader has to know so that nothing is lost is a name in the header's `needs`. A reader refuses a snapshot
//!   that needs what it does not know. A new variant of an enum always needs a name, because an older reader has no
//!   value for it.
//! - A snapshot is input like any other: lengths, numbers and references are checked, and what is wrong is a
//!   [`SnapshotError`]. Memory follows what is there, never what is announced.
//! - Written and read record by record, so that memory grows by one record, and not by a copy of the whole.
//!
//! The `Saved…` types of the modules are the format. They hold facts, and nothing that follows from other facts. They are
//! apart from the types that the program works with, so that a change to these does not change the format by accident.
//!
//! Decision: minicbor with an explicit number for each field rather than a format of field names. The numbers are
//! small, and unknown ones are skipped without a line of code. It was chosen over serde as well: a derived
//! `Deserialize` refuses what it does not know or ignores what it should not, and cannot read a text in place. Maps
//! rather than arrays: an absent field takes no byte.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod error;
mod header;
mod reader;
mod record_kind;
mod writer;

pub use error::SnapshotError;
pub use header::{FORMAT, SnapshotHeader};
pub use reader::{Record, SnapshotReader};
pub use record_kind::RecordKind;
pub use writer::SnapshotWriter;

/// Whether a field need not be written.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A size or an index; one that no memory can have stays too large.
pub fn size(saved: u64) -> usize {
    usize::try_from(saved).unwrap_or(usize::MAX)
}

#[cfg(test)]
pub mod tests;
