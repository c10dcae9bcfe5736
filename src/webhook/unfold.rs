//! Folded header lines, made one line again (RFC 9112 5.2: a line break before a space is replaced by spaces).
//!
//! Owns: where in an answer its head ends, and a line break at the end of what has come, because a space may follow.
//! Knows: line ends, and that an interim answer (1xx) is followed by another head. Never knows: what a header means.
//!
//! ureq's parser refuses folded lines. Nothing else of an answer is changed, and no length is.

mod fuzz;

#[doc(hidden)]
pub use self::fuzz::fuzz;

/// Where the status stands in `HTTP/1.1 200`.
const STATUS: usize = 9;

/// The state between two pieces of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Unfold {
    /// The head is over: the rest is passed on as it is.
    over: bool,
    /// Bytes of the line so far, without its end.
    line: usize,
    /// The line is not the first of its head.
    is_field: bool,
    /// The digits of the status.
    status: [u8; 3],
    /// A line break that was held back.
    held: &'static [u8],
}

impl Unfold {
    /// Writes what was held back to the start of `room`, and returns how long it is.
    pub(super) fn put_back(&self, room: &mut [u8]) -> usize {
        match room.get_mut(..self.held.len()) {
            Some(place) => place.copy_from_slice(self.held),
            None => return 0,
        }
        self.held.len()
    }

    /// Releases what was held back, because nothing follows it.
    pub(super) fn release(&mut self) {
        self.held = &[];
    }

    /// Unfolds a piece, which begins with what was held back. Returns how much of it may be passed on.
    pub(super) fn apply(&mut self, piece: &mut [u8]) -> usize {
        self.held = &[];
        let mut at = 0;
        while !self.over {
            match piece.get(at) {
                None => break,
                Some(b'\r') if at + 1 == piece.len() => {
                    self.held = b"\r";
                    return at;
                }
                Some(b'\r') if piece.get(at + 1) == Some(&b'\n') => {
                    if !self.line_end(piece, at, b"\r\n") {
                        return at;
                    }
                    at += 2;
                }
                Some(b'\n') => {
                    if !self.line_end(piece, at, b"\n") {
                        return at;
                    }
                    at += 1;
                }
                Some(byte) => {
                    if !self.is_field
                        && let Some(digit) = self.line.checked_sub(STATUS)
                        && let Some(place) = self.status.get_mut(digit)
                    {
                        *place = *byte;
                    }
                    self.line += 1;
                    at += 1;
                }
            }
        }
        piece.len()
    }

    /// The line ends at `at`. Returns false if what follows decides, and has not come.
    fn line_end(&mut self, piece: &mut [u8], at: usize, end: &'static [u8]) -> bool {
        if self.line == 0 {
            // An empty line before the first is not part of the head.
            if self.is_field {
                self.over = !self.status.starts_with(b"1") || self.status == *b"101";
                self.is_field = false;
            }
            return true;
        }
        match piece.get(at + end.len()) {
            None => {
                self.held = end;
                return false;
            }
            Some(b' ' | b'\t') if self.is_field => {
                if let Some(line_break) = piece.get_mut(at..at + end.len()) {
                    line_break.fill(b' ');
                }
                self.line += end.len();
            }
            Some(_) => {
                self.line = 0;
                self.is_field = true;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::fuzz::unfolded;

    #[test]
    fn folded_lines_become_one_and_nothing_else_changes() {
        for (answer, expected) in [
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\td\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA: b   c  \td\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\nA: b\n c\n\n",
                "HTTP/1.1 200 OK\nA: b  c\n\n",
            ),
            // A body is left alone.
            (
                "HTTP/1.1 200 OK\r\n\r\na\r\n b",
                "HTTP/1.1 200 OK\r\n\r\na\r\n b",
            ),
            // An interim answer is followed by another head; a switch of protocols is not.
            (
                "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nA:\r\n b\r\n\r\n",
                "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nA:   b\r\n\r\n",
            ),
            (
                "HTTP/1.1 101 S\r\n\r\nA:\r\n b\r\n\r\n",
                "HTTP/1.1 101 S\r\n\r\nA:\r\n b\r\n\r\n",
            ),
            // No field to be continued: ureq refuses it.
            (
                "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
                "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
            ),
            (
                "\r\nHTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
                "\r\nHTTP/1.1 200 OK\r\nA: b   c\r\n\r\n",
            ),
        ] {
            for piece in [answer.len(), 1, 2, 3] {
                assert_eq!(
                    unfolded(answer.as_bytes(), piece),
                    expected.as_bytes(),
                    "{answer:?} by {piece}"
                );
            }
        }
    }
}
