//! What is published to a channel's members here.

use std::collections::VecDeque;

use super::Channels;
use crate::buffers::Runs;
use crate::hub::compression::Compression;
use crate::hub::memberships::AudienceId;

impl Channels {
    /// Publishes to all members: each audience's frame is encoded once. Audiences that were idle are put in `serve`.
    /// `now` is in microseconds.
    pub fn publish(
        &mut self,
        name: &str,
        content: &[u8],
        now: u64,
        runs: &mut Runs,
        compression: &mut Compression,
        serve: &mut VecDeque<AudienceId>,
    ) {
        if let Some((index, channel)) = self.named_mut(name) {
            let list = |encoding| serve.push_back(AudienceId::new(index, encoding));
            channel.publish(content, now, runs, compression, list);
        }
    }

    /// Tells the members that speak `wsify.v1` that they may have missed messages, behind what was published before.
    pub fn publish_gap(
        &mut self,
        index: usize,
        now: u64,
        runs: &mut Runs,
        serve: &mut VecDeque<AudienceId>,
    ) {
        if let Some(channel) = self.channels.get_mut(index) {
            let list = |encoding| serve.push_back(AudienceId::new(index, encoding));
            channel.publish_gap(now, runs, list);
        }
    }
}
