//! The server's clock, as every part below the loop is given it: time is an argument there, never a call.

use std::time::{Duration, SystemTime};

/// Milliseconds on the server's own clock, which begins at its start and never goes back.
pub type Millis = u64;

/// A duration in whole milliseconds, rounded down.
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// A duration in whole microseconds, rounded down.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The latest time that [`rfc3339`] shows, in the year 6429.
const LATEST: Millis = 1 << 47;

/// A Unix time in milliseconds as a text (RFC 3339), in UTC. A clock that is set beyond all bounds must not cause a panic:
/// what is later than the year 6429 is shown as that.
pub fn rfc3339(unix: Millis) -> String {
    let since = Duration::from_millis(unix.min(LATEST));
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_milliseconds_whatever_the_clock_says() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_767_268_800_007, "2026-01-01T12:00:00.007Z"),
            (LATEST, "6429-10-17T02:45:55.328Z"),
            (Millis::MAX, "6429-10-17T02:45:55.328Z"),
        ] {
            assert_eq!(rfc3339(unix), text);
        }
    }
}
