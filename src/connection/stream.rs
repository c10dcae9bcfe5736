//! What carries a connection's bytes.

use std::io::{self, Read, Write};

/// What carries a connection's bytes: a socket in the program, a scripted pipe in tests.
pub trait Stream: Read + Write {
    /// Shuts down the sending side. Reading goes on.
    ///
    /// # Errors
    /// The kernel's. The connection cannot be used any more.
    fn finish(&mut self) -> io::Result<()>;

    /// Whether a broken stream was reset by the peer, and not only closed after all that it has sent.
    fn was_reset(&mut self) -> bool;
}

/// The result of a read.
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
