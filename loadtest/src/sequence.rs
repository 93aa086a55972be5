//! Which numbers one subscriber has seen: what is new, what came twice, what came late.
//!
//! Numbers begin at 0. The last 64 are remembered one by one; what is older counts as late, and a
//! repetition of it is not told from it. 16 bytes a subscriber.

/// The numbers seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence {
    /// One above the highest.
    next: u64,
    /// Bit `n`: `next - 1 - n` has been seen.
    seen: u64,
}

/// What a number was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Above all before it.
    InOrder,
    /// Below one that came before it, and new.
    Late,
    /// Not new.
    Again,
}

impl Sequence {
    /// A number has come.
    pub(crate) fn take(&mut self, number: u64) -> Arrival {
        if number >= self.next {
            let step = number - self.next + 1;
            self.seen = if step < 64 { self.seen << step | 1 } else { 1 };
            self.next = number + 1;
            return Arrival::InOrder;
        }
        let age = self.next - 1 - number;
        if age >= 64 {
            return Arrival::Late;
        }
        let bit = 1 << age;
        if self.seen & bit != 0 {
            return Arrival::Again;
        }
        self.seen |= bit;
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::Arrival::{Again, InOrder, Late};
    use super::*;

    #[test]
    fn order_gaps_lateness_and_repetition_are_told_apart() {
        let mut sequence = Sequence::default();
        let arrivals = [
            (0, InOrder),
            (1, InOrder),
            (1, Again),
            (4, InOrder),
            (3, Late),
            (3, Again),
            (0, Again),
            (2, Late),
            (67, InOrder),
            (4, Again),
            (3, Late),
            (200, InOrder),
            (199, Late),
            (136, Late),
        ];
        for (at, (number, expected)) in arrivals.into_iter().enumerate() {
            assert_eq!(sequence.take(number), expected, "at {at}, number {number}");
        }
    }
}
