//! An authorizer that says whatever it is given, without a socket: for fuzzing only.
//!
//! Owns: the scripted connection, and what holds of any answer. Knows: ureq's transport interface.
//! Never knows: time.

use std::io::Read;
use std::time::Duration;

use serde_json::value::RawValue;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::dial::Later;
use super::{Heard, INPUT, Line, LineMaker, REST, STATE_LIMIT, drain};
use crate::effect::{ConnId, Question, Verdict};

/// What must hold for any answer; the fuzz target and the replayed corpus call it. Panics where it does not.
///
/// The first byte's lowest bit says whether a state is wanted, the second the size of the pieces in which the rest, the
/// answer, arrives.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Some(([wants, piece], answer)) = bytes.split_first_chunk() else {
        return;
    };
    let wants_state = wants & 1 == 1;
    let whole = ask(answer, answer.len(), wants_state);
    let torn = ask(answer, usize::from(*piece), wants_state);
    assert_eq!(
        (whole.verdict, &whole.state, whole.state_too_long),
        (torn.verdict, &torn.state, torn.state_too_long),
        "{:?}, torn {:?}",
        whole.trouble,
        torn.trouble
    );
    assert_eq!(
        whole.verdict == Verdict::Unavailable,
        whole.trouble.is_some()
    );
    if whole.verdict == Verdict::Allow {
        assert_eq!(status(answer), Some(200));
    }
    if let Some(state) = &whole.state {
        assert!(wants_state && whole.verdict == Verdict::Allow && !whole.state_too_long);
        assert!(state.len() as u64 <= STATE_LIMIT);
        serde_json::from_str::<&RawValue>(state).expect("JSON");
    }
    assert!(!whole.state_too_long || wants_state && whole.verdict == Verdict::Allow);
    for rest in [whole.rest, torn.rest].into_iter().flatten() {
        drain(rest);
    }
}

/// A second opinion about an answer's status, informational ones left out.
fn status(mut answer: &[u8]) -> Option<u16> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(used) = response.parse(answer).ok()? else {
            return None;
        };
        match response.code? {
            100..200 => answer = answer.get(used..)?,
            code => return Some(code),
        }
    }
}

fn ask(answer: &[u8], piece: usize, wants_state: bool) -> Heard {
    let timeout = Duration::from_secs(60);
    let url = "http://127.0.0.1/".parse().expect("a URL");
    let maker = LineMaker::new(url, timeout, None).expect("no TLS");
    let scripted = Scripted {
        answer: answer.to_vec(),
        piece: piece.max(1),
    };
    let mut line = Line {
        probes: false,
        agent: ureq::Agent::with_parts(maker.config, scripted, Later),
        url: maker.url,
        timeout,
        rest: REST,
    };
    line.ask(&Question {
        from: ConnId {
            slot: 0,
            generation: 0,
        },
        wants_state,
        body: b"{}".to_vec(),
    })
}

#[derive(Debug)]
struct Scripted {
    answer: Vec<u8>,
    piece: usize,
}

impl Connector for Scripted {
    type Out = Said;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<Said>, ureq::Error> {
        Ok(Some(Said {
            buffers: LazyBuffers::new(INPUT, INPUT),
            left: self.answer.clone().into(),
            piece: self.piece,
        }))
    }
}

#[derive(Debug)]
struct Said {
    buffers: LazyBuffers,
    left: std::collections::VecDeque<u8>,
    piece: usize,
}

impl Transport for Said {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let room = self.buffers.input_append_buf();
        let most = room.len().min(self.piece);
        let amount = self.left.read(room.get_mut(..most).unwrap_or_default())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        false
    }
}
