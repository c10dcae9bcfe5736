//! The queue: questions that wait for a worker.
//!
//! Owns: their order. Knows: a connection has one open question at most. Never knows: workers, time.
//!
//! Decision: a tree of tickets beside a table of connections rather than a queue that leaves holes where questions were
//! taken back, because both ends and any place in it are found in logarithmic time, and a crowd that comes and goes
//! leaves nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::task::Task;
use crate::effect::ConnId;

/// Bytes of a call with more than one question (docs/authorizer.md#batches).
const MAX_CALL: usize = 1024 * 1024;

/// Questions that wait, the oldest first.
#[derive(Default)]
pub(super) struct Waiting {
    tasks: BTreeMap<u64, Task>,
    /// The ticket of each connection's question. A connection has one open question at most.
    tickets: HashMap<ConnId, u64>,
    next_ticket: u64,
    /// Questions that are to be alone in their call.
    alone: usize,
    /// Of the others.
    bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// About how many calls it takes to put them all, where each has `batch` questions at most.
    pub(super) fn calls(&self, batch: usize) -> usize {
        match batch {
            0 | 1 => self.len(),
            _ => {
                let others = self.len() - self.alone;
                self.alone + others.div_ceil(batch).max(self.bytes.div_ceil(MAX_CALL))
            }
        }
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        let (_, task) = self.tasks.first_key_value()?;
        Some(task.asked)
    }

    pub(super) fn push(&mut self, task: Task) {
        if task.question.alone {
            self.alone += 1;
        } else {
            self.bytes += task.question.body.len();
        }
        self.tickets.insert(task.question.from, self.next_ticket);
        self.tasks.insert(self.next_ticket, task);
        self.next_ticket += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Task> {
        let (_, task) = self.tasks.pop_first()?;
        self.forget(&task);
        Some(task)
    }

    /// The one that came last.
    pub(super) fn pop_last(&mut self) -> Option<Task> {
        let (_, task) = self.tasks.pop_last()?;
        self.forget(&task);
        Some(task)
    }

    /// Takes the questions of the next call: the oldest, up to `batch`, as many as fit into one. A question that is to be
    /// alone is.
    pub(super) fn take(&mut self, batch: usize) -> Vec<Task> {
        let mut taken: Vec<Task> = Vec::new();
        // Both brackets, and no comma before the first.
        let mut size = 1;
        while let Some((_, next)) = self.tasks.first_key_value() {
            size += next.question.body.len() + 1;
            let alone = next.question.alone;
            let joins = size <= MAX_CALL && taken.len() < batch && !alone;
            if !taken.is_empty() && !joins {
                break;
            }
            taken.extend(self.pop());
            if alone {
                break;
            }
        }
        taken
    }

    pub(super) fn remove(&mut self, from: ConnId) {
        let ticket = self.tickets.get(&from);
        if let Some(task) = ticket.and_then(|ticket| self.tasks.remove(ticket)) {
            self.forget(&task);
        }
    }

    fn forget(&mut self, task: &Task) {
        self.tickets.remove(&task.question.from);
        if task.question.alone {
            self.alone -= 1;
        } else {
            self.bytes -= task.question.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Question;
    use crate::wire::answer_fields::Asked;

    /// Bodies of these lengths; 0 stands for one of 10 bytes that is to be alone.
    fn waiting(lengths: &[usize]) -> Waiting {
        let mut waiting = Waiting::default();
        for (slot, length) in (0..).zip(lengths) {
            let question = Question {
                from: ConnId {
                    slot,
                    generation: 1,
                },
                asked: Asked::Join,
                body: vec![b'1'; if *length == 0 { 10 } else { *length }],
                alone: *length == 0,
            };
            let asked = Instant::now();
            waiting.push(Task { question, asked });
        }
        waiting
    }

    fn batches(mut waiting: Waiting, batch: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        loop {
            match waiting.take(batch).len() {
                0 => break,
                size => sizes.push(size),
            }
        }
        assert_eq!((waiting.alone, waiting.bytes), (0, 0));
        sizes
    }

    #[test]
    fn a_batch_is_the_oldest_questions_that_fit() {
        let half = MAX_CALL / 2;
        for (lengths, batch, sizes) in [
            (&[][..], 3, &[][..]),
            (&[5, 5, 5, 5], 1, &[1, 1, 1, 1]),
            (&[5, 5, 5, 5], 3, &[3, 1]),
            (&[5, 5, 0, 0, 5, 5], 10, &[2, 1, 1, 2]),
            // With brackets and comma exactly a mebibyte, and one byte more.
            (&[half, half - 3], 2, &[2]),
            (&[half, half - 2], 2, &[1, 1]),
            (&[MAX_CALL - 2, 5], 2, &[1, 1]),
            (&[5, MAX_CALL * 2, 5, 5], 4, &[1, 1, 2]),
        ] {
            assert_eq!(batches(waiting(lengths), batch), sizes, "{lengths:?}");
        }
    }

    #[test]
    fn calls_are_counted_by_questions_and_by_bytes() {
        let large = MAX_CALL * 2 / 3;
        for (lengths, batch, calls) in [
            (&[][..], 64, 0),
            (&[5, 5, 0], 1, 3),
            (&[large, large], 1, 2),
            (&[5, 5, 5], 64, 1),
            (&[5, 5, 5], 2, 2),
            (&[0, 5, 0, 5], 64, 3),
            (&[large, large], 64, 2),
        ] {
            assert_eq!(waiting(lengths).calls(batch), calls, "{lengths:?}");
        }
        let mut some = waiting(&[5, 0, 7]);
        for slot in [0, 1, 1, 9] {
            some.remove(ConnId {
                slot,
                generation: 1,
            });
        }
        assert_eq!((some.len(), some.alone, some.bytes), (1, 0, 7));
    }
}
