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
    with_body("application/vnd.wsify+json", &body)
}

/// A yes that holds for a day.
fn yes_for_a_day() -> Vec<u8> {
    with_body("application/vnd.wsify+json", r#"{"max_age":86400}"#)
}

/// A yes to each question of a batch.
fn yes_to_all(questions: usize) -> Vec<u8> {
    let items = vec![r#"{"status":200}"#; questions].join(",");
    with_body("application/json", &format!("[{items}]"))
}

fn with_body(kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// What is said besides yes.
#[derive(Clone, Copy, PartialEq)]
pub enum Says {
    Yes,
    Grants,
    MaxAge,
}

/// How many questions a body has, if it is a batch.
fn batch(body: &[u8]) -> Option<usize> {
    let each = memchr::memmem::find_iter(body, br#""connection":{"id":"#);
    body.starts_with(b"[").then(|| each.count())
}

pub fn run(mut floor: Floor, delay: Duration, says: Says) -> io::Result<()> {
    let mut input = Input::new();
    let mut answers = 0;
    // The delay is the same for all, so they come due in the order of asking.
    let mut waiting: VecDeque<(Instant, usize, Option<usize>)> = VecDeque::new();
    loop {
        let timeout = waiting
            .front()
            .map(|(due, ..)| due.saturating_duration_since(Instant::now()));
        floor.wait(timeout)?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if read == Read::Bytes {
                while let Some(body) = input.request() {
                    let questions = batch(input.get(body));
                    waiting.push_back((Instant::now() + delay, slot, questions));
                }
                floor.keep(slot, &input);
            }
        }
        let now = Instant::now();
        while let Some(&(due, slot, questions)) = waiting.front()
            && due <= now
        {
            waiting.pop_front();
            match (questions, says) {
                (Some(questions), _) => floor.send(slot, &yes_to_all(questions)),
                (None, Says::Yes) => floor.send(slot, YES),
                (None, Says::Grants) => {
                    answers += 1;
                    floor.send(slot, &yes_with_fields(answers));
                }
                (None, Says::MaxAge) => floor.send(slot, &yes_for_a_day()),
            }
        }
    }
}
