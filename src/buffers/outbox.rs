//! Bytes out: what the kernel has not yet taken, a connection's own and slices of shared runs, in order.

use std::io::{self, IoSlice, Write};

use super::queued::{Piece, Queued};
use super::runs::Runs;
use super::slice::{Slice, Waits};

mod saved;

pub use saved::SavedOutbox;

/// What waits to be sent to one connection, in order. One machine word while empty.
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Queued>>);

/// The result of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing waits any more.
    All,
    /// The kernel's buffer is full. The poll reports when it has room.
    Blocked,
    /// The connection is broken.
    Broken,
}

/// Pieces offered to the kernel in one call.
const PIECES_PER_WRITE: usize = 32;

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |w| w.bytes)
    }

    /// Whether the kernel's buffer is full. The poll reports when it has room.
    pub fn is_blocked(&self) -> bool {
        self.0.as_ref().is_some_and(|w| w.blocked)
    }

    /// The kernel has room again.
    pub fn unblock(&mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.blocked = false;
        }
    }

    /// Whether `more` bytes may be appended. An empty queue always has room. A queue that was not yet offered to the
    /// kernel is not a slow reader's (`docs/limits.md#slow-readers`).
    pub fn has_room(&self, more: usize, max: usize) -> bool {
        match &self.0 {
            Some(waiting) if waiting.blocked => waiting.bytes + more <= max,
            _ => true,
        }
    }

    /// Takes an empty queue that was used before, if nothing waits. What is put in next then allocates nothing.
    #[inline]
    pub fn prepare(&mut self, runs: &mut Runs) {
        if self.0.is_none() {
            self.0 = runs.spare_queue();
        }
    }

    /// Lets `write` append to the connection's own bytes.
    pub fn own(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let waiting = self.0.get_or_insert_default();
        if let Some(bytes) = waiting.last_own() {
            let before = bytes.len();
            write(bytes);
            let more = bytes.len() - before;
            waiting.bytes += more;
            waiting.own += more;
        }
        if waiting.bytes == 0 {
            self.0 = None;
        }
    }

    /// Brings the sum in [`Runs`] up to date. To be called where something was put in or unblocked without them.
    pub fn count(&mut self, runs: &mut Runs) {
        if let Some(waiting) = &mut self.0 {
            waiting.count(runs);
        }
    }

    /// Nothing waits any more.
    fn emptied(&mut self, runs: &mut Runs) {
        if let Some(waiting) = self.0.take() {
            runs.waiting.replace(waiting.counted, Waits::default());
            runs.keep_queue(waiting);
        }
    }

    /// Appends a part of a shared run, and holds the run until that is sent.
    pub fn share(&mut self, slice: Slice, runs: &mut Runs) {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += slice.len();
        if let Some(Piece::Shared(last)) = waiting.pieces.back_mut()
            && last.run == slice.run
            && last.to == slice.from
        {
            last.to = slice.to;
            return;
        }
        runs.hold(slice.run);
        waiting.pieces.push_back(Piece::Shared(slice));
    }

    /// Sends `slice` at once if nothing waits before it. What the kernel does not take waits.
    #[inline(always)]
    pub fn send(&mut self, stream: &mut impl Write, slice: Slice, runs: &mut Runs) -> Sent {
        if !self.is_empty() {
            self.share(slice, runs);
            return if self.is_blocked() {
                self.count(runs);
                Sent::Blocked
            } else {
                self.flush(stream, runs)
            };
        }
        let taken = match write_once(|| stream.write(runs.slice(slice))) {
            Ok(taken) => taken,
            Err(_) => return Sent::Broken,
        };
        runs.taken += taken as u64;
        if taken == slice.len() {
            return Sent::All;
        }
        self.share(
            Slice {
                from: slice.from + taken as u32,
                ..slice
            },
            runs,
        );
        self.block(runs);
        Sent::Blocked
    }

    /// Offers what waits to the kernel, until nothing waits or the kernel takes no more.
    #[inline(always)]
    pub fn flush(&mut self, stream: &mut impl Write, runs: &mut Runs) -> Sent {
        let Some(waiting) = &mut self.0 else {
            return Sent::All;
        };
        while waiting.bytes > 0 {
            let mut parts = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let mut offered = 0;
            for (part, piece) in parts.iter_mut().zip(&waiting.pieces) {
                let bytes = match piece {
                    Piece::Own { bytes, sent } => bytes.get(*sent..).unwrap_or_default(),
                    Piece::Shared(slice) => runs.slice(*slice),
                };
                offered += bytes.len();
                *part = IoSlice::new(bytes);
            }
            let used = waiting.pieces.len().min(PIECES_PER_WRITE);
            let parts = parts.get(..used).unwrap_or_default();
            let taken = match write_once(|| match parts {
                [one] => stream.write(one),
                several => stream.write_vectored(several),
            }) {
                Ok(taken) => taken,
                Err(_) => return Sent::Broken,
            };
            runs.taken += taken as u64;
            waiting.sent(taken, runs);
            if taken < offered {
                waiting.blocked = true;
                waiting.count(runs);
                return Sent::Blocked;
            }
        }
        self.emptied(runs);
        Sent::All
    }

    /// Releases everything that waits.
    pub fn clear(&mut self, runs: &mut Runs) {
        if let Some(waiting) = &mut self.0 {
            for piece in waiting.pieces.drain(..) {
                if let Piece::Shared(slice) = piece {
                    runs.release(slice.run);
                }
            }
        }
        self.emptied(runs);
    }

    fn block(&mut self, runs: &mut Runs) {
        if let Some(waiting) = &mut self.0 {
            waiting.blocked = true;
            waiting.count(runs);
        }
    }
}

impl Queued {
    fn count(&mut self, runs: &mut Runs) {
        let now = Waits {
            bytes: self.bytes,
            own: self.own,
            blocked: usize::from(self.blocked),
        };
        runs.waiting.replace(self.counted, now);
        self.counted = now;
    }

    /// Takes `taken` bytes off the front.
    fn sent(&mut self, mut taken: usize, runs: &mut Runs) {
        self.bytes -= taken;
        while let Some(piece) = self.pieces.front_mut() {
            let left = match piece {
                Piece::Own { bytes, sent } => bytes.len() - *sent,
                Piece::Shared(slice) => slice.len(),
            };
            if taken < left {
                match piece {
                    Piece::Own { sent, .. } => {
                        *sent += taken;
                        self.own -= taken;
                    }
                    Piece::Shared(slice) => slice.from += taken as u32,
                }
                return;
            }
            taken -= left;
            match self.drop_first() {
                Some(Piece::Shared(slice)) => runs.release(slice.run),
                _ => self.own -= left,
            }
        }
    }
}

/// One write. "Would block" counts as 0 bytes, and an interrupted call is repeated.
#[inline(always)]
fn write_once(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Inbox;

    /// Takes at most `room` bytes, then would block.
    struct Sink {
        room: usize,
        got: Vec<u8>,
        calls: usize,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= taken;
            self.got.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
            self.write(
                &parts
                    .iter()
                    .flat_map(|p| p.iter().copied())
                    .collect::<Vec<u8>>(),
            )
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink(room: usize) -> Sink {
        Sink {
            room,
            got: Vec::new(),
            calls: 0,
        }
    }

    fn run(runs: &mut Runs, bytes: &[u8]) -> Slice {
        let (run, _) = runs.begin();
        runs.append(run, |out| out.extend_from_slice(bytes));
        Slice {
            run,
            from: 0,
            to: bytes.len() as u32,
        }
    }

    #[test]
    fn an_idle_connection_owns_two_words() {
        assert_eq!(size_of::<Inbox>() + size_of::<Outbox>(), 16);
        assert_eq!(size_of::<Piece>(), 32);
    }

    #[test]
    fn a_run_goes_straight_to_an_empty_queue() {
        let (mut runs, mut outbox, mut sink) = (Runs::default(), Outbox::default(), sink(100));
        let slice = run(&mut runs, b"hello");
        assert_eq!(outbox.send(&mut sink, slice, &mut runs), Sent::All);
        assert_eq!(sink.got, b"hello");
        assert!(outbox.is_empty());
        runs.release(slice.run);
        assert_eq!(runs.live(), 0);
    }

    #[test]
    fn order_holds_between_own_and_shared_bytes() {
        let (mut runs, mut outbox, mut sink) = (Runs::default(), Outbox::default(), sink(4));
        let slice = run(&mut runs, b"hello");
        outbox.own(|out| out.extend_from_slice(b"ack"));
        assert_eq!(outbox.send(&mut sink, slice, &mut runs), Sent::Blocked);
        outbox.own(|out| out.extend_from_slice(b"pong"));
        assert_eq!(outbox.len(), 8);
        assert!(outbox.is_blocked());
        sink.room = 100;
        outbox.unblock();
        assert_eq!(outbox.flush(&mut sink, &mut runs), Sent::All);
        assert_eq!(sink.got, b"ackhellopong");
        runs.release(slice.run);
        assert_eq!(runs.live(), 0);
    }

    #[test]
    fn a_laggard_holds_one_piece_of_a_growing_run() {
        let (mut runs, mut outbox, mut sink) = (Runs::default(), Outbox::default(), sink(2));
        let first = run(&mut runs, b"one");
        assert_eq!(outbox.send(&mut sink, first, &mut runs), Sent::Blocked);
        for _ in 0..100 {
            let from = runs.len(first.run) as u32;
            runs.append(first.run, |out| out.extend_from_slice(b"more"));
            let slice = Slice {
                run: first.run,
                from,
                to: from + 4,
            };
            assert_eq!(outbox.send(&mut sink, slice, &mut runs), Sent::Blocked);
        }
        assert_eq!(outbox.0.as_ref().unwrap().pieces.len(), 1);
        assert_eq!(outbox.len(), 401);
        runs.release(first.run);
        assert_eq!(runs.live(), 1);
        outbox.clear(&mut runs);
        assert_eq!(runs.live(), 0);
    }

    #[test]
    fn an_empty_outbox_takes_any_message() {
        let (mut runs, mut outbox, mut sink) = (Runs::default(), Outbox::default(), sink(1));
        assert!(outbox.has_room(1 << 20, 10));
        let slice = run(&mut runs, b"0123456789ab");
        outbox.send(&mut sink, slice, &mut runs);
        assert!(!outbox.has_room(1, 10));
        assert!(outbox.has_room(1, 12));
        outbox.clear(&mut runs);
    }

    #[test]
    fn many_pieces_leave_in_order() {
        let (mut runs, mut outbox, mut sink) = (Runs::default(), Outbox::default(), sink(7));
        let slices: Vec<Slice> = (0..50)
            .map(|n| run(&mut runs, format!("<{n}>").as_bytes()))
            .collect();
        for slice in &slices {
            outbox.share(*slice, &mut runs);
            runs.release(slice.run);
        }
        while outbox.flush(&mut sink, &mut runs) == Sent::Blocked {
            sink.room = 7;
        }
        let expected: String = (0..50).map(|n| format!("<{n}>")).collect();
        assert_eq!(sink.got, expected.as_bytes());
        assert_eq!(runs.live(), 0);
    }
}
