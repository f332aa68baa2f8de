//! Random programs: whatever is sent, acknowledged, lost, late or timed out, the laws hold.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What the program knows of the packets it sent.
#[derive(Default)]
struct Model {
    open: BTreeMap<u64, u64>,
    lost: BTreeSet<u64>,
    spurious: u64,
}

impl Model {
    fn take(&mut self, path: &mut Path) {
        for number in path.out.acked.drain(..) {
            assert!(self.open.remove(&number).is_some(), "{number} came back twice");
        }
        for number in path.out.lost.drain(..) {
            assert!(self.open.remove(&number).is_some(), "{number} came back twice");
            self.lost.insert(number);
        }
        self.spurious += u64::from(path.out.spurious);
        path.out.clear();
    }

    fn check(&self, path: &Path) {
        let stats = path.recovery.stats();
        assert_eq!(
            stats.in_flight,
            self.open.values().sum::<u64>(),
            "bytes in flight leak"
        );
        assert!(stats.cwnd >= 2 * u64::from(MDS));
        assert_eq!(
            (stats.declared_lost, stats.spurious),
            (self.lost.len() as u64, self.spurious)
        );
        assert!(self.spurious <= stats.declared_lost);
        assert_eq!(path.recovery.oldest_unacked(), self.open.keys().next());
        let permit = path.recovery.permit(path.now);
        assert!(permit.bytes() as u64 <= stats.cwnd.saturating_sub(stats.in_flight));
        let room = stats.cwnd.saturating_sub(stats.in_flight) >= u64::from(MDS);
        let held = room && permit < Permit::Full { bytes: 1 };
        assert!(
            !held || path.recovery.next_send().is_some(),
            "held back, and nobody to wake it"
        );
        assert!(path.recovery.probes_due() == 0 || permit >= Permit::Retransmit);
        assert!(
            self.open.is_empty() || path.recovery.next_timeout().is_some(),
            "open packets, no deadline"
        );
    }
}

fn step(u: &mut arbitrary::Unstructured<'_>, path: &mut Path, model: &mut Model) -> arbitrary::Result<()> {
    path.wait(Duration::from_micros(u.int_in_range(0..=60_000)?));
    match u.int_in_range(0..=7)? {
        0..=2 => {
            for _ in 0..u.int_in_range(1..=12)? {
                let (size, eliciting) = (u.int_in_range(40..=MDS)?, u.ratio(9, 10)?);
                let number = path.send_as(size, eliciting, SentKind::Normal);
                if eliciting {
                    model.open.insert(number, u64::from(size));
                }
            }
            if u.arbitrary()? {
                path.recovery.app_limited(path.now);
            }
        }
        3..=5 => {
            let percent: u8 = u.int_in_range(1..=100)?;
            let mut numbers = Vec::new();
            for &number in model.open.keys().chain(&model.lost) {
                if u.ratio(percent, 100)? {
                    numbers.push(number);
                }
            }
            if !numbers.is_empty() {
                let delay = Duration::from_micros(u.int_in_range(0..=1_000_000)?);
                path.ack_delayed(&numbers, delay).expect("only what was sent");
                assert!(path.out.acked.iter().all(|number| numbers.contains(number)));
            }
        }
        6 if path.recovery.next_timeout().is_some() => {
            let losses = path.recovery.stats().declared_lost;
            if path.timeout() == Why::Probe {
                assert_eq!(
                    path.recovery.stats().declared_lost,
                    losses,
                    "a probe timeout declares nothing"
                );
            }
        }
        _ => {
            path.out.clear();
            path.recovery.on_timeout(path.now, &mut path.out);
        }
    }
    model.take(path);
    model.check(path);
    Ok(())
}

/// A path by either controller.
fn either(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<Path> {
    let algorithm = if u.arbitrary()? {
        Algorithm::Bbr
    } else {
        Algorithm::Cubic
    };
    let config = Config {
        max_datagram: MDS,
        algorithm,
        seed: 7,
        ..Config::default()
    };
    let recovery = Recovery::new(config);
    Ok(Path {
        recovery,
        ..Path::fresh()
    })
}

#[test]
fn random_programs_keep_the_laws() {
    arbtest::arbtest(|u| {
        let (mut path, mut model) = (either(u)?, Model::default());
        for _ in 0..u.int_in_range(1..=40)? {
            step(u, &mut path, &mut model)?;
        }
        // The end: everything open is acknowledged, and nothing remains.
        let rest: Vec<u64> = model.open.keys().copied().collect();
        if !rest.is_empty() {
            path.ack(&rest).expect("honest");
            model.take(&mut path);
        }
        assert_eq!(path.in_flight(), 0);
        assert!(model.open.is_empty());
        Ok(())
    });
}

#[test]
fn arbitrary_acknowledgements_never_panic() {
    arbtest::arbtest(|u| {
        let mut path = either(u)?;
        let sent = path.send_many(30);
        for _ in 0..10 {
            let mut ranges = Vec::new();
            for _ in 0..u.int_in_range(0..=5)? {
                let near = |u: &mut arbitrary::Unstructured<'_>| -> arbitrary::Result<u64> {
                    if u.ratio(1, 8)? {
                        u.arbitrary()
                    } else {
                        u.int_in_range(sent[0] - 1..=sent[29] + 1)
                    }
                };
                ranges.push(AckRange {
                    first: near(u)?,
                    last: near(u)?,
                });
            }
            let largest = if u.arbitrary()? {
                ranges.first().map_or(0, |range| range.last)
            } else {
                u.arbitrary()?
            };
            let delay = Duration::from_micros(u.arbitrary::<u64>()? >> 2);
            let before = path.recovery.stats();
            let ack = AckInput {
                largest,
                delay,
                ranges: &ranges,
                ecn: None,
            };
            if path.recovery.on_ack(path.now, ack, &mut path.out).is_err() {
                assert_eq!(path.recovery.stats(), before, "a violation changes nothing");
            }
            path.wait(MS);
        }
        Ok(())
    });
}
