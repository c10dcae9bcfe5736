//! The settings of a simulation that differ between seeds.
//!
//! Owns: the settings drawn before a seed is played. Each kind of trouble is left out of some
//! seeds and frequent in others. So rare interleavings become frequent, and one trouble cannot hide another.

use wsify::connection::Limits;
use wsify::hub::{EventSettings, Settings};
use wsify::wire::event::EventKinds;

use crate::rig::settings;
use crate::seeds::Dice;

/// Contents of up to this size, in bytes, are large enough to congest a channel.
pub const LARGE: usize = 400_000;

/// The settings. Shares are in percent, of clients, steps or events.
#[derive(Debug)]
pub struct Knobs {
    // The server.
    pub authorizer: bool,
    pub max_channels: usize,
    pub max_queue: usize,
    pub max_message: usize,
    pub ping_interval: u64,
    /// The limit on WebSockets, beyond those that are open from the beginning.
    pub guests: usize,
    /// Turns in which connections wait to be accepted without a free descriptor.
    pub knocking: usize,
    pub read_buffer: usize,
    /// The smallest content that is compressed; `None` means no compression.
    pub compression: Option<usize>,

    // Sizes.
    pub channels: usize,
    /// Further channels, which are only joined and left.
    pub fringe: usize,
    /// The largest content, in bytes.
    pub large: usize,
    /// Members that only listen.
    pub crowd: usize,
    pub steps: usize,

    // The kernel.
    /// One call in this many is interrupted; 0 is never.
    pub interrupted: usize,
    /// One write in this many takes nothing though there is room; 0 is never.
    pub refused: usize,
    /// Turns in which some edges are delayed.
    pub lazy: usize,
    /// Spurious edges.
    pub nudged: usize,

    // Clients.
    /// Sends that bring a part, or nothing yet.
    pub chunked: usize,
    /// Messages in fragments.
    pub torn: usize,
    /// Clients that read when they like.
    pub slow: usize,
    /// Clients that answer no pings.
    pub silent: usize,
    /// Messages that the protocol does not know.
    pub bad: usize,
    /// Messages that end the connection.
    pub violating: usize,
    /// Steps in which a client leaves, even with a question open.
    pub leaving: usize,

    // Verdicts.
    /// Open questions that are answered in one step.
    pub prompt: usize,
    pub denied: usize,
    pub unavailable: usize,
    /// Questions that time out.
    pub lost: usize,
    /// Steps in which the authorizer begins to hang: it answers nothing for a while.
    pub hanging: usize,
    /// Withdrawn questions that have not been put to the authorizer yet.
    pub unput: usize,
    /// Upgrades whose answer has a state.
    pub states: usize,
    /// Steps with a verdict for no connection.
    pub strange: usize,

    // The receiver of events.
    /// Events that may wait; 0: there is no receiver.
    pub events_queue: usize,
    /// Turns in which a call to it is answered.
    pub answering: usize,
    /// Calls that fail; with half of them the events were read all the same.
    pub failing: usize,
    /// Events that it takes in one call.
    pub bite: usize,

    // Time.
    /// Steps in which time passes.
    pub sleeping: usize,
    /// The longest time that passes in one step, in milliseconds.
    pub longest_sleep: usize,
    /// Whether it ends with a graceful stop.
    pub stops: bool,
}

/// A seed that fails shows its settings.
impl Drop for Knobs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self:?}");
        }
    }
}

/// Draws a share in percent around its `usual` value.
fn share(dice: &mut Dice, usual: usize) -> usize {
    dice.of(&[0, usual, usual, (usual * 3).min(80)])
}

impl Knobs {
    pub fn draw(dice: &mut Dice) -> Knobs {
        let large = if dice.chance(2) {
            LARGE
        } else {
            dice.of(&[1, 60, 60, 2_000])
        };
        let crowd = if large < 100 && dice.chance(8) {
            150
        } else {
            0
        };
        let ping_interval = dice.of(&[0, 5_000, 25_000]);
        let max_queue = match large {
            LARGE => 64 << 20,
            large => dice.of(&[large * 3 + 300, large * 10 + 1000, 1 << 20]),
        };
        let events_queue = dice.of(&[0, 0, 5, 1_000_000]);
        Knobs {
            authorizer: dice.chance(60),
            max_channels: dice.of(&[1, 2, 1000]),
            max_queue,
            max_message: match large {
                LARGE => 1 << 20,
                large => dice.of(&[large + 200, 1 << 20]),
            },
            ping_interval,
            guests: dice.of(&[2, 6, 1000, 1000]),
            knocking: dice.of(&[0, 0, 0, 3, 20]),
            read_buffer: match large {
                0..100 => dice.of(&[7, 200, 65_536]),
                100..10_000 => dice.of(&[1_000, 65_536]),
                _ => 4 << 20,
            },
            channels: dice.of(&[1, 2, 4]),
            fringe: match events_queue {
                0 => 0,
                _ => dice.of(&[1, 3]),
            },
            large,
            crowd,
            steps: match crowd + large {
                0..100 => dice.of(&[30, 100, 150]),
                _ => dice.of(&[20, 40]),
            },
            interrupted: dice.of(&[0, 0, 2, 7]),
            // With a short queue a reader would be too slow at once.
            refused: match max_queue >> 20 {
                0 => 0,
                _ => dice.of(&[0, 3, 10]),
            },
            lazy: share(dice, 20),
            nudged: share(dice, 5),
            chunked: share(dice, 30),
            torn: share(dice, 15),
            slow: share(dice, 20),
            silent: share(dice, 20),
            bad: share(dice, 5),
            violating: share(dice, 1),
            leaving: share(dice, 25),
            prompt: dice.of(&[20, 60, 60, 95]),
            denied: share(dice, 12),
            unavailable: share(dice, 3),
            lost: share(dice, 3),
            hanging: dice.of(&[0, 0, 2, 10]),
            unput: dice.of(&[0, 50, 100]),
            states: share(dice, 50),
            strange: share(dice, 10),
            events_queue,
            answering: dice.of(&[5, 50, 100]),
            failing: dice.of(&[0, 20, 80]),
            bite: dice.of(&[1, 3, 1_000]),
            sleeping: share(dice, 20),
            longest_sleep: match ping_interval {
                0 => dice.of(&[15_000, 15_000, 200_000]),
                interval => interval as usize * 8 / 10,
            },
            stops: dice.chance(50),
            compression: match large {
                // So large content takes its time here.
                LARGE => None,
                _ => dice.of(&[None, Some(1), Some(60), Some(512)]),
            },
        }
    }

    /// `regulars`: clients that are there from the beginning.
    pub fn settings(&self, regulars: usize) -> Settings {
        Settings {
            limits: Limits {
                ping_interval: self.ping_interval,
                max_queue: self.max_queue,
                max_message: self.max_message,
                ..settings().limits
            },
            authorizer: self.authorizer,
            max_channels: self.max_channels,
            max_connections: regulars + self.guests,
            events: (self.events_queue > 0).then(|| EventSettings {
                kinds: EventKinds::all(),
                queue: self.events_queue,
            }),
            compression: self.compression,
            ..settings()
        }
    }
}
