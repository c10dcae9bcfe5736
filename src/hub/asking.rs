//! Questions to the authorizer, from the connection's side: when one is asked, when it is taken back, what is reported of
//! its answer.
//!
//! Owns: which connections have an open question, and when the log last said something of answers.
//! Knows: a connection's two ways to end its stream. Never knows: what an answer means for an upgrade or a command.
//!
//! Decision: a reset connection counts as gone while its question is open, over serving it to the end. Because a crowd that
//! has given up would otherwise keep the workers and its places from the clients that are there. A connection that has only
//! shut down its sending side behind a message still waits for what becomes of it, and is heard to the end.

use super::Hub;
use crate::buffers::Inbox;
use crate::clock::Millis;
use crate::connection::{Ending, Filled, Stream};
use crate::effect::{Answer, ConnId, Effect, Question, Verdict};
use crate::log::{Level, Value};
use crate::metrics;

/// The log mentions answers that are not as they should be once in this time, of each kind.
const SELDOM: Millis = 60_000;

/// When the log said something last.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    other_2xx: Option<Millis>,
    unreadable: Option<Millis>,
}

impl<S: Stream> Hub<S> {
    /// Has the authorizer asked about a connection, which then waits for the answer. It asks nothing else meanwhile, and
    /// nothing at all once it has taken a question back: a late answer can be taken for no other one's.
    pub(super) fn ask(&mut self, id: ConnId, wants_state: bool, body: Vec<u8>) {
        if let Some(connection) = self.registry.get(id)
            && !connection.was_reset()
        {
            connection.asking = true;
            self.effects.push_back(Effect::Ask(Question {
                from: id,
                wants_state,
                body,
            }));
        }
    }

    /// Whether the connection still wants the answer that has come for it, which it then has.
    pub(super) fn takes_answer(&mut self, id: ConnId) -> bool {
        self.registry.get(id).is_some_and(|connection| {
            std::mem::take(&mut connection.asking) && connection.session.awaits_verdict()
        })
    }

    /// Takes the question of a connection back if it is of no use any more. Ends a connection that was reset.
    pub(super) fn watch_question(&mut self, id: ConnId) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if connection.session.awaits_verdict() && connection.was_reset() {
            connection.session.fail(Ending::Reset);
            connection.inbox = Inbox::default();
        }
        if connection.asking && !connection.session.awaits_verdict() {
            connection.asking = false;
            self.effects.push_back(Effect::Withdraw(id));
        }
    }

    /// Looks, while the authorizer is asked about an upgrade, whether anything is behind the request of a client that sends
    /// no more. If there is nothing, the client has left; otherwise it is heard to the end.
    pub(super) fn look_behind_upgrade(&mut self, id: ConnId, buffer: &mut [u8]) {
        let now = self.clock.now;
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if connection.session.upgrading().is_none() || !connection.inbox.is_empty() {
            return;
        }
        match connection.fill(buffer, now) {
            Filled::Bytes(count) => {
                self.metrics.received = self.metrics.received.saturating_add(count as u64);
                self.access.read(id.slot, count);
                let fresh = buffer.get(..count).unwrap_or_default();
                connection.inbox.append(fresh);
            }
            Filled::Nothing => {}
            Filled::End => {
                connection.session.take_authorizing();
                connection.session.ended(&connection.outbox, now);
            }
            Filled::Broken => connection.session.fail(Ending::Reset),
        }
    }

    /// Counts an answer, even one that comes too late.
    pub(super) fn count_answer(&mut self, answer: &Answer) {
        self.metrics.verdict_time.observe(answer.took);
        self.metrics.verdicts.add(answer.verdict.as_str());
        let class = metrics::answer_class(answer.status);
        self.metrics.authorizer_answers.add(class);
    }

    /// Logs what an operator would look for: an answer that is not 200, and one that cannot be read.
    pub(super) fn log_answer(&mut self, answer: &Answer, command: &str) {
        let now = self.clock.now;
        let is_due =
            |last: Option<Millis>| last.is_none_or(|last| now >= last.saturating_add(SELDOM));
        let status = answer.status.unwrap_or_default();
        let said = Value::Number(status.into());
        if let Some(why) = &answer.unreadable
            && is_due(self.mentions.unreadable)
        {
            self.mentions.unreadable = Some(now);
            self.log.warn(
                "the authorizer's answer to a connect cannot be read: the client is let in without a state",
                &[("reason", Value::Text(why))],
            );
        }
        if answer.verdict == Verdict::Deny
            && (200..300).contains(&status)
            && is_due(self.mentions.other_2xx)
        {
            self.mentions.other_2xx = Some(now);
            self.log.warn(
                "the authorizer answers with a 2xx that is not 200, which is a no: only 200 is a yes",
                &[("status", said), ("command", Value::Text(command))],
            );
        }
        if answer.status.is_some_and(|status| status != 200) && self.log.enabled(Level::Debug) {
            let (name, _) = self.subject(answer.to);
            let fields = [
                ("status", said),
                ("verdict", Value::Text(answer.verdict.as_str())),
                ("command", Value::Text(command)),
                ("connection", Value::Shown(&name)),
            ];
            self.log
                .debug("the authorizer's answer is not 200", &fields);
        }
    }
}
