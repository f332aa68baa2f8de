//! Vectors whose datagrams have gone, kept for the next ones.

/// Vectors kept at most: what one call may bring of datagrams that were joined on the way.
const MAX_LEN: usize = 1024;
/// A larger vector is freed: with what fits a packet this bounds the bytes.
const MAX_CAPACITY: usize = 2048;

/// Vectors that datagrams are made in instead of new ones. It holds 1,024 of at most 2,048 bytes each; what is beyond is freed.
#[derive(Debug, Default)]
pub struct Spares {
    vectors: Vec<Vec<u8>>,
    /// The fewest there were since [`Spares::trim`].
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

    /// Frees half of those that were not needed since the last time. Called now and then, a flow keeps about what it uses, and
    /// of what nobody uses nothing is left.
    pub fn trim(&mut self) {
        let unneeded = self.least.div_ceil(2);
        self.vectors.truncate(self.vectors.len().saturating_sub(unneeded));
        self.vectors.shrink_to(2 * self.vectors.len());
        self.least = self.vectors.len();
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
        let mut idle = with(MAX_LEN);
        idle.trim();
        let rounds = (0..20).take_while(|_| {
            idle.trim();
            !idle.is_empty()
        });
        assert_eq!(rounds.count(), 10);
        assert_eq!(idle.memory(), 0);
        let mut busy = with(100);
        busy.trim();
        for _ in 0..20 {
            let used: Vec<Vec<u8>> = (0..60).map(|_| busy.take(100)).collect();
            used.into_iter().for_each(|vector| busy.put(vector));
            busy.trim();
        }
        assert_eq!(busy.vectors.len(), 60);
    }
}
