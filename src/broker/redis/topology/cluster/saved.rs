//! What a snapshot holds of what is known of a cluster, and of publications that wait for a slot to move.

use minicbor::{Decode, Encode};

use super::{Cluster, HashSlotTable, MOST_KNOWN, MOST_SHARDS};
use crate::broker::redis::saved_values::{SavedAddress, SavedForm, SavedLinkId, near, past};
use crate::broker::redis::topology::LinkId;
use crate::broker::redis::topology::hash_slots::SavedHashSlots;
use crate::clock::Millis;
use crate::config::RedisAddress;
use crate::effect::{Publication, SavedPublication, ShardId};
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedCluster<'b> {
    #[n(0)]
    slots: SavedHashSlots,
    #[n(1)]
    form: SavedForm,
    #[cbor(n(2), default)]
    known: Vec<SavedAddress>,
    #[n(3)]
    asked: Option<SavedLinkId>,
    #[n(4)]
    again: bool,
    #[n(5)]
    prefer: Option<u16>,
    #[n(6)]
    next: u64,
    #[n(7)]
    ask_at: Millis,
    #[n(8)]
    last: Millis,
    #[n(9)]
    slow_noted: Millis,
    #[n(10)]
    candidate: u64,
    #[n(11)]
    tried: u64,
    #[n(12)]
    rounds: u32,
    #[n(13)]
    asked_until: Millis,
    #[cbor(b(14), default)]
    waiting: Vec<SavedWaiting<'b>>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedWaiting<'b> {
    #[n(0)]
    at: Millis,
    #[b(1)]
    publication: SavedPublication<'b>,
}

impl Cluster {
    pub fn save(&self) -> SavedCluster<'_> {
        let waiting = self.waiting.iter().map(|(at, publication)| SavedWaiting {
            at: *at,
            publication: publication.save(),
        });
        SavedCluster {
            slots: self.slots.save(),
            form: self.form.into(),
            known: self.known.iter().map(SavedAddress::from).collect(),
            asked: self.asked.map(SavedLinkId::from),
            again: self.again,
            prefer: self.prefer.map(|id| id.0),
            next: self.next as u64,
            ask_at: self.ask_at,
            last: self.last,
            slow_noted: self.slow_noted,
            candidate: self.candidate as u64,
            tried: self.tried as u64,
            rounds: self.rounds,
            asked_until: self.asked_until,
            waiting: waiting.collect(),
        }
    }

    /// The cluster that `seeds` belong to.
    ///
    /// # Errors
    /// A number, a time or a slot is impossible.
    pub fn restore(
        saved: SavedCluster,
        seeds: Vec<RedisAddress>,
        tls: bool,
        now: Millis,
    ) -> Result<Cluster, SnapshotError> {
        if saved.known.len() > MOST_KNOWN {
            let problem = format!("{} known nodes: at most {MOST_KNOWN}", saved.known.len());
            return Err(SnapshotError::new(problem));
        }
        let waiting = |saved: SavedWaiting| {
            let publication = Publication::restore(saved.publication)?;
            Ok((near(saved.at, now)?, Box::new(publication)))
        };
        let waiting: Result<_, SnapshotError> = saved.waiting.into_iter().map(waiting).collect();
        Ok(Cluster {
            slots: HashSlotTable::restore(saved.slots, now)?,
            form: saved.form.into(),
            known: saved.known.into_iter().map(RedisAddress::from).collect(),
            asked: saved.asked.map(LinkId::from),
            again: saved.again,
            prefer: saved.prefer.map(ShardId),
            next: number(saved.next, MOST_SHARDS)?,
            ask_at: near(saved.ask_at, now)?,
            last: past(saved.last, now)?,
            slow_noted: past(saved.slow_noted, now)?,
            // It counts on forever, and what counts is its remainder.
            candidate: saved.candidate as usize,
            tried: number(saved.tried, seeds.len().saturating_add(MOST_KNOWN))?,
            rounds: saved.rounds,
            asked_until: near(saved.asked_until, now)?,
            waiting: waiting?,
            ..Cluster::new(seeds, tls, now)
        })
    }
}

fn number(saved: u64, most: usize) -> Result<usize, SnapshotError> {
    let number = usize::try_from(saved).ok().filter(|it| *it <= most);
    number.ok_or_else(|| SnapshotError::new(format!("node {saved} of {most}")))
}
