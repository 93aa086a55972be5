//! The proof that the simulation sees what it is for: each rule switched off, with seeds that then
//! fail and otherwise pass.
//!
//! What a seed does moves with every change of the generator and of the shard. Where none of the
//! seeds below shows a rule any more others are tried, and `find_seeds` gives new ones.

use std::cell::Cell;
use std::env;
use std::panic;
use std::sync::Once;

use super::plan::{Plan, Rule};
use super::{MANY, run, setting};

/// Seeds that are tried where the known ones have moved; a rule that none of them misses is not
/// tested.
const SEARCHED_MAX: u64 = 500;

/// Rules, and the shards, inboxes and seeds that show their absence.
const SHOWN: [(Rule, u16, usize, [u64; 4]); 18] = [
    (Rule::OwnInbox, 5, MANY, [0, 1, 2, 3]),
    (Rule::InPlace, 1, 2, [0, 1, 3, 4]),
    (Rule::Fifo, 5, 2, [0, 1, 2, 3]),
    (Rule::Fence, 5, 1, [0, 1, 2, 3]),
    (Rule::ExpandFirst, 2, 2, [3, 5, 6, 9]),
    (Rule::AnnounceFirst, 2, 2, [3, 5, 6, 9]),
    (Rule::Ticket, 5, 2, [0, 1, 2, 3]),
    (Rule::CloseLast, 5, 2, [0, 1, 2, 3]),
    (Rule::Round, 5, 2, [6, 8, 12, 15]),
    (Rule::Base, 2, MANY, [0, 1, 2, 3]),
    (Rule::Excluded, 1, 2, [3, 21, 23, 24]),
    (Rule::Resync, 1, 2, [24, 41, 89, 104]),
    (Rule::Newcomer, 1, 2, [1, 3, 15, 24]),
    (Rule::BegunFrame, 2, 2, [4, 5, 6, 7]),
    (Rule::EventsFirst, 1, 2, [1, 41, 64, 82]),
    (Rule::WatchRound, 5, 2, [2, 3, 18, 1]),
    (Rule::FirstFrame, 5, MANY, [0, 1, 7, 15]),
    (Rule::CountFirst, 2, 2, [0, 2, 4, 6]),
];

#[test]
fn every_rule_is_missed_when_it_is_switched_off() {
    be_quiet();
    for (rule, shards, inbox, seeds) in SHOWN {
        let shows = |seed| {
            let off = None;
            let plan = Plan {
                seed,
                shards,
                inbox,
                off,
            };
            let off = Some(rule);
            run(Plan { off, ..plan }).is_err() && run(plan).is_ok()
        };
        let known = seeds.into_iter().any(shows);
        assert!(
            known || (0..SEARCHED_MAX).any(shows),
            "nothing fails without {rule:?}"
        );
    }
}

/// Prints how often each rule is missed, and the first seeds that show it.
#[test]
#[ignore = "a search, to be read by whoever changes the generator"]
fn find_seeds() {
    be_quiet();
    // All of them, or the one that the environment names.
    let named = env::var("SIM_RULE").unwrap_or_default();
    let is_named = |rule: Rule| format!("{rule:?}").contains(&named);
    for (rule, ..) in SHOWN.into_iter().filter(|&(rule, ..)| is_named(rule)) {
        for (shards, inbox) in [(1, 1), (1, 2), (2, 1), (2, 2), (5, 1), (5, 2), (5, MANY)] {
            let seeds = 0..setting("SIM_SEEDS").unwrap_or(100);
            let mut first = None;
            let off = Some(rule);
            let failing: Vec<u64> = seeds
                .filter(|&seed| {
                    let failure = run(Plan {
                        seed,
                        shards,
                        inbox,
                        off,
                    })
                    .err();
                    let fails = failure.is_some();
                    first = first.take().or(failure);
                    fails
                })
                .collect();
            let shown = &failing[..failing.len().min(6)];
            let first = first.unwrap_or_default();
            let first: String = first.chars().take(150).collect();
            println!(
                "{rule:?} {shards} {inbox}: {} {shown:?} {first}",
                failing.len()
            );
        }
    }
}

thread_local! {
    /// Failures of this thread are expected.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Prints no panic of this thread: each would cost a backtrace, and all are expected.
fn be_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                usual(info);
            }
        }));
    });
    IS_QUIET.set(true);
}
