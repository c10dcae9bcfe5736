//! Every input that a connection yields to the hub.

use std::net::SocketAddr;
use std::ops::Range;

use super::Ending;
use super::exchange::{Exchange, HeadStep};
use super::websocket::{Said, shift};
use crate::wire::frame::Opcode;
use crate::wire::http::{Head, Refusal};
use crate::wire::message::Payload;

/// Every input that a connection yields to the hub.
#[derive(Debug)]
pub enum Input {
    /// The header of the PROXY protocol: the client's address, if it has one.
    Introduced(Option<SocketAddr>),
    /// A request's head, and the range of its body if the input holds all of it. Otherwise nothing of the body was
    /// read.
    Request(Exchange, Head, Option<Range<usize>>),
    /// The body that was asked for is complete.
    Body(Exchange, Payload),
    /// The body that was asked for is malformed or too long; its end cannot be found.
    BadBody(Exchange, Refusal),
    /// A message, [`Opcode::Text`] or [`Opcode::Binary`].
    Said(Opcode, Payload),
    /// A message that is compressed (RFC 7692 section 6).
    Compressed(Opcode, Payload),
    /// The WebSocket is to be closed. Nothing more is read before that.
    Bye(Ending),
}

/// How far a session came with its input.
#[derive(Debug)]
pub struct NextInput {
    /// Bytes of the input that are used, and not to be passed again.
    pub used: usize,
    /// `None`: more bytes are needed.
    pub input: Option<Input>,
}

impl NextInput {
    pub(super) fn of(used: usize, input: Input) -> NextInput {
        NextInput {
            used,
            input: Some(input),
        }
    }

    pub(super) fn wait(used: usize) -> NextInput {
        NextInput { used, input: None }
    }

    /// What an open WebSocket has read `at` bytes behind the input's start, in `count` bytes.
    #[inline]
    pub(super) fn said(said: Option<Said>, at: usize, count: usize) -> NextInput {
        let input = said.map(|said| match said {
            Said::Message(kind, payload) => Input::Said(kind, shift(payload, at)),
            Said::Compressed(kind, payload) => Input::Compressed(kind, shift(payload, at)),
            Said::End(ending) => Input::Bye(ending),
        });
        let used = at.saturating_add(count);
        NextInput { used, input }
    }

    /// What was found `at` bytes behind the input's start, in `count` bytes.
    pub(super) fn found(found: HeadStep, at: usize, count: usize) -> NextInput {
        let input = match found {
            HeadStep::Client(client) => Input::Introduced(client),
            HeadStep::Request(exchange, head, body) => {
                let shift =
                    |body: Range<usize>| body.start.saturating_add(at)..body.end.saturating_add(at);
                Input::Request(exchange, head, body.map(shift))
            }
        };
        NextInput::of(at.saturating_add(count), input)
    }
}
