//! A short text on the stack: an id, an address.
//!
//! Owns: the bytes. Knows: digits. Never knows: what the text names.
//!
//! Decision: digits are written by hand rather than `fmt` with its widths and calls through a table, because an event
//! has two such texts, which would cost as much as all the rest of it. Hexadecimal digits are made 16 at a time, as an
//! id has 36.

use std::fmt;

/// The longest is an IPv6 address with a port.
const ROOM: usize = 56;

/// ASCII, up to [`ROOM`] bytes; what is beyond is cut off.
#[derive(Clone, Copy, Debug)]
pub struct ShortText {
    bytes: [u8; ROOM],
    len: usize,
}

impl Default for ShortText {
    fn default() -> Self {
        ShortText {
            bytes: [0; ROOM],
            len: 0,
        }
    }
}

impl ShortText {
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    #[inline]
    pub fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    #[inline]
    fn push_all(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        match room.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len = self.len.saturating_add(bytes.len());
            }
            None => bytes.iter().for_each(|byte| self.push(*byte)),
        }
    }

    /// Appends a number with this many hexadecimal digits, 16 at most.
    #[inline]
    pub fn push_hex(&mut self, number: u64, width: usize) {
        let digits = hex(number);
        let first = digits.len().saturating_sub(width);
        self.push_all(digits.get(first..).unwrap_or_default());
    }

    /// Appends a number.
    #[inline]
    pub fn push_decimal(&mut self, number: u16) {
        let digit = |unit| b'0' + (number / unit % 10) as u8;
        match number {
            0..10 => self.push_all(&[1].map(digit)),
            10..100 => self.push_all(&[10, 1].map(digit)),
            100..1_000 => self.push_all(&[100, 10, 1].map(digit)),
            1_000..10_000 => self.push_all(&[1_000, 100, 10, 1].map(digit)),
            10_000.. => self.push_all(&[10_000, 1_000, 100, 10, 1].map(digit)),
        }
    }
}

/// The 16 hexadecimal digits of a number, all of them at once: each byte of a word has one of them.
#[inline]
fn hex(number: u64) -> [u8; 16] {
    let all = |byte: u8| u128::from_ne_bytes([byte; 16]);
    let mut digits = u128::from(number);
    for (shift, kept) in [
        (32, 0x0000_0000_FFFF_FFFF_0000_0000_FFFF_FFFF),
        (16, 0x0000_FFFF_0000_FFFF_0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF_00FF_00FF_00FF_00FF),
        (4, all(0x0F)),
    ] {
        digits = (digits | digits << shift) & kept;
    }
    // 1 in each byte whose digit is a letter. No sum of bytes carries into the next one.
    let letters = (digits.wrapping_add(all(6)) >> 4) & all(1);
    let letters = letters.wrapping_mul(u128::from(b'a' - 10 - b'0'));
    let texts = digits.wrapping_add(all(b'0')).wrapping_add(letters);
    texts.to_be_bytes()
}

impl fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_all(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn numbers_are_written_as_fmt_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 105, 1_000, 9_999, 10_001, 65_535] {
            let mut text = ShortText::default();
            text.push_decimal(number);
            assert_eq!(text.as_str(), number.to_string());
        }
        for number in [
            0,
            1,
            0xabc,
            0x0123_4567_89ab_cdef,
            0xa265_abcd_a451_4c6f,
            u64::MAX,
        ] {
            let mut text = ShortText::default();
            text.push_hex(number, 16);
            text.push(b'-');
            text.push_hex(number, 4);
            let low = number & 0xFFFF;
            assert_eq!(text.as_str(), format!("{number:016x}-{low:04x}"));
        }
    }

    #[test]
    fn a_text_over_the_capacity_is_truncated() {
        let mut text = ShortText::default();
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535";
        write!(text, "{longest}").unwrap();
        assert_eq!(text.as_str(), longest);
        write!(text, "{longest}").unwrap();
        assert_eq!(text.as_str().len(), ROOM);
    }
}
