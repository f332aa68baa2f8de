use super::*;

const PACKET: usize = 1200;
const PATIENCE: Duration = Duration::from_millis(150);

/// An order in which every flow given waits for ever.
fn backlogged(flows: &[(Key, Class)]) -> Fair {
    let mut fair = Fair::new(PATIENCE);
    for &(key, class) in flows {
        fair.add(key, class);
        fair.set(key, Interest::Waiting);
    }
    fair
}

/// Serves `packets`, each of the size `size` gives for its flow; returns the flows in the order served.
fn serve(fair: &mut Fair, packets: usize, size: impl Fn(Key) -> usize) -> Vec<Key> {
    let now = crate::tests::start();
    (0..packets)
        .map(|_| {
            let key = fair.select(now).unwrap();
            assert_eq!(fair.select(now), Some(key), "asking twice changed the answer");
            fair.charge(key, size(key));
            key
        })
        .collect()
}

fn share(served: &[Key], key: Key) -> f64 {
    served.iter().filter(|&&k| k == key).count() as f64 / served.len() as f64
}

const WEIGHTED: [(Key, Class); 3] = [(0, Class::Interactive), (1, Class::Bulk), (2, Class::Background)];

#[test]
fn backlogged_classes_get_their_weights_within_three_percent() {
    let mut fair = backlogged(&WEIGHTED);
    let served = serve(&mut fair, 10_000, |_| PACKET);
    for (key, weight) in [(0, 8.0), (1, 4.0), (2, 1.0)] {
        let ratio = share(&served, key) / (weight / 13.0);
        assert!((ratio - 1.0).abs() < 0.03, "class {key} got {ratio} of its share");
    }
}

#[test]
fn weights_count_bytes_not_packets() {
    let mut fair = backlogged(&WEIGHTED);
    let size = |key| [1200, 300, 700][key as usize];
    let served = serve(&mut fair, 20_000, size);
    let bytes = |key: Key| {
        served
            .iter()
            .filter(|&&k| k == key)
            .map(|&k| size(k))
            .sum::<usize>() as f64
    };
    let total = bytes(0) + bytes(1) + bytes(2);
    for (key, weight) in [(0, 8.0), (1, 4.0), (2, 1.0)] {
        let ratio = bytes(key) / total / (weight / 13.0);
        assert!((ratio - 1.0).abs() < 0.03, "class {key} got {ratio} of its share");
    }
}

#[test]
fn a_background_packet_waits_at_most_two_rounds() {
    let mut fair = backlogged(&WEIGHTED);
    let served = serve(&mut fair, 10_000, |_| PACKET);
    let longest = served.split(|&key| key == 2).map(<[Key]>::len).max().unwrap();
    assert!(longest <= 2 * 13, "{longest} packets of others in between");
}

#[test]
fn flows_of_a_class_share_it_equally_by_bytes() {
    let flows: Vec<_> = (0..5).map(|key| (key, Class::Bulk)).collect();
    let mut fair = backlogged(&flows);
    let size = |key| 200 + 250 * key as usize;
    let served = serve(&mut fair, 10_000, size);
    let bytes = |key: Key| served.iter().filter(|&&k| k == key).count() * size(key);
    let fair_share = (0..5).map(bytes).sum::<usize>() as f64 / 5.0;
    for key in 0..5 {
        let ratio = bytes(key) as f64 / fair_share;
        assert!((ratio - 1.0).abs() < 0.03, "flow {key} got {ratio}");
    }
}

#[test]
fn realtime_gets_half_and_control_a_tenth_while_lower_classes_wait() {
    let mut fair = backlogged(&[(0, Class::Control), (1, Class::Realtime), (2, Class::Bulk)]);
    let served = serve(&mut fair, 10_000, |_| PACKET);
    assert!(
        (share(&served, 0) - 0.10).abs() < 0.01,
        "control {}",
        share(&served, 0)
    );
    let rest = 1.0 - share(&served, 0);
    assert!(
        (share(&served, 1) / rest - 0.5).abs() < 0.01,
        "realtime {}",
        share(&served, 1)
    );
    // Alone they get everything.
    fair.set(2, Interest::None);
    fair.set(0, Interest::None);
    assert!(serve(&mut fair, 100, |_| PACKET).iter().all(|&key| key == 1));
}

#[test]
fn what_goes_ahead_goes_first_in_its_class_only() {
    let mut fair = backlogged(&[(0, Class::Bulk), (1, Class::Bulk), (2, Class::Interactive)]);
    serve(&mut fair, 50, |_| PACKET);
    fair.set(1, Interest::Ahead);
    let served = serve(&mut fair, 130, |_| PACKET);
    assert!(!served.contains(&0));
    assert!(share(&served, 2) > 0.6 && share(&served, 1) > 0.3);
    fair.set(1, Interest::Waiting);
    assert!(share(&serve(&mut fair, 130, |_| PACKET), 0) > 0.1);
}

#[test]
fn a_sparse_flow_goes_ahead_but_cannot_win_by_pausing() {
    let flows: Vec<_> = (0..8).map(|key| (key, Class::Bulk)).collect();
    let mut fair = backlogged(&flows);
    serve(&mut fair, 80, |_| PACKET);
    fair.add(9, Class::Bulk);
    fair.set(9, Interest::Waiting);
    let now = crate::tests::start();
    assert_eq!(fair.select(now), Some(9), "the flow that was empty goes first");
    // It pauses after each packet and comes back at once: no more than its share.
    let mut own = 0;
    for _ in 0..900 {
        let key = fair.select(now).unwrap();
        fair.charge(key, PACKET);
        if key == 9 {
            own += 1;
            fair.set(9, Interest::None);
            fair.set(9, Interest::Waiting);
        }
    }
    assert!((90..=110).contains(&own), "{own} of 900 for one of nine flows");
}

#[test]
fn realtime_follows_deadlines() {
    let mut fair = backlogged(&[(0, Class::Realtime), (1, Class::Realtime), (2, Class::Realtime)]);
    let now = crate::tests::start();
    fair.select(now);
    fair.set_deadline(2, now + Duration::from_millis(20));
    fair.set_deadline(0, now + Duration::from_millis(40));
    assert_eq!(fair.select(now), Some(2));
    fair.set(2, Interest::None);
    assert_eq!(fair.select(now), Some(0));
    fair.charge(0, PACKET);
    // Served, it waits anew, behind the one that has waited since before.
    assert_eq!(fair.select(now + Duration::from_millis(1)), Some(1));
}

#[test]
fn parked_flows_wait_outside_and_come_back_in_order() {
    let mut fair = backlogged(&[(0, Class::Bulk), (1, Class::Bulk), (2, Class::Interactive)]);
    for key in 0..3 {
        fair.set(key, Interest::Parked);
    }
    assert!(fair.select(crate::tests::start()).is_none() && !fair.is_waiting() && fair.has_parked());
    fair.unpark(2);
    assert!(fair.has_parked());
    fair.remove(0);
    assert_eq!(fair.select(crate::tests::start()), Some(1));
    fair.unpark(u64::MAX);
    assert!(!fair.has_parked());
}

/// Whatever flows come, go and change their minds, the order finds one that waits exactly when there is one.
#[test]
fn any_history_leaves_the_lists_whole() {
    arbtest::arbtest(|u| {
        let mut fair = Fair::new(PATIENCE);
        let mut model = [None; 12];
        let now = crate::tests::start();
        for key in 0..12 {
            fair.add(key, Class::Bulk);
        }
        while !u.is_empty() {
            let key = u.int_in_range(0..=11)?;
            match u.int_in_range(0..=9)? {
                0 => {
                    fair.add(key, *u.choose(&Class::ALL)?);
                    model[key as usize] = None;
                }
                1 => fair.set_deadline(key, now + Duration::from_millis(u.int_in_range(0..=300)?)),
                2 => fair.charge(key, u.int_in_range(0..=9000)?),
                3 => {
                    fair.unpark(u64::MAX);
                    model
                        .iter_mut()
                        .filter(|m| **m == Some(Interest::Parked))
                        .for_each(|m| *m = Some(Interest::Waiting));
                }
                _ => {
                    let interests = [
                        Interest::None,
                        Interest::Waiting,
                        Interest::Ahead,
                        Interest::Parked,
                    ];
                    let interest = *u.choose(&interests)?;
                    fair.set(key, interest);
                    model[key as usize] = Some(interest);
                }
            }
            let waits = |m: Option<Interest>| matches!(m, Some(Interest::Waiting | Interest::Ahead));
            assert_eq!(fair.is_waiting(), model.iter().any(|&m| waits(m)));
            assert_eq!(fair.has_parked(), model.contains(&Some(Interest::Parked)));
            match fair.select(now) {
                Some(key) => {
                    assert!(waits(model[key as usize]));
                    fair.charge(key, 1000);
                }
                None => assert!(!fair.is_waiting()),
            }
        }
        Ok(())
    })
    .budget_ms(800);
}
