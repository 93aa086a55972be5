//! The world: shards, mesh, kernel and peers under one seed, and the course of a run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::app::{AppTable, ConnectionQuota};
use crate::clock::Now;
use crate::pusher::socket_id::SocketIdKey;
use crate::seed::Seed;
use crate::shard::message::{SessionKey, ShardMessage};
use crate::shard::{self, Birth, Shard};

use super::conn::Task;
use super::kernel::{Kernel, Mood};
use super::mesh::Mesh;
use super::model::Model;
use super::peer::{Kind, Peer};
use super::plan::{Plan, Scene};
use super::trace::Trace;
use super::turn::Step;
use super::webhook::Receiver;

/// A calm world is still after so many steps of every shard, or something goes in a circle.
const CALM_STEPS_MAX: usize = 40_000;
/// Time between two steps of every shard while nobody says anything.
const SILENT_STEP_MS: u64 = 50;
/// What a silent client may outlive its time by: seconds are counted whole, and a turn may look at
/// one connection only.
const SILENT_SLACK: Duration = Duration::from_secs(20);
/// After it no webhook is held back any more, though a turn may report one only.
const WEBHOOKS_WAIT: Duration = Duration::from_secs(30);
/// Steps of a turn.
const STEPS_PER_TURN: usize = 8;
/// The time that a drain is given.
const DRAIN_MS: u64 = 2000;

/// A shard and its connections.
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) step: Step,
    /// By slot.
    pub(super) tasks: Vec<Option<Task>>,
    /// Peers that have connected and are not accepted yet.
    pub(super) backlog: VecDeque<usize>,
    /// Connections whose guard has been dropped.
    pub(super) departed: Vec<SessionKey>,
    /// Slots whose descriptor is not closed yet.
    pub(super) released: Vec<u32>,
    /// What the others see of the shard.
    pub(super) seen: shard::Peer,
    /// Tables of apps that it has got.
    pub(super) tables: usize,
    /// It takes no step before.
    pub(super) frozen_until: Now,
    /// It sends nothing before.
    pub(super) silent_until: Now,
}

/// Everything.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) scene: Scene,
    pub(super) chance: Seed,
    pub(super) now: Now,
    pub(super) nodes: Vec<Node>,
    pub(super) mesh: Mesh,
    pub(super) kernel: Kernel,
    /// All who ever connected.
    pub(super) peers: Vec<Peer>,
    /// Those of them who are still there.
    pub(super) present: Vec<usize>,
    pub(super) model: Model,
    pub(super) receiver: Receiver,
    /// Questions ever asked over HTTP.
    pub(super) queries: u64,
    pub(super) capacity: Arc<ConnectionQuota>,
    /// All tables of apps that there ever were.
    pub(super) tables: Vec<Arc<AppTable>>,
    pub(super) trace: Trace,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let salt = plan.seed ^ (u64::from(plan.shards) << 32) ^ ((plan.inbox as u64) << 40);
        let mut chance = Seed::new(salt);
        let scene = Scene::new(plan, &mut chance);
        let hash_key = [chance.next(), chance.next()];
        let socket_ids = SocketIdKey::new(&[plan.seed as u8; 16]);
        let capacity = Arc::new(ConnectionQuota::default());
        let nodes = (0..plan.shards).map(|id| {
            let mut shard = Shard::new(Birth {
                id,
                settings: scene.settings.clone(),
                apps: Arc::clone(&scene.apps),
                hash_key,
                socket_ids,
                capacity: Arc::clone(&capacity),
                capacity_max: None,
            });
            if let Some(rule) = plan.off {
                shard.set_mutations(rule.switch());
            }
            Node {
                shard,
                step: Step::default(),
                tasks: Vec::new(),
                backlog: VecDeque::new(),
                departed: Vec::new(),
                released: Vec::new(),
                seen: shard::Peer::default(),
                tables: 1,
                frozen_until: Now::default(),
                silent_until: Now::default(),
            }
        });
        let nodes = nodes.collect();
        let model = Model::new(hash_key, &scene.apps, &scene.settings);
        Self {
            plan,
            chance,
            now: Now(1000),
            nodes,
            mesh: Mesh::new(plan.shards, plan.inbox),
            kernel: Kernel::default(),
            peers: Vec::new(),
            present: Vec::new(),
            queries: 0,
            receiver: Receiver::new(&model, &scene.apps),
            model,
            capacity,
            tables: vec![Arc::clone(&scene.apps)],
            trace: Trace::new(),
            scene,
        }
    }

    /// The whole run: trouble, calm, trouble, calm, and the end.
    pub(super) fn run(mut self) -> Trace {
        for _ in 0..2 {
            for _ in 0..self.scene.steps {
                self.act();
                self.step();
            }
            self.calm();
            self.check_calm();
            self.recount();
        }
        // A drain without it finds webhooks that are held back.
        if self.chance.below(4) > 0 {
            self.be_silent();
        }
        let drains = self.chance.below(2) == 0;
        if drains {
            self.drain();
        }
        self.leave_all();
        self.calm();
        if drains {
            self.check_reported();
        }
        self.wait(WEBHOOKS_WAIT);
        self.check_empty();
        self.trace.deltas = self.model.deltas;
        self.trace
    }

    /// Time passes, and some shard takes a step.
    fn step(&mut self) {
        let frozen = self.nodes.iter().any(|node| self.now < node.frozen_until);
        let ms = if frozen { 900 } else { self.scene.step_ms };
        self.now.0 += self.chance.below(ms) as u64;
        let at = self.chance.below(self.nodes.len());
        if self.nodes[at].tables < self.tables.len() && self.chance.below(8) == 0 {
            self.hand_table(at);
        }
        if self.now >= self.nodes[at].frozen_until {
            self.advance(at);
        }
    }

    /// Nobody does anything new and every socket takes what it is offered, until nothing moves.
    pub(super) fn calm(&mut self) {
        for node in &mut self.nodes {
            node.frozen_until = Now::default();
            node.silent_until = Now::default();
        }
        for socket in self.kernel.open_sockets() {
            socket.mood = Mood::Takes;
        }
        // From here on all shards take the same step at the same time.
        for at in 0..self.nodes.len() {
            while self.nodes[at].step != Step::Input {
                self.advance(at);
            }
        }
        let mut still = 0;
        for _ in 0..CALM_STEPS_MAX {
            // What the end of a turn has brought about shows in the next one.
            still = if self.is_still() { still + 1 } else { still };
            if still == 3 {
                return;
            }
            self.now.0 += 1;
            for at in 0..self.nodes.len() {
                self.hand_table(at);
                self.advance(at);
            }
            self.react();
        }
        panic!("the world does not become still: {}", self.restless());
    }

    /// What still moves.
    fn restless(&self) -> String {
        let nodes = self.nodes.iter().zip(&self.mesh.inboxes).enumerate();
        let states = nodes.map(|(at, (node, inbox))| {
            let tasks = node.tasks.iter().flatten().map(|task| {
                let peer = &self.peers[task.peer];
                format!(
                    "({} gone {} unread {} blocked {} paused {} left {} {:?})",
                    task.peer,
                    peer.gone,
                    peer.to_server.len(),
                    task.blocked,
                    task.paused,
                    task.left,
                    node.shard.phase(task.key.slot)
                )
            });
            format!(
                "shard {at}: work {} leftovers {} inbox {} {}; ",
                node.shard.has_work(),
                node.shard.leftovers(),
                inbox.len(),
                tasks.collect::<Vec<_>>().join(" ")
            )
        });
        states.collect()
    }

    fn is_still(&self) -> bool {
        let nobody_moves = |node: &Node| {
            !node.shard.has_work()
                && node.shard.leftovers() == 0
                && node.backlog.is_empty()
                && node.departed.is_empty()
                && node.released.is_empty()
                && node.step == Step::Input
                && node.tasks.iter().flatten().all(|task| {
                    let peer = &self.peers[task.peer];
                    peer.to_server.is_empty() && !peer.gone && !task.blocked && !task.left
                })
        };
        self.mesh.is_empty() && self.all_have_tables() && self.nodes.iter().all(nobody_moves)
    }

    /// Nobody says anything, until whoever answers no ping must have been closed.
    fn be_silent(&mut self) {
        let settings = &self.scene.settings;
        self.wait(settings.activity_timeout + settings.pong_timeout + SILENT_SLACK);
        self.check_silent();
    }

    /// Time passes, and nothing else.
    fn wait(&mut self, time: Duration) {
        let until = self.now.after(time);
        while self.now < until {
            self.now.0 += SILENT_STEP_MS;
            for at in 0..self.nodes.len() {
                self.advance(at);
            }
            self.react();
        }
    }

    /// The process ends: every shard is told, and every session is closed in time.
    fn drain(&mut self) {
        let until = Now(self.now.0 + DRAIN_MS);
        for inbox in &mut self.mesh.inboxes {
            inbox.push_back(ShardMessage::Drain { until });
        }
        self.finish_publishers();
        // A turn may look at one slot only.
        let slots = self.nodes.iter().map(|node| node.tasks.len()).max();
        let mut steps_left = 2 * STEPS_PER_TURN * slots.unwrap_or(0);
        while self.now.0 < until.0 + 2 * DRAIN_MS || steps_left > 0 {
            steps_left = steps_left.saturating_sub(1);
            self.now.0 += self.chance.below(40) as u64;
            for at in 0..self.nodes.len() {
                self.advance(at);
            }
            self.react();
        }
        self.check_drained();
    }

    /// Connections of publishers that wait for nothing end behind their last answer.
    fn finish_publishers(&mut self) {
        for node in &mut self.nodes {
            for task in node.tasks.iter().flatten() {
                let peer = &self.peers[task.peer];
                let is_idle = peer.to_server.is_empty() && task.question.is_none();
                if is_idle && matches!(peer.kind, Kind::Publisher(_)) {
                    node.shard.finish_http(task.key.slot);
                }
            }
        }
    }

    /// Whoever is still there goes, without a word.
    fn leave_all(&mut self) {
        for at in std::mem::take(&mut self.present) {
            self.peers[at].gone = true;
        }
    }
}
