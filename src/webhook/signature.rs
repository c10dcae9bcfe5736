//! The signature of a call: proof for its receiver that a holder of the key sent this body, and when
//! (docs/authorizer.md#signatures).
//!
//! Owns: the keys, prepared for signing. Knows: the form of the header. Never knows: HTTP, the clock, what a body means.
//!
//! Decision: ring rather than the crates hmac and sha2. rustls computes with it, so it is part of the program already.
//! Reconsider if rustls gets another provider.

use ring::hmac;

use crate::secret::Secret;

/// Signs bodies with every key it has. Its `Debug` shows no key.
#[derive(Clone, Debug)]
pub struct Signer {
    keys: Vec<hmac::Key>,
}

impl Signer {
    /// The signer with these keys. `None` without a key: nothing is signed.
    pub fn new(keys: &[Secret]) -> Option<Signer> {
        let prepared = |key: &Secret| hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
        let keys: Vec<_> = keys.iter().map(prepared).collect();
        (!keys.is_empty()).then_some(Signer { keys })
    }

    /// The value of the header `X-Wsify-Signature`: `t=…,v1=…`, with one `v1` for each key. `sent` is in Unix seconds.
    pub fn sign(&self, sent: u64, body: &[u8]) -> String {
        let prefix = format!("{sent}.");
        let mut value = format!("t={sent}");
        for key in &self.keys {
            value += ",v1=";
            for byte in authentication_code(key, [prefix.as_bytes(), body]).as_ref() {
                value += &format!("{byte:02x}");
            }
        }
        value
    }
}

/// HMAC-SHA256 (RFC 2104) over the parts in a row.
fn authentication_code(key: &hmac::Key, parts: [&[u8]; 2]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(tag: &hmac::Tag) -> String {
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        digits.collect()
    }

    fn header(keys: &[&str], sent: u64, body: &[u8]) -> String {
        let keys: Vec<_> = keys.iter().copied().map(Secret::new).collect();
        Signer::new(&keys).unwrap().sign(sent, body)
    }

    /// RFC 4231 4.2 to 4.4, 4.7 and 4.8.
    #[test]
    fn codes_are_those_of_rfc_4231() {
        let long = "This is a test using a larger than block-size key and a larger than block-size data. The key \
                    needs to be hashed before being used by the HMAC algorithm.";
        let vectors: [(&[u8], &[u8], &str); 5] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 20],
                &[0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                long.as_bytes(),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (key, data, expected) in vectors {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            for middle in [0, 1, data.len()] {
                let (one, other) = data.split_at(middle);
                assert_eq!(hex(&authentication_code(&key, [one, other])), expected);
            }
        }
    }

    /// As Python has them: `hmac.new(key, b"1764208800." + body, "sha256").hexdigest()`.
    #[test]
    fn a_header_has_the_time_and_a_code_for_each_key() {
        let body = br#"{"command":"connect"}"#;
        let (old, new) = (
            "2f02e27b55fde4d1548c10f83c77ff7878350af7a6d6c12322da231f629963ff",
            "018fb4a1d8e1bcdc28fc717d9d2565b533a48f04a40279cda48d2c393d78c458",
        );
        assert_eq!(
            header(&["some-long-random-text"], 1_764_208_800, body),
            format!("t=1764208800,v1={old}")
        );
        assert_eq!(
            header(
                &["some-long-random-text", "schl\u{fc}ssel"],
                1_764_208_800,
                body
            ),
            format!("t=1764208800,v1={old},v1={new}")
        );
        assert_eq!(
            header(&["k"], 0, b""),
            "t=0,v1=6b4a4b8b3c40f1e8f53a3d36682e5f99f7ad2ac1df1c93dfe336f329167641e7"
        );
    }

    #[test]
    fn time_and_body_change_the_code() {
        let code = |sent, body: &[u8]| {
            header(&["k"], sent, body)
                .split_once(",v1=")
                .unwrap()
                .1
                .to_owned()
        };
        assert_ne!(code(1, b"x"), code(2, b"x"));
        assert_ne!(code(1, b"x"), code(1, b"y"));
        // The dot keeps the two apart.
        assert_ne!(code(1, b"2x"), code(12, b"x"));
    }

    #[test]
    fn without_a_key_there_is_no_signer_and_with_one_it_is_not_shown() {
        assert!(Signer::new(&[]).is_none());
        let signer = Signer::new(&[Secret::new("hunter2")]).unwrap();
        let shown = format!("{signer:?}");
        let bytes = format!("{:?}", b"hunter2");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}
