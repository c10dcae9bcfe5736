//! The PROXY protocol, versions 1 and 2: a header in which a proxy names its client (HAProxy's
//! doc/proxy-protocol.txt, cited by section).
//!
//! Owns: how the header is recognised and read. Knows: bytes. Never knows: whether its sender is trusted.
//!
//! Decisions
//! - A peer that has to send a header and sends something else is refused: a receiver must not guess (section 2).
//! - A header without an internet address (LOCAL, UNKNOWN, UNSPEC, a unix socket's, a datagram's) is skipped. The
//!   connection keeps the address that it has, as with HAProxy and nginx. Extensions (TLVs) are skipped too.
//! - At most [`MAX_HEADER`] bytes rather than the 64 KiB that version 2 can announce, because they wait in memory until
//!   they are complete. Real headers have a few hundred bytes, and nginx accepts as many.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::forwarded::known;
use super::http::{Refusal, Status};

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// Bytes that a header may take.
pub const MAX_HEADER: usize = 4096;
/// The longest line of version 1, its CR LF included (2.1).
const MAX_LINE: usize = 107;

/// How a header of version 2 begins (2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE: &[u8; 6] = b"PROXY ";

/// Reads a header from the start of `bytes`: the client's address, if it has one, and the header's length. `None`: it
/// is incomplete.
///
/// # Errors
/// `400` for what is not a header. The connection cannot be used after it.
pub fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Refusal> {
    if begins(bytes, LINE) {
        line(bytes)
    } else if begins(bytes, SIGNATURE) {
        binary(bytes)
    } else {
        Err(refusal("does not begin with a PROXY header"))
    }
}

/// Whether `bytes` begins with `start`, as far as it has come.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted)
}

fn refusal(what: &str) -> Refusal {
    let message = format!(
        "this connection {what}: a trusted proxy has to send one (send-proxy or send-proxy-v2 in HAProxy, \
         proxy_protocol in nginx), or take it out of --trusted-proxies"
    );
    Refusal::new(Status::BadRequest, "bad_proxy_header", message)
}

/// Version 1: `PROXY TCP4 203.0.113.7 192.0.2.1 51814 443` (2.1).
fn line(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Refusal> {
    let within = bytes.get(..MAX_LINE).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        return match within.len() {
            MAX_LINE => Err(refusal("begins with a PROXY line that is too long")),
            _ => Ok(None),
        };
    };
    let line = within.get(LINE.len()..end).unwrap_or_default();
    let client = if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        None
    } else {
        let client =
            client_of(line).ok_or_else(|| refusal("begins with a malformed PROXY line"))?;
        known(client)
    };
    Ok(Some((client, end.saturating_add(2))))
}

fn client_of(line: &[u8]) -> Option<SocketAddr> {
    let words: Vec<&str> = str::from_utf8(line).ok()?.split(' ').collect();
    match words[..] {
        ["TCP4", from, to, from_port, to_port] => {
            to.parse::<Ipv4Addr>().ok().and(port(to_port))?;
            Some((from.parse::<Ipv4Addr>().ok()?, port(from_port)?).into())
        }
        ["TCP6", from, to, from_port, to_port] => {
            to.parse::<Ipv6Addr>().ok().and(port(to_port))?;
            Some((from.parse::<Ipv6Addr>().ok()?, port(from_port)?).into())
        }
        _ => None,
    }
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    (digits && canonical).then(|| text.parse().ok()).flatten()
}

/// Version 2 (2.2).
fn binary(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Refusal> {
    let Some((&[.., command, family, high, low], rest)) = bytes.split_first_chunk::<16>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = length.saturating_add(16);
    if whole > MAX_HEADER {
        return Err(refusal("begins with a PROXY header that is too long"));
    }
    let Some(told) = rest.get(..length) else {
        return Ok(None);
    };
    let malformed = || refusal("begins with a malformed PROXY header");
    let client = match (command, family) {
        // LOCAL: the proxy's own connection, whatever follows.
        (0x20, _) => None,
        (0x21, 0x11) => {
            let (ip, rest) = told.split_first_chunk::<4>().ok_or_else(malformed)?;
            let (_, rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
            known((*ip, source_port(rest).ok_or_else(malformed)?).into())
        }
        (0x21, 0x21) => {
            let (ip, rest) = told.split_first_chunk::<16>().ok_or_else(malformed)?;
            let (_, rest) = rest.split_first_chunk::<16>().ok_or_else(malformed)?;
            known((*ip, source_port(rest).ok_or_else(malformed)?).into())
        }
        // UNSPEC, datagrams, unix sockets.
        (0x21, 0x00..=0x02 | 0x10 | 0x12 | 0x20 | 0x22 | 0x30..=0x32) => None,
        _ => return Err(malformed()),
    };
    Ok(Some((client, whole)))
}

/// The first of the two ports that `bytes` begin with.
fn source_port(bytes: &[u8]) -> Option<u16> {
    let ports = bytes.first_chunk::<4>()?;
    Some(u16::from_be_bytes([ports[0], ports[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, told: &[u8]) -> Vec<u8> {
        let length = (told.len() as u16).to_be_bytes();
        [SIGNATURE, [command, family].as_slice(), &length, told].concat()
    }

    const V4: &[u8] = &[203, 0, 113, 7, 192, 0, 2, 1, 0xCA, 0x66, 0x01, 0xBB];
    /// A type, a length of 3, and this many bytes.
    const TLV: &[u8] = &[0x04, 0, 3, 1, 2, 3];

    fn v6() -> Vec<u8> {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let ports = [0, 9, 1, 0xBB];
        [ip("2001:db8::1").as_slice(), &ip("2001:db8::2"), &ports].concat()
    }

    /// `None` is a header that is refused.
    fn judge(bytes: &[u8], wanted: Option<Option<&str>>) {
        fuzz(bytes);
        let wanted = wanted.map(|client| client.map(|c| c.parse().unwrap()));
        // Whole, and with more behind it.
        for more in [&b""[..], b"GET /ws HTTP/1.1\r\n", b"\r\n"] {
            match (parse(&[bytes, more].concat()), wanted) {
                (Ok(found), Some(wanted)) => assert_eq!(found, Some((wanted, bytes.len()))),
                (Err(refusal), None) => assert_eq!(refusal.code, "bad_proxy_header"),
                (found, _) => panic!("{}: {found:?}", bytes.escape_ascii()),
            }
        }
        // Byte by byte: no result too early, and an error by the end.
        for end in 0..bytes.len() {
            match parse(&bytes[..end]) {
                Ok(None) => {}
                Err(_) if wanted.is_none() => break,
                found => panic!("{}: {found:?}", bytes[..end].escape_ascii()),
            }
        }
    }

    #[test]
    fn proxy_protocol_version_1_lines() {
        for (text, client) in [
            (
                "TCP4 203.0.113.7 192.0.2.1 51814 443",
                Some("203.0.113.7:51814"),
            ),
            (
                "TCP4 255.255.255.255 255.255.255.255 65535 65535",
                Some("255.255.255.255:65535"),
            ),
            ("TCP4 203.0.113.7 192.0.2.1 0 0", Some("203.0.113.7:0")),
            (
                "TCP6 2001:db8::1 2001:db8::2 51814 443",
                Some("[2001:db8::1]:51814"),
            ),
            ("TCP6 ::ffff:203.0.113.7 ::1 1 2", Some("203.0.113.7:1")),
            ("UNKNOWN", None),
            ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535", None),
            ("TCP4 0.0.0.0 192.0.2.1 1 2", None),
            ("TCP6 :: ::1 0 0", None),
        ] {
            judge(format!("PROXY {text}\r\n").as_bytes(), Some(client));
        }
        judge(b"PROXY UNKNOWN \xff\0\n\r\r\n", Some(None));
        for text in [
            "TCP4 203.0.113.7 192.0.2.1 51814",
            "TCP4 203.0.113.7 192.0.2.1 51814 443 ",
            "TCP4  203.0.113.7 192.0.2.1 51814 443",
            "TCP4 203.0.113.7 192.0.2.1 65536 443",
            "TCP4 203.0.113.7 192.0.2.1 +1 443",
            "TCP4 203.0.113.7 192.0.2.1 01 443",
            "TCP4 203.0.113.7 192.0.2.1 1 x",
            "TCP4 203.0.113.07 192.0.2.1 1 2",
            "TCP4 203.0.113.7 192.0.2 1 2",
            "TCP4 2001:db8::1 2001:db8::2 1 2",
            "TCP6 203.0.113.7 192.0.2.1 1 2",
            "TCP6 [2001:db8::1] ::1 1 2",
            "UDP4 203.0.113.7 192.0.2.1 1 2",
            "tcp4 203.0.113.7 192.0.2.1 1 2",
            "UNKNOWNS",
            "",
            "TCP4 203.0.113.7 192.0.2.1 1 2\nGET / HTTP/1.1",
        ] {
            judge(format!("PROXY {text}\r\n").as_bytes(), None);
        }
        // The longest line there may be, and one byte more.
        let line = |fill: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(fill));
        judge(line(MAX_LINE - 16).as_bytes(), Some(None));
        judge(line(MAX_LINE - 15).as_bytes(), None);
    }

    #[test]
    fn headers_of_version_2() {
        let long = vec![0; MAX_HEADER - 16];
        let with_tlv = |told: &[u8]| [told, TLV, TLV].concat();
        for (bytes, client) in [
            (v2(0x21, 0x11, V4), Some("203.0.113.7:51814")),
            (v2(0x21, 0x11, &with_tlv(V4)), Some("203.0.113.7:51814")),
            (v2(0x21, 0x21, &v6()), Some("[2001:db8::1]:9")),
            (v2(0x21, 0x21, &with_tlv(&v6())), Some("[2001:db8::1]:9")),
            // LOCAL with any addresses; UNSPEC; datagrams; unix sockets.
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, V4), None),
            (v2(0x20, 0xFF, TLV), None),
            (v2(0x21, 0x00, TLV), None),
            (v2(0x21, 0x12, V4), None),
            (v2(0x21, 0x22, &v6()), None),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x21, 0x11, &[0; 12]), None),
            (v2(0x20, 0x00, &long), None),
        ] {
            judge(&bytes, Some(client));
        }
        for bytes in [
            v2(0x11, 0x11, V4),
            v2(0x31, 0x11, V4),
            v2(0x22, 0x11, V4),
            v2(0x21, 0x13, V4),
            v2(0x21, 0x41, V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &v6()[..35]),
            v2(0x20, 0x00, &[&long[..], b"x"].concat()),
        ] {
            judge(&bytes, None);
        }
    }

    #[test]
    fn input_without_a_proxy_header_is_refused_at_its_first_wrong_byte() {
        for bytes in [
            &b"GET /ws HTTP/1.1\r\n"[..],
            b"PROXX",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\r\nGET",
            b"proxy ",
            b"\x16\x03\x01",
            b"\0",
        ] {
            fuzz(bytes);
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert_eq!(parse(b""), Ok(None));
    }
}
