//! Threads that have file descriptors of their own.
//!
//! Owns: how one begins. Knows: the kernel's table of descriptors. Never knows: what is done in there.
//!
//! Decision: apart, over sharing the loop's table as threads do. Because the kernel looks a descriptor up faster while its
//! table has one user, which is 2 to 4 % of a delivery; and because a table that several use grows only when all processors
//! have been waited for: each time that their number doubled, a rush of clients stood still for 10 milliseconds. Whoever is
//! started from such a thread shares its table. The price is that what was open before is in both: a client's connection that
//! is closed in one only would never end, so all of them begin before there are any.

use std::io;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Starts a thread, and returns once it is apart. Where that is not allowed, it shares what there is.
///
/// # Errors
/// There can be no further thread.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (parted, waiting) = mpsc::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ = unshare(CloneFlags::CLONE_FILES);
            let _ = parted.send(());
            run();
        })?;
    let _ = waiting.recv();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn what_it_opens_nobody_else_sees() {
        let path = std::env::temp_dir().join(format!("wsify-apart-{}", std::process::id()));
        let theirs = path.clone();
        let (opened, seen) = mpsc::channel();
        let (looked, done) = mpsc::channel();
        spawn("apart", move || {
            let file = File::create(theirs);
            // Where it is not allowed, it was not done either.
            let allowed = unshare(CloneFlags::CLONE_FILES).is_ok();
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
}
