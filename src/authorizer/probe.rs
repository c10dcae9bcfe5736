//! A call for `--check`: made-up questions, asked here and now, and what was understood of the answer.
//!
//! Owns: nothing. Knows: how a body is used. Never knows: what is reported of it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::call::ClientFactory;
use super::outcome::Says;
use super::settings::AuthorizerSettings;
use super::task::Task;
use crate::effect::{Answer, ConnId, Question};
use crate::webhook::ReadBody;
use crate::wire::answer_fields::{Asked, first_item, names};

/// What came of a [`probe`].
#[derive(Debug)]
pub struct Probed {
    /// One for each question.
    pub answers: Vec<Answer>,
    /// Of a body that may have something to say.
    pub body: Option<ProbedBody>,
}

/// The names in an answer's body; of a batch's, in its first item.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProbedBody {
    /// Those that have an effect.
    pub used: Vec<String>,
    pub ignored: Vec<String>,
    /// All fields are understood, and not only `state`.
    pub has_fields: bool,
}

/// Asks about upgrades that do not exist, marked as a probe: about the first, or about all in a batch if batches are on.
///
/// # Errors
/// The settings cannot be used.
pub fn probe(settings: &AuthorizerSettings, bodies: Vec<Vec<u8>>) -> io::Result<Probed> {
    let clients = Arc::new(ClientFactory::new(settings, true)?);
    let most = if settings.batch > 1 { usize::MAX } else { 1 };
    let task = |(slot, body)| Task {
        question: Question {
            from: ConnId {
                slot,
                generation: 0,
            },
            asked: Asked::Connect,
            body,
            alone: false,
        },
        asked: Instant::now(),
    };
    let tasks: Vec<Task> = (0..).zip(bodies).take(most).map(task).collect();
    let questions: Vec<&Question> = tasks.iter().map(|task| &task.question).collect();
    let mut client = clients.client();
    let outcomes = client.ask(&questions);
    let usable = !outcomes.iter().any(|outcome| outcome.unusable_array);
    let answers: Vec<Answer> = outcomes
        .into_iter()
        .zip(tasks)
        .map(|(outcome, task)| outcome.answer(task, 0, 0))
        .collect();
    let status = answers.first().and_then(|answer| answer.status);
    let last = client.last.take().zip(status).filter(|_| usable);
    Ok(Probed {
        answers,
        body: last.and_then(|((says, body), status)| probed_body(says, &body, status)),
    })
}

fn probed_body(says: Says, body: &ReadBody, status: u16) -> Option<ProbedBody> {
    let ReadBody::Whole(text) = body else {
        return None;
    };
    let text = match says {
        Says::Nothing | Says::AnotherType => return None,
        Says::State | Says::Fields => text,
        Says::Items => first_item(text)?,
    };
    let [mut used, mut ignored] = names(Asked::Connect, status, text);
    if says == Says::State {
        ignored.extend(used.extract_if(.., |name| name != "state"));
    }
    // An item has one. A program that answers batches may say it in single answers, too.
    ignored.retain(|name| name != "status");
    Some(ProbedBody {
        used,
        ignored,
        has_fields: says != Says::State,
    })
}
