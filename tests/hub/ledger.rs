//! What is published to channels that a broker shares, and what their members hear of it.
//!
//! Owns: the messages, by number, and the order in which the broker has brought those of each channel. Never knows: how a
//! message is sent, or by what a member hears it. Times are steps of a simulation.

/// A membership, from the answer to the join to the answer to the leave.
#[derive(Debug)]
pub struct Stretch {
    pub join_said: usize,
    pub joined: usize,
    pub leave_said: Option<usize>,
    /// Positions of the messages heard, in the order in which the broker brought them.
    heard: Vec<usize>,
    /// Something was published that does not come, and the member has not been told of a gap.
    pub missed: bool,
}

impl Stretch {
    /// `missed`: it has from the beginning.
    pub fn new(join_said: usize, joined: usize, missed: bool) -> Stretch {
        Stretch {
            join_said,
            joined,
            leave_said: None,
            heard: Vec::new(),
            missed,
        }
    }
}

#[derive(Debug)]
struct Message {
    channel: usize,
    said: usize,
    is_brought: bool,
}

pub struct Ledger {
    messages: Vec<Message>,
    /// The messages brought for each channel, and when.
    brought: Vec<Vec<(usize, usize)>>,
}

impl Ledger {
    pub fn new(channels: usize) -> Ledger {
        Ledger {
            messages: Vec::new(),
            brought: vec![Vec::new(); channels],
        }
    }

    /// Another message to a channel. Returns its number, which is its content.
    pub fn message(&mut self, channel: usize, said: usize) -> usize {
        self.messages.push(Message {
            channel,
            said,
            is_brought: false,
        });
        self.messages.len() - 1
    }

    pub fn channel(&self, n: usize) -> usize {
        self.messages[n].channel
    }

    /// The broker brings a message.
    pub fn brings(&mut self, n: usize, now: usize) {
        let message = &mut self.messages[n];
        let twice = std::mem::replace(&mut message.is_brought, true);
        assert!(!twice, "{n} is brought twice");
        self.brought[message.channel].push((n, now));
    }

    /// A member hears a message, which is the next one of its channel. Returns when the broker brought it.
    pub fn hears(&self, stretch: &mut Stretch, n: usize) -> usize {
        let all = &self.brought[self.channel(n)];
        let place = all.iter().position(|(m, _)| *m == n);
        let place = place.expect("it was brought");
        let (_, brought) = all[place];
        let expected = stretch.heard.last().map_or(place, |last| last + 1);
        assert_eq!(place, expected, "something is missed: {stretch:?}");
        assert!(brought >= stretch.join_said);
        stretch.heard.push(place);
        brought
    }

    /// Asserts that everything brought in the meantime was heard.
    pub fn is_complete(&self, channel: usize, stretch: &Stretch, until: Option<usize>) {
        for (place, (n, brought)) in self.brought[channel].iter().enumerate() {
            if *brought > stretch.joined && until.is_none_or(|until| *brought < until) {
                let heard = stretch.heard.contains(&place);
                assert!(heard, "{n} is missed: {stretch:?}");
            }
        }
    }

    /// Asserts that a message, which is confirmed, was brought if its channel had a member all the while.
    pub fn is_confirmed<'s>(&self, n: usize, mut members: impl Iterator<Item = &'s Stretch>) {
        let message = &self.messages[n];
        let had_member = members.any(|it| it.joined < message.said && it.leave_said.is_none());
        assert!(message.is_brought || !had_member, "{n} is lost");
    }
}
