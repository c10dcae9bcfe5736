//! What a connection shows whenever the authorizer is asked about it: the query of its upgrade request, and the state
//! that the authorizer gave it (CONTRACT §6).

/// One allocation for both, and none without an authorizer: four bytes that tell where the state begins, the query, the
/// state.
#[derive(Debug, Default)]
pub struct Badge(Option<Box<[u8]>>);

impl Badge {
    /// Of a connection that connects: the query as it was sent.
    pub fn new(query: &str) -> Badge {
        Badge::of(query, "")
    }

    /// The same with the state that the authorizer gives it, as JSON text.
    pub fn with_state(self, state: &str) -> Badge {
        Badge::of(self.query(), state)
    }

    fn of(query: &str, state: &str) -> Badge {
        if query.is_empty() && state.is_empty() {
            return Badge::default();
        }
        let at = (query.len() as u32).to_ne_bytes();
        Badge(Some(
            [&at, query.as_bytes(), state.as_bytes()].concat().into(),
        ))
    }

    pub fn query(&self) -> &str {
        self.parts().0
    }

    pub fn state(&self) -> Option<&str> {
        Some(self.parts().1).filter(|state| !state.is_empty())
    }

    fn parts(&self) -> (&str, &str) {
        let Some((at, text)) = self.0.as_deref().and_then(|b| b.split_first_chunk()) else {
            return ("", "");
        };
        let (query, state) = text
            .split_at_checked(u32::from_ne_bytes(*at) as usize)
            .unwrap_or_default();
        (
            str::from_utf8(query).unwrap_or_default(),
            str::from_utf8(state).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_come_back() {
        for (query, state) in [
            ("", None),
            ("a=b", None),
            ("", Some("{}")),
            ("a=é", Some(r#"{"user":42}"#)),
        ] {
            let badge = Badge::new(query);
            let badge = state.map_or(Badge::new(query), |state| badge.with_state(state));
            assert_eq!((badge.query(), badge.state()), (query, state));
        }
    }
}
