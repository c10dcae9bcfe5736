//! What is logged of redis: when it is down and up again, and what it refuses.
//!
//! Owns: what was logged last, so that it is not repeated. Knows: links by name. Never knows: commands and replies.

mod saved;

use std::collections::HashMap;

pub use self::saved::SavedRedisLog;
use super::dialogue::Notice;
use super::topology::LinkId;
use crate::clock::Millis;
use crate::config::{RedisAddress, RedisDsn, RedisServers};
use crate::log::{Log, Throttle, Value};

/// The pause between two lines about the same trouble, in milliseconds.
const REPEAT_INTERVAL: Millis = 60_000;
/// Lines in that time about servers that are down, and about masters: more than any cluster that exists needs.
const MOST_LINES: u64 = 200;
/// Addresses whose trouble is remembered.
const MAX_REMEMBERED_REASONS: usize = 1_000;
/// What a server is for.
const MASTER: &str = "master";
const SCOUT: &str = "scout";

const REFUSED_PUBLICATION: &str = "the broker refuses to publish: clients get the error unavailable, backends 503; \
    allow the channels of --broker-prefix, see docs/scaling.md#acls";
const REFUSED_VIEW: &str = "a node does not say which masters the broker's cluster has: the server asks other nodes too; \
    check that it is a cluster's node, and its ACL (docs/scaling.md#acls)";
const NO_MASTER: &str = "a sentinel does not say where the broker's master is: the server asks the others too; \
    check the master's name and the sentinels' password in --broker-dsn (docs/scaling.md#sentinel)";

pub struct RedisLog {
    dsn: RedisDsn,
    log: Log,
    /// Since when it is down.
    down: Option<Millis>,
    /// The last reason that was logged for each server, by its address and what it is for.
    logged: HashMap<(String, &'static str), String>,
    trouble: String,
    /// It has been up.
    known: bool,
    /// A link has broken since all was well.
    broke: bool,
    broken: Throttle,
    masters: Throttle,
    not_json: Throttle,
    refused_channels: Throttle,
    refused_publications: Throttle,
    refused_views: Throttle,
    no_master: Throttle,
}

impl RedisLog {
    pub fn new(dsn: RedisDsn, log: Log, now: Millis) -> RedisLog {
        RedisLog {
            dsn,
            log,
            down: Some(now),
            logged: HashMap::new(),
            trouble: String::new(),
            known: false,
            broke: false,
            broken: Throttle::lines_in(MOST_LINES, REPEAT_INTERVAL),
            masters: Throttle::lines_in(MOST_LINES, REPEAT_INTERVAL),
            not_json: Throttle::once_in(REPEAT_INTERVAL),
            refused_channels: Throttle::once_in(REPEAT_INTERVAL),
            refused_publications: Throttle::once_in(REPEAT_INTERVAL),
            refused_views: Throttle::once_in(REPEAT_INTERVAL),
            no_master: Throttle::once_in(REPEAT_INTERVAL),
        }
    }

    pub fn dsn(&self) -> &RedisDsn {
        &self.dsn
    }

    /// The last trouble; empty if there is none.
    pub fn trouble(&self) -> &str {
        &self.trouble
    }

    /// A link is broken, or was not established.
    pub fn broken(&mut self, id: LinkId, address: &RedisAddress, why: &str, now: Millis) {
        let (link, line) = match (id, &self.dsn.servers) {
            (LinkId::Master(_, duty), RedisServers::Cluster(_)) => {
                (duty.name(), "a shard of the broker is down")
            }
            (LinkId::Master(_, duty), _) => (duty.name(), "the broker is down"),
            (LinkId::Scout(_), RedisServers::Cluster(_)) => {
                ("asking", "a node of the broker's cluster does not answer")
            }
            (LinkId::Scout(_), _) => ("asking", "a sentinel of the broker does not answer"),
        };
        if let LinkId::Master(..) = id {
            self.broke = true;
        }
        let server = address.to_string();
        self.trouble = match self.dsn.servers {
            RedisServers::Sentinel { .. } | RedisServers::Cluster(_)
                if !why.starts_with(&server) =>
            {
                format!("{server}: {why}")
            }
            _ => why.to_owned(),
        };
        if self.logged.len() >= MAX_REMEMBERED_REASONS {
            self.logged.clear();
        }
        // One line for both links: they break for the same reason.
        let about = match id {
            LinkId::Master(..) => MASTER,
            LinkId::Scout(_) => SCOUT,
        };
        let logged = self.logged.entry((server.clone(), about)).or_default();
        if *logged == why {
            return;
        }
        *logged = why.to_owned();
        if self.broken.admit(now).is_none() {
            return;
        }
        let fields = [
            ("broker", Value::Shown(&self.dsn)),
            ("server", Value::Text(&server)),
            ("link", Value::Text(link)),
            ("reason", Value::Text(why)),
        ];
        match id {
            LinkId::Master(..) => self.log.error(line, &fields),
            LinkId::Scout(_) => self.log.warn(line, &fields),
        }
    }

    /// Logs whether the broker is up. `up`: all is well now. Returns whether it is up again, after a link had broken.
    pub fn judge(&mut self, up: bool, now: Millis) -> bool {
        let since = match (self.down, up) {
            (None, false) => {
                self.down = Some(now);
                return false;
            }
            (Some(since), true) => since,
            _ => return false,
        };
        self.down = None;
        self.logged.clear();
        self.trouble.clear();
        let fields = [
            ("broker", Value::Shown(&self.dsn)),
            ("down_ms", Value::Number(now.saturating_sub(since))),
        ];
        let known = std::mem::replace(&mut self.known, true);
        let broke = std::mem::take(&mut self.broke);
        let line = match (known, broke) {
            (false, _) => "the broker is up",
            (true, false) => "all channels are subscribed again",
            (true, true) => "the broker is up again",
        };
        self.log.info(line, &fields);
        known && broke
    }

    /// A server has become a master of the broker, or is no longer one. Not logged at the start.
    fn master(&mut self, server: &str, is: bool, now: Millis) {
        let line = if is {
            "the broker has a new master"
        } else {
            "a server is no master of the broker any more: its links are closed"
        };
        if self.known && self.masters.admit(now).is_some() {
            let fields = [
                ("broker", Value::Shown(&self.dsn)),
                ("server", Value::Text(server)),
            ];
            self.log.info(line, &fields);
        }
    }

    pub fn notice(&mut self, notice: &Notice, now: Millis) {
        let throttle = match notice {
            Notice::Master { server, is } => return self.master(server, *is, now),
            Notice::NotJson { .. } => &mut self.not_json,
            Notice::RefusedChannel { .. } => &mut self.refused_channels,
            Notice::RefusedPublication { .. } => &mut self.refused_publications,
            Notice::RefusedView { node, why } => {
                self.trouble = format!("{node}: {why}");
                &mut self.refused_views
            }
            Notice::NoMaster { sentinel, why } => {
                self.trouble = format!("the sentinel {sentinel}: {why}");
                &mut self.no_master
            }
        };
        let Some(left_out) = throttle.admit(now) else {
            return;
        };
        let count = Value::Number(left_out.saturating_add(1));
        match notice {
            Notice::Master { .. } => {}
            Notice::NotJson { channel } => {
                let line = "a message from the broker is not JSON: it is dropped";
                let fields = [("channel", Value::Text(channel)), ("dropped", count)];
                self.log.warn(line, &fields);
            }
            Notice::RefusedChannel { channel, why } => {
                let line = "the broker refuses a channel: the server tries again while it needs the channel; see docs/scaling.md#acls";
                let fields = [
                    ("channel", Value::Text(channel.as_str())),
                    ("reason", Value::Text(why)),
                    ("refusals", count),
                ];
                self.log.error(line, &fields);
            }
            Notice::RefusedPublication { why } => {
                let fields = [("reason", Value::Text(why)), ("refusals", count)];
                self.log.error(REFUSED_PUBLICATION, &fields);
            }
            Notice::RefusedView { node, why } => {
                let fields = [
                    ("server", Value::Text(node)),
                    ("reason", Value::Text(why)),
                    ("refusals", count),
                ];
                self.log.error(REFUSED_VIEW, &fields);
            }
            Notice::NoMaster { sentinel, why } => {
                let fields = [
                    ("sentinel", Value::Text(sentinel)),
                    ("reason", Value::Text(why)),
                    ("refusals", count),
                ];
                self.log.error(NO_MASTER, &fields);
            }
        }
    }
}
