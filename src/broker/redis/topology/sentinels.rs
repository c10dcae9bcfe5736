//! What sentinels have said of the master, and which one follows from that.
//!
//! Owns: their answers, and which addresses were tried. Knows: time as an argument. Never knows: links, or how sentinels
//! are asked.
//!
//! Decisions
//! - **What most sentinels name is the master** rather than what the first one names. A sentinel that was cut off goes
//!   on naming the former master, which may be up and report that it is one. If only one sentinel answers, its answer
//!   counts.
//! - **An announcement counts at once** rather than a vote: it is made when a new master was promoted, and never of an
//!   old one.
//! - **While the links to a master are up it stays the master** unless more sentinels name another one. When they are not,
//!   addresses that have not been tried come first.

mod saved;

pub use self::saved::SavedSentinels;
use crate::clock::Millis;
use crate::config::RedisAddress;

/// How long the other sentinels may take once one has answered, in milliseconds.
const GRACE: Millis = 300;
/// The pause between two questions: while there is no master, and otherwise.
const SHORT_PAUSE: Millis = 500;
const USUAL_PAUSE: Millis = 10_000;

#[derive(Debug)]
struct Witness {
    address: RedisAddress,
    /// Its link is away.
    away: bool,
    /// What it has answered to the last question.
    named: Option<RedisAddress>,
    /// It has been asked, and has not answered.
    asked: bool,
}

#[derive(Debug)]
pub struct Sentinels {
    witnesses: Vec<Witness>,
    master: Option<RedisAddress>,
    /// A link to the master is away.
    doubtful: bool,
    /// Addresses that were tried without success since there was a master.
    failed: Vec<RedisAddress>,
    ask_at: Millis,
    /// When the first answer to the last question came, if nothing has followed from it yet.
    answered: Option<Millis>,
    /// All have been asked, and nothing has followed from that yet.
    voting: bool,
}

impl Sentinels {
    pub fn new(addresses: Vec<RedisAddress>, now: Millis) -> Sentinels {
        let witness = |address| Witness {
            address,
            away: false,
            named: None,
            // All are asked as soon as they can be.
            asked: true,
        };
        Sentinels {
            witnesses: addresses.into_iter().map(witness).collect(),
            master: None,
            doubtful: true,
            failed: Vec::new(),
            ask_at: now.saturating_add(SHORT_PAUSE),
            answered: None,
            voting: true,
        }
    }

    /// Whether all are to be asked now. Those that can be are to be given to [`Sentinels::asked`].
    pub fn is_to_ask(&mut self, now: Millis) -> bool {
        let due = now >= self.ask_at;
        if due {
            self.ask_at = now.saturating_add(if self.doubtful {
                SHORT_PAUSE
            } else {
                USUAL_PAUSE
            });
            self.forget_answers();
            self.voting = true;
        }
        due
    }

    fn forget_answers(&mut self) {
        (self.answered, self.voting) = (None, false);
        for witness in &mut self.witnesses {
            (witness.named, witness.asked) = (None, false);
        }
    }

    /// A sentinel has been asked.
    pub fn asked(&mut self, nth: usize) {
        if let Some(witness) = self.witnesses.get_mut(nth) {
            (witness.away, witness.asked) = (false, true);
        }
    }

    /// A sentinel has answered; `None`: it knows no master.
    pub fn answer(&mut self, nth: usize, named: Option<RedisAddress>, now: Millis) {
        if let Some(witness) = self.witnesses.get_mut(nth) {
            (witness.named, witness.asked) = (named, false);
            // While there is a master one answer alone, to a question from before or of a link that has come back, is
            // not a vote.
            if self.doubtful || self.voting {
                self.answered.get_or_insert(now);
            }
        }
    }

    /// A sentinel is away.
    pub fn lost(&mut self, nth: usize) {
        if let Some(witness) = self.witnesses.get_mut(nth) {
            (witness.away, witness.named, witness.asked) = (true, None, false);
        }
    }

    /// The address of a sentinel.
    pub fn address(&self, nth: usize) -> Option<&RedisAddress> {
        self.witnesses.get(nth).map(|witness| &witness.address)
    }

    /// Whether all are away.
    pub fn are_lost(&self) -> bool {
        self.witnesses.iter().all(|witness| witness.away)
    }

    /// A sentinel announces a new master. Returns it if it is another one.
    pub fn announced(&mut self, named: RedisAddress) -> Option<RedisAddress> {
        self.failed.clear();
        self.choose(named)
    }

    /// A link to the master is broken, or the server is not a master.
    pub fn doubt(&mut self, now: Millis) {
        if !std::mem::replace(&mut self.doubtful, true) {
            self.ask_at = now;
        }
        if let Some(master) = &self.master
            && !self.failed.contains(master)
        {
            self.failed.push(master.clone());
            self.ask_at = self.ask_at.min(now);
        }
    }

    /// Notes that both links to the master are up.
    pub fn confirm(&mut self, now: Millis) {
        if std::mem::replace(&mut self.doubtful, false) {
            self.ask_at = now.saturating_add(USUAL_PAUSE);
            self.forget_answers();
        }
        self.failed.clear();
    }

    /// The master that follows from what was answered, if it is another one.
    pub fn decide(&mut self, now: Millis) -> Option<RedisAddress> {
        let first = self.answered?;
        let waits = self.witnesses.iter().any(|witness| witness.asked);
        if waits && now < first.saturating_add(GRACE) {
            return None;
        }
        (self.answered, self.voting) = (None, false);
        let named: Vec<&RedisAddress> = self.witnesses.iter().flat_map(|it| &it.named).collect();
        let votes = |address: &RedisAddress| named.iter().filter(|it| **it == address).count();
        let best = |all: &[&RedisAddress]| {
            // Of several the first.
            let best = all.iter().rev().max_by_key(|it| votes(it));
            best.copied().cloned()
        };
        let mut untried = named.clone();
        untried.retain(|it| !self.failed.contains(it));
        let best = if self.doubtful {
            best(&untried).or_else(|| best(&named))?
        } else {
            let master = self.master.as_ref().map_or(0, votes);
            best(&named).filter(|it| votes(it) > master)?
        };
        if self.failed.contains(&best) {
            self.failed.clear();
        }
        self.choose(best)
    }

    fn choose(&mut self, address: RedisAddress) -> Option<RedisAddress> {
        if self.master.as_ref() == Some(&address) {
            return None;
        }
        self.doubtful = true;
        self.master = Some(address.clone());
        Some(address)
    }

    /// When something is to be done, if nothing happens before.
    pub fn next_deadline(&self) -> Millis {
        let decide = self.answered.map(|at| at.saturating_add(GRACE));
        decide.map_or(self.ask_at, |at| at.min(self.ask_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> RedisAddress {
        let host = "h".to_owned();
        RedisAddress::Tcp { host, port }
    }

    fn sentinels(count: usize) -> Sentinels {
        Sentinels::new((0..count as u16).map(at).collect(), 0)
    }

    /// All are asked, and these answer. Returns what follows, once it does.
    fn asked(sentinels: &mut Sentinels, answers: &[Option<u16>], now: Millis) -> Option<u16> {
        assert!(sentinels.is_to_ask(now), "{sentinels:?}");
        for nth in 0..answers.len() {
            sentinels.asked(nth);
        }
        for (nth, port) in answers.iter().enumerate() {
            assert_eq!(sentinels.decide(now), None, "it waits for the others");
            sentinels.answer(nth, port.map(at), now);
        }
        match sentinels.decide(now) {
            Some(RedisAddress::Tcp { port, .. }) => Some(port),
            _ => None,
        }
    }

    #[test]
    fn the_master_is_what_most_sentinels_name() {
        for (answers, expected) in [
            (vec![Some(1)], Some(1)),
            (vec![Some(1), Some(2), Some(2)], Some(2)),
            (vec![None, Some(2), None], Some(2)),
            (vec![None, None], None),
        ] {
            let mut sentinels = sentinels(answers.len());
            assert_eq!(
                asked(&mut sentinels, &answers, 500),
                expected,
                "{answers:?}"
            );
        }
    }

    #[test]
    fn one_that_answers_is_enough() {
        let mut sentinels = sentinels(3);
        sentinels.lost(1);
        sentinels.answer(2, Some(at(1)), 50);
        assert_eq!(sentinels.decide(50), None);
        assert_eq!(sentinels.next_deadline(), 350);
        assert_eq!(sentinels.decide(349), None);
        assert_eq!(sentinels.decide(350), Some(at(1)));
        assert_eq!(sentinels.decide(351), None);
        // One that hangs up is not waited for.
        assert!(sentinels.is_to_ask(500));
        sentinels.asked(0);
        sentinels.asked(1);
        sentinels.answer(1, Some(at(2)), 510);
        assert_eq!(sentinels.decide(510), None);
        sentinels.lost(0);
        assert_eq!(sentinels.decide(510), Some(at(2)));
    }

    #[test]
    fn a_master_that_is_up_stays_unless_more_of_them_name_another() {
        let mut sentinels = sentinels(3);
        assert_eq!(asked(&mut sentinels, &[Some(1); 3], 500), Some(1));
        sentinels.confirm(500);
        assert!(!sentinels.is_to_ask(10_499));
        let some = [Some(2), Some(1), None];
        assert_eq!(asked(&mut sentinels, &some, 10_500), None);
        assert_eq!(
            asked(&mut sentinels, &[Some(1), Some(2), Some(2)], 20_500),
            Some(2)
        );
    }

    #[test]
    fn while_there_is_a_master_one_answer_alone_is_no_vote() {
        let mut sentinels = sentinels(3);
        assert_eq!(asked(&mut sentinels, &[Some(1); 3], 500), Some(1));
        sentinels.confirm(500);
        // A sentinel has come back, and is asked at once.
        sentinels.lost(2);
        sentinels.asked(2);
        sentinels.answer(2, Some(at(2)), 600);
        assert_eq!(sentinels.decide(60_000), None);
        // A promoted one is found before most know of it: what they answer to the question before is late.
        sentinels.doubt(1_000);
        assert!(sentinels.is_to_ask(1_000));
        for nth in 0..3 {
            sentinels.asked(nth);
        }
        sentinels.answer(2, Some(at(2)), 1_010);
        assert_eq!(sentinels.decide(1_310), Some(at(2)));
        sentinels.confirm(1_320);
        sentinels.answer(0, Some(at(1)), 1_330);
        sentinels.answer(1, Some(at(1)), 1_330);
        assert_eq!(sentinels.decide(60_000), None);
    }

    #[test]
    fn an_announcement_counts_at_once() {
        let mut sentinels = sentinels(3);
        assert_eq!(asked(&mut sentinels, &[Some(1); 3], 500), Some(1));
        sentinels.confirm(500);
        assert_eq!(sentinels.announced(at(2)), Some(at(2)));
        assert_eq!(
            sentinels.announced(at(2)),
            None,
            "the second and the third say the same"
        );
    }

    #[test]
    fn addresses_are_tried_in_turn() {
        let mut sentinels = sentinels(3);
        let answers = [Some(1), Some(1), Some(2)];
        assert_eq!(asked(&mut sentinels, &answers, 500), Some(1));
        sentinels.confirm(500);
        sentinels.doubt(600);
        assert_eq!(asked(&mut sentinels, &answers, 600), Some(2));
        sentinels.doubt(700);
        assert_eq!(asked(&mut sentinels, &answers, 700), Some(1));
        sentinels.confirm(800);
        // As long as there is no other one, it is tried again, and they are asked again.
        sentinels.doubt(900);
        for now in [900, 1_400, 1_900] {
            sentinels.doubt(now);
            assert_eq!(asked(&mut sentinels, &[Some(1); 3], now), None);
        }
    }
}
