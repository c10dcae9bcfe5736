//! The server's clock, as every part below the loop is given it: time is an argument there, never a call.

/// Milliseconds on the server's own clock, which begins at its start and never goes back.
pub type Millis = u64;

/// The current time, set by the loop.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    pub now: Millis,
    /// The same in microseconds, for what is measured and not waited for. Set when a turn begins.
    pub micros: u64,
    /// Milliseconds from 1970 to the clock's beginning, as the system's clock has them.
    pub unix: Millis,
    /// The text of a Date header (RFC 9110 5.6.7).
    pub date: String,
}
