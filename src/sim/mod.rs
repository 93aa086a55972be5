//! The simulation: the shards of a process in a simulated world, all from one seed, on one thread.
//!
//! 1. A seed makes a scene (`plan`): settings, budgets of 1 or the defaults, bounds, a few channels
//!    of two apps, a few users, how many visitors, how unwilling their sockets.
//! 2. Visitors come and go (`generate`): WebSocket clients subscribe, leave, return, send client
//!    events, close, vanish while a subscribe is pending; publishers send events over HTTP and ask
//!    questions (`query`), several in flight.
//! 3. Any shard takes the next step of its turn (`turn`, the twin of `net/turn.rs`), so that others
//!    act between any two of its steps. Tasks (`conn`) read and hold back as `net` does, the carrier
//!    (`mesh`) fills inboxes of 1, 2 or many slots, the kernel (`kernel`) takes some of the bytes,
//!    refuses, and gives a descriptor out again as soon as it is closed. Time is turned by hand, and
//!    now and then the apps are reloaded (`reload`).
//! 4. The model (`model`) writes one log per channel in the order in which messages enter the inbox
//!    of its home, and thereby predicts every text, roster and count.
//! 5. Clients (`client`) parse their streams and compare byte for byte with the model: exactly once,
//!    in order, nothing missing, nothing that is for others; answers in the order of the messages.
//! 6. A receiver of webhooks (`webhook`) watches the homes and knows what each message has to report,
//!    what may be reported later and when, and that all is reported in the end.
//! 7. Twice, and at the end, everything is let come to rest (`world`, `check`): all must have come,
//!    counts and members at the homes must equal the sessions. Then nobody speaks for a while, and
//!    exactly those who answer no ping are closed. Every other seed ends with a drain. When all
//!    have left every table must be empty.
//! 8. With a rule of decisions switched off (`mutations`) the same seeds must fail.
//!
//! `SIM_SEEDS` says how many seeds each combination tries; `SIM_SEED` (with `SIM_SHARDS` and
//! `SIM_INBOX`) replays one.

use std::env;
use std::panic::{self, AssertUnwindSafe};

mod channel;
mod check;
mod client;
mod conn;
mod counts;
mod deltas;
mod generate;
mod kernel;
mod keyed;
mod mesh;
mod model;
mod mutations;
mod peer;
mod people;
mod plan;
mod publish;
mod query;
mod reload;
mod session;
mod sieve;
mod slow;
mod text;
mod trace;
mod turn;
mod user;
mod watch;
mod webhook;
mod world;

use plan::Plan;
use trace::Trace;
use world::World;

/// Seeds of each combination where nothing else is said: few, for builds without optimisation.
const SEEDS_USUAL: u64 = 10;

/// An inbox that is never full here.
const MANY: usize = 16_384;

/// Runs a plan; the text of the failure if it fails.
fn run(plan: Plan) -> Result<Trace, String> {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| World::new(plan).run()));
    outcome.map_err(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| cause.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without text")
            .to_owned()
    })
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text}")),
    )
}

fn try_seeds(shards: u16, inbox: usize) {
    for seed in 0..setting("SIM_SEEDS").unwrap_or(SEEDS_USUAL) {
        let plan = Plan {
            seed,
            shards,
            inbox,
            off: None,
        };
        if let Err(failure) = run(plan) {
            panic!(
                "seed {seed} fails with {shards} shards and inboxes of {inbox}; to replay it: \
                 SIM_SEED={seed} SIM_SHARDS={shards} SIM_INBOX={inbox} \
                 cargo test --profile simulation --lib sim::replay\n{failure}"
            );
        }
    }
}

/// One test for each combination, so that they run side by side.
macro_rules! combinations {
    ($($name:ident: $shards:expr, $inbox:expr;)*) => {
        $(
            #[test]
            fn $name() {
                try_seeds($shards, $inbox);
            }
        )*
    };
}

combinations! {
    one_shard_with_an_inbox_of_one: 1, 1;
    one_shard_with_an_inbox_of_two: 1, 2;
    one_shard_with_an_inbox_of_many: 1, MANY;
    two_shards_with_inboxes_of_one: 2, 1;
    two_shards_with_inboxes_of_two: 2, 2;
    two_shards_with_inboxes_of_many: 2, MANY;
    five_shards_with_inboxes_of_one: 5, 1;
    five_shards_with_inboxes_of_two: 5, 2;
    five_shards_with_inboxes_of_many: 5, MANY;
}

#[test]
fn replay_of_a_seed_does_the_same_again() {
    for seed in 0..5 {
        let plan = Plan {
            seed,
            shards: 2,
            inbox: 2,
            off: None,
        };
        let first = run(plan);
        assert!(first.is_ok() && first == run(plan), "seed {seed}");
        assert_ne!(
            first,
            run(Plan {
                seed: seed + 1,
                ..plan
            }),
            "seeds differ"
        );
    }
}

#[test]
fn clients_put_events_together_from_deltas() {
    let deltas: u64 = (0..40)
        .filter_map(|seed| {
            let plan = Plan {
                seed,
                shards: 2,
                inbox: MANY,
                off: None,
            };
            Some(run(plan).ok()?.deltas)
        })
        .sum();
    assert!(deltas > 100, "{deltas}");
}

/// The seed that the environment names, if it names one.
#[test]
fn replay() {
    let Some(seed) = setting("SIM_SEED") else {
        return;
    };
    let shards = setting("SIM_SHARDS").unwrap_or(1) as u16;
    let inbox = setting("SIM_INBOX").unwrap_or(MANY as u64) as usize;
    World::new(Plan {
        seed,
        shards,
        inbox,
        off: None,
    })
    .run();
}
