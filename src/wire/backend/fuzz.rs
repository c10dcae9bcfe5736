//! Fuzzing: what must hold for any bytes as a backend's body or query. The target in `fuzz/` and the replayed corpus call
//! it.

use super::body::{Broadcast, broadcast, disconnect, membership};
use super::query::{list_channels, list_connections};
use super::{BackendCommand, MAX_LIMIT, MAX_TARGETS, Recipient, Target};
use crate::wire::channel_name::ChannelName;
use crate::wire::json::is_json;
use crate::wire::server_message::Fault;

/// Panics if a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    match broadcast(bytes) {
        Ok(Broadcast::One(_)) => assert!(is_json(bytes)),
        Ok(Broadcast::Many(all)) => {
            assert!(is_json(bytes) && !all.is_empty());
            let targets: Vec<&Target> = all.iter().flat_map(|it| &it.targets).collect();
            assert!((1..=MAX_TARGETS).contains(&targets.len()));
            assert!(
                all.iter()
                    .all(|it| is_json(&it.content) && !it.targets.is_empty())
            );
            for target in targets {
                match target {
                    Target::Channel(name) => check_channel(name),
                    Target::Recipient(recipient) => check_recipient(recipient),
                }
            }
        }
        Err(fault) => check_fault(&fault),
    }
    match disconnect(bytes) {
        Ok(BackendCommand::Disconnect {
            recipient,
            code,
            reason,
        }) => {
            check_recipient(&recipient);
            assert!(code == 1000 || (4000..=4999).contains(&code));
            assert!(reason.len() <= 123);
        }
        Ok(command) => unreachable!("{command:?}"),
        Err(fault) => check_fault(&fault),
    }
    match membership(bytes) {
        Ok((recipient, channel)) => {
            check_recipient(&recipient);
            check_channel(&channel);
        }
        Err(fault) => check_fault(&fault),
    }
    if let Ok(query) = str::from_utf8(bytes) {
        for read in [list_channels, list_connections] {
            match read(query) {
                Ok(
                    BackendCommand::ListChannels { limit, .. }
                    | BackendCommand::ListConnections { limit, .. },
                ) => assert!((1..=MAX_LIMIT).contains(&limit)),
                Ok(command) => unreachable!("{command:?}"),
                Err(why) => assert!(!why.is_empty()),
            }
        }
    }
}

fn check_channel(name: &ChannelName) {
    assert_eq!(ChannelName::check(name.as_str()), Ok(name.as_str()));
}

fn check_recipient(recipient: &Recipient) {
    if let Recipient::User(user) = recipient {
        assert!((1..=255).contains(&user.len()));
    }
}

fn check_fault(fault: &Fault) {
    assert!(!fault.message.is_empty() && fault.message.len() < 1_000);
}
