//! A load generator for servers that speak the Pusher Channels protocol.
//!
//! One scenario each run, one file each scenario: it connects, does its work for a bounded time,
//! and says first which side was saturated, because a client at its limit measures itself. It
//! checks what it counts: every delivery is known by its number. It never starts, configures or
//! stops the server, and reads of its process only what `/proc` shows.

use std::process::ExitCode;

mod args;
mod client;
mod crowd;
mod fanout;
mod frame;
mod http;
mod idle;
mod latency;
mod probe;
mod process;
mod publisher;
mod report;
mod sequence;
mod sides;
mod sign;
mod stamp;
mod stop;
mod target;

use args::Scenario;

fn main() -> ExitCode {
    let run = match args::parse() {
        Ok(run) => run,
        Err(error) => error.exit(),
    };
    let measured = match &run.scenario {
        Scenario::Idle(idle) => idle::run(&run, idle),
        Scenario::Fanout(fanout) => fanout::run(&run, fanout),
    };
    match measured.and_then(|report| report.write(run.json.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
