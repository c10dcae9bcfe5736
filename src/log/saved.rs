//! Lines that stdout has not taken, in a snapshot.
//!
//! Owns: [`SavedLog`]. Never knows: why stdout is slow.

use minicbor::{Decode, Encode};

use super::Log;

/// What is left of the log when nothing more can be written.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SavedLog {
    /// Whole lines.
    #[cbor(n(0), with = "minicbor::bytes", default)]
    waiting: Vec<u8>,
    /// Lines behind them that were dropped and are not reported yet.
    #[cbor(n(1), default)]
    gap: u64,
    /// Lines that were dropped since the start.
    #[cbor(n(2), default)]
    dropped: u64,
    /// A line may have been written in part.
    #[cbor(n(3), default)]
    torn: bool,
}

impl Log {
    /// What waits, taken away. What the writer is at work on is lost with it, and counted.
    ///
    /// If the process goes on after all, [`Log::put_back`] undoes it.
    pub fn save(&self) -> SavedLog {
        let mut queue = self.shared.lock();
        let taken = if queue.writing { queue.taken } else { 0 };
        SavedLog {
            waiting: std::mem::take(&mut queue.waiting),
            gap: std::mem::take(&mut queue.gap).saturating_add(taken),
            dropped: queue.dropped.saturating_add(taken),
            torn: taken > 0,
        }
    }

    /// Writes what another program's log could not.
    pub fn restore(&self, saved: SavedLog) {
        let SavedLog {
            waiting,
            gap,
            dropped,
            torn,
        } = saved;
        let mut queue = self.shared.lock();
        let later = std::mem::take(&mut queue.waiting);
        if torn {
            queue.waiting.push(b'\n');
        }
        queue.waiting.extend(waiting);
        queue.waiting.extend(later);
        queue.gap = queue.gap.saturating_add(gap);
        queue.dropped = queue.dropped.saturating_add(dropped);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Takes back what [`Log::save`] has taken: this program goes on.
    pub fn put_back(&self, saved: SavedLog) {
        let mut queue = self.shared.lock();
        let later = std::mem::replace(&mut queue.waiting, saved.waiting);
        queue.waiting.extend(later);
        // What the writer is at work on was not lost.
        let counted = saved.dropped.saturating_sub(queue.dropped);
        queue.gap = queue.gap.saturating_add(saved.gap.saturating_sub(counted));
        drop(queue);
        self.shared.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Level;

    fn passed_on(log: &Log) -> SavedLog {
        minicbor::decode(&minicbor::to_vec(log.save()).unwrap()).unwrap()
    }

    fn messages(log: &Log) -> Vec<String> {
        let lines = log.take();
        let lines = lines.lines().filter(|line| !line.is_empty());
        let message = |line| -> serde_json::Value { serde_json::from_str(line).unwrap() };
        lines
            .map(|line| message(line)["message"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn lines_that_wait_are_written_by_the_next_program_before_its_own() {
        let (old, new) = (Log::in_memory(Level::Info), Log::in_memory(Level::Info));
        old.info("one", &[]);
        old.info("two", &[]);
        new.info("three", &[]);
        new.restore(passed_on(&old));
        assert_eq!(messages(&new), ["one", "two", "three"]);
        assert_eq!((messages(&old).len(), new.dropped()), (0, 0));
    }

    #[test]
    fn lines_that_the_writer_has_not_written_are_counted_as_dropped() {
        let (old, new) = (Log::in_memory(Level::Info), Log::in_memory(Level::Info));
        {
            let mut queue = old.shared.lock();
            (queue.writing, queue.taken) = (true, 3);
            (queue.dropped, queue.gap) = (5, 2);
        }
        new.restore(passed_on(&old));
        assert_eq!(new.dropped(), 8);
        assert_eq!(new.shared.lock().gap, 5);
        // What was written of them may end in the middle of a line.
        assert_eq!(new.take(), "\n");
    }

    #[test]
    fn a_program_that_goes_on_after_all_writes_them_itself() {
        let log = Log::in_memory(Level::Info);
        log.info("one", &[]);
        {
            let mut queue = log.shared.lock();
            (queue.writing, queue.taken) = (true, 3);
        }
        let saved = log.save();
        log.info("two", &[]);
        log.put_back(saved);
        let queue = log.shared.lock();
        assert_eq!((queue.gap, queue.dropped), (0, 0));
        drop(queue);
        assert_eq!(messages(&log), ["one", "two"]);
    }
}
