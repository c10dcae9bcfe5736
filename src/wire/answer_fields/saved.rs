//! The fields of an answer in a snapshot.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::read::check_pattern;
use super::{Allow, AnswerFields, Asked, CloseWith, NewState, is_state, is_user};
use crate::snapshot::{SnapshotError, is_default};
use crate::wire::channel_name::ChannelName;
use crate::wire::json;

/// The fields of one answer.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedFields {
    #[n(0)]
    user: Option<Box<str>>,
    #[n(1)]
    state: Option<Box<str>>,
    /// There is to be no state.
    #[cbor(n(2), default, skip_if = "is_default")]
    stateless: bool,
    #[cbor(n(3), default, skip_if = "is_default")]
    channels: Vec<String>,
    #[n(4)]
    allow: Option<SavedAllow>,
    #[n(5)]
    expires_in: Option<u32>,
    #[n(6)]
    max_age: Option<u32>,
    #[n(7)]
    content: Option<ByteVec>,
    #[n(8)]
    message: Option<Box<str>>,
    /// The code with which the connection is closed.
    #[n(9)]
    close: Option<u16>,
    #[n(10)]
    reason: Option<Box<str>>,
}

/// Commands that need no question.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedAllow {
    #[cbor(n(0), default, skip_if = "is_default")]
    join: Box<[Box<str>]>,
    #[cbor(n(1), default, skip_if = "is_default")]
    leave: Box<[Box<str>]>,
    #[cbor(n(2), default, skip_if = "is_default")]
    broadcast: Box<[Box<str>]>,
}

impl Allow {
    pub fn save(&self) -> SavedAllow {
        SavedAllow {
            join: self.join.clone(),
            leave: self.leave.clone(),
            broadcast: self.broadcast.clone(),
        }
    }

    /// # Errors
    /// One of its patterns is none.
    pub fn restore(saved: SavedAllow) -> Result<Allow, SnapshotError> {
        let SavedAllow {
            join,
            leave,
            broadcast,
        } = saved;
        for pattern in join.iter().chain(&leave).chain(&broadcast) {
            check_pattern(pattern).map_err(SnapshotError::new)?;
        }
        Ok(Allow {
            join,
            leave,
            broadcast,
        })
    }
}

impl AnswerFields {
    pub fn save(&self) -> SavedFields {
        let close = self.close.as_ref();
        SavedFields {
            user: self.user.clone(),
            state: self.state.as_ref().and_then(NewState::json).map(Into::into),
            stateless: self.state == Some(NewState::Removed),
            channels: self.channels.iter().map(ToString::to_string).collect(),
            allow: self.allow.as_ref().map(Allow::save),
            expires_in: self.expires_in,
            max_age: self.max_age,
            content: self.content.as_ref().map(|it| it.to_vec().into()),
            message: self.message.clone(),
            close: close.map(|close| close.code),
            reason: close.and_then(|close| close.reason.clone()),
        }
    }

    /// # Errors
    /// A field holds what none can hold.
    pub fn restore(saved: SavedFields) -> Result<AnswerFields, SnapshotError> {
        let content = saved.content.map(|it| Vec::from(it).into_boxed_slice());
        let legal = saved.user.as_deref().is_none_or(is_user)
            && saved.state.as_deref().is_none_or(is_state)
            && content.as_deref().is_none_or(json::is_value);
        if !legal {
            return Err(SnapshotError::new(
                "invalid user, state or content of an answer",
            ));
        }
        let channels = saved.channels.iter();
        let channels = channels.map(|name| ChannelName::restore(name));
        let reason = saved.reason;
        Ok(AnswerFields {
            user: saved.user,
            state: if saved.stateless {
                Some(NewState::Removed)
            } else {
                saved.state.map(NewState::Json)
            },
            channels: channels.collect::<Result<_, _>>()?,
            allow: saved.allow.map(Allow::restore).transpose()?,
            expires_in: saved.expires_in,
            max_age: saved.max_age,
            content,
            message: saved.message,
            close: saved.close.map(|code| CloseWith { code, reason }),
        })
    }
}

impl Asked {
    /// What [`Asked::as_str`] has returned.
    ///
    /// # Errors
    /// It is nothing that can be asked.
    pub fn restore(text: &str) -> Result<Asked, SnapshotError> {
        let all = [
            Asked::Connect,
            Asked::Join,
            Asked::Leave,
            Asked::Broadcast,
            Asked::Refresh,
        ];
        let mut all = all.into_iter();
        let unknown = || SnapshotError::new(format!("unknown kind of question {text:?}"));
        all.find(|asked| asked.as_str() == text).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> AnswerFields {
        let patterns = |patterns: &[&str]| patterns.iter().map(|it| (*it).into()).collect();
        AnswerFields {
            user: Some("ann".into()),
            state: Some(NewState::Json("[1]".into())),
            channels: vec![ChannelName::checked("a"), ChannelName::checked("b")],
            allow: Some(Allow {
                join: patterns(&["a", "b*"]),
                leave: patterns(&["*"]),
                broadcast: patterns(&["c"]),
            }),
            expires_in: Some(1),
            max_age: Some(2),
            content: Some(b"{}".to_vec().into()),
            message: Some("no".into()),
            close: Some(CloseWith {
                code: 4000,
                reason: Some("why".into()),
            }),
        }
    }

    #[test]
    fn all_fields_come_back_and_so_does_the_absence_of_all() {
        let removed = AnswerFields {
            state: Some(NewState::Removed),
            close: Some(CloseWith {
                code: 4999,
                reason: None,
            }),
            ..AnswerFields::default()
        };
        for fields in [full(), AnswerFields::default(), removed] {
            let saved = minicbor::to_vec(fields.save()).unwrap();
            let saved = minicbor::decode(&saved).unwrap();
            assert_eq!(AnswerFields::restore(saved), Ok(fields));
        }
    }

    #[test]
    fn impossible_answer_fields_in_a_snapshot_are_refused() {
        let alterations: [fn(&mut SavedFields); 8] = [
            |it| it.user = Some("".into()),
            |it| it.state = Some("{".into()),
            |it| it.channels.push(" b".into()),
            |it| it.channels.push("wsify:x".into()),
            |it| it.content = Some(b"\"\xff\"".to_vec().into()),
            |it| it.content = Some(b"1 2".to_vec().into()),
            |it| it.allow.as_mut().unwrap().leave = [" *".into()].into(),
            |it| it.allow.as_mut().unwrap().join = ["x".repeat(300).into()].into(),
        ];
        for (nth, alter) in alterations.into_iter().enumerate() {
            let mut saved = full().save();
            alter(&mut saved);
            assert!(AnswerFields::restore(saved).is_err(), "{nth}");
        }
    }

    #[test]
    fn kinds_of_questions_are_restored() {
        for asked in [
            Asked::Connect,
            Asked::Join,
            Asked::Leave,
            Asked::Broadcast,
            Asked::Refresh,
        ] {
            assert_eq!(Asked::restore(asked.as_str()), Ok(asked));
        }
        assert!(Asked::restore("").is_err());
    }
}
