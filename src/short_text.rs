//! A short text on the stack: an id, an address.
//!
//! Owns: the bytes. Knows: digits. Never knows: what the text names.
//!
//! Decision: digits are written by hand, over `fmt` with its widths and calls through a table. Because an event has two such
//! texts, which would cost as much as all the rest of it.

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
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }

    pub fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    /// Appends a number with so many hexadecimal digits.
    pub fn push_hex(&mut self, number: u64, width: u32) {
        for at in (0..width).rev() {
            let digit = number.unbounded_shr(at.saturating_mul(4)) as u8 & 0xF;
            self.push(match digit {
                0..10 => digit.wrapping_add(b'0'),
                _ => digit.wrapping_add(b'a' - 10),
            });
        }
    }

    /// Appends a number.
    pub fn push_decimal(&mut self, number: u16) {
        for unit in [10_000, 1_000, 100, 10, 1] {
            if number >= unit || unit == 1 {
                self.push((number / unit % 10) as u8 + b'0');
            }
        }
    }
}

impl fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
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
        for number in [0, 1, 0xabc, 0xa265_abcd_a451_4c6f, u64::MAX] {
            let mut text = ShortText::default();
            text.push_hex(number, 16);
            text.push(b'-');
            text.push_hex(number, 4);
            let low = number & 0xFFFF;
            assert_eq!(text.as_str(), format!("{number:016x}-{low:04x}"));
        }
    }

    #[test]
    fn what_finds_no_room_is_cut_off() {
        let mut text = ShortText::default();
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535";
        write!(text, "{longest}").unwrap();
        assert_eq!(text.as_str(), longest);
        write!(text, "{longest}").unwrap();
        assert_eq!(text.as_str().len(), ROOM);
    }
}
