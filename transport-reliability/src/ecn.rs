//! Marks instead of drops (RFC 9000 §13.4): counts what arrived marked, and finds out whether the path and the peer
//! tell the truth about what was sent (§A.4).

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

/// Packets that test a path; then the first report is waited for.
const TEST_PACKETS: u64 = 10;

/// Packets by the codepoint they arrived with.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EcnCounts {
    /// With ECT(0).
    pub ect0: u64,
    /// With ECT(1).
    pub ect1: u64,
    /// With CE.
    pub ce: u64,
}

impl EcnCounts {
    /// Whether nothing arrived with any.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.ect0 = self.ect0.saturating_add(more.ect0);
        self.ect1 = self.ect1.saturating_add(more.ect1);
        self.ce = self.ce.saturating_add(more.ce);
    }
}

/// What is known of a path's treatment of ECT(0).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum EcnState {
    /// The first packets are marked, to see what becomes of them.
    #[default]
    Testing,
    /// They are under way; no more are marked until one is reported.
    Unknown,
    /// Marks arrive and are reported.
    Capable,
    /// They do not: nothing is marked any more on this path.
    Failed,
}

/// ECN of one path, as its sender.
#[derive(Default, Debug)]
pub(crate) struct Marking {
    state: EcnState,
    /// Packets that left with ECT(0), ever.
    sent: u64,
    /// What the peer reported last.
    reported: EcnCounts,
    /// Of the test: packets sent, lost, and reported as CE.
    tested: u64,
    test_lost: u64,
}

impl Marking {
    pub(crate) fn state(&self) -> EcnState {
        self.state
    }

    /// What the peer reported last.
    pub(crate) fn reported(&self) -> EcnCounts {
        self.reported
    }

    /// Whether the next packets carry ECT(0).
    pub(crate) fn is_on(&self) -> bool {
        match self.state {
            EcnState::Testing => self.tested < TEST_PACKETS,
            EcnState::Capable => true,
            EcnState::Unknown | EcnState::Failed => false,
        }
    }

    /// A packet left with ECT(0).
    pub(crate) fn on_sent(&mut self) {
        self.sent += 1;
        self.tested = self.tested.saturating_add(1);
        if self.state == EcnState::Testing && self.tested >= TEST_PACKETS {
            self.state = EcnState::Unknown;
        }
    }

    /// A marked packet was lost. If the whole test is, the path drops what is marked.
    pub(crate) fn on_lost(&mut self) {
        if matches!(self.state, EcnState::Testing | EcnState::Unknown) {
            self.test_lost += 1;
            if self.test_lost >= self.tested.max(1) {
                self.state = EcnState::Failed;
            }
        }
    }

    /// Nothing is heard: the test shall not hold up the probes.
    pub(crate) fn on_probe_timeout(&mut self) {
        if self.state == EcnState::Testing && self.tested > 0 {
            self.state = EcnState::Unknown;
        }
    }

    /// An ACK that raised the largest acknowledged: `newly` packets that had left marked are acknowledged by it.
    /// Gives how many more arrived with CE; none from a peer or a path that lies.
    pub(crate) fn on_ack(&mut self, newly: u64, counts: Option<EcnCounts>) -> u64 {
        if self.state == EcnState::Failed || (newly == 0 && counts.is_none()) {
            return 0;
        }
        let Some(more) = counts.and_then(|counts| self.increase(newly, counts)) else {
            self.state = EcnState::Failed;
            return 0;
        };
        if let Some(counts) = counts {
            self.reported = counts;
        }
        if newly > 0 && self.state != EcnState::Capable {
            // Something on the way that marks whatever passes says nothing about congestion.
            let all_marked = self.reported.ect0 == 0 && self.reported.ce >= TEST_PACKETS;
            if all_marked {
                self.state = EcnState::Failed;
                return 0;
            }
            if self.reported.ect0 > 0 || self.tested >= TEST_PACKETS {
                self.state = EcnState::Capable;
            }
        }
        more.ce
    }

    /// What was counted since the last report, unless the counts cannot be true (§13.4.2.1).
    fn increase(&self, newly: u64, counts: EcnCounts) -> Option<EcnCounts> {
        let more = EcnCounts {
            ect0: counts.ect0.checked_sub(self.reported.ect0)?,
            ect1: counts.ect1.checked_sub(self.reported.ect1)?,
            ce: counts.ce.checked_sub(self.reported.ce)?,
        };
        let marked = more.ect0.checked_add(more.ce)?;
        let ever = counts.ect0.checked_add(counts.ce)?;
        // Nothing ever left with ECT(1), and no more can have arrived than left.
        (more.ect1 == 0 && marked >= newly && ever <= self.sent).then_some(more)
    }

    /// Another path: it is tested anew; the peer's counts go on.
    pub(crate) fn restart(&mut self) {
        self.state = EcnState::Testing;
        (self.tested, self.test_lost) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { ect0, ect1, ce })
    }

    fn tested() -> Marking {
        let mut marking = Marking::default();
        while marking.is_on() {
            marking.on_sent();
        }
        assert_eq!((marking.sent, marking.state()), (10, EcnState::Unknown));
        marking
    }

    #[test]
    fn ten_packets_test_a_path_and_a_true_report_opens_it() {
        let mut marking = tested();
        assert_eq!(marking.on_ack(4, counts(4, 0, 0)), 0);
        assert_eq!((marking.state(), marking.is_on()), (EcnState::Capable, true));
        assert_eq!(marking.on_ack(6, counts(5, 0, 5)), 5, "new marks");
        assert_eq!(marking.on_ack(0, counts(5, 0, 5)), 0);
    }

    #[test]
    fn counts_that_cannot_be_true_end_marking() {
        for (newly, lie) in [
            (4, None),
            (4, counts(3, 0, 0)),
            (4, counts(3, 1, 0)),
            (4, counts(0, 0, 0)),
            (4, counts(9, 0, 2)),
            (4, counts(u64::MAX, 0, u64::MAX)),
            (1, counts(0, 0, 1 << 60)),
        ] {
            let mut marking = tested();
            assert_eq!(marking.on_ack(newly, lie), 0, "{lie:?}");
            assert_eq!((marking.state(), marking.is_on()), (EcnState::Failed, false));
            assert_eq!(marking.on_ack(1, counts(5, 0, 5)), 0, "and for good");
        }
        let mut marking = tested();
        marking.on_ack(5, counts(4, 0, 1));
        marking.on_ack(1, counts(6, 0, 0));
        assert_eq!(marking.state(), EcnState::Failed, "CE never falls");
    }

    #[test]
    fn a_path_that_drops_what_is_marked_is_left_alone() {
        let mut marking = tested();
        for lost in 0..10 {
            assert_ne!(marking.state(), EcnState::Failed, "{lost}");
            marking.on_lost();
        }
        assert_eq!(marking.state(), EcnState::Failed);
        let mut marking = Marking::default();
        marking.on_sent();
        marking.on_probe_timeout();
        assert!(!marking.is_on(), "probes leave unmarked");
        assert_eq!(marking.on_ack(1, counts(1, 0, 0)), 0);
        assert!(marking.is_on(), "it only took long");
    }

    #[test]
    fn a_box_that_marks_everything_is_no_congestion() {
        let mut marking = tested();
        assert_eq!(marking.on_ack(10, counts(0, 0, 10)), 0);
        assert_eq!(marking.state(), EcnState::Failed);
    }

    #[test]
    fn another_path_is_tested_anew() {
        let mut marking = tested();
        marking.on_ack(4, None);
        marking.restart();
        assert!(marking.is_on());
        marking.on_sent();
        assert_eq!(
            marking.on_ack(1, counts(7, 0, 0)),
            0,
            "late reports of the other path"
        );
        assert_eq!(marking.state(), EcnState::Capable);
    }
}
