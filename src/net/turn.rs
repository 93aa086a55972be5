//! One turn: clock, departed, carry, inbox, wheel, carry, flush, park (decisions 31-33).
//!
//! The turn is the runtime's main future: polled after a round of tasks, if something woke it. To
//! go on without parking it wakes a helper task that wakes it back. It never wakes itself: that
//! would starve every task and all I/O. `sim` plays the same steps in the same order.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use monoio::net::UnixStream;
use tokio::sync::oneshot;

use crate::metrics::{Counters, TURN_AIM};
use crate::shard::flush::Sent;
use crate::shard::message::{ReplyTo, SessionKey, ShardMessage};
use crate::shard::question::Answer;
use crate::shard::sample::Sample;
use crate::shard::webhook::Webhook;
use crate::shard::{Peer, Shard};

use super::pace::{SENDS_MIN, SendPace};
use super::ring::{SendItem, SendOutcome, SendResult};
use super::worker::Worker;
use super::{conn, sys};

/// A turn longer than this is worth a line in the log.
const TURN_ALARM: Duration = Duration::from_millis(50);

/// The turns of a worker, one per poll.
pub struct Turns {
    worker: Rc<Worker>,
    /// The counters have been logged: the drain has ended.
    logged: bool,
    pace: SendPace,
    results: Vec<SendResult>,
    keys: Vec<SessionKey>,
    slots: Vec<u32>,
    answers: Vec<(ReplyTo, Answer)>,
    webhooks: Vec<Webhook>,
    sampling: Vec<oneshot::Sender<Box<Sample>>>,
}

impl Turns {
    /// The worker's turns.
    pub fn new(worker: Rc<Worker>) -> Self {
        let (results, keys, slots, answers, webhooks, sampling) = Default::default();
        Self {
            worker,
            logged: false,
            pace: SendPace::default(),
            results,
            keys,
            slots,
            answers,
            webhooks,
            sampling,
        }
    }

    /// One turn; true if there is more to do at once.
    fn turn(&mut self) -> bool {
        let worker = Rc::clone(&self.worker);
        worker.go_on_with_input();
        let mut shard = worker.shard.borrow_mut();
        let peers = (0..worker.end.shards()).map(|target| Peer {
            inbox_depth: worker.end.depth(target),
            inbox_bytes: worker.end.status(target).inbox_bytes(),
            congested: worker.end.status(target).is_congested(),
            behind: worker.end.status(target).is_behind(),
        });
        shard.begin_turn(peers);
        shard.on_time(worker.clock.now());
        self.release(&mut shard);
        self.carry(&mut shard);
        let more_messages = self.take_messages(&mut shard);
        shard.turn_wheel();
        shard.watch_stalls();
        shard.close_slow_consumers();
        self.carry(&mut shard);
        self.hand_over_webhooks(&mut shard);
        shard.fence();
        shard.begin_flush();
        self.flush(&mut shard);
        let more = more_messages || shard.has_work() || shard.leftovers() > 0;
        drop(shard);
        let more_input = self.hand_out();
        self.report();
        more | more_input | worker.open_gate(more)
    }

    /// Takes ended connections out of every table, then closes their descriptors.
    fn release(&mut self, shard: &mut Shard) {
        let worker = &self.worker;
        self.keys.append(&mut worker.departed.borrow_mut());
        for key in self.keys.drain(..) {
            shard.on_departed(key);
            let waiting = worker.inputs.borrow_mut().end(key.slot);
            if let Some(waiting) = waiting {
                waiting.on_gone(shard);
            }
            if let Some(stream) = &worker.streams.borrow()[key.slot as usize] {
                // Whoever awaits writability of it is to look again, and let go.
                let _ = sys::shutdown_both(std::os::fd::AsRawFd::as_raw_fd(&**stream));
            }
        }
        shard.leave();
        shard.switch_to_deltas();
        shard.take_released(&mut self.slots);
        let mut streams = worker.streams.borrow_mut();
        self.slots.retain(|&slot| {
            let held = streams[slot as usize]
                .as_ref()
                .is_some_and(|s| Rc::strong_count(s) > 1);
            if !held {
                streams[slot as usize] = None;
                shard.on_closed(slot);
            }
            held
        });
    }

    /// Carries every list into its inbox as far as it fits, and wakes targets once each.
    fn carry(&self, shard: &mut Shard) {
        shard.report();
        for target in 0..self.worker.end.shards() {
            let outgoing = shard.outgoing(target as u16);
            if outgoing.list.is_empty() {
                continue;
            }
            let before = outgoing.list.len();
            let status = self.worker.end.status(target);
            let weigh =
                |list: &VecDeque<ShardMessage>| list.iter().map(ShardMessage::frame_bytes).sum();
            let bytes: usize = weigh(&outgoing.list);
            status.add_inbox_bytes(bytes);
            let left = self.worker.end.carry(target, &mut outgoing.list);
            status.remove_inbox_bytes(if left > 0 { weigh(&outgoing.list) } else { 0 });
            let urgent = std::mem::take(&mut outgoing.urgent);
            if target == self.worker.end.shard() {
                continue;
            }
            if urgent && left < before {
                shard.counters.wakes += u64::from(self.worker.end.wake(target));
            } else {
                outgoing.urgent = urgent;
            }
        }
    }

    /// What back ends are told goes to the side thread, which has it before the shard can report
    /// itself quiet (decisions 42).
    fn hand_over_webhooks(&mut self, shard: &mut Shard) {
        shard.take_webhooks(&mut self.webhooks);
        for webhook in self.webhooks.drain(..) {
            self.worker.webhooks.push(webhook);
        }
    }

    /// Takes the inbox within the turn's budget; true if something is left in it.
    fn take_messages(&self, shard: &mut Shard) -> bool {
        self.worker.end.own_status().begin_turn();
        let mut taken_bytes = 0;
        for _ in 0..shard.budgets().messages.max(1) {
            let Some(message) = self.worker.end.pop() else {
                break;
            };
            taken_bytes += message.frame_bytes();
            shard.on_message(message);
            if shard.has_expanded_enough() {
                break;
            }
        }
        self.worker.end.own_status().remove_inbox_bytes(taken_bytes);
        shard.expand();
        self.worker.end.depth(self.worker.end.shard()) > 0
    }

    /// Sends what is dirty, express first, within the turn's budget.
    fn flush(&mut self, shard: &mut Shard) {
        let budgets = shard.budgets();
        let (sends, sends_bulk) = self.pace.sends(budgets.sends, budgets.sends_bulk);
        let count = shard.fill_batch(sends, sends_bulk);
        if count > 0 {
            self.send_batch(shard, count);
        }
        shard.on_flushed(self.worker.clock.micros_at(Instant::now()));
    }

    fn send_batch(&mut self, shard: &mut Shard, count: usize) {
        // So few say nothing about the pace, and clocks are read for nothing.
        let began = (count >= SENDS_MIN).then(Instant::now);
        let items = shard.batch().map(|s| SendItem {
            slot: s.slot,
            fd: s.fd,
            slices: s.slices,
        });
        self.worker
            .sender
            .borrow_mut()
            .send_batch(items, &mut self.results);
        if let Some(began) = began {
            self.pace.on_sent(count, began.elapsed());
        }
        let (mut refused, mut taken) = (0, 0);
        for (index, result) in self.results.iter().enumerate() {
            let sent = match result.outcome {
                SendOutcome::Sent(bytes) => {
                    taken += bytes;
                    Sent::Bytes(bytes)
                }
                SendOutcome::Refused => {
                    refused += 1;
                    Sent::Refused
                }
                SendOutcome::Failed(_) => Sent::Failed,
            };
            shard.on_sent(index, sent);
        }
        shard.counters.sends += count as u64;
        shard.counters.sends_refused += refused;
        shard.counters.sent_bytes += taken as u64;
        shard.on_pings_sent();
    }

    /// Hands what the turn has found to the connections; true if one of them has input on hand or
    /// has asked for something.
    fn hand_out(&mut self) -> bool {
        let worker = Rc::clone(&self.worker);
        let outcomes = worker.shard.borrow_mut().take_outcomes();
        for &slot in &outcomes.blocked {
            let key = worker.shard.borrow().key(slot);
            if let Some(stream) = &worker.streams.borrow()[slot as usize] {
                monoio::spawn(conn::await_writable(
                    Rc::clone(&worker),
                    key,
                    Rc::clone(stream),
                ));
            }
        }
        for &slot in &outcomes.broken {
            worker.shut_down(slot);
        }
        for &slot in &outcomes.finished {
            worker.half_close(slot);
        }
        for &slot in &outcomes.drained {
            worker.resume_reading(slot);
        }
        worker.shard.borrow_mut().take_resumed(&mut self.keys);
        worker.unfinished.borrow_mut().extend(self.keys.drain(..));
        worker.shard.borrow_mut().take_answers(&mut self.answers);
        for (to, answer) in self.answers.drain(..) {
            worker.on_answer(to, answer);
        }
        worker.shard.borrow_mut().take_expired(&mut self.keys);
        for key in self.keys.drain(..) {
            worker.on_expired(key);
        }
        worker.go_on_draining();
        // An answer may have led to another question, which waits for a carry.
        !worker.unfinished.borrow().is_empty() || worker.shard.borrow().leftovers() > 0
    }

    /// What the other threads see of this shard.
    fn report(&mut self) {
        let mut shard = self.worker.shard.borrow_mut();
        let status = self.worker.end.own_status();
        status.set_congested(shard.is_congested());
        status.set_behind(shard.is_behind());
        let quiet = shard.is_quiet() && !self.worker.inputs.borrow().is_serving();
        if quiet && !self.logged {
            // Before the others see it: the process ends when all shards are quiet.
            self.logged = true;
            log_counters(shard.id, &shard.counters);
        }
        shard.take_sampling(&mut self.sampling);
        for to in self.sampling.drain(..) {
            // Whoever asked may have stopped waiting.
            let depth = self.worker.end.depth(self.worker.end.shard());
            let _ = to.send(Box::new(shard.sample(depth)));
        }
        status.report(shard.sessions(), quiet);
    }

    /// Nothing is left to do: waits for messages, input or time. False if something has come after
    /// all.
    fn park(&self) -> bool {
        let spin = self.worker.limits.spin;
        if !spin.is_zero() {
            let began = Instant::now();
            while began.elapsed() < spin {
                if self.worker.end.depth(self.worker.end.shard()) > 0 {
                    return false;
                }
                std::hint::spin_loop();
            }
        }
        self.worker.end.prepare_park()
    }
}

/// What a shard has done, once, at the end of a drain.
fn log_counters(shard: u16, counters: &Counters) {
    tracing::info!(
        shard,
        accepted = counters.accepted,
        opened = counters.opened,
        refused = counters.refused,
        messages = counters.sum(|app| app.messages_received),
        published = counters.published,
        publishes_refused = counters.publishes_refused.iter().sum::<u64>(),
        delivered = counters.delivered,
        client_events_refused = counters.client_events_refused,
        slow_consumer_closes = counters.slow_consumer_closes,
        pong_timeouts = counters.pong_timeouts,
        cache_evicted = counters.cache_evicted,
        questions_expired = counters.questions_expired,
        answers_too_large = counters.answers_too_large,
        requests_out_of_room = counters.requests_out_of_room,
        webhooks_early = counters.webhooks_early,
        webhooks_dropped = counters.webhooks_dropped,
        deltas_encoded = counters.deltas_encoded,
        delta_texts_dropped = counters.delta_texts_dropped,
        deltas_left = counters.deltas_left,
        sequence_gaps = counters.sequence_gaps,
        turns = counters.turns.count(),
        turns_long = counters.turns.over(TURN_AIM),
        turn_p99 = ?counters.turns.percentile(99.0),
        turn_max = ?counters.turns.max(),
        delivery_p99 = ?counters.deliveries.percentile(99.0),
        "the shard is drained"
    );
}

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.worker.end.unpark();
        self.worker.turn_begins(cx.waker());
        let began = Instant::now();
        let more = self.turn();
        let took = began.elapsed();
        self.worker.shard.borrow_mut().counters.turns.record(took);
        if took > TURN_ALARM {
            tracing::warn!(shard = self.worker.end.shard(), ?took, "a long turn");
        }
        if more || !self.park() {
            // Before the helper's first poll there is none to wake; it then asks for a turn by
            // itself.
            if let Some(relay) = &*self.worker.relay.borrow() {
                relay.wake_by_ref();
            }
        }
        Poll::Pending
    }
}

/// The helper that wakes the turn back, so that tasks and I/O come between two turns.
pub async fn relay(worker: Rc<Worker>) {
    poll_fn(|cx| {
        let mut relay = worker.relay.borrow_mut();
        if relay.is_none() {
            *relay = Some(cx.waker().clone());
        }
        worker.want_turn();
        Poll::<()>::Pending
    })
    .await;
}

/// Has the turn look into the inbox whenever another thread has woken this shard.
pub async fn wake_on_messages(worker: Rc<Worker>, wake: UnixStream) {
    while wake.readable(false).await.is_ok() {
        worker.end.clear_wake();
        worker.want_turn();
    }
}

/// Ends a park at each full second, for the wheel. Nothing else depends on the runtime's timers,
/// which do not fire while turns hand over to each other.
pub async fn wake_each_second(worker: Rc<Worker>) {
    loop {
        let into = worker.clock.now().0 % 1000;
        monoio::time::sleep(Duration::from_millis(1000 - into)).await;
        worker.want_turn();
    }
}
