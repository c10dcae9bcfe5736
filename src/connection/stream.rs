//! What carries a connection's bytes.

use std::io::{self, Read, Write};

/// What carries a connection's bytes: a socket in the program, a scripted pipe in tests.
pub trait Stream: Read + Write {
    /// Tells the other side that nothing more will be sent; reading goes on.
    ///
    /// # Errors
    /// As the kernel says; the connection is then of no more use.
    fn finish(&mut self) -> io::Result<()>;

    /// Of a broken stream: whether the other side broke it off, and not only closed its end behind all that it has sent.
    fn was_reset(&mut self) -> bool;
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes at the start of the buffer.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other side sends no more.
    End,
    /// The connection is broken.
    Broken,
}
