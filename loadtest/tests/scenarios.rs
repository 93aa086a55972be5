//! Each scenario for a second against the floor, both as processes: that it runs, ends, reports,
//! and finds nothing wrong where nothing is. Nothing here measures.

use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The floor on a port of its own; it ends with the test.
struct Floor {
    child: Child,
    address: String,
}

impl Floor {
    fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["floor", "--port", "0"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.split(' ').nth(3).expect(&line).to_owned();
        Self { child, address }
    }

    /// A scenario against it: what it wrote as JSON and as a page.
    fn run(&self, scenario: &str) -> (Value, String) {
        let (json, html) = (temporary("json"), temporary("html"));
        let output = self
            .command(scenario, "1")
            .args([
                "--json",
                json.to_str().unwrap(),
                "--html",
                html.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        let said = text(&output);
        assert!(
            output.status.success(),
            "{scenario}: {}\n{said}",
            output.status
        );
        assert!(said.starts_with("Saturated: "), "{scenario}: {said}");
        let outcome = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let page = std::fs::read_to_string(&html).unwrap();
        for path in [json, html] {
            std::fs::remove_file(path).unwrap();
        }
        (outcome, page)
    }

    fn command(&self, scenario: &str, secs: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command
            .args(scenario.split(' '))
            .args([
                "--target",
                &self.address,
                "--pid",
                &self.child.id().to_string(),
            ])
            .args(["--warmup-secs", "0", "--secs", secs]);
        command
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn temporary(suffix: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("loadtest-tests-{}-{count}.{suffix}", std::process::id());
    std::env::temp_dir().join(name)
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A figure by its name, whatever its group.
fn figure(outcome: &Value, name: &str) -> f64 {
    let figures = outcome["figures"].as_array().unwrap();
    let found = figures.iter().find(|figure| figure["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is not in {figures:#?}"));
    found["value"].as_f64().unwrap()
}

fn count(outcome: &Value, latency: &str) -> u64 {
    let rows = outcome["latencies"].as_array().unwrap();
    let found = rows.iter().find(|row| row["name"] == latency);
    found.unwrap_or_else(|| panic!("{latency} is not in {rows:#?}"))["count"]
        .as_u64()
        .unwrap()
}

#[test]
fn the_floor_has_every_feature() {
    let floor = Floor::start(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let output = command
        .args(["features", "--target", &floor.address])
        .output()
        .unwrap();
    assert!(
        text(&output).contains("has all that scenarios use"),
        "{}",
        text(&output)
    );
}

/// As in `server & loadtest ..`.
#[test]
fn a_server_that_does_not_listen_yet_is_waited_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let child = command
        .args(["features", "--target", &address.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut floor = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let mut floor = floor
        .args(["floor", "--port", &address.port().to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    floor.kill().unwrap();
    floor.wait().unwrap();
    assert!(text(&output).contains("has all that"), "{}", text(&output));
}

/// They have the same channels, and each gets what the other publishes: that is no fault of the
/// server.
#[test]
fn two_runs_at_once_do_not_take_each_other_for_faults() {
    let floor = Floor::start(&[]);
    let start = || {
        let mut command = floor.command("fanout --subscribers 5 --rate 50 --quiet", "2");
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut runs = [start(), start()];
    // Runs are told apart by the last byte of their number.
    while runs[0].id() % 256 == runs[1].id() % 256 {
        runs[1].kill().unwrap();
        runs[1].wait().unwrap();
        runs[1] = start();
    }
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("events of another run at the same time"),
            "{text}"
        );
    }
}

/// The figures would be those of a process that does nothing, and look splendid.
#[test]
fn a_pid_that_is_not_the_server_is_said() {
    let floor = Floor::start(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(["publish", "--rate", "50", "--quiet", "--secs", "1"])
        .args(["--warmup-secs", "0", "--target", &floor.address, "--pid"]);
    let pids = format!("{},{}", floor.child.id(), std::process::id());
    let output = command.arg(pids).output().unwrap();
    let (said, other) = (text(&output), std::process::id());
    assert!(
        said.contains(&format!("Process {other} does not listen")),
        "{said}"
    );
    assert_eq!(said.matches("does not listen").count(), 1, "{said}");
}

#[test]
fn connect_reads_memory_at_each_level() {
    let floor = Floor::start(&[]);
    let (outcome, page) = floor.run("connect --levels 40,80 --settle-secs 0");
    let memory = outcome["memory"].as_array().unwrap();
    let levels: Vec<u64> = memory
        .iter()
        .map(|p| p["connections"].as_u64().unwrap())
        .collect();
    assert_eq!(levels, [0, 40, 80]);
    assert_eq!(count(&outcome, "connect and subscribe"), 80);
    assert!(page.contains("Memory of the server"), "{page}");
}

#[test]
fn fanout_delivers_single_publishes() {
    let floor = Floor::start(&["--plain-sends"]);
    let (outcome, page) = floor.run("fanout --subscribers 50 --bytes 16384 --probes --probe-ms 50");
    assert!(figure(&outcome, "deliveries") > 50.0);
    assert_eq!(figure(&outcome, "deliveries lost"), 0.0);
    assert!(count(&outcome, "ping to pong") > 0);
    assert!(
        page.contains("<svg") && page.contains("Over time"),
        "{page}"
    );
}

#[test]
fn fanout_delivers_queued_publishes_over_several_processes() {
    let floor = Floor::start(&["--joined"]);
    let scenario = "fanout --subscribers 50 --channels 3 --queued 6 --processes 3";
    let (outcome, _) = floor.run(scenario);
    assert!(figure(&outcome, "deliveries") > 300.0);
    assert_eq!(figure(&outcome, "deliveries lost"), 0.0);
    assert_eq!(
        figure(&outcome, "came again") + figure(&outcome, "out of order"),
        0.0
    );
}

#[test]
fn fanout_at_a_rate_publishes_what_is_due() {
    let floor = Floor::start(&[]);
    let (outcome, _) = floor.run("fanout --subscribers 10 --stalled 1 --rate 50");
    // One more or less, as the measured span begins and ends between two.
    let deliveries = figure(&outcome, "deliveries");
    assert!((450.0..=510.0).contains(&deliveries), "{deliveries}");
    assert_eq!(figure(&outcome, "stalled subscribers"), 1.0);
}

#[test]
fn publish_pipelines() {
    let floor = Floor::start(&[]);
    let (outcome, _) =
        floor.run("publish --connections 2 --pipeline 8 --existing 700 --channels 5");
    assert!(figure(&outcome, "publishes") > 100.0);
    assert!(count(&outcome, "answer to a publish") > 100);
}

#[test]
fn chat_passes_client_events_and_keeps_rosters() {
    let floor = Floor::start(&[]);
    let (outcome, _) = floor.run("chat --rooms 4 --members 5 --rate 200 --leaves 20 --away-ms 50");
    assert!(figure(&outcome, "client events delivered") > 100.0);
    assert!(figure(&outcome, "joins") > 5.0);
    assert_eq!(figure(&outcome, "client events lost"), 0.0);
    assert_eq!(figure(&outcome, "rosters wrong at the end"), 0.0);
}

#[test]
fn churn_comes_and_goes() {
    let floor = Floor::start(&[]);
    let (outcome, _) = floor.run("churn --connections 20 --kind private");
    assert!(figure(&outcome, "connect-subscribe-leave") > 20.0);
    let (outcome, _) = floor.run("churn --of rooms --connections 20 --kind presence --rate 300");
    let changes = figure(&outcome, "changes of channel");
    assert!((200.0..=301.0).contains(&changes), "{changes}");
}

#[test]
fn a_storm_brings_everybody_back() {
    let floor = Floor::start(&[]);
    let (outcome, _) = floor.run("churn --of storm --connections 60 --calm-secs 0");
    assert!(figure(&outcome, "storms") >= 1.0);
    assert_eq!(figure(&outcome, "not back from a storm"), 0.0);
    assert_eq!(figure(&outcome, "deliveries lost"), 0.0);
}

#[test]
fn soak_does_all_of_it() {
    let floor = Floor::start(&[]);
    let (outcome, _) = floor.run("soak --subscribers 50 --rooms 3 --members 4 --cycles 30");
    for name in [
        "deliveries",
        "client events delivered",
        "connect-subscribe-leave",
    ] {
        assert!(figure(&outcome, name) > 0.0, "{name}");
    }
    assert_eq!(figure(&outcome, "deliveries lost"), 0.0);
    assert_eq!(figure(&outcome, "rosters wrong at the end"), 0.0);
}

#[test]
fn an_interrupted_run_reports_what_it_has() {
    use rustix::process::{Pid, Signal, kill_process};
    let floor = Floor::start(&[]);
    let json = temporary("json");
    for processes in ["1", "2"] {
        let mut command = floor.command("fanout --subscribers 20 --rate 100", "600");
        command
            .args(["--processes", processes, "--json"])
            .arg(&json);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // The second one: by then something was delivered.
        for _ in 0..2 {
            let line = lines.find(|line| line.as_ref().unwrap().contains("measured"));
            assert!(line.is_some(), "the run is never measured");
        }
        let began = Instant::now();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(15));
        assert!(
            text(&output).contains("it was interrupted"),
            "{}",
            text(&output)
        );
        let outcome: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert!(figure(&outcome, "deliveries") > 0.0);
        assert_eq!(figure(&outcome, "deliveries lost"), 0.0);
    }
    std::fs::remove_file(json).unwrap();
}

/// While connecting, in the warm-up, in the measured span: it ends soon, and its figures are of what
/// was.
#[test]
fn a_run_is_interrupted_at_any_moment() {
    use rustix::process::{Pid, Signal, kill_process};
    let floor = Floor::start(&[]);
    let moments = [
        ("connect --levels 1000 --rate 10", "connecting", "0"),
        ("fanout --subscribers 20", "warm-up", "600"),
        ("publish", "warm-up", "600"),
        ("chat --rooms 2 --members 3", "measured", "0"),
        ("churn --of storm --connections 20", "measured", "0"),
    ];
    for (scenario, moment, warmup) in moments {
        let json = temporary("json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command
            .args(scenario.split(' '))
            .args(["--target", &floor.address, "--secs", "600"])
            .args(["--pid", &floor.child.id().to_string()])
            .args(["--warmup-secs", warmup, "--json"])
            .arg(&json)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The line about how it goes says where it is.
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_there = |line: io::Result<String>| line.unwrap().contains(moment);
        assert!(said.any(is_there), "{scenario}: never {moment}");
        let began = Instant::now();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{scenario}: {text}");
        assert!(began.elapsed() < Duration::from_secs(20), "{scenario}");
        assert!(text.contains("it was interrupted"), "{scenario}: {text}");
        let is_measured = !text.contains("nothing was measured");
        assert_eq!(is_measured, moment == "measured", "{scenario}: {text}");
        let outcome: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!(outcome["has_failed"], false, "{scenario}");
        std::fs::remove_file(json).unwrap();
    }
}

/// Told to stop, workers measure no longer, but may wait for what is owed: that time is in no rate.
#[test]
fn the_rate_of_an_interrupted_run_is_of_the_time_until_then() {
    use rustix::process::{Pid, Signal, kill_process};
    let floor = Floor::start(&[]);
    let json = temporary("json");
    let mut command = floor.command("fanout --subscribers 10 --rate 100 --stalled 1", "600");
    command.args(["--tail-secs", "6", "--json"]).arg(&json);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("measured")));
    std::thread::sleep(Duration::from_secs(2));
    // The floor never ends the one that does not read, and so it is waited for to the last.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let outcome: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(json).unwrap();
    let rate = figure(&outcome, "publishes, rate");
    assert!((85.0..115.0).contains(&rate), "{rate}");
}

#[test]
fn a_server_that_dies_in_the_middle_leaves_the_figures_so_far() {
    let mut floor = Floor::start(&[]);
    for scenario in [
        "fanout --subscribers 20 --rate 100 --probes --probe-ms 50",
        "chat --rooms 2 --members 3 --rate 100",
    ] {
        let json = temporary("json");
        let mut command = floor.command(scenario, "3");
        command.args(["--tail-secs", "1", "--json"]).arg(&json);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("measured")));
        std::thread::sleep(Duration::from_secs(1));
        floor = {
            drop(floor);
            Floor::start(&[])
        };
        let output = child.wait_with_output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(3), "{scenario}: {text}");
        assert!(text.contains("connections that the server ended"), "{text}");
        assert!(
            text.contains("there is none of that number (any more)"),
            "{scenario}: {text}"
        );
        let outcome: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        std::fs::remove_file(json).unwrap();
        assert!(figure(&outcome, "deliveries checked") > 100.0);
        assert!(figure(&outcome, "connections that the server ended") > 0.0);
        let timeline = outcome["timeline"].as_array().unwrap();
        assert!(timeline.len() > 1, "{timeline:?}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_found_out_before_the_run() {
    let floor = Floor::start(&[]);
    let began = Instant::now();
    let mut command = floor.command("fanout --json /nowhere/at/all.json", "600");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("error: /nowhere/at/all.json: "));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn whoever_reads_no_tables_has_the_report_all_the_same() {
    let floor = Floor::start(&[]);
    let json = temporary("json");
    let mut command = floor.command("publish --rate 100 --quiet", "1");
    command.arg("--json").arg(&json).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "");
    std::fs::remove_file(json).unwrap();
}

#[test]
fn two_runs_are_compared() {
    let floor = Floor::start(&[]);
    let paths = [temporary("json"), temporary("json")];
    for path in &paths {
        let mut command = floor.command("publish --rate 100", "1");
        assert!(
            command
                .arg("--json")
                .arg(path)
                .output()
                .unwrap()
                .status
                .success()
        );
    }
    let html = temporary("html");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("compare").args(&paths).arg("--html").arg(&html);
    let output = command.output().unwrap();
    assert!(text(&output).contains("a/b"), "{}", text(&output));
    assert!(std::fs::read_to_string(&html).unwrap().contains("two runs"));
    for path in paths.into_iter().chain([html]) {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn pairs_of_runs_give_ratios() {
    let json = temporary("json");
    let cpu = first_cpu();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args([
        "pairs",
        "--a",
        "floor",
        "--b",
        "floor --plain-sends",
        "--pairs",
        "2",
    ]);
    command
        .args(["--server-cpus", &cpu, "--client-cpus", &cpu, "--json"])
        .arg(&json);
    command.args([
        "--",
        "fanout",
        "--subscribers",
        "20",
        "--secs",
        "1",
        "--warmup-secs",
        "0",
    ]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    let ratios = found["ratios"].as_array().unwrap();
    let each = ratios
        .iter()
        .find(|ratios| ratios["name"] == "each delivery")
        .unwrap();
    assert_eq!(each["all"].as_array().unwrap().len(), 2);
}

/// One that this process may run on.
fn first_cpu() -> String {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let mut cpus = 0..rustix::thread::CpuSet::MAX_CPU;
    cpus.find(|&cpu| set.is_set(cpu)).unwrap().to_string()
}
