//! What a reply of redis means, whatever the command was; and how a link authenticates.
//!
//! Owns: the authentication of a link. Knows: one reply. Never knows: other commands.

use super::conversation::{Conversation, LinkFault};
use crate::clock::Millis;
use crate::config::Credentials;
use crate::wire::resp::RedisReply;

/// Characters of redis' words that are passed on: what fits into a log line.
const LONGEST_REASON: usize = 200;
/// The user that a password without a user belongs to.
const DEFAULT_USER: &str = "default";
/// What a redis without users (before 6) answers to `AUTH user password`.
const NO_USERS: &str = "ERR wrong number of arguments";
/// How the words begin with which redis closes a connection that it has just accepted: `maxclients` is reached, or
/// protected mode is on. They are not an answer, but come before any.
const TURNED_AWAY: [&str; 2] = ["ERR max number of clients", "DENIED "];

pub const OTHER: &str = "it sent an unexpected reply";
pub const UNASKED: &str = "it sent a reply that no command awaits";
pub const NO_REDIS: &str = "it does not speak the protocol of redis";

/// A reply that is not a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    Done,
    /// What redis says is wrong, shortened.
    Error(String),
    Subscribed,
    Unsubscribed,
    Role(Role),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A master, with its number of replicas.
    Master(usize),
    Replica,
    Sentinel,
}

impl Meaning {
    pub fn new(reply: &RedisReply, bytes: &[u8]) -> Meaning {
        match reply {
            RedisReply::Error(range) => {
                let text = bytes.get(range.clone()).unwrap_or_default();
                Meaning::Error(shortened(&String::from_utf8_lossy(text)))
            }
            RedisReply::Subscribed => Meaning::Subscribed,
            RedisReply::Unsubscribed(_) => Meaning::Unsubscribed,
            RedisReply::Role { name, replicas } => Meaning::Role(match bytes.get(name.clone()) {
                Some(b"master") => Role::Master(*replicas),
                Some(b"slave") => Role::Replica,
                _ => Role::Sentinel,
            }),
            RedisReply::Done | RedisReply::Message { .. } => Meaning::Done,
        }
    }
}

/// Why redis closes the connection, if it says so in place of an answer.
///
/// # Errors
/// It does, with these words.
pub fn check_turned_away(meaning: &Meaning) -> Result<(), LinkFault> {
    match meaning {
        Meaning::Error(why) if TURNED_AWAY.iter().any(|words| why.starts_with(words)) => {
            Err(LinkFault::of_one(why.as_str()))
        }
        _ => Ok(()),
    }
}

/// A text of redis, shortened to what is passed on.
pub fn shortened(words: &str) -> String {
    words.chars().take(LONGEST_REASON).collect()
}

/// Sends the credentials. `named`: with a user. A password without a user is sent for the user `default` first, which a
/// redis without a password accepts, too. A redis without users is sent the password alone.
pub fn log_in<W>(
    talk: &mut Conversation<W>,
    what: W,
    credentials: &Credentials,
    named: bool,
    now: Millis,
) {
    let user = credentials.user.as_deref().unwrap_or(DEFAULT_USER);
    let password = credentials.password.expose().as_bytes();
    if named {
        talk.ask(what, &[b"AUTH", user.as_bytes(), password], now)
    } else {
        talk.ask(what, &[b"AUTH", password], now)
    }
}

/// Whether the reply to [`log_in`] accepts the credentials. `false`: the password is to be sent alone.
///
/// # Errors
/// The credentials are refused. `whose` names them in the message.
pub fn logged_in(meaning: Meaning, alone_next: bool, whose: &str) -> Result<bool, LinkFault> {
    match meaning {
        Meaning::Done => Ok(true),
        Meaning::Error(why) if alone_next && why.starts_with(NO_USERS) => Ok(false),
        Meaning::Error(why) => {
            // Only the code: some servers repeat in the rest what they were sent.
            let code = why.split(' ').next().unwrap_or_default();
            let why = format!("it refuses {whose} of --broker-dsn ({code})");
            Err(LinkFault::of_one(why))
        }
        _ => Err(LinkFault::of_one(OTHER)),
    }
}
