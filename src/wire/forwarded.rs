//! The client behind a proxy: `X-Forwarded-For`, and which proxies are trusted (`--trusted-proxies`).
//!
//! Owns: the meaning of the flag and of the header. Knows: addresses. Never knows: connections, or what an address is used
//! for.
//!
//! Decisions
//! - The header is read from its end, and only as far as proxies are trusted. Each proxy appends the address that it
//!   saw, and entries further to the left may be forged. So the client is the last hop that is not a trusted proxy.
//! - A hop that is not an address ends the walk at the proxy that appended it.
//! - `X-Forwarded-For` alone rather than `Forwarded` and `X-Real-IP` as well: a proxy sets the one and passes the
//!   others through as the client wrote them. Reconsider when a proxy that people use has no other.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The trusted proxies: `--trusted-proxies`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<IpNet>,
    /// Peers on unix sockets.
    unix: bool,
}

impl Proxies {
    /// Reads the flag's value: addresses, networks and `unix` with commas between them; empty trusts none. With any of
    /// them peers on unix sockets are trusted too: only this machine can open one.
    ///
    /// # Errors
    /// The entry that is none of these.
    pub fn parse(value: &str) -> Result<Proxies, String> {
        let mut proxies = Proxies::default();
        for entry in value.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            proxies.unix = true;
            if entry != "unix" {
                let network = network(entry).ok_or_else(|| entry.to_owned())?;
                proxies.networks.push(network);
            }
        }
        Ok(proxies)
    }

    /// Whether a peer at this address is trusted. `None` is a unix socket.
    pub fn trusts(&self, address: Option<IpAddr>) -> bool {
        match address {
            Some(address) => self.networks.iter().any(|n| n.contains(&address)),
            None => self.unix,
        }
    }

    /// The client behind a trusted proxy, by the hops in its `X-Forwarded-For` (all its lines taken as one); port 0 if the
    /// hop has none. `None`: the proxy itself is the client.
    pub fn client<'a>(&self, hops: impl Iterator<Item = &'a [u8]>) -> Option<SocketAddr> {
        let hops: Vec<&[u8]> = hops.collect();
        let mut client = None;
        for hop in hops.into_iter().rev() {
            let Some(address) = address(hop) else { break };
            client = Some(address);
            if !self.trusts(Some(address.ip())) {
                break;
            }
        }
        client
    }
}

/// An address or a network. An IPv4-mapped one becomes IPv4, as the addresses that it is compared with do.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            let length = v6.prefix_len().checked_sub(96)?;
            IpNet::new(v6.addr().to_canonical(), length).ok()
        }
        network => Some(network.trunc()),
    }
}

/// A hop: an address, IPv6 with or without brackets, with or without a port.
fn address(hop: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(hop).ok()?;
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => {
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
            let ip = match bare {
                Some(bare) => IpAddr::V6(bare.parse().ok()?),
                None => text.parse().ok()?,
            };
            SocketAddr::new(ip, 0)
        }
    };
    known(address)
}

/// The address, if it can be a peer's: 0.0.0.0 and `::` cannot.
pub(super) fn known(address: SocketAddr) -> Option<SocketAddr> {
    let ip = address.ip().to_canonical();
    (!ip.is_unspecified()).then(|| SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(text: &str) -> Proxies {
        Proxies::parse(text).unwrap()
    }

    #[test]
    fn trust_is_given_by_address_and_network() {
        let some = proxies("10.0.0.0/8, 192.0.2.1,2001:db8::/32,::1 ,::ffff:198.51.100.0/120,");
        for (address, trusted) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("198.51.100.200", true),
            ("198.51.101.1", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("127.0.0.1", false),
        ] {
            assert_eq!(
                some.trusts(Some(address.parse().unwrap())),
                trusted,
                "{address}"
            );
        }
        assert!(some.trusts(None) && proxies("unix").trusts(None));
        assert!(!proxies("").trusts(None) && !proxies(" , ").trusts(None));
        assert!(!proxies("unix").trusts(Some("127.0.0.1".parse().unwrap())));
        assert!(proxies("0.0.0.0/0").trusts(Some("203.0.113.7".parse().unwrap())));
        // The bits behind the network's are ignored.
        assert_eq!(proxies("10.1.2.3/8"), proxies("10.0.0.0/8"));
        for wrong in [
            "10.0.0.0/33",
            "10.0.0",
            "localhost",
            "10.0.0.1:80",
            "*",
            "::/129",
            "::ffff:1.2.3.4/90",
            "/8",
            "1.2.3.4/",
        ] {
            assert_eq!(
                Proxies::parse(&format!("::1,{wrong}")),
                Err(wrong.to_owned())
            );
        }
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy() {
        let some = proxies("10.0.0.0/8,fd00::/8");
        for (hops, client) in [
            ("", None),
            ("203.0.113.7", Some("203.0.113.7:0")),
            ("198.51.100.9,203.0.113.7", Some("203.0.113.7:0")),
            (
                "198.51.100.9, 203.0.113.7 ,10.0.0.1,fd00::1",
                Some("203.0.113.7:0"),
            ),
            // All are trusted: the first.
            ("10.0.0.3,10.0.0.2", Some("10.0.0.3:0")),
            // Ports, brackets, IPv4 in the guise of IPv6.
            ("203.0.113.7:51814", Some("203.0.113.7:51814")),
            ("203.0.113.7,10.0.0.1:80", Some("203.0.113.7:0")),
            ("2001:db8::1", Some("[2001:db8::1]:0")),
            ("[2001:db8::1]", Some("[2001:db8::1]:0")),
            ("[2001:db8::1]:9", Some("[2001:db8::1]:9")),
            ("::ffff:203.0.113.7", Some("203.0.113.7:0")),
            ("203.0.113.7,::ffff:10.0.0.1", Some("203.0.113.7:0")),
            // An entry that is not an address ends the walk at the proxy that wrote it.
            ("203.0.113.7,unknown", None),
            ("203.0.113.7,unknown,10.0.0.1", Some("10.0.0.1:0")),
            ("203.0.113.7,_hidden,10.0.0.2,10.0.0.1", Some("10.0.0.2:0")),
            ("203.0.113.7,10.0.0.300", None),
            ("203.0.113.7,10.0.0.1:99999", None),
            ("203.0.113.7,10.0.0.1:", None),
            ("203.0.113.7,[10.0.0.1]", None),
            ("203.0.113.7,[fd00::1", None),
            ("203.0.113.7,010.0.0.1", None),
            ("203.0.113.7,\u{e9}", None),
            // An address of no host, and ours for a unix socket.
            ("::", None),
            ("0.0.0.0:0", None),
            ("::ffff:0.0.0.0", None),
        ] {
            let hops = hops.split(',').map(|hop| hop.trim().as_bytes());
            let found = some.client(hops.clone().filter(|hop| !hop.is_empty()));
            assert_eq!(
                found,
                client.map(|c| c.parse().unwrap()),
                "{:?}",
                hops.collect::<Vec<_>>()
            );
        }
        assert_eq!(some.client([b"\xff".as_slice()].into_iter()), None);
    }
}
