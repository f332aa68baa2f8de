//! ECN and the rhythm of ACKs, between two endpoints.
mod common;

use common::{Net, Setup, Transfer, Way, echo, ms};
use transport_core::{Algorithm, Direction, Ecn, EcnState, TransportConfig};

fn with(change: impl Fn(&mut TransportConfig)) -> Net {
    let mut setup = Setup::default();
    change(&mut setup.client);
    change(&mut setup.server);
    Net::new(setup)
}

#[test]
fn packets_carry_ect_once_the_path_was_tested_and_handshakes_do_not() {
    let mut net = Net::new(Setup::default());
    let mut seen = Vec::new();
    let log = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let shared = std::rc::Rc::clone(&log);
    net.meddle = Box::new(move |datagram| {
        shared.borrow_mut().push(datagram.ecn);
        vec![datagram.clone()]
    });
    let (a, b) = net.pair();
    echo(&mut net, a, b, 1 << 18, ms(5000));
    seen.extend(log.borrow().iter().copied());
    assert_eq!(
        seen[0],
        Ecn::NotEct as u8,
        "the first datagram is the handshake's"
    );
    let is_marked = |ecn: &&u8| **ecn == Ecn::Ect0 as u8;
    let marked = seen.iter().filter(is_marked).count();
    assert!(marked * 10 > seen.len() * 8, "{marked} of {}", seen.len());
    assert_eq!(net.c(a).stats().ecn, EcnState::Capable);
    assert_eq!(net.s(b).stats().ecn, EcnState::Capable);
}

#[test]
fn a_path_that_clears_the_bits_is_not_marked_any_more() {
    let mut net = Net::new(Setup::default());
    net.meddle = Box::new(|datagram| {
        let mut bleached = datagram.clone();
        bleached.ecn = 0;
        vec![bleached]
    });
    let (a, b) = net.pair();
    echo(&mut net, a, b, 1 << 18, ms(5000));
    assert_eq!(net.c(a).stats().ecn, EcnState::Failed);
    assert_eq!(net.c(a).stats().declared_lost, 0);
}

#[test]
fn a_path_that_drops_marked_packets_is_crossed_without() {
    let mut net = Net::new(Setup::default());
    net.meddle = Box::new(|datagram| {
        if datagram.ecn == Ecn::Ect0 as u8 {
            vec![]
        } else {
            vec![datagram.clone()]
        }
    });
    let (a, b) = net.pair_within(ms(10_000));
    echo(&mut net, a, b, 1 << 18, ms(20_000));
    assert_ne!(net.c(a).stats().ecn, EcnState::Capable);
}

#[test]
fn a_marked_packet_slows_the_sender_down_and_none_is_lost() {
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
        let run = |mark: bool| {
            let mut net = with(|config| config.algorithm = algorithm);
            let mut count = 0_u32;
            net.meddle = Box::new(move |datagram| {
                let mut marked = datagram.clone();
                count += 1;
                if mark && datagram.ecn == Ecn::Ect0 as u8 && count.is_multiple_of(10) {
                    marked.ecn = Ecn::Ce as u8;
                }
                vec![marked]
            });
            let (a, b) = net.pair();
            echo(&mut net, a, b, 1 << 20, ms(60_000));
            (net.c(a).stats(), net.s(b).stats())
        };
        let ((clean, _), (marked, receiver)) = (run(false), run(true));
        assert_eq!((marked.ecn, marked.declared_lost), (EcnState::Capable, 0));
        assert!(marked.reported_ce > 0 && receiver.received_ce >= marked.reported_ce);
        assert!(
            marked.cwnd < clean.cwnd,
            "{algorithm:?}: {} against {}",
            marked.cwnd,
            clean.cwnd
        );
    }
}

#[test]
fn a_bulk_sender_asks_for_fewer_acks_and_gets_them() {
    let mut net = Net::new(Setup::default());
    net.delay = ms(20);
    // A megabyte and a half a second, and a queue: without them slow start never ends.
    let mut free = net.start;
    net.meddle = Box::new(move |datagram| {
        let mut queued = datagram.clone();
        if queued.way == Way::Up {
            let serialization = std::time::Duration::from_nanos(queued.bytes.len() as u64 * 700);
            // `at` is when it would arrive on an idle link, `free` when the last one does.
            free = free.max(queued.at) + serialization;
            queued.at = free;
        }
        vec![queued]
    });
    let (a, b) = net.pair();
    let id = net.c(a).open(Direction::Uni).unwrap();
    let mut transfer = Transfer::default();
    let done = net.run_until(ms(20_000), |net| {
        transfer.write(net.client.connection(a).unwrap(), id, 4 << 20);
        let server = net.server.connection(b).unwrap();
        let _ = server.accept(Direction::Uni);
        transfer.read(server, id);
        net.settle();
        transfer.done
    });
    assert!(done);
    let (client, server) = (net.c(a).stats(), net.s(b).stats());
    assert!(client.ack_frequency_sent > 0 && server.ack_frequency_received > 0);
    assert!(
        server.sent_packets * 3 < client.sent_packets,
        "{} answers to {} packets",
        server.sent_packets,
        client.sent_packets
    );
}
