//! Disconnects in a snapshot.

use minicbor::{Decode, Encode};

use super::Disconnects;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedDisconnects<'b> {
    #[n(0)]
    last: u64,
    #[n(1)]
    forgotten: u64,
    /// Those that are remembered, the oldest first.
    #[b(2)]
    users: Vec<SavedDisconnect<'b>>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedDisconnect<'b> {
    #[n(0)]
    number: u64,
    #[b(1)]
    user: &'b str,
}

impl Disconnects {
    pub fn save(&self) -> SavedDisconnects<'_> {
        let Disconnects {
            last,
            begun: _,
            counts: _,
            users: _,
            order,
            forgotten,
        } = self;
        let users = order.iter().map(|(number, user)| SavedDisconnect {
            number: *number,
            user,
        });
        SavedDisconnects {
            last: *last,
            forgotten: *forgotten,
            users: users.collect(),
        }
    }

    /// The last disconnect before the upgrade in `slot`, if one is under way there.
    pub fn begun_at(&self, slot: u32) -> Option<u64> {
        self.begun.get(&slot).copied()
    }

    /// # Errors
    /// They are not in order.
    pub fn restore(saved: &SavedDisconnects) -> Result<Disconnects, SnapshotError> {
        let mut disconnects = Disconnects {
            last: saved.last,
            forgotten: saved.forgotten,
            ..Disconnects::default()
        };
        let mut before = 0;
        for SavedDisconnect { number, user } in &saved.users {
            if *number <= before || *number > saved.last {
                return Err(SnapshotError::new("disconnects are out of order"));
            }
            before = *number;
            disconnects.users.insert((*user).into(), *number);
            disconnects.order.push_back((*number, (*user).into()));
        }
        Ok(disconnects)
    }

    /// An upgrade is under way in `slot`, where none is; `began`: the last disconnect before it.
    ///
    /// # Errors
    /// It is yet to come.
    pub fn restore_begun(&mut self, slot: u32, began: u64) -> Result<(), SnapshotError> {
        if began > self.last {
            let last = self.last;
            let problem = format!("an upgrade after disconnect {began}: the last one is {last}");
            return Err(SnapshotError::new(problem));
        }
        self.enter(slot, began);
        Ok(())
    }
}
