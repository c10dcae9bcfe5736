//! Signals to the server: they wait in the kernel until the loop reads them (signalfd(2)).
//!
//! Owns: which signals these are, and that they are blocked. Knows: the poll. Never knows: what a signal leads to.
//!
//! Decision: blocked signals and a descriptor, rather than a handler that writes to a pipe. A handover replaces the
//! program, and with it the pipe: a signal that was caught and not yet read would be lost. A blocked one waits for the
//! new program.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Ends the server gracefully.
const INT: i32 = libc::SIGINT;
const TERM: i32 = libc::SIGTERM;
/// Replaces the running program.
pub const REPLACE: i32 = libc::SIGUSR2;

/// What one signal is reported with (`signalfd_siginfo`). It begins with the signal's number.
const RECORD: usize = 128;

/// The signals that have arrived and are not handled yet.
#[derive(Debug)]
pub struct Signals {
    file: File,
    /// Numbers that were read already.
    waiting: Vec<i32>,
}

impl Signals {
    /// Opens the descriptor from which signals are read. They have to be [blocked](block) before.
    ///
    /// # Errors
    /// There is no file descriptor left.
    pub fn open() -> io::Result<Signals> {
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        let set = handled();
        // SAFETY: signalfd(2) reads the set, which is initialized, and keeps no pointer. The descriptor that it returns is
        // new, and belongs to the file from here on.
        let file = unsafe {
            let fd = libc::signalfd(-1, &raw const set, flags);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
        Ok(Signals {
            file,
            waiting: Vec::new(),
        })
    }

    /// Registers the signals with the poll.
    ///
    /// # Errors
    /// The kernel can watch no more descriptors.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(
            &mut SourceFd(&self.file.as_raw_fd()),
            token,
            Interest::READABLE,
        )
    }

    /// Takes the numbers of the signals that have arrived since the last call. Never blocks.
    pub fn take(&mut self) -> Vec<i32> {
        self.read();
        std::mem::take(&mut self.waiting)
    }

    /// Takes one of the signals, if it has arrived. The others stay.
    pub fn take_only(&mut self, signal: i32) -> bool {
        self.read();
        let before = self.waiting.len();
        self.waiting.retain(|it| *it != signal);
        self.waiting.len() < before
    }

    /// Whether a signal has arrived that was not taken.
    pub fn has_arrived(&mut self) -> bool {
        self.read();
        !self.waiting.is_empty()
    }

    fn read(&mut self) {
        let mut record = [0; RECORD];
        while let Ok(RECORD) = self.file.read(&mut record) {
            let [a, b, c, d, ..] = record;
            self.waiting.push(i32::from_ne_bytes([a, b, c, d]));
        }
    }
}

/// Blocks the signals in this thread and in those that it starts. To be called before the first thread starts.
pub fn block() {
    let set = handled();
    // SAFETY: pthread_sigmask(3) reads the set, which is initialized, and keeps no pointer. It fails only for an unknown
    // first argument.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Keeps the status of children that end until it is read. A process may be started with SIGCHLD ignored, and then the kernel
/// forgets its children as soon as they end.
pub fn keep_ended_children() {
    // SAFETY: signal(2) takes numbers.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

fn handled() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initializes the set before anything else uses it, and the numbers are those of signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [INT, TERM, REPLACE] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::process::Signal;
    use rustix::thread::gettid;

    use super::*;

    #[test]
    fn blocked_signals_wait_until_they_are_read() {
        // The mask and the signals are this thread's alone.
        let test = thread::spawn(|| {
            block();
            let mut signals = Signals::open().unwrap();
            assert_eq!(signals.take(), Vec::<i32>::new());
            for signal in [Signal::USR2, Signal::TERM, Signal::USR2] {
                // SAFETY: tgkill(2) takes numbers. The signal is blocked in this thread.
                let sent = unsafe {
                    libc::syscall(
                        libc::SYS_tgkill,
                        std::process::id(),
                        gettid().as_raw_nonzero().get(),
                        signal.as_raw(),
                    )
                };
                assert_eq!(sent, 0);
            }
            // As always, a signal that waits already is not counted again.
            assert!(signals.has_arrived());
            assert!(signals.take_only(REPLACE) && !signals.take_only(REPLACE));
            assert_eq!(signals.take(), [TERM]);
            assert!(!signals.has_arrived());
        });
        test.join().unwrap();
    }
}
