//! The floor of heartbeats: one `send` and one `recv` per connection and interval, and a wake-up every 10 ms.
//!
//! The connections are spread over the interval's ticks by their slot, so no deadline is ever looked up.

use std::io;
use std::time::{Duration, Instant};

use super::{Floor, Input, Read, echo};
use crate::wire::{self, Command};

const TICK: Duration = Duration::from_millis(10);

pub fn run(mut floor: Floor, interval: Duration) -> io::Result<()> {
    let mut input = Input::new();
    let mut answers = Vec::new();
    let mut joined: Vec<bool> = Vec::new();
    let ticks = (interval.as_millis() / TICK.as_millis()).max(1) as usize;
    let mut tick = 0;
    let mut due = Instant::now() + TICK;
    let mut ping = Vec::new();
    wire::server_frame(wire::PING, b"", &mut ping);
    loop {
        floor.wait(Some(due.saturating_duration_since(Instant::now())))?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if joined.len() <= slot {
                joined.resize(slot + 1, false);
            }
            match read {
                Read::Nothing => continue,
                Read::Closed => {
                    joined[slot] = false;
                    continue;
                }
                Read::Bytes => {}
            }
            floor.shake_hands(slot, &mut input);
            answers.clear();
            while let Some((opcode, text)) = input.frame() {
                if opcode == wire::TEXT
                    && let Some(Command::Join { id, .. }) = wire::command(input.get(text))
                {
                    joined[slot] = true;
                    echo::answer(id, &mut answers);
                }
            }
            if !answers.is_empty() {
                floor.send(slot, &answers);
            }
            floor.keep(slot, &input);
        }
        if Instant::now() >= due {
            due += TICK;
            tick = (tick + 1) % ticks;
            for slot in (tick..joined.len()).step_by(ticks) {
                if joined[slot] {
                    floor.send(slot, &ping);
                }
            }
        }
    }
}
