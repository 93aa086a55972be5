//! A request that waits for answers of homes, and what it does with each.
//!
//! It keeps what outlives the head: the form of the answer and what was asked. An answer may end
//! the request, be one of several, or lead to the next question; each kind of request knows which.
//! How long to wait is the connection code's business.
//!
//! Invariant: a request waits while a home owes it an answer, and only then.

use crate::app::Rate;
use crate::pusher::rest::Info;
use crate::shard::message::{ReplyTo, ShardId};
use crate::shard::question::{Answer, Found};

use super::counts::PublishCounts;
use super::listing::Listing;
use super::request::{Accepted, Context, Settings};
use super::{Framing, KeptFraming, Response, channels};

/// `Retry-After` of a question that was not answered in time, and of a refused publish.
pub(super) const RETRY_SECS: u32 = 1;

/// A request that waits for answers.
#[derive(Debug)]
pub struct Waiting {
    app: u32,
    framing: KeptFraming,
    /// The budget after this request.
    pub(super) rate: Option<Rate>,
    asked: Asked,
}

/// What a request has asked.
#[derive(Debug)]
pub(super) enum Asked {
    /// The counts that a publish wants to know.
    Counts(PublishCounts),
    Listing(Listing),
    /// About one channel.
    Channel(Info),
    Users,
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
    pub(super) fn new(accepted: &Accepted, asked: Asked) -> Self {
        Self {
            app: accepted.app.index,
            framing: accepted.framing,
            rate: None,
            asked,
        }
    }

    /// A home has answered a part of what was asked. May ask on, for the same `reply_to`, and may
    /// publish: to be called between `Shard::begin_serving` and `end_serving`.
    pub fn on_answer(
        &mut self,
        context: &mut Context<'_>,
        reply_to: ReplyTo,
        answer: Answer,
    ) -> OnAnswer {
        match self.take_answer(context, reply_to, answer) {
            OnAnswer::Respond(mut response) => {
                response.rate = self.rate;
                let counters = context.shard.counters.app(self.app);
                counters.http_sent_bytes += response.body.bytes() as u64;
                OnAnswer::Respond(response)
            }
            other => other,
        }
    }

    fn take_answer(
        &mut self,
        context: &mut Context<'_>,
        reply_to: ReplyTo,
        answer: Answer,
    ) -> OnAnswer {
        let Answer { index, found } = answer;
        let bytes_max = context.settings.query_response_bytes_max;
        let response = match (&mut self.asked, found) {
            (Asked::Counts(asked), Found::Counts(counts)) => asked.on_answer(index, counts),
            (Asked::Listing(listing), Found::Page(page)) => {
                return listing.on_page(context, reply_to, index as ShardId, &page);
            }
            (Asked::Channel(info), Found::Channel { counts, cached }) => {
                Some(channels::channel_found(*info, counts, cached.as_ref()))
            }
            (Asked::Users, Found::Users(users)) => Some(channels::users_found(&users, bytes_max)),
            // Nobody has asked for this.
            _ => None,
        };
        response.map_or(OnAnswer::Wait, OnAnswer::Respond)
    }

    /// Not all homes have answered in time. Ends the connection: an answer that comes yet must not
    /// meet its next question.
    pub fn expired(&self) -> Response {
        self.unavailable(match self.asked {
            Asked::Counts(_) => "Published, but the channels did not answer in time.",
            _ => "The channels did not answer in time.",
        })
    }

    /// The shard has no room for what this request collects. Ends the connection likewise.
    pub fn out_of_room(&self) -> Response {
        self.unavailable("Too many requests are being answered, try again.")
    }

    fn unavailable(&self, text: &'static str) -> Response {
        let mut response = Response::unavailable(text, RETRY_SECS).closing();
        response.rate = self.rate;
        response
    }

    /// The memory that answers take until the last has come, for the bound of the shard.
    pub fn buffered_bytes(&self) -> usize {
        match &self.asked {
            Asked::Listing(listing) => listing.bytes(),
            _ => 0,
        }
    }

    /// The form of the answer, now that the head is gone.
    pub fn framing<'c>(&self, settings: &'c Settings) -> Framing<'c> {
        self.framing.framing(&settings.cors_origins)
    }
}

#[cfg(test)]
mod tests {
    use crate::api::request::OnBody;
    use crate::api::testing::{Server, signed};
    use crate::http::Status;

    #[test]
    fn a_question_that_expires_ends_the_connection() {
        let mut server = Server::new();
        let body = r#"{"name":"e","channel":"c","data":"","info":"subscription_count"}"#;
        for (method, path, body) in [("POST", "events", body), ("GET", "channels", "")] {
            let wire = signed(method, &format!("/apps/3/{path}"), "", "", body);
            let OnBody::Wait(waiting) = server.begin(&wire) else {
                panic!("{path} waits for nobody")
            };
            let response = waiting.expired();
            assert_eq!(
                (response.status, response.retry_after_secs),
                (Status::Unavailable, Some(1))
            );
            assert!(response.close && response.rate.is_some());
        }
    }
}
