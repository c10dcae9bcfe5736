//! Throttles for log lines: at most a number in an interval, or once for as long as a condition lasts.
//!
//! Knows: the time it is given. Never knows: the lines.

mod saved;
mod saved_conditions;

pub use self::saved::SavedThrottle;
pub use self::saved_conditions::SavedOutageThrottle;
use crate::clock::Millis;

/// A limited number of lines in each interval. Further ones are counted.
#[derive(Clone, Debug)]
pub struct Throttle {
    lines: u64,
    interval: Millis,
    /// When the interval that the last line has begun is over.
    until: Millis,
    /// Lines that may still be logged before that.
    left: u64,
    left_out: u64,
}

impl Throttle {
    /// One line in each interval.
    pub const fn once_in(interval: Millis) -> Throttle {
        Throttle::lines_in(1, interval)
    }

    /// At most `lines` lines in each interval, which is in milliseconds.
    pub const fn lines_in(lines: u64, interval: Millis) -> Throttle {
        Throttle {
            lines,
            interval,
            until: 0,
            left: 0,
            left_out: 0,
        }
    }

    /// Returns how many lines were left out since the last one if a line may be logged now. `None`: it is left out too.
    pub fn admit(&mut self, now: Millis) -> Option<u64> {
        if now >= self.until {
            self.until = now.saturating_add(self.interval);
            self.left = self.lines;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out = self.left_out.saturating_add(1);
                None
            }
        }
    }

    /// How many lines were left out in an interval that is over, for a line of their own. Zero if none were.
    pub fn take_left_out(&mut self, now: Millis) -> u64 {
        if now >= self.until {
            std::mem::take(&mut self.left_out)
        } else {
            0
        }
    }

    /// When [`Throttle::take_left_out`] will have something to report.
    pub fn deadline(&self) -> Option<Millis> {
        (self.left_out > 0).then_some(self.until)
    }
}

/// A condition that lasts, such as a full server. It is logged when it begins and when it has ended, but not at every
/// short change.
#[derive(Clone, Debug)]
pub struct Condition {
    since: Option<Millis>,
    /// The least time that it is considered to last, in milliseconds.
    steady: Millis,
}

impl Condition {
    /// A condition that holds for at least `steady` milliseconds once it has begun.
    pub const fn lasting(steady: Millis) -> Condition {
        Condition {
            since: None,
            steady,
        }
    }

    pub fn holds(&self) -> bool {
        self.since.is_some()
    }

    /// Notes that it holds. Returns whether it did not before.
    pub fn begin(&mut self, now: Millis) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// Notes that it no longer holds. Returns whether it has ended: whether it did hold, and for long enough.
    pub fn end(&mut self, now: Millis) -> bool {
        let steady = self.steady;
        let ends = |since: &mut Millis| now >= since.saturating_add(steady);
        self.since.take_if(ends).is_some()
    }
}

/// A condition that comes and goes, such as an outage of another program. Its beginning and end are logged, at most a
/// number of times in an interval.
#[derive(Clone, Debug)]
pub struct OutageThrottle {
    lines: Throttle,
    /// When the one that lasts began, and whether that was logged.
    since: Option<(Millis, bool)>,
}

impl OutageThrottle {
    /// A condition whose first `most` spells in each interval are logged.
    pub const fn logged(most: u64, interval: Millis) -> OutageThrottle {
        OutageThrottle {
            lines: Throttle::lines_in(most, interval),
            since: None,
        }
    }

    /// Notes that it lasts. Returns how many were left out since the last line, if it has just begun and is to be logged.
    pub fn begin(&mut self, now: Millis) -> Option<u64> {
        if self.since.is_some() {
            return None;
        }
        let admitted = self.lines.admit(now);
        self.since = Some((now, admitted.is_some()));
        admitted
    }

    /// Notes that it no longer lasts. Returns how long it did, if its beginning was logged.
    pub fn end(&mut self, now: Millis) -> Option<Millis> {
        let (since, logged) = self.since.take()?;
        logged.then(|| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_left_out_and_counted() {
        let mut throttle = Throttle::lines_in(2, 1_000);
        assert_eq!(throttle.deadline(), None);
        assert_eq!(throttle.admit(500), Some(0));
        assert_eq!(throttle.admit(500), Some(0));
        assert_eq!(throttle.admit(600), None);
        assert_eq!(throttle.admit(1_499), None);
        assert_eq!(throttle.take_left_out(1_499), 0);
        assert_eq!(throttle.deadline(), Some(1_500));
        assert_eq!(throttle.take_left_out(1_500), 2);
        assert_eq!(throttle.deadline(), None);
        assert_eq!(throttle.admit(1_500), Some(0));
        assert_eq!(throttle.admit(1_500), Some(0));
        assert_eq!(throttle.admit(1_500), None);
        // The next line has the count if no line of its own had it.
        assert_eq!(throttle.admit(9_000), Some(1));
        let mut once = Throttle::once_in(5_000);
        assert_eq!((once.admit(0), once.admit(4_999)), (Some(0), None));
        assert_eq!(once.admit(5_000), Some(1));
    }

    #[test]
    fn what_comes_and_goes_often_is_logged_now_and_then_and_always_as_a_pair() {
        let mut outages = OutageThrottle::logged(2, 1_000);
        assert_eq!(outages.end(0), None);
        assert_eq!((outages.begin(10), outages.begin(20)), (Some(0), None));
        assert_eq!((outages.end(40), outages.end(50)), (Some(30), None));
        assert_eq!((outages.begin(60), outages.end(60)), (Some(0), Some(0)));
        assert_eq!((outages.begin(70), outages.end(80)), (None, None));
        assert_eq!((outages.begin(90), outages.end(2_000)), (None, None));
        assert_eq!(
            (outages.begin(2_000), outages.end(2_001)),
            (Some(2), Some(1))
        );
    }

    #[test]
    fn a_condition_that_flickers_is_logged_once() {
        let mut down = Condition::lasting(5_000);
        assert!(!down.end(1), "it has not begun");
        assert!(down.begin(100) && down.holds());
        assert!(!down.begin(200));
        assert!(!down.end(5_099) && down.holds());
        assert!(!down.begin(5_050));
        assert!(down.end(5_100) && !down.holds());
        assert!(!down.end(5_200));
        assert!(down.begin(5_200));
        let mut full = Condition::lasting(0);
        assert!(full.begin(7) && full.end(7));
    }
}
