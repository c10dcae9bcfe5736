//! The values of a dialogue: what a link is for, what is awaited on it, what comes of a reply.
//!
//! Owns: their meaning. Never knows: how one follows from another.

use std::rc::Rc;

use crate::broker::news::Message;
use crate::broker::redis::conversation::Conversation;
use crate::clock::Millis;
use crate::config::Credentials;
use crate::effect::{Publication, PublishedBy, ShardId, Subscription};
use crate::wire::channel_name::ChannelName;
use crate::wire::cluster_view::{ViewAnswer, ViewForm};
use crate::wire::nodes::NodeAddress;

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    Publish,
    Listen,
}

impl Duty {
    pub const BOTH: [Duty; 2] = [Duty::Publish, Duty::Listen];

    pub fn other(self) -> Duty {
        match self {
            Duty::Publish => Duty::Listen,
            Duty::Listen => Duty::Publish,
        }
    }

    /// The link's name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Duty::Publish => "publishing",
            Duty::Listen => "listening",
        }
    }
}

/// What a link sends in its handshake, and to what kind of redis.
#[derive(Clone, Debug, Default)]
pub struct LinkIdentity {
    pub credentials: Option<Credentials>,
    pub db: u32,
    /// Before every channel's name.
    pub prefix: String,
    /// Which shard this is.
    pub shard: ShardId,
    pub kind: RedisKind,
    /// Whether to ask for the version, too.
    pub probe: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisKind {
    /// The one that the operator has named.
    #[default]
    Alone,
    /// The master that sentinels have named.
    Watched,
    /// A master of a cluster: `SPUBLISH` and `SSUBSCRIBE`.
    Shard,
}

/// How far [`Dialogue::handle_reply`] came.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Starved,
    /// This many bytes are handled; there may be news.
    Handled(usize),
    /// A message. Its bytes are to be kept until it is taken.
    Message(Message),
}

/// Something for the log, which the hub need not know.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    NotJson {
        channel: String,
    },
    RefusedChannel {
        channel: ChannelName,
        why: Rc<str>,
    },
    RefusedPublication {
        why: Rc<str>,
    },
    /// A node's view of its cluster cannot be used.
    RefusedView {
        node: String,
        why: String,
    },
    /// A server has become a master, or is no longer one.
    Master {
        server: String,
        is: bool,
    },
    /// A sentinel names no master.
    NoMaster {
        sentinel: String,
        why: String,
    },
}

/// What a node has said of its cluster.
#[derive(Debug)]
pub enum Hint {
    /// It has ended a subscription of this slot by itself.
    Ended(u16),
    /// Another node has the slot.
    Moved(Moved),
    /// It could not be published for now.
    Again(Box<Publication>),
    /// Something cannot be done as the cluster stands.
    Doubt,
    View(ViewAnswer),
}

/// What was refused, as another node has the slot.
#[derive(Debug)]
pub struct Moved {
    pub slot: u16,
    /// `None`: it is not known which.
    pub to: Option<NodeAddress>,
    pub publication: Option<Box<Publication>>,
    pub subscriptions: Vec<Subscription>,
    pub words: Rc<str>,
}

/// What is known of the server, for `--check`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    pub version: Option<String>,
    /// `None`: it may not be asked for its role.
    pub replicas: Option<usize>,
}

/// The state of one link.
#[derive(Debug, Default)]
pub struct Half {
    /// Its handshake is complete.
    pub up: bool,
    /// When the role was last asked.
    pub checked: Millis,
    pub talk: Conversation<What>,
}

/// What a reply is awaited to.
#[derive(Debug)]
pub enum What {
    Greeting(Greeting),
    /// Whether it is a master.
    Role,
    /// What the server is.
    Info,
    /// How it sees its cluster.
    View(ViewForm),
    /// The answer says that what was published before this position has come.
    Ping(u64),
    Publish(SentPublication),
    /// How many of the first are confirmed.
    Subscribe(Vec<Subscription>, usize),
    /// The same; in a cluster all are confirmed by the `PING` behind them.
    Unsubscribe(Vec<ChannelName>, usize),
}

/// A publication that is not answered.
#[derive(Debug)]
pub struct SentPublication {
    /// `None`: nothing waits for it any more.
    pub by: Option<PublishedBy>,
    pub slot: u16,
    /// In a cluster it may have to be published again.
    pub kept: Option<Box<Publication>>,
    /// The channel's subscription here was ended meanwhile: if it is published, the members here may not hear it.
    pub doubtful: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Greeting {
    /// `alone_next`: if redis knows no users, the password is sent alone.
    Auth {
        alone_next: bool,
    },
    Select,
    Name,
    /// The last one: the link can be used.
    Ping,
}

/// Published, but perhaps not yet heard here.
#[derive(Debug)]
pub struct Published {
    pub at: Millis,
    /// `None`: nothing waits for it any more.
    pub by: Option<PublishedBy>,
    pub slot: u16,
}
