//! Messages between nodes as JSON.
//!
//! Owns: the names of the members, with [`read`](super::read). Never knows: the envelope.

use super::{NodeAnswer, NodeMessage};
use crate::wire::backend::answer::{CommandResult, ConnectionCounts, EntryValue, Listed, Page};
use crate::wire::backend::{BackendCommand, ConnectionFilter, Recipient};
use crate::wire::json;

impl NodeMessage<'_> {
    pub fn json(&self) -> Vec<u8> {
        let mut out = br#"{"command":"#.to_vec();
        json::push_string(&mut out, self.name());
        match self {
            NodeMessage::Here { new: true } => out.extend_from_slice(br#","new":true"#),
            NodeMessage::Here { new: false } | NodeMessage::Gone => {}
            NodeMessage::Content(recipient, content) => {
                push_recipient(&mut out, recipient);
                out.extend_from_slice(br#","content":"#);
                out.extend_from_slice(content.as_bytes());
            }
            NodeMessage::Request { number, command } => {
                push_number(&mut out, "number", (*number).into());
                push_command(&mut out, command);
            }
            NodeMessage::Answer { number, answer } => {
                push_number(&mut out, "number", (*number).into());
                push_answer(&mut out, answer);
            }
        }
        out.push(b'}');
        out
    }

    /// The message's name.
    fn name(&self) -> &'static str {
        match self {
            NodeMessage::Here { .. } => "here",
            NodeMessage::Gone => "gone",
            NodeMessage::Content(..) => "content",
            NodeMessage::Answer { .. } => "answer",
            NodeMessage::Request { command, .. } => match command {
                BackendCommand::Disconnect { .. } => "disconnect",
                BackendCommand::Join(..) => "join",
                BackendCommand::Leave(..) => "leave",
                BackendCommand::ListChannels { .. } => "channels",
                BackendCommand::ListConnections { .. } => "connections",
                // Content goes out piece by piece.
                BackendCommand::Publish(_) => "publish",
            },
        }
    }
}

fn push_command(out: &mut Vec<u8>, command: &BackendCommand) {
    match command {
        BackendCommand::Publish(_) => {}
        BackendCommand::Disconnect {
            recipient,
            code,
            reason,
        } => {
            push_recipient(out, recipient);
            push_number(out, "code", (*code).into());
            push_text(out, "reason", reason);
        }
        BackendCommand::Join(recipient, channel) | BackendCommand::Leave(recipient, channel) => {
            push_recipient(out, recipient);
            push_text(out, "channel", channel.as_str());
        }
        BackendCommand::ListChannels {
            prefix,
            after,
            limit,
        } => {
            push_text(out, "prefix", prefix);
            push_text(out, "after", after);
            push_number(out, "limit", *limit as u64);
        }
        BackendCommand::ListConnections {
            filter,
            after,
            limit,
        } => {
            match filter {
                ConnectionFilter::All => {}
                ConnectionFilter::Channel(channel) => push_text(out, "channel", channel.as_str()),
                ConnectionFilter::Recipient(recipient) => push_recipient(out, recipient),
            }
            push_text(out, "after", after);
            push_number(out, "limit", *limit as u64);
        }
    }
}

fn push_answer(out: &mut Vec<u8>, answer: &NodeAnswer) {
    let (result, seq) = match answer {
        NodeAnswer::Failed(why) => return push_text(out, "failed", why),
        NodeAnswer::Done { result, seq } => (result, seq),
    };
    match result {
        // Content is answered by the broker.
        CommandResult::Published => {}
        CommandResult::Counts(ConnectionCounts { connections, full }) => {
            push_number(out, "connections", *connections);
            push_number(out, "full", *full);
        }
        CommandResult::Page(page) => push_page(out, page),
    }
    if let Some(seq) = seq {
        push_number(out, "seq", *seq);
    }
}

fn push_page(out: &mut Vec<u8>, page: &Page) {
    push_text(
        out,
        "listed",
        match page.listed() {
            Listed::Channels => "channels",
            Listed::Connections => "connections",
        },
    );
    out.extend_from_slice(br#","entries":["#);
    for (at, entry) in page.entries().iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.push(b'[');
        json::push_string(out, &entry.key);
        out.push(b',');
        match &entry.value {
            EntryValue::Members(members) => out.extend_from_slice(members.to_string().as_bytes()),
            EntryValue::Json(json) => out.extend_from_slice(json),
        }
        out.push(b']');
    }
    out.extend_from_slice(br#"],"more":"#);
    out.extend_from_slice(page.has_more().to_string().as_bytes());
}

fn push_recipient(out: &mut Vec<u8>, recipient: &Recipient) {
    match recipient {
        Recipient::User(user) => push_text(out, "user", user),
        Recipient::Connection(id) => push_text(out, "connection", id),
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    json::push_string(out, name);
    out.push(b':');
}

fn push_text(out: &mut Vec<u8>, name: &str, text: &str) {
    push_name(out, name);
    json::push_string(out, text);
}

fn push_number(out: &mut Vec<u8>, name: &str, number: u64) {
    push_name(out, name);
    out.extend_from_slice(number.to_string().as_bytes());
}
