//! What packets and silent connections cost in memory, over real sockets. Relay and client live on one loop, so that one
//! thread's counters see all of both; where only the relay is of interest, the client has threads of its own.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Connection, Endpoint, EndpointAddress,
    EndpointConfig, RelayIdentity, RelayStatics, ServerOptions, Wait,
    local::{Handle, Loop},
};
use transport_tests::oracle::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const APP: &[u8] = b"allocations/1";
const PATIENCE: Duration = Duration::from_mins(2);
const CHUNK: usize = 64 * 1024;
/// Stream bytes of a packet, roughly.
const PACKET: usize = 1400;

fn identity() -> RelayIdentity {
    RelayIdentity::from_seeds([7; 64])
}

fn statics() -> RelayStatics {
    RelayStatics::from_seeds([8; 96])
}

fn relay(at: &Handle) -> Endpoint {
    let options = ServerOptions::open(identity().relay_id(), statics(), 1, APP);
    let listen = "127.0.0.1:0".parse().expect("an address");
    Endpoint::bind_on(EndpointConfig::server(listen, options), at).expect("a socket")
}

fn client_config() -> EndpointConfig {
    EndpointConfig::client("127.0.0.1:0".parse().expect("an address"))
}

fn way_to(server: SocketAddr) -> ConnectOptions {
    let now = transport_api::now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(server.ip()),
            port: server.port(),
            cover: 0,
        }],
    };
    let bytes = identity().sign_bundle(&draft, &statics()).expect("a bundle");
    ConnectOptions::new(Bundle::parse(&bytes).expect("our own bundle"), APP)
}

/// Runs `work` on a loop with both ends of a connection: the client's, the relay's.
fn together<F: Future<Output = ()>>(work: impl FnOnce(Connection, Connection, Handle) -> F) {
    let mut main = Loop::new(64).expect("a loop");
    let at = main.handle();
    let relay = relay(&at);
    let client = Endpoint::bind_on(client_config(), &at).expect("a socket");
    let both = async {
        let connecting = client.connect(way_to(relay.local_addr()));
        let there = connecting.await.expect("a connection");
        let here = relay.accept().await.expect("an open endpoint").accept();
        work(there, here, at.clone()).await;
    };
    let run = main.run(async { at.timeout(PATIENCE, both).await });
    run.expect("a loop").expect("in time");
}

/// Allocations for each packet while `from` sends one stream to `to`, once it flows.
async fn allocations_of_bulk(from: Connection, to: Connection, at: Handle) -> f64 {
    let (warm, all) = (32 << 20, 96 << 20);
    let mut out = from.open_uni().await.expect("a stream");
    let writing = async move {
        let data = vec![7; CHUNK];
        for _ in 0..all / CHUNK {
            out.write_all(&data).await.expect("it goes on");
        }
        out.finish().expect("it stands");
        // The stream is over when all of it was acknowledged.
        let _ = out.stopped().await;
    };
    at.spawn(writing).expect("room for a task");
    let mut stream = to.accept_uni().await.expect("a stream");
    let (mut buffer, mut received) = (vec![0; CHUNK], 0);
    let (mut begun, mut ended) = (None, None);
    while let Some(read) = stream.read(&mut buffer).await.expect("it goes on") {
        received += read;
        if received >= warm && begun.is_none() {
            begun = Some((Counting::calls(), received));
        }
        if received + (1 << 20) >= all && ended.is_none() {
            ended = Some((Counting::calls(), received));
        }
    }
    let ((calls, before), (calls_at_end, at_end)) = begun.zip(ended).expect("more than the start");
    (calls_at_end - calls) as f64 / ((at_end - before) / PACKET) as f64
}

#[test]
fn a_stream_in_flow_allocates_nothing_for_a_packet() {
    together(|client, relay, at| async move {
        let up = allocations_of_bulk(client.clone(), relay.clone(), at.clone()).await;
        let down = allocations_of_bulk(relay, client, at).await;
        println!("allocations a packet, both ends together: up {up:.4}, down {down:.4}");
        assert!(up < 0.02 && down < 0.02, "up {up}, down {down}");
    });
}

#[test]
fn a_datagram_is_allocated_by_who_makes_it_and_for_who_takes_it() {
    together(|client, relay, at| async move {
        let taken = Rc::new(Cell::new(0u64));
        let counter = Rc::clone(&taken);
        let counting = async move {
            while relay.read_datagram().await.is_ok() {
                counter.set(counter.get() + 1);
            }
        };
        at.spawn(counting).expect("room for a task");
        let mut begun = None;
        for round in 0..4000 {
            for _ in 0..10 {
                let message = vec![5; 1000];
                client.send_datagram(message).expect("it goes out");
            }
            // Paced by the receiver, so that no queue drops.
            let sent = (round + 1) * 10;
            while taken.get() + 20 < sent {
                at.sleep(Duration::from_micros(50)).await;
            }
            if round == 1000 {
                begun = Some((Counting::calls(), taken.get()));
            }
        }
        let (calls, messages) = begun.expect("more than the start");
        let each = (Counting::calls() - calls) as f64 / (taken.get() - messages) as f64;
        println!("allocations a datagram, both ends and the test's own together: {each:.3}");
        assert!(each < 3.1, "{each}");
    });
}

#[test]
fn a_silent_connection_costs_the_relay_little() {
    const CONNECTIONS: usize = 200;
    // What there is, in KiB: the connection 2.9, its path with congestion control 2.3, three packet keys and two mask keys 1.6, handles
    // 0.7, connection ids 0.5, the order of its streams 0.3; the rest is the relay's tables.
    const BOUND: i64 = 9_850;
    let mut main = Loop::new(16).expect("a loop");
    let at = main.handle();
    let relay = relay(&at);
    let at_relay = relay.local_addr();
    let held = Counting::held();
    let clients = std::thread::spawn(move || {
        let client = Endpoint::bind(client_config()).expect("a socket");
        let all: Vec<Connection> = (0..CONNECTIONS)
            .map(|_| {
                client
                    .connect(way_to(at_relay))
                    .wait_timeout(PATIENCE)
                    .expect("in time")
                    .expect("a connection")
            })
            .collect();
        (client, all)
    });
    let work = async {
        let mut all = Vec::with_capacity(CONNECTIONS);
        while all.len() < CONNECTIONS {
            all.push(relay.accept().await.expect("an open endpoint").accept());
        }
        // What the beginning of a connection needed is given back.
        at.sleep(Duration::from_secs(3)).await;
        all
    };
    let all = main
        .run(async { at.timeout(PATIENCE, work).await })
        .expect("a loop")
        .expect("in time");
    let each = (Counting::held() - held) / CONNECTIONS as i64;
    println!("a silent connection: {each} bytes");
    drop((clients.join().expect("clients that do not panic"), all));
    assert!(each <= BOUND, "{each} bytes");
}
