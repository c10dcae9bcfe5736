//! A listener in a snapshot.
//!
//! Owns: [`SavedListener`]. Knows: that a unix socket's file passes on with it. Never knows: how it was opened.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Listener, ListenerKind, SocketFile};
use crate::snapshot::SnapshotError;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedListener {
    /// The number of its descriptor.
    #[n(0)]
    socket: u64,
    #[cbor(n(1), default)]
    unix: bool,
    /// Of a unix socket's file that is removed when the listener closes.
    #[n(2)]
    file: Option<SavedSocketFile>,
    #[n(3)]
    address: String,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedSocketFile {
    #[n(0)]
    path: ByteVec,
    #[n(1)]
    device: u64,
    #[n(2)]
    inode: u64,
}

impl Listener {
    pub fn save(&self) -> SavedListener {
        let Listener {
            socket,
            kind,
            // It follows from the socket.
            pending: _,
            address,
        } = self;
        let (unix, file) = match kind {
            ListenerKind::Tcp => (false, None),
            ListenerKind::Unix { file } => (true, file.as_ref().map(SocketFile::save)),
        };
        SavedListener {
            socket: socket.as_raw_fd() as u64,
            unix,
            file,
            address: address.clone(),
        }
    }

    /// A listener of another program. `socket` brings the descriptor with a number.
    ///
    /// # Errors
    /// The descriptor does not listen.
    pub fn restore(
        saved: SavedListener,
        socket: impl FnOnce(u64) -> Result<OwnedFd, SnapshotError>,
    ) -> Result<Listener, SnapshotError> {
        let SavedListener {
            socket: number,
            unix,
            file,
            address,
        } = saved;
        let socket = socket2::Socket::from(socket(number)?);
        if !matches!(socket.is_listener(), Ok(true)) {
            // It stays open: another program may go on with it.
            std::mem::forget(socket);
            let problem = format!("descriptor {number} does not listen");
            return Err(SnapshotError::new(problem));
        }
        let kind = if unix {
            ListenerKind::Unix {
                file: file.map(SocketFile::restore),
            }
        } else {
            ListenerKind::Tcp
        };
        Ok(Listener::new(socket, kind, address))
    }
}

impl SocketFile {
    fn save(&self) -> SavedSocketFile {
        let (device, inode) = self.identity;
        SavedSocketFile {
            path: self.path.as_os_str().as_bytes().to_vec().into(),
            device,
            inode,
        }
    }

    fn restore(saved: SavedSocketFile) -> SocketFile {
        SocketFile {
            path: PathBuf::from(OsStr::from_bytes(&saved.path)),
            identity: (saved.device, saved.inode),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::config::Listen;
    use crate::listener::open;

    fn again(listener: &Listener) -> Listener {
        let saved = minicbor::to_vec(listener.save()).unwrap();
        let saved: SavedListener = minicbor::decode(&saved).unwrap();
        let copy = listener.socket.try_clone().unwrap();
        Listener::restore(saved, |number| {
            assert_eq!(number, listener.socket.as_raw_fd() as u64);
            Ok(copy.into())
        })
        .unwrap()
    }

    #[test]
    fn a_listener_goes_on_as_it_was() {
        let any = Listen::Ip((Ipv4Addr::LOCALHOST, 0).into());
        let listener = open(&any, false).unwrap().remove(0);
        let restored = again(&listener);
        assert_eq!(restored.address, listener.address);
        let _client = TcpStream::connect(&listener.address).unwrap();
        assert!(restored.accept().unwrap().1.is_local());
    }

    #[test]
    fn the_file_of_a_unix_socket_is_removed_by_the_program_that_stops() {
        let path = std::env::temp_dir().join(format!("wsify-saved-{}", std::process::id()));
        let listener = open(&Listen::Unix(path.clone()), false).unwrap().remove(0);
        let restored = again(&listener);
        assert!(matches!(restored.kind, ListenerKind::Unix { .. }));
        // A program that is replaced drops nothing.
        std::mem::forget(listener);
        assert!(path.exists());
        drop(restored);
        assert!(!path.exists());
    }

    #[test]
    fn a_descriptor_that_does_not_listen_is_refused() {
        let any = Listen::Ip((Ipv4Addr::LOCALHOST, 0).into());
        let saved = open(&any, false).unwrap().remove(0).save();
        let other = std::fs::File::open("/dev/null").unwrap();
        assert!(Listener::restore(saved, |_| Ok(other.into())).is_err());
    }
}
