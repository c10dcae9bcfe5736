//! What waits for an answer, in a snapshot.

use minicbor::{Decode, Encode};

use super::{Awaits, PendingUpgrade, Suspended};
use crate::connection::Limits;
use crate::connection::exchange::{Exchange, SavedExchange};
use crate::snapshot::{SnapshotError, size};
use crate::wire::answer_fields::{AnswerFields, SavedFields};
use crate::wire::command::{Command, Post, SavedCommand, SavedPost};
use crate::wire::handshake::{SavedUpgrade, Upgrade};

/// What waits, and for which answer.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedSuspended {
    #[n(0)]
    awaits: SavedAwaits,
    #[n(1)]
    work: SavedWork,
}

/// The answer that is waited for.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(index_only)]
enum SavedAwaits {
    #[n(0)]
    Verdict,
    #[n(1)]
    HeldVerdict,
    #[n(2)]
    Channel,
    #[n(3)]
    Receipt,
    #[n(4)]
    Backend,
}

/// What waits.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
enum SavedWork {
    #[n(0)]
    Upgrade {
        #[n(0)]
        exchange: Box<SavedExchange>,
        #[n(1)]
        upgrade: SavedUpgrade,
        #[n(2)]
        query: Box<str>,
        #[n(3)]
        fields: Option<Box<SavedFields>>,
    },
    #[n(1)]
    Command(#[n(0)] SavedCommand),
    #[n(2)]
    Refresh,
    #[n(3)]
    Post {
        #[n(0)]
        exchange: Box<SavedExchange>,
        #[n(1)]
        post: SavedPost,
    },
    #[n(4)]
    Backend {
        #[n(0)]
        exchange: Box<SavedExchange>,
        #[n(1)]
        bytes: u64,
    },
}

impl Awaits {
    fn save(self) -> SavedAwaits {
        match self {
            Awaits::Verdict => SavedAwaits::Verdict,
            Awaits::HeldVerdict => SavedAwaits::HeldVerdict,
            Awaits::Channel => SavedAwaits::Channel,
            Awaits::Receipt => SavedAwaits::Receipt,
            Awaits::Backend => SavedAwaits::Backend,
        }
    }

    fn restore(saved: SavedAwaits) -> Awaits {
        match saved {
            SavedAwaits::Verdict => Awaits::Verdict,
            SavedAwaits::HeldVerdict => Awaits::HeldVerdict,
            SavedAwaits::Channel => Awaits::Channel,
            SavedAwaits::Receipt => Awaits::Receipt,
            SavedAwaits::Backend => Awaits::Backend,
        }
    }
}

impl Suspended {
    pub fn save(&self, awaits: Awaits) -> SavedSuspended {
        let work = match self {
            Suspended::Upgrade(pending, fields) => SavedWork::Upgrade {
                exchange: Box::new(pending.exchange.save()),
                upgrade: pending.upgrade.save(),
                query: pending.query.clone(),
                fields: fields.as_ref().map(|fields| Box::new(fields.save())),
            },
            Suspended::Command { command, message } => SavedWork::Command(command.save(message)),
            Suspended::Refresh => SavedWork::Refresh,
            Suspended::Post {
                exchange,
                post,
                body,
            } => SavedWork::Post {
                exchange: Box::new(exchange.save()),
                post: post.save(body),
            },
            Suspended::Backend { exchange, bytes } => SavedWork::Backend {
                exchange: Box::new(exchange.save()),
                bytes: *bytes as u64,
            },
        };
        SavedSuspended {
            awaits: awaits.save(),
            work,
        }
    }

    /// Restores what waits. `open`: in a WebSocket that is open.
    ///
    /// # Errors
    /// It is malformed, or does not wait there, or not for this answer.
    pub fn restore(
        saved: SavedSuspended,
        open: bool,
        limits: &Limits,
    ) -> Result<(Awaits, Suspended), SnapshotError> {
        let awaits = Awaits::restore(saved.awaits);
        let work = match saved.work {
            SavedWork::Upgrade {
                exchange,
                upgrade,
                query,
                fields,
            } => {
                let pending = PendingUpgrade {
                    exchange: Exchange::restore(*exchange)?,
                    upgrade: Upgrade::restore(upgrade)?,
                    query,
                };
                let fields = match fields {
                    Some(fields) => Some(Box::new(AnswerFields::restore(*fields)?)),
                    None => None,
                };
                Suspended::Upgrade(pending, fields)
            }
            SavedWork::Command(command) => {
                let (command, message) = Command::restore(command)?;
                Suspended::Command { command, message }
            }
            SavedWork::Refresh => Suspended::Refresh,
            SavedWork::Post { exchange, post } => {
                let (post, body) = Post::restore(post)?;
                Suspended::Post {
                    exchange: Exchange::restore(*exchange)?,
                    post,
                    body,
                }
            }
            SavedWork::Backend { exchange, bytes } => Suspended::Backend {
                exchange: Exchange::restore(*exchange)?,
                bytes: size(bytes),
            },
        };
        if work.may_wait(awaits, open) && work.buffered() <= limits.max_message {
            Ok((awaits, work))
        } else {
            Err(SnapshotError::new(
                "a request or command that cannot wait in this phase or for this answer, or is too large",
            ))
        }
    }

    /// Whether it may wait for this answer. `open`: in a WebSocket that is open.
    fn may_wait(&self, awaits: Awaits, open: bool) -> bool {
        let judged = matches!(awaits, Awaits::Verdict | Awaits::HeldVerdict);
        match self {
            Suspended::Upgrade(..) => !open && (judged || awaits == Awaits::Channel),
            Suspended::Command { .. } => open && awaits != Awaits::Backend,
            Suspended::Refresh => open && judged,
            Suspended::Post { body, .. } => {
                !open
                    && match awaits {
                        Awaits::Channel => !body.is_empty(),
                        awaits => awaits == Awaits::Receipt,
                    }
            }
            Suspended::Backend { .. } => !open && awaits == Awaits::Backend,
        }
    }
}
