//! `GET /channels` and `GET /connections`: pages of what is there (`docs/api.md#lists`).
//!
//! Owns: where a page begins, and how much of it is made in a turn. Knows: the order of names and of slots. Never knows: the
//! JSON of a page.
//!
//! Decision: no index of members in order. The members of a small channel are sorted; for a large channel all open
//! connections are checked in their order. An index would slow each join down, and take 12 bytes per membership. The
//! price: a page of a large channel may walk over all connections, [`SLOTS`] of them in a step.

use super::jobs::{Job, JobKind, List, Scope};
use super::{JobProgress, reach};
use crate::connection::Stream;
use crate::effect::ConnId;
use crate::hub::report;
use crate::hub::roster::PublicId;
use crate::hub::state::Hub;
use crate::wire::backend::answer::{
    BackendAnswer, CommandResult, EntryValue, Listed, Page, PageEntry, ShownConnection,
};
use crate::wire::backend::{ConnectionFilter, Recipient};

/// Channels in one step. Each takes up to eight microseconds, if nothing of it is in a cache.
const CHANNELS: usize = 2;
/// Slots that are looked at in one step.
const SLOTS: u32 = 64;
/// Members of a small channel.
const FEW: usize = 16 * 1024;
/// Channels of a connection that are shown.
const SHOWN: usize = 100;
/// A connection counts for one more step for this many channels that it is in.
const STEP_CHANNELS: usize = 32;

pub fn of_channels<S: Stream>(
    hub: &Hub<S>,
    prefix: Box<str>,
    after: Box<str>,
    limit: usize,
) -> List {
    List {
        page: Page::new(Listed::Channels, limit),
        scope: Scope::Channels { prefix, after },
        seq: report::last_seq(hub),
    }
}

pub fn of_connections<S: Stream>(
    hub: &Hub<S>,
    filter: ConnectionFilter,
    after: Box<str>,
    limit: usize,
) -> List {
    let next = first_slot(hub.settings.instance, &after);
    let few = match &filter {
        ConnectionFilter::Channel(name) if hub.channels.members(name.as_str()) <= FEW => {
            let mut slots = hub.channels.member_slots(name.as_str());
            slots.sort_unstable();
            Some(slots.into())
        }
        _ => None,
    };
    List {
        page: Page::new(Listed::Connections, limit),
        scope: Scope::Connections {
            filter,
            after,
            next: next.unwrap_or(u32::MAX),
            few,
        },
        seq: report::last_seq(hub),
    }
}

/// The first slot whose connections may have an id behind `after`.
fn first_slot(node: u64, after: &str) -> Option<u32> {
    let last_of = |slot| {
        let serial = u64::MAX;
        PublicId { node, slot, serial }.to_string()
    };
    let (mut low, mut high) = (0, u64::from(u32::MAX).saturating_add(1));
    while low < high {
        let middle = low.midpoint(high);
        if last_of(middle as u32).as_str() <= after {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    u32::try_from(low).ok()
}

/// The next entries.
pub fn advance<S: Stream>(hub: &mut Hub<S>, job: &mut Job, left: &mut usize) -> JobProgress {
    let JobKind::List(List { page, scope, seq }) = &mut job.kind else {
        return JobProgress::Waits;
    };
    let is_over = loop {
        if *left == 0 {
            break false;
        }
        let more = match scope {
            Scope::Channels { prefix, after } => {
                *left = left.saturating_sub(1);
                channels(hub, page, prefix, after)
            }
            Scope::Connections { .. } => connections(hub, page, scope, left),
        };
        if !more {
            break true;
        }
    };
    if is_over {
        let empty = Page::new(Listed::Channels, 0);
        let page = std::mem::replace(page, empty);
        let node = || format!("{:016x}", hub.settings.instance).into();
        JobProgress::Done(BackendAnswer {
            seq: seq.map(|seq| (node(), seq)).into_iter().collect(),
            ..BackendAnswer::of(CommandResult::Page(page))
        })
    } else {
        JobProgress::MoreToDo
    }
}

/// Returns whether the page goes on.
fn channels<S: Stream>(hub: &Hub<S>, page: &mut Page, prefix: &str, after: &mut Box<str>) -> bool {
    let found: Vec<_> = hub.channels.behind(prefix, after).take(CHANNELS).collect();
    for (name, members) in &found {
        let entry = PageEntry {
            key: name.as_str().into(),
            value: EntryValue::Members(*members as u64),
        };
        if !page.add(entry) {
            return false;
        }
    }
    if let Some((name, _)) = found.last() {
        *after = name.as_str().into();
    }
    found.len() == CHANNELS
}

/// Returns whether the page goes on.
fn connections<S: Stream>(
    hub: &mut Hub<S>,
    page: &mut Page,
    scope: &mut Scope,
    left: &mut usize,
) -> bool {
    let Some(slot) = next_slot(hub, scope) else {
        return false;
    };
    let Scope::Connections {
        filter,
        after,
        next,
        few,
    } = scope
    else {
        return false;
    };
    *left = left.saturating_sub(1);
    let Ok(slot) = slot else {
        return true;
    };
    let Some(end) = slot.checked_add(1) else {
        return false;
    };
    if few.is_none() {
        *next = end;
    }
    let Some(id) = fitting(hub, slot, filter) else {
        return true;
    };
    let key = hub.roster.subject(id).id.to_string();
    if *key <= **after {
        return true;
    }
    if page.is_full() {
        page.end();
        return false;
    }
    let joined = hub.channels.joined(slot).checked_div(STEP_CHANNELS);
    *left = left.saturating_sub(joined.unwrap_or_default());
    page.add(PageEntry {
        value: EntryValue::Json(show(hub, id).into()),
        key: key.into(),
    })
}

/// The next slot that may have a fitting connection; an error, if there was none in this step. `None`: there is no more.
fn next_slot<S: Stream>(hub: &mut Hub<S>, scope: &mut Scope) -> Option<Result<u32, ()>> {
    let Scope::Connections {
        filter, next, few, ..
    } = scope
    else {
        return None;
    };
    if let Some(few) = few {
        let from = *next;
        while few.front().is_some_and(|slot| *slot < from) {
            few.pop_front();
        }
        return few.pop_front().map(Ok);
    }
    match filter {
        ConnectionFilter::Recipient(Recipient::Connection(text)) => {
            let id = reach::by_public_id(hub, text)?;
            (id.slot >= *next).then_some(Ok(id.slot))
        }
        ConnectionFilter::Recipient(Recipient::User(user)) => {
            let key = hub.users.key(user);
            hub.users.slots(key, *next).next().map(Ok)
        }
        ConnectionFilter::All | ConnectionFilter::Channel(_) => {
            let end = next.saturating_add(SLOTS).min(hub.roster.slots());
            let found = (*next..end).find(|slot| hub.roster.opened_at(*slot).is_some());
            match found {
                Some(slot) => Some(Ok(slot)),
                None if end >= hub.roster.slots() => None,
                None => {
                    *next = end;
                    Some(Err(()))
                }
            }
        }
    }
}

/// The open connection in a slot, if it fits the filter.
fn fitting<S: Stream>(hub: &mut Hub<S>, slot: u32, filter: &ConnectionFilter) -> Option<ConnId> {
    if let ConnectionFilter::Recipient(Recipient::User(user)) = filter {
        return reach::open_of_user(hub, slot, user);
    }
    let (id, connection) = hub.roster.in_slot(slot).filter(|(_, c)| c.is_open())?;
    let encoding = connection.encoding();
    let fits = match filter {
        ConnectionFilter::Channel(name) => hub.channels.is_member(slot, name.as_str(), encoding),
        _ => true,
    };
    fits.then_some(id)
}

/// The JSON that shows a connection.
fn show<S: Stream>(hub: &mut Hub<S>, id: ConnId) -> Vec<u8> {
    let subject = hub.roster.subject(id);
    let identity = hub.roster.get(id).map(|c| c.identity()).unwrap_or_default();
    let since = hub.roster.opened_at(id.slot).unwrap_or(hub.clock.now);
    let mut out = Vec::new();
    ShownConnection {
        id: subject.id.to_string(),
        user: subject.user,
        remote_addr: subject.peer.to_string(),
        state: hub.roster.identities.state(identity).map(Into::into),
        connected_ms: hub.clock.now.saturating_sub(since),
        channels: hub.channels.first_names(id.slot, SHOWN),
        channels_total: hub.channels.joined(id.slot),
    }
    .push(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_behind_any_text() {
        let node = 0xa265_abcd_a451_4c6f;
        let table = [
            ("", Some(0)),
            ("0", Some(0)),
            ("a265abcda4514c6f", Some(0)),
            ("a265abcda4514c6f-", Some(0)),
            ("a265abcda4514c6f-00000007", Some(7)),
            ("a265abcda4514c6f-00000007000000000abc", Some(7)),
            ("a265abcda4514c6f-00000007ffffffffffff", Some(8)),
            ("a265abcda4514c6f-00000007g", Some(8)),
            ("a265abcda4514c6f-00000007A", Some(7)),
            ("a265abcda4514c6f-ffffffffffffffffffff", None),
            ("a265abcda4514c70-", None),
            ("z", None),
        ];
        for (after, expected) in table {
            assert_eq!(first_slot(node, after), expected, "{after}");
        }
    }
}
