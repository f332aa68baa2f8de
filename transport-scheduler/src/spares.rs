//! Vectors whose datagrams have gone, kept for the next ones.

/// Vectors kept at most: what one call may bring of datagrams that were joined on the way.
const MAX_LEN: usize = 1024;
/// A larger vector is freed: with what fits a packet this bounds the bytes.
const MAX_CAPACITY: usize = 2048;

/// Vectors that datagrams are made in instead of new ones. It holds 1,024 of at most 2,048 bytes each; what is beyond is freed.
#[derive(Debug, Default)]
pub struct Spares {
    vectors: Vec<Vec<u8>>,
    /// The fewest there were since [`Spares::trim`] was called last.
    least: usize,
}

impl Spares {
    /// An empty vector with room for `len` bytes; a new one if there is none.
    #[must_use]
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut vector = self.vectors.pop().unwrap_or_default();
        self.least = self.least.min(self.vectors.len());
        // Exactly: a vector that doubled would be too large to be kept.
        vector.reserve_exact(len);
        vector
    }

    /// Keeps a vector whose content nobody needs any more.
    pub fn put(&mut self, mut spent: Vec<u8>) {
        if self.vectors.len() < MAX_LEN && (1..=MAX_CAPACITY).contains(&spent.capacity()) {
            spent.clear();
            self.vectors.push(spent);
        }
    }

    /// Appends vectors to `out`, `count` at most.
    pub fn take_into(&mut self, count: usize, out: &mut Vec<Vec<u8>>) {
        let left = self.vectors.len().saturating_sub(count);
        out.extend(self.vectors.drain(left..));
        self.least = self.least.min(left);
    }

    /// Two that meet share what they have, so that neither need know which way the datagrams go.
    pub fn even_out(&mut self, other: &mut Self) {
        let all = self.vectors.len() + other.vectors.len();
        let (more, fewer) = if self.vectors.len() > other.vectors.len() {
            (self, other)
        } else {
            (other, self)
        };
        more.take_into(more.vectors.len() - all.div_ceil(2), &mut fewer.vectors);
    }

    /// Two that meet free what neither was touched for since they did so last, or half of what neither was short of. Done now
    /// and then, a flow keeps what it uses whichever way it goes, and of what nobody uses nothing is left.
    pub fn trim(&mut self, other: &mut Self) {
        let unneeded = self.least.min(other.least).div_ceil(2);
        let idle = self.is_untouched() && other.is_untouched();
        for spares in [self, other] {
            let kept = if idle {
                0
            } else {
                spares.vectors.len().saturating_sub(unneeded)
            };
            spares.vectors.truncate(kept);
            spares.vectors.shrink_to(2 * kept);
            spares.least = kept;
        }
    }

    fn is_untouched(&self) -> bool {
        self.least == self.vectors.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    /// Allocated bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let bytes: usize = self.vectors.iter().map(Vec::capacity).sum();
        self.vectors.capacity() * size_of::<Vec<u8>>() + bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: usize) -> Spares {
        let mut spares = Spares::default();
        (0..count).for_each(|_| spares.put(Vec::with_capacity(100)));
        spares
    }

    #[test]
    fn a_vector_comes_back_empty_and_large_enough() {
        let mut spares = Spares::default();
        spares.put(vec![1; 100]);
        let vector = spares.take(1200);
        assert!(vector.is_empty() && vector.capacity() == 1200);
        assert!(spares.is_empty());
        spares.put(vector);
        assert_eq!(spares.take(1000).capacity(), 1200, "the same one");
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut spares = with(MAX_LEN + 1);
        assert_eq!(spares.vectors.len(), MAX_LEN);
        assert!(spares.memory() <= MAX_LEN * (MAX_CAPACITY + 2 * size_of::<Vec<u8>>()));
        spares.take_into(MAX_LEN - 1, &mut Vec::new());
        spares.put(Vec::with_capacity(MAX_CAPACITY + 1));
        spares.put(Vec::new());
        assert_eq!(spares.vectors.len(), 1);
    }

    #[test]
    fn two_share_alike_whichever_has_more() {
        for (a, b) in [(10, 0), (0, 10), (7, 4), (0, 0), (1, 0), (5, 5)] {
            let (mut one, mut two) = (with(a), with(b));
            one.even_out(&mut two);
            let (left, right) = (one.vectors.len(), two.vectors.len());
            assert_eq!(left + right, a + b);
            assert!(left.abs_diff(right) <= 1, "{a} and {b} became {left} and {right}");
        }
    }

    #[test]
    fn what_nobody_needs_goes_and_what_is_needed_stays() {
        let (mut one, mut two) = (with(60), with(61));
        one.trim(&mut two);
        one.trim(&mut two);
        assert_eq!((one.memory(), two.memory()), (0, 0));
        // What flows from one to the other is needed, however much waits where it comes from.
        let (mut from, mut to) = (with(500), with(500));
        let mut last = 0;
        for _ in 0..20 {
            let mut used = Vec::new();
            to.take_into(60, &mut used);
            used.resize_with(60, || Vec::with_capacity(100));
            for vector in used {
                from.put(vector);
            }
            last = from.vectors.len() + to.vectors.len();
            from.even_out(&mut to);
            from.trim(&mut to);
        }
        assert!((60..=125).contains(&last), "{last}");
    }

    #[test]
    fn datagrams_that_were_sent_leave_theirs() {
        use crate::{DatagramOptions, Grant, Limits, PeerLimits, Scheduler, Side};

        let now = crate::tests::start();
        let mut scheduler = Scheduler::new(Side::Client, Limits::default());
        scheduler.limits(PeerLimits {
            max_datagram: 2000,
            ..PeerLimits::default()
        });
        for flow in [None, Some(7)] {
            scheduler.lend(Some(Box::new(with(1))));
            let options = DatagramOptions {
                flow,
                ..DatagramOptions::default()
            };
            for _ in 0..3 {
                let queued = scheduler.send_datagram(now, vec![0; 1200], options);
                assert!(queued.is_ok());
            }
            while scheduler.next(now).is_some() {
                assert!(scheduler.take(now, Grant { bytes: 1200 }).is_some());
            }
            let back = scheduler.take_back();
            assert_eq!(back.map(|spares| spares.vectors.len()), Some(1 + 3));
            assert!(scheduler.spares().is_none());
        }
    }
}
