//! Violations of the protocol in a snapshot: each by its place among all.

use super::Violation;
use crate::snapshot::SnapshotError;

/// All of them. New ones stand at the end.
const ALL: [Violation; 16] = [
    Violation::ReservedBit,
    Violation::ReservedOpcode,
    Violation::Unmasked,
    Violation::FragmentedControl,
    Violation::LongControl,
    Violation::StrayContinuation,
    Violation::Interleaved,
    Violation::LongLength,
    Violation::HalfCode,
    Violation::BadCode,
    Violation::BadReason,
    Violation::BadText,
    Violation::StrayCompression,
    Violation::BadDeflate,
    Violation::CutDeflate,
    Violation::TooBig,
];

impl Violation {
    pub fn save(self) -> u8 {
        self as u8
    }

    /// # Errors
    /// This release does not know it.
    pub fn restore(saved: u8) -> Result<Violation, SnapshotError> {
        let violation = ALL.get(usize::from(saved)).copied();
        violation.ok_or(SnapshotError::new("an unknown violation of the protocol"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_violation_stands_at_its_place() {
        for (place, violation) in ALL.into_iter().enumerate() {
            assert_eq!(usize::from(violation.save()), place);
            assert_eq!(Violation::restore(violation.save()), Ok(violation));
        }
        assert!(Violation::restore(16).is_err());
    }
}
