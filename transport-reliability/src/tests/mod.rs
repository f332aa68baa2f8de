//! The façade: one path driven by hand.

mod ecn;
mod frequency;
mod loss;
mod properties;
mod window;

use super::*;

const MS: Duration = Duration::from_millis(1);
const MDS: u16 = 1200;

/// A path and a clock.
struct Path {
    recovery: Recovery<u64>,
    now: Instant,
    out: Outcome<u64>,
    /// What the peer says of codepoints, and whether packets carry one.
    ecn: Option<EcnCounts>,
    ect: bool,
}

impl Path {
    /// RTT already known: `rtt_ms`.
    fn new(rtt_ms: u32) -> Self {
        let mut path = Self::fresh();
        path.recovery.seed_rtt(rtt_ms * MS);
        path
    }

    fn fresh() -> Self {
        Self::with(Algorithm::Cubic)
    }

    fn with(algorithm: Algorithm) -> Self {
        let config = Config {
            algorithm,
            max_datagram: MDS,
            seed: 7,
            ..Config::default()
        };
        Self {
            recovery: Recovery::new(config),
            now: start(),
            out: Outcome::default(),
            ecn: None,
            ect: false,
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn send_as(&mut self, size: u16, eliciting: bool, kind: SentKind) -> u64 {
        let number = self.recovery.next_number();
        let content = number.get();
        self.recovery.sent(
            self.now,
            Sent {
                number,
                size,
                eliciting,
                in_flight: eliciting,
                kind,
                ect: self.ect,
                content,
            },
        );
        content
    }

    fn send(&mut self) -> u64 {
        self.send_as(MDS, true, SentKind::Normal)
    }

    fn send_many(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.send()).collect()
    }

    /// Acknowledges exactly `numbers`; empties the outcome first.
    fn ack(&mut self, numbers: &[u64]) -> Result<(), AckViolation> {
        self.ack_delayed(numbers, Duration::ZERO)
    }

    fn ack_delayed(&mut self, numbers: &[u64], delay: Duration) -> Result<(), AckViolation> {
        self.out.clear();
        let ranges = ranges_of(numbers);
        let ack = AckInput {
            largest: ranges.first().map_or(0, |range| range.last),
            delay,
            ranges: &ranges,
            ecn: self.ecn,
        };
        self.recovery.on_ack(self.now, ack, &mut self.out)
    }

    /// Sleeps until the next deadline and lets it happen.
    fn timeout(&mut self) -> Why {
        let (at, why) = self.recovery.next_timeout().expect("a deadline");
        self.now = self.now.max(at);
        self.out.clear();
        self.recovery.on_timeout(self.now, &mut self.out);
        why
    }

    fn cwnd(&self) -> u64 {
        self.recovery.stats().cwnd
    }

    fn in_flight(&self) -> u64 {
        self.recovery.stats().in_flight
    }
}

/// Descending ranges of a set of numbers.
fn ranges_of(numbers: &[u64]) -> Vec<AckRange> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let mut ranges: Vec<AckRange> = Vec::new();
    for number in sorted {
        match ranges.last_mut() {
            Some(range) if range.first == number + 1 => range.first = number,
            _ => ranges.push(AckRange {
                first: number,
                last: number,
            }),
        }
    }
    ranges
}

#[test]
fn a_path_starts_with_the_initial_window_unpaced() {
    let mut path = Path::fresh();
    assert_eq!(path.recovery.permit(path.now), Permit::Full { bytes: 12_000 });
    let sent = path.send_many(10);
    assert_eq!(path.recovery.permit(path.now), Permit::AcksOnly);
    assert_eq!(path.in_flight(), 12_000);
    path.wait(50 * MS);
    assert_eq!(path.ack(&sent), Ok(()));
    assert_eq!(path.out.acked, sent);
    assert!(path.out.rtt_updated && path.out.lost.is_empty());
    assert_eq!((path.cwnd(), path.in_flight()), (24_000, 0), "slow start doubles");
    let stats = path.recovery.stats();
    assert_eq!((stats.srtt, stats.pacing_bytes_per_s), (50 * MS, 960_000));
}

#[test]
fn ack_delay_is_capped_by_the_promise() {
    let mut path = Path::new(100);
    path.recovery.set_peer_max_ack_delay(10 * MS);
    let sent = path.send_many(1);
    path.wait(180 * MS);
    path.ack_delayed(&sent, 80 * MS).expect("honest");
    // 180 − 10 = 170 ms: srtt = (7·100 + 170)/8.
    assert_eq!(path.recovery.rtt().smoothed(), Duration::from_micros(108_750));
    assert_eq!(path.recovery.rtt().min(), 100 * MS);
}

#[test]
fn acknowledgements_of_nothing_sent_change_nothing() {
    let mut path = Path::new(100);
    let sent = path.send_many(60);
    let hole = sent
        .windows(2)
        .find(|w| w[1] > w[0] + 1)
        .expect("a hole in sixty numbers")[0]
        + 1;
    let before = path.recovery.stats();
    assert_eq!(path.ack(&[sent[0], sent[59] + 2]), Err(AckViolation::Unsent));
    assert_eq!(path.ack(&[hole]), Err(AckViolation::Skipped));
    let optimist: Vec<u64> = (sent[0]..=sent[59]).collect();
    assert_eq!(path.ack(&optimist), Err(AckViolation::Skipped));
    assert_eq!(path.ack(&[]), Err(AckViolation::Malformed));
    assert_eq!(path.recovery.stats(), before);
    assert!(path.out.acked.is_empty());
    assert_eq!(path.ack(&sent), Ok(()));
    assert_eq!(path.ack(&optimist), Err(AckViolation::Skipped), "nor afterwards");
}

#[test]
fn a_number_taken_and_not_sent_is_a_hole() {
    let mut path = Path::new(100);
    let unsent = path.recovery.next_number().get();
    assert_eq!(path.ack(&[unsent]), Err(AckViolation::Unsent));
    let sent = path.send();
    assert_eq!(path.ack(&[unsent]), Err(AckViolation::Skipped));
    assert_eq!(path.ack(&[sent]), Ok(()));
}

#[test]
fn ack_only_packets_are_neither_in_flight_nor_lost() {
    let mut path = Path::new(100);
    let data = path.send();
    let acks: Vec<u64> = (0..5)
        .map(|_| path.send_as(50, false, SentKind::Normal))
        .collect();
    assert_eq!(path.in_flight(), 1200);
    path.wait(100 * MS);
    // They acknowledge no content, but they show that what came before them is lost.
    path.ack(&acks).expect("honest");
    assert!(path.out.acked.is_empty());
    assert_eq!(path.out.lost, [data]);
    assert!(!path.out.rtt_updated, "nothing acknowledged had to be");
    assert_eq!(path.recovery.next_timeout(), None);
}

#[test]
fn received_packets_are_reported_until_the_report_is_acknowledged() {
    let mut path = Path::new(100);
    let listed = |path: &Path| -> Vec<(u64, u64)> {
        let acks = path
            .recovery
            .acks_available()
            .or(path.recovery.acks_due(path.now));
        acks.map(|acks| acks.ranges().map(|r| (r.first, r.last)).collect())
            .unwrap_or_default()
    };
    let receive = |path: &mut Path, number| {
        let fresh = path.recovery.check(number).expect("new");
        path.recovery.received(fresh, path.now, true);
    };
    receive(&mut path, 10);
    assert!(
        path.recovery.acks_due(path.now).is_some(),
        "the first one at once"
    );
    let number = path.recovery.next_number();
    path.recovery.acks_sent(path.now);
    assert_eq!((listed(&path), path.recovery.next_timeout()), (vec![], None));
    let content = number.get();
    let kind = SentKind::Normal;
    path.recovery.sent(
        path.now,
        Sent {
            number,
            size: 60,
            eliciting: true,
            in_flight: true,
            kind,
            ect: false,
            content,
        },
    );
    receive(&mut path, 12);
    assert_eq!(listed(&path), [(12, 12), (10, 10)]);
    assert!(
        path.recovery.acks_due(path.now).is_some(),
        "a gap is reported at once"
    );
    path.ack(&[content]).expect("honest");
    assert_eq!(listed(&path), [(12, 12)]);
    path.recovery.acks_sent(path.now);
    receive(&mut path, 13);
    assert!(path.recovery.acks_due(path.now).is_none());
    assert_eq!(
        path.recovery.next_timeout(),
        Some((path.now + 25 * MS, Why::AckDelay))
    );
    assert_eq!(path.recovery.expand(14, 1), 14);
    assert_eq!(path.recovery.largest_received(), Some(13));
    assert_eq!(path.recovery.check(12).expect_err("seen"), Replay::Duplicate);
}

#[test]
fn numbers_need_few_bytes_once_acknowledged() {
    let mut path = Path::new(100);
    let sent = path.send_many(3);
    path.ack(&sent).expect("honest");
    let next = path.recovery.next_number();
    assert_eq!(path.recovery.number_len(next), 2);
}
