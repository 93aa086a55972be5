//! What two texts have in common, as copies from the one and literals between them.
//!
//! Made for texts of which one is an edited form of the other: first the beginning and the end that
//! they share; between those, at each place of the target, the place of the base that goes on with
//! the last copy, and only where that fails an index of all windows of the base. A word found there
//! may stand in many places (the same key in each element of a list), so the one that is nearest to
//! where the text should go on is taken.
//!
//! Invariant: the pieces make up the target from its first byte to its last. Time is linear: a place
//! is looked at once, a byte is compared forwards once, and backwards once, since every match is
//! taken.

/// Bytes that must agree for a match; a shorter copy saves nothing.
pub(super) const WINDOW: usize = 8;
/// Windows in the index. Of a longer base every second, third, ... place is indexed; a match that is
/// as much longer than a window is still found.
const POSITIONS_MAX: usize = 8192;
/// Bits of a place in the index, and 1.
const PLACE_BITS: u32 = 20;
const _: () = assert!(super::TEXT_BYTES_MAX < 1 << PLACE_BITS);
/// How far from where the text should go on a better match is looked for, in bytes.
const NEAR: usize = 16;

/// Bytes of the target as they are, then a copy of bytes of the base. Only the last piece may be
/// without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) literal: u32,
    pub(super) from: u32,
    pub(super) copy: u32,
}

#[derive(Default)]
pub(super) struct Matcher {
    /// By hash of a window, its place and 1, under its mark; 0 is none. Of several the last is kept.
    index: Vec<u32>,
    pieces: Vec<Piece>,
}

impl Matcher {
    /// `None` where literals alone take more than `literals_max`. The texts are at most
    /// [`super::TEXT_BYTES_MAX`] long.
    pub(super) fn pieces(
        &mut self,
        base: &[u8],
        target: &[u8],
        literals_max: usize,
    ) -> Option<&[Piece]> {
        self.pieces.clear();
        let prefix = useful(shared_prefix(base, target));
        let suffix = useful(shared_suffix(&base[prefix..], &target[prefix..]));
        let (base_end, end) = (base.len() - suffix, target.len() - suffix);
        let mut found = Found {
            pieces: &mut self.pieces,
            literals_left: literals_max,
            done: 0,
        };
        if prefix > 0 {
            found.copy(0, 0, prefix)?;
        }
        if end - prefix >= WINDOW && base.len() >= WINDOW {
            let index = Index::build(&mut self.index, base);
            found.middle(base, target, end, &index)?;
        }
        if suffix > 0 {
            found.copy(end, base_end, suffix)?;
        } else if found.done < end {
            found.literal(end)?;
        }
        Some(&self.pieces)
    }
}

/// The pieces so far.
struct Found<'p> {
    pieces: &'p mut Vec<Piece>,
    literals_left: usize,
    /// Where in the target they end.
    done: usize,
}

impl Found<'_> {
    /// Everything up to `end`, except for a rest without a match.
    fn middle(&mut self, base: &[u8], target: &[u8], end: usize, index: &Index<'_>) -> Option<()> {
        let mut at = self.done;
        // Where the base goes on if the last literal has taken the place of as many bytes.
        let mut ahead = self.done;
        while let Some(word) = word_at(&target[..end], at) {
            if at - self.done > self.literals_left {
                return None;
            }
            let Some(place) = place_of(word, base, ahead, index) else {
                at += 1;
                ahead += 1;
                continue;
            };
            let before = shared_suffix(&base[..place], &target[self.done..at]);
            let behind = shared_prefix(&base[place..], &target[at..end]);
            self.copy(at - before, place - before, before + behind)?;
            at = self.done;
            ahead = place + behind;
        }
        Some(())
    }

    /// The literal up to `at` and a copy there, joined to the copy before where nothing lies
    /// between.
    fn copy(&mut self, at: usize, from: usize, copy: usize) -> Option<()> {
        let literal = self.spend(at)?;
        self.done = at + copy;
        match self.pieces.last_mut() {
            Some(last) if literal == 0 && (last.from + last.copy) as usize == from => {
                last.copy += copy as u32;
            }
            _ => self.pieces.push(Piece {
                literal,
                from: from as u32,
                copy: copy as u32,
            }),
        }
        Some(())
    }

    fn literal(&mut self, end: usize) -> Option<()> {
        let literal = self.spend(end)?;
        self.done = end;
        self.pieces.push(Piece {
            literal,
            from: 0,
            copy: 0,
        });
        Some(())
    }

    fn spend(&mut self, end: usize) -> Option<u32> {
        let literal = end - self.done;
        self.literals_left = self.literals_left.checked_sub(literal)?;
        Some(literal as u32)
    }
}

/// The place of a window in the base: where it goes on, near there, or anywhere.
fn place_of(word: u64, base: &[u8], ahead: usize, index: &Index<'_>) -> Option<usize> {
    let is_at = |place: usize| word_at(base, place) == Some(word);
    if is_at(ahead) {
        return Some(ahead);
    }
    let somewhere = index.find(word)?;
    if !is_at(somewhere) {
        return None;
    }
    let near = (1..=NEAR).find_map(|distance| {
        let below = ahead.checked_sub(distance).filter(|place| is_at(*place));
        below.or_else(|| Some(ahead + distance).filter(|place| is_at(*place)))
    });
    near.or(Some(somewhere))
}

struct Index<'i> {
    places: &'i [u32],
    shift: u32,
}

impl<'i> Index<'i> {
    fn build(places: &'i mut Vec<u32>, base: &[u8]) -> Self {
        let step = base.len().div_ceil(POSITIONS_MAX);
        let slots = (2 * base.len() / step).next_power_of_two();
        places.clear();
        places.resize(slots, 0);
        let shift = u64::BITS - slots.trailing_zeros();
        for place in (0..=base.len() - WINDOW).step_by(step) {
            if let Some(word) = word_at(base, place) {
                let hash = hash(word);
                places[slot(hash, shift)] = mark(hash) | (place as u32 + 1);
            }
        }
        Self { places, shift }
    }

    fn find(&self, word: u64) -> Option<usize> {
        let hash = hash(word);
        let found = self.places[slot(hash, self.shift)];
        let place = found & ((1 << PLACE_BITS) - 1);
        // Places lie all over the base, which is not to be read for nothing.
        let is_likely = found & !((1 << PLACE_BITS) - 1) == mark(hash);
        place
            .checked_sub(1)
            .filter(|_| is_likely)
            .map(|place| place as usize)
    }
}

/// Any bit of the word reaches the upper bits.
fn hash(word: u64) -> u64 {
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The upper bits of a hash.
fn slot(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize
}

/// The bits below those of the slot, where a place leaves room.
fn mark(hash: u64) -> u32 {
    const BELOW_SLOT: u32 = (2 * POSITIONS_MAX).ilog2();
    ((hash << BELOW_SLOT) >> u32::BITS) as u32 & !((1 << PLACE_BITS) - 1)
}

fn word_at(text: &[u8], at: usize) -> Option<u64> {
    #[cfg(test)]
    looked::add(1);
    let window: &[u8; WINDOW] = text.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*window))
}

/// What is too short to be copied is shared by nobody.
fn useful(bytes: usize) -> usize {
    if bytes < WINDOW { 0 } else { bytes }
}

fn shared_prefix(one: &[u8], other: &[u8]) -> usize {
    let words = one.chunks_exact(WINDOW).zip(other.chunks_exact(WINDOW));
    let start = words.take_while(|(one, other)| one == other).count() * WINDOW;
    #[cfg(test)]
    looked::add(start / WINDOW + 1);
    let bytes = one[start..].iter().zip(&other[start..]);
    start + bytes.take_while(|(one, other)| one == other).count()
}

fn shared_suffix(one: &[u8], other: &[u8]) -> usize {
    let words = one.rchunks_exact(WINDOW).zip(other.rchunks_exact(WINDOW));
    let end = words.take_while(|(one, other)| one == other).count() * WINDOW;
    #[cfg(test)]
    looked::add(end / WINDOW + 1);
    let rest = |text: &[u8]| text.len() - end;
    let bytes = one[..rest(one)]
        .iter()
        .rev()
        .zip(other[..rest(other)].iter().rev());
    end + bytes.take_while(|(one, other)| one == other).count()
}

/// Words that were looked at on this thread.
#[cfg(test)]
pub(super) mod looked {
    use std::cell::Cell;

    thread_local! {
        static WORDS: Cell<usize> = const { Cell::new(0) };
    }

    pub(in super::super) fn add(words: usize) {
        WORDS.set(WORDS.get() + words);
    }

    pub(in super::super) fn take() -> usize {
        WORDS.take()
    }
}
