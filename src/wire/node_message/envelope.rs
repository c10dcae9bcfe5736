//! The envelope of a message between nodes: which node sent it, when, its number, and the signature.
//!
//! Owns: the form of the envelope, the key, the signature. Knows: bytes. Never knows: the clock, which nodes there are, or
//! what a message means.
//!
//! Decision: one fixed form rather than any JSON object with these members. The message is found without reading it, so
//! a forged one costs no more than its hash. New facts belong in the message.
//!
//! Decision: the key of the signature is derived from `--broadcasting-key` and the prefix. So a signature proves
//! nothing about another use of that key, and a message of a deployment with another prefix is not accepted. The
//! channel is signed too, so that an answer to one node is not valid for another.

use ring::hmac;
use subtle::ConstantTimeEq;

use super::NodeMessageError;

/// What the key is derived for.
const PURPOSE: &str = "wsify nodes 1\n";
/// Digits of the envelope's numbers: more than 64 bits hold.
const MAX_DIGITS: usize = 20;
/// Bytes of an HMAC-SHA256.
const TAG: usize = 32;

/// A message in its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'m> {
    /// The sender's name.
    pub node: u64,
    /// When it was sent, in Unix milliseconds.
    pub time: u64,
    /// The sender's messages are numbered.
    pub count: u64,
    pub message: &'m [u8],
}

/// Puts messages into their envelopes and takes them out, with a key if there is one.
#[derive(Clone, Debug, Default)]
pub struct NodeSeal {
    key: Option<hmac::Key>,
}

impl NodeSeal {
    /// The seal of a node's messages. `key`: `--broadcasting-key`. `prefix`: what stands before the broker's channels.
    pub fn new(key: Option<&str>, prefix: &str) -> NodeSeal {
        let derived = key.map(|key| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            let derived = tag(&key, &[PURPOSE.as_bytes(), prefix.as_bytes()]);
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        });
        NodeSeal { key: derived }
    }

    /// Whether messages are signed.
    pub fn signs(&self) -> bool {
        self.key.is_some()
    }

    /// The bytes to be published to a channel.
    pub fn seal(&self, channel: &str, envelope: &Envelope) -> Vec<u8> {
        let Envelope {
            node,
            time,
            count,
            message,
        } = envelope;
        let mut out = format!(r#"{{"node":"{node:016x}","time":{time},"count":{count}"#);
        if let Some(key) = &self.key {
            out.push_str(r#","signature":""#);
            for byte in sign(key, channel, envelope).as_ref() {
                out.push_str(&format!("{byte:02x}"));
            }
            out.push('"');
        }
        let mut out = out.into_bytes();
        out.extend_from_slice(br#","message":"#);
        out.extend_from_slice(message);
        out.push(b'}');
        out
    }

    /// Takes a message that came on a channel out of its envelope.
    ///
    /// # Errors
    /// It has no envelope, or is not signed as it has to be. Without a key, what is signed is another deployment's.
    pub fn open<'m>(
        &self,
        channel: &str,
        bytes: &'m [u8],
    ) -> Result<Envelope<'m>, NodeMessageError> {
        let (envelope, signature) = parse(bytes).ok_or(NodeMessageError::Malformed)?;
        match (&self.key, signature) {
            (None, None) => Ok(envelope),
            (Some(_), None) => Err(NodeMessageError::Unsigned),
            (None, Some(_)) => Err(NodeMessageError::WrongSignature),
            (Some(key), Some(given)) => {
                let expected = sign(key, channel, &envelope);
                if bool::from(expected.as_ref().ct_eq(&given)) {
                    Ok(envelope)
                } else {
                    Err(NodeMessageError::WrongSignature)
                }
            }
        }
    }
}

fn sign(key: &hmac::Key, channel: &str, envelope: &Envelope) -> hmac::Tag {
    let Envelope {
        node,
        time,
        count,
        message,
    } = envelope;
    let facts = format!("{channel}\n{node:016x}\n{time}\n{count}\n");
    tag(key, &[facts.as_bytes(), message])
}

/// HMAC-SHA256 (RFC 2104) over the parts in a row.
fn tag(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// The envelope, and its signature if it has one. `None`: it has another form.
fn parse(bytes: &[u8]) -> Option<(Envelope<'_>, Option<[u8; TAG]>)> {
    let rest = bytes.strip_prefix(br#"{"node":""#)?;
    let (node, rest) = rest.split_at_checked(16)?;
    let node = u64::from_be_bytes(from_hex(node)?);
    let (time, rest) = number(rest.strip_prefix(br#"","time":"#)?)?;
    let (count, rest) = number(rest.strip_prefix(br#","count":"#)?)?;
    let (signature, rest) = match rest.strip_prefix(br#","signature":""#) {
        None => (None, rest),
        Some(rest) => {
            let (signature, rest) = rest.split_at_checked(TAG.saturating_mul(2))?;
            (Some(from_hex(signature)?), rest.strip_prefix(b"\"")?)
        }
    };
    let message = rest.strip_prefix(br#","message":"#)?.strip_suffix(b"}")?;
    let envelope = Envelope {
        node,
        time,
        count,
        message,
    };
    Some((envelope, signature))
}

/// A number in its shortest form, and what is behind it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.take(MAX_DIGITS.saturating_add(1)).count();
    let (digits, rest) = bytes.split_at_checked(digits)?;
    let shortest = digits.len() == 1 || digits.first() != Some(&b'0');
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    shortest.then_some((number, rest))
}

/// Bytes from two lower-case hex digits each.
fn from_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (place, [high, low]) in out.iter_mut().zip(pairs) {
        *place = hex_digit(*high)?.checked_mul(16)? | hex_digit(*low)?;
    }
    Some(out)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope = Envelope {
        node: 0xa265_abcd_a451_4c6f,
        time: 1_764_208_800_123,
        count: 17,
        message: br#"{"command":"gone"}"#,
    };

    fn keyed() -> NodeSeal {
        NodeSeal::new(Some("some-long-random-text"), "app:")
    }

    /// As Python has it: `derived = hmac.digest(key, b"wsify nodes 1\napp:", "sha256")`, then
    /// `hmac.new(derived, b"c\na265abcda4514c6f\n1764208800123\n17\n" + message, "sha256").hexdigest()`.
    #[test]
    fn an_envelope_has_a_fixed_form_and_a_signature() {
        let plain = NodeSeal::default().seal("c", &ENVELOPE);
        let head = r#"{"node":"a265abcda4514c6f","time":1764208800123,"count":17"#;
        let tail = r#","message":{"command":"gone"}}"#;
        assert_eq!(String::from_utf8(plain).unwrap(), format!("{head}{tail}"));
        let signed = keyed().seal("c", &ENVELOPE);
        let signature = "a88217bcd8409944b438502507505d167c757cff12fd2a9e0d68d0cfcda9e7a6";
        let expected = format!(r#"{head},"signature":"{signature}"{tail}"#);
        assert_eq!(String::from_utf8(signed).unwrap(), expected);
    }

    #[test]
    fn a_signature_is_valid_for_one_key_prefix_and_channel() {
        let signed = keyed().seal("c", &ENVELOPE);
        assert_eq!(keyed().open("c", &signed), Ok(ENVELOPE));
        let wrong = Err(NodeMessageError::WrongSignature);
        assert_eq!(keyed().open("d", &signed), wrong);
        assert_eq!(NodeSeal::default().open("c", &signed), wrong);
        for (key, prefix) in [("other", "app:"), ("some-long-random-text", "app")] {
            let other = NodeSeal::new(Some(key), prefix);
            assert_eq!(other.open("c", &signed), wrong);
        }
        let plain = NodeSeal::default().seal("c", &ENVELOPE);
        assert_eq!(NodeSeal::default().open("c", &plain), Ok(ENVELOPE));
        assert_eq!(keyed().open("c", &plain), Err(NodeMessageError::Unsigned));
    }

    #[test]
    fn no_byte_of_a_signed_message_can_be_changed() {
        let signed = keyed().seal("c", &ENVELOPE);
        for at in 0..signed.len() {
            for bit in 0..8 {
                let mut forged = signed.clone();
                forged[at] ^= 1 << bit;
                assert!(keyed().open("c", &forged).is_err(), "{at} {bit}");
            }
            assert!(keyed().open("c", &signed[..at]).is_err());
        }
    }

    #[test]
    fn any_other_form_is_malformed() {
        let good = r#"{"node":"000000000000000a","time":1,"count":2,"message":{}}"#;
        let seal = NodeSeal::default();
        assert!(seal.open("c", good.as_bytes()).is_ok());
        for (from, to) in [
            ("{\"node\"", " {\"node\""),
            ("00a\"", "00A\""),
            ("00a\"", "0a\""),
            (":1,", ":01,"),
            (":1,", ":,"),
            (":1,", ":-1,"),
            (":1,", ":1.0,"),
            (":1,", ":18446744073709551616,"),
            (":1,", ":000000000000000000000001,"),
            (",\"count\":2", ""),
            (",\"message\"", ",\"signature\":\"ab\",\"message\""),
            (",\"message\"", ", \"message\""),
            ("}}", "} "),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            let opened = seal.open("c", bad.as_bytes());
            assert_eq!(opened, Err(NodeMessageError::Malformed), "{bad}");
        }
        for bad in ["", "{", "null", "[1]", "\u{feff}", "hello"] {
            assert_eq!(
                seal.open("c", bad.as_bytes()),
                Err(NodeMessageError::Malformed)
            );
        }
    }
}
