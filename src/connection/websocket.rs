//! A WebSocket: while it is open, and while it closes.
//!
//! Owns: [`Open`] and [`Closing`]: silence and pings, the frames of a message on its way in, and the closing handshake
//! (RFC 6455 7). Answers pings by itself. Never knows: what a message means, the stream.

use super::suspended::{Awaits, Suspended};
use super::{Ending, Limits};
use crate::buffers::Outbox;
use crate::clock::Millis;
use crate::wire::command::Command;
use crate::wire::frame::{self, Opcode, Violation};
use crate::wire::message::{Item, Payload, Reader};

mod saved;

pub(super) use saved::{SavedClosing, SavedOpen};

/// How long the client may take to read the last answer, or to read a close frame and answer it.
const CLOSING: Millis = 5_000;
/// How long input is discarded after the last answer was sent, so that the answer is not lost to a TCP reset
/// (`docs/api.md#http`).
pub(super) const LINGER: Millis = 2_000;

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Open {
    /// The low half of when a byte last came, or a ping was sent: silence never lasts 49 days.
    active: u32,
    pinged: bool,
    /// permessage-deflate was agreed to.
    deflate: bool,
    reader: Reader,
    suspended: Option<Box<(Awaits, Suspended)>>,
}

/// What an open WebSocket has read.
pub(super) enum Said {
    Message(Opcode, Payload),
    Compressed(Opcode, Payload),
    /// The WebSocket is to be closed.
    End(Ending),
}

impl Open {
    /// A WebSocket that opens at `now`. `deflate`: permessage-deflate was agreed to.
    pub fn new(deflate: bool, now: Millis) -> Open {
        Open {
            active: now as u32,
            pinged: false,
            deflate,
            reader: Reader::default(),
            suspended: None,
        }
    }

    /// Notes that bytes were received.
    #[inline(always)]
    pub fn active(&mut self, now: Millis) {
        (self.active, self.pinged) = (now as u32, false);
    }

    pub fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    /// Whether a command waits, and not only the connection itself.
    pub fn is_command_suspended(&self) -> bool {
        let work = self.suspended.as_ref().map(|suspended| &suspended.1);
        matches!(work, Some(Suspended::Command { .. }))
    }

    /// The answer that its command waits for.
    pub fn awaits(&self) -> Option<Awaits> {
        self.suspended.as_ref().map(|suspended| suspended.0)
    }

    pub fn suspend(&mut self, awaits: Awaits, work: Suspended) {
        self.suspended = Some(Box::new((awaits, work)));
    }

    /// Takes what waits for this answer. The time of silence starts again, because the server has not read meanwhile.
    pub fn resume(&mut self, answer: Awaits, now: Millis) -> Option<Suspended> {
        let suspended = self.suspended.take_if(|it| it.0.ends_with(answer))?;
        self.active(now);
        Some(suspended.1)
    }

    /// The question about its command is held. Silence is measured again, as the client is read from now on.
    pub fn hold(&mut self, now: Millis) {
        if let Some(suspended) = &mut self.suspended
            && suspended.0 == Awaits::Verdict
        {
            suspended.0 = Awaits::HeldVerdict;
            self.active(now);
        }
    }

    fn is_held(&self) -> bool {
        self.awaits() == Some(Awaits::HeldVerdict)
    }

    /// The command that waits, and its message.
    pub fn command(&self) -> Option<(&Command, &[u8])> {
        match self.suspended.as_deref() {
            Some((_, Suspended::Command { command, message })) => Some((command, message)),
            _ => None,
        }
    }

    /// The client was not read: its last ping counts as answered.
    pub fn reset_ping(&mut self) {
        self.pinged = false;
    }

    /// Answers the pings before the first message in `input`, and goes past the pongs. Returns how many bytes were used, or
    /// `None` when there is no room for a pong. What is malformed stays where it is, as messages do.
    pub fn answer_pings(
        &mut self,
        input: &mut [u8],
        outbox: &mut Outbox,
        limits: &Limits,
    ) -> Option<usize> {
        let mut used = 0_usize;
        loop {
            let rest = input.get_mut(used..).unwrap_or_default();
            if !matches!(rest.first(), Some(&(PING | PONG))) {
                return Some(used);
            }
            let Ok(step) = self.reader.next(rest, limits.max_message, self.deflate) else {
                return Some(used);
            };
            match step.item {
                Some(Item::Ping(range)) => {
                    let ping = rest.get(range).unwrap_or_default();
                    if !outbox.has_room(ping.len(), limits.max_queue) {
                        return None;
                    }
                    outbox.own(|out| frame::push_frame(out, Opcode::Pong, ping));
                }
                Some(Item::Pong) => {}
                _ => return Some(used),
            }
            used = used.saturating_add(step.used);
        }
    }

    /// Bytes that have come and wait.
    pub fn buffered(&self) -> usize {
        let suspended = self.suspended.as_ref().map_or(0, |it| it.1.buffered());
        self.reader.buffered().saturating_add(suspended)
    }

    /// Reads the next message in `input`, and answers the pings before it. Returns how many bytes were used, and `None` when
    /// more bytes are needed.
    #[inline]
    pub fn next(
        &mut self,
        input: &mut [u8],
        outbox: &mut Outbox,
        limits: &Limits,
    ) -> (usize, Option<Said>) {
        let all = input.len();
        let mut used = 0;
        loop {
            let rest = input.get_mut(used..).unwrap_or_default();
            let step = match self.reader.next(rest, limits.max_message, self.deflate) {
                Ok(step) => step,
                Err(violation) => return (all, Some(Said::End(Ending::Violation(violation)))),
            };
            let at = used;
            used = used.saturating_add(step.used);
            match step.item {
                None => return (used, None),
                Some(Item::Text(payload)) => return said(Opcode::Text, payload, at, used),
                Some(Item::Binary(payload)) => return said(Opcode::Binary, payload, at, used),
                Some(Item::Compressed(kind, payload)) => {
                    let payload = shift(payload, at);
                    return (used, Some(Said::Compressed(kind, payload)));
                }
                Some(Item::Ping(range)) => {
                    let ping = rest.get(range).unwrap_or_default();
                    if !outbox.has_room(ping.len(), limits.max_queue) {
                        return (used, Some(Said::End(Ending::TooSlow)));
                    }
                    outbox.own(|out| frame::push_frame(out, Opcode::Pong, ping));
                }
                Some(Item::Pong) => {}
                Some(Item::Close(code)) => return (all, Some(Said::End(Ending::Closed(code)))),
            }
        }
    }

    /// When to check for silence.
    pub fn deadline(&self, now: Millis, limits: &Limits) -> Option<Millis> {
        if self.is_suspended() && !self.is_held() || limits.ping_interval == 0 {
            return None;
        }
        let silence = Millis::from((now as u32).wrapping_sub(self.active));
        let left = limits.ping_interval.saturating_sub(silence);
        Some(now.saturating_add(left))
    }

    /// Handles an interval of silence. Returns whether it is the second in a row.
    pub fn expire(&mut self, outbox: &mut Outbox, now: Millis, limits: &Limits) -> bool {
        if self.pinged {
            return true;
        }
        // The client has the whole interval to answer, however late it is pinged.
        (self.active, self.pinged) = (now as u32, true);
        if outbox.has_room(frame::PING.len(), limits.max_queue) {
            outbox.own(|out| out.extend_from_slice(&frame::PING));
        }
        false
    }

    /// Begins its end: sends the close frame. A client's close is echoed. Otherwise the client's close is awaited, if
    /// the input can still be parsed.
    pub fn close(
        &mut self,
        ending: Ending,
        reason: Option<&str>,
        outbox: &mut Outbox,
        now: Millis,
    ) -> Closing {
        let (code, usual) = ending.close();
        let frame = frame::close_frame(code, reason.unwrap_or(usual));
        outbox.own(|out| out.extend_from_slice(&frame));
        let close = match ending {
            Ending::Closed(_) => Close::Echo,
            Ending::Violation(_) | Ending::Overloaded => Close::Linger,
            _ => Close::Sent,
        };
        Closing {
            deflate: self.deflate,
            // Where no close is awaited, nothing more is read: what has come of a message goes.
            reader: match close {
                Close::Sent => std::mem::take(&mut self.reader),
                Close::Echo | Close::Linger => Reader::default(),
            },
            ..Closing::new(close, now)
        }
    }
}

/// The first bytes of a ping and a pong, and bytes of the longest from a client (RFC 6455 5.2).
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const LONGEST_CONTROL: usize = 2 + 4 + 125;

/// Whether `waiting` bytes that begin with `first` may be a ping or a pong whose end has not come.
pub(super) fn begins_control(first: u8, waiting: usize) -> bool {
    matches!(first, PING | PONG) && waiting < LONGEST_CONTROL
}

fn said(kind: Opcode, payload: Payload, at: usize, used: usize) -> (usize, Option<Said>) {
    (used, Some(Said::Message(kind, shift(payload, at))))
}

/// A payload at its place, counted from `by` bytes earlier.
#[inline]
pub(super) fn shift(payload: Payload, by: usize) -> Payload {
    match payload {
        Payload::In(range) => {
            Payload::In(range.start.saturating_add(by)..range.end.saturating_add(by))
        }
        owned => owned,
    }
}

/// Puts a text message into `outbox`; `write` appends its payload.
pub(super) fn push_text(outbox: &mut Outbox, write: impl FnOnce(&mut Vec<u8>)) {
    outbox.own(|out| frame::push_frame_of(out, Opcode::Text, write));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// The client's close is being echoed; the server then closes first (RFC 6455 7.1.1).
    Echo,
    /// A close frame was sent; the client's is awaited.
    Sent,
    /// Nothing more will be sent: input is discarded until the client ends the stream.
    Linger,
}

/// A connection that has begun to end: of a WebSocket, or of HTTP.
#[derive(Debug)]
pub(super) struct Closing {
    /// The low half of when it is over at the latest; never far from now.
    until: u32,
    close: Close,
    /// permessage-deflate was agreed to.
    deflate: bool,
    reader: Reader,
    /// The sending side is shut down.
    finished: bool,
}

/// What follows when everything has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterSent {
    /// More has to come from the client.
    Wait,
    /// The sending side is to be shut down.
    Finish,
    /// It is over.
    Over,
}

impl Closing {
    fn new(close: Close, now: Millis) -> Closing {
        Closing {
            until: now.saturating_add(CLOSING) as u32,
            close,
            deflate: false,
            reader: Reader::default(),
            finished: false,
        }
    }

    /// The last answer is in the outbox; what still comes is discarded.
    pub fn linger(now: Millis) -> Closing {
        Closing::new(Close::Linger, now)
    }

    /// The client has ended the stream; what waits for it is sent, and then it is over.
    pub fn send_rest(now: Millis) -> Closing {
        Closing::new(Close::Echo, now)
    }

    /// When it is over at the latest.
    pub fn until(&self, now: Millis) -> Millis {
        let left = self.until.wrapping_sub(now as u32) as i32;
        now.saturating_add_signed(left.into())
    }

    /// Bytes that have come and wait.
    pub fn buffered(&self) -> usize {
        self.reader.buffered()
    }

    /// Looks for the client's close in `input`. Returns how many bytes were used, and whether it was found.
    ///
    /// # Errors
    /// The input is no WebSocket frame, so a close cannot be found behind it.
    pub fn next(&mut self, input: &mut [u8], limits: &Limits) -> Result<(usize, bool), Violation> {
        let all = input.len();
        if self.close != Close::Sent {
            return Ok((all, false));
        }
        let mut used = 0;
        loop {
            let rest = input.get_mut(used..).unwrap_or_default();
            let step = self.reader.next(rest, limits.max_message, self.deflate)?;
            used = used.saturating_add(step.used);
            match step.item {
                None => return Ok((used, false)),
                Some(Item::Close(_)) => return Ok((all, true)),
                Some(_) => {}
            }
        }
    }

    /// Whether [`Closing::all_sent`] would do something, once all is sent.
    pub fn is_finishing(&self) -> bool {
        matches!(self.close, Close::Echo | Close::Linger) && !self.finished
    }

    /// Notes that the outbox is empty; `drained`: and that all input was read.
    pub fn all_sent(&mut self, drained: bool, now: Millis) -> AfterSent {
        match self.close {
            Close::Echo if drained => AfterSent::Over,
            Close::Sent => AfterSent::Wait,
            Close::Echo | Close::Linger => {
                self.close = Close::Linger;
                if self.finished {
                    return AfterSent::Wait;
                }
                self.until = now.saturating_add(LINGER) as u32;
                self.finished = true;
                AfterSent::Finish
            }
        }
    }
}
