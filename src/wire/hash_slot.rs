//! The slot of a channel in a redis cluster: CRC16 of its name, or of the hash tag in it.
//!
//! Knows: the cluster specification. Never knows: which node has a slot.

/// Slots of a cluster.
pub const HASH_SLOTS: u16 = 16_384;

/// The slot of the channel whose name at redis is `prefix` and `name`.
///
/// Only what lies between the first `{` and the next `}` counts, if that is not empty.
pub fn hash_slot(prefix: &[u8], name: &[u8]) -> u16 {
    if memchr::memchr(b'{', prefix).is_none() && memchr::memchr(b'{', name).is_none() {
        return crc16(crc16(0, prefix), name) % HASH_SLOTS;
    }
    let whole = [prefix, name].concat();
    let tag = memchr::memchr(b'{', &whole).and_then(|open| {
        let behind = whole.get(open.saturating_add(1)..)?;
        behind.get(..memchr::memchr(b'}', behind)?)
    });
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(&whole);
    crc16(0, hashed) % HASH_SLOTS
}

/// CRC-16/XMODEM, continued from `crc`.
fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        let at = usize::from((crc >> 8) as u8 ^ byte);
        (crc << 8) ^ TABLE.get(at).copied().unwrap_or_default()
    })
}

const TABLE: [u16; 256] = table();

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "it is computed by the compiler, which would notice"
)]
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = (at as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` has them.
        for (name, expected) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("bar", 5_061),
            ("hello", 866),
            ("", 0),
            ("{user1000}.following", 3_443),
            ("{user1000}.followers", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
            ("{bar", 4_015),
        ] {
            // Wherever the prefix ends.
            for cut in 0..=name.len() {
                let (prefix, rest) = name.as_bytes().split_at(cut);
                assert_eq!(hash_slot(prefix, rest), expected, "{name} cut at {cut}");
            }
        }
    }
}
