//! A peer in a snapshot.

use minicbor::{Decode, Encode};

use super::Peer;

/// A peer: 16 bytes of address and 2 of port, in the network's order.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct SavedPeer(#[cbor(n(0), with = "minicbor::bytes")] [u8; 18]);

impl Peer {
    pub fn save(self) -> SavedPeer {
        let mut bytes = [0; 18];
        let (ip, port) = bytes.split_at_mut(16);
        ip.copy_from_slice(&self.ip);
        port.copy_from_slice(&self.port.to_be_bytes());
        SavedPeer(bytes)
    }

    pub fn restore(saved: SavedPeer) -> Peer {
        let SavedPeer([ip @ .., high, low]) = saved;
        Peer {
            ip,
            port: u16::from_be_bytes([high, low]),
        }
    }
}
