//! All of it but the client, with time turned by hand: who gets what, how much at once, what one
//! endpoint costs another, and what becomes of everything in the end.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use hyper::HeaderMap;

use super::client::{Failed, Sealed};
use super::*;
use crate::app::webhook::{EndpointSettings, Webhooks as AppWebhooks};
use crate::app::{AppKey, AppSettings};
use crate::pusher::webhook::{WebhookEvent, WebhookKind};
use crate::shard::channel::ChannelKey;

/// Stands for every receiver: notes what comes and answers as its host's name says.
#[derive(Default)]
struct Receivers {
    /// Host and body.
    seen: RefCell<Vec<(String, String)>>,
    /// How many are being answered now, and how many there were at most.
    busy: Cell<usize>,
    busy_max: Cell<usize>,
    /// Hosts that have recovered.
    healthy: RefCell<HashSet<String>>,
}

impl Receivers {
    /// The bodies that have come to a host.
    fn bodies(&self, host: &str) -> Vec<String> {
        let seen = self.seen.borrow();
        let of_host = seen.iter().filter(|(seen, _)| seen == host);
        of_host.map(|(_, body)| body.clone()).collect()
    }

    /// The channels of the events that have come to a host.
    fn channels(&self, host: &str) -> Vec<String> {
        let bodies = self.bodies(host);
        let events = bodies.iter().flat_map(|body| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            body["events"].as_array().unwrap().clone()
        });
        events
            .map(|event| event["channel"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Post for Rc<Receivers> {
    async fn post(
        &self,
        endpoint: &Endpoint,
        sealed: &Sealed,
        timeout: Duration,
    ) -> Result<(), Failed> {
        let host = endpoint.url.host_str().unwrap().to_owned();
        let body = String::from_utf8(sealed.body.to_vec()).unwrap();
        self.seen.borrow_mut().push((host.clone(), body));
        self.busy.set(self.busy.get() + 1);
        self.busy_max.set(self.busy_max.get().max(self.busy.get()));
        let healthy = self.healthy.borrow().contains(&host);
        let (after, answer) = match host.as_str() {
            "dead" if !healthy => (Duration::MAX, Ok(())),
            "failing" if !healthy => (Duration::ZERO, Err(Failure::Status(500))),
            "slow" => (Duration::from_secs(2), Ok(())),
            _ => (Duration::from_millis(1), Ok(())),
        };
        tokio::time::sleep(after.min(timeout)).await;
        self.busy.set(self.busy.get() - 1);
        let answer = if after < timeout {
            answer
        } else {
            Err(Failure::Timeout)
        };
        answer.map_err(Into::into)
    }
}

fn endpoint(host: &str, settings: &EndpointSettings) -> Endpoint {
    Endpoint {
        url: Url::parse(&format!("http://{host}/")).unwrap(),
        kinds: WebhookKind::ALL.into_iter().collect(),
        channel_prefix: "".into(),
        channel_suffix: "".into(),
        headers: HeaderMap::new(),
        settings: settings.clone(),
    }
}

/// An app without batches, or with them.
fn app(index: u32, batch: bool, endpoints: Vec<Endpoint>) -> Arc<App> {
    let settings = AppSettings {
        webhook_batch: batch,
        ..AppSettings::default()
    };
    let name = format!("app{index}");
    let keys = vec![AppKey::new(&name, "s")];
    let mut app = App::new(index, &name, keys, settings);
    app.webhooks = AppWebhooks::new(endpoints);
    Arc::new(app)
}

fn webhook(app: u32, channel: &str) -> Webhook {
    let channel = ChannelKey {
        hash: 0,
        app,
        name: channel.into(),
    };
    Webhook {
        channel: Arc::new(channel),
        event: WebhookEvent::ChannelOccupied,
    }
}

/// A server's webhooks and who receives them.
struct Bench {
    webhooks: Webhooks<Rc<Receivers>, Box<dyn Fn() -> Rc<Receivers>>>,
    receivers: Rc<Receivers>,
    counters: Arc<WebhookCounters>,
}

impl Bench {
    fn new(apps: Vec<Arc<App>>) -> Self {
        let receivers = Rc::<Receivers>::default();
        let counters = Arc::<WebhookCounters>::default();
        let given = Rc::clone(&receivers);
        let post: Box<dyn Fn() -> Rc<Receivers>> = Box::new(move || Rc::clone(&given));
        let mut webhooks = Webhooks::new(Arc::clone(&counters), post);
        webhooks.reload(&AppTable::new(apps).unwrap());
        Self {
            webhooks,
            receivers,
            counters,
        }
    }

    fn send(&self, app: u32, channels: impl IntoIterator<Item = usize>) {
        for channel in channels {
            self.webhooks.dispatch(&webhook(app, &channel.to_string()));
        }
    }

    fn dropped(&self, reason: Dropped) -> u64 {
        self.counters.dropped(reason).get()
    }

    fn count(&self, reason: Dropped) -> (u64, u64, u64) {
        let sent = self.counters.sent.get();
        (sent, self.dropped(reason), self.counters.pending())
    }
}

/// Runs a test on a thread as the side thread is, with its time turned by hand.
fn on_side_thread(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test));
}

async fn pass(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_dead_endpoint_costs_others_nothing() {
    on_side_thread(async {
        let settings = EndpointSettings::default();
        let first = vec![endpoint("dead", &settings), endpoint("good", &settings)];
        let second = vec![endpoint("other", &settings)];
        let bench = Bench::new(vec![app(0, true, first), app(1, true, second)]);
        for n in 0..50 {
            bench.send(0, [n]);
            bench.send(1, [n]);
            pass(1).await;
            // Each has come within its second, in order.
            assert_eq!(bench.receivers.channels("good"), names(0..n + 1));
            assert_eq!(bench.receivers.channels("other"), names(0..n + 1));
        }
        assert_eq!(bench.counters.sent.get(), 100);
        assert_eq!(bench.counters.pending(), 50);
        assert!(bench.counters.failed(Failure::Timeout).get() > 0);
    });
}

#[test]
fn what_a_dead_endpoint_is_owed_has_a_bound_and_an_end() {
    on_side_thread(async {
        let settings = EndpointSettings {
            queue_max: 100,
            parallel_max: 3,
            ..EndpointSettings::default()
        };
        let bench = Bench::new(vec![app(0, false, vec![endpoint("dead", &settings)])]);
        for n in 0..500 {
            bench.send(0, [n]);
            tokio::task::yield_now().await;
        }
        pass(1).await;
        // Three are being sent, the youngest hundred wait.
        assert_eq!(bench.counters.pending(), 103);
        assert_eq!(bench.dropped(Dropped::Queue), 397);
        pass(200).await;
        assert_eq!(bench.counters.pending(), 103);
        pass(100).await;
        assert_eq!(bench.count(Dropped::Expired), (0, 103, 0));
        assert!(bench.receivers.busy_max.get() <= 3);
    });
}

#[test]
fn one_at_a_time_is_in_strict_order_also_through_failures() {
    on_side_thread(async {
        let settings = EndpointSettings {
            parallel_max: 1,
            ..EndpointSettings::default()
        };
        let bench = Bench::new(vec![app(0, false, vec![endpoint("failing", &settings)])]);
        bench.send(0, 0..20);
        pass(30).await;
        // The first blocks the others.
        assert!(bench.receivers.channels("failing").iter().all(|c| c == "0"));
        bench
            .receivers
            .healthy
            .borrow_mut()
            .insert("failing".into());
        pass(40).await;
        let mut seen = bench.receivers.channels("failing");
        seen.dedup();
        assert_eq!(seen, names(0..20));
        let bodies = bench.receivers.bodies("failing");
        let first = bodies.iter().filter(|b| b.contains("\"0\""));
        assert!(first.clone().count() >= 5);
        assert!(first.clone().all(|body| *body == bodies[0]), "{bodies:?}");
        assert_eq!(bench.count(Dropped::Expired), (20, 0, 0));
    });
}

#[test]
fn no_more_are_sent_at_once_than_allowed() {
    on_side_thread(async {
        let settings = EndpointSettings {
            parallel_max: 7,
            ..EndpointSettings::default()
        };
        let bench = Bench::new(vec![app(0, false, vec![endpoint("slow", &settings)])]);
        bench.send(0, 0..70);
        pass(21).await;
        assert_eq!(bench.receivers.busy_max.get(), 7);
        assert_eq!(bench.count(Dropped::Queue), (70, 0, 0));
    });
}

#[test]
fn quick_events_go_in_one_request_in_their_order() {
    on_side_thread(async {
        let settings = EndpointSettings::default();
        let bench = Bench::new(vec![app(0, true, vec![endpoint("good", &settings)])]);
        bench.send(0, 0..30);
        pass(1).await;
        bench.send(0, 30..250);
        pass(1).await;
        assert_eq!(bench.receivers.bodies("good").len(), 4);
        assert_eq!(bench.receivers.channels("good"), names(0..250));
        assert_eq!(bench.counters.requests_sent.get(), 4);
    });
}

#[test]
fn an_endpoint_that_leaves_drops_what_waits_for_it_and_one_that_stays_keeps_it() {
    on_side_thread(async {
        let settings = EndpointSettings::default();
        let both = vec![endpoint("dead", &settings), endpoint("failing", &settings)];
        let mut bench = Bench::new(vec![app(0, true, both)]);
        bench.send(0, 0..150);
        pass(10).await;
        assert_eq!(bench.counters.pending(), 300);
        // What stays may have other settings, here a shorter pause from the next failure on.
        let quick = EndpointSettings {
            retry_first: Duration::from_millis(10),
            retry_max: Duration::from_millis(10),
            ..settings
        };
        let one = vec![endpoint("failing", &quick)];
        let table = AppTable::new(vec![app(0, true, one)]).unwrap();
        bench.webhooks.reload(&table);
        pass(10).await;
        assert_eq!(bench.count(Dropped::Gone), (0, 150, 150));
        bench
            .receivers
            .healthy
            .borrow_mut()
            .insert("failing".into());
        pass(1).await;
        assert_eq!(bench.count(Dropped::Gone), (150, 150, 0));
        // An app without endpoints is not told anything, and that is counted.
        bench
            .webhooks
            .reload(&AppTable::new(vec![app(0, true, vec![])]).unwrap());
        bench.send(0, [0]);
        assert_eq!(bench.count(Dropped::Gone), (150, 151, 0));
    });
}

#[test]
fn two_endpoints_with_one_url_are_two() {
    on_side_thread(async {
        let settings = EndpointSettings::default();
        let mut filtered = endpoint("good", &settings);
        filtered.channel_prefix = "1".into();
        let both = || vec![endpoint("good", &settings), filtered.clone()];
        let mut bench = Bench::new(vec![app(0, true, both())]);
        bench.send(0, 0..3);
        bench
            .webhooks
            .reload(&AppTable::new(vec![app(0, true, both())]).unwrap());
        pass(1).await;
        let mut bodies = bench.receivers.bodies("good");
        bodies.sort_by_key(String::len);
        let events: Vec<_> = bodies
            .iter()
            .map(|b| b.matches("channel_occupied").count())
            .collect();
        assert_eq!(events, [1, 3]);
        assert_eq!(bench.count(Dropped::Gone), (4, 0, 0));
    });
}

#[test]
fn the_end_sends_what_waits_at_once_and_gives_up_the_rest_in_time() {
    on_side_thread(async {
        let settings = EndpointSettings::default();
        let three = ["good", "failing", "dead"].map(|host| endpoint(host, &settings));
        let Bench {
            webhooks,
            receivers,
            counters,
        } = Bench::new(vec![app(0, true, three.into())]);
        for n in 0..5 {
            webhooks.dispatch(&webhook(0, &n.to_string()));
        }
        pass(40).await;
        assert_eq!(receivers.channels("good").len(), 5);
        receivers.healthy.borrow_mut().insert("failing".into());
        // Just come, the batch still open.
        webhooks.dispatch(&webhook(0, "last"));
        let began = Instant::now();
        webhooks.finish(began + Duration::from_secs(10)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert_eq!(receivers.channels("good").last().unwrap(), "last");
        assert_eq!(counters.sent.get(), 12);
        assert_eq!(counters.dropped(Dropped::Shutdown).get(), 6);
        assert_eq!(counters.pending(), 0);
    });
}

#[test]
fn the_end_does_not_wait_for_what_is_done() {
    on_side_thread(async {
        let settings = EndpointSettings::default();
        let bench = Bench::new(vec![app(0, true, vec![endpoint("slow", &settings)])]);
        bench.send(0, 0..5);
        let (began, counters) = (Instant::now(), Arc::clone(&bench.counters));
        bench.webhooks.finish(began + Duration::from_secs(10)).await;
        assert!(began.elapsed() < Duration::from_secs(3));
        assert_eq!((counters.sent.get(), counters.pending()), (5, 0));
    });
}
