//! The page of `--playground`: a client in the browser.
//!
//! Owns: the page and its content security policy. Knows: replies. Never knows: the request.
//!
//! Decision: the page is one file, and its policy names its script and style by their hashes, rather than
//! `unsafe-inline`. So a script injected by another client's message does not run. A test prints the hashes that the
//! policy needs.

use std::borrow::Cow;

use crate::wire::http::{Reply, Status};

const PAGE: &[u8] = include_bytes!("playground.html");

const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-8ruxFRIwvOGo+6HLTgUQaSxpjM0TEoWFQDs2OIKG1hM='; \
    style-src 'sha256-HtOfrsFW+VDmrOVdfMX58tWqAdwADPc12QoGrKLc/Qs='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The reply to `GET /`.
pub fn page() -> Reply {
    Reply {
        status: Status::Ok,
        content_type: Some("text/html; charset=utf-8"),
        headers: vec![
            ("Content-Security-Policy", Cow::Borrowed(POLICY)),
            ("X-Content-Type-Options", Cow::Borrowed("nosniff")),
            ("Referrer-Policy", Cow::Borrowed("no-referrer")),
            ("Cache-Control", Cow::Borrowed("no-cache")),
        ],
        body: Cow::Borrowed(PAGE),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_has_the_hashes_of_script_and_style() {
        let page = std::str::from_utf8(PAGE).unwrap();
        for element in ["script", "style"] {
            let (_, rest) = page.split_once(&format!("<{element}>")).unwrap();
            let (text, _) = rest.split_once(&format!("</{element}>")).unwrap();
            let hash = BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
            let source = format!("{element}-src 'sha256-{hash}'");
            assert!(POLICY.contains(&source), "the policy needs {source}");
        }
    }

    #[test]
    fn the_page_loads_nothing_from_other_hosts() {
        let page = std::str::from_utf8(PAGE).unwrap();
        for foreign in ["http://", "https://", "src=", "@import", "innerHTML"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
