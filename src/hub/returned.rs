//! What the broker has not published because its channel's slot has moved, and is to be handed out again.
//!
//! Owns: these publications, in their order, and when it is worth looking at them. Never knows: whether one can be
//! published now.

use std::collections::VecDeque;

use crate::clock::Millis;
use crate::effect::Publication;

/// How long a publication may take to be confirmed (`docs/api.md#broadcast`).
const PUBLISH_TIMEOUT: Millis = 5_000;
/// More publications than these are looked at only when something has changed at the broker.
const MANY: usize = 512;

#[derive(Debug, Default)]
pub struct Returned {
    waiting: VecDeque<Publication>,
    /// The earliest [`Publication::since`] of them.
    oldest: Option<Millis>,
    /// Something has changed since they were last looked at.
    due: bool,
}

impl Returned {
    /// Keeps a publication behind the others.
    pub fn push(&mut self, publication: Publication) {
        let since = publication.since;
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
        self.waiting.push_back(publication);
    }

    /// Something has changed at the broker: all are worth a look.
    pub fn mark_due(&mut self) {
        self.due = true;
    }

    /// Takes all, if it is worth looking at them. Those that still have to wait are to be pushed again.
    pub fn take_all(&mut self, now: Millis) -> VecDeque<Publication> {
        let many = self.waiting.len() > MANY;
        if many && !self.due && self.next_deadline().is_none_or(|at| now < at) {
            return VecDeque::new();
        }
        self.due = false;
        self.oldest = None;
        std::mem::take(&mut self.waiting)
    }

    /// Whether a publication has waited for too long to be handed out again.
    pub fn is_overdue(publication: &Publication, now: Millis) -> bool {
        now >= publication.since.saturating_add(PUBLISH_TIMEOUT)
    }

    /// When the first of them has waited for too long.
    pub fn next_deadline(&self) -> Option<Millis> {
        let oldest = self.oldest;
        oldest.map(|since| since.saturating_add(PUBLISH_TIMEOUT))
    }

    /// All of them, in their order.
    pub fn all(&self) -> impl Iterator<Item = &Publication> {
        self.waiting.iter()
    }
}
