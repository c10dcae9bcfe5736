//! How a connection ends: by its client, by the hub, because of a limit or a stop.
//!
//! Owns: what becomes of its input and its output then. Knows: the session. Never knows: why the hub ends it.

use super::{Awaits, Connection, Ending, Stream};
use crate::buffers::{Inbox, Runs};
use crate::clock::{Clock, Millis};

impl<S: Stream> Connection<S> {
    /// Ends it, because its file descriptor is needed. An answer to its client is sent at once, or not at all.
    pub fn evict(&mut self, retry_after: String, runs: &mut Runs, clock: &Clock) {
        self.session.evict(retry_after, &mut self.outbox, clock);
        self.flush(runs, clock.now);
        self.session.fail(Ending::NoRoom);
    }

    /// Ends a request, because too many bytes are buffered; a WebSocket is closed instead.
    pub fn overload(&mut self, retry_after: String, clock: &Clock) {
        self.session.overload(retry_after, &mut self.outbox, clock);
    }

    /// Discards the input that was not used.
    pub fn forget_input(&mut self) {
        self.inbox = Inbox::default();
    }

    /// It is to be closed because the server stops, once the open question is answered, and what has come is handled.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether it is to be closed now because the server stops.
    pub fn is_to_stop(&self) -> bool {
        self.stopping && !self.session.is_command_suspended() && !self.has_work()
    }

    /// Ends it at once.
    pub fn fail(&mut self, ending: Ending) {
        self.session.fail(ending);
    }

    /// The client has ended the stream, or the connection, and what waits for the authorizer is forgotten.
    pub fn abandon(&mut self, now: Millis) {
        self.session.resume(Awaits::Verdict, now);
        self.forget_input();
        self.ended(now);
    }

    /// The client has ended the stream.
    pub fn ended(&mut self, now: Millis) {
        self.session.ended(&self.outbox, now);
    }

    /// Begins the end of a WebSocket: puts the close frame behind what waits. `reason` takes the place of the ending's own.
    pub fn close(&mut self, ending: Ending, reason: Option<&str>, now: Millis) {
        self.session.close(ending, reason, &mut self.outbox, now);
    }

    /// Discards everything that waits to be sent.
    pub fn clear(&mut self, runs: &mut Runs) {
        self.outbox.clear(runs);
    }
}
