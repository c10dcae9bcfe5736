//! Which nodes redis names outside of views: redirections, and what sentinels say of a master.
//!
//! Owns: what an address is, and what these words mean. Never knows: what is done about them.

use std::net::IpAddr;

use super::authority::{self, Host};
use super::hash_slot::HASH_SLOTS;
use super::resp::{self, Malformed, RedisValue};

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The address of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    /// A name or an address; an IPv6 one without its brackets. `None`: the host that was asked.
    pub host: Option<String>,
    /// Of plain TCP, or of TLS where the view has only one.
    pub port: u16,
}

impl NodeAddress {
    /// `None`: such a host or port does not exist.
    pub(super) fn new(host: &str, port: u16) -> Option<NodeAddress> {
        let host = match host {
            "" => None,
            host if host.parse::<IpAddr>().is_ok() => Some(host.to_owned()),
            host => match Host::parse(host)? {
                Host::Ip(ip) => Some(ip.to_string()),
                Host::Name(name) => Some(name),
            },
        };
        (port != 0).then_some(NodeAddress { host, port })
    }
}

/// What a node of a cluster says when it has not done what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterError {
    /// `MOVED`: another node has the slot; `None`: it is not known which.
    Moved(u16, Option<NodeAddress>),
    /// `ASK`, `TRYAGAIN`: the slot is about to move.
    Again,
    /// `CLUSTERDOWN`, `MASTERDOWN`: it cannot be done as the cluster stands.
    Down,
    /// `READONLY`: it is a replica.
    Replica,
    /// Anything else, `NOREPLICAS` among it: it is refused.
    Other,
}

impl ClusterError {
    /// The meaning of an error's words.
    pub fn parse(words: &str) -> ClusterError {
        let mut parts = words.split(' ');
        match parts.next() {
            Some("MOVED") => {
                let slot = parts.next().and_then(|slot| slot.parse().ok());
                let slot = slot.filter(|&slot| slot < HASH_SLOTS);
                let address = parts.next().and_then(|text| {
                    let (host, digits) = text.rsplit_once(':')?;
                    NodeAddress::new(host, authority::port(digits.as_bytes())?)
                });
                slot.map_or(ClusterError::Other, |slot| {
                    ClusterError::Moved(slot, address)
                })
            }
            Some("ASK" | "TRYAGAIN") => ClusterError::Again,
            Some("CLUSTERDOWN" | "MASTERDOWN") => ClusterError::Down,
            Some("READONLY") => ClusterError::Replica,
            _ => ClusterError::Other,
        }
    }
}

/// What a sentinel answers when it is asked for a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterAnswer {
    At(NodeAddress),
    /// It knows none of that name.
    Unknown,
    /// The words of an error.
    Refused(String),
}

/// Reads a sentinel's answer at the start of `bytes`, and how long it is. `None`: more bytes are needed.
///
/// # Errors
/// It is not such an answer.
pub fn read_master(bytes: &[u8]) -> Result<Option<(MasterAnswer, usize)>, Malformed> {
    let Some((first, end)) = resp::value(bytes, 0)? else {
        return Ok(None);
    };
    match first {
        RedisValue::Null => return Ok(Some((MasterAnswer::Unknown, end))),
        RedisValue::Error(range) => {
            let words = String::from_utf8_lossy(bytes.get(range).unwrap_or_default());
            return Ok(Some((MasterAnswer::Refused(words.into_owned()), end)));
        }
        RedisValue::Array(2) => {}
        _ => return Err(Malformed),
    }
    let Some((host, end)) = resp::value(bytes, end)? else {
        return Ok(None);
    };
    let Some((port, end)) = resp::value(bytes, end)? else {
        return Ok(None);
    };
    let (RedisValue::Text(host), RedisValue::Text(port)) = (host, port) else {
        return Err(Malformed);
    };
    let text = |range| str::from_utf8(bytes.get(range).unwrap_or_default()).ok();
    let port = authority::port(bytes.get(port).unwrap_or_default());
    let address = text(host).zip(port);
    let address = address.and_then(|(host, port)| NodeAddress::new(host, port));
    Ok(Some((MasterAnswer::At(address.ok_or(Malformed)?), end)))
}

/// The new address of `master`, if that is what the content of `+switch-master` is about: name, old host and port, new host
/// and port.
pub fn switched(master: &str, content: &[u8]) -> Option<NodeAddress> {
    let text = str::from_utf8(content).ok()?;
    let rest = text.strip_prefix(master)?.strip_prefix(' ')?;
    let [_, _, host, port] = rest.split(' ').collect::<Vec<_>>().try_into().ok()?;
    NodeAddress::new(host, authority::port(port.as_bytes())?)
}

#[cfg(test)]
pub mod tests;
