//! The kinds of records, and their numbers.

/// What a record holds. Numbers are never used again, and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum RecordKind {
    /// The first record of every snapshot. Its number is a text, by which a file is known to be a snapshot.
    Header = u32::from_le_bytes(*b"wsfy"),
    /// The last record of every snapshot: what is cut off at the end of a record is noticed.
    End = 1,
    /// The process: descriptors, listeners, and what is not the hub's.
    Process = 2,
    /// Encoded bytes that outboxes and audiences refer to by their number: how many such records were before it.
    Run = 10,
    /// A state that several connections share, which they refer to by its number: how many such records were before it.
    SharedState = 11,
    /// A connection.
    Connection = 12,
    /// The hub as a whole. Its part begins with it.
    Hub = 20,
    /// Which channels the broker has been asked for, and its shards.
    Subscriptions = 21,
    /// What the broker is to be asked for next.
    SubscriptionChange = 22,
    /// A channel and its members.
    Channel = 23,
    /// Connections that need not wait for a channel any longer.
    Released = 24,
    /// Users that were disconnected while upgrades were under way.
    Disconnects = 25,
    /// An `allow`, which slots refer to by its number: how many such records were before it.
    Allow = 26,
    /// What is kept of a connection outside of it.
    Slot = 27,
    /// A command of a backend under way.
    Job = 28,
    /// Which of them may go on, and which wait for each other.
    JobQueue = 29,
    /// Whether the authorizer is down.
    Outage = 30,
    /// A question that waits until it can be asked.
    HeldQuestion = 31,
    /// A request to a driver that has not been taken.
    Effect = 32,
    /// What the broker has not published, and is to be handed out again.
    Returned = 33,
    /// What the log, the access log and the receiver of events have been told.
    Report = 34,
    /// Events that wait for their receiver.
    Events = 35,
    /// A graceful stop under way.
    Drain = 36,
    /// The end of the hub's part.
    HubEnd = 37,
    /// The other nodes on the broker.
    Nodes = 38,
    /// Counters and histograms.
    Metrics = 70,
    /// Which broker there is.
    Broker = 60,
    /// Which redis it is, and what was logged of it.
    Redis = 61,
    /// Which servers make it up, and what the hub has not been told of them.
    RedisServers = 62,
    /// A master, and what is said to it.
    RedisMaster = 63,
    /// A link that asks where masters are.
    RedisScout = 64,
    /// A connection to a server.
    RedisLink = 65,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: &[RecordKind] = &[
        RecordKind::Header,
        RecordKind::End,
        RecordKind::Process,
        RecordKind::Run,
        RecordKind::SharedState,
        RecordKind::Connection,
        RecordKind::Hub,
        RecordKind::Subscriptions,
        RecordKind::SubscriptionChange,
        RecordKind::Channel,
        RecordKind::Released,
        RecordKind::Disconnects,
        RecordKind::Allow,
        RecordKind::Slot,
        RecordKind::Job,
        RecordKind::JobQueue,
        RecordKind::Outage,
        RecordKind::HeldQuestion,
        RecordKind::Effect,
        RecordKind::Returned,
        RecordKind::Report,
        RecordKind::Events,
        RecordKind::Drain,
        RecordKind::Nodes,
        RecordKind::HubEnd,
        RecordKind::Metrics,
        RecordKind::Broker,
        RecordKind::Redis,
        RecordKind::RedisServers,
        RecordKind::RedisMaster,
        RecordKind::RedisScout,
        RecordKind::RedisLink,
    ];

    pub fn number(self) -> u32 {
        self as u32
    }

    /// The kind with this number. `None`: another release has added it.
    pub fn numbered(number: u32) -> Option<RecordKind> {
        let mut all = RecordKind::ALL.iter().copied();
        all.find(|kind| kind.number() == number)
    }
}
