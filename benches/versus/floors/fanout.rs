//! The floor of fan-out: one `recv`, then one `send` per member.
//!
//! It batches: what one turn brings to a room goes out as one run, in one `send` per member. With one message outstanding
//! a turn brings one message, so the same program is the floor of single messages and of batches.

use std::io;

use super::{Floor, Input, Read, echo};
use crate::wire::{self, Command};

/// One room: its members in the order of joining, and the run that this turn makes.
#[derive(Default)]
pub struct Room {
    members: Vec<u32>,
    run: Vec<u8>,
}

/// All rooms, and those that have a run to send.
#[derive(Default)]
pub struct Rooms {
    rooms: Vec<Room>,
    dirty: Vec<usize>,
}

pub fn run(mut floor: Floor) -> io::Result<()> {
    let mut input = Input::new();
    let mut rooms = Rooms::default();
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
                match wire::command(input.get(text)) {
                    Some(Command::Say { room, content }) => rooms.publish(room, content),
                    Some(Command::Join { room, id }) => {
                        rooms.join(room, slot);
                        echo::answer(id, &mut answers);
                    }
                    None => {}
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

impl Rooms {
    pub fn join(&mut self, room: usize, slot: usize) {
        if self.rooms.len() <= room {
            self.rooms.resize_with(room + 1, Room::default);
        }
        self.rooms[room].members.push(slot as u32);
    }

    /// Adds to the room's run of this turn; nothing if the room is empty.
    pub fn publish(&mut self, room: usize, content: &[u8]) {
        let Some(there) = self.rooms.get_mut(room) else {
            return;
        };
        if there.run.is_empty() {
            self.dirty.push(room);
        }
        wire::server_frame(wire::TEXT, content, &mut there.run);
    }

    /// The turn's end: one `send` per member of each room that has a run.
    pub fn flush(&mut self, floor: &mut Floor) {
        for room in self.dirty.drain(..) {
            let room = &mut self.rooms[room];
            for &member in &room.members {
                floor.send(member as usize, &room.run);
            }
            room.run.clear();
        }
    }
}
