//! A walk over slots, in a snapshot.

use minicbor::{Decode, Encode};

use super::Walk;

#[derive(Clone, Copy, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedWalk {
    #[n(0)]
    next: u32,
    #[n(1)]
    end: u32,
}

impl From<Walk> for SavedWalk {
    fn from(Walk { next, end }: Walk) -> SavedWalk {
        SavedWalk { next, end }
    }
}

impl From<SavedWalk> for Walk {
    fn from(SavedWalk { next, end }: SavedWalk) -> Walk {
        Walk { next, end }
    }
}
