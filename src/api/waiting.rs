//! A request that waits for answers of homes, and what it does with each.
//!
//! It keeps what outlives the head: the form of the answer and what was asked. An answer may end
//! the request, be one of several, or lead to the next question; each kind of request knows which.
//! How long to wait is the connection code's business.
//!
//! Invariant: a request waits while a home owes it an answer, and only then. A claim that it holds
//! is settled with its answer, or when it ends without one.

use crate::app::Rate;
use crate::pusher::rest::Info;
use crate::shard::Shard;
use crate::shard::claims::{Claim, Claimed};
use crate::shard::message::{ReplyTo, ShardId};
use crate::shard::question::{Answer, Found};

use super::counts::PublishCounts;
use super::keyed::{self, Claimant, OnClaimed};
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
    Counts {
        counts: PublishCounts,
        /// To be settled with the answer.
        claim: Option<Claim>,
    },
    /// Whether a publish is the first with its idempotency key.
    Claim(Claimant),
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
        let response = match (&mut self.asked, found) {
            (Asked::Counts { counts, claim }, Found::Counts(found)) => {
                let response = counts.on_answer(index, found);
                if let Some(response) = &response
                    && let Some(claim) = claim.take()
                {
                    keyed::settle(context.shard, claim, response);
                }
                response
            }
            (Asked::Claim(claimant), Found::Claim(claimed)) => {
                match claimant.on_claimed(context, reply_to, claimed) {
                    OnClaimed::Respond(response) => Some(response),
                    OnClaimed::Asked(counts, claim) => {
                        let claim = Some(claim);
                        self.asked = Asked::Counts { counts, claim };
                        return OnAnswer::AskedOn;
                    }
                }
            }
            (Asked::Listing(listing), Found::Page(page)) => {
                return listing.on_page(context, reply_to, index as ShardId, &page);
            }
            (Asked::Channel(info), Found::Channel { counts, cached }) => {
                Some(channels::channel_found(*info, counts, cached.as_ref()))
            }
            (Asked::Users, Found::Users(users)) => Some(channels::users_found(context, &users)),
            // Nobody has asked for this.
            (_, found) => {
                on_stray_answer(context.shard, Answer { index, found });
                None
            }
        };
        response.map_or(OnAnswer::Wait, OnAnswer::Respond)
    }

    /// Not all homes have answered in time. Ends the connection: an answer that comes yet must not
    /// meet its next question.
    pub fn expired(&mut self, shard: &mut Shard) -> Response {
        shard.counters.questions_expired += 1;
        self.settle(shard);
        self.unavailable(match self.asked {
            Asked::Counts { .. } => "Published, but the channels did not answer in time.",
            Asked::Claim(_) => {
                "Nothing was published: the first request with this idempotency key has not been \
                 answered in time."
            }
            _ => "The channels did not answer in time.",
        })
    }

    /// The shard has no room for what this request collects. Ends the connection likewise.
    pub fn out_of_room(&mut self, shard: &mut Shard) -> Response {
        shard.counters.requests_out_of_room += 1;
        self.settle(shard);
        self.unavailable("Too many requests are being answered, try again.")
    }

    /// The client has gone, and nobody will take an answer.
    pub fn on_gone(mut self, shard: &mut Shard) {
        self.settle(shard);
    }

    /// Ends a claim that is held: what was published stays so.
    fn settle(&mut self, shard: &mut Shard) {
        if let Asked::Counts { counts, claim } = &mut self.asked
            && let Some(claim) = claim.take()
        {
            keyed::settle(shard, claim, &counts.known());
        }
    }

    fn unavailable(&self, text: &'static str) -> Response {
        let mut response = Response::unavailable(text, RETRY_SECS).closing();
        response.rate = self.rate;
        response
    }

    /// The memory that a body or answers take until the last has come, for the bound of the shard.
    pub fn buffered_bytes(&self) -> usize {
        match &self.asked {
            Asked::Listing(listing) => listing.bytes(),
            Asked::Claim(claimant) => claimant.bytes(),
            _ => 0,
        }
    }

    /// The form of the answer, now that the head is gone.
    pub fn framing<'c>(&self, settings: &'c Settings) -> Framing<'c> {
        self.framing.framing(&settings.cors_origins)
    }
}

/// An answer that nobody waits for: its request has expired, or its client has gone. A claim in it
/// is given back.
pub fn on_stray_answer(shard: &mut Shard, answer: Answer) {
    if let Found::Claim(Claimed::First(claim)) = answer.found {
        shard.settle_claim(claim, None);
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
            let OnBody::Wait(mut waiting) = server.begin(&wire) else {
                panic!("{path} waits for nobody")
            };
            let response = waiting.expired(&mut server.shard);
            assert_eq!(
                (response.status, response.retry_after_secs),
                (Status::Unavailable, Some(1))
            );
            assert!(response.close && response.rate.is_some());
        }
    }
}
