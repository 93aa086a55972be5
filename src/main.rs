//! Reads the configuration, starts one worker per core, waits for a signal, drains, exits.
//!
//! The allocator is mimalloc: frames and bodies are made on one core and mostly freed on it, and
//! its free lists are per thread, so that a publish that crosses cores takes no lock. It is built
//! not to ask for huge pages: what a delivery and a publish cost was the same with and without
//! within the noise of five pairs of runs, but 18 000 idle connections took 43 MB with them and
//! 17 MB without.

use std::io::IsTerminal;
use std::process::ExitCode;

use shardcast::config::{Config, LogFormat};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lines that wait for the writing thread, at most; over it they are dropped and counted: logging
/// never blocks a worker.
const LOG_LINES_MAX: usize = 8192;

fn main() -> ExitCode {
    let serving = match shardcast::cli::run() {
        Ok(serving) => serving,
        Err(code) => return code,
    };
    let (_guard, dropped) = log(&serving.loaded.config);
    report_panics();
    match shardcast::net::serve::serve(*serving, dropped) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Structured logs to standard error, written by a thread of their own; and how many lines that
/// thread never got.
fn log(config: &Config) -> (WorkerGuard, ErrorCounter) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_MAX)
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let logs = tracing_subscriber::fmt()
        .with_max_level(config.log_level)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    (guard, dropped)
}

/// A panic ends the process (`panic = "abort"`): a shard less would be channels without a home
/// (decisions 36).
fn report_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        eprintln!(
            "fatal: {} panicked; the process ends",
            thread.name().unwrap_or("a thread")
        );
        default(panic);
        std::process::abort();
    }));
}
