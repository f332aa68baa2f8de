//! Coming back over real sockets: tickets, requests in the first flight, and flights sent again by somebody else.

mod common;

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{APP, LOOPBACK, PATIENCE, bundle, identity, server_options};
use transport_api::{
    Class, ClientTicket, ConnectOptions, Connection, DatagramOptions, DropReason, Endpoint, EndpointConfig,
    Secret, ServerOptions, TicketKeys, TicketOptions, Wait,
};

/// One way through the proxy: long enough for a loaded machine to look at what came before the answer is back.
const WAY: Duration = Duration::from_millis(150);

fn instant() -> Instant {
    transport_api::now().instant
}

#[expect(
    clippy::disallowed_methods,
    reason = "real sockets take real time, and nothing here is told when a datagram came"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Somebody on the way, who sees every datagram to the relay and lets it pass, later.
struct Proxy {
    address: SocketAddr,
    /// The socket the relay sees.
    back: UdpSocket,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    fn new(relay: SocketAddr) -> Self {
        let socket = || UdpSocket::bind(LOOPBACK).expect("a socket");
        let (front, back) = (socket(), socket());
        for socket in [&front, &back] {
            socket.set_nonblocking(true).expect("a socket");
        }
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (record, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let address = front.local_addr().expect("bound");
        let inner = back.try_clone().expect("a socket");
        let thread = std::thread::spawn(move || {
            let mut client = None;
            let mut waiting: VecDeque<(Instant, bool, Vec<u8>)> = VecDeque::new();
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                while let Ok((len, from)) = front.recv_from(&mut buffer) {
                    client = Some(from);
                    record.lock().expect("no panic").push(buffer[..len].to_vec());
                    waiting.push_back((instant() + WAY, true, buffer[..len].to_vec()));
                }
                while let Ok((len, _)) = inner.recv_from(&mut buffer) {
                    waiting.push_back((instant() + WAY, false, buffer[..len].to_vec()));
                }
                while waiting.front().is_some_and(|(at, ..)| *at <= instant()) {
                    let (_, up, bytes) = waiting.pop_front().expect("looked at");
                    let _ = match (up, client) {
                        (true, _) => inner.send_to(&bytes, relay),
                        (false, Some(client)) => front.send_to(&bytes, client),
                        (false, None) => Ok(0),
                    };
                }
                pause(Duration::from_millis(1));
            }
        });
        Self {
            address,
            back,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// What it has seen since it was asked last.
    fn take_seen(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A relay of a fleet that shares ticket keys; each takes early data on its own tickets alone.
fn relay() -> Endpoint {
    let options = ServerOptions {
        tickets: TicketOptions {
            early_bytes: TicketOptions::MAX_EARLY,
            ..TicketOptions::default()
        },
        ..server_options()
    };
    let endpoint = Endpoint::bind(EndpointConfig::server(LOOPBACK, options)).expect("relay socket");
    let keys = TicketKeys::from_secret(identity().relay_id(), 1, &Secret::new([9; 32]));
    endpoint.install_ticket_keys(keys);
    endpoint
}

fn client() -> Endpoint {
    Endpoint::bind(EndpointConfig::client(LOOPBACK)).expect("client socket")
}

fn options(relay: &Endpoint, through: SocketAddr, ticket: Option<ClientTicket>) -> ConnectOptions {
    ConnectOptions {
        server: Some(through),
        ticket,
        ..ConnectOptions::new(bundle(relay.local_addr()), APP)
    }
}

fn accept(relay: &Endpoint) -> Connection {
    let incoming = relay.accept().wait_timeout(PATIENCE).expect("in time");
    incoming.expect("an incoming").accept()
}

/// A first connection, and what it leaves.
fn ticket_of(relay: &Endpoint, client: &Endpoint, through: SocketAddr) -> ClientTicket {
    let connection = client
        .connect(options(relay, through, None))
        .wait()
        .expect("a connection");
    assert!(!connection.resumed());
    let at_relay = accept(relay);
    let ticket = connection
        .tickets()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a ticket");
    connection.close(0, b"");
    at_relay.closed().wait_timeout(PATIENCE).expect("in time");
    ticket
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = instant() + PATIENCE;
    while !done() {
        assert!(instant() < end, "{what}");
        pause(Duration::from_millis(10));
    }
}

#[test]
fn a_ticket_resumes_once_stored_and_read_again() {
    let (relay, client) = (relay(), client());
    let ticket = ticket_of(&relay, &client, relay.local_addr());
    let stored = ClientTicket::from_bytes(&ticket.to_bytes()).expect("what was written");
    let connection = client
        .connect(options(&relay, relay.local_addr(), Some(stored)))
        .wait()
        .expect("a connection");
    assert!(connection.resumed());
    assert!(accept(&relay).resumed());
    assert_eq!(connection.early_accepted().wait(), Ok(false), "none was sent");
    eventually("both count it", || {
        (client.stats().resumed, relay.stats().resumed) == (1, 1)
    });
}

#[test]
fn a_request_arrives_in_the_first_flight_and_a_copy_of_it_nowhere() {
    let (relay, client) = (relay(), client());
    let proxy = Proxy::new(relay.local_addr());
    let ticket = ticket_of(&relay, &client, proxy.address);
    pause(2 * WAY);
    proxy.take_seen();

    let connection = client
        .connect_early(options(&relay, proxy.address, Some(ticket)))
        .wait_timeout(WAY)
        .expect("at once")
        .expect("a connection");
    assert!(!connection.resumed(), "not yet");
    let (mut send, mut recv) = connection.open_bi().wait().expect("a stream");
    send.allow_early();
    send.write_all(b"request").wait().expect("written");
    send.finish().expect("open");
    let held = connection.open_uni().wait().expect("a stream");
    let datagram = DatagramOptions {
        class: Class::Bulk,
        deadline: None,
        early: true,
        notify: false,
        flow: None,
    };
    connection
        .send_datagram_with(b"hint".to_vec(), datagram)
        .expect("room");
    assert!(!connection.export(b"label", &mut [0; 8]), "there are no keys yet");

    let at_relay = accept(&relay);
    assert!(
        at_relay.is_early(),
        "it came before the client could show that it is there"
    );
    let (mut answer, mut request) = at_relay
        .accept_bi()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a stream");
    assert!(request.is_early(), "so it may be a copy");
    assert_eq!(request.read_to_end(100).wait().expect("all of it"), b"request");
    let hint = at_relay.read_datagram().wait_timeout(PATIENCE).expect("in time");
    assert_eq!(hint.expect("a datagram"), b"hint");
    answer.write_all(b"answer").wait().expect("written");
    answer.finish().expect("open");
    assert_eq!(recv.read_to_end(100).wait().expect("all of it"), b"answer");
    assert_eq!(connection.early_accepted().wait(), Ok(true));
    assert!(connection.resumed() && connection.handshake_duration() >= 2 * WAY);
    assert!(connection.stats().early_packets >= 1);
    drop(held);
    eventually("the client shows itself", || !at_relay.is_early());

    // The flight: all that was seen before the relay's answer can have come.
    let flight = proxy.take_seen();
    let stranger = UdpSocket::bind(LOOPBACK).expect("a socket");
    let before = relay.stats();
    for socket in [&proxy.back, &stranger] {
        for datagram in &flight {
            socket.send_to(datagram, relay.local_addr()).expect("sent");
        }
    }
    eventually("all copies arrived", || {
        relay.stats().received_datagrams >= before.received_datagrams + 2 * flight.len() as u64
    });
    let after = relay.stats();
    assert_eq!((after.early_accepted, after.handshakes_completed), (1, 2));
    assert_eq!(
        (after.handshakes_answered, after.half_open),
        (before.handshakes_answered, before.half_open)
    );
    assert!(after.drops.get(DropReason::EnvelopeReplayed) >= 6, "{after:?}");
    assert!(
        at_relay.accept_bi().wait_timeout(WAY).is_none(),
        "nothing is asked again"
    );

    // Another relay that opens the same tickets.
    let other = self::relay();
    for datagram in &flight {
        stranger.send_to(datagram, other.local_addr()).expect("sent");
    }
    eventually("the other relay judged it", || other.stats().early_rejected == 1);
    assert!(
        other.accept().wait_timeout(WAY).is_none(),
        "no connection comes of it"
    );
    let stats = other.stats();
    assert_eq!(
        (
            stats.early_accepted,
            stats.handshakes_completed,
            stats.connections
        ),
        (0, 0, 0)
    );
    assert_eq!(
        stats.handshakes_answered, 1,
        "it would resume, without the early data"
    );
}

#[test]
fn what_another_relay_refuses_comes_again_by_itself() {
    let (first, second, client) = (relay(), relay(), client());
    let ticket = ticket_of(&first, &client, first.local_addr());
    let proxy = Proxy::new(second.local_addr());
    let connection = client
        .connect_early(options(&second, proxy.address, Some(ticket)))
        .wait()
        .expect("a connection");
    let mut send = connection.open_uni().wait().expect("a stream");
    send.allow_early();
    send.write_all(&[7; 5000]).wait().expect("written");
    send.finish().expect("open");
    let at_relay = accept(&second);
    let mut recv = at_relay
        .accept_uni()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a stream");
    assert_eq!(recv.read_to_end(10_000).wait().expect("all of it"), [7; 5000]);
    assert_eq!(connection.early_accepted().wait(), Ok(false));
    assert!(connection.resumed());
    assert_eq!(
        (second.stats().early_rejected, client.stats().early_rejected),
        (1, 1)
    );
}

#[test]
fn an_early_connection_without_a_relay_ends_like_any_other() {
    let (relay, client) = (relay(), client());
    let ticket = ticket_of(&relay, &client, relay.local_addr());
    let nobody = UdpSocket::bind(LOOPBACK).expect("a socket");
    let connection = client
        .connect_early(options(&relay, nobody.local_addr().expect("bound"), Some(ticket)))
        .wait()
        .expect("a connection");
    let accepted = connection.early_accepted();
    connection.close(3, b"enough");
    let reason = connection.closed().wait_timeout(PATIENCE).expect("in time");
    assert!(format!("{reason}").contains("code 3"), "{reason}");
    assert!(accepted.wait_timeout(PATIENCE).expect("in time").is_err());
    // Without a ticket it is a connect.
    let connection = client
        .connect_early(options(&relay, relay.local_addr(), None))
        .wait()
        .expect("a connection");
    assert_eq!(connection.early_accepted().wait(), Ok(false));
}
