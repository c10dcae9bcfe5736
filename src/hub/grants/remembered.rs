//! Answers that are remembered for one connection: `max_age` (`docs/authorizer.md#grants`).
//!
//! Owns: the answers, the oldest first. Knows: commands, channels, and the time as an argument. Never knows: connections,
//! or why an answer is no longer wanted.
//!
//! Decision: a list that is searched from its front rather than a table: it is short, and most connections remember one
//! or two answers. Reconsider when [`MAX_REMEMBERED_ANSWERS`] grows.

pub mod saved;

use crate::clock::Millis;
use crate::wire::command::Verb;

/// Answers of one connection: a client chooses the channels, and the memory is the server's.
const MAX_REMEMBERED_ANSWERS: usize = 64;

/// An answer that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembrance {
    Yes,
    /// With what the client is told, if that was said.
    No(Option<Box<str>>),
}

#[derive(Debug)]
struct Entry {
    verb: Verb,
    channel: Box<str>,
    until: Millis,
    answer: Remembrance,
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub struct Remembered(Vec<Entry>);

impl Remembered {
    pub fn get(&self, verb: Verb, channel: &str, now: Millis) -> Option<&Remembrance> {
        let about = |entry: &&Entry| entry.verb == verb && *entry.channel == *channel;
        let entry = self.0.iter().find(about)?;
        (now < entry.until).then_some(&entry.answer)
    }

    /// Remembers an answer in place of an earlier one about the same, or of the oldest.
    pub fn put(
        &mut self,
        verb: Verb,
        channel: &str,
        answer: Remembrance,
        until: Millis,
        now: Millis,
    ) {
        let same = |entry: &Entry| entry.verb == verb && *entry.channel == *channel;
        self.0.retain(|entry| now < entry.until && !same(entry));
        if self.0.len() >= MAX_REMEMBERED_ANSWERS {
            self.0.remove(0);
        }
        self.0.push(Entry {
            verb,
            channel: channel.into(),
            until,
            answer,
        });
    }

    /// Forgets what was answered about a channel. Returns whether nothing is left.
    pub fn forget(&mut self, channel: &str) -> bool {
        self.0.retain(|entry| *entry.channel != *channel);
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_time_and_its_command() {
        let mut remembered = Remembered::default();
        let no = Remembrance::No(Some("members only".into()));
        remembered.put(Verb::Join, "a", Remembrance::Yes, 100, 0);
        remembered.put(Verb::Broadcast, "a", no.clone(), 200, 0);
        for (verb, channel, now, expected) in [
            (Verb::Join, "a", 0, Some(&Remembrance::Yes)),
            (Verb::Join, "a", 99, Some(&Remembrance::Yes)),
            (Verb::Join, "a", 100, None),
            (Verb::Broadcast, "a", 199, Some(&no)),
            (Verb::Leave, "a", 0, None),
            (Verb::Join, "b", 0, None),
        ] {
            assert_eq!(remembered.get(verb, channel, now), expected);
        }
        remembered.put(Verb::Join, "b", Remembrance::Yes, 200, 150);
        assert_eq!(remembered.0.len(), 2, "what is over makes room");
        assert!(!remembered.forget("a"));
        assert_eq!(remembered.get(Verb::Broadcast, "a", 0), None);
        assert!(remembered.forget("b"));
    }

    #[test]
    fn the_oldest_of_64_remembered_answers_is_dropped_first() {
        let mut remembered = Remembered::default();
        let name = |n: usize| format!("channel {n}");
        for n in 0..MAX_REMEMBERED_ANSWERS {
            remembered.put(Verb::Join, &name(n), Remembrance::Yes, 100, 0);
        }
        // Answered again, so it is the newest.
        remembered.put(Verb::Join, &name(0), Remembrance::No(None), 100, 0);
        for n in MAX_REMEMBERED_ANSWERS..MAX_REMEMBERED_ANSWERS + 2 {
            remembered.put(Verb::Join, &name(n), Remembrance::Yes, 100, 0);
        }
        let known: Vec<usize> = (0..MAX_REMEMBERED_ANSWERS + 2)
            .filter(|n| remembered.get(Verb::Join, &name(*n), 0).is_some())
            .collect();
        let expected: Vec<usize> = [0]
            .into_iter()
            .chain(3..MAX_REMEMBERED_ANSWERS + 2)
            .collect();
        assert_eq!((known.len(), known), (MAX_REMEMBERED_ANSWERS, expected));
    }
}
