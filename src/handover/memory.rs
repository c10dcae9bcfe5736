//! The file in memory that holds a snapshot: it is written once, and sealed.
//!
//! Owns: the file. Knows: memfd_create(2), the limit on files' sizes. Never knows: what is in it.

use std::fs::File;
use std::io::{self, Seek, Write};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// A snapshot's file while it is written.
#[derive(Debug)]
pub struct SnapshotFile {
    file: File,
    written: u64,
    /// More would be answered with a signal that ends the process (SIGXFSZ).
    limit: u64,
}

impl SnapshotFile {
    /// Creates an empty one.
    ///
    /// # Errors
    /// There is no memory or no file descriptor left.
    pub fn create() -> io::Result<SnapshotFile> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let create = |flags| memfd_create(c"wsify-snapshot", flags);
        // Linux before 6.3 does not know that flag, and later ones may insist on it (vm.memfd_noexec).
        let file = match create(flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => create(flags)?,
            created => created?,
        };
        Ok(SnapshotFile {
            file: file.into(),
            written: 0,
            limit: getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX),
        })
    }

    /// Seals what was written: from here on it cannot change. Returns the file, and its size.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn seal(mut self) -> io::Result<(File, u64)> {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&self.file, seals)?;
        self.file.rewind()?;
        Ok((self.file, self.written))
    }
}

impl Write for SnapshotFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.written.saturating_add(bytes.len() as u64);
        if after > self.limit {
            return Err(Errno::FBIG.into());
        }
        let written = self.file.write(bytes)?;
        self.written = self.written.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_sealed_memory_file_cannot_be_written() {
        let mut file = SnapshotFile::create().unwrap();
        file.write_all(b"facts").unwrap();
        let (mut file, size) = file.seal().unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!((read.as_str(), size), ("facts", 5));
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(1).is_err() && file.set_len(9).is_err());
    }

    #[test]
    fn the_limit_on_files_is_an_error_and_no_signal() {
        let mut file = SnapshotFile::create().unwrap();
        file.limit = 4;
        file.write_all(b"fact").unwrap();
        let error = file.write_all(b"s").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::FBIG.raw_os_error()));
    }
}
