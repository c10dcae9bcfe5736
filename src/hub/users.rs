//! Which connections belong to which user (`docs/authorizer.md#fields`).
//!
//! Owns: the index. Knows: slots, and hashes of users' names. Never knows: the names, which connections' identities keep.
//!
//! Decision: hashes and slots in one ordered set rather than a table of names with a list for each, because a table that
//! has to grow is rehashed in one step, which with a million users delays the loop. This costs 8 to 16 bytes for each connection with a user,
//! and lists a user's connections in the order of their ids. Two users can share a hash, about one pair in 4 billion, so
//! the caller compares the names.

mod blocks;

use std::hash::{BuildHasher, RandomState};

use self::blocks::Blocks;

#[derive(Debug, Default)]
pub struct Users {
    /// A user's hash, and the slot of one of the user's connections.
    connections: Blocks,
    hasher: RandomState,
}

impl Users {
    /// What the connections of a user are found by.
    pub fn key(&self, user: &str) -> u32 {
        self.hasher.hash_one(user) as u32
    }

    pub fn insert(&mut self, user: &str, slot: u32) {
        self.connections.insert((self.key(user), slot));
    }

    pub fn remove(&mut self, user: &str, slot: u32) {
        self.connections.remove((self.key(user), slot));
    }

    /// The slots from `from` on of a user's connections, in order, and perhaps of another user's.
    pub fn slots(&self, key: u32, from: u32) -> impl Iterator<Item = u32> {
        let from = self.connections.from((key, from));
        from.take_while(move |(other, _)| *other == key)
            .map(|(_, slot)| slot)
    }

    /// Connections that have a user.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    pub fn is_empty(&self) -> bool {
        self.connections.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_found_by_their_user_in_the_order_of_slots() {
        let mut users = Users::default();
        for slot in [7, 3, 900, 5] {
            users.insert("42", slot);
        }
        users.insert("43", 4);
        let found = |users: &Users, from| users.slots(users.key("42"), from).collect::<Vec<_>>();
        assert_eq!(found(&users, 0), [3, 5, 7, 900]);
        assert_eq!(found(&users, 6), [7, 900]);
        users.remove("42", 5);
        users.remove("42", 4);
        assert_eq!((found(&users, 4), users.len()), (vec![7, 900], 4));
    }
}
