//! The floor of one command with an answer: one `recv`, one `send`.

use std::io;

use super::{Floor, Input, Read};
use crate::wire::{self, Command};

pub fn run(mut floor: Floor) -> io::Result<()> {
    let mut input = Input::new();
    let mut answers = Vec::new();
    loop {
        floor.wait(None)?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if read != Read::Bytes {
                continue;
            }
            floor.shake_hands(slot, &mut input);
            answers.clear();
            while let Some((_, text)) = input.frame() {
                if let Some(Command::Join { id, .. }) = wire::command(input.get(text)) {
                    answer(id, &mut answers);
                }
            }
            if !answers.is_empty() {
                floor.send(slot, &answers);
            }
            floor.keep(slot, &input);
        }
    }
}

/// `{"id":…,"ok":true}` in a frame, for an id of nine digits.
pub fn answer(id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\x81\x1a{\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"ok\":true}");
}
