//! What a snapshot holds of a link: its socket, what was read and is not handled, the back-off.
//!
//! An attempt at a connection is not handed over, nor the lookup of a name: they begin again.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use minicbor::{Decode, Encode};
use mio::{Interest, Registry, Token};

use super::{RedisLink, Stage};
use crate::broker::socket::{RedisSocket, RedisTarget};
use crate::clock::Millis;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedLink<'b> {
    /// The file descriptor of its socket. `None`: it has none, or one that cannot be handed over.
    #[n(0)]
    pub socket: Option<u64>,
    /// When the next attempt begins, without a socket.
    #[n(1)]
    pub until: Millis,
    #[n(2)]
    pub tries: u32,
    #[n(3)]
    pub first: u64,
    #[n(4)]
    pub opened: Millis,
    #[cbor(b(5), with = "minicbor::bytes", default)]
    pub input: &'b [u8],
}

impl RedisLink {
    /// The socket, if it is handed over.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Open(socket) => socket.descriptor(),
            Stage::Resting { .. } | Stage::Resolving { .. } | Stage::Connecting { .. } => None,
        }
    }

    pub fn save(&self) -> SavedLink<'_> {
        let socket = self.descriptor();
        SavedLink {
            socket: socket.and_then(|socket| u64::try_from(socket.as_raw_fd()).ok()),
            until: match self.stage {
                Stage::Resting { until } => until,
                Stage::Resolving { .. } | Stage::Connecting { .. } | Stage::Open(_) => 0,
            },
            tries: self.tries,
            first: self.first as u64,
            opened: self.opened,
            // A link that is made again starts from scratch.
            input: socket.map_or(&[], |_| self.input()),
        }
    }

    /// A link as it was saved, but for its socket.
    pub fn restore(
        target: Arc<RedisTarget>,
        token: Token,
        seed: u64,
        saved: &SavedLink,
    ) -> RedisLink {
        RedisLink {
            stage: Stage::Resting { until: saved.until },
            tries: saved.tries,
            // It counts on forever, and what counts is its remainder.
            first: saved.first as usize,
            opened: saved.opened,
            ..RedisLink::new(target, token, seed)
        }
    }

    /// Goes on with a socket that was handed over, and with what had been read from it.
    ///
    /// # Errors
    /// The poll does not take it.
    pub fn resume(
        &mut self,
        mut socket: RedisSocket,
        input: &[u8],
        registry: &Registry,
    ) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(socket.source(), self.token, interest)?;
        self.stage = Stage::Open(socket);
        self.input = input.to_vec();
        self.starved = input.is_empty();
        self.unread = true;
        Ok(())
    }

    /// Removes from `out` what the kernel has taken.
    pub fn forget_sent(&mut self, out: &mut Vec<u8>) {
        out.drain(..self.sent.min(out.len()));
        self.sent = 0;
    }

    /// The server that the link goes to.
    pub fn target(&self) -> &RedisTarget {
        &self.target
    }
}
