//! A connection that is refused: malformed, too late, evicted, or over the memory budget.
//!
//! Owns: the answer to its client, if one waits for it. Knows: phases. Never knows: why the hub refuses it.

use super::Ending;
use super::input::{Input, NextInput};
use super::phase::Phase;
use super::session::Session;
use crate::buffers::Outbox;
use crate::clock::Clock;
use crate::wire::handshake;
use crate::wire::http::{self, Refusal, ReplyOptions, Status};

impl Session {
    /// Discards the input. A client that waits for an answer is sent `503`. `retry_after` is in seconds.
    pub fn overload(&mut self, retry_after: String, outbox: &mut Outbox, clock: &Clock) {
        match &self.phase {
            Phase::Closing(_) => self.over = true,
            Phase::Body(body) if body.is_skipping() => {
                self.linger(Ending::Overloaded, clock.now);
            }
            _ => {
                let message = "the server is out of queue memory: come back later";
                let refusal = Refusal::new(Status::Unavailable, "overloaded", message)
                    .with("Retry-After", retry_after);
                self.refuse(refusal, Ending::Overloaded, outbox, clock);
            }
        }
    }

    /// Ends it because its file descriptor is needed. A client that waits for an answer, or has received none yet, is
    /// sent `503`, to be flushed at once. `retry_after` is in seconds.
    pub fn evict(&mut self, retry_after: String, outbox: &mut Outbox, clock: &Clock) {
        let waits = match &self.phase {
            Phase::Request(head) => head.is_unanswered(),
            Phase::Body(body) => !body.is_skipping(),
            _ => false,
        };
        // An answer that is being sent is not mixed with another.
        if waits && outbox.is_empty() {
            let full = "the server is full: come back later, and send the request at once";
            let refusal =
                Refusal::new(Status::Unavailable, "full", full).with("Retry-After", retry_after);
            self.refuse(refusal, Ending::NoRoom, outbox, clock);
        }
    }

    /// The body is malformed, or too long. All of the input is used, as the body's end is unknown.
    pub(super) fn body_failed(
        &mut self,
        refusal: Refusal,
        all: usize,
        outbox: &mut Outbox,
        clock: &Clock,
    ) -> NextInput {
        let Phase::Body(body) = &mut self.phase else {
            return NextInput::wait(all);
        };
        if body.is_of_upgrade() {
            let refusal = match refusal.status {
                Status::ContentTooLarge => handshake::has_body(),
                _ => refusal,
            };
            self.refuse(refusal, Ending::BadRequest, outbox, clock);
            return NextInput::wait(all);
        }
        let exchange = body.take_exchange();
        self.linger(Ending::BadRequest, clock.now);
        let input = exchange.map(|exchange| Input::BadBody(exchange, refusal));
        NextInput { used: all, input }
    }

    /// Answers what was not a complete request, and ends.
    pub(super) fn refuse(
        &mut self,
        refusal: Refusal,
        ending: Ending,
        outbox: &mut Outbox,
        clock: &Clock,
    ) {
        outbox
            .own(|out| http::respond(out, &refusal.reply(), ReplyOptions::LAST, Some(&clock.date)));
        self.linger(ending, clock.now);
    }
}
