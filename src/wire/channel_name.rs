//! Channel names: trimmed, checked, shared.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::snapshot::SnapshotError;

/// How many bytes of UTF-8 a channel's name may have (`docs/protocol.md#channels`). What is longer is not echoed either.
pub const MAX_NAME: usize = 255;

/// No channel's name begins with it, white space aside: on the broker the servers use such names among themselves.
pub const RESERVED: &str = "wsify:";

/// A channel's name: without white space around it, not empty, at most [`MAX_NAME`] bytes. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The part of `name` that names a channel, without an allocation.
    ///
    /// # Errors
    /// Nothing but white space (Unicode's), or more than [`MAX_NAME`] bytes without it, or a [`RESERVED`] name.
    pub fn check(name: &str) -> Result<&str, BadChannel> {
        match name.trim() {
            "" => Err(BadChannel::Blank),
            name if name.len() > MAX_NAME => Err(BadChannel::TooLong(name.len())),
            name if name.starts_with(RESERVED) => Err(BadChannel::Reserved),
            name => Ok(name),
        }
    }

    /// What an error may show of `name`.
    pub fn echo(name: &str) -> Option<&str> {
        match ChannelName::check(name) {
            Err(BadChannel::Reserved) => Some(name.trim()),
            checked => checked.ok(),
        }
    }

    /// A name to keep, of a text that [`ChannelName::check`] has returned.
    pub fn checked(name: &str) -> ChannelName {
        ChannelName(name.into())
    }

    /// A name in a snapshot.
    ///
    /// # Errors
    /// It is not a channel name.
    pub fn restore(name: &str) -> Result<ChannelName, SnapshotError> {
        match ChannelName::check(name) {
            Ok(checked) if checked == name => Ok(ChannelName::checked(name)),
            Ok(_) => Err(SnapshotError::new(
                "a channel's name with white space around it",
            )),
            Err(why) => Err(SnapshotError::new(why.to_string())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text names no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChannel {
    Blank,
    /// The name's bytes, without the white space around them.
    TooLong(usize),
    /// The name begins with [`RESERVED`].
    Reserved,
}

impl fmt::Display for BadChannel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            BadChannel::Blank => f.write_str(
                "the channel's name is blank: give it a character that is no white space",
            ),
            BadChannel::TooLong(len) => write!(
                f,
                "the channel's name has {len} bytes: use at most {MAX_NAME} bytes of UTF-8"
            ),
            BadChannel::Reserved => write!(
                f,
                "channel names that begin with {RESERVED:?} are reserved: use another name"
            ),
        }
    }
}

impl std::error::Error for BadChannel {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_channel_name_is_found_by_its_text() {
        let name = ChannelName::checked(ChannelName::check(" hello ").unwrap());
        let map = HashMap::from([(name.clone(), 1)]);
        assert_eq!(map.get("hello"), Some(&1));
        assert_eq!(map.get(" hello "), None);
        assert_eq!(name.to_string(), "hello");
    }
}
