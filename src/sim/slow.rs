//! Slow consumers: who is closed as one has to be one, and who stays has to be within the bounds.
//!
//! Slow is only whom the kernel has refused (decisions 22, 23): what waits because the shard has not
//! come round yet closes nobody, however much it is.

use crate::clock::Now;

use super::world::World;

/// An open connection before the shard looks for slow ones.
struct Before {
    slot: u32,
    bytes: u32,
    frames: u32,
}

impl World {
    /// Has shard `at` close its slow consumers, and checks whom it closes and whom it keeps.
    pub(super) fn close_slow_consumers(&mut self, at: usize) {
        let shard = &mut self.nodes[at].shard;
        let open = (0..shard.slots()).filter(|&slot| shard.is_open(slot));
        let before: Vec<Before> = open
            .map(|slot| Before {
                slot,
                bytes: shard.queued_bytes(slot),
                frames: shard.queued_of_channels(slot).1,
            })
            .collect();
        shard.watch_stalls();
        let (held, ..) = shard.palette_held();
        shard.close_slow_consumers();
        for before in before {
            let shard = &self.nodes[at].shard;
            let socket = self.kernel.socket(shard.fd(before.slot));
            let refused = socket.and_then(|socket| socket.refused);
            if !shard.is_open(before.slot) {
                let since = refused.expect("closed as slow, though the kernel refused it nothing");
                self.check_slow(at, &before, since, held);
            } else if refused.is_some() {
                self.check_bounds(at, before.slot);
            }
        }
    }

    /// It stalls, or what waits for it or for all is over a bound.
    fn check_slow(&self, at: usize, before: &Before, since: Now, held: u64) {
        let Before { bytes, frames, .. } = *before;
        let settings = &self.scene.settings;
        let limits = &settings.outbox;
        assert!(
            self.nodes[at].shard.now() >= since.after(settings.stall_max)
                || bytes > limits.bytes_max
                || frames > limits.frames_max
                || held > limits.shard_bytes_max,
            "closed as slow with {bytes} bytes and {frames} frames since {since:?}"
        );
    }

    /// A refused connection that stays is within its bounds, or all that it has is one run.
    fn check_bounds(&self, at: usize, slot: u32) {
        let limits = &self.scene.settings.outbox;
        let (bytes, frames, runs) = self.nodes[at].shard.queued_of_channels(slot);
        let is_within = bytes <= limits.bytes_max && frames <= limits.frames_max;
        assert!(
            is_within || runs <= 1,
            "kept with {bytes} bytes and {frames} frames in {runs} runs"
        );
    }
}
