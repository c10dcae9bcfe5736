//! The rollback: if the new program fails before it has served anything, the old one runs again, in the same process.
//!
//! Owns: what that takes, prepared beforehand. Knows: execve(2), signals. Never knows: why the new program fails.
//!
//! Decisions
//! - A fatal signal, or a time that is over, is caught by a handler, which does nothing but replace the program: that is
//!   allowed in a handler (signal-safety(7)). A panic goes back before it unwinds, because a socket that is dropped on the
//!   way would be closed.
//! - Only the main thread goes back, since the sockets are in its table of file descriptors (fd_table.rs). Another thread
//!   passes the signal on.
//! - It ends before the first byte is read or written. From then on the snapshot is not true any more.

use std::env;
use std::ffi::{CString, OsString, c_char};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Command};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::Duration;

use super::role::{HandoverRole, TakeoverState, VARIABLE};
use super::{program, timeout};

/// What is caught, and the reason that the log gives.
const CAUGHT: [(i32, &str); 7] = [
    (libc::SIGALRM, "it did not take over in time"),
    (libc::SIGSEGV, "it crashed (SIGSEGV)"),
    (libc::SIGBUS, "it crashed (SIGBUS)"),
    (libc::SIGILL, "it crashed (SIGILL)"),
    (libc::SIGFPE, "it crashed (SIGFPE)"),
    (libc::SIGABRT, "it crashed (SIGABRT)"),
    (libc::SIGSYS, "it crashed (SIGSYS)"),
];

/// What a handler needs. It is never freed.
static PREPARED: AtomicPtr<Prepared> = AtomicPtr::new(ptr::null_mut());
/// The signal of another thread that the main thread is to go back for; 0: there is none.
static PASSED_ON: AtomicI32 = AtomicI32::new(0);

/// A call of execve(2) for each signal.
struct Prepared {
    path: CString,
    arguments: Strings,
    /// In the order of [`CAUGHT`].
    environments: Vec<Strings>,
}

/// Texts as execve(2) takes them.
struct Strings {
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    fn new(texts: impl IntoIterator<Item = OsString>) -> Strings {
        let texts: Vec<CString> = texts
            .into_iter()
            .filter_map(|text| CString::new(text.into_vec()).ok())
            .collect();
        let pointers = texts.iter().map(|text| text.as_ptr());
        let pointers = pointers.chain([ptr::null()]).collect();
        Strings {
            _texts: texts,
            pointers,
        }
    }
}

/// The rollback, possible until it is [closed](Rollback::close).
#[derive(Debug)]
#[must_use]
pub struct Rollback {
    takeover: TakeoverState,
    before: Vec<(i32, SignalAction)>,
}

/// How a signal was handled before.
struct SignalAction(libc::sigaction);

impl std::fmt::Debug for SignalAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalAction").finish_non_exhaustive()
    }
}

impl Rollback {
    /// Opens it: from now on a fatal signal leads back to the program that has written the snapshot, and so does the end of
    /// `timeout`.
    pub fn open(takeover: TakeoverState) -> Rollback {
        let environment = |reason: &str| {
            let others = env::vars_os().filter(|(name, _)| name != VARIABLE);
            let role = HandoverRole::Return(takeover, reason.to_owned()).text(process::id());
            let own = (VARIABLE.into(), role.into());
            Strings::new(others.chain([own]).map(|(name, value)| {
                let mut text: OsString = name;
                text.push("=");
                text.push::<OsString>(value);
                text
            }))
        };
        let prepared = Prepared {
            path: CString::new(path(takeover.program).as_bytes()).unwrap_or_default(),
            arguments: Strings::new(env::args_os()),
            environments: CAUGHT.map(|(_, reason)| environment(reason)).into(),
        };
        PREPARED.store(Box::into_raw(Box::new(prepared)), Ordering::Release);
        let before = CAUGHT.map(|(signal, _)| (signal, set_action(signal, &caught())));
        std::panic::set_hook(Box::new(move |panic| {
            if !is_main_thread() {
                go_back(libc::SIGABRT);
            }
            let error = execute(&takeover, &format!("it panicked: {panic}"));
            eprintln!("{panic}; there is no way back: {error}");
        }));
        let size = fs::metadata(path(takeover.snapshot)).map_or(0, |it| it.len());
        set_alarm(timeout(size));
        let before = before.into();
        Rollback { takeover, before }
    }

    /// Closes it: the new program has taken over. What would be caught has its former effect.
    pub fn close(self) {
        set_alarm(Duration::ZERO);
        let _ = std::panic::take_hook();
        for (signal, action) in &self.before {
            set_action(*signal, action);
        }
    }

    /// Goes back, for this reason. Returns only if that fails.
    pub fn go(self, reason: &str) -> io::Error {
        let takeover = self.takeover;
        self.close();
        execute(&takeover, reason)
    }
}

/// Replaces this program by the old one. Returns only if that fails.
fn execute(takeover: &TakeoverState, reason: &str) -> io::Error {
    let role = HandoverRole::Return(*takeover, reason.to_owned());
    ignore_alarms(true);
    exec(program::command(path(takeover.program).as_ref(), &role))
}

/// Replaces this program. Returns only if that fails; SIGPIPE is then ignored as before.
pub(super) fn exec(mut command: Command) -> io::Error {
    let error = command.exec();
    // SAFETY: signal(2) takes numbers. `exec` has given SIGPIPE its default action, by which a closed stdout would end this
    // program.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    error
}

/// Has SIGALRM ignored, or not any more. One that is pending is then forgotten, and execve(2) keeps this: no alarm of the
/// program that has failed ends the one that is back.
fn ignore_alarms(ignored: bool) {
    let action = if ignored {
        libc::SIG_IGN
    } else {
        libc::SIG_DFL
    };
    // SAFETY: signal(2) takes numbers, and may be called in a handler.
    unsafe {
        libc::signal(libc::SIGALRM, action);
    }
}

/// An open file, as a path.
fn path(file: RawFd) -> OsString {
    format!("/proc/self/fd/{file}").into()
}

fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// The handler, on the stack that is kept for handlers. Its own signal is not blocked, because the mask passes to the next
/// program.
fn caught() -> SignalAction {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroes are a valid `sigaction`, and sigemptyset(3) initializes its mask.
    unsafe {
        let it = action.assume_init_mut();
        it.sa_sigaction = go_back as *const () as usize;
        it.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigemptyset(&raw mut it.sa_mask);
        SignalAction(action.assume_init())
    }
}

/// Sets how a signal is handled. Returns how it was before.
fn set_action(signal: i32, action: &SignalAction) -> SignalAction {
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: both structures are valid, and sigaction(2) keeps no pointer to them. The handler is one of this file's, or
    // one that was set before.
    unsafe {
        libc::sigaction(signal, &raw const action.0, before.as_mut_ptr());
        SignalAction(before.assume_init())
    }
}

/// Has SIGALRM sent after a time, which is rounded up to seconds. Zero: never.
fn set_alarm(after: Duration) {
    let seconds = after.as_millis().div_ceil(1000).min(86_400) as u32;
    // SAFETY: alarm(2) takes a number.
    unsafe {
        libc::alarm(seconds);
    }
}

/// The old program is back: no alarm is due any more. Started by a descriptor, the process has taken its number for a name:
/// it is named again by the program's first argument.
pub fn arrived() {
    set_alarm(Duration::ZERO);
    ignore_alarms(false);
    let name = env::args_os().next().map(PathBuf::from);
    let name = name.as_ref().and_then(|name| name.file_name());
    if let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Goes back, in a handler.
extern "C" fn go_back(signal: i32) {
    // SAFETY: all that is called here may be called in a handler (signal-safety(7)). What PREPARED points to is never
    // freed or changed, and its pointers are to texts that it owns.
    unsafe {
        let main = libc::getpid();
        if libc::syscall(libc::SYS_gettid) != i64::from(main) as libc::c_long {
            PASSED_ON.store(signal, Ordering::Release);
            libc::syscall(libc::SYS_tgkill, main, main, libc::SIGALRM);
            loop {
                libc::pause();
            }
        }
        let signal = match PASSED_ON.load(Ordering::Acquire) {
            0 => signal,
            other => other,
        };
        let prepared = PREPARED.load(Ordering::Acquire).as_ref();
        let nth = CAUGHT.iter().position(|(caught, _)| *caught == signal);
        if let (Some(prepared), Some(nth)) = (prepared, nth)
            && let Some(environment) = prepared.environments.get(nth)
        {
            ignore_alarms(true);
            libc::execve(
                prepared.path.as_ptr(),
                prepared.arguments.pointers.as_ptr(),
                environment.pointers.as_ptr(),
            );
        }
        // No rollback is possible: the signal has its usual effect.
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::parent_id;
    use std::process::Command;
    use std::thread;

    use super::*;
    use crate::handover::{PauseTimes, keep};

    const FAILURE: &str = "WSIFY_TEST_FAILURE";

    fn raise(signal: i32) {
        // SAFETY: raise(3) takes a number.
        unsafe {
            libc::raise(signal);
        }
    }

    /// Plays a new program that fails. It is this one, and so is the old one.
    fn fail(how: &str) {
        let file = File::open("/proc/self/exe").unwrap();
        keep(&file, true).unwrap();
        let rollback = Rollback::open(TakeoverState {
            snapshot: file.as_raw_fd(),
            program: file.as_raw_fd(),
            times: PauseTimes::default(),
        });
        match how {
            "crash" => raise(libc::SIGSEGV),
            "abort" => process::abort(),
            "hang" => raise(libc::SIGALRM),
            "panic" => panic!("oh no"),
            "thread" => thread::spawn(|| raise(libc::SIGBUS)).join().unwrap(),
            "error" => _ = rollback.go("no room"),
            "late" => {
                rollback.close();
                raise(libc::SIGSEGV);
            }
            _ => {}
        }
    }

    #[test]
    fn every_failure_leads_back_to_the_old_program() {
        let variable = env::var_os(VARIABLE);
        let role = HandoverRole::read(variable, parent_id(), process::id());
        if let HandoverRole::Return(_, why) = role {
            println!("returned: {why}");
            process::exit(0);
        }
        if let Ok(how) = env::var(FAILURE) {
            return fail(&how);
        }
        for (how, why) in [
            ("crash", "it crashed (SIGSEGV)"),
            ("abort", "it crashed (SIGABRT)"),
            ("hang", "it did not take over in time"),
            // Not on the main thread.
            ("panic", "it crashed (SIGABRT)"),
            ("thread", "it crashed (SIGBUS)"),
            ("error", "no room"),
        ] {
            let output = played(how);
            assert!(
                output.contains("returned: ") && output.contains(why),
                "{how}: {output}"
            );
        }
        assert!(!played("late").contains("returned"));
    }

    /// What this test prints in a process of its own.
    fn played(how: &str) -> String {
        let test = "handover::rollback::tests::every_failure_leads_back_to_the_old_program";
        let output = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(FAILURE, how)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
