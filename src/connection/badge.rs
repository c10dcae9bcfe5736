//! What a connection shows whenever the authorizer is asked about it: the query of its upgrade request, and the state
//! that the authorizer gave it (CONTRACT §6).

/// One allocation for both, and none without an authorizer.
#[derive(Debug, Default)]
pub struct Badge {
    text: Option<Box<str>>,
    /// Where the query ends and the state begins.
    state: u32,
}

impl Badge {
    /// `query` as it was sent, `state` as JSON text.
    pub fn new(query: &str, state: Option<&str>) -> Badge {
        let state = state.unwrap_or_default();
        if query.is_empty() && state.is_empty() {
            return Badge::default();
        }
        Badge {
            text: Some([query, state].concat().into()),
            state: query.len() as u32,
        }
    }

    pub fn query(&self) -> &str {
        self.parts().0
    }

    pub fn state(&self) -> Option<&str> {
        Some(self.parts().1).filter(|state| !state.is_empty())
    }

    fn parts(&self) -> (&str, &str) {
        let text = self.text.as_deref().unwrap_or_default();
        text.split_at_checked(self.state as usize)
            .unwrap_or_default()
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
            let badge = Badge::new(query, state);
            assert_eq!((badge.query(), badge.state()), (query, state));
        }
    }
}
