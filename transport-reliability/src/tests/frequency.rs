//! `ACK_FREQUENCY`: what is asked of a peer, and what a peer gets.

use super::*;

const ASKED: AckFrequency = AckFrequency {
    eliciting: 10,
    max_delay: Duration::from_millis(20),
    reordering: 3,
};

impl Path {
    fn receive(&mut self, number: u64) -> bool {
        let fresh = self.recovery.check(number).unwrap();
        self.recovery.received(fresh, self.now, true);
        self.recovery.acks_due(self.now).is_some()
    }

    fn acknowledged(&mut self) {
        self.recovery.next_number();
        self.recovery.acks_sent(self.now);
    }
}

/// A path that has acknowledged its first packet.
fn receiver(wanted: AckFrequency) -> Path {
    let mut path = Path::new(1000);
    assert!(path.receive(0));
    path.acknowledged();
    path.recovery.set_ack_frequency(wanted);
    path
}

#[test]
fn the_peer_gets_the_rhythm_it_asks_for() {
    let mut path = receiver(ASKED);
    for number in 1..10 {
        assert!(!path.receive(number), "{number}");
    }
    assert!(path.receive(10));
    path.acknowledged();
    assert!(!path.receive(11));
    assert_eq!(
        path.recovery.next_timeout(),
        Some((path.now + 20 * MS, Why::AckDelay))
    );
}

#[test]
fn a_gap_is_told_when_it_crosses_the_threshold_and_once() {
    let mut path = receiver(ASKED);
    assert!(!path.receive(2), "1 may still come");
    assert!(!path.receive(3));
    assert!(path.receive(4), "now the peer would give 1 up");
    path.acknowledged();
    assert!(!path.receive(5), "told");
    assert!(!path.receive(7));
    assert!(!path.receive(6), "late within the threshold is order enough");
    assert!(path.receive(1), "what was given up came after all");
}

#[test]
fn at_threshold_zero_disorder_is_no_news() {
    let mut path = receiver(AckFrequency {
        reordering: 0,
        ..ASKED
    });
    assert!(!path.receive(5) && !path.receive(9) && !path.receive(3));
}

/// Whoever could make us silent could make us lose the window of received numbers, or look dead.
#[test]
fn no_request_makes_us_withhold_acks() {
    let never = AckFrequency {
        eliciting: u32::MAX,
        max_delay: Duration::MAX,
        reordering: u32::MAX,
    };
    let mut path = receiver(never);
    assert!(!path.receive(1));
    let (at, why) = path.recovery.next_timeout().unwrap();
    assert_eq!((at, why), (path.now + 25 * MS, Why::AckDelay));
    let due = (2..10_000).find(|&number| path.receive(number)).unwrap();
    assert!(due <= 512, "{due}");
}

/// And whoever asks for every packet to be acknowledged at once gets one ACK a packet, not more.
#[test]
fn no_request_makes_more_acks_than_packets() {
    let always = AckFrequency {
        eliciting: 0,
        max_delay: Duration::ZERO,
        reordering: 1,
    };
    let mut path = receiver(always);
    for number in 1..100 {
        assert!(path.receive(number));
        path.recovery.acknowledge_immediately(path.now);
        path.recovery.acknowledge_immediately(path.now);
        path.acknowledged();
        assert!(path.recovery.acks_due(path.now).is_none(), "one for each packet");
        assert!(
            path.recovery
                .next_timeout()
                .is_none_or(|(_, why)| why != Why::AckDelay)
        );
    }
}

/// Sends and acknowledges whole windows.
fn rounds(path: &mut Path, count: u32) {
    for _ in 0..count {
        let window = (path.cwnd() / u64::from(MDS)) as usize;
        let numbers = path.send_many(window);
        path.wait(100 * MS);
        path.ack(&numbers).unwrap();
    }
}

#[test]
fn a_sender_asks_for_fewer_acks_once_slow_start_is_over() {
    let mut path = Path::new(100);
    path.recovery.set_peer_min_ack_delay(Some(MS));
    rounds(&mut path, 3);
    assert_eq!(
        path.recovery.ack_frequency_due(path.now),
        None,
        "slow start wants them all"
    );
    let numbers = path.send_many(40);
    path.wait(100 * MS);
    path.ack(&numbers[5..]).unwrap();
    let wish = path.recovery.ack_frequency_due(path.now).unwrap();
    let window = path.cwnd() / u64::from(MDS);
    assert_eq!(u64::from(wish.eliciting), (window / 4).min(64));
    assert_eq!((wish.max_delay, wish.reordering), (25 * MS, 3));
    path.recovery.ack_frequency_asked(path.now, wish);
    assert_eq!(path.recovery.ack_frequency_due(path.now), None, "asked");
    path.recovery.ack_frequency_lost();
    assert_eq!(
        path.recovery.ack_frequency_due(path.now),
        Some(wish),
        "asked again"
    );
}

#[test]
fn a_peer_without_the_frame_is_not_asked_and_short_trips_keep_its_least_delay() {
    let mut path = Path::new(1);
    let numbers = path.send_many(10);
    path.wait(MS);
    path.ack(&numbers[4..]).unwrap();
    assert_eq!(path.recovery.ack_frequency_due(path.now), None);
    path.recovery.set_peer_min_ack_delay(Some(5 * MS));
    let wish = path.recovery.ack_frequency_due(path.now).unwrap();
    assert_eq!(wish.max_delay, 5 * MS);
}
