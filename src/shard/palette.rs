//! The palette: the runs that connections of a shard still have to send.
//!
//! A *run* is the joined frames of one channel, or the answers to one connection. Its bytes live
//! exactly as long as somebody counts on them: a plain count, since one core owns them all
//! (decisions 18, 19). A run is *fresh* while a connection that the kernel has not refused has yet
//! to try it; fresh bytes and the age of the oldest fresh run say whether the shard keeps up
//! (decisions 28). It does not know connections.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::{Micros, Now};
use crate::pusher::channel::ChannelKind;
use crate::ws::frame::server_frame_bytes;

use super::message::Frame;

/// The frames of one channel that are joined into one run, at most.
pub const RUN_BYTES_MAX: usize = 64 * 1024;

/// Emptied buffers kept for the next run, at most, and the largest that is kept.
const SPARE_BUFFERS_MAX: usize = 1024;
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// Index of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(u32);

impl RunId {
    /// No run.
    pub const NONE: Self = Self(u32::MAX);
}

/// A run that its holder does not keep alive: once it has gone, its index may be another run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    run: RunId,
    serial: u32,
}

impl Tenant {
    /// No run.
    pub const NONE: Self = Self {
        run: RunId::NONE,
        serial: 0,
    };
}

#[derive(Debug)]
enum Body {
    Free,
    Shared(Arc<Frame>),
    Owned(Vec<u8>),
}

#[derive(Debug)]
struct Run {
    body: Body,
    /// Pieces that hold it, and one while it is open.
    refs: u32,
    /// Those of them that have not been tried; `fresh <= refs`. Always 0 for private runs.
    fresh: u32,
    frames: u32,
    /// Tells tenants of the same index apart.
    serial: u32,
    born: Now,
    /// When the first event in it was accepted; "never" where it has none.
    accepted: Micros,
    addressees: Option<Addressees>,
    /// Answers to one connection.
    private: bool,
    /// Not WebSocket frames: indivisible, and not to be appended to.
    opaque: bool,
}

/// Whom a run of events is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressees {
    pub app: u32,
    pub kind: ChannelKind,
    pub subscribers: u32,
}

/// All runs of a shard.
#[derive(Debug, Default)]
pub struct Palette {
    runs: Vec<Run>,
    free: Vec<u32>,
    spare: Vec<Vec<u8>>,
    serial: u32,
    bytes: u64,
    fresh_bytes: u64,
    /// Runs of events that nobody has yet to try any more, since the list was last taken.
    pub delivered: Vec<(Micros, Addressees)>,
    /// Runs in the order of birth, for the age of the oldest fresh one; entries may be stale.
    ages: VecDeque<(u32, u32)>,
}

impl Palette {
    /// A run that begins with a shared frame. It is open: the caller holds one fresh reference.
    pub fn open(&mut self, frame: Arc<Frame>, now: Now) -> RunId {
        let bytes = frame.bytes().len() as u64;
        let accepted = frame.accepted();
        let id = self.insert(Body::Shared(frame), now, false);
        let run = &mut self.runs[id.0 as usize];
        run.accepted = accepted;
        run.refs = 1;
        run.fresh = 1;
        run.frames = 1;
        let serial = run.serial;
        self.bytes += bytes;
        self.fresh_bytes += bytes;
        self.ages.push_back((id.0, serial));
        id
    }

    /// Joins one more frame to an open run.
    pub fn join(&mut self, id: RunId, frame: &Frame) {
        let run = &mut self.runs[id.0 as usize];
        if let Body::Shared(first) = &run.body {
            let mut joined = self.spare.pop().unwrap_or_default();
            joined.extend_from_slice(first.bytes());
            run.body = Body::Owned(joined);
        }
        if let Body::Owned(joined) = &mut run.body {
            joined.extend_from_slice(frame.bytes());
        }
        run.frames += 1;
        if run.accepted == Micros::default() {
            run.accepted = frame.accepted();
        }
        self.bytes += frame.bytes().len() as u64;
        self.fresh_bytes += frame.bytes().len() as u64;
    }

    /// A run of answers to one connection, held once.
    pub fn private(&mut self, now: Now) -> RunId {
        let buffer = self.spare.pop().unwrap_or_default();
        let id = self.insert(Body::Owned(buffer), now, true);
        self.runs[id.0 as usize].refs = 1;
        id
    }

    /// Appends to a private run; returns how many bytes came.
    pub fn write(&mut self, id: RunId, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let run = &mut self.runs[id.0 as usize];
        debug_assert!(run.private, "only answers are written in place");
        let Body::Owned(buffer) = &mut run.body else {
            return 0;
        };
        let before = buffer.len();
        write(buffer);
        let written = buffer.len() - before;
        self.bytes += written as u64;
        written
    }

    fn insert(&mut self, body: Body, born: Now, private: bool) -> RunId {
        self.serial = self.serial.wrapping_add(1);
        let run = Run {
            body,
            refs: 0,
            fresh: 0,
            frames: 0,
            serial: self.serial,
            born,
            accepted: Micros::default(),
            addressees: None,
            private,
            opaque: false,
        };
        match self.free.pop() {
            Some(index) => {
                self.runs[index as usize] = run;
                RunId(index)
            }
            None => {
                self.runs.push(run);
                RunId((self.runs.len() - 1) as u32)
            }
        }
    }

    /// The joined frames.
    pub fn slice(&self, id: RunId) -> &[u8] {
        match &self.runs[id.0 as usize].body {
            Body::Free => &[],
            Body::Shared(frame) => frame.bytes(),
            Body::Owned(bytes) => bytes,
        }
    }

    /// How many bytes the run has.
    pub fn len(&self, id: RunId) -> usize {
        self.slice(id).len()
    }

    /// How many frames were joined; 0 for answers, which are bounded by not reading (decisions 22).
    pub fn frames(&self, id: RunId) -> u32 {
        self.runs[id.0 as usize].frames
    }

    /// Frames of a channel that begin in a part of the run.
    pub fn frames_in(&self, id: RunId, start: u32, end: u32) -> u32 {
        if self.frames(id) == 0 {
            return 0;
        }
        let bytes = &self.slice(id)[..end as usize];
        let (mut boundary, mut frames) = (0, 0);
        while boundary < bytes.len() {
            frames += u32::from(boundary >= start as usize);
            boundary += server_frame_bytes(&bytes[boundary..]).unwrap_or(bytes.len() - boundary);
        }
        frames
    }

    /// Whether the run holds answers to one connection.
    pub fn is_private(&self, id: RunId) -> bool {
        self.runs[id.0 as usize].private
    }

    /// Whether the run is something else than WebSocket frames.
    pub fn is_opaque(&self, id: RunId) -> bool {
        self.runs[id.0 as usize].opaque
    }

    /// Says that the run is something else than WebSocket frames: an HTTP answer.
    pub fn make_opaque(&mut self, id: RunId) {
        self.runs[id.0 as usize].opaque = true;
    }

    /// The run, to be asked for after it may have gone.
    pub fn tenant(&self, id: RunId) -> Tenant {
        Tenant {
            run: id,
            serial: self.runs[id.0 as usize].serial,
        }
    }

    /// Whether the run is still there and somebody has yet to try it.
    pub fn is_fresh(&self, tenant: Tenant) -> bool {
        self.runs
            .get(tenant.run.0 as usize)
            .is_some_and(|run| run.serial == tenant.serial && run.fresh > 0)
    }

    /// Counts holders: `fresh` connections that will be tried, `blocked` ones that wait.
    pub fn hold(&mut self, id: RunId, fresh: u32, blocked: u32) {
        let run = &mut self.runs[id.0 as usize];
        run.refs += fresh + blocked;
        if !run.private {
            debug_assert!(
                fresh == 0 || run.fresh > 0,
                "a run is held for sending while it is open"
            );
            run.fresh += fresh;
        }
    }

    /// Says whom an open run is for, so that [`Palette::delivered`] tells of it.
    pub fn address(&mut self, id: RunId, addressees: Addressees) {
        self.runs[id.0 as usize].addressees = Some(addressees);
    }

    /// A holder has been tried and refused: it keeps the run, which may no longer be fresh.
    pub fn tried(&mut self, id: RunId) {
        let run = &mut self.runs[id.0 as usize];
        if run.private {
            return;
        }
        debug_assert!(run.fresh > 0);
        run.fresh -= 1;
        if run.fresh == 0 {
            self.all_tried(id);
        }
    }

    /// Nobody has yet to try the run.
    fn all_tried(&mut self, id: RunId) {
        let run = &self.runs[id.0 as usize];
        let (accepted, addressees) = (run.accepted, run.addressees);
        self.fresh_bytes -= self.len(id) as u64;
        if accepted != Micros::default() {
            self.delivered
                .extend(addressees.map(|addressees| (accepted, addressees)));
        }
    }

    /// A holder is done. `fresh` says whether it counted as fresh.
    pub fn release(&mut self, id: RunId, fresh: bool) {
        if fresh {
            self.tried(id);
        }
        let run = &mut self.runs[id.0 as usize];
        debug_assert!(run.refs > 0);
        run.refs -= 1;
        if run.refs > 0 {
            return;
        }
        debug_assert!(run.fresh == 0);
        self.bytes -= self.len(id) as u64;
        let body = std::mem::replace(&mut self.runs[id.0 as usize].body, Body::Free);
        if let Body::Owned(mut buffer) = body
            && buffer.capacity() <= SPARE_BYTES_MAX
            && self.spare.len() < SPARE_BUFFERS_MAX
        {
            buffer.clear();
            self.spare.push(buffer);
        }
        self.free.push(id.0);
    }

    /// Bytes of all runs.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of runs that somebody has yet to try.
    pub fn fresh_bytes(&self) -> u64 {
        self.fresh_bytes
    }

    /// When the oldest fresh run was made.
    pub fn oldest_fresh(&mut self) -> Option<Now> {
        while let Some(&(index, serial)) = self.ages.front() {
            let run = &self.runs[index as usize];
            if run.serial == serial && run.fresh > 0 {
                return Some(run.born);
            }
            self.ages.pop_front();
        }
        None
    }

    /// Runs that are held by somebody.
    pub fn held(&self) -> usize {
        self.runs.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::filter::TagSet;

    #[test]
    fn bytes_live_until_the_last_holder_is_done() {
        let mut palette = Palette::default();
        let run = palette.open(Frame::new(b"one".to_vec()), Now(5));
        palette.join(run, &Frame::new(b"two".to_vec()));
        palette.hold(run, 2, 1);
        palette.release(run, true);
        assert_eq!(palette.oldest_fresh(), Some(Now(5)));
        assert_eq!(
            (palette.bytes(), palette.fresh_bytes(), palette.frames(run)),
            (6, 6, 2)
        );
        palette.tried(run);
        palette.release(run, true);
        assert_eq!((palette.bytes(), palette.fresh_bytes()), (6, 0));
        assert_eq!(palette.oldest_fresh(), None);
        assert_eq!(palette.slice(run), b"onetwo");
        palette.release(run, false);
        palette.release(run, false);
        assert_eq!((palette.bytes(), palette.held()), (0, 0));
    }

    #[test]
    fn answers_are_written_in_place_and_never_fresh() {
        let mut palette = Palette::default();
        let run = palette.private(Now(1));
        assert_eq!(
            palette.write(run, |buffer| buffer.extend_from_slice(b"pong")),
            4
        );
        assert_eq!(
            (
                palette.bytes(),
                palette.fresh_bytes(),
                palette.is_fresh(palette.tenant(run))
            ),
            (4, 0, false)
        );
        palette.release(run, true);
        assert_eq!((palette.bytes(), palette.held()), (0, 0));
    }

    #[test]
    fn a_run_of_events_is_told_of_once_when_the_last_holder_has_been_tried() {
        let addressees = Addressees {
            app: 3,
            kind: ChannelKind::Public,
            subscribers: 2,
        };
        let mut palette = Palette::default();
        for (first, second, told) in [(70, 90, Some(70)), (0, 90, Some(90)), (0, 0, None)] {
            let run = palette.open(
                Frame::published(b"one".to_vec(), Micros(first), TagSet::default()),
                Now(1),
            );
            palette.join(
                run,
                &Frame::published(b"two".to_vec(), Micros(second), TagSet::default()),
            );
            palette.hold(run, 2, 1);
            palette.address(run, addressees);
            palette.release(run, true);
            palette.tried(run);
            assert!(palette.delivered.is_empty());
            palette.release(run, true);
            let told = told.map(|accepted| (Micros(accepted), addressees));
            assert_eq!(palette.delivered.pop(), told);
            palette.release(run, false);
            palette.release(run, false);
            assert!(palette.delivered.is_empty());
            assert_eq!(palette.held(), 0);
        }
    }

    #[test]
    fn a_run_that_has_gone_is_not_fresh_whoever_has_its_index() {
        let mut palette = Palette::default();
        let run = palette.open(Frame::new(b"one".to_vec()), Now(1));
        let gone = palette.tenant(run);
        assert!(palette.is_fresh(gone));
        palette.release(run, true);
        assert!(!palette.is_fresh(gone));
        let next = palette.open(Frame::new(b"two".to_vec()), Now(2));
        assert_eq!(next, run);
        assert!(palette.is_fresh(palette.tenant(next)));
        assert!(!palette.is_fresh(gone) && !palette.is_fresh(Tenant::NONE));
    }
}
