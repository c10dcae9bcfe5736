//! An echo server on wsify's own connection code, for the Autobahn test suite:
//!
//!     cargo run --release --example echo -- 127.0.0.1:9001 [--compression on]
//!
//! Owns: a poll and a slab of connections; sends every message back. Everything else (requests, the handshake, frames,
//! messages, compression, pings, closes, deadlines) is the product's.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use wsify::buffers::Runs;
use wsify::clock::Clock;
use wsify::config::Listen;
use wsify::connection::{Connection, Ending, Filled, Input, Limits};
use wsify::listener::{self, ClientSocket};
use wsify::wire::deflate::{Deflater, Inflater};
use wsify::wire::frame::{self, Opcode};
use wsify::wire::handshake;

/// The largest messages of the suite have 16 MiB.
const LIMITS: Limits = Limits {
    handshake_timeout: 10_000,
    ping_interval: 0,
    max_message: 16 << 20,
    max_queue: 64 << 20,
};
const LISTENER: Token = Token(usize::MAX - 1);
const TICK: Duration = Duration::from_millis(100);

/// What all connections use together.
struct Shared {
    buffer: Vec<u8>,
    clock: Clock,
    compression: bool,
    deflater: Deflater,
    inflater: Inflater,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (address, compression) = match arguments[..] {
        [address] | [address, "--compression", "off"] => (address, false),
        [address, "--compression", "on"] => (address, true),
        _ => return Err("usage: echo HOST:PORT [--compression on|off]".into()),
    };
    let mut poll = Poll::new()?;
    let listen = Listen::Ip(address.parse()?);
    let listener = listener::open(&listen, false)?.remove(0);
    listener.register(poll.registry(), LISTENER)?;
    println!("listening on {}", listener.address);

    let started = Instant::now();
    let mut events = Events::with_capacity(64);
    let mut shared = Shared {
        buffer: vec![0; 64 * 1024],
        clock: Clock::default(),
        compression,
        deflater: Deflater::default(),
        inflater: Inflater::default(),
    };
    let mut runs = Runs::default();
    let mut connections: HashMap<Token, Connection<ClientSocket>> = HashMap::new();
    let mut next = 0;
    loop {
        poll.poll(&mut events, Some(TICK))?;
        shared.clock.now = started.elapsed().as_millis() as u64;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((socket, peer)) = listener.accept() {
                    let token = Token(next);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    socket.register(poll.registry(), token, interest)?;
                    let connection = Connection::new(socket, peer, next as u64, shared.clock.now);
                    connections.insert(token, connection);
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
                turn(connection, &mut shared);
                connection.flush(&mut runs, shared.clock.now);
            }
            connection.flush(&mut runs, shared.clock.now);
            connection.expire(&shared.clock, &LIMITS);
        }
        connections.retain(|_, connection| !connection.is_over());
    }
}

/// One read, and every message that is complete then.
fn turn(connection: &mut Connection<ClientSocket>, shared: &mut Shared) {
    let now = shared.clock.now;
    match connection.fill(&mut shared.buffer, now) {
        Filled::Bytes(count) => connection.keep_input(&shared.buffer[..count]),
        Filled::Nothing => return,
        Filled::End => return connection.ended(now),
        Filled::Broken => return connection.fail(Ending::Reset),
    }
    let mut taken = connection.take_input();
    let input = taken.bytes();
    let mut used = 0;
    loop {
        let step = connection.next(&mut input[used..], &shared.clock, &LIMITS);
        let here = &input[used..];
        match step.input {
            None => break used += step.used,
            Some(Input::Request(exchange, head, _)) => {
                match handshake::judge(&head, shared.compression) {
                    Ok(upgrade) => connection.open(exchange.from, &upgrade, &shared.clock),
                    Err(refusal) => {
                        let reply = refusal.reply();
                        connection.answer(exchange, &reply, true, &shared.clock, &LIMITS);
                    }
                }
            }
            Some(Input::Said(kind, payload)) => {
                say(connection, &mut shared.deflater, kind, payload.of(here));
            }
            Some(Input::Compressed(kind, payload)) => {
                let (payload, text) = (payload.of(here), kind == Opcode::Text);
                match shared.inflater.inflate(payload, text, LIMITS.max_message) {
                    Ok(message) => {
                        say(connection, &mut shared.deflater, kind, message.bytes());
                        shared.inflater.keep(message);
                    }
                    Err(violation) => {
                        connection.close(Ending::Violation(violation), None, now);
                    }
                }
            }
            Some(Input::Bye(ending)) => {
                connection.close(ending, None, now);
            }
            Some(Input::Introduced(_) | Input::Body(..) | Input::BadBody(..)) => {}
        }
        used += step.used;
    }
    connection.put_input_back(taken, used);
}

/// Says a message, compressed if the client has agreed to that and it gets smaller.
fn say(
    connection: &mut Connection<ClientSocket>,
    deflater: &mut Deflater,
    kind: Opcode,
    message: &[u8],
) {
    let wanted = connection.encoding().is_deflated();
    let mut bytes = Vec::new();
    match wanted.then(|| deflater.deflate(message)).flatten() {
        Some(smaller) => {
            frame::push_compressed_header(&mut bytes, kind, smaller.len());
            bytes.extend_from_slice(smaller);
        }
        None => frame::push_frame(&mut bytes, kind, message),
    }
    connection.push(&mut bytes);
}
