//! Reports of questions, answers, and commands that need no question.
//!
//! Owns: which listener gets what of them. Knows: grants. Never knows: what an answer leads to.

use super::emit_to_taps;
use crate::connection::Stream;
use crate::effect::{Answer, ConnId, Verdict};
use crate::hub::grants::{Known, Remembrance};
use crate::hub::state::Hub;
use crate::metrics;
use crate::wire::answer_fields::Asked;
use crate::wire::command::Verb;

/// The authorizer is asked.
pub fn asked<S: Stream>(hub: &mut Hub<S>, id: ConnId, asked: Asked, channel: Option<&str>) {
    hub.listeners.metrics.questions.add(asked.as_str());
    emit_to_taps(hub, "question", Some(id), channel, |line| {
        line.text("command", asked.as_str());
    });
}

/// The authorizer has answered, perhaps for a connection that is gone.
pub fn verdict<S: Stream>(hub: &mut Hub<S>, answer: &Answer) {
    let metrics = &mut hub.listeners.metrics;
    metrics.verdict_time.observe(answer.took);
    metrics.verdicts.add(answer.verdict.as_str());
    let class = metrics::answer_class(answer.status);
    metrics.authorizer_answers.add(class);
    if answer.questions_in_call > 0 {
        let size = u64::from(answer.questions_in_call);
        metrics.batch_size.observe(size);
    }
}

/// The authorizer need not be asked about a command.
pub fn known<S: Stream>(hub: &mut Hub<S>, id: ConnId, verb: Verb, channel: &str, known: &Known) {
    let (by, verdict) = match known {
        Known::Allow => ("allow", Verdict::Allow),
        Known::Remembered(Remembrance::Yes) => ("max_age", Verdict::Allow),
        Known::Remembered(Remembrance::No(_)) => ("max_age", Verdict::Deny),
    };
    hub.listeners.metrics.unasked.add(by);
    if hub.listeners.taps.is_empty() {
        return;
    }
    let pattern = hub.grants.pattern(id.slot, verb, channel);
    let pattern = pattern.map(str::to_owned);
    emit_to_taps(hub, "verdict", Some(id), Some(channel), |line| {
        line.text("command", verb.as_str());
        line.text("verdict", verdict.as_str());
        line.text("by", by);
        if let Some(pattern) = &pattern {
            line.text("pattern", pattern);
        }
    });
}
