//! The kinds of records, and their numbers.

/// What a record holds. Numbers are never used again, and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum RecordKind {
    /// The first record of every snapshot. Its number is a text, by which a file is known to be a snapshot.
    Header = u32::from_le_bytes(*b"wsfy"),
    /// The last record of every snapshot: what is cut off at the end of a record is noticed.
    End = 1,
    /// Encoded bytes that outboxes and audiences refer to by their number: how many such records were before it.
    Run = 10,
    /// A state that several connections share, which they refer to by its number: how many such records were before it.
    SharedState = 11,
    /// A connection.
    Connection = 12,
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
        RecordKind::Run,
        RecordKind::SharedState,
        RecordKind::Connection,
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
