use std::collections::BTreeSet;

use super::*;
use crate::start;

fn insert(window: &mut Window, number: u64) {
    let fresh = window.check(number).unwrap();
    window.insert(fresh, start());
}

fn ranges(window: &Window) -> Vec<(u64, u64)> {
    window
        .acks()
        .map(|acks| acks.ranges().map(|r| (r.first, r.last)).collect())
        .unwrap_or_default()
}

fn report(window: &mut Window, packet: u64) -> u64 {
    window.reported(packet, start(), Duration::from_secs(1)).unwrap()
}

#[test]
fn a_number_passes_once() {
    let mut window = Window::new();
    assert!(window.acks().is_none());
    insert(&mut window, 70_000);
    assert_eq!(window.check(70_000).unwrap_err(), Replay::Duplicate);
    insert(&mut window, 69_999);
    assert_eq!(window.check(69_999).unwrap_err(), Replay::Duplicate);
    assert!(window.check(70_000 - (WINDOW - 1)).is_ok());
    assert_eq!(window.check(70_000 - WINDOW).unwrap_err(), Replay::TooOld);
    assert_eq!(window.received_packets(), 2);
}

#[test]
fn a_jump_beyond_the_window_forgets_everything_below() {
    let mut window = Window::new();
    insert(&mut window, 3);
    insert(&mut window, 3 + 10 * WINDOW);
    assert_eq!(ranges(&window), [(3 + 10 * WINDOW, 3 + 10 * WINDOW)]);
    assert!(window.check(3 + 9 * WINDOW + 1).is_ok());
}

#[test]
fn a_window_takes_as_much_memory_as_what_arrived_spans() {
    let mut window = Window::new();
    for number in 1000..1100 {
        insert(&mut window, number);
    }
    assert_eq!(window.memory(), 2 * 2 * 8);
    // One that came late, where the ring would put another one.
    insert(&mut window, 1050 - 128);
    assert_eq!(window.memory(), 2 * 4 * 8);
    assert_eq!(ranges(&window), [(1000, 1099), (1050 - 128, 1050 - 128)]);
    assert_eq!(window.check(1099).unwrap_err(), Replay::Duplicate);
    assert!(window.check(999).is_ok() && window.check(1050 - 256).is_ok());
    insert(&mut window, 1000 + 10 * WINDOW);
    assert_eq!(window.memory() as u64, 2 * WINDOW / 8);
    assert_eq!(ranges(&window).len(), 1);
}

#[test]
fn a_stale_proof_is_harmless() {
    let mut window = Window::new();
    let stale = window.check(5).unwrap();
    insert(&mut window, 5 + WINDOW);
    window.insert(stale, start());
    assert_eq!(ranges(&window), [(5 + WINDOW, 5 + WINDOW)]);
}

#[test]
fn ranges_descend_and_the_oldest_give_way() {
    let mut window = Window::new();
    for number in (0..400).step_by(2) {
        insert(&mut window, number);
    }
    let ranges = ranges(&window);
    assert_eq!(ranges.len(), MAX_RANGES);
    assert_eq!((ranges[0], ranges[63]), ((398, 398), (272, 272)));
}

#[test]
fn an_acknowledged_report_is_not_repeated() {
    let mut window = Window::new();
    for number in [0, 1, 2, 5] {
        insert(&mut window, number);
    }
    let upto = report(&mut window, 100);
    assert_eq!(upto, 5);
    insert(&mut window, 6);
    window.report_acked(100, upto);
    assert_eq!(ranges(&window), [(6, 6)]);
    assert_eq!(
        window.check(1).unwrap_err(),
        Replay::Duplicate,
        "the replay filter does not forget"
    );
}

#[test]
fn a_late_arrival_is_reported_even_if_an_older_report_is_acknowledged() {
    let mut window = Window::new();
    for number in [0, 1, 5] {
        insert(&mut window, number);
    }
    let upto = report(&mut window, 100);
    insert(&mut window, 3);
    window.report_acked(100, upto);
    assert_eq!(ranges(&window), [(5, 5), (3, 3)]);
    let upto = report(&mut window, 101);
    window.report_acked(101, upto);
    assert_eq!(ranges(&window), [(5, 5)]);
    insert(&mut window, 4);
    assert_eq!(ranges(&window), [(4, 5)], "below the floor, but new");
}

#[test]
fn a_report_never_acknowledged_is_dropped_after_patience() {
    let (mut window, start, patience) = (Window::new(), start(), Duration::from_millis(300));
    for number in [0, 2, 4] {
        insert(&mut window, number);
    }
    window.reported(1, start, patience);
    insert(&mut window, 6);
    window.reported(2, start + patience / 2, patience);
    assert_eq!(ranges(&window).len(), 4);
    window.reported(3, start + patience, patience);
    assert_eq!(ranges(&window), [(6, 6)]);
}

#[test]
fn delay_counts_from_the_largest() {
    let (mut window, start) = (Window::new(), start());
    let fresh = window.check(9).unwrap();
    window.insert(fresh, start);
    let fresh = window.check(8).unwrap();
    window.insert(fresh, start + Duration::from_millis(4));
    assert_eq!(
        window.acks().unwrap().delay(start + Duration::from_millis(7)),
        Duration::from_millis(7)
    );
}

/// Receiving, reporting and pruning against a plain set: nothing is accepted twice, everything received in the
/// window and never part of an acknowledged report is in the ranges, nothing else ever is.
#[test]
fn window_against_a_set() {
    arbtest::arbtest(|u| {
        let (mut window, mut seen, mut heard) = (Window::new(), BTreeSet::new(), BTreeSet::new());
        let mut reports: Vec<(u64, u64, BTreeSet<u64>)> = Vec::new();
        let mut base = u.int_in_range(0..=1_u64 << 16)?;
        let mut overflowed = false;
        for packet in 0..u.int_in_range(1..=120)? {
            match u.int_in_range(0..=9)? {
                0 => base += u.int_in_range(0..=3 * WINDOW)?,
                1 if window.acks().is_some() => {
                    let listed = ranges(&window).into_iter().flat_map(|(a, b)| a..=b).collect();
                    reports.push((packet, report(&mut window, packet), listed));
                }
                2 if !reports.is_empty() => {
                    let (packet, upto, listed) = reports.swap_remove(u.choose_index(reports.len())?);
                    window.report_acked(packet, upto);
                    heard.extend(listed);
                }
                _ => {
                    let number = base + u.int_in_range(0..=90)?;
                    let largest = seen.last().copied();
                    let old = largest.is_some_and(|largest: u64| largest >= number + WINDOW);
                    match window.check(number) {
                        Ok(fresh) => {
                            assert!(!old && seen.insert(number));
                            window.insert(fresh, start());
                        }
                        Err(Replay::TooOld) => assert!(old),
                        Err(Replay::Duplicate) => assert!(seen.contains(&number)),
                    }
                }
            }
            let listed = ranges(&window);
            assert!(
                listed.windows(2).all(|w| w[0].0 > w[1].1 + 1),
                "descending and disjoint: {listed:?}"
            );
            let listed: BTreeSet<u64> = listed.into_iter().flat_map(|(a, b)| a..=b).collect();
            assert!(listed.is_subset(&seen));
            assert_eq!(listed.last(), seen.last());
            // Beyond 64 ranges the oldest are never reported at all.
            overflowed |= ranges(&window).len() == MAX_RANGES;
            if !overflowed {
                let lowest = seen
                    .last()
                    .map_or(0, |largest| (largest + 1).saturating_sub(WINDOW));
                let missing: Vec<_> = seen
                    .range(lowest..)
                    .filter(|n| !listed.contains(n) && !heard.contains(n))
                    .collect();
                assert!(
                    missing.is_empty(),
                    "received, never heard, not listed: {missing:?}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_cleared_run_is_clear_and_its_neighbours_are_not() {
    for low in [0, 1, 63, 64, 100, WINDOW - 3, WINDOW + 7] {
        for length in [0, 1, 2, 63, 64, 65, 128, 1000, WINDOW - 2] {
            let mut bits = Bits(vec![u64::MAX; (WINDOW / 64) as usize]);
            bits.clear(low..low + length);
            let clear = (low..low + WINDOW).filter(|number| !bits.get(*number));
            assert!(clear.eq(low..low + length), "{length} from {low}");
        }
    }
}
