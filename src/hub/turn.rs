//! One turn of a connection: reads its input, and passes each input to its handler.
//!
//! Owns: how much one connection may do in a turn, and all of them together. Knows: inputs. Never knows: answers.

use super::agenda::Agenda;
use super::commands;
use super::endpoints;
use super::permission;
use super::replies;
use super::settle::{abandon, close, end_of_stream, settle};
use super::state::Hub;
use crate::connection::{Awaits, Ending, Filled, Input, Peer, Stream};
use crate::effect::ConnId;
use crate::wire::frame::Opcode;

/// Requests or messages of one connection in one turn. So one read of small messages makes one batch, and a flood waits
/// for its next turn. Compressing and inflating count for more.
const INPUTS_PER_TURN: usize = 512;
/// Requests or messages of all connections in one turn of the loop, and again as many of those with work left over. Further
/// connections wait in the again-list.
const INPUTS_PER_LOOP_TURN: usize = 4096;
/// Connections with work left over that get a turn between two polls.
const TURNS: usize = 256;

/// Gives a turn to connections with work that the poll will not report.
pub fn again<S: Stream>(hub: &mut Hub<S>, buffer: &mut [u8]) {
    hub.agenda.count_anew();
    for _ in 0..hub.agenda.waiting().min(TURNS) {
        let Some(id) = Agenda::next_again(&mut hub.agenda) else {
            break;
        };
        if let Some(connection) = hub.roster.get(id) {
            connection.marks().again = false;
            turn(hub, id, buffer);
        }
    }
    hub.agenda.count_anew();
}

/// One turn of a connection: at most one read, and a bounded number of requests or messages.
#[inline(always)]
pub fn turn<S: Stream>(hub: &mut Hub<S>, id: ConnId, buffer: &mut [u8]) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    if !connection.is_listening() {
        if connection.is_held() {
            answer_pings(hub, id, buffer);
            settle(hub, id);
        } else if connection.has_hung_up() {
            check_input_after_upgrade(hub, id, buffer);
            settle(hub, id);
        }
        return;
    }
    if hub.agenda.handled() >= INPUTS_PER_LOOP_TURN {
        return settle(hub, id);
    }
    if !connection.is_starved() {
        handle_inbox(hub, id);
    } else if connection.is_unread() {
        match connection.fill(buffer, hub.clock.now) {
            Filled::Bytes(count) => {
                hub.listeners.received(id.slot, count);
                let fresh = buffer.get_mut(..count).unwrap_or_default();
                if connection.has_input() {
                    connection.keep_input(fresh);
                    handle_inbox(hub, id);
                } else {
                    let used = handle_input(hub, id, fresh);
                    if let Some(connection) = hub.roster.get(id) {
                        connection.keep_input(fresh.get(used..).unwrap_or_default());
                    }
                }
            }
            Filled::Nothing => {}
            Filled::End => end_of_stream(hub, id),
            Filled::Broken => connection.fail(Ending::Reset),
        }
    }
    if hub.roster.get(id).is_some_and(|c| c.has_hung_up()) {
        check_input_after_upgrade(hub, id, buffer);
    }
    settle(hub, id);
}

/// While the authorizer is asked about an upgrade, checks a client that sends no more for input behind its request.
/// Without any, the client has left. Otherwise it is served to the end.
fn check_input_after_upgrade<S: Stream>(hub: &mut Hub<S>, id: ConnId, buffer: &mut [u8]) {
    let now = hub.clock.now;
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    if !connection.is_upgrading() || connection.has_input() {
        return;
    }
    match connection.fill(buffer, now) {
        Filled::Bytes(count) => {
            hub.listeners.received(id.slot, count);
            connection.keep_input(buffer.get(..count).unwrap_or_default());
        }
        Filled::Nothing => {}
        Filled::End => {
            connection.resume(Awaits::Verdict, now);
            connection.ended(now);
        }
        Filled::Broken => connection.fail(Ending::Reset),
    }
}

/// Answers the pings of a client whose question is held, and takes its pongs. Its next message waits, and nothing
/// behind it is read.
fn answer_pings<S: Stream>(hub: &mut Hub<S>, id: ConnId, buffer: &mut [u8]) {
    let (now, limits) = (hub.clock.now, &hub.limits);
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    if !connection.answers_pings() || connection.has_hung_up() {
        return;
    }
    if connection.is_unread() && !connection.has_message() {
        match connection.fill(buffer, now) {
            Filled::Bytes(count) => {
                hub.listeners.received(id.slot, count);
                connection.keep_input(buffer.get(..count).unwrap_or_default());
            }
            Filled::Nothing => {}
            Filled::End => return abandon(hub, id),
            Filled::Broken => return connection.fail(Ending::Reset),
        }
    }
    let mut input = connection.take_input();
    let used = connection.answer_pings(input.bytes(), limits);
    connection.put_input_back(input, used);
}

/// Handles what waits in the inbox.
fn handle_inbox<S: Stream>(hub: &mut Hub<S>, id: ConnId) {
    let Some(connection) = hub.roster.get(id) else {
        return;
    };
    let mut input = connection.take_input();
    let used = handle_input(hub, id, input.bytes());
    if let Some(connection) = hub.roster.get(id) {
        connection.put_input_back(input, used);
    }
}

/// Handles `input`, up to the limit for one turn. Returns how many bytes were used.
fn handle_input<S: Stream>(hub: &mut Hub<S>, id: ConnId, input: &mut [u8]) -> usize {
    let mut used = 0;
    let most = hub.agenda.handled().saturating_add(INPUTS_PER_TURN);
    while hub.agenda.handled() < most {
        if permission::refresh(hub, id) {
            return used;
        }
        let Some(connection) = hub.roster.get(id) else {
            return used;
        };
        if !connection.is_listening() {
            return used;
        }
        let rest = input.get_mut(used..).unwrap_or_default();
        let step = connection.next(rest, &hub.clock, &hub.limits);
        used = used.saturating_add(step.used);
        hub.agenda.count(1);
        match step.input {
            None => return used,
            Some(Input::Introduced(client)) => {
                if let Some(client) = client {
                    connection.introduce(Peer::new(client));
                }
            }
            Some(Input::Request(exchange, head, body)) => {
                let body = body.and_then(|range| rest.get(range));
                endpoints::request(hub, id, exchange, head, body);
            }
            Some(Input::Body(exchange, payload)) => {
                endpoints::body(hub, id, exchange, payload.of(rest));
            }
            Some(Input::BadBody(exchange, refusal)) => {
                // Its end is unknown.
                replies::refuse_and_close(hub, id, exchange, refusal);
            }
            Some(Input::Said(_, payload)) => said(hub, id, payload.of(rest)),
            Some(Input::Compressed(kind, payload)) => {
                compressed(hub, id, kind, payload.of(rest));
            }
            Some(Input::Bye(ending)) => close(hub, id, ending),
        }
    }
    used
}

/// A client's message: read, allowed, done.
#[inline]
fn said<S: Stream>(hub: &mut Hub<S>, id: ConnId, message: &[u8]) {
    if let Some(command) = commands::read(hub, id, message)
        && let Some(command) = permission::for_command(hub, id, command, message)
    {
        commands::perform(hub, id, command, message);
    }
}

/// A client's message that is compressed: inflated, then as any other.
#[cold]
fn compressed<S: Stream>(hub: &mut Hub<S>, id: ConnId, kind: Opcode, payload: &[u8]) {
    let max = hub.limits.max_message;
    let inflated = hub.compression.inflate(kind, payload, max);
    hub.agenda.count(hub.compression.take_cost());
    match inflated {
        Ok(message) => {
            said(hub, id, message.bytes());
            hub.compression.keep(message);
        }
        Err(violation) => close(hub, id, Ending::Violation(violation)),
    }
}
