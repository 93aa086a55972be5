//! What must be true: the sums over the visitors' own lists, against what the server says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::APP;
use crate::support::http::{Http, Request};
use crate::support::metrics::Scrape;
use crate::support::{Event, Receiver, Server, WebSocket};
use crate::visitor::{CHANNELS, Visitor};

/// Asks the server, and knows what the answers must be.
pub(crate) struct Model<'s> {
    server: &'s Server,
    http: Http,
    receiver: &'s Receiver,
    /// Requests of the receiver that have been looked at.
    looked_at: usize,
    announced: BTreeSet<(String, Option<String>)>,
    places: usize,
}

/// What is compared.
#[derive(Debug, Default, PartialEq)]
struct Truth {
    connections: u64,
    /// By channel, occupied ones only.
    subscriptions: BTreeMap<String, u64>,
    user_counts: BTreeMap<String, u64>,
    members: BTreeMap<String, BTreeSet<String>>,
    /// By name, as the metrics have them.
    gauges: BTreeMap<&'static str, u64>,
    /// Channels and members of channels whose last webhook says that they are there.
    announced: BTreeSet<(String, Option<String>)>,
}

/// Gauges that must be the sums over the visitors.
const CONNECTED: &str = "shardcast_connected";
const SESSIONS: &str = "shardcast_shard_sessions";
const SUBSCRIPTIONS: &str = "shardcast_shard_subscriptions";
const ACTIVE_CHANNELS: &str = "shardcast_active_channels";

impl<'s> Model<'s> {
    pub(crate) fn new(server: &'s Server, receiver: &'s Receiver, places: usize) -> Self {
        Self {
            server,
            http: Http::connect(server),
            receiver,
            looked_at: 0,
            announced: BTreeSet::new(),
            places,
        }
    }

    /// All that the server says equals what the visitors know, within `settle`.
    pub(crate) async fn expect_truth(&mut self, visitors: &mut [Visitor], settle: Duration) {
        let truth = Truth::of(visitors);
        let began = Instant::now();
        loop {
            let said = self.ask();
            let told = visitors.iter_mut().all(|visitor| {
                visitor.catch_up();
                knows(visitor, &truth)
            });
            if said == truth && told {
                break;
            }
            assert!(
                began.elapsed() < settle,
                "the server says {said:?}\nbut true is {truth:?}\nvisitors were told so: {told}"
            );
            sleep(Duration::from_millis(50)).await;
        }
        self.expect_quota(truth.connections as usize);
    }

    /// Nothing is left.
    pub(crate) fn expect_nothing(&mut self) {
        assert_eq!(self.ask(), Truth::of(&[]));
    }

    /// One more is let in exactly if there is a place.
    fn expect_quota(&self, taken: usize) {
        let mut socket = WebSocket::open(self.server, &APP.target());
        let first = Event::parse(socket.text());
        if taken < self.places {
            assert_eq!(first.event, "pusher:connection_established");
        } else {
            assert_eq!(first.data["code"], 4004, "{}", first.raw);
        }
    }

    fn ask(&mut self) -> Truth {
        let path = |end: &str| format!("/apps/{}/{end}", APP.id);
        let listed = self.get(&path("channels"), "info=subscription_count");
        let subscriptions = listed["channels"]
            .as_object()
            .expect("an object")
            .iter()
            .map(|(name, info)| {
                let count = info["subscription_count"].as_u64().expect("a count");
                (name.clone(), count)
            })
            .collect();
        let mut members = BTreeMap::new();
        let presence = CHANNELS.iter().filter(|name| name.starts_with("presence-"));
        for name in presence {
            let users = self.get(&path(&format!("channels/{name}/users")), "");
            let users: BTreeSet<String> = users["users"]
                .as_array()
                .expect("an array")
                .iter()
                .map(|user| user["id"].as_str().expect("a string").to_owned())
                .collect();
            if !users.is_empty() {
                members.insert((*name).to_owned(), users);
            }
        }
        let counted = self.get(
            &path("channels"),
            "filter_by_prefix=presence-&info=user_count",
        );
        let counted = counted["channels"].as_object().expect("an object");
        let user_counts = counted
            .iter()
            .map(|(name, info)| (name.clone(), info["user_count"].as_u64().expect("a count")));
        let connections = self.get(&path("connections"), "");
        let scrape = Scrape::of(self.server);
        let gauges = [CONNECTED, SESSIONS, SUBSCRIPTIONS, ACTIVE_CHANNELS];
        let gauges = gauges.map(|name| (name, scrape.sum(name, &[]) as u64));
        self.take_webhooks();
        Truth {
            connections: connections["connections"].as_u64().expect("a count"),
            subscriptions,
            user_counts: user_counts.collect(),
            members,
            gauges: gauges.into(),
            announced: self.announced.clone(),
        }
    }

    /// What has been posted since: of each channel, and of each member, comings and goings take
    /// turns.
    fn take_webhooks(&mut self) {
        let posted = self.receiver.posted();
        for request in &posted[self.looked_at..] {
            for event in request.events(&APP) {
                let text = |name: &str| event[name].as_str().map(str::to_owned);
                let whom = (text("channel").expect("a channel"), text("user_id"));
                let changed = match event["name"].as_str() {
                    Some("channel_occupied" | "member_added") => self.announced.insert(whom),
                    Some("channel_vacated" | "member_removed") => self.announced.remove(&whom),
                    _ => panic!("not asked for: {event}"),
                };
                assert!(changed, "told twice in a row: {event}");
            }
        }
        self.looked_at = posted.len();
    }

    fn get(&mut self, path: &str, query: &str) -> Value {
        let mut request = Request::new(&APP, "GET", path, "");
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            request = request.with(pair);
        }
        let answer = self.http.ask(request.bytes());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

impl Truth {
    fn of(visitors: &[Visitor]) -> Self {
        let mut truth = Self::default();
        for visitor in visitors.iter().filter(|visitor| visitor.is_connected()) {
            truth.connections += 1;
            for (&channel, user) in &visitor.subscribed {
                *truth.subscriptions.entry(channel.to_owned()).or_default() += 1;
                if let Some(user) = user {
                    let members = truth.members.entry(channel.to_owned()).or_default();
                    members.insert(user.clone());
                }
            }
        }
        for (channel, members) in &truth.members {
            truth
                .user_counts
                .insert(channel.clone(), members.len() as u64);
            let whom = |user: &String| (channel.clone(), Some(user.clone()));
            truth.announced.extend(members.iter().map(whom));
        }
        let channels = truth.subscriptions.keys();
        truth
            .announced
            .extend(channels.map(|name| (name.clone(), None)));
        let subscriptions = truth.subscriptions.values().sum();
        truth.gauges = BTreeMap::from([
            (CONNECTED, truth.connections),
            (SESSIONS, truth.connections),
            (SUBSCRIPTIONS, subscriptions),
            (ACTIVE_CHANNELS, truth.subscriptions.len() as u64),
        ]);
        truth
    }
}

/// Whether a visitor's rosters are the true ones, which it was told bit by bit.
fn knows(visitor: &Visitor, truth: &Truth) -> bool {
    visitor
        .rosters
        .iter()
        .all(|(&channel, roster)| truth.members.get(channel) == Some(roster))
}
