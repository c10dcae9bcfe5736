//! Not a floor but what stands behind wsify: an authorizer that says yes to everything, after a delay; perhaps with fields.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::{Floor, Input, Read};

const YES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A yes with a user and a state of 60 bytes, both of one connection alone, and with an `allow` that all share.
fn yes_with_fields(number: u64) -> Vec<u8> {
    let body = format!(
        r#"{{"user":{number},"state":{{"n":"{number:052}"}},"allow":{{"join":["*"],"leave":["*"],"broadcast":["room:*"]}}}}"#
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.wsify+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub fn run(mut floor: Floor, delay: Duration, with_fields: bool) -> io::Result<()> {
    let mut input = Input::new();
    let mut answers = 0;
    // The delay is the same for all, so they come due in the order of asking.
    let mut waiting: VecDeque<(Instant, usize)> = VecDeque::new();
    loop {
        let timeout = waiting
            .front()
            .map(|(due, _)| due.saturating_duration_since(Instant::now()));
        floor.wait(timeout)?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if read == Read::Bytes {
                while input.request().is_some() {
                    waiting.push_back((Instant::now() + delay, slot));
                }
                floor.keep(slot, &input);
            }
        }
        let now = Instant::now();
        while let Some(&(due, slot)) = waiting.front()
            && due <= now
        {
            waiting.pop_front();
            if with_fields {
                answers += 1;
                floor.send(slot, &yes_with_fields(answers));
            } else {
                floor.send(slot, YES);
            }
        }
    }
}
