//! Handles against their shared state; the driver's part is played by hand.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;
use crate::config::DatagramPolicy;
use crate::datagram::{DatagramOutcome, MAX_RECEIPTS};
use crate::driver::command::{Alarm, Mailbox, Mark, Marked};
use crate::driver::shared::{ConnectionShared, ConnectionState, DatagramState, Queued};
use crate::engine::{Direction, Peer, Suite};
use crate::error::{ConnectionError, SendDatagramError};
use transport_core::Side;

struct Silent;
impl Alarm for Silent {
    fn ring(&self) -> io::Result<()> {
        Ok(())
    }
}

fn connection(policy: DatagramPolicy) -> crate::Connection {
    crate::Connection::new(Arc::new(ConnectionShared {
        id: 1,
        driver: std::thread::current().id(),
        peer: Peer::Anonymous,
        suite: Suite::ChaCha20Poly1305,
        policy,
        queue_bytes: 2 * Queued::cost(400),
        flow_queue_bytes: 4 * Queued::cost(400),
        mailbox: Arc::new(Mailbox::new(Box::new(Silent))),
        marked: Marked::default(),
        remote: Mutex::new(SocketAddr::from(([127, 0, 0, 1], 1))),
        max_datagram: AtomicUsize::new(400),
        state: Mutex::new(ConnectionState::default()),
        datagrams: Mutex::new(DatagramState::default()),
    }))
}

fn id() -> StreamId {
    StreamId::new(Side::Client, Direction::Bi, 0)
}

fn sender(connection: &crate::Connection) -> (SendStream, Arc<SendShared>) {
    let shared = SendShared::new(1, id(), Arc::clone(&connection.shared().mailbox));
    (
        SendStream::new(Arc::clone(&shared), Arc::clone(&connection.guard)),
        shared,
    )
}

fn receiver(connection: &crate::Connection) -> (RecvStream, Arc<RecvShared>) {
    let shared = RecvShared::new(1, id(), Arc::clone(&connection.shared().mailbox));
    (
        RecvStream::new(Arc::clone(&shared), Arc::clone(&connection.guard)),
        shared,
    )
}

fn give(shared: &RecvShared, data: &[u8]) {
    lock(&shared.state).queue.push(data);
}

fn marks(connection: &crate::Connection) -> usize {
    let mut marks = Vec::new();
    connection.shared().mailbox.take(&mut marks);
    for mark in &marks {
        match mark {
            Mark::Send(shared) => shared.marked.clear(),
            Mark::Recv(shared) => shared.marked.clear(),
            Mark::Connection(shared) => shared.marked.clear(),
            Mark::Endpoint | Mark::Forwarded | Mark::Carried(_) => {}
        }
    }
    marks.len()
}

const NOW: Duration = Duration::ZERO;

#[test]
fn a_writer_waits_for_the_driver_and_marks_once() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (mut send, shared) = sender(&connection);
    let data = vec![5; SEND_BUFFER + 10];
    assert_eq!(send.write(&data).wait(), Ok(SEND_BUFFER));
    assert_eq!(send.writable(), 0);
    assert_eq!(send.write(&data).wait_timeout(NOW), None);
    assert_eq!(marks(&connection), 1);
    lock(&shared.state).queue.consume(3);
    assert_eq!(send.write(&data).wait_timeout(NOW), Some(Ok(3)));
    assert_eq!(lock(&shared.state).queue.len(), SEND_BUFFER);
    assert_eq!(marks(&connection), 1);
}

#[test]
fn a_finished_stream_takes_nothing_more_and_a_reset_forgets() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (mut send, shared) = sender(&connection);
    send.write_all(b"abc").wait().unwrap();
    send.finish().unwrap();
    assert_eq!(send.finish(), Err(WriteError::Finished));
    assert_eq!(send.write(b"d").wait(), Err(WriteError::Finished));
    send.reset(9).unwrap();
    assert_eq!(send.reset(9), Err(WriteError::Finished));
    let state = lock(&shared.state);
    assert_eq!((state.reset, state.queue.len()), (Some(9), 0));
}

#[test]
fn dropping_a_sender_finishes_and_dropping_a_reader_stops() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (send, shared) = sender(&connection);
    drop(send);
    assert!(lock(&shared.state).finished);
    let (recv, shared) = receiver(&connection);
    drop(recv);
    assert_eq!(lock(&shared.state).stop, Some(0));
    // One that was read to its end needs no stop.
    let (mut recv, shared) = receiver(&connection);
    lock(&shared.state).fin = true;
    assert_eq!(recv.read_to_end(1).wait().unwrap(), b"");
    drop(recv);
    assert_eq!(lock(&shared.state).stop, None);
}

#[test]
fn a_reader_gets_all_bytes_before_the_bad_news() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (mut recv, shared) = receiver(&connection);
    give(&shared, b"abcdef");
    lock(&shared.state).lost = Some(Box::new(ConnectionError::EndpointClosed));
    let mut out = [0; 4];
    assert_eq!(recv.read(&mut out).wait(), Ok(Some(4)));
    assert_eq!(recv.read(&mut out).wait(), Ok(Some(2)));
    assert_eq!(&out, b"efcd");
    assert_eq!(
        recv.read(&mut out).wait(),
        Err(ReadError::Connection(ConnectionError::EndpointClosed))
    );
}

#[test]
fn spent_blocks_go_back_with_the_next_look_and_serve_again() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (mut recv, shared) = receiver(&connection);
    let data: Vec<u8> = (0..100_000u32).map(|at| (at >> 5) as u8).collect();
    let mut out = vec![0; data.len()];
    let mut held = 0;
    for _ in 0..10 {
        give(&shared, &data);
        let mut done = 0;
        while done < out.len() {
            done += recv.read(&mut out[done..]).wait().unwrap().unwrap();
        }
        assert!(out == data);
        assert!(recv.read(&mut out).wait_timeout(NOW).is_none());
        let now = lock(&shared.state).queue.memory();
        assert!(
            now >= data.len() && (held == 0 || now < held + 9000),
            "{held}, then {now}"
        );
        held = now;
    }
}

#[test]
fn a_stream_that_says_little_holds_little() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (mut send, shared) = sender(&connection);
    send.write_all(b"hello").wait().unwrap();
    assert!(lock(&shared.state).queue.memory() < 1024);
}

#[test]
fn a_reader_to_the_end_takes_what_came_in_any_pieces() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (mut recv, shared) = receiver(&connection);
    let data: Vec<u8> = (0..150_000u32).map(|at| (at >> 5) as u8).collect();
    data.chunks(7001).for_each(|piece| give(&shared, piece));
    lock(&shared.state).fin = true;
    let mut first = [0; 10_000];
    let got = recv.read(&mut first).wait().unwrap().unwrap();
    assert_eq!(first[..got], data[..got]);
    let rest = recv.read_to_end(data.len() - got).wait().unwrap();
    assert!(rest == data[got..]);
}

#[test]
fn credit_is_asked_for_only_when_half_of_the_queue_was_read() {
    let connection = connection(DatagramPolicy::DropOldest);
    let (mut recv, shared) = receiver(&connection);
    for _ in 0..4 {
        give(&shared, &vec![1; RECV_BUFFER / 4]);
    }
    lock(&shared.state).starved = true;
    let mut out = vec![0; RECV_BUFFER / 4];
    recv.read(&mut out).wait().unwrap();
    assert_eq!(marks(&connection), 0);
    recv.read(&mut out).wait().unwrap();
    assert_eq!(marks(&connection), 1);
    recv.read(&mut out).wait().unwrap();
    assert_eq!(marks(&connection), 0, "nobody said that there is more");
}

#[test]
fn a_full_datagram_queue_does_as_its_policy_says() {
    let dropping = connection(DatagramPolicy::DropOldest);
    for fill in 0..4 {
        dropping.send_datagram(vec![fill; 400]).unwrap();
    }
    let left: Vec<u8> = lock(&dropping.shared().datagrams)
        .plain
        .queue
        .iter()
        .map(|queued| queued.data[0])
        .collect();
    assert_eq!(left, [2, 3]);
    assert_eq!(dropping.datagram_drops().sent, 2);

    let refusing = connection(DatagramPolicy::Refuse);
    refusing.send_datagram(vec![0; 400]).unwrap();
    refusing.send_datagram(vec![1; 400]).unwrap();
    assert_eq!(refusing.send_datagram(vec![2; 400]), Err(SendDatagramError::Full));
    assert_eq!(
        refusing.send_datagram(vec![2; 401]),
        Err(SendDatagramError::TooLarge { max: 400 })
    );
    assert_eq!(refusing.datagram_drops().sent, 0);
    let mut waiting = refusing.send_datagram_wait(vec![3; 400], crate::DatagramOptions::default());
    assert_eq!((&mut waiting).wait_timeout(NOW), None);
    {
        let mut queue = lock(&refusing.shared().datagrams);
        while queue.plain.pop().is_some() {}
        assert_eq!(queue.plain.bytes, 0);
    }
    assert_eq!(waiting.wait_timeout(NOW), Some(Ok(())));
}

#[test]
fn datagrams_with_a_flow_have_a_bound_of_their_own() {
    let in_flow = crate::DatagramOptions {
        flow: Some(7),
        ..crate::DatagramOptions::default()
    };
    let dropping = connection(DatagramPolicy::DropOldest);
    for fill in 0..5 {
        dropping.send_datagram_with(vec![fill; 400], in_flow).unwrap();
    }
    dropping.send_datagram(vec![10; 400]).unwrap();
    let left = |sending: &crate::driver::shared::Sending| -> Vec<u8> {
        sending.queue.iter().map(|queued| queued.data[0]).collect()
    };
    {
        let queue = lock(&dropping.shared().datagrams);
        assert_eq!(
            (left(&queue.flows), left(&queue.plain)),
            (vec![1, 2, 3, 4], vec![10])
        );
    }
    assert_eq!(dropping.datagram_drops().sent, 1);

    let refusing = connection(DatagramPolicy::Refuse);
    for _ in 0..4 {
        refusing.send_datagram_with(vec![0; 400], in_flow).unwrap();
    }
    assert_eq!(
        refusing.send_datagram_with(vec![0; 400], in_flow),
        Err(SendDatagramError::Full)
    );
    refusing.send_datagram(vec![0; 400]).unwrap();
    let mut waiting = refusing.send_datagram_wait(vec![0; 400], in_flow);
    assert_eq!((&mut waiting).wait_timeout(NOW), None);
    assert!(lock(&refusing.shared().datagrams).flows.pop().is_some());
    assert_eq!(waiting.wait_timeout(NOW), Some(Ok(())));
}

#[test]
fn empty_datagrams_fill_the_queue_too() {
    let refusing = connection(DatagramPolicy::Refuse);
    let taken = (0..1000)
        .take_while(|_| refusing.send_datagram(vec![]).is_ok())
        .count();
    assert!((2..30).contains(&taken), "{taken}");
}

#[test]
fn a_datagram_dropped_for_a_newer_one_answers_its_receipt() {
    let dropping = connection(DatagramPolicy::DropOldest);
    let options = crate::DatagramOptions::default();
    let mut receipts = Vec::new();
    for fill in 0..3 {
        receipts.push(dropping.send_datagram_tracked(vec![fill; 400], options).unwrap());
    }
    let full = DatagramOutcome::Dropped(crate::DatagramDrop::QueueFull);
    let mut outcomes = receipts.into_iter().map(|receipt| receipt.wait_timeout(NOW));
    assert_eq!(outcomes.next(), Some(Some(Ok(full))));
    assert!(outcomes.all(|outcome| outcome.is_none()));
    assert_eq!(lock(&dropping.shared().datagrams).receipts, 2);
}

#[test]
fn unanswered_receipts_are_bounded() {
    let connection = connection(DatagramPolicy::DropOldest);
    let options = crate::DatagramOptions::default();
    lock(&connection.shared().datagrams).receipts = MAX_RECEIPTS;
    let refused = connection.send_datagram_tracked(vec![1], options);
    assert_eq!(refused.err(), Some(SendDatagramError::Full));
    let mut waiting = connection.send_datagram_wait(vec![2], options).tracked();
    assert!((&mut waiting).wait_timeout(NOW).is_none());
    lock(&connection.shared().datagrams).receipts -= 1;
    assert!(matches!(waiting.wait_timeout(NOW), Some(Ok(_))));
    assert_eq!(lock(&connection.shared().datagrams).receipts, MAX_RECEIPTS);
    // Without a receipt it costs none.
    connection.send_datagram(vec![3]).unwrap();
}

#[test]
fn questions_on_the_drivers_own_thread_do_not_wait_for_themselves() {
    let connection = connection(DatagramPolicy::DropOldest);
    assert_eq!(connection.stats(), crate::ConnectionStats::default());
    assert!(!connection.export(b"label", &mut [0; 4]));
}

#[test]
fn an_open_that_is_given_up_leaves_the_question_abandoned() {
    let connection = connection(DatagramPolicy::DropOldest);
    let mut opening = connection.open_uni();
    assert!((&mut opening).wait_timeout(NOW).is_none());
    let (_, reply) = lock(&connection.shared().state)
        .orders()
        .opens
        .pop_front()
        .unwrap();
    drop(opening);
    assert!(reply.is_abandoned());
}
