//! What a request's headers say about the request itself: its host, its body's framing, whether the connection goes on.

use super::body::Framing;
use super::reply::{Refusal, Status, bad_request};
use super::{Version, elements, shown};
use crate::wire::authority;

/// A request's transfer codings, counted.
#[derive(Default)]
struct Codings {
    all: usize,
    chunked: usize,
    last_is_chunked: bool,
}

/// What a request's headers say about the request itself.
#[derive(Default)]
pub(super) struct HeaderFacts {
    hosts: usize,
    length: Option<u64>,
    codings: Option<Codings>,
    pub close: bool,
    pub keep_alive: bool,
    pub expects_continue: bool,
}

impl HeaderFacts {
    pub fn read(headers: &[httparse::Header], version: Version) -> Result<HeaderFacts, Refusal> {
        let mut facts = HeaderFacts::default();
        for header in headers {
            facts.note(header.name, header.value, version)?;
        }
        // RFC 9112 3.2.
        match facts.hosts {
            1 => Ok(facts),
            0 if version == Version::Http10 => Ok(facts),
            0 => Err(bad_request("there is no Host header: send one")),
            _ => Err(bad_request("Host is given twice: send it once")),
        }
    }

    fn note(&mut self, name: &str, value: &[u8], version: Version) -> Result<(), Refusal> {
        // The relevant names differ in length, so most headers cost one comparison.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                self.hosts = self.hosts.saturating_add(1);
                if authority::split(value).is_none() {
                    return Err(bad_request(format!(
                        "the Host \"{}\" is malformed: send host or host:port",
                        shown(value)
                    )));
                }
            }
            6 if name.eq_ignore_ascii_case("expect") && version == Version::Http11 => {
                for expectation in elements(value) {
                    if !expectation.eq_ignore_ascii_case(b"100-continue") {
                        return Err(unmet(expectation));
                    }
                    self.expects_continue = true;
                }
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in elements(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                if self.length.is_some() {
                    return Err(bad_request("Content-Length is given twice: send it once"));
                }
                self.length = Some(content_length(value)?);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                let codings = self.codings.get_or_insert_default();
                for coding in elements(value) {
                    codings.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                    let chunked = usize::from(codings.last_is_chunked);
                    codings.chunked = codings.chunked.saturating_add(chunked);
                    codings.all = codings.all.saturating_add(1);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How the body is framed (RFC 9112 6.1 and 6.3).
    pub fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (&self.codings, self.length) {
            (None, None) => Ok(Framing::None),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (Some(_), Some(_)) => Err(bad_request(
                "there is both a Content-Length and a Transfer-Encoding: send one of them",
            )),
            (Some(_), None) if version == Version::Http10 => Err(bad_request(
                "HTTP/1.0 has no Transfer-Encoding: send a Content-Length, or use HTTP/1.1",
            )),
            (Some(codings), None) if codings.chunked != 1 || !codings.last_is_chunked => {
                Err(bad_request(
                    "the Transfer-Encoding does not end in one chunked: send `Transfer-Encoding: chunked`",
                ))
            }
            (Some(codings), None) if codings.all != 1 => Err(Refusal::new(
                Status::NotImplemented,
                "not_implemented",
                "a transfer coding other than chunked is not supported: send chunked alone",
            )),
            (Some(_), None) => Ok(Framing::Chunked),
        }
    }
}

fn unmet(expectation: &[u8]) -> Refusal {
    Refusal::new(
        Status::ExpectationFailed,
        "expectation_failed",
        format!(
            "the expectation \"{}\" cannot be met: only 100-continue is supported",
            shown(expectation)
        ),
    )
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad_request(format!(
            "the Content-Length \"{}\" is not a number: send the body's bytes in decimal digits",
            shown(value)
        )));
    }
    Ok(value.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit.wrapping_sub(b'0')))
    }))
}
