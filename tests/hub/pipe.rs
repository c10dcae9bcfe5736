//! A stream without a socket, and its far end.
//!
//! Owns: the bytes in transit, and how much of them each call takes. Behaves as an edge-triggered kernel: an edge comes
//! when there is something new to read, when there is room again after a short write, and when a side ends. Counts the
//! system calls that a socket would have needed.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;

use wsify::connection::{Readiness, Stream};

/// How often the kernel would have been called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub reads: usize,
    /// Reads among them that found nothing.
    pub idle_reads: usize,
    pub writes: usize,
}

/// The state that both ends share.
#[derive(Debug)]
pub struct Wire {
    up: VecDeque<u8>,
    down: Vec<u8>,
    /// Bytes that the client's kernel still takes.
    room: usize,
    /// The most that one write takes, however much room there is.
    pub largest_write: usize,
    /// One call in this many is interrupted; 0 is never.
    pub interrupted: usize,
    just_interrupted: bool,
    /// One write in this many takes nothing though there is room; 0 is never.
    pub refused: usize,
    edge: Readiness,
    /// A write was cut short: an edge is due when there is room.
    cut_short: bool,
    left: bool,
    /// The client has closed its end: anything sent to it leads to a reset.
    closed: bool,
    broken: bool,
    finished: bool,
    dropped: bool,
    /// The program's successor has it.
    handed_over: bool,
    /// The server has read everything, including the end of the stream.
    pub read_to_the_end: bool,
    pub calls: Calls,
}

impl Wire {
    /// Whether this call is interrupted; never two in a row.
    fn interrupts(&mut self) -> bool {
        let calls = self.calls.reads + self.calls.writes;
        let due = self.interrupted > 0 && calls.is_multiple_of(self.interrupted);
        self.just_interrupted = due && !self.just_interrupted;
        self.just_interrupted
    }

    /// Bytes that the server has not read.
    pub fn unread(&self) -> usize {
        self.up.len()
    }

    /// Whether the last message sent may be cut short: it broke, the client left, or it did not read.
    pub fn may_be_torn(&self) -> bool {
        self.broken || self.left || self.room < usize::MAX / 2 || self.largest_write < usize::MAX
    }
}

/// The server's end.
#[derive(Debug)]
pub struct Pipe(Rc<RefCell<Wire>>);

/// The client's end.
#[derive(Clone, Debug)]
pub struct Far(Rc<RefCell<Wire>>);

pub fn pipe() -> (Pipe, Far) {
    let wire = Rc::new(RefCell::new(Wire {
        up: VecDeque::new(),
        down: Vec::new(),
        room: usize::MAX,
        largest_write: usize::MAX,
        interrupted: 0,
        just_interrupted: false,
        refused: 0,
        // A fresh socket is writable, and the poll says so.
        edge: Readiness {
            writable: true,
            ..Readiness::default()
        },
        cut_short: false,
        left: false,
        closed: false,
        broken: false,
        finished: false,
        dropped: false,
        handed_over: false,
        read_to_the_end: false,
        calls: Calls::default(),
    }));
    (Pipe(Rc::clone(&wire)), Far(wire))
}

impl Pipe {
    /// A number by which the stream is found again.
    pub fn number(&self) -> u64 {
        Rc::as_ptr(&self.0).addr() as u64
    }
}

impl Far {
    pub fn number(&self) -> u64 {
        Rc::as_ptr(&self.0).addr() as u64
    }

    /// The same stream for a hub that takes over. When the other one's is dropped next, nothing is closed.
    pub fn hand_over(&self) -> Pipe {
        self.0.borrow_mut().handed_over = true;
        Pipe(Rc::clone(&self.0))
    }

    pub fn wire(&self) -> Ref<'_, Wire> {
        self.0.borrow()
    }

    pub fn wire_mut(&self) -> RefMut<'_, Wire> {
        self.0.borrow_mut()
    }

    /// Sends bytes. After either side has ended they are dropped.
    pub fn send(&self, bytes: &[u8]) {
        let mut wire = self.0.borrow_mut();
        if !bytes.is_empty() && !wire.left && !wire.broken && !wire.dropped {
            wire.up.extend(bytes);
            wire.edge.readable = true;
        }
    }

    /// Ends this side's stream; the other may go on.
    pub fn leave(&self) {
        let mut wire = self.0.borrow_mut();
        wire.left = true;
        wire.edge.readable = true;
        wire.edge.closed = true;
    }

    /// Closes this end: the client neither sends nor reads any more.
    pub fn close(&self) {
        self.leave();
        self.0.borrow_mut().closed = true;
    }

    /// Resets the connection: what was sent can be read, nothing can be written any more.
    pub fn reset(&self) {
        let mut wire = self.0.borrow_mut();
        wire.broken = true;
        wire.edge = Readiness {
            readable: true,
            closed: true,
            reset: true,
            writable: true,
        };
    }

    /// Resets the connection without an edge: the server notices when it writes.
    pub fn vanish(&self) {
        self.0.borrow_mut().broken = true;
    }

    /// Limits the room in the kernel to this many more bytes.
    pub fn narrow(&self, room: usize) {
        self.0.borrow_mut().room = room;
    }

    /// Adds room for this many bytes.
    pub fn widen(&self, more: usize) {
        let mut wire = self.0.borrow_mut();
        wire.room = wire.room.saturating_add(more);
        if std::mem::take(&mut wire.cut_short) {
            wire.edge.writable = true;
        }
    }

    /// Makes the poll return a spurious edge.
    pub fn nudge(&self) {
        let mut wire = self.0.borrow_mut();
        wire.edge.readable = true;
        wire.edge.writable = true;
    }

    /// Whether there is anything to receive.
    pub fn has_arrived(&self) -> bool {
        !self.0.borrow().down.is_empty()
    }

    /// Everything received since the last call.
    pub fn receive(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().down)
    }

    /// Whether the server will send no more.
    pub fn is_ended(&self) -> bool {
        let wire = self.0.borrow();
        wire.finished || wire.dropped
    }

    /// Whether the client has ended its stream.
    pub fn has_left(&self) -> bool {
        self.0.borrow().left
    }

    /// Whether the server has dropped the connection.
    pub fn is_dropped(&self) -> bool {
        self.0.borrow().dropped
    }

    /// Takes the pending edge.
    pub fn take_edge(&self) -> Readiness {
        std::mem::take(&mut self.0.borrow_mut().edge)
    }

    pub fn has_edge(&self) -> bool {
        let edge = self.0.borrow().edge;
        edge.readable || edge.writable
    }

    /// The calls since this was last called.
    pub fn take_calls(&self) -> Calls {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.calls.reads += 1;
        if wire.interrupts() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if wire.up.is_empty() {
            wire.calls.idle_reads += 1;
            wire.read_to_the_end |= wire.broken || wire.left;
            return match (wire.broken, wire.left) {
                (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
                (_, true) => Ok(0),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        // As a kernel does: a read that does not fill the buffer has taken everything.
        let count = buffer.len().min(wire.up.len());
        let (front, back) = wire.up.as_slices();
        let torn = count.min(front.len());
        buffer[..torn].copy_from_slice(&front[..torn]);
        buffer[torn..count].copy_from_slice(&back[..count - torn]);
        wire.up.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.finished, "a write after the stream was ended");
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        assert!(offered > 0, "a write of nothing");
        wire.calls.writes += 1;
        if wire.interrupts() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if wire.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.closed {
            // The kernel takes it, and the answer is a reset.
            drop(wire);
            Far(Rc::clone(&self.0)).reset();
            return Ok(offered);
        }
        let refused = wire.refused > 0 && wire.calls.writes.is_multiple_of(wire.refused);
        let largest = if refused { 0 } else { wire.largest_write };
        let taken = offered.min(wire.room).min(largest);
        wire.room -= taken;
        if taken < offered {
            wire.cut_short = true;
            // The write was not short for lack of room, so the kernel's edge follows at once.
            if wire.room > 0 {
                wire.cut_short = false;
                wire.edge.writable = true;
            }
        }
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = taken;
        for part in parts {
            let here = part.len().min(left);
            wire.down.extend_from_slice(&part[..here]);
            left -= here;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Pipe {
    fn finish(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.finished, "the stream was ended twice");
        if wire.broken {
            return Err(io::ErrorKind::NotConnected.into());
        }
        wire.finished = true;
        if wire.left {
            // Both sides have ended: a hang-up.
            wire.edge.readable = true;
            wire.edge.closed = true;
        }
        Ok(())
    }

    fn was_reset(&mut self) -> bool {
        let wire = self.0.borrow();
        wire.broken && !wire.left
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        wire.dropped = !std::mem::take(&mut wire.handed_over);
    }
}
