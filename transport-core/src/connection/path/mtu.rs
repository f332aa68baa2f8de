//! How large a datagram may be (RFC 8899): a search upwards from a size that nearly always passes, and the way back when
//! large ones vanish.
//!
//! All sizes are UDP payloads: an IPv4 packet has 28 bytes more, an IPv6 packet 48. There are three levels: what the search
//! found, the base, and the floor, which any path carries. One falls a level when packets above the lower level are lost
//! three times in a row while smaller ones arrive. When that takes probe timeouts, or somebody claims to know better, the size
//! in use is doubted first: probes of just this size tell, and meanwhile, if nothing else passes, data goes at the floor.
//! Only what is acknowledged at full size proves it.
#![forbid(unsafe_code)]

use std::time::Duration;

/// UDP payload that is used from the start: a packet of 1280 bytes over IPv6.
pub(crate) const BASE: u16 = 1232;
/// UDP payload that every path is taken to carry, in bytes.
pub const FLOOR: u16 = 1000;
/// When to look again after a search that ended below the largest candidate.
pub(crate) const SEARCH_AGAIN: Duration = Duration::from_mins(10);
/// Sizes worth trying beside the limit, ascending: IP packets of 1100, 1200, 1280 bytes of either family, and tunnels over
/// Ethernet.
const CANDIDATES: [u16; 14] = [
    1052, 1072, 1152, 1172, BASE, 1252, 1280, 1372, 1392, 1412, 1432, 1452, 1472, 4096,
];
/// The largest anybody may opt in to.
const TOP: u16 = 8952;
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
    /// Events in a row that lost large packets, and the smallest of those.
    large_losses: u8,
    vanished: Option<u16>,
    /// A smaller packet arrived since the last of them.
    small_arrived: bool,
    /// Probe timeouts came since something of full size arrived.
    pressed: bool,
    /// Whether the size in use still passes is asked by probes of it.
    doubt: bool,
    /// What somebody claims to pass.
    claimed: Option<u16>,
}

impl Mtu {
    /// Starts at the base, and stays there without a search, unless the path does not carry it.
    pub(crate) fn new(limit: u16, search: bool) -> Self {
        let limit = if search { limit.clamp(BASE, TOP) } else { BASE };
        Self {
            current: BASE,
            limit,
            failed_at: None,
            probes: 0,
            in_flight: None,
            large_losses: 0,
            vanished: None,
            small_arrived: true,
            pressed: false,
            doubt: false,
            claimed: None,
        }
    }

    /// UDP payload that is searched up to.
    pub(crate) fn limit(&self) -> u16 {
        self.limit
    }

    /// UDP payload that may be used.
    pub(crate) fn current(&self) -> u16 {
        self.current
    }

    /// UDP payload that data should use now: less while it is doubtful that more passes.
    pub(crate) fn for_data(&self) -> u16 {
        if self.doubt && self.pressed {
            FLOOR
        } else {
            self.current
        }
    }

    /// Whether a packet of `size` says something about the size in use; what was sent when that was larger does not.
    pub(crate) fn is_large(&self, size: u16) -> bool {
        size > self.below() && size <= self.current
    }

    /// The next lower level.
    fn below(&self) -> u16 {
        if self.current > BASE { BASE } else { FLOOR }
    }

    /// The size to try now, if any: the one in doubt; what was claimed; the middle of what is left.
    pub(crate) fn probe_due(&self) -> Option<u16> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.doubt {
            return Some(self.current);
        }
        let open = |size: &u16| {
            *size > self.current && *size <= self.limit && self.failed_at.is_none_or(|failed| *size < failed)
        };
        // Most paths take the base, and the full Ethernet size, so these are tried first; only then by halves.
        let first = if self.current < BASE {
            BASE.min(self.limit)
        } else {
            self.limit
        };
        let first = Some(first).filter(|_| self.failed_at.is_none());
        if let Some(likely) = self.claimed.or(first).filter(open) {
            return Some(likely);
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
        self.in_flight.is_none() && self.current < self.limit && self.probe_due().is_none()
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
        if size >= self.current {
            self.trust();
        }
        let larger = size > self.current && size <= self.limit;
        if larger {
            self.current = size;
        }
        larger
    }

    /// A probe was lost. True when datagrams must be smaller now.
    pub(crate) fn probe_lost(&mut self, size: u16) -> bool {
        if self.in_flight != Some(size) {
            return false;
        }
        self.in_flight = None;
        self.probes += 1;
        if self.probes < MAX_PROBES {
            return false;
        }
        self.probes = 0;
        if self.doubt && size == self.current {
            self.narrow();
            return true;
        }
        self.failed_at = Some(size);
        false
    }

    /// A packet arrived.
    pub(crate) fn acked(&mut self, size: u16) {
        match self.vanished {
            Some(vanished) if size >= vanished => self.trust(),
            Some(_) => self.small_arrived = true,
            None => {
                self.small_arrived |= size <= self.below();
                self.pressed &= size <= self.below();
            }
        }
    }

    /// Probe timeouts in a row: something is wrong, with the path or with the size.
    pub(crate) fn press(&mut self) {
        self.pressed = true;
    }

    /// Packets were declared lost together; `size` is that of the smallest large one among them. True when datagrams must
    /// be smaller now.
    ///
    /// Only what small packets survived counts: in a blackout everything is lost, and the path is as wide as before.
    pub(crate) fn lost(&mut self, size: Option<u16>) -> bool {
        let Some(size) = size.filter(|size| self.is_large(*size)) else {
            return false;
        };
        self.vanished = Some(self.vanished.map_or(size, |before| before.min(size)));
        if !std::mem::take(&mut self.small_arrived) {
            return false;
        }
        self.large_losses += 1;
        if self.large_losses >= MAX_LARGE_LOSSES {
            self.narrow();
            return true;
        }
        if self.pressed {
            self.begin_doubt();
        }
        false
    }

    /// Somebody who saw a packet of ours says that only `size` passes (an ICMP message, RFC 8899 §4.6.1). Lies do no harm: a
    /// probe of the size in use asks, and nothing changes unless it is lost again and again. False: of no use.
    pub(crate) fn claim(&mut self, size: u16) -> bool {
        if !(FLOOR..self.current).contains(&size) || self.doubt {
            return false;
        }
        self.claimed = Some(size);
        self.begin_doubt();
        true
    }

    /// What carries the path takes payloads of at most `width` bytes, which is known and need not be searched for; `top` limits a path
    /// of which nothing is known. True when the size in use is another now: what grows is probed first.
    pub(crate) fn bound(&mut self, width: u16, top: u16) -> bool {
        let limit = top.min(width).max(FLOOR);
        if limit == self.limit {
            return false;
        }
        self.limit = limit;
        if self.current <= limit {
            self.search_again();
            return false;
        }
        self.current = limit;
        (self.probes, self.large_losses, self.vanished, self.in_flight) = (0, 0, None, None);
        (self.doubt, self.claimed) = (false, None);
        true
    }

    /// Looks again for what failed.
    pub(crate) fn search_again(&mut self) {
        (self.failed_at, self.probes) = (None, 0);
    }

    /// The path is known to carry little: starts at the floor and searches from there.
    pub(crate) fn start_low(&mut self) {
        self.reset();
        self.current = FLOOR;
    }

    /// Another path: everything starts over.
    pub(crate) fn reset(&mut self) {
        let limit = self.limit;
        *self = Self::new(limit, true);
        (self.limit, self.current) = (limit, self.current.min(limit));
    }

    fn begin_doubt(&mut self) {
        if !self.doubt {
            // A search under way gives way; its probe says nothing any more.
            (self.doubt, self.probes, self.in_flight) = (true, 0, None);
        }
    }

    /// Full size arrived.
    fn trust(&mut self) {
        (self.doubt, self.pressed, self.claimed) = (false, false, None);
        (self.large_losses, self.vanished, self.small_arrived) = (0, None, false);
    }

    /// The size in use does not pass: what failed is not tried again before the next search. The base must prove itself anew.
    fn narrow(&mut self) {
        self.failed_at = Some(self.current);
        self.current = self.below();
        (self.probes, self.large_losses, self.vanished) = (0, 0, None);
        self.in_flight = None;
        self.doubt = self.current > FLOOR;
        self.pressed &= self.doubt;
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
            let before = mtu.current();
            mtu.probe_sent(size);
            assert_eq!(mtu.probe_due(), None);
            if size <= width {
                assert_eq!(mtu.probe_acked(size), size > before);
            } else {
                assert!(!mtu.probe_lost(size));
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

    /// Lost packets of the size in use, while small ones arrive, until that has a consequence.
    fn starve(mtu: &mut Mtu) -> u32 {
        let lost_in_vain = (0..100).take_while(|_| {
            mtu.acked(100);
            !mtu.lost(Some(mtu.current()))
        });
        lost_in_vain.count() as u32 + 1
    }

    #[test]
    fn a_black_hole_leads_back_to_the_base() {
        let mut mtu = Mtu::new(1472, true);
        search(&mut mtu, 1472);
        assert_eq!(starve(&mut mtu), 3);
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
            assert!(!mtu.lost(Some(1472)), "nothing small passed meanwhile");
        }
        for _ in 0..10 {
            mtu.acked(100);
            mtu.acked(1472);
            assert!(!mtu.lost(Some(1472)), "large ones pass too");
        }
        assert_eq!(mtu.current(), 1472);
    }

    #[test]
    fn below_the_base_lies_the_floor_and_what_is_between_is_found() {
        for (width, found) in [
            (1231, 1172),
            (1172, 1172),
            (1160, 1152),
            (1072, 1072),
            (1060, 1052),
            (1000, FLOOR),
        ] {
            let mut mtu = Mtu::new(1472, true);
            assert_eq!(starve(&mut mtu), 3);
            assert_eq!((mtu.current(), mtu.for_data()), (FLOOR, FLOOR));
            assert!(!mtu.lost(Some(FLOOR)), "there is nothing below");
            search(&mut mtu, width);
            assert_eq!(mtu.current(), found, "{width}");
            assert!(mtu.is_settled_below());
        }
        // Without a search as well, and it comes back when it is looked for again.
        let mut mtu = Mtu::new(1472, false);
        starve(&mut mtu);
        mtu.search_again();
        search(&mut mtu, 1500);
        assert_eq!((mtu.current(), mtu.probe_due()), (BASE, None));
    }

    #[test]
    fn after_a_long_outage_full_size_is_doubted_and_the_first_probe_clears_it() {
        let mut mtu = Mtu::new(1472, true);
        search(&mut mtu, 1472);
        mtu.acked(900);
        mtu.press();
        mtu.lost(Some(1472));
        assert_eq!(
            (mtu.for_data(), mtu.current(), mtu.probe_due()),
            (FLOOR, 1472, Some(1472))
        );
        mtu.probe_sent(1472);
        assert!(!mtu.probe_acked(1472));
        assert_eq!((mtu.for_data(), mtu.probe_due()), (1472, None));
    }

    #[test]
    fn doubt_that_is_confirmed_leads_down_level_by_level() {
        let mut mtu = Mtu::new(1472, true);
        search(&mut mtu, 1472);
        mtu.acked(900);
        mtu.press();
        mtu.lost(Some(1400));
        for level in [1472, BASE] {
            for lost in 1..=3 {
                assert_eq!((mtu.for_data(), mtu.probe_due()), (FLOOR, Some(level)));
                mtu.probe_sent(level);
                assert_eq!(mtu.probe_lost(level), lost == 3);
            }
        }
        search(&mut mtu, 1100);
        assert_eq!((mtu.current(), mtu.for_data()), (1072, 1072));
    }

    #[test]
    fn a_packet_between_the_levels_does_not_prove_full_size() {
        let mut mtu = Mtu::new(1472, true);
        search(&mut mtu, 1472);
        for expected in [false, false, false, true] {
            mtu.acked(1300);
            assert_eq!(mtu.lost(Some(1472)), expected);
        }
    }

    #[test]
    fn a_claim_only_starts_a_probe() {
        let mut mtu = Mtu::new(1472, true);
        search(&mut mtu, 1472);
        for useless in [0, 68, 576, FLOOR - 1, 1472, 1500, u16::MAX] {
            assert!(!mtu.claim(useless), "{useless}");
        }
        assert_eq!(mtu.probe_due(), None);
        // A lie.
        assert!(mtu.claim(1100) && !mtu.claim(1200));
        assert_eq!((mtu.for_data(), mtu.probe_due()), (1472, Some(1472)));
        mtu.probe_sent(1472);
        mtu.probe_acked(1472);
        assert_eq!((mtu.current(), mtu.probe_due()), (1472, None));
        // The truth: tried first after the base.
        assert!(mtu.claim(1390));
        for _ in 0..3 {
            mtu.probe_sent(1472);
            mtu.probe_lost(1472);
        }
        mtu.probe_sent(BASE);
        mtu.claimed = Some(1390);
        mtu.in_flight = None;
        mtu.doubt = false;
        assert_eq!(search(&mut mtu, 1390).first(), Some(&1390));
    }

    #[test]
    fn a_width_that_is_known_is_used_at_once_and_never_passed() {
        let top = Mtu::new(1472, true);
        for width in [1000, 1150, 1205, 1232, 1340] {
            let mut mtu = top.clone();
            assert_eq!(mtu.bound(width, 1472), width < BASE, "{width}");
            assert_eq!(mtu.current(), width.min(BASE));
            assert!(!mtu.bound(width, 1472));
            let tried = search(&mut mtu, 1500);
            assert!(tried.iter().all(|tried| *tried <= width), "{tried:?} of {width}");
            assert_eq!(mtu.current(), width);
            mtu.reset();
            assert_eq!(
                mtu.current(),
                width.min(BASE),
                "another address of the same carrier"
            );
        }
        let mut mtu = top.clone();
        mtu.bound(300, 1472);
        assert_eq!(mtu.current(), FLOOR, "less is refused elsewhere");
    }

    #[test]
    fn a_path_follows_its_width_down_at_once_and_up_by_probes() {
        let top = Mtu::new(1472, true);
        let mut mtu = top.clone();
        search(&mut mtu, 1472);
        mtu.probe_sent(1472);
        assert!(mtu.bound(1150, 1472));
        assert_eq!(
            (mtu.current(), mtu.for_data(), mtu.probe_due()),
            (1150, 1150, None)
        );
        // What was under way says nothing any more.
        assert!(!mtu.probe_acked(1472) && !mtu.probe_lost(1472));
        assert_eq!(mtu.current(), 1150);
        // Nor does the loss of what was sent before anybody knew.
        for _ in 0..10 {
            mtu.acked(100);
            assert!(!mtu.lost(Some(1472)));
        }
        assert!(!mtu.bound(1190, 1472));
        assert_eq!(search(&mut mtu, 1500), [1190]);
        assert!(!mtu.bound(u16::MAX, 1472));
        assert_eq!(search(&mut mtu, 1500), [BASE, 1472]);
    }

    #[test]
    fn jumbo_frames_are_for_those_who_ask() {
        let mut mtu = Mtu::new(8952, true);
        search(&mut mtu, 9000);
        assert_eq!(mtu.current(), 8952);
        let mut mtu = Mtu::new(8952, true);
        search(&mut mtu, 4500);
        assert_eq!(mtu.current(), 4096);
        let mut mtu = Mtu::new(u16::MAX, true);
        mtu.start_low();
        assert_eq!(search(&mut mtu, 9000).first(), Some(&BASE));
    }
}
