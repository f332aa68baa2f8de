//! How large a datagram may be: a search upwards from a size that always passes (RFC 8899), and the way back when large
//! ones vanish.
#![forbid(unsafe_code)]

use std::time::Duration;

/// UDP payload that is used from the start.
pub(crate) const BASE: u16 = 1232;
/// When to look again after a search that ended below the largest candidate.
pub(crate) const SEARCH_AGAIN: Duration = Duration::from_mins(10);
/// Sizes worth trying, ascending.
const CANDIDATES: [u16; 6] = [1280, 1372, 1392, 1412, 1432, 1452];
/// The largest, without opting in to more.
const TOP: u16 = 1472;
/// Probes of one size before it counts as too large.
const MAX_PROBES: u8 = 3;
/// Loss events that hit large packets only, in a row, before the path counts as narrowed.
const MAX_LARGE_LOSSES: u8 = 3;

/// The search and its result.
#[derive(Clone, Debug)]
pub(crate) struct Mtu {
    current: u16,
    /// Nothing larger is tried: by configuration or by the peer.
    limit: u16,
    /// Smallest size that failed, in this search.
    failed_at: Option<u16>,
    probes: u8,
    /// Size of the probe on its way.
    in_flight: Option<u16>,
    enabled: bool,
    large_losses: u8,
    /// A small packet arrived since the last loss event that hit large ones.
    small_arrived: bool,
}

impl Mtu {
    /// Starts at the base.
    pub(crate) fn new(limit: u16, search: bool) -> Self {
        let limit = limit.clamp(BASE, TOP);
        Self {
            current: BASE,
            limit,
            failed_at: None,
            probes: 0,
            in_flight: None,
            enabled: search,
            large_losses: 0,
            small_arrived: true,
        }
    }

    /// UDP payload that may be used.
    pub(crate) fn current(&self) -> u16 {
        self.current
    }

    /// The size to try now, if any: the middle of what is left.
    pub(crate) fn probe_due(&self) -> Option<u16> {
        if !self.enabled || self.in_flight.is_some() {
            return None;
        }
        let open = |size: &u16| {
            *size > self.current && *size <= self.limit && self.failed_at.is_none_or(|failed| *size < failed)
        };
        // Most paths take the full Ethernet size, so it is tried first; only then by halves.
        let top = self.limit;
        if open(&top) && self.failed_at.is_none() {
            return Some(top);
        }
        let left = CANDIDATES.iter().filter(|size| open(size)).count();
        CANDIDATES
            .iter()
            .filter(|size| open(size))
            .nth(left.saturating_sub(1) / 2)
            .copied()
    }

    /// Whether the search is over without having reached the limit.
    pub(crate) fn is_settled_below(&self) -> bool {
        self.enabled && self.in_flight.is_none() && self.current < self.limit && self.probe_due().is_none()
    }

    /// A probe left.
    pub(crate) fn probe_sent(&mut self, size: u16) {
        self.in_flight = Some(size);
    }

    /// A probe arrived. True when larger datagrams may be sent now.
    pub(crate) fn probe_acked(&mut self, size: u16) -> bool {
        if self.in_flight == Some(size) {
            self.in_flight = None;
        }
        self.probes = 0;
        let larger = self.enabled && size > self.current && size <= self.limit;
        if larger {
            self.current = size;
        }
        larger
    }

    /// A probe was lost.
    pub(crate) fn probe_lost(&mut self, size: u16) {
        if self.in_flight != Some(size) {
            return;
        }
        self.in_flight = None;
        self.probes += 1;
        if self.probes >= MAX_PROBES {
            self.probes = 0;
            self.failed_at = Some(size);
        }
    }

    /// A packet that was no probe arrived.
    pub(crate) fn acked(&mut self, size: u16) {
        if size > BASE {
            self.large_losses = 0;
        }
        self.small_arrived |= size <= BASE;
    }

    /// Packets were declared lost together; `large` tells that some were above the base. True when datagrams must be
    /// smaller now.
    ///
    /// Only what small packets survived counts: in a blackout everything is lost, and the path is as wide as before.
    pub(crate) fn lost(&mut self, large: bool) -> bool {
        if !large || self.current == BASE || !std::mem::take(&mut self.small_arrived) {
            return false;
        }
        self.large_losses += 1;
        let narrowed = self.large_losses >= MAX_LARGE_LOSSES;
        if narrowed {
            // The size that vanished is not tried again before the next search.
            (self.failed_at, self.current) = (Some(self.current), BASE);
            (self.probes, self.large_losses) = (0, 0);
        }
        narrowed
    }

    /// Looks again for what failed.
    pub(crate) fn search_again(&mut self) {
        (self.failed_at, self.probes) = (None, 0);
    }

    /// Another path: everything starts over.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.limit, self.enabled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a path of `width`; the sizes tried.
    fn search(mtu: &mut Mtu, width: u16) -> Vec<u16> {
        let mut tried = Vec::new();
        while let Some(size) = mtu.probe_due() {
            tried.push(size);
            mtu.probe_sent(size);
            assert_eq!(mtu.probe_due(), None);
            if size <= width {
                assert!(mtu.probe_acked(size));
            } else {
                mtu.probe_lost(size);
            }
        }
        tried
    }

    #[test]
    fn finds_the_largest_that_passes() {
        for (width, found) in [
            (1500, 1472),
            (1472, 1472),
            (1471, 1452),
            (1420, 1412),
            (1300, 1280),
            (1240, 1232),
        ] {
            let mut mtu = Mtu::new(1472, true);
            let tried = search(&mut mtu, width);
            assert_eq!(mtu.current(), found, "{width}: {tried:?}");
            assert!(tried.len() <= 12, "{tried:?}");
            assert_eq!(mtu.is_settled_below(), found != 1472);
        }
        let mut mtu = Mtu::new(1400, true);
        search(&mut mtu, 1500);
        assert_eq!(mtu.current(), 1400);
        assert_eq!(Mtu::new(1472, false).probe_due(), None);
    }

    #[test]
    fn a_black_hole_leads_back_to_the_base() {
        let mut mtu = Mtu::new(1472, true);
        search(&mut mtu, 1472);
        for expected in [false, false, true] {
            mtu.acked(100);
            assert_eq!(mtu.lost(true), expected);
        }
        assert_eq!(mtu.current(), BASE);
        search(&mut mtu, 1452);
        assert_eq!(mtu.current(), 1452);
        mtu.search_again();
        search(&mut mtu, 1472);
        assert_eq!(mtu.current(), 1472);
    }

    #[test]
    fn a_blackout_or_plain_loss_does_not() {
        let mut mtu = Mtu::new(1472, true);
        search(&mut mtu, 1472);
        mtu.acked(100);
        for _ in 0..10 {
            assert!(!mtu.lost(true), "nothing small passed meanwhile");
        }
        for _ in 0..10 {
            mtu.acked(100);
            mtu.acked(1472);
            assert!(!mtu.lost(true), "large ones pass too");
        }
        assert_eq!(mtu.current(), 1472);
    }
}
