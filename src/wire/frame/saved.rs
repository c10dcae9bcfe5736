//! Violations in a snapshot: each is a number.

use super::Violation;

impl Violation {
    /// All of them. A snapshot has their places here: new ones stand at the end.
    pub const ALL: [Violation; 16] = [
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

    /// Its place among all.
    pub fn index(self) -> u8 {
        self as u8
    }
}
