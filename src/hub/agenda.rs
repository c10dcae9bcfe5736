//! Which connections and audiences have work. All of it could be derived from the facts; it is kept so that no search
//! is needed.
//!
//! Owns: the lists and the deadline wheel. Knows: the [marks](crate::connection::Marks) by which a connection knows that it
//! is in a list. Never knows: why a connection has work, or what is done with it.
//!
//! One door of the hub works off each list: `turns` the lists `again` and `released`, `fan_out` `serving`, `flush`
//! `dirty`, `reap` `to_drop`, and `expire` the wheel.

use std::collections::VecDeque;

use super::channels::Released;
use super::deadlines::Deadlines;
use super::memberships::AudienceId;
use crate::clock::Millis;
use crate::connection::{Connection, Limits, Stream};
use crate::effect::ConnId;

/// Entries of one list in [`ToDrop`].
const LIST: usize = 1024;

/// Connections to be dropped, in short lists, the oldest first. A single long list would have to be moved as it grows,
/// which takes milliseconds when many clients leave at once.
#[derive(Debug, Default)]
struct ToDrop(VecDeque<Vec<ConnId>>);

impl ToDrop {
    fn push(&mut self, id: ConnId) {
        match self.0.back_mut() {
            Some(list) if list.len() < LIST => list.push(id),
            _ => self.0.push_back(vec![id]),
        }
    }

    fn pop(&mut self) -> Option<ConnId> {
        let list = self.0.front_mut()?;
        let id = list.pop();
        // The last list is kept, so that a steady coming and going allocates nothing.
        if list.is_empty() && self.0.len() > 1 {
            self.0.pop_front();
        }
        id
    }

    fn is_empty(&self) -> bool {
        self.0.front().is_none_or(Vec::is_empty)
    }
}

#[derive(Debug, Default)]
pub struct Agenda {
    /// Connections with work that the poll will not report.
    again: VecDeque<ConnId>,
    /// Connections that have waited for a channel and may try again.
    pub released: VecDeque<Released>,
    /// Audiences with a batch to be sent.
    pub serving: VecDeque<AudienceId>,
    /// Connections with something in the outbox.
    pub dirty: Vec<ConnId>,
    to_drop: ToDrop,
    deadlines: Deadlines,
    /// Due entries of the wheel; empty between two turns, but for its memory.
    due: Vec<(u32, u32)>,
    /// Requests and messages handled in this part of the turn.
    handled: usize,
    /// Audiences were left over at the end of the last turn.
    pub fanning_out: bool,
}

impl Agenda {
    /// Whether something is left to be done before anything else happens.
    pub fn has_work(&self) -> bool {
        !self.again.is_empty()
            || !self.released.is_empty()
            || !self.serving.is_empty()
            || !self.dirty.is_empty()
            || !self.to_drop.is_empty()
    }

    /// Requests and messages handled in this part of the turn, or what counts for as many.
    pub fn handled(&self) -> usize {
        self.handled
    }

    /// Something was handled that counts for this many requests or messages.
    pub fn count(&mut self, cost: usize) {
        self.handled = self.handled.saturating_add(cost);
    }

    /// Another part of the turn begins.
    pub fn count_anew(&mut self) {
        self.handled = 0;
    }

    /// The wheel begins at this time, and has no entry yet.
    pub fn begin_at(&mut self, now: Millis) {
        self.deadlines = Deadlines::beginning_at(now);
    }

    /// When the next entry of the wheel is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.next_due()
    }

    /// Has a connection flushed.
    #[inline(always)]
    pub fn flush<S: Stream>(&mut self, id: ConnId, connection: &mut Connection<S>) {
        if !std::mem::replace(&mut connection.marks().dirty, true) {
            self.dirty.push(id);
        }
    }

    /// Gives a connection a turn although the poll will report nothing.
    #[inline(always)]
    pub fn again<S: Stream>(&mut self, id: ConnId, connection: &mut Connection<S>) {
        if !std::mem::replace(&mut connection.marks().again, true) {
            self.again.push_back(id);
        }
    }

    /// How many wait for a turn.
    pub fn waiting(&self) -> usize {
        self.again.len()
    }

    /// The next connection that waits for a turn. The caller clears its mark.
    pub fn next_again(&mut self) -> Option<ConnId> {
        self.again.pop_front()
    }

    /// Has a connection dropped.
    pub fn drop<S: Stream>(&mut self, id: ConnId, connection: &mut Connection<S>) {
        if !std::mem::replace(&mut connection.marks().to_drop, true) {
            self.to_drop.push(id);
        }
    }

    /// The next connection to be dropped.
    pub fn next_to_drop(&mut self) -> Option<ConnId> {
        self.to_drop.pop()
    }

    /// Enters a connection's deadline into the wheel, unless an earlier entry exists. `refresh` is when the authorizer is
    /// to be asked about it again, which has to wait while something of it is suspended.
    #[inline(always)]
    pub fn watch<S: Stream>(
        &mut self,
        id: ConnId,
        connection: &mut Connection<S>,
        refresh: Option<Millis>,
        now: Millis,
        limits: &Limits,
    ) {
        let refresh = refresh.filter(|_| connection.is_open() && connection.is_listening());
        let own = connection.deadline(now, limits);
        if let Some(at) = own.into_iter().chain(refresh).min() {
            let alarm = &mut connection.marks().alarm;
            if *alarm == 0 || Deadlines::is_before(at, *alarm) {
                *alarm = self.deadlines.insert(id.slot, at);
            }
        }
    }

    /// Takes at most `most` due entries out of the wheel: slots, each with the step it was put in. The caller returns
    /// the vector, empty, with [`Agenda::give_back`].
    pub fn take_due(&mut self, now: Millis, most: usize) -> Vec<(u32, u32)> {
        let mut due = std::mem::take(&mut self.due);
        self.deadlines.take_due(now, most, &mut due);
        due
    }

    /// Keeps the memory of what [`Agenda::take_due`] took.
    pub fn give_back(&mut self, due: Vec<(u32, u32)>) {
        self.due = due;
    }
}
