//! One audience of a channel, and the deliveries to it under way.
//!
//! Owns: [`Audience`]: the members of a channel with the same encoding, their batches, and the cursor of the current
//! batch. Knows: slots and stretches of [`Runs`]. Never knows: connections, names.
//!
//! What is published until a batch begins to go out forms one contiguous stretch, and a member gets it in one send. What
//! is published while it goes out makes the next batch: batches grow with the load by themselves, without any delay.
//!
//! Members are a dense array in the order of joining, walked by the cursor. Those before it have received the first
//! batch, those behind it have not. Everything published has a position in the audience's stream; a member remembers
//! the position at which it joined, and gets nothing from before. Before a member leaves, it gets what was published
//! while it was one ([`Audience::pending`]): what was accepted reaches every member that stays connected
//! (`docs/api.md#broadcast`).

#![expect(
    clippy::arithmetic_side_effects,
    reason = "what is counted is in memory; a wrong account is to be seen by tests, not to be hidden"
)]

use std::collections::VecDeque;

use crate::buffers::{Runs, Slice};
use crate::wire::frame;

/// A batch is closed at this size and another begun, so that memory and single sends stay bounded under a flood.
const BATCH: usize = 1024 * 1024;
/// A run that slow members still hold is appended to up to this size. They then hold one stretch of one run, not one
/// small run for each message.
const SHARED_RUN: usize = 64 * 1024;
/// Bytes that may be on their way to one audience. While there are more, publishers wait.
pub const CONGESTED: usize = 4 * 1024 * 1024;

/// Members for which memory is kept when they leave.
const ROOMY: usize = 1024;

/// Packed, as there is one for each membership.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
struct Member {
    slot: u32,
    /// Position in the stream at which it joined.
    since: u64,
}

const _: () = assert!(size_of::<Member>() == 12);

#[derive(Clone, Copy, Debug)]
struct Batch {
    slice: Slice,
    /// Position in the stream of the slice's first byte.
    start: u64,
    /// When its first message was published: the low half of the clock's microseconds.
    since: u32,
    messages: u32,
}

impl Batch {
    /// The part for a member that joined at `since`.
    fn part(&self, since: u64) -> Option<Slice> {
        let skipped = since.saturating_sub(self.start);
        let skipped = u32::try_from(skipped)
            .ok()
            .filter(|s| (*s as usize) < self.slice.len())?;
        Some(Slice {
            from: self.slice.from + skipped,
            ..self.slice
        })
    }
}

/// The members of a channel with the same encoding.
#[derive(Debug, Default)]
pub struct Audience {
    members: Vec<Member>,
    /// The first batch is going out; `members[..cursor]` have had it.
    batches: VecDeque<Batch>,
    cursor: usize,
    /// Bytes ever published here.
    published: u64,
    /// The run last written to and its serial number: slow members may still hold it.
    tail: Option<(u32, u64)>,
    /// Whether it stands in the hub's list of audiences to be served.
    pub listed: bool,
}

impl Audience {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The slots of its members, in no order.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.slot)
    }

    /// Whether it has no members, and is in no list.
    pub fn is_unused(&self) -> bool {
        self.is_empty() && !self.listed
    }

    pub fn is_congested(&self) -> bool {
        self.batches.iter().map(|b| b.slice.len()).sum::<usize>() > CONGESTED
    }

    /// Adds a member, which gets what is published from now on. Returns its position.
    pub fn add(&mut self, slot: u32) -> u32 {
        self.members.push(Member {
            slot,
            since: self.published,
        });
        (self.members.len() - 1) as u32
    }

    /// What the member at `position` has not received yet, in order.
    pub fn pending(&self, position: u32) -> impl Iterator<Item = Slice> {
        let position = position as usize;
        let had = usize::from(position < self.cursor);
        let member = self.members.get(position).copied();
        self.batches
            .iter()
            .skip(had)
            .filter_map(move |batch| batch.part(member?.since))
    }

    /// Removes the member at `position`. Others move to close the gap, at most one on each side of the cursor; `moved`
    /// gets each one's slot and new position.
    pub fn remove(&mut self, position: u32, runs: &mut Runs, mut moved: impl FnMut(u32, u32)) {
        let mut gap = position as usize;
        if gap < self.cursor {
            self.cursor -= 1;
            self.close_gap(self.cursor, gap, &mut moved);
            gap = self.cursor;
        }
        self.close_gap(self.members.len() - 1, gap, &mut moved);
        self.members.pop();
        // Memory is freed step by step as members leave. Freeing all with the last one takes over a millisecond.
        let capacity = self.members.capacity();
        if capacity > ROOMY && self.members.len() < capacity / 2 {
            self.members.shrink_to(capacity / 4 * 3);
        }
        if self.members.is_empty() {
            for batch in self.batches.drain(..) {
                runs.release(batch.slice.run);
            }
        }
    }

    fn close_gap(&mut self, from: usize, gap: usize, moved: &mut impl FnMut(u32, u32)) {
        let last = self.members.get(from).copied();
        if from != gap
            && let Some(last) = last
            && let Some(member) = self.members.get_mut(gap)
        {
            *member = last;
            moved(last.slot, gap as u32);
        }
    }

    /// Publishes a frame, which `encode` appends.
    pub fn publish(&mut self, now: u64, runs: &mut Runs, encode: impl FnOnce(&mut Vec<u8>)) {
        let going = usize::from(self.cursor > 0);
        if self.batches.len() <= going
            || self.batches.back().is_some_and(|b| b.slice.len() >= BATCH)
        {
            let run = self.writable_run(runs);
            let end = runs.len(run) as u32;
            self.batches.push_back(Batch {
                slice: Slice {
                    run,
                    from: end,
                    to: end,
                },
                start: self.published,
                since: now as u32,
                messages: 0,
            });
        }
        let Some(batch) = self.batches.back_mut() else {
            return;
        };
        runs.append(batch.slice.run, encode);
        let end = runs.len(batch.slice.run) as u32;
        self.published += u64::from(end - batch.slice.to);
        batch.slice.to = end;
        batch.messages += 1;
    }

    /// A run to begin a batch in, held for it.
    fn writable_run(&mut self, runs: &mut Runs) -> u32 {
        if let Some((run, serial)) = self.tail
            && runs.hold_again(run, serial, SHARED_RUN)
        {
            return run;
        }
        let (run, serial) = runs.begin();
        self.tail = Some((run, serial));
        run
    }

    /// The next member to be served, what it gets, and how many messages that is. `None` when all members have received
    /// the batch.
    pub fn next(&mut self, runs: &Runs) -> Option<(u32, Slice, u32)> {
        let batch = self.batches.front()?;
        while let Some(member) = self.members.get(self.cursor) {
            self.cursor += 1;
            if let Some(slice) = batch.part(member.since) {
                let messages = if slice.from == batch.slice.from {
                    batch.messages
                } else {
                    frame::count(runs.slice(slice))
                };
                return Some((member.slot, slice, messages));
            }
        }
        None
    }

    /// When the batch that is going out was begun.
    pub fn since(&self) -> Option<u32> {
        self.batches.front().map(|batch| batch.since)
    }

    /// Releases the batch that has gone out. Returns whether another follows.
    pub fn finish_batch(&mut self, runs: &mut Runs) -> bool {
        self.cursor = 0;
        if let Some(batch) = self.batches.pop_front() {
            runs.release(batch.slice.run);
        }
        !self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wire::frame::Opcode;

    /// What a member must get, and what it has got.
    #[derive(Default)]
    struct Log {
        due: Vec<u32>,
        got: Vec<u32>,
    }

    /// An audience beside a naive model of it. A slot is never used twice.
    #[derive(Default)]
    struct Model {
        audience: Audience,
        runs: Runs,
        places: BTreeMap<u32, u32>,
        heard: BTreeMap<u32, Log>,
        said: u32,
    }

    impl Model {
        fn join(&mut self) {
            let slot = self.heard.len() as u32;
            self.places.insert(slot, self.audience.add(slot));
            self.heard.insert(slot, Log::default());
        }

        /// `size`: of the payload, so that batches may be split by it.
        fn publish(&mut self, size: usize) {
            if self.places.is_empty() {
                return;
            }
            self.said += 1;
            let mut payload = vec![0; size.max(4)];
            payload[..4].copy_from_slice(&self.said.to_be_bytes());
            self.audience.publish(0, &mut self.runs, |out| {
                frame::push_frame(out, Opcode::Text, &payload);
            });
            for slot in self.places.keys() {
                self.heard.get_mut(slot).unwrap().due.push(self.said);
            }
        }

        /// Gives the next member what it gets; false when nothing is under way.
        fn send(&mut self) -> bool {
            if let Some((slot, slice, messages)) = self.audience.next(&self.runs) {
                assert!(self.places.contains_key(&slot), "{slot} is no member");
                assert_eq!(self.receives(slot, slice), messages);
                return true;
            }
            self.audience.finish_batch(&mut self.runs)
        }

        fn receives(&mut self, slot: u32, slice: Slice) -> u32 {
            let mut bytes = self.runs.slice(slice);
            let got = &mut self.heard.get_mut(&slot).unwrap().got;
            let before = got.len();
            while let Some(header) = frame::parse(bytes) {
                let payload = &bytes[header.size..][..header.len.unwrap() as usize];
                got.push(u32::from_be_bytes(*payload.first_chunk().unwrap()));
                bytes = &bytes[header.size + payload.len()..];
            }
            (got.len() - before) as u32
        }

        /// A member leaves, having had what was published before, or is cut off.
        fn go(&mut self, slot: u32, leaves: bool) {
            let place = self.places.remove(&slot).unwrap();
            if leaves {
                for slice in self.audience.pending(place).collect::<Vec<_>>() {
                    self.receives(slot, slice);
                }
                let heard = &self.heard[&slot];
                assert_eq!(heard.got, heard.due, "{slot} leaves");
            }
            let (audience, places) = (&mut self.audience, &mut self.places);
            audience.remove(place, &mut self.runs, |other, at| {
                places.insert(other, at).expect("a member moves");
            });
            let heard = &self.heard[&slot];
            assert!(heard.due.starts_with(&heard.got), "{slot} is cut off");
        }

        /// Everything under way goes out: then every member has had everything, once and in order.
        fn end(mut self) {
            while self.send() {}
            for slot in self.places.keys() {
                let heard = &self.heard[slot];
                assert_eq!(heard.got, heard.due, "{slot}");
            }
            let members: Vec<u32> = self.places.keys().copied().collect();
            members.into_iter().for_each(|slot| self.go(slot, true));
            assert_eq!(self.runs.live(), 0);
        }
    }

    #[test]
    fn joins_leaves_and_broadcasts_at_any_point_of_a_fan_out() {
        const MEMBERS: u32 = 5;
        // Two batches: one goes out, and one waits behind it.
        for (sends, second, member, what) in (0..=MEMBERS * 2 + 1).flat_map(|sends| {
            (0..=sends).flat_map(move |second| {
                (0..MEMBERS)
                    .flat_map(move |member| (0..4).map(move |what| (sends, second, member, what)))
            })
        }) {
            let mut model = Model::default();
            (0..MEMBERS).for_each(|_| model.join());
            model.publish(0);
            for at in 0..=sends {
                if at == second {
                    model.publish(0);
                }
                if at < sends {
                    model.send();
                }
            }
            match what {
                0 => model.join(),
                1 => model.publish(0),
                2 => model.go(member, true),
                _ => model.go(member, false),
            }
            model.publish(0);
            model.end();
        }
    }

    #[test]
    fn many_things_happen_during_many_fan_outs() {
        for seed in 1..=100_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut below = |limit: usize| {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
            };
            let mut model = Model::default();
            for _ in 0..400 {
                let member = below(model.places.len().max(1));
                let member = model.places.keys().nth(member).copied();
                match (below(12), member) {
                    (0 | 1, _) => model.join(),
                    (2, Some(slot)) => model.go(slot, true),
                    (3, Some(slot)) => model.go(slot, false),
                    (4..=6, _) => model.publish([0, 4, 200, 100_000][below(4)]),
                    _ => _ = model.send(),
                }
            }
            model.end();
        }
    }
}
