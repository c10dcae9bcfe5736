//! A stream of eight bytes without a socket. The next read returns what was put on the line; what is sent is counted.
//!
//! Takes no memory but its own and one line, so that what is measured around it is the hub's.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read, Write};

use wsify::connection::{Readiness, Stream};
use wsify::effect::ConnId;
use wsify::hub::Hub;

pub const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

thread_local! {
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static CALLED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Has the client at the other end of `id` say something, and the hub hear it.
pub fn say(hub: &mut Hub<Puppet>, buffer: &mut [u8], id: ConnId, bytes: &[u8]) {
    let mut line = LINE.take();
    line.clear();
    line.extend_from_slice(bytes);
    LINE.set(line);
    let reported = Readiness {
        readable: true,
        ..Readiness::default()
    };
    hub.ready(id, reported, buffer);
}

/// Numbers of the streams that were sent a ping or a close since the last call.
pub fn take_called() -> Vec<u32> {
    CALLED.take()
}

/// A client's short frame, whose mask of zeros is as good as any.
pub fn frame(opcode: u8, payload: &str) -> Vec<u8> {
    let header = [0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    [&header, payload.as_bytes()].concat()
}

#[derive(Debug)]
pub struct Puppet {
    number: u32,
    /// Writes since this was last set to nothing.
    pub sends: u32,
}

const _: () = assert!(size_of::<Puppet>() == 8);

impl Puppet {
    pub fn new(number: u32) -> Puppet {
        Puppet { number, sends: 0 }
    }
}

impl Read for Puppet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = LINE.take();
        let count = line.as_slice().read(buffer)?;
        line.drain(..count);
        LINE.set(line);
        match count {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Puppet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sends += 1;
        if bytes
            .first()
            .is_some_and(|byte| [CLOSE, PING].contains(&(byte & 0xF)))
        {
            CALLED.with_borrow_mut(|called| called.push(self.number));
        }
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sends += 1;
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Puppet {
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn was_reset(&mut self) -> bool {
        false
    }
}
