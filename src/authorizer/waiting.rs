//! The queue: questions that wait for a worker.
//!
//! Owns: their order. Knows: a connection has one open question at most. Never knows: workers, time.
//!
//! Decision: a tree of tickets beside a table of connections, over a queue that leaves holes where questions were taken
//! back. Because both ends and any place in it are found in logarithmic time, and a crowd that comes and goes leaves nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::task::Task;
use crate::effect::ConnId;

/// Questions that wait, the oldest first.
#[derive(Default)]
pub(super) struct Waiting {
    tasks: BTreeMap<u64, Task>,
    /// The ticket of each connection's question. A connection has one open question at most.
    tickets: HashMap<ConnId, u64>,
    next_ticket: u64,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        let (_, task) = self.tasks.first_key_value()?;
        Some(task.asked)
    }

    pub(super) fn push(&mut self, task: Task) {
        self.tickets.insert(task.question.from, self.next_ticket);
        self.tasks.insert(self.next_ticket, task);
        self.next_ticket += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Task> {
        let (_, task) = self.tasks.pop_first()?;
        self.tickets.remove(&task.question.from);
        Some(task)
    }

    pub(super) fn remove(&mut self, from: ConnId) {
        if let Some(ticket) = self.tickets.remove(&from) {
            self.tasks.remove(&ticket);
        }
    }
}
