//! How the benches of this directory measure: two ways of doing the same, in turns, so that a
//! machine that is busy with something else is busy for both.

use std::time::{Duration, Instant};

/// Prints the time of one call of each, and their ratio. `bytes` is what one call goes through.
pub(crate) fn compare(label: &str, bytes: usize, mut fast: impl FnMut(), mut slow: impl FnMut()) {
    let mut fast_ns = Vec::with_capacity(SAMPLES);
    let mut slow_ns = Vec::with_capacity(SAMPLES);
    let fast_calls = calls_per_sample(&mut fast);
    let slow_calls = calls_per_sample(&mut slow);
    for _ in 0..SAMPLES {
        fast_ns.push(ns_per_call(&mut fast, fast_calls));
        slow_ns.push(ns_per_call(&mut slow, slow_calls));
    }
    let (fast_ns, slow_ns) = (median(fast_ns), median(slow_ns));
    println!(
        "{label:<28} {fast_ns:>9.1} ns {:>7.2} GB/s   slow twin {slow_ns:>9.1} ns   {:>5.1}x",
        bytes as f64 / fast_ns,
        slow_ns / fast_ns,
    );
}

fn calls_per_sample(call: &mut impl FnMut()) -> u32 {
    let mut calls = 1;
    loop {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        if start.elapsed() >= SAMPLE_TIME {
            return calls;
        }
        calls *= 2;
    }
}

fn ns_per_call(call: &mut impl FnMut(), calls: u32) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| call());
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Odd, for the median.
const SAMPLES: usize = 21;
const SAMPLE_TIME: Duration = Duration::from_millis(2);
