//! A relay with several workers, over real sockets: one port, several event loops.

mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{APP, LOOPBACK, PATIENCE, bundle, checksum, pattern, server_options};
use transport_api::{
    ConnectOptions, Connection, DropReason, Endpoint, EndpointConfig, ServerOptions, TicketOptions, Wait,
};

const WORKERS: usize = 4;

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

fn relay_with(options: ServerOptions) -> Endpoint {
    let mut config = EndpointConfig::server(LOOPBACK, options);
    config.workers = WORKERS;
    let relay = Endpoint::bind(config).expect("sockets that share a port");
    assert_eq!(relay.worker_count(), WORKERS);
    relay
}

fn relay() -> Endpoint {
    relay_with(server_options())
}

fn client() -> Endpoint {
    Endpoint::bind(EndpointConfig::client(LOOPBACK)).expect("a socket")
}

fn connect(client: &Endpoint, options: ConnectOptions) -> Connection {
    let connecting = client.connect(options).wait_timeout(PATIENCE);
    connecting.expect("in time").expect("a connection")
}

fn options(relay: &Endpoint) -> ConnectOptions {
    ConnectOptions::new(bundle(relay.local_addr()), APP)
}

fn accept(relay: &Endpoint) -> Connection {
    let incoming = relay.accept().wait_timeout(PATIENCE).expect("in time");
    incoming.expect("an open endpoint").accept()
}

/// The worker that has a connection of the relay: ids are dealt out in turns.
fn worker_of(connection: &Connection) -> u64 {
    connection.id() % WORKERS as u64
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = instant();
    while !done() {
        assert!(instant() - start < PATIENCE, "{what}");
        pause(Duration::from_millis(2));
    }
}

#[test]
fn clients_spread_over_the_workers_and_one_handle_sees_them_all() {
    let relay = relay();
    let mut ends = Vec::new();
    for _ in 0..32 {
        let client = client();
        let at_client = connect(&client, options(&relay));
        ends.push((client, at_client, accept(&relay)));
    }
    let used: BTreeSet<u64> = ends.iter().map(|(.., at_relay)| worker_of(at_relay)).collect();
    // All on one by chance: once in 4^31 runs.
    assert!(used.len() > 1, "{used:?}");
    until("the figures", || relay.stats().connections == 32);
    assert_eq!(relay.stats().handshakes_completed, 32);
    let mut walk = relay.sessions();
    let mut listed = BTreeSet::new();
    while let Some(page) = walk.next_page().wait_timeout(PATIENCE).expect("in time") {
        listed.extend(page.iter().map(|session| session.id));
    }
    assert_eq!(listed, ends.iter().map(|(.., at_relay)| at_relay.id()).collect());
    let usage = relay
        .usage()
        .wait_timeout(PATIENCE)
        .flatten()
        .expect("a running relay");
    let connections = usage
        .iter()
        .find(|one| one.name == "connections")
        .expect("listed");
    assert_eq!((connections.used, connections.limit), (32, 4096));
    relay.close(7, b"over");
    for (_, at_client, _) in &ends {
        let reason = at_client.closed().wait_timeout(PATIENCE).expect("in time");
        assert!(format!("{reason:?}").contains('7'), "{reason:?}");
    }
    assert!(relay.wait_idle().wait_timeout(PATIENCE).is_some());
    assert!(relay.accept().wait_timeout(PATIENCE).expect("in time").is_none());
}

#[test]
fn the_bound_of_connections_holds_for_all_workers_together() {
    let mut few = server_options();
    few.max_connections = 8;
    let relay = relay_with(few);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..24 {
        let client = client();
        match client
            .connect(options(&relay))
            .wait_timeout(PATIENCE)
            .expect("in time")
        {
            Ok(connection) => held.push((client, connection, accept(&relay))),
            Err(_) => refused += 1,
        }
    }
    assert_eq!((held.len(), refused), (8, 16));
}

/// Sends `data` while the client moves from port to port; what arrives, and at which worker.
fn moving(relay: &Endpoint, hops: usize) -> (u64, u64, u64) {
    let client = client();
    let at_client = connect(&client, options(relay));
    let at_relay = accept(relay);
    let worker = worker_of(&at_relay);
    let data = pattern(6 << 20);
    let sent = checksum(0, &data);
    let mut stream = at_client
        .open_uni()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("open");
    let reader = std::thread::spawn(move || {
        let mut stream = at_relay
            .accept_uni()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("open");
        let (mut sum, mut buffer) = (0, vec![0; 65536]);
        while let Some(read) = stream
            .read(&mut buffer)
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("whole")
        {
            sum = checksum(sum, &buffer[..read]);
        }
        sum
    });
    for part in data.chunks(data.len() / (hops + 1) + 1) {
        stream
            .write_all(part)
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("written");
        client.rebind(LOOPBACK).expect("a socket");
    }
    stream.finish().expect("open");
    (sent, reader.join().expect("no panic"), worker)
}

#[test]
fn a_client_that_changes_its_port_in_the_midst_is_followed_to_its_worker() {
    let relay = relay();
    let (sent, received, _) = moving(&relay, 12);
    assert_eq!(sent, received, "not what was sent");
    let stats = relay.stats();
    // Twelve hops, of which three in four lead elsewhere.
    assert!(stats.forwarded > 0, "{stats:?}");
    assert_eq!(stats.connections, 1, "one connection all the time");
}

#[test]
fn connections_may_end_while_others_hand_over_what_is_theirs() {
    let relay = relay();
    let movers: Vec<_> = (0..4)
        .map(|_| {
            let (client, at) = (client(), options(&relay));
            std::thread::spawn(move || {
                let connection = connect(&client, at);
                for _ in 0..20 {
                    let _ = connection.send_datagram(vec![1; 1000]);
                    client.rebind(LOOPBACK).expect("a socket");
                    let _ = connection.send_datagram(vec![2; 1000]);
                }
                connection.close(1, b"");
            })
        })
        .collect();
    let taken: Vec<Connection> = (0..4).map(|_| accept(&relay)).collect();
    taken
        .iter()
        .step_by(2)
        .for_each(|connection| connection.close(2, b""));
    for mover in movers {
        mover.join().expect("no panic");
    }
    for connection in &taken {
        assert!(connection.closed().wait_timeout(PATIENCE).is_some());
    }
    drop(taken);
    until("all are gone", || relay.stats().connections == 0);
    // What came late was dropped for a reason, and the relay serves on.
    let after = client();
    let _connection = connect(&after, options(&relay));
    drop(accept(&relay));
}

/// What one client's socket sends, seen by somebody on the way who also lets it pass.
struct Tap {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    fn new(relay: SocketAddr) -> Self {
        let (front, back) = (
            UdpSocket::bind(LOOPBACK).expect("a socket"),
            UdpSocket::bind(LOOPBACK).expect("a socket"),
        );
        back.connect(relay).expect("an address");
        let address = front.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let client = Arc::new(Mutex::new(None));
        let (record, whom) = (Arc::clone(&seen), Arc::clone(&client));
        let (up, down) = (
            (
                front.try_clone().expect("a socket"),
                back.try_clone().expect("a socket"),
            ),
            (back, front),
        );
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = up.0.recv_from(&mut buffer) {
                *whom.lock().expect("no panic") = Some(from);
                record.lock().expect("no panic").push(buffer[..len].to_vec());
                let _ = up.1.send(&buffer[..len]);
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(len) = down.0.recv(&mut buffer) {
                if let Some(client) = *client.lock().expect("no panic") {
                    let _ = down.1.send_to(&buffer[..len], client);
                }
            }
        });
        Self { address, seen }
    }

    /// All of it has arrived: a copy that comes before its original would be the original.
    fn take(&self) -> Vec<Vec<u8>> {
        let seen = std::mem::take(&mut *self.seen.lock().expect("no panic"));
        pause(Duration::from_millis(100));
        seen
    }
}

/// Sends copies from sockets of their own; whatever any of them is answered.
fn replay(flight: &[Vec<u8>], relay: SocketAddr) -> usize {
    let copies: Vec<UdpSocket> = (0..16)
        .map(|_| UdpSocket::bind(LOOPBACK).expect("a socket"))
        .collect();
    for copy in &copies {
        copy.set_nonblocking(true).expect("a socket");
        for datagram in flight {
            copy.send_to(datagram, relay).expect("sent");
        }
    }
    pause(Duration::from_millis(300));
    let heard = |copy: &UdpSocket| copy.recv(&mut [0; 2048]).is_ok();
    copies.iter().filter(|copy| heard(copy)).count()
}

#[test]
fn a_captured_flight_gets_silence_from_every_worker() {
    let relay = relay();
    let (tap, client) = (Tap::new(relay.local_addr()), client());
    let mut at_tap = options(&relay);
    at_tap.server = Some(tap.address);
    let _connection = connect(&client, at_tap);
    let _at_relay = accept(&relay);
    let flight = tap.take();
    let before = relay.stats();
    assert_eq!(replay(&flight, relay.local_addr()), 0, "a copy was answered");
    let after = relay.stats();
    assert_eq!(after.handshakes_answered, before.handshakes_answered);
    assert_eq!(after.hellos_read, before.hellos_read);
    let replayed = |stats: &transport_api::EndpointStats| stats.drops.get(DropReason::EnvelopeReplayed);
    // Sixteen sockets: at least one reached another worker than the client's, but in one of 2^32 runs.
    assert!(replayed(&after) >= replayed(&before) + 16 * 3, "{after:?}");
}

#[test]
fn a_ticket_of_one_worker_is_good_at_another_and_its_early_data_counts_once() {
    let mut early = server_options();
    early.tickets = TicketOptions {
        early_bytes: TicketOptions::MAX_EARLY,
        ..TicketOptions::default()
    };
    let relay = relay_with(early);
    let mut changes = 0;
    for _ in 0..12 {
        let first = client();
        let connection = connect(&first, options(&relay));
        let at_first = accept(&relay);
        let before = worker_of(&at_first);
        let ticket = connection
            .tickets()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("a ticket");
        let (tap, second) = (Tap::new(relay.local_addr()), client());
        let mut again = options(&relay);
        (again.ticket, again.server) = (Some(ticket), Some(tap.address));
        let connecting = second.connect_early(again).wait_timeout(PATIENCE);
        let resumed = connecting.expect("in time").expect("a connection");
        let mut stream = resumed
            .open_uni()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("open");
        stream.allow_early();
        stream
            .write_all(b"once")
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("written");
        let at_relay = accept(&relay);
        let mut heard = at_relay
            .accept_uni()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("open");
        let mut word = [0; 4];
        assert_eq!(
            heard.read(&mut word).wait_timeout(PATIENCE).expect("in time"),
            Ok(Some(4))
        );
        assert_eq!(
            resumed.early_accepted().wait_timeout(PATIENCE).expect("in time"),
            Ok(true)
        );
        assert!(resumed.resumed());
        changes += usize::from(worker_of(&at_relay) != before);
        let accepted = relay.stats().early_accepted;
        assert_eq!(replay(&tap.take(), relay.local_addr()), 0, "a copy was answered");
        assert_eq!(relay.stats().early_accepted, accepted, "a copy was taken");
        assert!(
            relay.accept().wait_timeout(Duration::ZERO).is_none(),
            "a copy became a connection"
        );
    }
    assert!(changes > 0, "by chance always the same worker");
}

#[test]
fn noise_is_not_handed_over_and_not_answered() {
    let relay = relay();
    let client = client();
    let _connection = connect(&client, options(&relay));
    let _at_relay = accept(&relay);
    let noise = pattern(1 << 20);
    let flight: Vec<Vec<u8>> = (0..700)
        .map(|at| noise[at * 1400..at * 1400 + 30 + at].to_vec())
        .collect();
    assert_eq!(replay(&flight, relay.local_addr()), 0);
    until("all was looked at", || {
        relay.stats().drops.get(DropReason::Unknown) > 5_000
    });
    let stats = relay.stats();
    assert_eq!(stats.forwarded, 0, "{stats:?}");
    assert_eq!(stats.connections, 1);
}

#[test]
fn a_packet_sent_again_from_everywhere_is_handed_over_within_bounds_and_the_connection_lives() {
    let relay = relay();
    let (tap, client) = (Tap::new(relay.local_addr()), client());
    let mut at_tap = options(&relay);
    at_tap.server = Some(tap.address);
    let connection = connect(&client, at_tap);
    let at_relay = accept(&relay);
    tap.take();
    connection.send_datagram(vec![5; 900]).expect("room");
    assert!(
        at_relay
            .read_datagram()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .is_ok()
    );
    let packet = tap.take();
    let flood: Vec<Vec<u8>> = packet.iter().cycle().take(2000).cloned().collect();
    replay(&flood, relay.local_addr());
    let stats = relay.stats();
    assert!(stats.forwarded > 0);
    let dropped = stats.drops.get(DropReason::ForwardFull) + stats.drops.get(DropReason::Replay);
    assert!(dropped > 0, "{stats:?}");
    connection.send_datagram(vec![6; 900]).expect("room");
    let heard = at_relay.read_datagram().wait_timeout(PATIENCE).expect("in time");
    assert_eq!(heard.map(|data| data.len()).ok(), Some(900));
}

#[test]
fn what_several_workers_cannot_do_is_refused() {
    let relay = relay();
    assert!(relay.rebind(LOOPBACK).is_err());
    let other = client();
    drop(other);
    let refused = relay
        .connect(options(&relay))
        .wait_timeout(PATIENCE)
        .expect("in time");
    assert!(refused.is_err());
}
