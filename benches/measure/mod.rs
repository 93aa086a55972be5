//! How the benches of this directory measure: two ways of doing the same, in turns, so that a
//! machine that is busy with something else is busy for both.
//!
//! Time is that of this thread on a CPU, so that what others take of the core is not in it. Their
//! use of caches and clock rates still is; what a processor executes is not noisy at all, and
//! `benches/instructions` counts it with callgrind. For that a bench started with
//! `--calls N --only LABEL` makes so many calls of one side and nothing else.

use std::env;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Prints the time of one call of each, and their ratio. `bytes` is what one call goes through.
#[allow(dead_code)] // Not every bench has bytes.
pub(crate) fn compare(label: &str, bytes: usize, fast: impl FnMut(), slow: impl FnMut()) {
    measure(label, 1, cpu_time, fast, slow, |ns| {
        format!("ns {:>7.2} GB/s", bytes as f64 / ns)
    });
}

/// The same where one call does `count` things, each a `unit`.
#[allow(dead_code)] // Likewise.
pub(crate) fn compare_each(
    label: &str,
    count: usize,
    unit: &str,
    fast: impl FnMut(),
    slow: impl FnMut(),
) {
    let show = |_| format!("ns each {unit}");
    measure(label, count, cpu_time, fast, slow, show);
}

/// The same by the clock on the wall, for what waits for another thread.
#[allow(dead_code)] // Likewise.
pub(crate) fn compare_waiting(
    label: &str,
    count: usize,
    unit: &str,
    fast: impl FnMut(),
    slow: impl FnMut(),
) {
    let began = Instant::now();
    let show = |_| format!("ns each {unit}");
    measure(label, count, || began.elapsed(), fast, slow, show);
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn measure(
    label: &str,
    count: usize,
    clock: impl Fn() -> Duration,
    mut fast: impl FnMut(),
    mut slow: impl FnMut(),
    show: impl Fn(f64) -> String,
) {
    match Mode::of_arguments() {
        Mode::Time => {}
        Mode::List => return println!("{label}\t{count}"),
        Mode::Count { only, .. } if only != label => return,
        Mode::Count { calls, slowly, .. } => match slowly {
            true => return (0..calls).for_each(|_| slow()),
            false => return (0..calls).for_each(|_| fast()),
        },
    }
    let mut fast_ns = Vec::with_capacity(SAMPLES);
    let mut slow_ns = Vec::with_capacity(SAMPLES);
    let fast_calls = calls_per_sample(&clock, &mut fast);
    let slow_calls = calls_per_sample(&clock, &mut slow);
    for _ in 0..SAMPLES {
        fast_ns.push(ns_per_call(&clock, &mut fast, fast_calls) / count as f64);
        slow_ns.push(ns_per_call(&clock, &mut slow, slow_calls) / count as f64);
    }
    let (fast_ns, slow_ns) = (median(fast_ns), median(slow_ns));
    println!(
        "{label:<34} {fast_ns:>9.1} {}   slow twin {slow_ns:>9.1} ns   {:>5.1}x",
        show(fast_ns),
        slow_ns / fast_ns,
    );
}

/// What a bench was started for.
enum Mode {
    Time,
    /// The labels, and how many things a call of each does.
    List,
    Count {
        only: String,
        calls: u32,
        slowly: bool,
    },
}

impl Mode {
    /// Whatever else cargo passes is passed over.
    fn of_arguments() -> Self {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let calls = value("--calls").and_then(|calls| calls.parse().ok());
        match (value("--only"), calls) {
            (Some(only), Some(calls)) => Self::Count {
                only,
                calls,
                slowly: has("--slow"),
            },
            _ if has("--list") => Self::List,
            _ => Self::Time,
        }
    }
}

fn calls_per_sample(clock: &impl Fn() -> Duration, call: &mut impl FnMut()) -> u32 {
    let mut calls = 1;
    loop {
        let start = clock();
        (0..calls).for_each(|_| call());
        if clock() - start >= SAMPLE_TIME {
            return calls;
        }
        calls *= 2;
    }
}

fn ns_per_call(clock: &impl Fn() -> Duration, call: &mut impl FnMut(), calls: u32) -> f64 {
    let start = clock();
    (0..calls).for_each(|_| call());
    (clock() - start).as_nanos() as f64 / f64::from(calls)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Odd, for the median.
const SAMPLES: usize = 21;
const SAMPLE_TIME: Duration = Duration::from_millis(2);
