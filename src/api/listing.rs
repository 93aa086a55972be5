//! A list of channels, put together from the pages of all shards (HTTP spec 6).
//!
//! Every shard is asked for its first page at once, and each answer asks that shard for its next
//! one, so that no shard ever walks more than a page in one go. The list is no snapshot: each page
//! is exact at its own moment, and a channel that is occupied all the while is in it once.
//!
//! Invariant: a list over the bound is not collected further, and is refused once every question
//! has been answered.

use std::sync::Arc;

use crate::pusher::rest::Info;
use crate::shard::message::{Counts, ReplyTo, ShardId};
use crate::shard::question::{About, Page, Place, Question};

use super::Response;
use super::channels::{ok, too_large};
use super::counts::write_counts;
use super::request::Context;
use super::waiting::OnAnswer;

const BEGIN: &[u8] = br#"{"channels":{"#;
const END: &[u8] = b"}}";

/// A list being put together.
#[derive(Debug)]
pub(super) struct Listing {
    app: u32,
    prefix: Arc<str>,
    info: Info,
    /// The object so far; `None` once it was over the bound.
    json: Option<Vec<u8>>,
    /// Questions without an answer, at most one of each shard.
    unanswered: u16,
}

impl Listing {
    /// The list of an app's channels, when `shards` are going to be asked.
    pub(super) fn new(app: u32, prefix: &str, info: Info, shards: u16) -> Self {
        Self {
            app,
            prefix: prefix.into(),
            info,
            json: Some(BEGIN.to_vec()),
            unanswered: shards,
        }
    }

    /// What to ask a shard: its first page, or the one that begins at a place. The answer to part
    /// `n` is that of shard `n`.
    pub(super) fn question(&self, shard: ShardId, from: Option<Place>) -> Question {
        Question {
            index: shard.into(),
            app: self.app,
            about: About::Listing {
                prefix: Arc::clone(&self.prefix),
                from,
            },
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.json.as_ref().map_or(0, Vec::capacity)
    }

    /// A page of a shard has come.
    pub(super) fn on_page(
        &mut self,
        context: &mut Context<'_>,
        reply_to: ReplyTo,
        shard: ShardId,
        page: &Page,
    ) -> OnAnswer {
        let bytes_max = context.settings.query_response_bytes_max;
        for (key, counts) in &page.channels {
            self.write(&key.name, *counts, bytes_max);
        }
        if let Some(place) = page.next.filter(|_| self.json.is_some()) {
            let question = self.question(shard, Some(place));
            context.shard.on_ask(shard, question, reply_to);
            return OnAnswer::AskedOn;
        }
        self.unanswered -= 1;
        match self.unanswered {
            0 => OnAnswer::Respond(self.response(context)),
            _ => OnAnswer::Wait,
        }
    }

    fn response(&mut self, context: &mut Context<'_>) -> Response {
        match self.json.take() {
            None => too_large(context, "; a longer 'filter_by_prefix' asks for less"),
            Some(mut json) => {
                json.extend_from_slice(END);
                ok(json)
            }
        }
    }

    /// Adds a channel. Nothing in its name needs escaping.
    fn write(&mut self, name: &str, counts: Counts, bytes_max: usize) {
        let Some(json) = &mut self.json else { return };
        if json.len() > BEGIN.len() {
            json.push(b',');
        }
        json.push(b'"');
        json.extend_from_slice(name.as_bytes());
        json.extend_from_slice(b"\":{");
        write_counts(
            json,
            self.info.user_count,
            self.info.subscription_count,
            counts,
        );
        json.push(b'}');
        if json.len() + END.len() > bytes_max {
            self.json = None;
        }
    }
}
