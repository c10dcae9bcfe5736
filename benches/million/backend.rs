//! What a backend asks about that million, and does to 10,000 connections of a user (M16): an operation is a request, a
//! tick the rest of a turn.

use std::io;
use std::time::Duration;

use wsify::connection::Peer;
use wsify::effect::{Answer, ConnId, Effect, Verdict};
use wsify::hub::Hub;
use wsify::wire::answer_fields::AnswerFields;

use super::puppet::{self, Puppet, say};
use super::{ACCEPTS, Crowd, Phase};

/// Pages of each kind.
const PAGES: u32 = 200;
/// Connections of the user.
const DISCONNECTED: u32 = 10_000;

impl Crowd {
    /// Pages that begin all over the crowd, the longest and the usual ones.
    pub fn pages(&mut self) -> io::Result<()> {
        let backend = self.backend()?;
        for page in 0..PAGES {
            let slot = self.ids[page as usize * self.ids.len() / PAGES as usize].slot;
            let after = format!("{:016x}-{slot:08x}", 1);
            for target in [
                format!("/connections?limit=1000&after={after}"),
                format!("/connections?after={after}"),
                format!("/connections?channel=room-0&after={after}"),
                format!("/channels?limit=1000&after=room-{slot}"),
                format!("/channels?prefix=room-{}", slot % 1_000),
            ] {
                self.request(backend, "GET", &target, "")?;
            }
        }
        self.phase.units = u64::from(PAGES) * 5;
        self.hub.fail(backend);
        self.rest();
        puppet::take_called();
        Ok(())
    }

    fn backend(&mut self) -> io::Result<ConnId> {
        let number = u32::MAX;
        self.hub.accept(Puppet::new(number), Peer::UNIX)
    }

    /// A request, and all turns until it is answered.
    fn request(&mut self, from: ConnId, method: &str, target: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        let text = format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let sent = |hub: &mut Hub<Puppet>| hub.stream(from).map_or(0, |stream| stream.sends);
        let before = sent(&mut self.hub);
        self.says(from, text.as_bytes());
        for _ in 0..100_000 {
            self.tick();
            if sent(&mut self.hub) > before {
                return Ok(());
            }
        }
        Err(io::Error::other(format!("{target} is not answered")))
    }

    /// A user with many connections joins a channel, is sent something, leaves and is disconnected.
    pub fn user() -> io::Result<Vec<Phase>> {
        let mut crowd = Crowd::empty(super::hub(true), DISCONNECTED);
        for number in 0..DISCONNECTED {
            let peer = Peer::new(([127, 0, 0, 1], 1).into());
            let id = crowd.hub.accept(Puppet::new(number), peer)?;
            let upgrade = format!("{}\r\n", puppet::UPGRADE);
            say(&mut crowd.hub, &mut crowd.buffer, id, upgrade.as_bytes());
            if let Some(Effect::Ask(question)) = crowd.hub.effect() {
                let mut answer = Answer::unavailable(question.from, String::new(), Duration::ZERO);
                answer.verdict = Verdict::Allow;
                answer.fields = Some(Box::new(AnswerFields {
                    user: Some("42".into()),
                    ..AnswerFields::default()
                }));
                crowd.hub.verdict(answer);
            }
            crowd.ids.push(id);
            if number % ACCEPTS == 0 {
                crowd.tick();
            }
        }
        crowd.rest();
        let backend = crowd.backend()?;
        let mut phases = vec![];
        crowd.next_phase("");
        for (name, path, body) in [
            ("a user joins", "/join", r#"{"user":"42","channel":"a"}"#),
            (
                "a content to a user",
                "/broadcast",
                r#"{"user":"42","content":1}"#,
            ),
            ("a user leaves", "/leave", r#"{"user":"42","channel":"a"}"#),
            ("a user is disconnected", "/disconnect", r#"{"user":"42"}"#),
        ] {
            crowd.phase.name = name;
            crowd.phase.units = u64::from(DISCONNECTED);
            crowd.request(backend, "POST", path, body)?;
            phases.push(crowd.next_phase(""));
        }
        Ok(phases)
    }
}
