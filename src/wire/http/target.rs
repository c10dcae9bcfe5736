//! A request's target (RFC 9112 3.2) and its query string.
//!
//! Decisions
//! - A path is compared as it was sent, not percent-decoded: a proxy's rule about `/metrics` must not be evaded with
//!   `/%6detrics`.
//! - A target may hold bytes that RFC 3986 requires to be encoded (`{`, `"`, `|`, UTF-8), because clients send them in
//!   queries. A `#` is refused, because a fragment is never sent, and parsers would differ on where the query ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::reply::{Refusal, bad_request};
use super::shown;
use crate::wire::authority;

/// A request's target, taken apart (RFC 9112 3.2). Its parts are slices of it.
pub(super) struct RequestTarget<'a> {
    pub path: &'a str,
    pub query: &'a str,
}

impl<'a> RequestTarget<'a> {
    pub fn parse(method: &str, target: &'a str) -> Result<RequestTarget<'a>, Refusal> {
        let malformed = |what: &str| {
            bad_request(format!(
                "the target \"{}\" {what}",
                shown(target.as_bytes())
            ))
        };
        if memchr::memchr(b'#', target.as_bytes()).is_some() {
            return Err(malformed("holds a '#': write it as %23, or leave it out"));
        }
        if target.starts_with('/') {
            return Ok(RequestTarget::split(target));
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(RequestTarget {
                path: target,
                query: "",
            });
        }
        if method == "CONNECT" {
            return match authority::split(target.as_bytes()) {
                Some((host, Some(_))) if !host.is_empty() => Ok(RequestTarget {
                    path: target,
                    query: "",
                }),
                _ => Err(malformed("is not host:port, as CONNECT requires")),
            };
        }
        let (scheme, rest) = target
            .split_once("://")
            .ok_or_else(|| malformed("is no path: let it begin with '/'"))?;
        let known = ["http", "https", "ws", "wss"];
        if !known.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(malformed("has an unknown scheme: use http or https"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
        match authority::split(authority.as_bytes()) {
            Some((host, _)) if !host.is_empty() => Ok(RequestTarget::split(rest)),
            _ => Err(malformed("has no valid host: write http://host/path")),
        }
    }

    fn split(target: &'a str) -> RequestTarget<'a> {
        let end = target.bytes().position(|byte| byte == b'?');
        let end = end.unwrap_or(target.len());
        let (path, query) = target.split_at_checked(end).unwrap_or((target, ""));
        RequestTarget {
            path,
            query: query.strip_prefix('?').unwrap_or_default(),
        }
    }
}

/// A query string's parameters, grouped by name in the order of first appearance, percent-decoded, `+` a space; bytes
/// that are not UTF-8 become U+FFFD (`docs/authorizer.md#questions`).
pub fn query_pairs(raw: &str) -> Vec<(String, Vec<String>)> {
    let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
    if raw.is_empty() {
        return pairs;
    }
    // Keyed by the standard library's hash: names are the client's choice, and a head has room for thousands.
    let mut places = HashMap::new();
    for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
        match places.entry(name) {
            Entry::Vacant(entry) => {
                let name = entry.key().clone().into_owned();
                entry.insert(pairs.len());
                pairs.push((name, vec![value.into_owned()]));
            }
            Entry::Occupied(entry) => {
                if let Some((_, values)) = pairs.get_mut(*entry.get()) {
                    values.push(value.into_owned());
                }
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_grouped() {
        type Pairs<'a> = &'a [(&'a str, &'a [&'a str])];
        let table: &[(&str, Pairs)] = &[
            ("", &[]),
            ("token=abc", &[("token", &["abc"])]),
            ("b=1&a=2&b=3", &[("b", &["1", "3"]), ("a", &["2"])]),
            ("a+b=c+d%20e", &[("a b", &["c d e"])]),
            ("a&b=&=c&&", &[("a", &[""]), ("b", &[""]), ("", &["c"])]),
            ("a=b=c?d", &[("a", &["b=c?d"])]),
            ("%61=1&a=2", &[("a", &["1", "2"])]),
            ("a=%ff%zz%", &[("a", &["\u{fffd}%zz%"])]),
        ];
        for (raw, expected) in table {
            let expected: Vec<(String, Vec<String>)> = expected
                .iter()
                .map(|(name, values)| {
                    (
                        name.to_string(),
                        values.iter().map(ToString::to_string).collect(),
                    )
                })
                .collect();
            assert_eq!(query_pairs(raw), expected, "{raw}");
        }
    }
}
