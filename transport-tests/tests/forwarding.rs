//! What a datagram that a relay forwards costs it in allocations: a whole relay on loopback, with a driver on a thread of its own, whose
//! client and target live on threads that are not counted. All others are.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use transport_api::local::{Handle, Loop};
use transport_api::relay::{APP, RelayConfig, RelayService};
use transport_api::tunnel::{BindOptions, Client};
use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Endpoint, EndpointAddress, EndpointConfig,
    RelayIdentity, RelayStatics, ServerOptions, now,
};
use transport_tests::oracle::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PATIENCE: Duration = Duration::from_mins(4);
const SIZE: usize = 1200;
/// Packets before it is counted, and while it is.
const WARM: u64 = 20_000;
const COUNTED: u64 = 100_000;
/// Packets under way at most, so that no queue drops.
const UNDER_WAY: u64 = 96;
/// What is under way for so long was lost.
const LOST: Duration = Duration::from_millis(100);
/// Allocations for each packet: less than one in a hundred.
const BOUND: f64 = 0.01;

/// Packets that arrived at their end.
type Count = Arc<AtomicU64>;

/// Keeps a sender from running ahead of its receiver.
struct Pace {
    arrived: Count,
    sent: u64,
    /// The last that arrived, and when it was seen.
    progress: (u64, Instant),
}

impl Pace {
    fn new(arrived: &Count) -> Self {
        Self {
            arrived: Arc::clone(arrived),
            sent: 0,
            progress: (0, now().instant),
        }
    }

    fn may_send(&mut self) -> bool {
        let (arrived, now) = (self.arrived.load(Ordering::Relaxed), now().instant);
        if arrived != self.progress.0 {
            self.progress = (arrived, now);
        } else if now.saturating_duration_since(self.progress.1) > LOST {
            self.sent = arrived;
        }
        let may = self.sent < arrived + UNDER_WAY;
        self.sent += u64::from(may);
        may
    }
}

/// Allocations a packet, from the first `WARM` packets on.
#[derive(Default)]
struct Measure(Option<u64>);

impl Measure {
    /// The figure, once all have arrived.
    fn look(&mut self, arrived: u64) -> Option<f64> {
        let calls = Counting::calls_of_all();
        match self.0 {
            None if arrived >= WARM => self.0 = Some(calls),
            Some(begun) if arrived >= WARM + COUNTED => return Some((calls - begun) as f64 / COUNTED as f64),
            _ => {}
        }
        None
    }
}

fn relay() -> (RelayService, ConnectOptions) {
    let (identity, statics) = (
        RelayIdentity::from_seeds([3; 64]),
        RelayStatics::from_seeds([4; 96]),
    );
    let seconds = now().unix_ms / 1000;
    let options = ServerOptions::open(identity.relay_id(), statics, 1, APP);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = Endpoint::bind(EndpointConfig::server(loopback, options)).expect("a socket");
    let draft = BundleDraft {
        epoch: 1,
        not_before: seconds - 60,
        not_after: seconds + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(loopback.ip()),
            port: endpoint.local_addr().port(),
            cover: 0,
        }],
    };
    let signed = identity.sign_bundle(&draft, &RelayStatics::from_seeds([4; 96]));
    let bundle = Bundle::parse(&signed.expect("a bundle")).expect("our own bundle");
    let mut config = RelayConfig::default();
    config.bind.addresses = vec![loopback.ip()];
    config.policy.allow = vec!["127.0.0.1".parse().expect("a network")];
    let service = RelayService::start(endpoint, config).expect("a relay");
    (service, ConnectOptions::new(bundle, APP))
}

/// Runs `work` with a client on a thread that does not count.
fn with_client<F: Future<Output = ()>>(work: impl FnOnce(Client, Handle) -> F) {
    Counting::step_aside();
    let (service, way) = relay();
    let mut main = Loop::new(64).expect("a loop");
    let at = main.handle();
    let client = Endpoint::bind_on(EndpointConfig::client(SocketAddr::from(([127, 0, 0, 1], 0))), &at);
    let whole = async {
        let connection = client
            .expect("a socket")
            .connect(way)
            .await
            .expect("a connection");
        work(Client::start(&at, connection).expect("room"), at.clone()).await;
    };
    let run = main.run(async { at.timeout(PATIENCE, whole).await });
    run.expect("a loop").expect("in time");
    service.stop();
    service.join().expect("a proper end");
}

fn target() -> (Arc<UdpSocket>, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address");
    (Arc::new(socket), address)
}

/// Sends through a tunnel what a target counts.
async fn up(at: &Handle, socket: &Arc<UdpSocket>, send: impl Fn(&[u8])) -> f64 {
    let (arrived, socket) = (Count::default(), Arc::clone(socket));
    let counter = Arc::clone(&arrived);
    let receiver = thread::spawn(move || {
        Counting::step_aside();
        let mut buffer = [0; 2048];
        while counter.load(Ordering::Relaxed) < WARM + COUNTED {
            let read = socket.recv(&mut buffer).expect("a packet");
            counter.fetch_add(u64::from(read == SIZE), Ordering::Relaxed);
        }
    });
    let (mut pace, mut measure) = (Pace::new(&arrived), Measure::default());
    let figure = loop {
        if let Some(figure) = measure.look(arrived.load(Ordering::Relaxed)) {
            break figure;
        }
        if pace.may_send() {
            send(&[7; SIZE]);
        } else {
            at.sleep(Duration::from_micros(50)).await;
        }
    };
    receiver.join().expect("a target that does not panic");
    figure
}

/// Counts what a target sends to who spoke to it last; `arrived` counts what comes out of the tunnel.
async fn down(at: &Handle, socket: &Arc<UdpSocket>, arrived: &Count, send: impl Fn(&[u8])) -> f64 {
    send(b"where am I?");
    let (counter, socket) = (Arc::clone(arrived), Arc::clone(socket));
    let sender = thread::spawn(move || {
        Counting::step_aside();
        let mut buffer = [0; 2048];
        // Late packets of the way up are larger.
        let from = loop {
            let (read, from) = socket.recv_from(&mut buffer).expect("a packet");
            if read < SIZE {
                break from;
            }
        };
        let mut pace = Pace::new(&counter);
        while counter.load(Ordering::Relaxed) < WARM + COUNTED {
            if pace.may_send() {
                socket.send_to(&buffer[..SIZE], from).expect("sent");
            } else {
                thread::park_timeout(Duration::from_micros(50));
            }
        }
    });
    let mut measure = Measure::default();
    let figure = loop {
        if let Some(figure) = measure.look(arrived.load(Ordering::Relaxed)) {
            break figure;
        }
        at.sleep(Duration::from_micros(500)).await;
    };
    sender.join().expect("a target that does not panic");
    figure
}

#[expect(clippy::print_stdout, reason = "the figure, for who asks with --nocapture")]
fn judge(name: &str, figures: [f64; 2]) {
    let [up, down] = figures;
    println!("{name}: allocations of the relay for a packet: up {up:.5}, down {down:.5}");
    assert!(up < BOUND && down < BOUND, "{name}: up {up}, down {down}");
}

/// One test, since the relays of two would count each other's.
#[test]
fn a_forwarded_datagram_allocates_nothing() {
    with_client(|client, at| async move {
        let (socket, target) = target();
        let tunnel = client.connect_udp("127.0.0.1", target.port()).await;
        let tunnel = tunnel.expect("a tunnel");
        let (receiving, arrived) = (tunnel.clone(), Count::default());
        let counter = Arc::clone(&arrived);
        at.spawn(async move {
            while let Ok(packet) = receiving.recv().await {
                counter.fetch_add(u64::from(packet.len() == SIZE), Ordering::Relaxed);
            }
        })
        .expect("room for a task");
        // What is dropped is sent again by nobody, and missed by nobody.
        let send = |packet: &[u8]| _ = tunnel.send(packet);
        let up = up(&at, &socket, send).await;
        judge("CONNECT-UDP", [up, down(&at, &socket, &arrived, send).await]);
    });
    with_client(|client, at| async move {
        let (socket, target) = target();
        let tunnel = client.bind_udp(&BindOptions::default()).await.expect("a port");
        tunnel.compress(target).expect("room");
        let (receiving, arrived) = (tunnel.clone(), Count::default());
        let counter = Arc::clone(&arrived);
        at.spawn(async move {
            while let Ok((packet, _)) = receiving.recv_from().await {
                counter.fetch_add(u64::from(packet.len() == SIZE), Ordering::Relaxed);
            }
        })
        .expect("room for a task");
        let send = |packet: &[u8]| _ = tunnel.send_to(packet, target);
        let up = up(&at, &socket, send).await;
        judge("bind", [up, down(&at, &socket, &arrived, send).await]);
    });
}
