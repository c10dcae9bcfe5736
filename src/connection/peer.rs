//! The address at the other end of a connection.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::short_text::ShortText;

mod saved;

pub use saved::SavedPeer;

/// A peer's address, packed: a connection keeps it for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// IPv4 addresses as IPv6 has them, `::ffff:a.b.c.d`.
    ip: [u8; 16],
    /// 0: not known.
    port: u16,
}

impl Peer {
    /// A peer on a unix socket: an address that no other can have.
    pub const UNIX: Peer = Peer {
        ip: [0; 16],
        port: 0,
    };

    pub fn new(address: SocketAddr) -> Peer {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Peer {
            ip: ip.octets(),
            port: address.port(),
        }
    }

    /// The address' IP. `None`: a unix socket, which has none.
    pub fn ip(&self) -> Option<IpAddr> {
        (*self != Peer::UNIX).then(|| Ipv6Addr::from(self.ip).to_canonical())
    }

    /// What counts as one address. `None`: it has none.
    pub fn network(&self) -> Option<Network> {
        let mut octets = self.ip;
        if self.ip()?.is_ipv6() {
            octets[8..].fill(0);
        }
        Some(Network(octets))
    }

    /// Whether it is on this machine: on loopback or a unix socket (`docs/api.md#the-key`).
    pub fn is_local(&self) -> bool {
        self.ip().is_none_or(|ip| ip.is_loopback())
    }
}

/// An IPv4 address, or the 64 bits of an IPv6 address that name a network. One customer has at least that many
/// addresses (RFC 6177 2), and could otherwise count as any number of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network([u8; 16]);

impl Peer {
    /// `127.0.0.1:51814`, `[::1]:51814` or `unix` (`docs/authorizer.md#questions`); the address alone if a proxy has not named
    /// the port.
    pub fn text(&self) -> ShortText {
        let mut text = ShortText::default();
        // Writing to it cannot fail.
        let _ = match (self.ip(), self.port) {
            (None, _) => text.write_str("unix"),
            (Some(IpAddr::V4(ip)), port) => {
                for (nth, octet) in ip.octets().into_iter().enumerate() {
                    if nth > 0 {
                        text.push(b'.');
                    }
                    text.push_decimal(octet.into());
                }
                if port > 0 {
                    text.push(b':');
                    text.push_decimal(port);
                }
                Ok(())
            }
            (Some(ip), 0) => write!(text, "{ip}"),
            (Some(ip), port) => write!(text, "{}", SocketAddr::new(ip, port)),
        };
        text
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_their_mapping() {
        let table = [
            ("127.0.0.1:51814", "127.0.0.1:51814", true),
            ("[::ffff:127.0.0.1]:51814", "127.0.0.1:51814", true),
            ("[::ffff:203.0.113.7]:1", "203.0.113.7:1", false),
            ("127.9.9.9:2", "127.9.9.9:2", true),
            ("[::1]:3", "[::1]:3", true),
            ("[2001:db8::1]:4", "[2001:db8::1]:4", false),
            ("203.0.113.7:0", "203.0.113.7", false),
            ("[2001:db8::1]:0", "2001:db8::1", false),
        ];
        for (address, shown, local) in table {
            let peer = Peer::new(address.parse().unwrap());
            assert_eq!((peer.to_string().as_str(), peer.is_local()), (shown, local));
        }
        assert_eq!(
            (Peer::UNIX.to_string().as_str(), Peer::UNIX.is_local()),
            ("unix", true)
        );
        assert_eq!(size_of::<Peer>(), 18);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let network = |address: &str| Peer::new(address.parse().unwrap()).network();
        for (one, other, same) in [
            ("203.0.113.7:1", "203.0.113.7:2", true),
            ("203.0.113.7:1", "[::ffff:203.0.113.7]:2", true),
            ("203.0.113.7:1", "203.0.113.8:1", false),
            ("[2001:db8::1]:1", "[2001:db8::ffff:0:0:1]:2", true),
            ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false),
            ("[::1]:1", "127.0.0.1:1", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
        assert_eq!(Peer::UNIX.network(), None);
    }
}
