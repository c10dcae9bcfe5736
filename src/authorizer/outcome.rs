//! What the answer to a call means for each of its questions (docs/authorizer.md#answers).
//!
//! Owns: which status is which verdict, and when a body is looked at. Knows: that a yes counts only as a whole, and that a
//! refusal stands whatever else it says. Never knows: how an answer travels.

use super::task::Task;
use crate::effect::{Answer, Verdict};
use crate::webhook::ReadBody;
use crate::wire::answer_fields::{
    AnswerFields, AnswerLimits, Asked, BatchItem, CONTENT_TYPE, Reading, WrongField, read,
    read_items, read_state,
};
use crate::wire::http;

/// The body of an `application/json` answer to a `connect`: room for what else an authorizer puts beside a `state`.
const MAX_STATE_BODY: usize = 64 * 1024;
/// Each question of a batch adds this much to the limit of the answer's body.
const FOR_EACH: usize = 4 * 1024;
const ANOTHER_TYPE: &str = "the answer to a batch is of another type than application/json and \
                            application/vnd.wsify+json";

/// What came of a question.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    fields: Option<Box<AnswerFields>>,
    unreadable: Option<String>,
    wrong: Vec<WrongField>,
    pub(super) trouble: Option<String>,
    /// All statuses of its call are 5xx, or there was no HTTP answer.
    call_failed: bool,
    /// The call's array cannot be used. One question may be the cause, so each is asked alone if it is asked again.
    pub(super) unusable_array: bool,
}

impl Outcome {
    /// The outcome of a call without an answer, for this reason.
    pub(super) fn nothing(trouble: impl Into<String>) -> Outcome {
        Outcome {
            verdict: Verdict::Unavailable,
            status: None,
            fields: None,
            unreadable: None,
            wrong: Vec::new(),
            trouble: Some(trouble.into()),
            call_failed: true,
            unusable_array: false,
        }
    }

    /// What a status means by itself.
    fn of(status: u16) -> Outcome {
        let verdict = match status {
            200 => Verdict::Allow,
            500..=599 => Verdict::Unavailable,
            _ => Verdict::Deny,
        };
        let down = verdict == Verdict::Unavailable;
        Outcome {
            verdict,
            status: Some(status),
            fields: None,
            unreadable: None,
            wrong: Vec::new(),
            trouble: down.then(|| format!("status {status}")),
            call_failed: down,
            unusable_array: false,
        }
    }

    /// A `200` that does not mean yes.
    fn unusable(trouble: String, wrong: Vec<WrongField>) -> Outcome {
        Outcome {
            verdict: Verdict::Unavailable,
            wrong,
            trouble: Some(trouble),
            ..Outcome::of(200)
        }
    }

    /// A `200` to a batch that answers none of its questions.
    fn unusable_array(trouble: String, wrong: Vec<WrongField>) -> Outcome {
        Outcome {
            unusable_array: true,
            ..Outcome::unusable(trouble, wrong)
        }
    }

    /// What a status and the fields beside it mean.
    fn with_fields(status: u16, reading: Reading) -> Outcome {
        let Reading { fields, wrong } = reading;
        match wrong.first() {
            Some(first) if status == 200 => {
                let field = first.field.as_str();
                Outcome::unusable(
                    format!("the answer's {field} is wrong: {}", first.why),
                    wrong,
                )
            }
            _ => Outcome {
                fields: fields.boxed(),
                wrong,
                ..Outcome::of(status)
            },
        }
    }

    /// A `200` whose body, as `application/json`, may hold a state.
    fn with_state(body: ReadBody) -> Outcome {
        let mut outcome = Outcome::of(200);
        match body {
            ReadBody::Broken { why, .. } => return Outcome::unusable(why, Vec::new()),
            ReadBody::TooLong(_) => {
                outcome.unreadable = Some(format!("it is over {} KiB", MAX_STATE_BODY / 1024));
            }
            ReadBody::Whole(text) => match read_state(&text) {
                Ok(state) => outcome.fields = state.as_deref().map(AnswerFields::with_state),
                Err(why) => outcome.unreadable = Some(why),
            },
        }
        outcome
    }

    /// `questions`: how many there were in the call, for the first of its answers; otherwise 0.
    pub(super) fn answer(self, mut task: Task, call: u64, questions: u32) -> Answer {
        task.question.alone |= self.unusable_array;
        let answer = Answer {
            to: task.question.from,
            verdict: self.verdict,
            status: self.status,
            fields: self.fields,
            unreadable: self.unreadable,
            wrong: self.wrong,
            trouble: self.trouble,
            call: Some(call),
            questions_in_call: questions,
            call_failed: self.call_failed,
            question: None,
            took: task.asked.elapsed(),
        };
        answer.returning(task.question)
    }
}

/// What an answer's body may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Nothing that matters: the status is all.
    Nothing,
    /// A state, in the `application/json` of a `connect`.
    State,
    Fields,
    /// An answer to each question of a batch.
    Items,
    /// Nothing, though it had to.
    AnotherType,
}

impl Says {
    /// `asked`: of the call's questions, which were sent as an array if `batched`. `kind`: the `Content-Type`.
    pub(super) fn of(asked: &[Asked], batched: bool, status: u16, kind: Option<&[u8]>) -> Says {
        let is_json = kind.is_some_and(http::is_json);
        let is_fields = kind.is_some_and(|kind| http::is_type(kind, CONTENT_TYPE));
        match status {
            200 if batched && (is_json || is_fields) => Says::Items,
            200 if batched => Says::AnotherType,
            _ if batched || (500..=599).contains(&status) => Says::Nothing,
            _ if is_fields => Says::Fields,
            200 if is_json && asked == [Asked::Connect] => Says::State,
            _ => Says::Nothing,
        }
    }

    /// Bytes that such a body may have.
    pub(super) fn most(self, questions: usize, limits: &AnswerLimits) -> usize {
        match self {
            Says::Nothing | Says::AnotherType => 0,
            Says::State => MAX_STATE_BODY,
            Says::Fields => limits.body(),
            Says::Items => limits
                .body()
                .saturating_add(questions.saturating_mul(FOR_EACH)),
        }
    }
}

impl ReadBody {
    /// The text of a body that may have `most` bytes.
    fn text(self, most: usize) -> Result<Vec<u8>, WrongField> {
        match self {
            ReadBody::Whole(text) => Ok(text),
            ReadBody::TooLong(len) => Err(WrongField::body(len, format!("{most} bytes at most"))),
            ReadBody::Broken { len, why } => Err(WrongField::body(len, why)),
        }
    }
}

/// The outcome for each question of a call. The body is looked at as `says` tells.
pub(super) fn outcomes(
    asked: &[Asked],
    status: u16,
    says: Says,
    body: ReadBody,
    limits: &AnswerLimits,
) -> Vec<Outcome> {
    let most = says.most(asked.len(), limits);
    match (says, asked) {
        (Says::State, _) => vec![Outcome::with_state(body)],
        (Says::Fields, [asked]) => {
            let reading = match body.text(most) {
                // A refusal that says no more is complete.
                Ok(text) if text.is_empty() && status != 200 => Reading::default(),
                Ok(text) => read(*asked, status, &text, limits),
                Err(wrong) => Reading::nothing(wrong),
            };
            vec![Outcome::with_fields(status, reading)]
        }
        (Says::Items, _) => match body
            .text(most)
            .and_then(|it| read_items(asked, &it, limits))
        {
            Ok(items) => of_items(items),
            Err(wrong) => for_all(asked, || {
                let trouble = format!("the answer to a batch cannot be used: {}", wrong.why);
                Outcome::unusable_array(trouble, vec![wrong.clone()])
            }),
        },
        (Says::AnotherType, _) => for_all(asked, || {
            Outcome::unusable_array(ANOTHER_TYPE.to_owned(), Vec::new())
        }),
        (Says::Nothing | Says::Fields, _) => for_all(asked, || Outcome::of(status)),
    }
}

fn of_items(items: Vec<BatchItem>) -> Vec<Outcome> {
    let call_failed = items.iter().all(|item| item.status / 100 == 5);
    let outcomes = items.into_iter().map(|item| Outcome {
        call_failed,
        ..Outcome::with_fields(item.status, item.reading)
    });
    outcomes.collect()
}

/// The same outcome for each question.
pub(super) fn for_all(asked: &[Asked], outcome: impl Fn() -> Outcome) -> Vec<Outcome> {
    asked.iter().map(|_| outcome()).collect()
}
