//! What a client's frame costs before its message is understood (M8): header, mask, UTF-8.
//!
//! ```text
//! cargo bench --bench codec
//! ```
//!
//! `in_place`: the frame lies in the receive buffer, as it does in the server; to be at most 15 ns for 64 bytes, and for
//! 16 KiB at least half as fast as `memcpy` of them. `from_a_stream`: the same job as other libraries can be made to do it,
//! each reading from the same stream in memory, whose one copy is in all figures. Median is the column to look at.

use std::future::Future;
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use divan::Bencher;
use divan::counter::BytesCount;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wsify::wire::frame;
use wsify::wire::message::{Item, Payload, Reader};

const SIZES: [usize; 2] = [64, 16 * 1024];
const MAX: usize = 1 << 20;
/// Such that what it makes of ASCII letters is ASCII again: unmasked twice, a frame is what it was.
const MASK: [u8; 4] = [1, 2, 3, 4];

fn main() {
    divan::main();
}

/// A client's text frame of letters.
fn frame(size: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match size {
        0..126 => frame.push(0x80 | size as u8),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(size as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend((0..size).map(|at| b'a' + (at % 16) as u8));
    frame
}

/// Some 64 KiB of frames, as a read brings them.
fn frames(size: usize) -> Vec<u8> {
    let frame = frame(size);
    frame.repeat(64 * 1024 / frame.len())
}

#[divan::bench(args = SIZES, sample_size = 1000)]
fn memcpy(bencher: Bencher, size: usize) {
    let (from, mut to) = (vec![b'a'; size], vec![0; size]);
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| divan::black_box(&mut to).copy_from_slice(divan::black_box(&from)));
}

#[divan::bench(args = SIZES, sample_size = 1000)]
fn in_place(bencher: Bencher, size: usize) {
    let (mut reader, mut input) = (Reader::default(), frames(size));
    let mut at = 0;
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        if at == input.len() {
            at = 0;
        }
        let step = reader.next(&mut input[at..], MAX, false).expect("a frame");
        at += step.used;
        assert!(matches!(step.item, Some(Item::Text(Payload::In(_)))));
    });
}

#[divan::bench_group]
mod unmask {
    use super::*;

    /// And is it ASCII?
    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn wsify(bencher: Bencher, size: usize) {
        let mut bytes = vec![b'a'; size];
        bencher
            .counter(BytesCount::new(size))
            .bench_local(|| assert!(frame::unmask(divan::black_box(&mut bytes), MASK)));
    }

    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn fastwebsockets(bencher: Bencher, size: usize) {
        let mut bytes = vec![b'a'; size];
        bencher
            .counter(BytesCount::new(size))
            .bench_local(|| fastwebsockets::unmask(divan::black_box(&mut bytes), MASK));
    }
}

#[divan::bench_group]
mod from_a_stream {
    use super::*;

    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn wsify(bencher: Bencher, size: usize) {
        let (mut source, mut reader) = (Source::of(size), Reader::default());
        let (mut buffer, mut at, mut end) = (vec![0; 64 * 1024], 0, 0);
        bencher.counter(BytesCount::new(size)).bench_local(|| {
            if at == end {
                end = source.read(&mut buffer).expect("bytes");
                at = 0;
            }
            let step = reader
                .next(&mut buffer[at..end], MAX, false)
                .expect("a frame");
            at += step.used;
            assert!(matches!(step.item, Some(Item::Text(_))));
        });
    }

    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn tungstenite(bencher: Bencher, size: usize) {
        use tungstenite::protocol::{Role, WebSocket};
        let mut socket = WebSocket::from_raw_socket(Source::of(size), Role::Server, None);
        bencher.counter(BytesCount::new(size)).bench_local(|| {
            let message = socket.read().expect("a message");
            assert!(message.is_text() && message.len() == size);
        });
    }

    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn fastwebsockets(bencher: Bencher, size: usize) {
        use fastwebsockets::{OpCode, Role, WebSocket};
        let mut socket = WebSocket::after_handshake(Source::of(size), Role::Server);
        let mut context = Context::from_waker(Waker::noop());
        bencher.counter(BytesCount::new(size)).bench_local(|| {
            let Poll::Ready(frame) = pin!(socket.read_frame()).poll(&mut context) else {
                panic!("it waits for a stream that never does");
            };
            // That it is UTF-8 has been seen to.
            let frame = frame.expect("a frame");
            assert!(frame.opcode == OpCode::Text && frame.payload.len() == size);
        });
    }
}

/// The same frames over and over; each read brings them all, as far as there is room.
struct Source {
    frames: Vec<u8>,
    at: usize,
}

impl Source {
    fn of(size: usize) -> Source {
        let frames = frames(size);
        Source { frames, at: 0 }
    }

    fn next(&mut self, room: usize) -> &[u8] {
        if self.at == self.frames.len() {
            self.at = 0;
        }
        let from = self.at;
        self.at += room.min(self.frames.len() - from);
        &self.frames[from..self.at]
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(buffer.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Source {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Source {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        let bytes = self.next(buffer.remaining());
        buffer.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Source {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
