//! What a snapshot holds of what was logged: it is not logged again.

use minicbor::{Decode, Encode};

use super::{MASTER, MAX_REMEMBERED_REASONS, RedisLog, SCOUT};
use crate::broker::redis::saved_values::past;
use crate::clock::Millis;
use crate::log::{SavedThrottle, Value};
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedRedisLog {
    #[n(0)]
    down: Option<Millis>,
    #[cbor(n(1), default)]
    logged: Vec<SavedTrouble>,
    #[n(2)]
    trouble: String,
    #[n(3)]
    known: bool,
    #[n(4)]
    broke: bool,
    #[n(5)]
    broken: SavedThrottle,
    #[n(6)]
    masters: SavedThrottle,
    #[n(7)]
    not_json: SavedThrottle,
    #[n(8)]
    refused_channels: SavedThrottle,
    #[n(9)]
    refused_publications: SavedThrottle,
    #[n(10)]
    refused_views: SavedThrottle,
    #[n(11)]
    no_master: SavedThrottle,
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

impl RedisLog {
    pub fn save(&self) -> SavedRedisLog {
        let logged = self
            .logged
            .iter()
            .map(|((server, about), why)| SavedTrouble {
                server: server.clone(),
                scout: *about == SCOUT,
                why: why.clone(),
            });
        SavedRedisLog {
            down: self.down,
            logged: logged.collect(),
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
    pub fn restore(&mut self, saved: SavedRedisLog, now: Millis) -> Result<(), SnapshotError> {
        self.down = saved.down.map(|since| past(since, now)).transpose()?;
        let logged = saved
            .logged
            .into_iter()
            .take(MAX_REMEMBERED_REASONS)
            .map(|it| {
                let about = if it.scout { SCOUT } else { MASTER };
                ((it.server, about), it.why)
            });
        self.logged = logged.collect();
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

    /// Notes that `links` links were not handed over, and are away since then. When all is well again, it is logged how
    /// long that took.
    pub fn not_handed_over(&mut self, links: usize, since: Millis) {
        self.broke = true;
        self.down.get_or_insert(since);
        let fields = [
            ("broker", Value::Shown(&self.dsn)),
            ("links", Value::Number(links as u64)),
        ];
        let line = "links to the broker over TLS cannot be handed over: they are made anew";
        self.log.info(line, &fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::dialogue::{Duty, Notice};
    use crate::broker::redis::tests::{facts_without_effect, forgetting};
    use crate::broker::redis::topology::LinkId;
    use crate::config::{RedisAddress, RedisDsn, RedisServers};
    use crate::effect::ShardId;
    use crate::log::{Level, Log};
    use crate::wire::channel_name::ChannelName;

    fn address(port: u16) -> RedisAddress {
        let host = "h".to_owned();
        RedisAddress::Tcp { host, port }
    }

    fn redis_log(log: &Log) -> RedisLog {
        let dsn = RedisDsn {
            servers: RedisServers::Cluster(vec![address(1)]),
            tls: false,
            credentials: None,
            db: 0,
            unused: Vec::new(),
        };
        RedisLog::new(dsn, log.clone(), 0)
    }

    type Step = fn(&mut RedisLog, Millis) -> bool;

    fn notice(redis_log: &mut RedisLog, notice: &Notice, now: Millis) -> bool {
        redis_log.notice(notice, now);
        true
    }

    fn broken(redis_log: &mut RedisLog, id: LinkId, why: &str, now: Millis) -> bool {
        redis_log.broken(id, &address(1), why, now);
        true
    }

    const STEPS: &[Step] = &[
        |it, now| broken(it, LinkId::Scout(0), "refused", now),
        |it, now| broken(it, LinkId::Scout(0), "refused", now),
        |it, now| broken(it, LinkId::Master(ShardId(0), Duty::Listen), "refused", now),
        |it, now| it.judge(true, now),
        |it, now| broken(it, LinkId::Master(ShardId(0), Duty::Publish), "reset", now),
        |it, now| it.judge(false, now),
        |it, now| {
            let server = "h:1".to_owned();
            notice(it, &Notice::Master { server, is: false }, now)
        },
        |it, now| {
            let channel = "a".to_owned();
            notice(it, &Notice::NotJson { channel }, now)
        },
        |it, now| {
            let channel = ChannelName::checked("a");
            let why = "NOPERM".into();
            notice(it, &Notice::RefusedChannel { channel, why }, now)
        },
        |it, now| {
            let why = "NOPERM".into();
            notice(it, &Notice::RefusedPublication { why }, now)
        },
        |it, now| {
            let (node, why) = ("h:1".to_owned(), "ERR".to_owned());
            notice(it, &Notice::RefusedView { node, why }, now)
        },
        |it, now| {
            let (sentinel, why) = ("h:1".to_owned(), "ERR".to_owned());
            notice(it, &Notice::NoMaster { sentinel, why }, now)
        },
        |it, _| it.trouble().is_empty(),
        |it, now| it.judge(true, now),
    ];

    /// More of it than is logged in a minute.
    const FLOOD: &[Step] = &[
        |it, now| broken(it, LinkId::Scout(0), "refused", now),
        |it, now| broken(it, LinkId::Scout(0), "reset", now),
        |it, now| {
            let server = "h:2".to_owned();
            notice(it, &Notice::Master { server, is: true }, now)
        },
    ];

    /// Plays all steps several times. Returns what was found and logged.
    fn play(replaced: bool) -> (Vec<bool>, Vec<String>) {
        let log = Log::in_memory(Level::Info);
        let (mut redis_log, mut now) = (redis_log(&log), 0);
        let mut found = Vec::new();
        let steps = [STEPS.repeat(3), FLOOD.repeat(500), STEPS.repeat(2)].concat();
        for step in steps {
            now += 60;
            found.push(step(&mut redis_log, now));
            if replaced {
                let record = forgetting(&minicbor::to_vec(redis_log.save()).unwrap(), &[]);
                let saved = minicbor::decode(&record).unwrap();
                redis_log = self::redis_log(&log);
                redis_log.restore(saved, now).unwrap();
            }
        }
        // All but the time of the clock on the wall.
        let lines = log.take();
        let rest = |line: &str| line.split_once(",").unwrap_or_default().1.to_owned();
        (found, lines.lines().map(rest).collect())
    }

    fn table() {
        assert!(play(true) == play(false));
    }

    #[test]
    fn what_was_logged_is_not_logged_again() {
        table();
        assert!(play(false).1.len() > 20);
    }

    #[test]
    fn every_fact_of_a_journal_snapshot_has_an_effect() {
        // How many lines about servers and about masters were left out: that is not logged.
        assert_eq!(facts_without_effect(&[table]), ["5 2", "6 2"]);
    }
}
