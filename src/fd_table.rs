//! Threads that have a table of file descriptors of their own.
//!
//! Owns: how one is started. Knows: `unshare(2)`. Never knows: what such a thread does.
//!
//! Decision: a table of their own, rather than sharing the loop's as threads do. The kernel looks a descriptor up
//! faster while its table has one user, which is 2 to 4 % of a delivery. And a table with several users grows only
//! after a wait for all processors. Each time that it doubles, that would stop a rush of clients for 10 milliseconds.
//! Threads that are started from such a thread share its table. The price: descriptors that are already open are in
//! both tables. A client's connection that is closed in only one of them would never end. So all these threads start
//! before there are clients, and close the descriptors that a handover has brought.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Descriptors of the loop that were open before this program ran. Empty once it serves.
static INHERITED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Notes which descriptors a handover has brought: threads that are started from now on have none of them.
pub fn set_inherited(descriptors: Vec<RawFd>) {
    *INHERITED.lock().unwrap_or_else(PoisonError::into_inner) = descriptors;
}

/// Starts a thread, and returns once it has its own table. Where that is not allowed, it shares what there is.
///
/// # Errors
/// There can be no further thread.
pub fn spawn_with_own_fds(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (parted, waiting) = mpsc::channel();
    let inherited = INHERITED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let parts = unshare_fds();
            let _ = parted.send(());
            if parts.is_ok() {
                close(&inherited);
            }
            run();
        })?;
    let _ = waiting.recv();
    Ok(())
}

/// Gives the calling thread a copy of the process's table of file descriptors.
fn unshare_fds() -> io::Result<()> {
    // SAFETY: I/O safety (`std::io#io-safety`) is at stake, no memory: an `OwnedFd` that moves to or from this thread
    // would name another descriptor there. Right after the call nothing has moved yet, and `run` captures no descriptor
    // that it closes. It captures channels, the log's lines, and the waker, which all threads drop with the process.
    // The copy keeps every number as it was, so what is only used (standard output, the waker) is the same file in
    // both.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }?;
    Ok(())
}

/// Closes what a handover has brought, in the calling thread's own table.
fn close(inherited: &[RawFd]) {
    for fd in inherited {
        // SAFETY: I/O safety again. The table is a copy that no other thread uses, and nothing in this thread has any of
        // these descriptors. In the loop's table they stay open.
        unsafe { rustix::io::close(*fd) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn descriptors_of_a_thread_with_own_fds_are_not_in_the_loops_table() {
        let path = std::env::temp_dir().join(format!("wsify-fd-table-{}", std::process::id()));
        let theirs = path.clone();
        let (opened, seen) = mpsc::channel();
        let (looked, done) = mpsc::channel();
        spawn_with_own_fds("own-fds", move || {
            let file = File::create(theirs);
            // Where it is not allowed, it was not done either.
            let allowed = unshare_fds().is_ok();
            let _ = opened.send(file.is_ok() && allowed);
            let _ = done.recv();
            drop(file);
        })
        .unwrap();
        if seen.recv().unwrap() {
            let mut open = fs::read_dir("/proc/self/fd").unwrap();
            let is_it = |fd: fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|it| it == path);
            assert!(!open.any(|fd| fd.is_ok_and(is_it)));
        }
        looked.send(()).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_a_handover_has_brought_is_open_in_the_loops_table_only() {
        let file = File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        set_inherited(vec![fd]);
        let (told, seen) = mpsc::channel();
        spawn_with_own_fds("own-fds", move || {
            let open = fs::read_link(format!("/proc/thread-self/fd/{fd}"));
            let _ = told.send(open.is_err());
        })
        .unwrap();
        let closed_there = seen.recv().unwrap();
        set_inherited(Vec::new());
        let allowed = thread::spawn(|| unshare_fds().is_ok()).join().unwrap();
        assert_eq!(closed_there, allowed);
        file.metadata().expect("it is still open here");
    }
}
