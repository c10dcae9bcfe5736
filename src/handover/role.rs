//! What this process is in a handover: read from the variable that one program leaves to the next.
//!
//! Owns: the variable's name and format, the line with which a trial answers. Knows: process ids. Never knows: what a role
//! leads to.
//!
//! Decision: a variable rather than an argument: the arguments stay what the operator gave, and `ps` shows them. It
//! names the process that it is for. So a process that merely inherits it, or an operator's variable of this name,
//! means nothing.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::snapshot::FORMAT;

/// The variable. It is internal: no other process is given it.
pub const VARIABLE: &str = "WSIFY_HANDOVER";

/// What the answer of a trial begins with. The format of snapshots and the release follow.
const ANSWER: &str = "wsify-handover";

/// What this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoverRole {
    /// A program that was started as any other.
    Fresh,
    /// A child that is to show that it is a wsify with a valid configuration.
    Probe,
    /// A child that is to restore the snapshot on its standard input.
    Check,
    /// The new program, in the old one's process.
    Take(TakeoverState),
    /// The old program again, because the new one has failed, for this reason.
    Return(TakeoverState, String),
}

/// What one program leaves to the next: the numbers of two descriptors, and when it did what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeoverState {
    /// The snapshot.
    pub snapshot: RawFd,
    /// The file of the program that has written it.
    pub program: RawFd,
    pub times: PauseTimes,
}

/// The steps of a pause, in microseconds of the kernel's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauseTimes {
    /// The loop stopped.
    pub frozen: u64,
    /// The snapshot was written.
    pub saved: u64,
    /// It was checked.
    pub checked: u64,
}

impl HandoverRole {
    /// This process's role. `parent` and `own` are the ids of its parent and of itself.
    pub fn read(variable: Option<OsString>, parent: u32, own: u32) -> HandoverRole {
        let text = variable.and_then(|text| text.into_string().ok());
        text.and_then(|text| HandoverRole::parse(&text, parent, own))
            .unwrap_or(HandoverRole::Fresh)
    }

    fn parse(text: &str, parent: u32, own: u32) -> Option<HandoverRole> {
        let mut words = text.splitn(8, ' ');
        let role = words.next()?;
        let process: u32 = words.next()?.parse().ok()?;
        let takeover = |words: &mut dyn Iterator<Item = &str>| {
            let descriptor = |word: &str| word.parse().ok().filter(|fd| *fd > 2);
            Some(TakeoverState {
                snapshot: descriptor(words.next()?)?,
                program: descriptor(words.next()?)?,
                times: PauseTimes {
                    frozen: words.next()?.parse().ok()?,
                    saved: words.next()?.parse().ok()?,
                    checked: words.next()?.parse().ok()?,
                },
            })
        };
        match role {
            "probe" if process == parent => Some(HandoverRole::Probe),
            "check" if process == parent => Some(HandoverRole::Check),
            "take" if process == own => Some(HandoverRole::Take(takeover(&mut words)?)),
            "return" if process == own => {
                let takeover = takeover(&mut words)?;
                Some(HandoverRole::Return(takeover, words.next()?.to_owned()))
            }
            _ => None,
        }
    }

    /// The variable's value for the process with this role. `own` is the id of the process that sets it: the parent of
    /// a trial, and otherwise the same process.
    pub fn text(&self, own: u32) -> String {
        let (word, takeover, reason) = match self {
            HandoverRole::Fresh => return String::new(),
            HandoverRole::Probe => return format!("probe {own}"),
            HandoverRole::Check => return format!("check {own}"),
            HandoverRole::Take(takeover) => ("take", takeover, ""),
            HandoverRole::Return(takeover, reason) => ("return", takeover, reason.as_str()),
        };
        let PauseTimes {
            frozen,
            saved,
            checked,
        } = takeover.times;
        let (snapshot, program) = (takeover.snapshot, takeover.program);
        // A variable's value ends with its first NUL.
        let reason = reason.replace('\0', "");
        format!("{word} {own} {snapshot} {program} {frozen} {saved} {checked} {reason}")
    }
}

/// The line with which a trial answers: it understands snapshots of this format.
pub fn answer() -> String {
    format!("{ANSWER} {FORMAT} {}", env!("CARGO_PKG_VERSION"))
}

/// Reads that line. `None`: it is another one. Otherwise the other program's release, or why that cannot take over, for the
/// log.
pub fn read_answer(line: &str) -> Option<Result<String, String>> {
    let mut words = line.split(' ');
    let parts = (words.next(), words.next(), words.next(), words.next());
    let (Some(ANSWER), Some(format), Some(release), None) = parts else {
        return None;
    };
    Some(if format.parse() == Ok(FORMAT) {
        Ok(release.to_owned())
    } else {
        Err(format!(
            "release {release} reads snapshots of format {format}, and this one writes {FORMAT}"
        ))
    })
}

/// The kernel's monotonic clock, which goes on when a program is replaced.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEOVER: TakeoverState = TakeoverState {
        snapshot: 7,
        program: 4,
        times: PauseTimes {
            frozen: 1,
            saved: 20,
            checked: u64::MAX,
        },
    };

    #[test]
    fn each_role_is_read_by_the_process_that_it_is_for_only() {
        let reason = "signal 11 \"x\"\n  y ".to_owned();
        for (role, for_child) in [
            (HandoverRole::Probe, true),
            (HandoverRole::Check, true),
            (HandoverRole::Take(TAKEOVER), false),
            (HandoverRole::Return(TAKEOVER, reason), false),
        ] {
            let text = OsString::from(role.text(100));
            let read = |parent, own| HandoverRole::read(Some(text.clone()), parent, own);
            let (child, itself) = (read(100, 200), read(1, 100));
            let (is, other) = if for_child {
                (child, itself)
            } else {
                (itself, child)
            };
            assert_eq!((is, other), (role, HandoverRole::Fresh));
            assert_eq!(read(3, 4), HandoverRole::Fresh);
        }
        let nul = HandoverRole::Return(TAKEOVER, "a\0b".into()).text(1);
        assert_eq!(
            HandoverRole::read(Some(nul.into()), 0, 1),
            HandoverRole::Return(TAKEOVER, "ab".into())
        );
    }

    #[test]
    fn a_malformed_handover_role_is_ignored() {
        for text in [
            "",
            "probe",
            "probe x",
            "Probe 1",
            "take 1",
            "take 1 7 4 1 2",
            "take 1 2 4 1 2 3 ",
            "take 1 7 -4 1 2 3 ",
            "take 1 99999999999 4 1 2 3 ",
            "return 1 7 4 1 2 3",
            "http://10.0.0.1",
        ] {
            assert_eq!(
                HandoverRole::read(Some(text.into()), 1, 1),
                HandoverRole::Fresh,
                "{text}"
            );
        }
        assert_eq!(HandoverRole::read(None, 1, 1), HandoverRole::Fresh);
    }

    #[test]
    fn an_answer_says_which_snapshots_are_understood() {
        let release = env!("CARGO_PKG_VERSION");
        assert_eq!(read_answer(&answer()), Some(Ok(release.to_owned())));
        for line in ["", "wsify 4.0.0", "wsify-handover", "wsify-handover 1 4 5"] {
            assert_eq!(read_answer(line), None, "{line}");
        }
        let other = read_answer("wsify-handover 2 5.0.0").unwrap().unwrap_err();
        assert!(other.contains("format 2"), "{other}");
    }
}
