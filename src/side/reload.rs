//! Reload: file, environment and flags are read again, on SIGHUP or when the file has changed, and
//! the shards are given the apps that come of it (decisions 39).
//!
//! Everything is validated before anything is changed: what is wrong leaves all as it was and is
//! logged, every problem a line. Options of the process are compared and named, but hold from the
//! next start on. Decides nothing about sessions; the shards do, when the table comes out of their
//! inboxes.
//!
//! Invariant: every shard gets every table, in the order in which they were made.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use crate::app::{App, AppTable};
use crate::config::{self, Changes, Loaded, Problem, Sources};
use crate::net::mesh::MeshSender;
use crate::shard::message::ShardMessage;

use super::sampling::{Samples, sample};

/// How often the file is looked at. A look is one `stat`. Not inotify: the file is often replaced
/// by a rename, or lies behind a symbolic link that is (volumes of Kubernetes), or on a file system
/// of another host; each of these a watch misses or has to be rebuilt for.
const LOOK: Duration = Duration::from_secs(1);
/// How often an inbox without room is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// How often shards that close sessions over a while are woken. By itself a parked one turns once a
/// second, and would close at once what it was to spread over that second.
const SPREAD_WAKE: Duration = Duration::from_millis(5);
/// What the end of the last session may take beyond the spread.
const SPREAD_EXTRA: Duration = Duration::from_secs(5);
/// How often shards are asked whether the sessions of closing apps are gone.
const GONE_LOOK: Duration = Duration::from_secs(1);

/// What reloading begins with.
pub struct Plan {
    /// What the process runs with.
    pub running: Loaded,
    pub sources: Sources,
    pub mesh: MeshSender<ShardMessage>,
    /// Tells the rest of the side thread of new apps.
    pub apps: watch::Sender<Arc<AppTable>>,
}

/// Reloads since the start, by their outcome.
#[derive(Debug, Default)]
pub(super) struct ReloadCounters {
    pub done: Cell<u64>,
    pub refused: Cell<u64>,
}

/// Reloads until the process ends.
pub(super) async fn run(plan: Plan, mut hangups: Signal, counters: Rc<ReloadCounters>) {
    let mut reloader = Reloader {
        watched: Watched::of(&plan),
        sources: Arc::new(plan.sources),
        running: plan.running,
        mesh: plan.mesh,
        apps: plan.apps,
        spread_until: None,
        counters,
    };
    let mut look = every(LOOK);
    let mut wake = every(SPREAD_WAKE);
    let mut gone = every(GONE_LOOK);
    loop {
        tokio::select! {
            Some(()) = hangups.recv() => reloader.reload("SIGHUP").await,
            _ = look.tick(), if reloader.watched.is_some() => {
                if reloader.has_changed().await {
                    reloader.reload("the file has changed").await;
                }
            }
            _ = wake.tick(), if reloader.spread_until.is_some() => reloader.spread_on(),
            _ = gone.tick(), if reloader.is_closing() => reloader.forget_gone().await,
        }
    }
}

fn every(span: Duration) -> Interval {
    let mut interval = interval(span);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

struct Reloader {
    running: Loaded,
    sources: Arc<Sources>,
    mesh: MeshSender<ShardMessage>,
    apps: watch::Sender<Arc<AppTable>>,
    watched: Option<Watched>,
    /// While sessions of apps are being closed.
    spread_until: Option<Instant>,
    counters: Rc<ReloadCounters>,
}

impl Reloader {
    /// Whether the file has changed and come to rest.
    async fn has_changed(&mut self) -> bool {
        let Some(watched) = &mut self.watched else {
            return false;
        };
        let path = watched.path.clone();
        // On a file system of another host even this may take its time.
        let stamp = tokio::task::spawn_blocking(move || Stamp::of(&path)).await;
        watched.has_settled(stamp.ok().flatten())
    }

    async fn reload(&mut self, why: &str) {
        let sources = Arc::clone(&self.sources);
        let path = self.watched.as_ref().map(|watched| watched.path.clone());
        // A file may be slow to read, and many keys take a while to be made ready.
        let read = tokio::task::spawn_blocking(move || {
            let stamp = path.and_then(|path| Stamp::of(&path));
            (stamp, config::load(&sources))
        });
        let Ok((stamp, loaded)) = read.await else {
            return tracing::error!("not reloaded: the task that reads has ended");
        };
        if let Some(watched) = &mut self.watched {
            (watched.read, watched.seen) = (stamp, stamp);
        }
        match loaded {
            Ok(loaded) => {
                self.take(loaded, why).await;
                count(&self.counters.done);
            }
            Err(problems) => {
                log_problems(&problems, why);
                count(&self.counters.refused);
            }
        }
    }

    /// Makes a valid configuration the one that runs, as far as that goes without a restart.
    async fn take(&mut self, mut loaded: Loaded, why: &str) {
        let changes = Changes::between(&self.running, &loaded);
        if changes.leaves_apps() {
            loaded.apps = self.apps.borrow().clone();
        } else {
            loaded.apps = self.switch(&loaded.apps).await;
        }
        log_changes(&changes, why);
        if loaded.development && !self.running.development {
            tracing::warn!("an app has the secret that everybody knows");
        }
        // What needs a restart is compared with what runs, and told again each time.
        loaded.config = self.running.config.clone();
        loaded.settings.keep_process(&self.running.settings);
        self.running = loaded;
    }

    /// Has every shard switch to these apps; gives the table that they switch to.
    async fn switch(&mut self, apps: &AppTable) -> Arc<AppTable> {
        let before = self.apps.borrow().clone();
        let after = Arc::new(apps.succeeding(&before));
        if after.iter().any(|app| closes(app, &before)) || !after.closing().is_empty() {
            let spread = self.running.config.shutdown_grace;
            self.spread_until = Some(Instant::now() + spread + SPREAD_EXTRA);
        }
        self.hand_out(&after).await;
        // The question is behind the table in every inbox: who answers has switched.
        let behind = sample(&self.mesh).await.unanswered;
        if behind > 0 {
            tracing::warn!(shards = behind, "some shards have not switched yet");
        }
        after
    }

    /// Gives every shard the table. One whose inbox is full keeps no other waiting.
    async fn hand_out(&self, apps: &Arc<AppTable>) {
        // The side thread first: what shards say of a new app then finds it known.
        self.apps.send_replace(Arc::clone(apps));
        let mut targets: Vec<usize> = (0..self.mesh.shards()).collect();
        loop {
            targets.retain(|&target| {
                let message = ShardMessage::Apps(Arc::clone(apps));
                let is_full = self.mesh.push(target, message).is_err();
                self.mesh.wake(target);
                is_full
            });
            if targets.is_empty() {
                return;
            }
            sleep(FULL_PAUSE).await;
        }
    }

    fn spread_on(&mut self) {
        let has_sessions = |&target: &usize| self.mesh.status(target).sessions() > 0;
        for target in (0..self.mesh.shards()).filter(has_sessions) {
            self.mesh.wake(target);
        }
        self.spread_until = self.spread_until.filter(|until| Instant::now() < *until);
    }

    fn is_closing(&self) -> bool {
        self.spread_until.is_some() || !self.apps.borrow().closing().is_empty()
    }

    /// Takes closing apps out of the table once no shard has a session of theirs, nor can get one.
    async fn forget_gone(&mut self) {
        let before = self.apps.borrow().clone();
        let samples = sample(&self.mesh).await;
        if samples.unanswered > 0 || samples.shards.iter().any(|s| s.apps < before.version()) {
            return;
        }
        if !before
            .iter()
            .any(|app| !app.settings.enabled && has_sessions(app, &samples))
            && !before
                .closing()
                .iter()
                .any(|app| has_sessions(app, &samples))
        {
            self.spread_until = None;
        }
        let is_gone = |app: &App| !has_sessions(app, &samples);
        if before.closing().iter().any(|app| is_gone(app)) {
            self.running.apps = Arc::new(before.without(is_gone));
            self.hand_out(&self.running.apps).await;
        }
    }
}

/// Whether a reload has switched an app off.
fn closes(app: &App, before: &AppTable) -> bool {
    let earlier = before.by_id(&app.id);
    !app.settings.enabled && earlier.is_some_and(|earlier| earlier.settings.enabled)
}

fn has_sessions(app: &App, samples: &Samples) -> bool {
    let counters = samples
        .shards
        .iter()
        .flat_map(|shard| shard.counters.apps());
    counters
        .filter(|(index, _)| *index == app.index)
        .any(|(_, counters)| counters.opened > counters.left)
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

fn log_problems(problems: &[Problem], why: &str) {
    for problem in problems {
        tracing::error!("{problem}");
    }
    tracing::error!(
        why,
        problems = problems.len(),
        "not reloaded: everything stays as it was"
    );
}

fn log_changes(changes: &Changes, why: &str) {
    let changed: Vec<String> = changes.changed.iter().map(ToString::to_string).collect();
    tracing::info!(
        why,
        added = changes.added.join(", "),
        removed = changes.removed.join(", "),
        changed = changed.join(", "),
        "reloaded"
    );
    if !changes.process.is_empty() {
        let options = changes.process.join(", ");
        tracing::warn!(options, "changed, but needs a restart");
    }
}

/// The file, if it is to be watched.
struct Watched {
    path: PathBuf,
    /// As it was when it was last read, and as the last look found it.
    read: Option<Stamp>,
    seen: Option<Stamp>,
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    inode: u64,
    bytes: u64,
}

impl Stamp {
    /// None while there is no file: it is being replaced.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            inode: metadata.ino(),
            bytes: metadata.len(),
        })
    }
}

impl Watched {
    fn of(plan: &Plan) -> Option<Self> {
        let (path, _) = plan.sources.named_file()?;
        plan.running
            .config
            .reload_on_change
            .then(|| Self::new(path))
    }

    fn new(path: PathBuf) -> Self {
        let read = Stamp::of(&path);
        let seen = read;
        Self { path, read, seen }
    }

    /// Whether the file is another one than was read, and was so at the last look too: a file that
    /// is still being written is not read half-way.
    fn has_settled(&mut self, now: Option<Stamp>) -> bool {
        let before = std::mem::replace(&mut self.seen, now);
        now.is_some() && now == before && now != self.read
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_has_changed_and_has_come_to_rest() {
        let name = format!("shardcast-reload-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "a").expect("a file");
        let mut watched = Watched::new(path.clone());
        let mut looks = |expected: &[bool]| {
            for (nth, expected) in expected.iter().enumerate() {
                let settled = watched.has_settled(Stamp::of(&path));
                assert_eq!(settled, *expected, "look {nth}");
                if settled {
                    watched.read = watched.seen;
                }
            }
        };
        looks(&[false, false]);
        fs::write(&path, "ab").expect("a file");
        looks(&[false]);
        // It was still being written.
        fs::write(&path, "abc").expect("a file");
        looks(&[false, true, false]);
        fs::remove_file(&path).expect("it is there");
        looks(&[false, false]);
        fs::write(&path, "abcd").expect("a file");
        looks(&[false, true, false]);
        fs::remove_file(&path).expect("it is there");
    }
}
