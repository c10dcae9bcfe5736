//! The floor of `POST /broadcast`: one `recv` and one `send` per read, however many requests it held, and one `send` per
//! member and turn.

use std::io;

use super::fanout::Rooms;
use super::{Floor, Input, Read, echo};
use crate::wire::{self, Command};

const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

pub fn run(mut floor: Floor) -> io::Result<()> {
    let mut input = Input::new();
    let mut rooms = Rooms::default();
    let mut answers = Vec::new();
    // Which slots have upgraded: members, which only join.
    let mut upgraded: Vec<bool> = Vec::new();
    loop {
        floor.wait(None)?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if upgraded.len() <= slot {
                upgraded.resize(slot + 1, false);
            }
            match read {
                Read::Nothing => continue,
                Read::Closed => {
                    upgraded[slot] = false;
                    continue;
                }
                Read::Bytes => {}
            }
            answers.clear();
            if upgraded[slot] || floor.shake_hands(slot, &mut input) {
                upgraded[slot] = true;
                while let Some((_, text)) = input.frame() {
                    if let Some(Command::Join { room, id }) = wire::command(input.get(text)) {
                        rooms.join(room, slot);
                        echo::answer(id, &mut answers);
                    }
                }
            } else {
                while let Some(body) = input.request() {
                    if let Some((room, content)) = wire::posted(input.get(body)) {
                        rooms.publish(room, content);
                        answers.extend_from_slice(CREATED);
                    }
                }
            }
            if !answers.is_empty() {
                floor.send(slot, &answers);
            }
            floor.keep(slot, &input);
        }
        rooms.flush(&mut floor);
    }
}
