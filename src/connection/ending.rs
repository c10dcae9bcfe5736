//! Every way in which a connection ends: its close code and reason, and its label in logs and metrics.

use crate::wire::frame::Violation;

mod saved;

pub use saved::SavedEnding;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client sent a close frame, with this code.
    Closed(Option<u16>),
    /// The client ended the stream without one.
    Left,
    /// The stream broke.
    Reset,
    /// The client broke RFC 6455, sent text that is not UTF-8, invalid compressed data, or too big a message.
    Violation(Violation),
    /// More was queued for the client than may wait.
    TooSlow,
    /// The server is stopping.
    Stopping,
    /// The authorizer is down.
    AuthorizerDown,
    /// The authorizer has refused a command, or that the connection goes on, and has it closed with this code.
    Refused(u16),
    /// A backend has disconnected it, with this code.
    Disconnected(u16),
    /// The memory budget is used up, and this connection holds much of it.
    Overloaded,
    /// No byte was received, not even after a ping.
    Silent,
    /// No complete request was received in time.
    HandshakeTimeout,
    /// No further request was received in time.
    Idle,
    /// It was evicted: it had no request, or not a complete one, and its file descriptor was needed.
    NoRoom,
    /// The last request was answered.
    Answered,
    /// The input was no HTTP, or the request was malformed.
    BadRequest,
}

impl Ending {
    /// The code of the close frame that is sent (`docs/protocol.md#closing`), and its usual reason. A client's code is echoed.
    /// An empty close frame is answered with 1000, so that a browser's `close()` ends with 1000 and not with 1005.
    pub fn close(self) -> (Option<u16>, &'static str) {
        match self {
            Ending::Closed(code) => (code.or(Some(1000)), "goodbye"),
            Ending::Violation(violation) => (Some(violation.code()), violation.reason()),
            Ending::TooSlow => (
                Some(1008),
                "the client reads too slowly: its send queue is full",
            ),
            Ending::Stopping => (Some(1012), "the server is stopping: come back later"),
            Ending::AuthorizerDown => (Some(1013), "the authorizer is down: come back later"),
            Ending::Refused(code) => (Some(code), "the authorizer says no"),
            Ending::Disconnected(code) => (Some(code), "closed by the backend"),
            Ending::Overloaded => (
                Some(1013),
                "the server is out of queue memory: come back later",
            ),
            _ => (None, ""),
        }
    }

    /// Every label.
    pub const LABELS: [&str; 19] = [
        "closed",
        "left",
        "silent",
        "reset",
        "answered",
        "idle",
        "no_room",
        "too_slow",
        "overloaded",
        "too_big",
        "invalid_text",
        "invalid_data",
        "protocol_error",
        "bad_request",
        "handshake_timeout",
        "authorizer_down",
        "refused",
        "disconnected",
        "stopping",
    ];

    /// One word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Ending::Closed(_) => "closed",
            Ending::Left => "left",
            Ending::Reset => "reset",
            Ending::Violation(Violation::BadText | Violation::BadReason) => "invalid_text",
            Ending::Violation(Violation::BadDeflate | Violation::CutDeflate) => "invalid_data",
            Ending::Violation(Violation::TooBig) => "too_big",
            Ending::Violation(_) => "protocol_error",
            Ending::TooSlow => "too_slow",
            Ending::Stopping => "stopping",
            Ending::AuthorizerDown => "authorizer_down",
            Ending::Refused(_) => "refused",
            Ending::Disconnected(_) => "disconnected",
            Ending::Overloaded => "overloaded",
            Ending::Silent => "silent",
            Ending::HandshakeTimeout => "handshake_timeout",
            Ending::Idle => "idle",
            Ending::NoRoom => "no_room",
            Ending::Answered => "answered",
            Ending::BadRequest => "bad_request",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Of each kind one, of violations and of what the client has said some.
    pub const EVERY: [Ending; 21] = [
        Ending::Closed(None),
        Ending::Closed(Some(4000)),
        Ending::Left,
        Ending::Reset,
        Ending::Violation(Violation::ReservedBit),
        Ending::Violation(Violation::BadText),
        Ending::Violation(Violation::BadDeflate),
        Ending::Violation(Violation::TooBig),
        Ending::Violation(Violation::Unmasked),
        Ending::TooSlow,
        Ending::Stopping,
        Ending::AuthorizerDown,
        Ending::Refused(4403),
        Ending::Disconnected(4404),
        Ending::Overloaded,
        Ending::Silent,
        Ending::HandshakeTimeout,
        Ending::Idle,
        Ending::NoRoom,
        Ending::Answered,
        Ending::BadRequest,
    ];

    #[test]
    fn every_label_is_listed() {
        assert_eq!(
            HashSet::from(EVERY.map(Ending::label)),
            Ending::LABELS.into()
        );
    }
}
