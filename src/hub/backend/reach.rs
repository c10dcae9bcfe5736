//! The connections of a recipient: those that are open, and here.
//!
//! Owns: how they are found. Knows: public ids, the index of users. Never knows: what is done to them.

use super::jobs::Reach;
use crate::connection::Stream;
use crate::effect::ConnId;
use crate::hub::roster::PublicId;
use crate::hub::state::Hub;
use crate::wire::backend::Recipient;

/// The next connections of a walk, at most `most`.
pub fn next<S: Stream>(hub: &mut Hub<S>, reach: &mut Reach, most: usize) -> Vec<ConnId> {
    reach.begun = true;
    let Some(from) = reach.next else {
        return Vec::new();
    };
    let Recipient::User(user) = &reach.recipient else {
        reach.next = None;
        let Recipient::Connection(text) = &reach.recipient else {
            return Vec::new();
        };
        let found = by_public_id(hub, text);
        return found.filter(|id| is_open(hub, *id)).into_iter().collect();
    };
    let key = hub.users.key(user);
    let slots: Vec<u32> = hub.users.slots(key, from).take(most).collect();
    reach.next = match slots.last() {
        Some(last) if slots.len() == most => last.checked_add(1),
        _ => None,
    };
    let mut found = Vec::with_capacity(slots.len());
    for slot in slots {
        if !reach.spares(slot)
            && let Some(id) = open_of_user(hub, slot, user)
        {
            found.push(id);
        }
    }
    found
}

/// Whether a recipient has an open connection here.
pub fn has_members<S: Stream>(hub: &mut Hub<S>, recipient: &Recipient) -> bool {
    match recipient {
        Recipient::Connection(text) => by_public_id(hub, text).is_some_and(|id| is_open(hub, id)),
        Recipient::User(user) => {
            let key = hub.users.key(user);
            hub.users.slots(key, 0).next().is_some()
        }
    }
}

/// The open connection in a slot, if it is this user's.
pub fn open_of_user<S: Stream>(hub: &mut Hub<S>, slot: u32, user: &str) -> Option<ConnId> {
    let (id, connection) = hub.roster.in_slot(slot).filter(|(_, c)| c.is_open())?;
    let identity = connection.identity();
    (hub.roster.identities.user(identity) == Some(user)).then_some(id)
}

/// The connection with this public id, whatever its phase is.
pub fn by_public_id<S: Stream>(hub: &mut Hub<S>, text: &str) -> Option<ConnId> {
    let public = PublicId::parse(text)?;
    let (id, _) = hub.roster.in_slot(public.slot)?;
    (hub.roster.subject(id).id.to_string() == text).then_some(id)
}

fn is_open<S: Stream>(hub: &mut Hub<S>, id: ConnId) -> bool {
    hub.roster.get(id).is_some_and(|c| c.is_open())
}
