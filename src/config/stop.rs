//! Why the program does not start, or ends early: a text, where it is printed, and an exit status.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// Why the program ends early, or does not start: a text, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Stop {
    /// 0: the text is what was asked for (help, version). 1: it could not start. 2: it was called wrongly.
    pub status: u8,
    /// For stdout when the status is 0, else one line for stderr.
    pub text: String,
}

impl Stop {
    /// What was asked for, instead of a start.
    pub(super) fn asked_for(text: impl Into<String>) -> Stop {
        Stop {
            status: 0,
            text: text.into(),
        }
    }

    /// The program was called correctly, and could not start or go on.
    pub fn failed(why: impl fmt::Display) -> Stop {
        Stop {
            status: 1,
            text: one_line(why),
        }
    }

    /// The program was called wrongly.
    pub(super) fn misused(why: impl fmt::Display) -> Stop {
        Stop {
            status: 2,
            text: one_line(why),
        }
    }

    /// Prints the text, and yields the exit status. A closed stdout or stderr changes nothing.
    pub fn print(self) -> ExitCode {
        let line = format!("{}\n", self.text);
        let _ = if self.status == 0 {
            std::io::stdout().write_all(line.as_bytes())
        } else {
            std::io::stderr().write_all(line.as_bytes())
        };
        ExitCode::from(self.status)
    }
}

/// The text as one line. A user's text may hold line breaks and control sequences.
fn one_line(why: impl fmt::Display) -> String {
    let mut line = "wsify: ".to_owned();
    for c in why.to_string().chars() {
        match c {
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}
