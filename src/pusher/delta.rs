//! Delta compression (extensions spec 3): an event as its difference from an earlier one.
//!
//! [`Encoder`] finds once what two texts have in common and writes it in the format of either
//! algorithm. Whether a delta is sent, and against which base, is the home's business; how a frame
//! tells it is `outbound`'s.
//!
//! # Why this way
//!
//! Both formats are copies from the base and literals, so one search serves both. The crates that
//! there are gave the same targets, and are not used: for a text of 308 B with two edits this takes
//! 0.6 us, `fossil-delta` 0.2 1.2 us and `oxidelta` 0.1 2 us. Neither keeps its tables from one
//! message to the next or stops when a delta would be no smaller. `fossil-delta` compares each place
//! with up to 250 others at any length: two texts of 100 KB of which one breaks a run of one letter
//! take it 36 ms (0.05 here), for which every channel of the home would wait.
//!
//! Invariant: a delta that is written gives the target when it is applied to the base.

#[cfg(test)]
pub(crate) mod apply;
pub mod conflation;
mod fossil;
mod matching;
mod vcdiff;
mod wish;

use matching::{Matcher, Piece};

pub use wish::{ALGORITHMS_LISTED_MAX, Wish, first_known};

/// The longest text that has deltas; five times the usual bound of an event. The worst pair of such
/// texts takes 4 ms, for which every channel of the home waits.
pub const TEXT_BYTES_MAX: usize = 1 << 19;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// The Fossil delta format, with its checksum.
    #[default]
    Fossil,
    /// VCDIFF (RFC 3284) as its clients' decoder reads it.
    Xdelta3,
}

impl Algorithm {
    /// Every algorithm; an algorithm's place here is its `index`.
    pub const ALL: [Self; 2] = [Self::Fossil, Self::Xdelta3];

    pub fn index(self) -> usize {
        self as usize
    }

    /// As it is written in frames and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fossil => "fossil",
            Self::Xdelta3 => "xdelta3",
        }
    }

    /// The algorithm of a name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("fossil") => Some(Self::Fossil),
            () if is("xdelta3") || is("vcdiff") => Some(Self::Xdelta3),
            () => None,
        }
    }
}

/// What encoding keeps from one message to the next: at most 64 KiB, and the pieces and addresses of
/// the largest difference seen.
#[derive(Default)]
pub struct Encoder {
    matcher: Matcher,
    sections: vcdiff::Sections,
}

impl Encoder {
    /// What `target` takes over from `base`. `None` where no delta of at most `bytes_max` bytes was
    /// found, or a text is too long. Takes time in proportion to the texts, whatever they are.
    pub fn compare<'e>(
        &'e mut self,
        base: &'e [u8],
        target: &'e [u8],
        bytes_max: usize,
    ) -> Option<Difference<'e>> {
        if base.len().max(target.len()) > TEXT_BYTES_MAX {
            return None;
        }
        Some(Difference {
            pieces: self.matcher.pieces(base, target, bytes_max)?,
            sections: &mut self.sections,
            base,
            target,
            bytes_max,
        })
    }
}

/// How a target is made from a base.
pub struct Difference<'e> {
    pieces: &'e [Piece],
    sections: &'e mut vcdiff::Sections,
    base: &'e [u8],
    target: &'e [u8],
    bytes_max: usize,
}

impl Difference<'_> {
    /// Appends the delta. Where it would be longer than it may be, nothing is appended and the
    /// answer is `false`.
    pub fn write(&mut self, algorithm: Algorithm, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        match algorithm {
            Algorithm::Fossil => fossil::write(self.pieces, self.target, out),
            Algorithm::Xdelta3 => {
                vcdiff::write(self.pieces, self.base, self.target, self.sections, out);
            }
        }
        let fits = out.len() - start <= self.bytes_max;
        if !fits {
            out.truncate(start);
        }
        fits
    }
}

#[cfg(test)]
mod tests;
