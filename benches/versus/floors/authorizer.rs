//! Not a floor but what stands behind wsify: an authorizer that says yes to everything, after a delay.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::{Floor, Input, Read};

const YES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

pub fn run(mut floor: Floor, delay: Duration) -> io::Result<()> {
    let mut input = Input::new();
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
            floor.send(slot, YES);
        }
    }
}
