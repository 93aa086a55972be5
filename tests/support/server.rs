//! The process under test: started on port 0, known by its first line, ended with the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Config, WAIT};

/// What the tests run on: one shard, one for each core of a small machine, more than it has cores.
const SHARD_COUNTS: [usize; 3] = [1, 2, 5];

/// Runs a test on servers with the standard configuration, shared by the tests that run at the
/// same time: channel names must be of their own ([`super::unique`]).
pub fn on_shards(test: impl Fn(&Server)) {
    for (index, shards) in SHARD_COUNTS.into_iter().enumerate() {
        with_shown_log(&shared(index, shards), &test);
    }
}

/// Runs a test on servers of its own.
pub fn on_shards_with(config: &Config, test: impl Fn(&Server)) {
    for shards in SHARD_COUNTS {
        with_shown_log(&Server::start(config, shards), &test);
    }
}

/// The same, all servers at once: for tests that mostly wait.
pub fn on_shards_at_once(config: &Config, test: impl Fn(&Server) + Sync) {
    for_shards_at_once(|shards| with_shown_log(&Server::start(config, shards), &test));
}

/// For each number of shards on a thread of its own: for tests that start servers themselves.
pub fn for_shards_at_once(test: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for shards in SHARD_COUNTS {
            let test = &test;
            scope.spawn(move || test(shards));
        }
    });
}

/// A failure says which server it was and what that one logged.
pub fn with_shown_log(server: &Server, test: impl Fn(&Server)) {
    struct ShowLog<'a>(&'a Server);
    impl Drop for ShowLog<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                let said = self.0.stderr();
                eprintln!("with {} shards; the server logged:\n{said}", self.0.shards);
            }
        }
    }
    let _show_log = ShowLog(server);
    test(server);
}

/// The standard server, started anew if no other test has it at this moment. A static alone would
/// never be dropped, and the process would outlive the tests.
fn shared(index: usize, shards: usize) -> Arc<Server> {
    static SERVERS: [Mutex<Weak<Server>>; 3] = [const { Mutex::new(Weak::new()) }; 3];
    // Poisoned when a start failed: the next one tries again.
    let mut server = SERVERS[index].lock().unwrap_or_else(|e| e.into_inner());
    if let Some(server) = server.upgrade() {
        return server;
    }
    let started = Arc::new(Server::start(&Config::standard(), shards));
    *server = Arc::downgrade(&started);
    started
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub shards: usize,
    /// The line that says where and how it listens.
    pub first_line: String,
    child: Mutex<Child>,
    pid: Pid,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    directory: PathBuf,
}

impl Server {
    pub fn start(config: &Config, shards: usize) -> Self {
        Self::start_with(config, &["--shards", &shards.to_string()], shards)
    }

    /// With other flags than the number of shards.
    pub fn start_with(config: &Config, flags: &[&str], shards: usize) -> Self {
        let directory = temporary_directory();
        let file = directory.join("shardcast.toml");
        fs::write(&file, config.toml()).unwrap();
        let mut command = command();
        command.arg("--config").arg(&file);
        if !flags.contains(&"--port") {
            command.args(["--port", "0"]);
        }
        command.args(flags).stdin(Stdio::null());
        for (name, value) in config.environment() {
            command.env(name, value);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = collect(child.stderr.take().unwrap());
        let stdout = Arc::default();
        let first_line = first_line(child.stdout.take().unwrap(), Arc::clone(&stdout));
        let Ok(first_line) = first_line.recv_timeout(WAIT) else {
            let _ = child.kill();
            panic!(
                "the server does not start: {:?}\n{}",
                child.wait(),
                stderr.lock().unwrap()
            );
        };
        let address = address(&first_line);
        Self {
            address,
            shards,
            first_line,
            pid: Pid::from_child(&child),
            child: Mutex::new(child),
            stdout,
            stderr,
            directory,
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// The status that it ends with.
    pub fn wait(&self) -> ExitStatus {
        let until = Instant::now() + WAIT * 2;
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// What it has printed, when `text` is in it.
    pub fn stdout_with(&self, text: &str) -> String {
        let until = Instant::now() + WAIT;
        loop {
            let said = self.stdout.lock().unwrap().clone();
            if said.contains(text) {
                return said;
            }
            assert!(Instant::now() < until, "{text} is not in {said}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where metrics are, as it has printed.
    pub fn metrics_address(&self) -> SocketAddr {
        let said = self.stdout_with("/metrics.");
        let (_, rest) = said.split_once("Metrics are on http://").expect(&said);
        let (address, _) = rest.split_once('/').expect(&said);
        address.parse().expect(address)
    }

    /// Writes its file anew, as a whole, and has it read again. Gives all that it has logged when
    /// the line with the outcome is there.
    pub fn reload(&self, toml: &str, outcome: &str) -> String {
        let count = |log: &str| log.matches(outcome).count();
        let before = count(&self.stderr());
        self.replace_file(toml);
        self.signal(Signal::HUP);
        let until = Instant::now() + WAIT;
        loop {
            let log = self.stderr();
            if count(&log) > before {
                return log;
            }
            assert!(Instant::now() < until, "{outcome} is not in {log}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Puts another file in the place of its own.
    pub fn replace_file(&self, toml: &str) {
        let new = self.directory.join("new.toml");
        fs::write(&new, toml).unwrap();
        fs::rename(new, self.config_path()).unwrap();
    }

    /// All that it has logged up to now.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Nobody reads what it logs while this is held.
    pub fn withhold_stderr(&self) -> MutexGuard<'_, String> {
        self.stderr.lock().unwrap()
    }

    /// Its resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }

    /// The most that it ever was.
    pub fn resident_bytes_peak(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(name));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib * 1024
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid.as_raw_nonzero());
        fs::read_dir(path).unwrap().count()
    }

    /// The file that it was started with.
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("shardcast.toml")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(|e| e.into_inner());
        // It may have ended by itself; then there is nobody to kill.
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The binary, without what the environment of the tests would tell it; but which driver the
/// servers run on may be chosen from outside.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    for (name, _) in std::env::vars() {
        if name.starts_with("SHARDCAST_") && name != "SHARDCAST_DRIVER" {
            command.env_remove(name);
        }
    }
    // The usual port is one for all tests that run at the same time.
    command.env("SHARDCAST_METRICS_PORT", "0");
    command
}

/// Runs what ends by itself: exit code, standard output, standard error.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code();
    (code, text(output.stdout), text(output.stderr))
}

/// An empty directory of this process.
pub fn temporary_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("shardcast-tests-{}-{count}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut into = into.lock().unwrap();
            into.push_str(&line);
            into.push('\n');
        }
    });
    text
}

/// Also reads on behind it, so that the process never writes into a closed pipe.
fn first_line(
    stream: impl Read + Send + 'static,
    all: Arc<Mutex<String>>,
) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            all.lock().unwrap().push_str(&format!("{line}\n"));
            let _ = sender.send(line);
        }
    });
    receiver
}

/// `shardcast 0.1.0 listens on 127.0.0.1:41234 with ..`.
fn address(line: &str) -> SocketAddr {
    let (_, rest) = line.split_once(" listens on ").expect(line);
    rest.split(' ').next().unwrap().parse().expect(line)
}
