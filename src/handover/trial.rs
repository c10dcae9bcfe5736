//! A trial: the new program as a child, which shows what it can do and answers with a line, or is ended.
//!
//! Owns: the child and its time. Knows: pipes. Never knows: what the trial is about.
//!
//! Decisions
//! - What counts is the line, and not the end of the child. A child may have passed its output on to another process,
//!   which keeps it open.
//! - The child leads a process group of its own, which is ended as a whole. A script that is ended alone would leave behind
//!   what it has started.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};

use super::role;

/// What a child may write without an answer among it, and what is kept of its complaint, in bytes.
const MAX_OUTPUT: usize = 4096;
/// Reads of this many bytes at once: as much as a pipe holds.
const PIECES: usize = 16;
/// Until a child that has closed its output is looked at again, and until its errors are read.
const SOON: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_millis(100);
/// Characters of a complaint that are logged.
const SHOWN: usize = 500;

/// A child under way.
#[derive(Debug)]
pub struct Trial {
    child: Child,
    out: ChildStdout,
    err: ChildStderr,
    answer: Vec<u8>,
    complaint: Vec<u8>,
    /// It has closed its output.
    silent: bool,
    until: Instant,
    timeout: Duration,
}

impl Trial {
    /// Starts a child, which is ended after `timeout`.
    ///
    /// # Errors
    /// It cannot be started: there is no such file, it is not a program, or there is no file descriptor left.
    pub fn start(mut command: Command, input: Stdio, timeout: Duration) -> io::Result<Trial> {
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A script's own children end with it.
            .process_group(0);
        let mut child = command.spawn()?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let trial = Trial {
            child,
            out,
            err,
            answer: Vec::new(),
            complaint: Vec::new(),
            silent: false,
            until: Instant::now() + timeout,
            timeout,
        };
        ioctl_fionbio(&trial.out, true)?;
        ioctl_fionbio(&trial.err, true)?;
        Ok(trial)
    }

    /// What becomes readable when [`Trial::step`] has something to do.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }

    /// When [`Trial::step`] is to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Instant {
        let pause = if self.silent { SOON } else { LATER };
        self.until.min(Instant::now() + pause)
    }

    /// Looks at what the child has written. `None`: it is still at work. Otherwise the release that has answered, or why
    /// it cannot take over. Never blocks.
    pub fn step(&mut self) -> Option<Result<String, String>> {
        self.silent |= read_into(&mut self.out, &mut self.answer);
        read_into(&mut self.err, &mut self.complaint);
        if let Some(answer) = self.find_answer() {
            return Some(answer);
        }
        if self.answer.len() >= MAX_OUTPUT {
            return Some(Err("it does not answer as wsify does".to_owned()));
        }
        if self.silent
            && let Ok(Some(status)) = self.child.try_wait()
        {
            read_into(&mut self.err, &mut self.complaint);
            let complaint = String::from_utf8_lossy(&self.complaint);
            let mut why = format!("it ends with {status}");
            if let Some(line) = complaint.lines().find(|line| !line.trim().is_empty()) {
                why.push_str(": ");
                why.extend(line.trim().chars().take(SHOWN));
            }
            return Some(Err(why));
        }
        if Instant::now() >= self.until {
            let timeout = humantime::format_duration(self.timeout);
            return Some(Err(format!("it does not answer within {timeout}")));
        }
        None
    }

    /// The line that counts, among others that a script may have written.
    fn find_answer(&self) -> Option<Result<String, String>> {
        let whole = self.answer.iter().rposition(|byte| *byte == b'\n')?;
        let text = String::from_utf8_lossy(&self.answer[..whole]);
        text.lines().find_map(role::read_answer)
    }

    /// Waits for the result, and calls `meanwhile` now and then.
    pub fn wait(mut self, mut meanwhile: impl FnMut()) -> Result<String, String> {
        loop {
            if let Some(result) = self.step() {
                return result;
            }
            let left = self
                .next_deadline()
                .saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            if self.silent {
                std::thread::sleep(SOON);
            } else {
                let _ = poll(&mut [PollFd::new(&self.out, PollFlags::IN)], Some(&left));
            }
            meanwhile();
        }
    }
}

impl Drop for Trial {
    /// Whatever the child and its own children are still doing, it is not needed any more.
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what is there, and keeps its beginning. Returns whether nothing more will come.
fn read_into(from: &mut impl Read, into: &mut Vec<u8>) -> bool {
    let mut piece = [0; MAX_OUTPUT];
    for _ in 0..PIECES {
        match from.read(&mut piece) {
            Ok(0) => return true,
            Ok(length) => {
                let room = MAX_OUTPUT.saturating_sub(into.len()).min(length);
                into.extend_from_slice(&piece[..room]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn outcome(script: &str, timeout: Duration) -> Result<String, String> {
        Trial::start(shell(script), Stdio::null(), timeout)
            .unwrap()
            .wait(|| ())
    }

    #[test]
    fn a_trial_is_passed_with_the_right_line_only() {
        let release = env!("CARGO_PKG_VERSION");
        let answer = role::answer();
        for script in [
            format!("echo '{answer}'"),
            format!("echo noise >&2; echo '{answer}'; exit 7"),
            // What follows the line, and what keeps the pipe open, does not matter.
            format!("echo '{answer}'; sleep 1000"),
            format!("sleep 1000 & echo '{answer}'"),
            format!("echo hello; echo '{answer}'"),
        ] {
            assert_eq!(outcome(&script, LONG), Ok(release.to_owned()), "{script}");
        }
        for (script, why) in [
            ("exit 0", "it ends with exit status: 0"),
            ("exit 3", "it ends with exit status: 3"),
            ("kill -SEGV $$", "it ends with signal: 11"),
            ("echo hello", "it ends with exit status: 0"),
            ("cat /dev/zero", "it does not answer as wsify does"),
            ("yes", "it does not answer as wsify does"),
            ("echo wsify-handover 9 9.9; sleep 1000", "release 9.9 reads"),
            (
                "echo hello; echo >&2; echo 'wsify: --x is no flag' >&2; exit 2",
                "it ends with exit status: 2: wsify: --x is no flag",
            ),
        ] {
            let refused = outcome(script, LONG).unwrap_err();
            assert!(refused.starts_with(why), "{script}: {refused}");
        }
    }

    #[test]
    fn a_child_that_does_not_answer_in_time_is_ended() {
        for script in [
            "sleep 1000",
            "exec >&-; sleep 1000",
            "cat /dev/zero >&2",
            "trap '' TERM; sleep 1000",
        ] {
            let refused = outcome(script, Duration::from_millis(30)).unwrap_err();
            assert_eq!(refused, "it does not answer within 30ms", "{script}");
        }
    }

    #[test]
    fn a_file_that_is_no_program_is_an_error() {
        let text = std::env::temp_dir().join(format!("wsify-trial-{}", std::process::id()));
        std::fs::write(&text, "no program").unwrap();
        for path in ["/no/such/file", text.to_str().unwrap(), "/"] {
            assert!(Trial::start(Command::new(path), Stdio::null(), LONG).is_err());
        }
        std::fs::remove_file(&text).unwrap();
    }
}
