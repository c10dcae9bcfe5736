//! Descriptors that pass from one program to the next.
//!
//! Owns: which numbers have been handed over, and that each is taken once. Knows: the flag FD_CLOEXEC. Never knows: what a
//! descriptor is for.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use crate::snapshot::SnapshotError;

/// Whether a descriptor stays open when the program is replaced.
///
/// # Errors
/// It is not open.
pub fn keep(descriptor: impl AsFd, kept: bool) -> rustix::io::Result<()> {
    // There is no other flag (fcntl(2)).
    let flags = if kept {
        FdFlags::empty()
    } else {
        FdFlags::CLOEXEC
    };
    fcntl_setfd(descriptor, flags)
}

/// Descriptors that this program has been handed, and that nothing in it owns yet.
#[derive(Debug, Default)]
pub struct Inherited(BTreeSet<RawFd>);

impl Inherited {
    /// The ones with these numbers. Standard input, output and errors are never among them.
    pub fn new(numbers: impl IntoIterator<Item = RawFd>) -> Inherited {
        Inherited(numbers.into_iter().filter(|fd| *fd > 2).collect())
    }

    /// Takes a descriptor. It stays open when the program is replaced, until [`keep`] says otherwise.
    ///
    /// # Errors
    /// It was not handed over, it was taken before, or it is not open.
    pub fn take(&mut self, number: u64) -> Result<OwnedFd, SnapshotError> {
        let fd = RawFd::try_from(number).ok();
        let Some(fd) = fd.filter(|fd| self.0.remove(fd)) else {
            let problem = format!("descriptor {number} was not handed over, or is used twice");
            return Err(SnapshotError::new(problem));
        };
        // SAFETY: the old program has handed this number over, and was its only owner. It is in the set once, and only what
        // this program has opened itself has other numbers. If it is not open, it is given back before anything uses it.
        let open = unsafe {
            let borrowed = BorrowedFd::borrow_raw(fd);
            fcntl_getfd(borrowed).map(|_| OwnedFd::from_raw_fd(fd))
        };
        open.map_err(|error| {
            SnapshotError::new(format!("descriptor {number} cannot be used: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn a_descriptor_is_taken_once() {
        let file = File::open("/dev/null").unwrap();
        keep(&file, true).unwrap();
        let number = file.into_raw_fd();
        let mut inherited = Inherited::new([0, 1, 2, number]);
        let taken = inherited.take(number as u64).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert_eq!(fcntl_getfd(&taken), Ok(FdFlags::empty()));
        keep(&taken, false).unwrap();
        assert_eq!(fcntl_getfd(&taken), Ok(FdFlags::CLOEXEC));
        for other in [0, 2, number as u64, 1 << 20, u64::MAX] {
            assert!(inherited.take(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_no_descriptor() {
        let far = 1_000_000;
        assert!(Inherited::new([far]).take(far as u64).is_err());
    }
}
