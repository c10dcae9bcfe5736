//! The first record and the last.

use minicbor::{Decode, Encode};

use super::SnapshotError;

/// The format of the records themselves, as opposed to what they hold. Another format cannot be read at all.
pub const FORMAT: u32 = 1;

/// What this release knows of that a snapshot may need. A name stays forever.
const KNOWN: &[&str] = &[];

/// The first record of a snapshot.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SnapshotHeader {
    /// [`FORMAT`].
    #[n(0)]
    pub format: u32,
    /// The release that has written it, for the log.
    #[n(1)]
    pub release: String,
    /// Names of what a reader has to know.
    #[cbor(n(2), default)]
    pub needs: Vec<String>,
    /// When the server's clock began, in nanoseconds of the kernel's monotonic clock. All times of a snapshot are
    /// milliseconds since then, and the clock goes on.
    #[n(3)]
    pub started: u64,
}

impl SnapshotHeader {
    /// The header that this release writes.
    pub fn new(started: u64) -> SnapshotHeader {
        SnapshotHeader {
            format: FORMAT,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            needs: Vec::new(),
            started,
        }
    }

    /// Whether this release can read what follows.
    pub(super) fn check(&self) -> Result<(), SnapshotError> {
        let Self { format, .. } = self;
        if *format != FORMAT {
            let problem = format!("its format is {format}, and this release reads {FORMAT}");
            return Err(SnapshotError::new(problem));
        }
        let known = |need: &&String| KNOWN.contains(&need.as_str());
        match self.needs.iter().find(|need| !known(need)) {
            None => Ok(()),
            Some(need) => {
                let problem = format!(
                    "release {:?} needs {need:?} to be known, and this release does not know it",
                    self.release
                );
                Err(SnapshotError::new(problem))
            }
        }
    }
}

/// The last record.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct End {
    /// Records before it, the header included.
    #[n(0)]
    pub records: u64,
}
