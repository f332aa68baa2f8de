//! What an idle IP tunnel costs a relay: a whole one with a TUN device, in a network namespace of its own, and clients on threads whose
//! memory is not counted.
#![cfg(target_os = "linux")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use transport_api::local::{Handle, Loop};
use transport_api::relay::{APP, AccountingEvent, EventKind, IpService, RelayConfig, RelayService};
use transport_api::tun::netlink::Netlink;
use transport_api::tun::{Tun, TunOptions};
use transport_api::tunnel::{Client, IpEvent, IpRequest, IpTunnel};
use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Endpoint, EndpointAddress, EndpointConfig,
    RelayIdentity, RelayStatics, ServerOptions, now,
};
use transport_tests::oracle::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tells the test that it is inside the namespace.
const INSIDE: &str = "ADIT_TUNNELS_TEST";
const NAME: &str = "an_idle_ip_tunnel_costs_the_relay_little";
const PATIENCE: Duration = Duration::from_mins(2);
const TUNNELS: u64 = 200;
/// What there is, in KiB: the connection alone 9.6, its three streams and their queues 2.2, the request with its account and
/// addresses 1.7, the session 1.4.
const BOUND: i64 = 15_450;

/// Runs the test again in a namespace; false where that is not allowed.
#[expect(clippy::print_stdout, reason = "the figure, for who asks with --nocapture")]
fn ran_inside() -> bool {
    let unshare = |program: &str, arguments: &[&str]| {
        Command::new("unshare")
            .args(["-n", program])
            .args(arguments)
            .env(INSIDE, "1")
            .output()
    };
    let possible = unshare("test", &["-w", "/dev/net/tun"]);
    if !possible.is_ok_and(|output| output.status.success()) {
        return false;
    }
    let own = std::env::current_exe().expect("this program");
    let own = own.to_str().expect("a path of letters");
    let output = unshare(own, &["--exact", NAME, "--nocapture"]).expect("it starts again");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    println!("{told}");
    assert!(
        output.status.success() && told.contains("1 passed"),
        "inside the namespace"
    );
    true
}

/// The device of the relay; the loopback is switched on as well.
fn device() -> Tun {
    let mut netlink = Netlink::open().expect("netlink");
    let loopback = netlink.link("lo").expect("an answer").expect("a loopback");
    netlink
        .set_link(loopback.index, Some(true), None)
        .expect("it is up");
    let options = TunOptions {
        offload: true,
        ..TunOptions::default()
    };
    let mut queues = Tun::open(&options).expect("a device");
    queues.pop().expect("a queue")
}

/// What the relay's thread holds whenever a tunnel was opened.
#[derive(Default)]
struct Held {
    opened: AtomicU64,
    first: AtomicI64,
    last: AtomicI64,
}

impl Held {
    fn note(&self, event: &AccountingEvent<'_>) {
        if event.kind == EventKind::Opened {
            let place = match self.opened.fetch_add(1, Ordering::Relaxed) {
                0 => &self.first,
                _ => &self.last,
            };
            place.store(Counting::held(), Ordering::Relaxed);
        }
    }
}

fn relay(held: &Arc<Held>) -> (RelayService, Bundle) {
    let statics = || RelayStatics::from_seeds([5; 96]);
    let identity = RelayIdentity::from_seeds([6; 64]);
    let options = ServerOptions::open(identity.relay_id(), statics(), 1, APP);
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let held = Arc::clone(held);
    let config = RelayConfig {
        accountant: Some(Arc::new(move |event: &AccountingEvent<'_>| held.note(event))),
        ..RelayConfig::default()
    };
    let service = IpService {
        pools: vec![
            "10.77.0.0/16".parse().expect("a network"),
            "fd77::/64".parse().expect("a network"),
        ],
        routes: vec!["0.0.0.0/0".parse().expect("a network")],
        between_clients: false,
        device: device(),
        leases: Vec::new(),
        on_lease: Box::new(|_| {}),
    };
    let bind = move |at: &Handle| Endpoint::bind_on(EndpointConfig::server(listen, options), at);
    let (relay, endpoint) = RelayService::start_with_ip(bind, config, service).expect("a relay");
    let seconds = now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: seconds - 60,
        not_after: seconds + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(listen.ip()),
            port: endpoint.local_addr().port(),
            cover: 0,
        }],
    };
    let signed = identity.sign_bundle(&draft, &statics()).expect("a bundle");
    (relay, Bundle::parse(&signed).expect("our own bundle"))
}

/// A tunnel with addresses, on a connection of its own.
async fn open(at: &Handle, endpoint: &Endpoint, bundle: &Bundle) -> (Client, IpTunnel) {
    let connecting = endpoint.connect(ConnectOptions::new(bundle.clone(), APP));
    let client = Client::start(at, connecting.await.expect("a connection")).expect("room");
    let tunnel = client.connect_ip(&IpRequest::default()).await;
    let mut tunnel = tunnel.expect("a tunnel");
    loop {
        if let IpEvent::Addresses(addresses) = tunnel.recv().await.expect("it lasts") {
            assert!(!addresses.is_empty(), "the pool is full");
            return (client, tunnel);
        }
    }
}

/// Opens one tunnel, many, and one more, each when it has long been quiet; holds them until it is told.
fn clients(bundle: &Bundle, done: &mpsc::Sender<()>, over: &Receiver<()>) {
    let mut main = Loop::new(8 * TUNNELS as usize).expect("a loop");
    let at = main.handle();
    let config = EndpointConfig::client(SocketAddr::from(([127, 0, 0, 1], 0)));
    let endpoint = Endpoint::bind_on(config, &at).expect("a socket");
    let work = async {
        let mut all = Vec::new();
        for count in [1, TUNNELS - 1, 1] {
            for _ in 0..count {
                all.push(open(&at, &endpoint, bundle).await);
            }
            at.sleep(Duration::from_secs(3)).await;
        }
        done.send(()).expect("somebody waits");
        over.recv_timeout(PATIENCE).expect("a word");
    };
    main.run(work).expect("a loop");
}

#[test]
fn an_idle_ip_tunnel_costs_the_relay_little() {
    if std::env::var_os(INSIDE).is_none() {
        if !ran_inside() {
            assert!(
                std::env::var_os("ADIT_NO_SKIP").is_none(),
                "{NAME} must not be skipped"
            );
            eprintln!("SKIP: {NAME}: no network namespaces, or no /dev/net/tun");
        }
        return;
    }
    let held = Arc::<Held>::default();
    let (service, bundle) = relay(&held);
    let ((done, is_done), (over, is_over)) = (mpsc::channel(), mpsc::channel());
    let clients = thread::spawn(move || clients(&bundle, &done, &is_over));
    is_done.recv_timeout(PATIENCE).expect("all tunnels in time");
    assert_eq!(held.opened.load(Ordering::Relaxed), TUNNELS + 1);
    let grown = held.last.load(Ordering::Relaxed) - held.first.load(Ordering::Relaxed);
    let each = grown / TUNNELS as i64;
    println!("an idle IP tunnel, its connection included: {each} bytes");
    over.send(()).expect("the clients wait");
    clients.join().expect("clients that do not panic");
    service.stop();
    service.join().expect("a proper end");
    assert!(each <= BOUND, "{each} bytes");
}
