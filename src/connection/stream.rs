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

/// What the poll has reported of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to read, or its end.
    pub readable: bool,
    pub writable: bool,
    /// Nothing follows what there is to read.
    pub closed: bool,
    /// Nothing can be sent any more either.
    pub reset: bool,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// This many bytes at the start of the buffer.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other side sends no more.
    End,
    /// The connection is broken.
    Broken,
}
