//! Why a snapshot cannot be used.

use std::borrow::Cow;
use std::fmt;

use super::RecordKind;

/// Why a snapshot cannot be used: in which kind of record, if it is in one, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError {
    kind: Option<RecordKind>,
    problem: Cow<'static, str>,
}

impl SnapshotError {
    pub fn new(problem: impl Into<Cow<'static, str>>) -> SnapshotError {
        SnapshotError {
            kind: None,
            problem: problem.into(),
        }
    }

    /// Names the record that it is in, if that is not known yet.
    #[must_use]
    pub fn within(mut self, kind: RecordKind) -> SnapshotError {
        self.kind.get_or_insert(kind);
        self
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "record {kind:?}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for SnapshotError {}
