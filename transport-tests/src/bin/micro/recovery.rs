//! What is done for each packet sent, each one received, and each ACK.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use transport_reliability::{AckInput, AckRange, Config, Outcome, Recovery, Sent, SentKind};

use crate::Bench;

/// A batch, and as many as leave 64 ranges when every other one is missing.
const BATCH: usize = 44;
const SPARSE: usize = 128;
const STEP: Duration = Duration::from_micros(500);

struct State {
    recovery: Recovery<u64>,
    outcome: Outcome<u64>,
    now: Instant,
    received: u64,
}

pub(crate) fn run(bench: &Bench) {
    let mut state = State {
        recovery: Recovery::new(Config {
            max_datagram: 1472,
            ..Config::default()
        }),
        outcome: Outcome::default(),
        now: transport_api::now().instant,
        received: 0,
    };
    bench.measure(
        "sent_push",
        BATCH as u32,
        &mut state,
        State::settle,
        |state, ()| {
            black_box(state.send(BATCH));
        },
    );
    bench.measure(
        "ack_44_packets",
        1,
        &mut state,
        |state| {
            state.settle();
            runs(&state.send(BATCH))
        },
        |state, ranges| state.acknowledge(ranges),
    );
    bench.measure(
        "ack_64_ranges_64_lost",
        1,
        &mut state,
        |state| {
            state.settle();
            let every_other: Vec<u64> = state.send(SPARSE).into_iter().step_by(2).collect();
            runs(&every_other)
        },
        |state, ranges| state.acknowledge(ranges),
    );
    bench.measure(
        "received_insert",
        BATCH as u32,
        &mut state,
        |state| {
            state.now += STEP;
            state.recovery.acks_sent(state.now);
        },
        |state, ()| state.receive(),
    );
}

impl State {
    fn send(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            let number = self.recovery.next_number();
            numbers.push(number.get());
            let sent = Sent {
                number,
                size: 1472,
                eliciting: true,
                in_flight: true,
                kind: SentKind::Normal,
                ect: false,
                content: number.get(),
            };
            self.recovery.sent(self.now, sent);
        }
        numbers
    }

    /// Acknowledges what is open, a little later.
    fn settle(&mut self) {
        self.now += STEP;
        let mut open: Vec<u64> = self.recovery.unacked().copied().collect();
        open.sort_unstable();
        if !open.is_empty() {
            self.acknowledge(&runs(&open));
        }
    }

    fn acknowledge(&mut self, ranges: &[AckRange]) {
        self.now += STEP;
        self.outcome.clear();
        let ack = AckInput {
            largest: ranges[0].last,
            delay: Duration::ZERO,
            ranges,
            ecn: None,
        };
        let taken = self.recovery.on_ack(self.now, ack, &mut self.outcome);
        taken.expect("all of these were sent");
    }

    fn receive(&mut self) {
        for _ in 0..BATCH {
            let fresh = self.recovery.check(self.received).expect("a new number");
            self.recovery.received(fresh, self.now, true);
            self.received += 1;
        }
    }
}

/// Rising numbers as ranges, the highest first; numbers left out on purpose end one.
fn runs(numbers: &[u64]) -> Vec<AckRange> {
    let mut ranges: Vec<AckRange> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == number => range.last = number,
            _ => ranges.push(AckRange {
                first: number,
                last: number,
            }),
        }
    }
    ranges.reverse();
    ranges
}
