//! What a snapshot holds of what sentinels have said.

use minicbor::{Decode, Encode};

use super::{Sentinels, Witness};
use crate::broker::redis::saved_values::{SavedAddress, near, past};
use crate::clock::Millis;
use crate::config::RedisAddress;
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSentinels {
    /// In the order of the DSN.
    #[n(0)]
    witnesses: Vec<SavedWitness>,
    #[n(1)]
    master: Option<SavedAddress>,
    #[n(2)]
    doubtful: bool,
    #[cbor(n(3), default)]
    failed: Vec<SavedAddress>,
    #[n(4)]
    ask_at: Millis,
    #[n(5)]
    answered: Option<Millis>,
    #[n(6)]
    voting: bool,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedWitness {
    #[n(0)]
    away: bool,
    #[n(1)]
    named: Option<SavedAddress>,
    #[n(2)]
    asked: bool,
}

impl Sentinels {
    pub fn save(&self) -> SavedSentinels {
        let witness = |witness: &Witness| SavedWitness {
            away: witness.away,
            named: witness.named.as_ref().map(SavedAddress::from),
            asked: witness.asked,
        };
        SavedSentinels {
            witnesses: self.witnesses.iter().map(witness).collect(),
            master: self.master.as_ref().map(SavedAddress::from),
            doubtful: self.doubtful,
            failed: self.failed.iter().map(SavedAddress::from).collect(),
            ask_at: self.ask_at,
            answered: self.answered,
            voting: self.voting,
        }
    }

    /// What the sentinels at these addresses have said.
    ///
    /// # Errors
    /// There are more of them, or fewer, or a time is impossible.
    pub fn restore(
        saved: SavedSentinels,
        addresses: &[RedisAddress],
        now: Millis,
    ) -> Result<Sentinels, SnapshotError> {
        if saved.witnesses.len() != addresses.len() {
            let (expected, found) = (addresses.len(), saved.witnesses.len());
            let problem = format!("--broker-dsn names {expected} sentinels, the snapshot {found}");
            return Err(SnapshotError::new(problem));
        }
        let witness = |(saved, address): (SavedWitness, &RedisAddress)| Witness {
            address: address.clone(),
            away: saved.away,
            named: saved.named.map(RedisAddress::from),
            asked: saved.asked,
        };
        let witnesses = saved.witnesses.into_iter().zip(addresses);
        Ok(Sentinels {
            witnesses: witnesses.map(witness).collect(),
            master: saved.master.map(RedisAddress::from),
            doubtful: saved.doubtful,
            failed: saved.failed.into_iter().map(RedisAddress::from).collect(),
            ask_at: near(saved.ask_at, now)?,
            answered: saved.answered.map(|at| past(at, now)).transpose()?,
            voting: saved.voting,
        })
    }

    /// The master that is followed.
    pub fn master(&self) -> Option<&RedisAddress> {
        self.master.as_ref()
    }
}
