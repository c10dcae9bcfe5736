//! One call: a question, or a batch of them, goes out as a `POST`, and as much of its answer is read as can matter.
//!
//! Owns: a worker's caller ([`crate::webhook`]). Never knows: other workers, the queue, what an answer means.
//!
//! Decisions
//! - **A question that may have been read is never asked twice**: a call is made once, whatever it leads to.
//! - **The head decides**, unless its type says that the body has something to add. Such a body is waited for as a
//!   whole: without its state a client would have another identity until it disconnects. Any other body is read
//!   afterwards, a little and briefly, only so that the connection can be used again.

use std::io;
use std::sync::Arc;

use ureq::http::{HeaderValue, Response, header};

use super::outcome::{Outcome, Says, for_all, outcomes};
use super::settings::AuthorizerSettings;
use crate::effect::Question;
use crate::webhook::{Caller, ReadBody, Webhook, WebhookSettings};
use crate::wire::answer_fields::{AnswerLimits, Asked};

/// What a worker keeps of the memory for a batch: the usual one fits.
const LARGEST_KEPT: usize = 64 * 1024;

/// What all workers' clients have in common.
#[derive(Debug)]
pub(super) struct ClientFactory {
    webhook: Arc<Webhook>,
    limits: AnswerLimits,
    /// Every call posts an array.
    batched: bool,
    probes: bool,
}

impl ClientFactory {
    /// `probes`: its questions are marked as made up.
    ///
    /// # Errors
    /// For an `https` URL: no root certificate can be read.
    pub(super) fn new(settings: &AuthorizerSettings, probes: bool) -> io::Result<ClientFactory> {
        let webhook = Webhook::new(WebhookSettings {
            url: settings.url.clone(),
            timeout: settings.timeout,
            cert_file: settings.cert_file.clone(),
            keys: settings.keys.clone(),
            probes,
            called_for: "an https authorizer",
        })?;
        Ok(ClientFactory {
            webhook: Arc::new(webhook),
            limits: settings.limits,
            batched: settings.batch > 1,
            probes,
        })
    }

    pub(super) fn client(self: &Arc<Self>) -> Client {
        Client {
            caller: self.webhook.caller(),
            shared: Arc::clone(self),
            array: Vec::new(),
            last: None,
        }
    }
}

/// What a worker asks with.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) caller: Caller,
    shared: Arc<ClientFactory>,
    /// Where batches are put together.
    array: Vec<u8>,
    /// Of a probe's answer: what its body may say, and the body.
    pub(super) last: Option<(Says, ReadBody)>,
}

impl Client {
    /// One call for all these questions, and what its answer means for each.
    pub(super) fn ask(&mut self, questions: &[&Question]) -> Vec<Outcome> {
        let asked: Vec<Asked> = questions.iter().map(|question| question.asked).collect();
        let mut array = std::mem::take(&mut self.array);
        let answer = match questions {
            [question] if !self.shared.batched => self.caller.post(&question.body),
            _ => {
                put_together(&mut array, questions);
                self.caller.post(&array)
            }
        };
        array.clear();
        array.shrink_to(LARGEST_KEPT);
        self.array = array;
        match answer {
            Ok(response) => self.judge(&asked, response),
            Err(trouble) => for_all(&asked, || Outcome::nothing(trouble.as_str())),
        }
    }

    fn judge(&mut self, asked: &[Asked], response: Response<ureq::Body>) -> Vec<Outcome> {
        let status = response.status().as_u16();
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.map(HeaderValue::as_bytes);
        let says = Says::of(asked, self.shared.batched, status, kind);
        let limits = self.shared.limits;
        let body = match says {
            Says::Nothing | Says::AnotherType => {
                self.caller.discard(response.into_body());
                ReadBody::Whole(Vec::new())
            }
            _ => self
                .caller
                .read(response.into_body(), says.most(asked.len(), &limits)),
        };
        if self.shared.probes {
            self.last = Some((says, body.clone()));
        }
        outcomes(asked, status, says, body, &limits)
    }
}

/// Writes the array of a batch.
fn put_together(array: &mut Vec<u8>, questions: &[&Question]) {
    for (nth, question) in questions.iter().enumerate() {
        array.push(if nth == 0 { b'[' } else { b',' });
        array.extend_from_slice(&question.body);
    }
    array.push(b']');
}

#[cfg(test)]
mod tests;
