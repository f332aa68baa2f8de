use std::collections::VecDeque;

use super::*;

/// Two ends over a wire of `delay` each way that loses what `lose` says of the n-th data segment.
struct Wire {
    sender: Sender,
    receiver: Receiver,
    delay: Duration,
    carried: VecDeque<(Duration, Segment)>,
    count: u64,
    delivered: u64,
}

impl Wire {
    fn new(cubic: bool, limit: Option<u64>) -> Self {
        Self {
            sender: Sender::new(cubic, limit),
            receiver: Receiver::default(),
            delay: Duration::from_millis(25),
            carried: VecDeque::new(),
            count: 0,
            delivered: 0,
        }
    }

    fn run(&mut self, until: Duration, mut lose: impl FnMut(u64) -> bool) {
        let mut now = Duration::ZERO;
        let mut out = Vec::new();
        self.sender.tick(now, &mut out);
        loop {
            for segment in out.drain(..) {
                let data = matches!(segment, Segment::Data { .. });
                self.count += u64::from(data);
                if !(data && lose(self.count)) {
                    self.carried.push_back((now + self.delay, segment));
                }
            }
            let arrival = self.carried.front().map(|(at, _)| *at);
            let due = [arrival, self.sender.deadline(), self.receiver.deadline()];
            let Some(next) = due.into_iter().flatten().min().filter(|at| *at <= until) else {
                return;
            };
            now = next;
            while let Some((_, segment)) = self.carried.pop_front_if(|(at, _)| *at <= now) {
                match segment {
                    Segment::Ack(ack) => self.sender.ack(now, &ack, &mut out),
                    data @ Segment::Data { .. } => {
                        let (more, ack) = self.receiver.data(now, &data);
                        self.delivered += more;
                        out.extend(ack);
                    }
                }
            }
            out.extend(self.receiver.tick(now));
            self.sender.tick(now, &mut out);
        }
    }
}

#[test]
fn a_clean_wire_needs_no_second_copy() {
    for cubic in [false, true] {
        let mut wire = Wire::new(cubic, Some(5000));
        wire.run(Duration::from_secs(20), |_| false);
        assert_eq!((wire.delivered, wire.sender.again), (5000, 0));
    }
}

#[test]
fn everything_arrives_under_loss_of_data_and_of_second_copies() {
    for cubic in [false, true] {
        let mut wire = Wire::new(cubic, Some(3000));
        wire.run(Duration::from_mins(5), |n| n % 17 < 2);
        assert_eq!(wire.delivered, 3000);
    }
}

#[test]
fn a_lost_tail_is_sent_again_by_the_timer() {
    let mut wire = Wire::new(false, Some(10));
    wire.run(Duration::from_secs(10), |n| (8..=10).contains(&n));
    assert_eq!((wire.delivered, wire.sender.again), (10, 3));
}

#[test]
fn one_loss_halves_reno_and_takes_three_tenths_of_cubic() {
    for (cubic, beta) in [(false, 0.5), (true, 0.7)] {
        let mut sender = Sender::new(cubic, None);
        let mut out = Vec::new();
        (sender.window, sender.threshold) = (40.0, 40.0);
        sender.tick(Duration::ZERO, &mut out);
        let now = Duration::from_millis(50);
        let ack = Ack {
            next: 0,
            sack: vec![(1, 11)],
            echo: Duration::ZERO,
        };
        sender.ack(now, &ack, &mut out);
        assert_eq!(sender.window, 40.0 * beta);
        sender.ack(
            now,
            &Ack {
                next: 0,
                sack: vec![(11, 20)],
                echo: now,
            },
            &mut out,
        );
        assert_eq!(sender.window, 40.0 * beta, "one answer a round trip");
    }
}

/// Mathis et al. 1997: rate = sqrt(3/2) / sqrt(p) segments a round trip, with delayed acknowledgements about 0.9 of √(3/2).
#[test]
fn reno_is_as_fast_as_its_formula() {
    let mut wire = Wire::new(false, None);
    wire.run(Duration::from_mins(2), |n| n % 400 == 0);
    let predicted = (1.5_f64 * 400.0).sqrt() / 0.05 * 120.0;
    let ratio = wire.delivered as f64 / predicted;
    assert!((0.65..1.15).contains(&ratio), "{ratio}");
}

/// RFC 9438 §5.1: rate = 1.054 · RTT^(3/4) / p^(3/4) / RTT.
#[test]
fn cubic_is_as_fast_as_its_formula() {
    let mut wire = Wire::new(true, None);
    wire.delay = Duration::from_millis(100);
    wire.run(Duration::from_mins(5), |n| n % 10_000 == 0);
    let predicted = 1.054 * 0.2_f64.powf(0.75) * 10_000_f64.powf(0.75) / 0.2 * 300.0;
    let ratio = wire.delivered as f64 / predicted;
    assert!((0.75..1.3).contains(&ratio), "{ratio}");
}
