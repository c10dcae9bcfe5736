//! What a snapshot holds of what was logged: it is not logged again.

use minicbor::{Decode, Encode};

use super::{Journal, MASTER, MOST_SAID, SCOUT};
use crate::broker::redis::saved_values::past;
use crate::clock::Millis;
use crate::log::{SavedSeldom, Value};
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedJournal {
    #[n(0)]
    down: Option<Millis>,
    #[cbor(n(1), default)]
    said: Vec<SavedTrouble>,
    #[n(2)]
    trouble: String,
    #[n(3)]
    known: bool,
    #[n(4)]
    broke: bool,
    #[n(5)]
    broken: SavedSeldom,
    #[n(6)]
    masters: SavedSeldom,
    #[n(7)]
    not_json: SavedSeldom,
    #[n(8)]
    refused_channels: SavedSeldom,
    #[n(9)]
    refused_publications: SavedSeldom,
    #[n(10)]
    refused_views: SavedSeldom,
    #[n(11)]
    no_master: SavedSeldom,
}

/// The last reason that was logged for a server.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedTrouble {
    #[n(0)]
    server: String,
    /// It was a scout's link.
    #[n(1)]
    scout: bool,
    #[n(2)]
    why: String,
}

impl Journal {
    pub fn save(&self) -> SavedJournal {
        let said = self.said.iter().map(|((server, about), why)| SavedTrouble {
            server: server.clone(),
            scout: *about == SCOUT,
            why: why.clone(),
        });
        SavedJournal {
            down: self.down,
            said: said.collect(),
            trouble: self.trouble.clone(),
            known: self.known,
            broke: self.broke,
            broken: self.broken.save(),
            masters: self.masters.save(),
            not_json: self.not_json.save(),
            refused_channels: self.refused_channels.save(),
            refused_publications: self.refused_publications.save(),
            refused_views: self.refused_views.save(),
            no_master: self.no_master.save(),
        }
    }

    /// # Errors
    /// It is down since a time that is yet to come.
    pub fn restore(&mut self, saved: SavedJournal, now: Millis) -> Result<(), SnapshotError> {
        self.down = saved.down.map(|since| past(since, now)).transpose()?;
        let said = saved.said.into_iter().take(MOST_SAID).map(|it| {
            let about = if it.scout { SCOUT } else { MASTER };
            ((it.server, about), it.why)
        });
        self.said = said.collect();
        self.trouble = saved.trouble;
        (self.known, self.broke) = (saved.known, saved.broke);
        self.broken.restore(saved.broken, now);
        self.masters.restore(saved.masters, now);
        self.not_json.restore(saved.not_json, now);
        self.refused_channels.restore(saved.refused_channels, now);
        self.refused_publications
            .restore(saved.refused_publications, now);
        self.refused_views.restore(saved.refused_views, now);
        self.no_master.restore(saved.no_master, now);
        Ok(())
    }

    /// So many links were not handed over. When all is well again, it is logged how long that took.
    pub fn not_handed_over(&mut self, links: usize, now: Millis) {
        self.broke = true;
        self.down.get_or_insert(now);
        let fields = [
            ("broker", Value::Shown(&self.dsn)),
            ("links", Value::Number(links as u64)),
        ];
        let line = "links to the broker over TLS cannot be handed over: they are made anew";
        self.log.info(line, &fields);
    }
}
