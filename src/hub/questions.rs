//! Questions on their way to the authorizer: put, held, asked again, taken back.
//!
//! Owns: the way of a question until its answer is final. Knows: the [outage](super::outage), which decides, and the memory
//! budget. Never knows: what a question says, or what an answer does ([`super::permission`]).

use super::outage::{Admission, OutageChange};
use super::report::{asking, outage as report};
use super::state::Hub;
use crate::clock::millis;
use crate::connection::Stream;
use crate::effect::{Answer, ConnId, Effect, Question, Verdict};
use crate::wire::question;

/// Questions that are let out between two polls: a crowd that waits for an authorizer that is back is not a burst of
/// work.
const ASKED: usize = 64;

/// Has a question put, for a connection that waits for the answer already. Returns false if it is refused at once.
pub fn put<S: Stream>(hub: &mut Hub<S>, mut question: Question, channel: Option<&str>) -> bool {
    let (from, asked) = (question.from, question.asked);
    if hub.outage.holds() {
        let id = u128::from(hub.random.any()) << 64 | u128::from(hub.random.any());
        question::add_id(&mut question.body, id);
    }
    let room = hub.usage.memory.room_in();
    match hub.outage.admit(question, room, hub.clock.now) {
        Admission::Ask(question) => {
            asking::asked(hub, from, asked, channel);
            hub.effects.push_back(Effect::Ask(question));
        }
        Admission::Wait => {
            asking::asked(hub, from, asked, channel);
            mark_as_held(hub, from);
            report::held(hub, from, asked, "the authorizer is down");
        }
        Admission::Refuse => {
            report::refused(hub);
            return false;
        }
    }
    true
}

/// A question of this connection waits in the hub.
fn mark_as_held<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    hub.usage.memory.set_held_bytes(hub.outage.bytes());
    if let Some(connection) = hub.roster.get(id) {
        connection.set_asking(true);
        if hub.outage.holds() {
            connection.hold(hub.clock.now);
        }
    }
}

/// An answer has come, for whichever connection: what it says about the authorizer.
pub fn note_answer<S: Stream>(hub: &mut Hub<S>, answer: &Answer) {
    let now = hub.clock.now;
    let change = hub.outage.note_answer(answer, now, &mut hub.random);
    report::answered(hub, answer);
    match change {
        Some(OutageChange::Down) => {
            hub.effects.push_back(Effect::Recall);
            report::went_down(hub, answer);
        }
        Some(OutageChange::Up) => report::came_back(hub),
        None => {}
    }
}

/// Holds the question of a connection that waits, if it has failed and is to be asked again. Otherwise the answer is final.
pub fn hold<S: Stream>(hub: &mut Hub<S>, mut answer: Answer) -> Option<Answer> {
    let (id, now) = (answer.to, hub.clock.now);
    let holds = hub.outage.holds() && answer.verdict == Verdict::Unavailable;
    if let Some(mut question) = answer.question.take_if(|_| holds) {
        let asked = question.asked;
        // What made a whole call fail is to keep no other question from its answer.
        question.alone |= answer.call_failed;
        let since = now.saturating_sub(millis(answer.took));
        let room = hub.usage.memory.room_in();
        let random = &mut hub.random;
        if hub.outage.hold(question, since, room, now, random) {
            mark_as_held(hub, id);
            let trouble = answer.trouble.as_deref().unwrap_or("unknown");
            report::held(hub, id, asked, trouble);
            return None;
        }
    }
    if !hub.outage.is_idle() {
        hub.outage.settled(id);
        hub.usage.memory.set_held_bytes(hub.outage.bytes());
    }
    Some(answer)
}

/// Lets out what waits and may be asked now.
pub fn advance<S: Stream>(hub: &mut Hub<S>) {
    let now = hub.clock.now;
    if hub.outage.is_idle() {
        return;
    }
    hub.outage.end_pauses(now);
    for _ in 0..ASKED {
        let Some(question) = hub.outage.next(now) else {
            return;
        };
        report::asked_again(hub, question.from, question.asked);
        hub.effects.push_back(Effect::Ask(question));
    }
}

/// Takes a question back that is of no use any more.
pub fn withdraw<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    if hub.outage.forget(id) {
        hub.effects.push_back(Effect::Withdraw(id));
    }
    hub.usage.memory.set_held_bytes(hub.outage.bytes());
}
