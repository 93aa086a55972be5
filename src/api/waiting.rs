//! A request that waits for answers of homes, and what it does with each.
//!
//! It keeps what outlives the head: the form of the answer and what was asked. An answer may end
//! the request, be one of several, or lead to the next question; each kind of request knows which.
//! How long to wait is the connection code's business.
//!
//! Invariant: a request waits while a home owes it an answer, and only then.

use crate::shard::message::ReplyTo;
use crate::shard::question::{Answer, Found};

use super::counts::PublishCounts;
use super::request::{Context, Settings};
use super::{Framing, KeptFraming, Response};

/// `Retry-After` of a question that was not answered in time, and of a refused publish.
pub(super) const RETRY_SECS: u32 = 1;

/// A request that waits for answers.
#[derive(Debug)]
pub struct Waiting {
    framing: KeptFraming,
    asked: Asked,
}

/// What a request has asked.
#[derive(Debug)]
pub(super) enum Asked {
    Counts(PublishCounts),
}

/// What becomes of a request when a home has answered.
#[derive(Debug)]
pub enum OnAnswer {
    Respond(Response),
    /// Other homes have not answered yet.
    Wait,
    /// The answer led to another question.
    AskedOn,
}

impl Waiting {
    pub(super) fn new(framing: KeptFraming, asked: Asked) -> Self {
        Self { framing, asked }
    }

    /// A home has answered a part of what was asked. May ask on, for the same `reply_to`, and may
    /// publish: to be called between `Shard::begin_serving` and `end_serving`.
    pub fn on_answer(
        &mut self,
        _context: &mut Context<'_>,
        _reply_to: ReplyTo,
        answer: Answer,
    ) -> OnAnswer {
        let Answer { index, found } = answer;
        match (&mut self.asked, found) {
            (Asked::Counts(asked), Found::Counts(counts)) => asked
                .on_answer(index, counts)
                .map_or(OnAnswer::Wait, OnAnswer::Respond),
            // Nobody has asked for this.
            (Asked::Counts(_), _) => OnAnswer::Wait,
        }
    }

    /// Not all homes have answered in time. Ends the connection: an answer that comes yet must not
    /// meet its next question.
    pub fn expired(&self) -> Response {
        let text = match self.asked {
            Asked::Counts(_) => "Published, but the channels did not answer in time.",
        };
        Response::unavailable(text, RETRY_SECS).closing()
    }

    /// The form of the answer, now that the head is gone.
    pub fn framing<'c>(&self, settings: &'c Settings) -> Framing<'c> {
        self.framing.framing(&settings.cors_origins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::counts::Form;
    use crate::http::Status;

    #[test]
    fn a_question_that_expires_ends_the_connection() {
        let framing = KeptFraming {
            close: false,
            origin: None,
        };
        let asked = Asked::Counts(PublishCounts::new(Form::Batch));
        let response = Waiting::new(framing, asked).expired();
        assert_eq!(
            (response.status, response.retry_after_secs),
            (Status::Unavailable, Some(1))
        );
        assert!(response.close);
    }
}
