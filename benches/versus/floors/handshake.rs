//! The floor of a connection's life: `accept4`, `epoll_ctl`, the handshake, a join, `close`.

use std::io;

use super::{Floor, Input, Read, echo};
use crate::wire::{self, Command};

const NOWHERE: u32 = u32::MAX;

pub fn run(mut floor: Floor) -> io::Result<()> {
    let mut input = Input::new();
    let mut answers = Vec::new();
    // The one channel, and where in it each slot is: a member leaves by swap.
    let mut members: Vec<u32> = Vec::new();
    let mut places: Vec<u32> = Vec::new();
    loop {
        floor.wait(None)?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if places.len() <= slot {
                places.resize(slot + 1, NOWHERE);
            }
            if read == Read::Closed && places[slot] != NOWHERE {
                let place = std::mem::replace(&mut places[slot], NOWHERE) as usize;
                members.swap_remove(place);
                if let Some(&moved) = members.get(place) {
                    places[moved as usize] = place as u32;
                }
            }
            if read != Read::Bytes {
                continue;
            }
            floor.shake_hands(slot, &mut input);
            answers.clear();
            while let Some((opcode, text)) = input.frame() {
                if opcode == wire::PING {
                    wire::server_frame(wire::PONG, input.get(text), &mut answers);
                } else if let Some(Command::Join { id, .. }) = wire::command(input.get(text)) {
                    echo::answer(id, &mut answers);
                    places[slot] = members.len() as u32;
                    members.push(slot as u32);
                }
            }
            if !answers.is_empty() {
                floor.send(slot, &answers);
            }
            floor.keep(slot, &input);
        }
    }
}
