//! What is logged of the authorizer's answers.
//!
//! Owns: the words. Knows: which lines are throttled. Never knows: what follows from an answer.

use super::listeners::Listeners;
use crate::clock::Millis;
use crate::connection::Stream;
use crate::effect::{Answer, Verdict};
use crate::hub::state::Hub;
use crate::log::{Level, Value};
use crate::wire::answer_fields::WrongField;

/// Logs what an operator looks for: an answer that is not 200, and one that cannot be read or used.
pub(super) fn log<S: Stream>(hub: &mut Hub<S>, answer: &Answer, command: &str) {
    let now = hub.clock.now;
    let listeners = &mut hub.listeners;
    let status = answer.status.unwrap_or_default();
    let shown = Value::Number(status.into());
    if let Some(why) = &answer.unreadable
        && let Some(left_out) = listeners.unreadable.admit(now)
    {
        let line = "the authorizer's answer to a connect cannot be read: the client is admitted without a state";
        warn(listeners, line, left_out, &[("reason", Value::Text(why))]);
    }
    for wrong in &answer.wrong {
        log_wrong_field(listeners, now, wrong, command, status);
    }
    if answer.verdict == Verdict::Deny
        && (200..300).contains(&status)
        && let Some(left_out) = listeners.other_2xx.admit(now)
    {
        let line = "the authorizer answers with a 2xx other than 200, which counts as a no: answer 200 to allow";
        let fields = [("status", shown), ("command", Value::Text(command))];
        warn(listeners, line, left_out, &fields);
    }
    if answer.status.is_some_and(|status| status != 200) && listeners.log.enabled(Level::Debug) {
        let subject = hub.roster.subject(answer.to);
        let fields = [
            ("status", shown),
            ("verdict", Value::Text(answer.verdict.as_str())),
            ("command", Value::Text(command)),
            ("connection", Value::Shown(&subject.id)),
        ];
        let line = "the authorizer's answer is not 200";
        listeners.log.debug(line, &fields);
    }
}

/// Logs a field that cannot be used, once a minute for each.
fn log_wrong_field(
    listeners: &mut Listeners,
    now: Millis,
    wrong: &WrongField,
    command: &str,
    status: u16,
) {
    let throttle = listeners.wrong_fields.get_mut(wrong.field as usize);
    let Some(left_out) = throttle.and_then(|it| it.admit(now)) else {
        return;
    };
    let line = match status {
        200 => {
            "the authorizer's answer has a wrong field: it counts as a failure, and none of it is used"
        }
        _ => "the authorizer's refusal has a wrong field, which is not used: the refusal stands",
    };
    let fields = [
        ("field", Value::Text(wrong.field.as_str())),
        ("value", Value::Text(&wrong.value)),
        ("reason", Value::Text(&wrong.why)),
        ("command", Value::Text(command)),
        ("status", Value::Number(status.into())),
    ];
    warn(listeners, line, left_out, &fields);
}

/// Logs a line, with the number of those left out before it, if there are any.
fn warn(listeners: &Listeners, line: &str, left_out: u64, fields: &[(&str, Value)]) {
    let mut fields = fields.to_vec();
    if left_out > 0 {
        fields.push(("left_out", Value::Number(left_out)));
    }
    listeners.log.warn(line, &fields);
}
