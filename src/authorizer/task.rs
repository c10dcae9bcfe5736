//! A question on its way through the pool.
//!
//! Owns: when it was asked. Knows: how it is answered where it is not put. Never knows: where it waits.

use std::time::Instant;

use crate::effect::{Answer, Question};

/// A question, and when it was asked.
pub(super) struct Task {
    pub(super) question: Question,
    pub(super) asked: Instant,
}

impl Task {
    pub(super) fn unanswered(self, trouble: &str) -> Answer {
        let trouble = trouble.to_owned();
        Answer::unavailable(self.question.from, trouble, self.asked.elapsed())
            .returning(self.question)
    }
}
