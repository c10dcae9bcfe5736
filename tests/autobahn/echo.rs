//! An echo server on wsify's own connection code, for the Autobahn test suite:
//!
//!     cargo run --release --example echo -- 127.0.0.1:9001
//!
//! Owns: a poll and a slab of connections; sends every message back. Everything else (requests, the handshake, frames,
//! messages, pings, closes, deadlines) is the product's.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use wsify::buffers::Runs;
use wsify::clock::Clock;
use wsify::config::Listen;
use wsify::connection::{Connection, Ending, Event, Filled, Limits};
use wsify::listener::{self, ClientSocket};
use wsify::wire::frame;
use wsify::wire::handshake;
use wsify::wire::message::Payload;

/// The largest messages of the suite have 16 MiB.
const LIMITS: Limits = Limits {
    handshake_timeout: 10_000,
    ping_interval: 0,
    max_message: 16 << 20,
    max_queue: 64 << 20,
};
const LISTENER: Token = Token(usize::MAX - 1);
const TICK: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: echo HOST:PORT")?;
    let mut poll = Poll::new()?;
    let listen = Listen::Ip(address.parse()?);
    let listener = listener::open(&listen, false)?.remove(0);
    listener.register(poll.registry(), LISTENER)?;
    println!("listening on {}", listener.address);

    let started = Instant::now();
    let mut events = Events::with_capacity(64);
    let mut buffer = vec![0; 64 * 1024];
    let mut clock = Clock::default();
    let mut runs = Runs::default();
    let mut connections: HashMap<Token, Connection<ClientSocket>> = HashMap::new();
    let mut next = 0;
    loop {
        poll.poll(&mut events, Some(TICK))?;
        clock.now = started.elapsed().as_millis() as u64;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((socket, peer)) = listener.accept() {
                    let token = Token(next);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    socket.register(poll.registry(), token, interest)?;
                    connections
                        .insert(token, Connection::new(socket, peer, next as u64, clock.now));
                    next += 1;
                }
                continue;
            }
            let Some(connection) = connections.get_mut(&event.token()) else {
                continue;
            };
            if event.is_writable() {
                connection.writable();
            }
            if event.is_readable() || event.is_error() {
                connection.readable(event.is_read_closed() || event.is_error(), event.is_error());
            }
        }
        for connection in connections.values_mut() {
            while connection.is_unread() && !connection.is_over() {
                turn(connection, &mut buffer, &clock);
                connection.flush(&mut runs, clock.now);
            }
            connection.flush(&mut runs, clock.now);
            connection.expire(&clock, &LIMITS);
        }
        connections.retain(|_, connection| !connection.is_over());
    }
}

/// One read, and every message that is complete then.
fn turn(connection: &mut Connection<ClientSocket>, buffer: &mut [u8], clock: &Clock) {
    match connection.fill(buffer, clock.now) {
        Filled::Bytes(count) => connection.keep_input(&buffer[..count]),
        Filled::Nothing => return,
        Filled::End => return connection.ended(clock.now),
        Filled::Broken => return connection.fail(Ending::Reset),
    }
    let mut taken = connection.take_input();
    let input = taken.bytes();
    let mut used = 0;
    loop {
        let step = connection.next(&mut input[used..], clock, &LIMITS);
        let here = &input[used..];
        match step.event {
            None => break used += step.used,
            Some(Event::Request(exchange, head, _)) => match handshake::judge(&head) {
                Ok(upgrade) => connection.open(exchange.from, &upgrade, clock),
                Err(refusal) => {
                    connection.answer(exchange, &refusal.reply(), true, clock, &LIMITS);
                }
            },
            Some(Event::Said(kind, payload)) => {
                let message = match &payload {
                    Payload::In(range) => &here[range.clone()],
                    Payload::Owned(message) => message,
                };
                let mut bytes = Vec::new();
                frame::push_frame(&mut bytes, kind, message);
                connection.push(&mut bytes);
            }
            Some(Event::Bye(ending)) => {
                connection.close(ending, None, clock.now);
            }
            Some(Event::Introduced(_) | Event::Body(..) | Event::BadBody(..)) => {}
        }
        used += step.used;
    }
    connection.put_input_back(taken, used);
}
