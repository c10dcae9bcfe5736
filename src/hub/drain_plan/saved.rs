//! A graceful stop under way, in a snapshot: the program that takes over ends it.

use minicbor::{Decode, Encode};

use super::DrainPlan;
use crate::clock::Millis;
use crate::effect::SavedConnId;
use crate::hub::slots::saved::SavedWalk;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedDrain {
    #[n(0)]
    from: Millis,
    #[n(1)]
    spread: Millis,
    #[n(2)]
    total: u64,
    #[n(3)]
    closed: u64,
    #[n(4)]
    refuse: SavedWalk,
    #[n(5)]
    close: SavedWalk,
    #[cbor(n(6), default)]
    waiting: Vec<SavedDrainWait>,
    #[n(7)]
    until: Millis,
    #[n(8)]
    answer: Option<SavedWalk>,
}

/// A client that is closed at this time, whether its command is answered or not.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedDrainWait {
    #[n(0)]
    at: Millis,
    #[n(1)]
    id: SavedConnId,
}

impl DrainPlan {
    pub fn save(&self) -> SavedDrain {
        let DrainPlan {
            from,
            spread,
            total,
            closed,
            refuse,
            close,
            waiting,
            until,
            answer,
        } = self;
        let waiting = waiting.iter().map(|(at, id)| SavedDrainWait {
            at: *at,
            id: (*id).into(),
        });
        SavedDrain {
            from: *from,
            spread: *spread,
            total: *total,
            closed: *closed,
            refuse: (*refuse).into(),
            close: (*close).into(),
            waiting: waiting.collect(),
            until: *until,
            answer: answer.map(Into::into),
        }
    }

    pub fn restore(saved: SavedDrain) -> DrainPlan {
        let waiting = saved.waiting.into_iter();
        DrainPlan {
            from: saved.from,
            spread: saved.spread,
            total: saved.total,
            closed: saved.closed,
            refuse: saved.refuse.into(),
            close: saved.close.into(),
            waiting: waiting.map(|it| (it.at, it.id.into())).collect(),
            until: saved.until,
            answer: saved.answer.map(Into::into),
        }
    }
}
