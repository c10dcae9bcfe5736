//! A command that all nodes were asked for, and their answers so far.
//!
//! Owns: which nodes are asked, which have answered, and what they have answered together. Knows: names of nodes. Never
//! knows: how a node is asked, or the time.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::clock::Millis;
use crate::wire::backend::BackendCommand;
use crate::wire::backend::answer::{
    AskedNodes, BackendAnswer, CommandResult, ConnectionCounts, Listed, Page,
};
use crate::wire::node_message::{NodeAnswer, NodeMessageError};

const NO_ANSWER: &str = "no node has answered: nothing is known to have been done; try again later";

#[derive(Debug)]
pub struct Gathering {
    /// The command, until it is sent.
    pub command: Option<BackendCommand>,
    /// Its number, once it is sent.
    pub number: u32,
    /// When it is answered at the latest.
    pub until: Millis,
    asked: BTreeSet<u64>,
    /// Those that have done it, and those that have not.
    done: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    answer: BackendAnswer,
    /// Why the first of them has not.
    why: Option<Box<str>>,
}

impl Gathering {
    pub fn new(command: BackendCommand) -> Gathering {
        let page = |listed, limit| CommandResult::Page(Page::new(listed, limit));
        let none = match &command {
            BackendCommand::ListChannels { limit, .. } => page(Listed::Channels, *limit),
            BackendCommand::ListConnections { limit, .. } => page(Listed::Connections, *limit),
            _ => CommandResult::Counts(ConnectionCounts::default()),
        };
        Gathering {
            command: Some(command),
            number: 0,
            until: 0,
            asked: BTreeSet::new(),
            done: BTreeSet::new(),
            failed: BTreeSet::new(),
            answer: BackendAnswer::of(none),
            why: None,
        }
    }

    /// Notes the nodes that the command was sent to.
    pub fn begin(&mut self, number: u32, until: Millis, asked: impl Iterator<Item = u64>) {
        (self.number, self.until) = (number, until);
        self.asked.extend(asked);
    }

    /// Adds the answer of a node, which may have come up since.
    ///
    /// # Errors
    /// The node has answered before, or to another command.
    pub fn add(&mut self, node: u64, answer: NodeAnswer) -> Result<(), NodeMessageError> {
        if self.done.contains(&node) || self.failed.contains(&node) {
            return Err(NodeMessageError::Replayed);
        }
        match answer {
            NodeAnswer::Failed(why) => {
                self.why.get_or_insert(why);
                self.failed.insert(node);
            }
            NodeAnswer::Done { result, seq } => {
                if !are_alike(&self.answer.result, &result) {
                    return Err(NodeMessageError::Malformed);
                }
                let seq = seq.map(|seq| (format!("{node:016x}").into(), seq));
                let seq = seq.into_iter().collect();
                self.answer.merge(BackendAnswer {
                    seq,
                    ..BackendAnswer::of(result)
                });
                self.done.insert(node);
            }
        }
        self.asked.insert(node);
        Ok(())
    }

    /// A node has stopped, and will not answer.
    pub fn leaves(&mut self, node: u64) {
        if !self.done.contains(&node) {
            self.asked.remove(&node);
        }
    }

    /// Whether all nodes have answered.
    pub fn is_complete(&self) -> bool {
        let mut asked = self.asked.iter();
        asked.all(|node| self.done.contains(node) || self.failed.contains(node))
    }

    /// What the nodes have answered together.
    ///
    /// # Errors
    /// Why no node has done it.
    pub fn end(&mut self) -> Result<BackendAnswer, Cow<'static, str>> {
        if self.done.is_empty() {
            return Err(match self.why.take() {
                Some(why) => String::from(why).into(),
                None => NO_ANSWER.into(),
            });
        }
        let none = CommandResult::Counts(ConnectionCounts::default());
        let mut answer = std::mem::replace(&mut self.answer, BackendAnswer::of(none));
        answer.nodes = Some(AskedNodes {
            asked: self.asked.len() as u32,
            answered: self.done.len() as u32,
        });
        Ok(answer)
    }
}

/// Whether two nodes have answered to the same command.
fn are_alike(one: &CommandResult, other: &CommandResult) -> bool {
    match (one, other) {
        (CommandResult::Counts(_), CommandResult::Counts(_)) => true,
        (CommandResult::Page(one), CommandResult::Page(other)) => one.listed() == other.listed(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::backend::Recipient;

    fn counts(connections: u64) -> NodeAnswer {
        let full = 0;
        let counts = ConnectionCounts { connections, full };
        NodeAnswer::Done {
            result: CommandResult::Counts(counts),
            seq: None,
        }
    }

    fn disconnect() -> Gathering {
        let mut gathering = Gathering::new(BackendCommand::Disconnect {
            recipient: Recipient::User("42".into()),
            code: 4403,
            reason: "".into(),
        });
        gathering.begin(7, 950, [1, 2, 3].into_iter());
        gathering
    }

    fn json(mut gathering: Gathering) -> String {
        let answer = gathering.end().unwrap();
        String::from_utf8(answer.json().unwrap()).unwrap()
    }

    #[test]
    fn answers_are_added_and_counted() {
        let mut gathering = disconnect();
        for (node, connections) in [(1, 2), (3, 5)] {
            assert!(!gathering.is_complete());
            gathering.add(node, counts(connections)).unwrap();
        }
        assert!(!gathering.is_complete());
        assert_eq!(gathering.add(3, counts(1)), Err(NodeMessageError::Replayed));
        assert_eq!(
            json(gathering),
            r#"{"connections":7,"nodes":{"asked":3,"answered":2}}"#
        );
    }

    #[test]
    fn a_node_that_stops_is_not_waited_for_and_one_that_comes_up_counts() {
        let mut gathering = disconnect();
        gathering.add(1, counts(1)).unwrap();
        gathering.leaves(1);
        gathering.leaves(2);
        gathering.add(9, counts(1)).unwrap();
        assert!(!gathering.is_complete());
        gathering.add(3, counts(1)).unwrap();
        assert!(gathering.is_complete());
        assert_eq!(
            json(gathering),
            r#"{"connections":3,"nodes":{"asked":3,"answered":3}}"#
        );
    }

    #[test]
    fn a_node_that_has_failed_has_not_answered_and_if_all_have_it_is_said_why() {
        let mut gathering = disconnect();
        let failed = |why: &str| NodeAnswer::Failed(why.into());
        gathering.add(1, failed("one")).unwrap();
        gathering.add(2, failed("two")).unwrap();
        gathering.add(3, failed("three")).unwrap();
        assert!(gathering.is_complete());
        assert_eq!(gathering.end(), Err("one".into()));
        let mut gathering = disconnect();
        gathering.add(1, failed("one")).unwrap();
        gathering.add(2, counts(4)).unwrap();
        assert_eq!(
            json(gathering),
            r#"{"connections":4,"nodes":{"asked":3,"answered":1}}"#
        );
        assert_eq!(disconnect().end(), Err(NO_ANSWER.into()));
    }

    #[test]
    fn an_answer_to_another_command_is_malformed() {
        let result = CommandResult::Page(Page::new(Listed::Channels, 1));
        let page = NodeAnswer::Done { result, seq: None };
        assert_eq!(
            disconnect().add(1, page.clone()),
            Err(NodeMessageError::Malformed)
        );
        let mut list = Gathering::new(BackendCommand::ListConnections {
            filter: crate::wire::backend::ConnectionFilter::All,
            after: "".into(),
            limit: 1,
        });
        assert_eq!(list.add(1, page), Err(NodeMessageError::Malformed));
        assert_eq!(list.add(1, counts(1)), Err(NodeMessageError::Malformed));
    }
}
