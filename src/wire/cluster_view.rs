//! How a node sees its cluster: the answers to `CLUSTER SHARDS` and `CLUSTER SLOTS`.
//!
//! Owns: which of these answers make sense. Knows: their forms. Never knows: what is done about them.

use std::ops::RangeInclusive;

use super::hash_slot::HASH_SLOTS;
use super::nodes::NodeAddress;
use super::resp::{self, Malformed, RedisValue};

/// Bytes of a view. That of a cluster of 1,000 nodes has a quarter of a MiB.
const MAX_VIEW: usize = 4 * 1024 * 1024;
/// Values in what a view says that has no meaning here.
const MAX_ASIDE: usize = 1_024;
/// Nodes and stretches of slots in a view.
const MAX_PARTS: usize = 40_000;

/// A node of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub address: NodeAddress,
    pub tls_port: Option<u16>,
}

/// Nodes that have the same slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewShard {
    pub slots: Vec<RangeInclusive<u16>>,
    /// `None`: it has none that is there, or its address is not known.
    pub master: Option<Node>,
    pub replicas: Vec<Node>,
}

/// How one node sees the cluster.
pub type ClusterView = Vec<ViewShard>;

/// What a view is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewForm {
    /// `CLUSTER SHARDS`
    Shards,
    /// `CLUSTER SLOTS`
    Slots,
}

impl ViewForm {
    /// The command.
    pub fn question(self) -> [&'static [u8]; 2] {
        match self {
            ViewForm::Shards => [b"CLUSTER", b"SHARDS"],
            ViewForm::Slots => [b"CLUSTER", b"SLOTS"],
        }
    }
}

/// The answer to such a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewAnswer {
    View(ClusterView),
    /// The words of an error.
    Refused(String),
}

/// Reads the view at the start of `bytes`, and how long it is. `None`: more bytes are needed.
///
/// # Errors
/// It is not a view, or has no end.
pub fn read_view(form: ViewForm, bytes: &[u8]) -> Result<Option<(ViewAnswer, usize)>, Malformed> {
    let mut reader = ViewReader {
        bytes,
        at: 0,
        parts: 0,
    };
    let view = match (reader.value(), form) {
        (Ok(RedisValue::Error(range)), _) => {
            let text = bytes.get(range).unwrap_or_default();
            let text = String::from_utf8_lossy(text).into_owned();
            return Ok(Some((ViewAnswer::Refused(text), reader.at)));
        }
        (Ok(RedisValue::Array(count)), ViewForm::Shards) => reader.list(count, ViewReader::shard),
        (Ok(RedisValue::Array(count)), ViewForm::Slots) => reader.list(count, ViewReader::stretch),
        (Ok(_), _) => return Err(Malformed),
        (Err(stop), _) => Err(stop),
    };
    match view {
        Ok(view) => Ok(Some((ViewAnswer::View(view), reader.at))),
        Err(Unread::Malformed) => Err(Malformed),
        Err(Unread::Short) if bytes.len() >= MAX_VIEW => Err(Malformed),
        Err(Unread::Short) => Ok(None),
    }
}

/// Why reading stops.
enum Unread {
    /// More bytes are needed.
    Short,
    Malformed,
}

impl From<Malformed> for Unread {
    fn from(_: Malformed) -> Unread {
        Unread::Malformed
    }
}

struct ViewReader<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Shards, nodes and stretches so far.
    parts: usize,
}

impl ViewReader<'_> {
    fn value(&mut self) -> Result<RedisValue, Unread> {
        let (value, end) = resp::value(self.bytes, self.at)?.ok_or(Unread::Short)?;
        self.at = end;
        Ok(value)
    }

    fn count(&mut self) -> Result<usize, Unread> {
        match self.value()? {
            RedisValue::Array(count) => Ok(count),
            _ => Err(Unread::Malformed),
        }
    }

    /// How many pairs an array has.
    fn pairs(&mut self) -> Result<usize, Unread> {
        let count = self.count()?;
        match count % 2 {
            0 => Ok(count / 2),
            _ => Err(Unread::Malformed),
        }
    }

    fn part(&mut self) -> Result<(), Unread> {
        self.parts = self.parts.saturating_add(1);
        if self.parts > MAX_PARTS {
            Err(Unread::Malformed)
        } else {
            Ok(())
        }
    }

    fn list<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Unread>,
    ) -> Result<Vec<T>, Unread> {
        // Memory follows what has come.
        let mut items = Vec::new();
        for _ in 0..count {
            self.part()?;
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn text(&mut self) -> Result<&str, Unread> {
        let range = match self.value()? {
            RedisValue::Text(range) => range,
            RedisValue::Null => return Ok(""),
            _ => return Err(Unread::Malformed),
        };
        let text = self.bytes.get(range).unwrap_or_default();
        // What is not text names nothing.
        Ok(str::from_utf8(text).unwrap_or("?"))
    }

    /// A port: a number. Anything else is 0.
    fn port(&mut self) -> Result<u16, Unread> {
        match self.value()? {
            RedisValue::Number(port) => Ok(port.try_into().unwrap_or_default()),
            _ => Err(Unread::Malformed),
        }
    }

    fn slots(&mut self) -> Result<RangeInclusive<u16>, Unread> {
        let mut slot = || match self.value()? {
            RedisValue::Number(slot) => Ok(slot),
            _ => Err(Unread::Malformed),
        };
        let (first, last) = (slot()?, slot()?);
        let slots = u16::try_from(first).ok().zip(u16::try_from(last).ok());
        let (first, last) = slots.ok_or(Unread::Malformed)?;
        if first <= last && last < HASH_SLOTS {
            Ok(first..=last)
        } else {
            Err(Unread::Malformed)
        }
    }

    fn skip(&mut self) -> Result<(), Unread> {
        let end = resp::skip(self.bytes, self.at, 1, MAX_ASIDE)?;
        self.at = end.ok_or(Unread::Short)?;
        Ok(())
    }

    /// Names and values in turn: `slots` and `nodes`.
    fn shard(&mut self) -> Result<ViewShard, Unread> {
        let mut shard = ViewShard::default();
        let mut offline = None;
        for _ in 0..self.pairs()? {
            self.part()?;
            match self.text()? {
                "slots" => {
                    let count = self.pairs()?;
                    shard.slots = self.list(count, ViewReader::slots)?;
                }
                "nodes" => {
                    let count = self.count()?;
                    for named in self.list(count, ViewReader::node)? {
                        // A master that has failed stays in the list, beside the one that has replaced it.
                        match (named.node, named.master, named.online) {
                            (Some(node), true, true) => shard.master = Some(node),
                            (Some(node), true, false) => offline = Some(node),
                            (Some(node), false, _) => shard.replicas.push(node),
                            (None, ..) => {}
                        }
                    }
                }
                _ => self.skip()?,
            }
        }
        shard.master = shard.master.or(offline);
        Ok(shard)
    }

    /// A node of `CLUSTER SHARDS`: names and values in turn.
    fn node(&mut self) -> Result<NamedNode, Unread> {
        let (mut ip, mut endpoint) = (String::new(), None);
        let (mut port, mut tls_port) = (0, None);
        let (mut master, mut online) = (false, false);
        for _ in 0..self.pairs()? {
            self.part()?;
            match self.text()? {
                "ip" => ip = self.text()?.to_owned(),
                "endpoint" => endpoint = Some(self.text()?.to_owned()),
                "port" => port = self.port()?,
                "tls-port" => tls_port = Some(self.port()?).filter(|&port| port != 0),
                "role" => master = self.text()? == "master",
                "health" => online = self.text()? == "online",
                _ => self.skip()?,
            }
        }
        let host = endpoint.unwrap_or(ip);
        let port = if port == 0 {
            tls_port.unwrap_or(0)
        } else {
            port
        };
        let address = NodeAddress::new(&host, port);
        Ok(NamedNode {
            node: address.map(|address| Node { address, tls_port }),
            master,
            online,
        })
    }

    /// A node of `CLUSTER SLOTS`: its host, its port, and what has no meaning here. `None`: it has no usable address.
    fn listed(&mut self) -> Result<Option<Node>, Unread> {
        let aside = self.count()?.checked_sub(2).ok_or(Unread::Malformed)?;
        let host = self.text()?.to_owned();
        let port = self.port()?;
        for _ in 0..aside {
            self.part()?;
            self.skip()?;
        }
        let (address, tls_port) = (NodeAddress::new(&host, port), None);
        Ok(address.map(|address| Node { address, tls_port }))
    }

    /// An item of `CLUSTER SLOTS`: the first slot and the last, the master, its replicas.
    fn stretch(&mut self) -> Result<ViewShard, Unread> {
        let nodes = self.count()?.checked_sub(2).ok_or(Unread::Malformed)?;
        let slots = self.slots()?;
        let mut nodes = self.list(nodes, ViewReader::listed)?.into_iter();
        Ok(ViewShard {
            slots: vec![slots],
            master: nodes.next().flatten(),
            replicas: nodes.flatten().collect(),
        })
    }
}

struct NamedNode {
    /// `None`: it has no usable address.
    node: Option<Node>,
    master: bool,
    online: bool,
}

#[cfg(test)]
mod tests;
