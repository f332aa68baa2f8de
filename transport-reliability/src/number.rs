//! Packet numbers: their truncated form on the wire, and the numbers left out on purpose.

/// The largest packet number (RFC 9000 §12.3).
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// A packet number given out by [`Recovery::next_number`](crate::Recovery::next_number); it rises within a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PacketNumber(u64);

impl PacketNumber {
    /// The full 62-bit number: the AEAD nonce and the value an ACK names.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Bytes needed on the wire so that the peer can recover `number` (RFC 9000 §A.2): 2 to 4.
///
/// One byte would do while little is under way, but a late packet that 128 others overtook would then be read as another,
/// not open, and count as a forgery.
pub(crate) fn wire_len(number: u64, largest_acked: Option<u64>) -> usize {
    let unacked = match largest_acked {
        Some(acked) => number.saturating_sub(acked),
        None => number.saturating_add(1),
    };
    // Twice the unacknowledged range must fit: ceil(log2(unacked)) + 1 bits.
    let bits = u64::BITS - unacked.saturating_sub(1).leading_zeros() + 1;
    (bits.div_ceil(8) as usize).clamp(2, 4)
}

/// The full number behind `len` truncated bytes (RFC 9000 §A.3): the candidate closest to the expected one.
pub(crate) fn expand(truncated: u32, len: usize, largest_received: Option<u64>) -> u64 {
    let expected = largest_received
        .map_or(0, |largest| largest.saturating_add(1))
        .min(MAX);
    let window = 1_u64 << (8 * len.clamp(1, 4));
    let half = window / 2;
    let candidate = (expected & !(window - 1)) | (u64::from(truncated) & (window - 1));
    if candidate.saturating_add(half) <= expected && candidate < MAX + 1 - window {
        candidate + window
    } else if candidate > expected.saturating_add(half) && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

/// Gives out numbers: a random start, and now and then a hole that an honest peer can never acknowledge.
#[derive(Debug)]
pub(crate) struct NumberSource {
    next: u64,
    until_skip: u64,
    random: SplitMix,
}

impl NumberSource {
    /// `seed` decides the start in `[0, 2^16)` and every hole.
    pub(crate) fn new(seed: u64, initial_window: u64) -> Self {
        let mut random = SplitMix(seed);
        let next = random.below(1 << 16);
        let until_skip = draw_period(&mut random, initial_window, initial_window);
        Self {
            next,
            until_skip,
            random,
        }
    }

    /// The next number; `initial` and `window` are congestion windows in packets.
    ///
    /// The distance between holes grows with the window, so that an optimistic peer meets one in every
    /// other window, and an honest peer pays one early ACK for it.
    /// `window` gives the initial and the present window, packets.
    pub(crate) fn take(&mut self, window: impl FnOnce() -> (u64, u64)) -> PacketNumber {
        if self.until_skip == 0 {
            self.next += 1;
            let (initial, window) = window();
            self.until_skip = draw_period(&mut self.random, initial, window);
        }
        self.until_skip -= 1;
        let number = PacketNumber(self.next);
        self.next += 1;
        number
    }

    /// The number the next call gives out, or the hole before it.
    pub(crate) fn upcoming(&self) -> u64 {
        self.next
    }
}

/// A period in `[2·initial, 2·window]`; while the window is the initial one, a little beyond, so that it stays a surprise.
fn draw_period(random: &mut SplitMix, initial: u64, window: u64) -> u64 {
    let low = 2 * initial.max(1);
    let high = (2 * window).max(low + initial.max(1));
    low + random.below(high - low + 1)
}

/// `SplitMix64`: enough to surprise a peer that sees neither seed nor state; not a source of secrets.
#[derive(Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let wide = u128::from(z ^ (z >> 31)) * u128::from(bound);
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_9000() {
        // §A.2: 0xac5c02 with 0xabe8b3 acknowledged needs 16 bits; 0xace8fe needs 18.
        assert_eq!(wire_len(0x00ac_5c02, Some(0x00ab_e8b3)), 2);
        assert_eq!(wire_len(0x00ac_e8fe, Some(0x00ab_e8b3)), 3);
        // §A.3: 0x9b32 after 0xa82f30ea is 0xa82f9b32.
        assert_eq!(expand(0x9b32, 2, Some(0xa82f_30ea)), 0xa82f_9b32);
    }

    #[test]
    fn lengths_at_their_edges() {
        assert_eq!(wire_len(0, None), 2);
        assert_eq!(wire_len(127, None), 2);
        assert_eq!(wire_len(128, None), 2);
        assert_eq!(wire_len(65_535, None), 3);
        assert_eq!(wire_len(1 << 40, Some(0)), 4);
        assert_eq!(expand(u32::MAX, 9, None), u64::from(u32::MAX));
        assert_eq!(expand(0, 1, Some(MAX)), MAX - 255);
    }

    #[test]
    fn a_packet_that_thousands_overtook_is_still_read() {
        let len = wire_len(46_122, Some(46_100));
        assert_eq!(expand(46_122, len, Some(46_122 + 32_000)), 46_122);
    }

    #[test]
    fn what_is_truncated_expands_again() {
        arbtest::arbtest(|u| {
            let acked = u.arbitrary::<Option<u64>>()?.map(|n| n % (MAX / 2));
            let number = acked.map_or(0, |n| n + 1) + u.int_in_range(0..=(1_u64 << 30))?;
            let len = wire_len(number, acked);
            let truncated = (number & ((1 << (8 * len)) - 1)) as u32;
            // The peer has received anything between what it acknowledged and the packet just before.
            let largest = match acked {
                Some(acked) => Some(u.int_in_range(acked..=number.saturating_sub(1).max(acked))?),
                None if number > 0 && u.arbitrary()? => Some(u.int_in_range(0..=number - 1)?),
                None => None,
            };
            assert_eq!(expand(truncated, len, largest), number);
            Ok(())
        });
    }

    #[test]
    fn numbers_rise_with_holes_of_the_promised_period() {
        let mut starts = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let mut source = NumberSource::new(seed, 10);
            let mut last = source.take(|| (10, 100)).get();
            assert!(last < 1 << 16);
            starts.insert(last);
            let (mut run, mut periods) = (1, Vec::new());
            for _ in 0..5_000 {
                let number = source.take(|| (10, 100)).get();
                if number == last + 1 {
                    run += 1;
                } else {
                    assert_eq!(number, last + 2, "holes are single");
                    periods.push(run);
                    run = 1;
                }
                last = number;
            }
            assert!(
                (20..=30).contains(&periods[0]),
                "the first period is drawn from the initial window"
            );
            assert!(periods[1..].iter().all(|p| (20..=200).contains(p)), "{periods:?}");
            assert!(periods.windows(2).any(|p| p[0] != p[1]), "redrawn each time");
        }
        assert!(starts.len() > 60, "starts are spread");
    }
}
