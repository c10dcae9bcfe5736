//! What is reported of an authorizer that fails: two log lines for an outage, and what becomes of questions meanwhile.
//!
//! Owns: which listener gets what. Knows: answers, and connections that wait. Never knows: whether the authorizer is down.

use super::emit_to_taps;
use crate::config::AuthorizerFailure;
use crate::connection::Stream;
use crate::effect::{Answer, ConnId, Verdict};
use crate::hub::state::Hub;
use crate::log::Value;
use crate::wire::answer_fields::Asked;
use crate::wire::command::Verb;

/// The authorizer has answered a question, or failed to. With `close` this alone shows an outage.
pub fn answered<S: Stream>(hub: &mut Hub<S>, answer: &Answer) {
    if let Some(kind) = answer.failure() {
        hub.listeners.metrics.authorizer_failures.add(kind);
    }
    let down = answer.verdict == Verdict::Unavailable;
    match hub.outage.failure() {
        AuthorizerFailure::Close if down => went_down(hub, answer),
        AuthorizerFailure::Close => came_back(hub),
        AuthorizerFailure::Reject | AuthorizerFailure::Hold if down => question_failed(hub, answer),
        AuthorizerFailure::Reject | AuthorizerFailure::Hold => {}
    }
}

/// The authorizer is down from now on, if it was not before.
pub fn went_down<S: Stream>(hub: &mut Hub<S>, answer: &Answer) {
    if let Some(left_out) = hub.listeners.outages.begin(hub.clock.now) {
        let reason = answer.trouble.as_deref().unwrap_or("unknown");
        let failure = hub.outage.failure();
        let message = match failure {
            AuthorizerFailure::Close => {
                "the authorizer is down: upgrades get 503, and clients whose commands need it are closed with 1013"
            }
            AuthorizerFailure::Reject => {
                "the authorizer is down: upgrades get 503, and commands that need it get the error authorizer_down"
            }
            AuthorizerFailure::Hold => {
                "the authorizer is down: upgrades and commands that need it wait, up to --authorizer-hold"
            }
        };
        let fields = [
            ("reason", Value::Text(reason)),
            ("url", Value::Text(&hub.settings.authorizer_url)),
            ("then", Value::Text(failure.as_str())),
            ("outages_left_out", Value::Number(left_out)),
        ];
        let shown = if left_out > 0 { 4 } else { 3 };
        let fields = fields.get(..shown).unwrap_or_default();
        hub.listeners.log.error(message, fields);
    }
}

/// An answer has come, perhaps after an outage.
pub fn came_back<S: Stream>(hub: &mut Hub<S>) {
    if let Some(time) = hub.listeners.outages.end(hub.clock.now) {
        let fields = [
            ("down_ms", Value::Number(time)),
            ("held", Value::Number(hub.outage.held() as u64)),
        ];
        hub.listeners
            .log
            .info("the authorizer answers again", &fields);
    }
}

/// A question has failed, which is not an outage yet.
fn question_failed<S: Stream>(hub: &mut Hub<S>, answer: &Answer) {
    if !hub.outage.is_down()
        && let Some(left_out) = hub.listeners.failed_questions.admit(hub.clock.now)
    {
        let reason = answer.trouble.as_deref().unwrap_or("unknown");
        let fields = [
            ("reason", Value::Text(reason)),
            ("left_out", Value::Number(left_out)),
        ];
        hub.listeners
            .log
            .warn("a question to the authorizer has failed", &fields);
    }
}

/// A question is not put: the authorizer is down.
pub fn refused<S: Stream>(hub: &mut Hub<S>) {
    hub.listeners.metrics.authorizer_failures.add("refused");
}

/// A command was not done and its connection is closed, because the authorizer is down.
pub fn command_abandoned<S: Stream>(hub: &mut Hub<S>, verb: Verb) {
    let outcome = [verb.as_str(), "unavailable"];
    hub.listeners.metrics.commands.add(outcome);
}

/// A question waits until it can be asked.
pub fn held<S: Stream>(hub: &mut Hub<S>, id: ConnId, asked: Asked, reason: &str) {
    waits(hub, "held", id, asked, Some(reason));
}

/// A question that waited is being asked.
pub fn asked_again<S: Stream>(hub: &mut Hub<S>, id: ConnId, asked: Asked) {
    waits(hub, "asked", id, asked, None);
}

fn waits<S: Stream>(hub: &mut Hub<S>, event: &str, id: ConnId, asked: Asked, reason: Option<&str>) {
    if hub.listeners.taps.is_empty() {
        return;
    }
    let failures: u64 = hub.outage.failures(id).into();
    let connection = hub.roster.get(id);
    let command = connection.and_then(|c| c.command());
    let channel = command.map(|(command, message)| command.channel(message).to_owned());
    emit_to_taps(hub, event, Some(id), channel.as_deref(), |line| {
        line.text("command", asked.as_str());
        line.number("failed", failures);
        if let Some(reason) = reason {
            line.text("reason", reason);
        }
    });
}
