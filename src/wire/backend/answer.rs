//! Answers to a backend's commands: counts and pages, which several nodes give together (`docs/api.md#lists`).
//!
//! Owns: how answers of several nodes become one, where a page ends, and the JSON. Never knows: where the entries come from.
//!
//! A page ends at the first key at which the page of a node with more entries ends. Behind that key the node may have
//! entries that are missing.

mod saved;

use std::cmp::Ordering;
use std::iter::Peekable;
use std::vec::IntoIter;

pub use self::saved::SavedPage;

use super::MAX_LIMIT;
use crate::wire::channel_name::ChannelName;
use crate::wire::{json, server_message};

/// Bytes of a page's JSON, and of them for what stands behind the entries.
const MAX_PAGE: usize = 1024 * 1024;
const BESIDES_ENTRIES: usize = 8 * 1024;

/// The answer of a node, or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendAnswer {
    pub result: CommandResult,
    /// The number of the last event of each node before the answer was made, by the node's name.
    pub seq: Vec<(Box<str>, u64)>,
    /// `None`: there are no other nodes that could have been asked.
    pub nodes: Option<AskedNodes>,
}

/// How many nodes were asked, and how many of them have answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedNodes {
    pub asked: u32,
    pub answered: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandResult {
    /// All is published.
    Published,
    Counts(ConnectionCounts),
    Page(Page),
}

/// What became of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that are now as was wanted.
    pub connections: u64,
    /// Connections that are in as many channels as they may be.
    pub full: u64,
}

/// What a page lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    Channels,
    Connections,
}

/// A part of a list, in the byte order of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    listed: Listed,
    limit: usize,
    entries: Vec<PageEntry>,
    bytes: usize,
    more: bool,
}

/// A channel with its members, or a connection with the JSON that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEntry {
    /// The channel's name, or the connection's id.
    pub key: Box<str>,
    pub value: EntryValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryValue {
    Members(u64),
    Json(Box<[u8]>),
}

impl PageEntry {
    fn push(&self, out: &mut Vec<u8>) {
        match &self.value {
            EntryValue::Members(members) => {
                out.extend_from_slice(br#"{"channel":"#);
                json::push_string(out, &self.key);
                out.extend_from_slice(format!(r#","members":{members}}}"#).as_bytes());
            }
            EntryValue::Json(json) => out.extend_from_slice(json),
        }
    }

    /// Bytes of its JSON, and of the comma.
    fn size(&self) -> usize {
        let size = match &self.value {
            EntryValue::Members(_) => {
                let mut out = Vec::with_capacity(self.key.len().saturating_add(64));
                self.push(&mut out);
                out.len()
            }
            EntryValue::Json(json) => json.len(),
        };
        size.saturating_add(1)
    }
}

/// What a list shows of a connection.
#[derive(Clone, Debug)]
pub struct ShownConnection {
    pub id: String,
    pub user: Option<Box<str>>,
    pub remote_addr: String,
    /// JSON.
    pub state: Option<Box<str>>,
    /// Milliseconds since the `101`.
    pub connected_ms: u64,
    /// The first of them.
    pub channels: Vec<ChannelName>,
    pub channels_total: usize,
}

impl ShownConnection {
    pub fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"id":"#);
        json::push_string(out, &self.id);
        if let Some(user) = &self.user {
            out.extend_from_slice(br#","user":"#);
            json::push_string(out, user);
        }
        out.extend_from_slice(br#","remote_addr":"#);
        json::push_string(out, &self.remote_addr);
        if let Some(state) = &self.state {
            out.extend_from_slice(br#","state":"#);
            out.extend_from_slice(state.as_bytes());
        }
        let connected = format!(r#","connected_ms":{},"channels":["#, self.connected_ms);
        out.extend_from_slice(connected.as_bytes());
        server_message::push_names(out, &self.channels);
        let total = format!(r#"],"channels_total":{}}}"#, self.channels_total);
        out.extend_from_slice(total.as_bytes());
    }
}

impl Page {
    pub fn new(listed: Listed, limit: usize) -> Page {
        Page {
            listed,
            limit: limit.min(MAX_LIMIT),
            entries: Vec::new(),
            bytes: 0,
            more: false,
        }
    }

    /// Appends the next entry. Returns false if the page has ended before it: there is more, then.
    pub fn add(&mut self, entry: PageEntry) -> bool {
        let bytes = self.bytes.saturating_add(entry.size());
        let room = bytes <= MAX_PAGE.saturating_sub(BESIDES_ENTRIES) || self.entries.is_empty();
        self.more = self.more || self.entries.len() >= self.limit || !room;
        if !self.more {
            self.bytes = bytes;
            self.entries.push(entry);
        }
        !self.more
    }

    /// Whether no entry can be added, so that it only matters whether there is one.
    pub fn is_full(&self) -> bool {
        self.more || self.entries.len() >= self.limit
    }

    /// Notes that there is another entry, which is not added.
    pub fn end(&mut self) {
        self.more = true;
    }

    /// The last key of which it is known that no entry before it is missing. `None`: that holds for all.
    fn horizon(&self) -> Option<&str> {
        let last = self.entries.last().map(|entry| &*entry.key);
        self.more.then_some(last.unwrap_or_default())
    }

    pub fn listed(&self) -> Listed {
        self.listed
    }

    pub fn entries(&self) -> &[PageEntry] {
        &self.entries
    }

    /// Whether there are entries behind the last one.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Adds what another node has listed.
    pub fn merge(&mut self, other: Page) {
        let horizon = match (self.horizon(), other.horizon()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let horizon: Option<Box<str>> = horizon.map(Into::into);
        let mut mine = std::mem::take(&mut self.entries).into_iter().peekable();
        let mut others = other.entries.into_iter().peekable();
        *self = Page::new(self.listed, self.limit);
        while let Some(entry) = next_of(&mut mine, &mut others) {
            let is_beyond = horizon.as_ref().is_some_and(|it| entry.key > *it);
            if is_beyond || !self.add(entry) {
                break;
            }
        }
        self.more |= horizon.is_some();
    }

    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.listed {
            Listed::Channels => br#""channels":["#,
            Listed::Connections => br#""connections":["#.as_slice(),
        });
        for (at, entry) in self.entries.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            entry.push(out);
        }
        out.push(b']');
        if let Some(next) = self.horizon() {
            out.extend_from_slice(br#","next":"#);
            json::push_string(out, next);
        }
    }
}

type Entries = Peekable<IntoIter<PageEntry>>;

/// The next entry of two lists. What is in both is one entry, with the members of both.
fn next_of(mine: &mut Entries, others: &mut Entries) -> Option<PageEntry> {
    let order = match (mine.peek(), others.peek()) {
        (Some(one), Some(other)) => one.key.cmp(&other.key),
        (Some(_), None) => Ordering::Less,
        (None, _) => Ordering::Greater,
    };
    match order {
        Ordering::Less => mine.next(),
        Ordering::Greater => others.next(),
        Ordering::Equal => {
            let (mut entry, other) = (mine.next()?, others.next()?);
            if let (EntryValue::Members(sum), EntryValue::Members(members)) =
                (&mut entry.value, other.value)
            {
                *sum = sum.saturating_add(members);
            }
            Some(entry)
        }
    }
}

impl BackendAnswer {
    /// The answer of one node alone.
    pub fn of(result: CommandResult) -> BackendAnswer {
        BackendAnswer {
            result,
            seq: Vec::new(),
            nodes: None,
        }
    }

    /// Adds the answer of another node to the same command.
    pub fn merge(&mut self, other: BackendAnswer) {
        match (&mut self.result, other.result) {
            (CommandResult::Counts(mine), CommandResult::Counts(other)) => {
                mine.connections = mine.connections.saturating_add(other.connections);
                mine.full = mine.full.saturating_add(other.full);
            }
            (CommandResult::Page(mine), CommandResult::Page(other)) => mine.merge(other),
            // Answers to the same command are of one kind.
            _ => {}
        }
        self.seq.extend(other.seq);
    }

    /// The body of the reply; `None`: it has none.
    pub fn json(&self) -> Option<Vec<u8>> {
        let mut out = b"{".to_vec();
        match &self.result {
            CommandResult::Published => return None,
            CommandResult::Counts(ConnectionCounts { connections, full }) => {
                out.extend_from_slice(format!(r#""connections":{connections}"#).as_bytes());
                if *full > 0 {
                    out.extend_from_slice(format!(r#","full":{full}"#).as_bytes());
                }
            }
            CommandResult::Page(page) => page.push(&mut out),
        }
        if !self.seq.is_empty() {
            out.extend_from_slice(br#","seq":{"#);
            for (at, (node, seq)) in self.seq.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json::push_string(&mut out, node);
                out.extend_from_slice(format!(":{seq}").as_bytes());
            }
            out.push(b'}');
        }
        if let Some(AskedNodes { asked, answered }) = self.nodes {
            let nodes = format!(r#","nodes":{{"asked":{asked},"answered":{answered}}}"#);
            out.extend_from_slice(nodes.as_bytes());
        }
        out.push(b'}');
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn page(limit: usize, names: &[(&str, u64)]) -> Page {
        let mut page = Page::new(Listed::Channels, limit);
        for (name, members) in names {
            let (key, value) = ((*name).into(), EntryValue::Members(*members));
            if !page.add(PageEntry { key, value }) {
                break;
            }
        }
        page
    }

    fn json(page: Page) -> String {
        let answer = BackendAnswer::of(CommandResult::Page(page));
        String::from_utf8(answer.json().unwrap()).unwrap()
    }

    #[test]
    fn a_page_ends_at_its_limit_and_says_where_the_next_begins() {
        assert_eq!(json(page(2, &[])), r#"{"channels":[]}"#);
        let two = r#"{"channels":[{"channel":"a","members":1},{"channel":"\"","members":2}]"#;
        let names = [("a", 1), ("\"", 2), ("c", 3)];
        assert_eq!(json(page(2, &names[..2])), format!("{two}}}"));
        let cut = format!(r#"{two},"next":"\""}}"#);
        assert_eq!(json(page(2, &names)), cut);
    }

    #[test]
    fn a_page_ends_at_a_mebibyte_but_has_an_entry() {
        let mut page = Page::new(Listed::Connections, 1_000);
        let entry = |key: &str, size| PageEntry {
            key: key.into(),
            value: EntryValue::Json(vec![b' '; size].into()),
        };
        assert!(page.add(entry("a", 2 * MAX_PAGE)));
        assert!(!page.add(entry("b", 1)));
        let mut page = Page::new(Listed::Connections, 1_000);
        let added = (0..1_000).take_while(|n| page.add(entry(&format!("{n:03}"), 10_000)));
        assert_eq!(added.count(), 104);
        assert!(json(page).len() <= MAX_PAGE);
    }

    #[test]
    fn pages_of_nodes_are_merged_as_if_all_were_on_one() {
        let all = [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)];
        // Each assignment of the channels to the first node, the second, or both, and each limit.
        for assignment in 0..3_u32.pow(5) {
            for limit in 1..=6 {
                let on = |node: u32| -> Vec<(&str, u64)> {
                    let here = |at: usize| (assignment / 3_u32.pow(at as u32)) % 3;
                    let there = all.iter().enumerate();
                    let there = there.filter(|(at, _)| here(*at) == node || here(*at) == 2);
                    there.map(|(_, channel)| *channel).collect()
                };
                let mut merged = page(limit, &on(0));
                merged.merge(page(limit, &on(1)));
                let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
                for (name, members) in on(0).into_iter().chain(on(1)) {
                    *sums.entry(name).or_default() += members;
                }
                let sums: Vec<(&str, u64)> = sums.into_iter().collect();
                assert_eq!(
                    json(merged),
                    json(page(limit, &sums)),
                    "{assignment} {limit}"
                );
            }
        }
    }

    #[test]
    fn counts_are_added_and_show_what_is_full() {
        let counts = |connections, full| {
            let counts = ConnectionCounts { connections, full };
            BackendAnswer::of(CommandResult::Counts(counts))
        };
        let mut answer = counts(2, 0);
        assert_eq!(answer.json().unwrap(), br#"{"connections":2}"#);
        answer.merge(counts(3, 1));
        answer.seq = vec![("ab".into(), 17)];
        answer.nodes = Some(AskedNodes {
            asked: 3,
            answered: 2,
        });
        let json = String::from_utf8(answer.json().unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"connections":5,"full":1,"seq":{"ab":17},"nodes":{"asked":3,"answered":2}}"#
        );
        let published = BackendAnswer::of(CommandResult::Published);
        assert_eq!(published.json(), None);
    }
}
