//! Values that name and count what waits: a stretch of a run, sums of bytes.

/// A stretch of a shared run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    pub run: u32,
    pub from: u32,
    pub to: u32,
}

impl Slice {
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }
}

/// What waits to be sent, of many connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub bytes: usize,
    /// Of these, those that are not shared.
    pub own: usize,
    /// Outboxes whose socket takes nothing more.
    pub blocked: usize,
}

impl Waits {
    /// Replaces one connection's part of the sum.
    pub(super) fn replace(&mut self, old: Waits, new: Waits) {
        self.bytes = self.bytes - old.bytes + new.bytes;
        self.own = self.own - old.own + new.own;
        self.blocked = self.blocked - old.blocked + new.blocked;
    }
}
