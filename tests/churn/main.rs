//! Two thousand connections churn across five shards, and at every quiet point what the server says
//! of them is what they know of themselves.
//!
//! 1. Visitors (`visitor`) connect, subscribe, leave channels, close, vanish, and come again, all at
//!    once and each from its own seed; some are turned away by the app's quota.
//! 2. Now and then all are quiet: each has had its commands answered. Then counts, rosters, the
//!    quota, the gauges and, once their delays are over, the webhooks of every channel and member
//!    must equal the sums over the visitors' own lists (`model`), at the latest after [`SETTLE`].
//! 3. At the end all leave, and everything is zero again.
//!
//! `CHURN_SECS` says how long; a minute where nothing is said.

#[path = "../support/mod.rs"]
mod support;

mod model;
mod visitor;

use std::env;
use std::time::{Duration, Instant};

use model::Model;
use support::{App, Config, Receiver, Server};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use visitor::Visitor;

const VISITORS: usize = 2000;
/// Fewer than visitors, so that the quota is met.
const PLACES: usize = 1900;
const SHARDS: usize = 5;
/// Commands of a visitor between two quiet points.
const COMMANDS: usize = 12;
/// Ends of connections are noticed, delayed webhooks sent, within this time.
const SETTLE: Duration = Duration::from_secs(20);

/// The app of all visitors.
pub(crate) const APP: App = App {
    id: "3",
    key: "278d425bdf160c739803",
    secret: "7ad3773142a6692b25b8",
    settings: "presence_members_max = 1000000\nconnections_max = 1900\n",
};

#[test]
fn what_the_server_says_of_two_thousand_churning_connections_is_true() {
    let secs = env::var("CHURN_SECS").map_or(60, |text| text.parse().expect("a number"));
    let receiver = Receiver::start();
    let kinds = [
        "channel_occupied",
        "channel_vacated",
        "member_added",
        "member_removed",
    ];
    // One request at a time, so that they come in order.
    let endpoint = receiver.endpoint(&kinds, "parallel_max = 1\nqueue_max = 1000000");
    let config = Config::only(&APP, &endpoint)
        .set("activity_timeout_secs", 120)
        .set("webhook_delay_ms", 1000);
    let server = Server::start(&config, SHARDS);
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(churn(&server, &receiver, Duration::from_secs(secs)));
}

async fn churn(server: &Server, receiver: &Receiver, span: Duration) {
    let began = Instant::now();
    let mut visitors: Vec<_> = (0..VISITORS).map(|n| Visitor::new(server, n)).collect();
    let mut model = Model::new(server, receiver, PLACES);
    let mut points = 0;
    while began.elapsed() < span {
        visitors = all(visitors, |visitor| visitor.churn(COMMANDS)).await;
        model.expect_truth(&mut visitors, SETTLE).await;
        points += 1;
    }
    assert!(points > 1, "there was more than one quiet point");
    visitors = all(visitors, Visitor::leave).await;
    model.expect_truth(&mut visitors, SETTLE).await;
    model.expect_nothing();
}

/// Has all visitors do the same at once.
async fn all<F>(visitors: Vec<Visitor>, act: impl Fn(Visitor) -> F) -> Vec<Visitor>
where
    F: Future<Output = Visitor> + Send + 'static,
{
    let mut acting: JoinSet<Visitor> = visitors.into_iter().map(act).collect();
    let mut visitors = Vec::with_capacity(acting.len());
    while let Some(visitor) = acting.join_next().await {
        visitors.push(visitor.expect("a visitor does not fail"));
    }
    visitors
}
