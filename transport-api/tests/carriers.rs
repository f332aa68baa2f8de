//! Connections whose packets travel by carriers: pipes of this process, and connections of the very same endpoint.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use common::{
    APP, LOOPBACK, PATIENCE, bundle, checksum, eventually, instant, pair, pattern, pause, server_options,
};
use transport_api::local::Loop;
use transport_api::{
    AttachError, By, Carrier, CarrierInput, CloseReason, ConnectError, ConnectOptions, Connection,
    ConnectionError, Endpoint, EndpointConfig, Failover, PathChange, PathError, PathReason, PathState,
    ServerOptions, TicketOptions, TransportOptions, Wait, code,
};

/// One direction of a pipe.
struct Wire {
    /// Whom the other end hears.
    name: SocketAddr,
    to: OnceLock<CarrierInput>,
    /// What it says, and what really passes.
    width: AtomicUsize,
    passes: AtomicUsize,
    largest: AtomicUsize,
    /// One of so many datagrams is lost; 0: none.
    lossy: usize,
    count: AtomicUsize,
}

impl Wire {
    fn new(name: &str, lossy: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.parse().expect("an address"),
            to: OnceLock::new(),
            width: 1472.into(),
            passes: 65_535.into(),
            largest: 0.into(),
            lossy,
            count: 0.into(),
        })
    }
}

impl Carrier for Wire {
    fn send(&self, _to: SocketAddr, datagram: &[u8]) {
        self.largest.fetch_max(datagram.len(), Relaxed);
        let count = self.count.fetch_add(1, Relaxed) + 1;
        let lost = self.lossy > 0 && count.is_multiple_of(self.lossy);
        if let Some(to) = self.to.get()
            && !lost
            && datagram.len() <= self.passes.load(Relaxed)
        {
            to.deliver(self.name, datagram.to_vec());
        }
    }

    fn max_payload(&self) -> usize {
        self.width.load(Relaxed)
    }
}

const CLIENT: &str = "192.0.2.1:1";
const SERVER: &str = "192.0.2.2:2";

/// A client and a server that have nothing but a pipe.
struct Piped {
    client: Endpoint,
    server: Endpoint,
    up: Arc<Wire>,
    down: Arc<Wire>,
    at_client: CarrierInput,
    at_server: CarrierInput,
}

fn piped(lossy: usize) -> Piped {
    piped_to(server_options(), lossy)
}

fn piped_to(options: ServerOptions, lossy: usize) -> Piped {
    let server = Endpoint::bind(EndpointConfig::server(LOOPBACK, options)).expect("a socket");
    let client = Endpoint::bind(EndpointConfig::client(LOOPBACK)).expect("a socket");
    let (up, down) = (Wire::new(CLIENT, lossy), Wire::new(SERVER, lossy));
    let at_client = client.attach(Arc::<Wire>::clone(&up)).expect("room");
    let at_server = server.attach(Arc::<Wire>::clone(&down)).expect("room");
    up.to.set(at_server.clone()).expect("once");
    down.to.set(at_client.clone()).expect("once");
    Piped {
        client,
        server,
        up,
        down,
        at_client,
        at_server,
    }
}

fn way(to: &str, via: IpAddr) -> ConnectOptions {
    ConnectOptions {
        via: Some(via),
        ..ConnectOptions::new(bundle(to.parse().expect("an address")), APP)
    }
}

fn connected(client: &Endpoint, server: &Endpoint, options: ConnectOptions) -> (Connection, Connection) {
    let here = client
        .connect(options)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a connection");
    let there = server
        .accept()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("an open endpoint");
    (here, there.accept())
}

impl Piped {
    fn connect(&self) -> (Connection, Connection) {
        connected(&self.client, &self.server, way(SERVER, self.at_client.local()))
    }
}

/// Sends `len` bytes on a stream of `from`, and sees that `to` gets them.
fn carry_bytes(from: &Connection, to: &Connection, len: usize) {
    let data = pattern(len);
    let expected = checksum(0, &data);
    let mut stream = from
        .open_uni()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a stream");
    let to = to.clone();
    let reader = thread::spawn(move || {
        let mut stream = to
            .accept_uni()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("a stream");
        stream
            .read_to_end(1 << 30)
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("all of it")
    });
    stream
        .write_all(&data)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("taken");
    stream.finish().expect("an open stream");
    let got = reader.join().expect("a reader that does not panic");
    assert_eq!((got.len(), checksum(0, &got)), (len, expected));
}

fn mtu(connection: &Connection) -> u16 {
    connection.paths().first().expect("a path").mtu
}

#[test]
fn a_connection_over_a_pipe_that_loses_a_tenth() {
    let piped = piped(10);
    let (here, there) = piped.connect();
    assert_eq!(here.remote_address().to_string(), SERVER);
    assert_eq!(there.remote_address().to_string(), CLIENT);
    carry_bytes(&here, &there, 300_000);
    carry_bytes(&there, &here, 300_000);
    let figures = piped.at_client.figures();
    assert!(figures.sent > 200 && figures.received > 200, "{figures:?}");
    assert_eq!((figures.dropped_full, figures.dropped_too_long), (0, 0));
    // Nothing came by the sockets.
    eventually("all that came, came by the carrier", || {
        piped.client.stats().received_datagrams == piped.at_client.figures().received
    });
}

#[test]
fn a_narrow_carrier_is_no_reason_to_wait_and_is_never_asked_for_more() {
    for knows in [true, false] {
        let piped = piped(0);
        piped.up.width.store(1150, Relaxed);
        piped.down.passes.store(1150, Relaxed);
        if knows {
            piped.down.width.store(1150, Relaxed);
        }
        let begin = instant();
        let (here, there) = piped.connect();
        carry_bytes(&here, &there, 100_000);
        carry_bytes(&there, &here, 100_000);
        // The first repetition of a hello would be due after a second.
        assert!(
            (instant() - begin) < Duration::from_millis(900),
            "{:?}, {knows}",
            (instant() - begin)
        );
        assert_eq!(mtu(&here), 1150);
        assert_eq!(piped.up.largest.load(Relaxed), 1150);
        assert_eq!(piped.at_client.figures().dropped_too_long, 0);
        if knows {
            eventually("the server's search ends at its carrier's width", || {
                mtu(&there) == 1150
            });
            assert_eq!(piped.down.largest.load(Relaxed), 1150);
        }
    }
}

#[test]
fn paths_follow_the_width_of_their_carrier_both_ways() {
    let piped = piped(0);
    let (here, there) = piped.connect();
    eventually("the search ends", || mtu(&here) == 1472);
    for (width, passes_more) in [(1100, false), (1250, true), (1040, false), (1472, true)] {
        piped.up.width.store(width, Relaxed);
        let oversized = piped.at_client.figures().dropped_too_long;
        carry_bytes(&here, &there, 50_000);
        eventually("the path follows", || {
            carry_bytes(&here, &there, 2_000);
            usize::from(mtu(&here)) == width
        });
        let dropped = piped.at_client.figures().dropped_too_long - oversized;
        // One batch was made before anybody knew.
        assert!(
            dropped <= if passes_more { 0 } else { 64 },
            "{dropped} at {width}"
        );
    }
}

#[test]
fn what_is_too_narrow_for_any_connection_is_refused() {
    let piped = piped(0);
    piped.up.width.store(999, Relaxed);
    let connecting = piped.client.connect(way(SERVER, piped.at_client.local()));
    assert_eq!(
        connecting.wait_timeout(PATIENCE).expect("in time").err(),
        Some(ConnectError::TooNarrow)
    );
    let pair = pair();
    let narrow = pair.client.attach(Wire::new(CLIENT, 0)).expect("room");
    let wire = Wire::new(CLIENT, 0);
    wire.width.store(999, Relaxed);
    let narrower = pair.client.attach(wire).expect("room");
    let add = |local| {
        pair.at_client
            .add_path(local)
            .wait_timeout(PATIENCE)
            .expect("in time")
    };
    assert_eq!(add(narrower.local()), Err(PathError::TooNarrow));
    assert!(pair.client.detach(narrow.local()) && !pair.client.detach(narrow.local()));
    assert_eq!(add(narrow.local()), Err(PathError::NoAddress));
    let gone = pair.client.connect(way(SERVER, narrow.local()));
    assert_eq!(
        gone.wait_timeout(PATIENCE).expect("in time").err(),
        Some(ConnectError::NoCarrier)
    );
}

#[test]
fn what_nobody_takes_is_dropped_and_counted() {
    let main = Loop::new(16).expect("a loop");
    // The driver lives on a loop that does not run.
    let endpoint = Endpoint::bind_on(EndpointConfig::client(LOOPBACK), &main.handle()).expect("a socket");
    let from: SocketAddr = SERVER.parse().expect("an address");
    let input = endpoint.attach(Wire::new(CLIENT, 0)).expect("room");
    for _ in 0..1100 {
        input.deliver(from, vec![0; 100]);
    }
    let figures = input.figures();
    assert_eq!((figures.received, figures.dropped_full), (1024, 76));
    let large = endpoint.attach(Wire::new(CLIENT, 0)).expect("room");
    let taken = (0..20).filter(|_| large.deliver(from, vec![0; 60_000])).count();
    assert_eq!((taken, large.figures().dropped_full), (17, 3), "a MiB");
    assert!(endpoint.detach(input.local()));
    assert!(!input.deliver(from, vec![0; 100]));
    assert_eq!(input.figures().dropped_detached, 1025);
    let more: Vec<_> = (0..70).map(|_| endpoint.attach(Wire::new(CLIENT, 0))).collect();
    assert_eq!(more.iter().filter(|one| one.is_ok()).count(), 63);
    assert!(matches!(more.last(), Some(Err(AttachError::TooMany))));
    drop(main);
    assert!(matches!(
        endpoint.attach(Wire::new(CLIENT, 0)),
        Err(AttachError::EndpointClosed)
    ));
}

#[test]
fn several_workers_take_no_carrier() {
    let server = Endpoint::bind(EndpointConfig {
        workers: 2,
        ..EndpointConfig::server(LOOPBACK, server_options())
    })
    .expect("sockets");
    assert!(matches!(
        server.attach(Wire::new(SERVER, 0)),
        Err(AttachError::Workers)
    ));
}

#[test]
fn a_connection_ends_with_its_only_carrier() {
    let piped = piped(0);
    let (here, _there) = piped.connect();
    let dialing = piped.client.connect(way("192.0.2.9:9", piped.at_client.local()));
    let begin = instant();
    assert!(piped.client.detach(piped.at_client.local()));
    let over = CloseReason::Transport {
        code: code::NO_VIABLE_PATH,
        by: By::Local,
    };
    let ended = here.closed().wait_timeout(PATIENCE).expect("in time");
    assert_eq!(ended, ConnectionError::Closed(over.clone()));
    assert!(ended.is_retryable(), "it may work another time");
    let failed = dialing.wait_timeout(PATIENCE).expect("in time").err();
    assert!(
        failed == Some(ConnectError::Handshake(over)) || failed == Some(ConnectError::NoCarrier),
        "{failed:?}"
    );
    assert!((instant() - begin) < Duration::from_secs(5));
    assert!(piped.at_server.figures().received > 0);
}

/// Waits for a change of a path that is as `wanted` says.
fn change(connection: &Connection, wanted: impl Fn(&PathChange) -> bool) -> PathChange {
    loop {
        let next = connection.path_changes().wait_timeout(PATIENCE).expect("in time");
        let next = next.expect("a live connection");
        if wanted(&next) {
            return next;
        }
    }
}

/// A pair that knows each other by sockets, and by a pipe that leads to the same place.
fn two_ways() -> (common::Pair, Piped) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let server = Endpoint::bind(EndpointConfig::server(LOOPBACK, server_options())).expect("a socket");
    let client = Endpoint::bind(EndpointConfig {
        transport: TransportOptions {
            failover: Failover::Auto,
            ..TransportOptions::default()
        },
        ..EndpointConfig::client(any)
    })
    .expect("a socket");
    let (up, down) = (
        Wire::new(CLIENT, 0),
        Wire::new(&server.local_addr().to_string(), 0),
    );
    let at_client = client.attach(Arc::<Wire>::clone(&up)).expect("room");
    let at_server = server.attach(Arc::<Wire>::clone(&down)).expect("room");
    up.to.set(at_server.clone()).expect("once");
    down.to.set(at_client.clone()).expect("once");
    let options = ConnectOptions::new(bundle(server.local_addr()), APP);
    let (here, there) = connected(&client, &server, options);
    let pair = common::Pair {
        server: server.clone(),
        client: client.clone(),
        at_server: there,
        at_client: here,
    };
    let piped = Piped {
        client,
        server,
        up,
        down,
        at_client,
        at_server,
    };
    (pair, piped)
}

#[test]
fn a_path_over_a_carrier_stands_by_takes_over_and_ends_with_it() {
    let (pair, piped) = two_ways();
    piped.up.width.store(1150, Relaxed);
    let carrier = piped.at_client.local();
    let mut path = Err(PathError::NotConnected);
    // The server must have confirmed the connection, and given ids for another path.
    eventually("a path may be opened", || {
        path = pair
            .at_client
            .add_path(carrier)
            .wait_timeout(PATIENCE)
            .expect("in time");
        path.is_ok()
    });
    let path = path.expect("just seen");
    let begin = instant();
    change(&pair.at_client, |now| {
        now.path == path && now.state == PathState::Standby
    });
    assert!(
        (instant() - begin) < Duration::from_millis(900),
        "{:?}",
        (instant() - begin)
    );
    assert_eq!(piped.at_client.figures().dropped_too_long, 0);
    pair.at_client
        .migrate(path)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("it works");
    change(&pair.at_client, |now| {
        now.path == path && now.state == PathState::Active
    });
    carry_bytes(&pair.at_client, &pair.at_server, 200_000);
    assert_eq!(mtu(&pair.at_client), 1150);
    assert!(piped.at_client.figures().sent > 100);
    assert!(pair.client.detach(carrier));
    let over = change(&pair.at_client, |now| {
        now.path == path && now.state == PathState::Abandoned
    });
    assert_eq!(over.reason, PathReason::AddressLost);
    carry_bytes(&pair.at_client, &pair.at_server, 200_000);
    assert!(
        pair.at_client
            .paths()
            .iter()
            .all(|path| path.route.local != Some(carrier) || path.state == PathState::Abandoned)
    );
}

#[test]
fn who_goes_by_a_carrier_alone_never_shows_up_directly() {
    let (pair, piped) = two_ways();
    let options = ConnectOptions {
        server: Some(pair.server.local_addr()),
        ..way(SERVER, piped.at_client.local())
    };
    let (here, _there) = connected(&pair.client, &pair.server, options);
    // The pipe breaks; the socket would lead there.
    piped.up.passes.store(0, Relaxed);
    piped.down.passes.store(0, Relaxed);
    here.send_datagram(b"lost".to_vec()).expect("a live connection");
    change(&here, |now| now.state == PathState::Suspect);
    pause(Duration::from_millis(300));
    let paths = here.paths();
    assert_eq!(paths.len(), 1, "{paths:?}");
}

/// A connection of an endpoint that carries others of the very same endpoint.
struct Inside {
    outer: Connection,
    name: SocketAddr,
}

impl Carrier for Inside {
    fn send(&self, _to: SocketAddr, datagram: &[u8]) {
        drop(self.outer.send_datagram(datagram.to_vec()));
    }

    fn max_payload(&self) -> usize {
        self.outer.max_datagram_size()
    }
}

/// Attaches a connection to its own endpoint, and reads what comes by it.
fn carried_by(endpoint: &Endpoint, outer: &Connection, name: &str) -> CarrierInput {
    let inside = Arc::new(Inside {
        outer: outer.clone(),
        name: name.parse().expect("an address"),
    });
    let input = endpoint.attach(Arc::<Inside>::clone(&inside)).expect("room");
    let (to, outer) = (input.clone(), outer.clone());
    thread::spawn(move || {
        while let Ok(datagram) = outer.read_datagram().wait() {
            to.deliver(inside.name, datagram);
        }
    });
    input
}

#[test]
fn connections_within_connections_of_the_same_endpoints() {
    let pair = pair();
    let (mut here, mut there) = (pair.at_client.clone(), pair.at_server.clone());
    let mut levels = vec![(here.clone(), there.clone())];
    for level in 1..=4 {
        eventually("the path below is searched", || mtu(&here) > 1300);
        let input = carried_by(&pair.client, &here, SERVER);
        carried_by(&pair.server, &there, CLIENT);
        (here, there) = connected(&pair.client, &pair.server, way(SERVER, input.local()));
        let begin = instant();
        carry_bytes(&here, &there, 500_000);
        carry_bytes(&there, &here, 500_000);
        println!(
            "level {level}: 1 MB in {:?}, payload {}, {:?}",
            (instant() - begin),
            here.max_datagram_size(),
            input.figures()
        );
        levels.push((here.clone(), there.clone()));
    }
    // Who ends the outermost ends them all, once their carrier is detached or they fall idle; here by hand.
    let (here, there) = levels.pop().expect("the innermost");
    here.close(7, b"done");
    let ended = there.closed().wait_timeout(PATIENCE).expect("in time");
    assert!(
        matches!(
            ended,
            ConnectionError::Closed(CloseReason::Application { code: 7, .. })
        ),
        "{ended:?}"
    );
}

#[test]
fn early_data_fits_a_narrow_carrier() {
    let options = ServerOptions {
        tickets: TicketOptions {
            early_bytes: TicketOptions::MAX_EARLY,
            ..TicketOptions::default()
        },
        ..server_options()
    };
    let piped = piped_to(options, 0);
    piped.up.width.store(1100, Relaxed);
    let (first, _there) = piped.connect();
    let ticket = first
        .tickets()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a ticket");
    let options = ConnectOptions {
        ticket: Some(ticket),
        ..way(SERVER, piped.at_client.local())
    };
    // No answer comes through until all is there, so it can only have come early.
    piped.down.passes.store(0, Relaxed);
    piped.up.largest.store(0, Relaxed);
    let early = piped
        .client
        .connect_early(options)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("at once");
    let mut stream = early
        .open_uni()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a stream");
    stream.allow_early();
    let data = pattern(8_000);
    stream
        .write_all(&data)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("taken");
    stream.finish().expect("an open stream");
    let there = piped
        .server
        .accept()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("open")
        .accept();
    let mut stream = there
        .accept_uni()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a stream");
    let got = stream
        .read_to_end(10_000)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("all of it");
    assert_eq!(got, data);
    assert!(
        (900..=1000).contains(&piped.up.largest.load(Relaxed)),
        "{:?}",
        piped.up.largest
    );
    piped.down.passes.store(65_535, Relaxed);
    let accepted = early.early_accepted().wait_timeout(PATIENCE).expect("in time");
    assert_eq!(accepted, Ok(true));
    assert_eq!(piped.at_client.figures().dropped_too_long, 0);
}
