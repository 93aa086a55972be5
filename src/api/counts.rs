//! A publish that asked for counts: what the homes of its channels answer, and the object that
//! shows it (HTTP spec 4.3, 5).
//!
//! It knows which counts apply to which channel; what a home is and how long to wait is others'
//! business. Entries stand in the order of the request, one for each distinct channel of an event
//! or one for each event of a batch.
//!
//! Invariant: `unanswered` is the number of entries that ask and have no counts yet.

use std::fmt;
use std::io::Write as _;

use crate::app::{AppSettings, SubscriptionCount};
use crate::http::Status;
use crate::pusher::channel::{ChannelKind, ChannelName};
use crate::pusher::escape;
use crate::pusher::rest::Info;
use crate::shard::message::Counts;

use super::{Body, Response};

/// The object that the entries go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `{"channels":{name:{..},..}}`
    Channels,
    /// `{"batch":[{..},..]}`
    Batch,
}

/// The counts that a publish asked for.
#[derive(Debug)]
pub(super) struct PublishCounts {
    form: Form,
    entries: Vec<Entry>,
    unanswered: usize,
}

#[derive(Debug)]
struct Entry {
    /// Empty in a batch, where the place says it.
    channel: Box<str>,
    user_count: bool,
    subscription_count: bool,
    counts: Option<Counts>,
}

impl PublishCounts {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            entries: Vec::new(),
            unanswered: 0,
        }
    }

    /// Adds the entry of a channel and gives its index if the home must be asked. What does not
    /// apply, is switched off or is unknown is left out (HTTP spec 4.3).
    pub(super) fn add(
        &mut self,
        channel: ChannelName<'_>,
        info: Info,
        settings: &AppSettings,
    ) -> Option<u32> {
        let index = self.entries.len() as u32;
        let entry = Entry {
            channel: match self.form {
                Form::Channels => channel.as_str().into(),
                Form::Batch => Box::default(),
            },
            user_count: info.user_count && channel.is_presence(),
            subscription_count: info.subscription_count
                && settings.subscription_count != SubscriptionCount::Off
                && channel.kind() != ChannelKind::User,
            counts: None,
        };
        let asks = entry.asks();
        self.unanswered += usize::from(asks);
        self.entries.push(entry);
        asks.then_some(index)
    }

    /// The home of the channel of one entry has answered; the response, if it was the last.
    pub(super) fn on_answer(&mut self, index: u32, counts: Counts) -> Option<Response> {
        let entry = self.entries.get_mut(index as usize)?;
        if !entry.asks() || entry.counts.is_some() {
            return None;
        }
        entry.counts = Some(counts);
        self.unanswered -= 1;
        self.response()
    }

    /// The response, if nobody is left to answer.
    pub(super) fn response(&self) -> Option<Response> {
        (self.unanswered == 0).then(|| self.known())
    }

    /// The response with what is known; counts that are missing are left out.
    pub(super) fn known(&self) -> Response {
        let (open, close): (&[u8], &[u8]) = match self.form {
            Form::Channels => (br#"{"channels":{"#, b"}}"),
            Form::Batch => (br#"{"batch":["#, b"]}"),
        };
        let mut json = open.to_vec();
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            if self.form == Form::Channels {
                escape::write_string(&mut json, &entry.channel);
                json.push(b':');
            }
            entry.write(&mut json);
        }
        json.extend_from_slice(close);
        Response::new(Status::Ok, Body::Json(json))
    }
}

impl Entry {
    fn asks(&self) -> bool {
        self.user_count || self.subscription_count
    }

    fn write(&self, json: &mut Vec<u8>) {
        let Some(counts) = self.counts else {
            return json.extend_from_slice(b"{}");
        };
        json.push(b'{');
        write_counts(json, self.user_count, self.subscription_count, counts);
        json.push(b'}');
    }
}

/// Appends the wanted counts of a channel to an object that has been begun. A home that has nobody
/// on a channel knows no roster of it either: 0 users.
pub(super) fn write_counts(
    json: &mut Vec<u8>,
    user_count: bool,
    subscription_count: bool,
    counts: Counts,
) {
    if user_count {
        write_member(json, "user_count", counts.users.unwrap_or(0));
    }
    if subscription_count {
        write_member(json, "subscription_count", counts.subscriptions);
    }
}

/// Appends a member to an object that has been begun. Name and value need no escaping.
pub(super) fn write_member(json: &mut Vec<u8>, name: &str, value: impl fmt::Display) {
    if json.last() != Some(&b'{') {
        json.push(b',');
    }
    // Writing into memory does not fail.
    let _ = write!(json, "\"{name}\":{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::body;

    fn settings(subscription_count: SubscriptionCount) -> AppSettings {
        AppSettings {
            subscription_count,
            ..AppSettings::default()
        }
    }

    /// Which counts of a channel are asked for, with everything in `info`.
    fn asked(channel: &str, info: &str, counts: SubscriptionCount) -> (bool, bool) {
        let channel = ChannelName::parse(channel, 200).expect("a lawful name");
        let mut asked = PublishCounts::new(Form::Batch);
        let index = asked.add(channel, Info::parse(info), &settings(counts));
        let entry = &asked.entries[0];
        assert_eq!(index, entry.asks().then_some(0));
        assert_eq!(asked.response().is_none(), entry.asks());
        (entry.user_count, entry.subscription_count)
    }

    fn counts(subscriptions: u32, users: Option<u32>) -> Counts {
        Counts {
            subscriptions,
            users,
        }
    }

    #[test]
    fn counts_that_do_not_apply_are_not_asked_for() {
        use SubscriptionCount::{Off, On, Query};
        let all = "user_count,subscription_count,cache,nonsense";
        for (channel, info, counts, expected) in [
            ("presence-a", all, Query, (true, true)),
            ("presence-a", all, On, (true, true)),
            ("presence-a", all, Off, (true, false)),
            ("presence-cache-a", "user_count", Query, (true, false)),
            ("presence-a", "subscription_count", Off, (false, false)),
            ("news", all, Query, (false, true)),
            ("news", all, Off, (false, false)),
            ("private-a", "user_count", Query, (false, false)),
            ("private-encrypted-a", all, Query, (false, true)),
            ("cache-a", "cache", Query, (false, false)),
            ("#server-to-user-a", all, Query, (false, false)),
            ("presence-a", "", Query, (false, false)),
        ] {
            assert_eq!(asked(channel, info, counts), expected, "{channel} {info}");
        }
    }

    #[test]
    fn the_last_answer_completes_and_strangers_change_nothing() {
        let mut asked = PublishCounts::new(Form::Channels);
        let info = Info::parse("user_count,subscription_count");
        let settings = settings(SubscriptionCount::Query);
        for (name, index) in [
            ("presence-a", Some(0)),
            ("#server-to-user-u", None),
            ("b", Some(2)),
        ] {
            let name = ChannelName::parse(name, 200).expect("a lawful name");
            assert_eq!(asked.add(name, info, &settings), index);
        }
        for (index, subscriptions) in [(2, 13), (2, 14), (1, 1), (3, 1)] {
            assert_eq!(asked.on_answer(index, counts(subscriptions, None)), None);
        }
        let response = asked.on_answer(0, counts(51, Some(42))).expect("the last");
        let expected = r##"{"channels":{"presence-a":{"user_count":42,"subscription_count":51},"#server-to-user-u":{},"b":{"subscription_count":13}}}"##;
        assert_eq!(body(&response), expected);
    }

    #[test]
    fn a_channel_without_a_roster_has_no_users() {
        let mut asked = PublishCounts::new(Form::Batch);
        let name = ChannelName::parse("presence-a", 200).expect("a lawful name");
        let settings = settings(SubscriptionCount::Query);
        asked.add(name, Info::parse("user_count"), &settings);
        let response = asked.on_answer(0, counts(0, None)).expect("the last");
        assert_eq!(body(&response), r#"{"batch":[{"user_count":0}]}"#);
    }
}
