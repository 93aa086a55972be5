//! A publish with an idempotency key: claimed, then acted upon once or answered as the first was
//! (extensions spec 4).
//!
//! A request whose fields are wrong never gets here, so it leaves no trace. One that has claimed its
//! key waits with its body until the key's home says whether it is the first. Who was first settles
//! the claim with its answer, before that leaves; so whoever has seen the answer finds it again.
//!
//! Where the client goes away, or counts do not come in time, after the events have been published,
//! the claim is settled with the answer as far as it is known: what is missing is left out, and a
//! repeat publishes nothing.

use std::borrow::Cow;
use std::sync::Arc;

use md5::{Digest as _, Md5};

use crate::app::App;
use crate::http::Status;
use crate::pusher::rest::{self, IDEMPOTENCY_KEY_CHARS_MAX};
use crate::shard::Shard;
use crate::shard::claims::{Claim, Claimed, ClaimedKey, Digest};
use crate::shard::message::ReplyTo;

use super::counts::{Form, PublishCounts};
use super::events::{Acted, Fields, Request};
use super::request::Context;
use super::{Body, Response};

/// What a request waits with for its claim.
#[derive(Debug)]
pub(super) struct Claimant {
    app: Arc<App>,
    form: Form,
    fields: Option<Box<Fields>>,
    body: Box<[u8]>,
}

/// What a claim has led to.
pub(super) enum OnClaimed {
    Respond(Response),
    /// Published; counts have been asked for.
    Asked(PublishCounts, Claim),
}

/// The key of a publish: of the header (which wins) or of the one event. The events of a batch have
/// none.
pub(super) fn key_of<'k>(
    header: Option<&'k [u8]>,
    events: &'k [rest::Publish<'_>],
) -> Result<Option<Cow<'k, str>>, Response> {
    let Some(header) = header else {
        let key = events
            .iter()
            .find_map(|event| event.idempotency_key.as_deref());
        return Ok(key.map(Cow::Borrowed));
    };
    let key = str::from_utf8(header).ok();
    let fits = |key: &&str| (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.chars().count());
    match key.filter(fits) {
        Some(key) => Ok(Some(Cow::Borrowed(key))),
        None => {
            let text = format!(
                "Invalid request: 'X-Idempotency-Key' must have 1 to {IDEMPOTENCY_KEY_CHARS_MAX} \
                 characters."
            );
            Err(Response::error(Status::BadRequest, "invalid_input", text))
        }
    }
}

/// Claims a key for a request that can be read; what to wait with for the answer.
pub(super) fn claim(
    context: &mut Context<'_>,
    request: &Request<'_>,
    reply_to: ReplyTo,
    key: &str,
    md5: Digest,
) -> Claimant {
    let app = request.app.index;
    let digest = match request.fields {
        // The fields in the query are what an empty body says.
        Some(fields) if request.body.is_empty() => Md5::digest(format!("{fields:?}")).into(),
        _ => md5,
    };
    let claimed = ClaimedKey {
        hash: context.shard.hash(app, key),
        endpoint: request.form as u8,
        key: key.into(),
        digest,
    };
    context.shard.claim(app, claimed, reply_to);
    Claimant {
        app: Arc::clone(request.app),
        form: request.form,
        fields: request.fields.cloned().map(Box::new),
        body: request.body.into(),
    }
}

/// Ends a claim with an answer that is about to leave: what is no success leaves no trace.
pub(super) fn settle(shard: &mut Shard, claim: Claim, response: &Response) {
    let is_success = response.status == Status::Ok;
    let body = is_success.then(|| response.body.as_bytes().into());
    shard.settle_claim(claim, body);
}

impl Claimant {
    /// The key's home has answered.
    pub(super) fn on_claimed(
        &self,
        context: &mut Context<'_>,
        reply_to: ReplyTo,
        claimed: Claimed,
    ) -> OnClaimed {
        let claim = match claimed {
            Claimed::First(claim) => claim,
            Claimed::Before(body) => {
                let mut response = Response::new(Status::Ok, Body::Json(body.to_vec()));
                response.fields = &[("X-Idempotent-Replay", "true")];
                return OnClaimed::Respond(response);
            }
            Claimed::Conflict => {
                let text = "The idempotency key has been used with another body.";
                let slug = "idempotency_conflict";
                return OnClaimed::Respond(Response::error(Status::Conflict, slug, text));
            }
        };
        let request = Request {
            app: &self.app,
            form: self.form,
            fields: self.fields.as_deref(),
            body: &self.body,
        };
        let acted = request.read(|events| Ok(request.act(context, reply_to, events)));
        match acted {
            Ok(Acted::Asked(counts)) => OnClaimed::Asked(counts, claim),
            Ok(Acted::Done(response)) | Err(response) => {
                settle(context.shard, claim, &response);
                OnClaimed::Respond(response)
            }
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }
}

#[cfg(test)]
mod tests;
