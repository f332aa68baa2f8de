//! The demo's story: set the stage, clear link, bad link, curtain.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use transport_api::{
    Algorithm, Bundle, Endpoint, EndpointConfig, ServerOptions,
    local::{Handle, TcpListener},
    relay::{APP, RelayConfig, RelayService},
};

use super::{
    Amounts, Check, Checks,
    impair::{self, Faults},
    targets::{self, Targets},
    traffic,
};
use crate::{
    connect::{Link, Party, Shown, Target, serve_socks},
    exit::{Code, Context, Outcome},
    init::bundle_endpoint,
    keyring::RelayKeys,
};

/// 40 ms round trips, 2 % loss, 1 % of the packets late, IPv6's smallest MTU.
const BAD_LINK: Faults = Faults {
    one_way: Duration::from_millis(20),
    lost: 20,
    reordered: 10,
    late: Duration::from_millis(10),
    mtu: 1280,
};

/// A cold handshake on loopback takes less than this.
const HANDSHAKE_LIMIT_MS: f64 = 100.0;

/// The relay of the demo, alive while this is.
struct Stage {
    endpoint: Endpoint,
    service: RelayService,
    keys: RelayKeys,
    targets: Targets,
}

/// Plays the whole demo.
pub(super) async fn play(at: &Handle, checks: &mut Checks, clear: Amounts, bad: Amounts) -> Outcome {
    let stage = Stage::set(at)?;
    checks.progress("a clear link");
    let relay = stage.endpoint.local_addr();
    let (link, socks) = connect(at, checks, &stage, relay, "handshake").await?;
    act(at, checks, &stage, &link, socks, clear, "").await;
    link.close().await;

    checks.progress("a bad link: 40 ms, 2 % loss, 1 % reordering, MTU 1280");
    let impaired = impair::Link::start(at, relay, BAD_LINK).or_fail(Code::Failed, "bad link")?;
    let address = impaired.address().or_fail(Code::Failed, "bad link")?;
    let (link, socks) = connect(at, checks, &stage, address, "handshake, bad link").await?;
    at.spawn(disturb(at.clone(), Rc::clone(&link)))
        .or_fail(Code::Failed, "event loop")?;
    act(at, checks, &stage, &link, socks, bad, ", bad link").await;
    survived(checks, &link, &impaired);
    link.close().await;
    Box::pin(stage.clear(at, checks)).await
}

impl Stage {
    fn set(at: &Handle) -> Outcome<Self> {
        let targets = targets::start(at).or_fail(Code::Failed, "targets")?;
        let keys = RelayKeys::generate()?;
        let server = ServerOptions::open(keys.identity.relay_id(), keys.statics.clone(), 1, APP);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut endpoint = EndpointConfig::server(listen, server);
        endpoint.transport.provider = crate::provider::best();
        let endpoint = Endpoint::bind(endpoint).or_fail(Code::Failed, "relay")?;
        let mut config = RelayConfig::default();
        // The targets are on this machine; a relay denies that unless told.
        config.policy.allow = vec!["127.0.0.0/8".parse().or_fail(Code::Failed, "policy")?];
        let service = RelayService::start(endpoint.clone(), config).or_fail(Code::Failed, "relay")?;
        Ok(Self {
            endpoint,
            service,
            keys,
            targets,
        })
    }

    fn bundle(&self, relay: SocketAddr) -> Outcome<Bundle> {
        let signed = self
            .keys
            .bundle(bundle_endpoint(&relay.ip().to_string(), relay.port()))?;
        Bundle::parse(&signed).or_fail(Code::Failed, "bundle")
    }

    async fn clear(self, at: &Handle, checks: &mut Checks) -> Outcome {
        // The last tunnel's end is on its way.
        for _ in 0..100 {
            if self.service.snapshot().tunnels_open == 0 {
                break;
            }
            at.sleep(Duration::from_millis(20)).await;
        }
        let figures = self.service.snapshot();
        let tunnels = figures.tcp_opened + figures.udp_opened;
        checks.add(Check {
            name: "the relay counted every tunnel".into(),
            ok: tunnels >= 6 && figures.tunnels_open == 0,
            value: tunnels as f64,
            unit: "tunnels",
            detail: format!("{} still open", figures.tunnels_open),
        });
        self.service.drain(Duration::from_secs(2));
        self.service.join().or_fail(Code::Failed, "relay")
    }
}

/// A client of the relay at `relay`, with a SOCKS5 port.
async fn connect(
    at: &Handle,
    checks: &mut Checks,
    stage: &Stage,
    relay: SocketAddr,
    name: &str,
) -> Outcome<(Rc<Link>, SocketAddr)> {
    let target = Target {
        token: None,
        follow: true,
        tun: None,
        server: relay,
        relays: vec![Party {
            bundle: stage.bundle(relay)?,
            identity: None,
            state: None,
        }],
        congestion: Algorithm::default(),
        busy_poll: Duration::ZERO,
        standby: None,
        key_log: None,
    };
    let listener =
        TcpListener::bind(at, SocketAddr::from(([127, 0, 0, 1], 0))).or_fail(Code::Failed, "SOCKS port")?;
    let socks = listener.local_addr().or_fail(Code::Failed, "SOCKS port")?;
    let link = Link::start(
        at,
        target,
        Shown {
            json: false,
            quiet: true,
            socks: Some(socks),
        },
    )?;
    serve_socks(&link, listener)?;
    link.connect_first().await?;
    let connection = link.wait_connection().await;
    let Some(connection) = connection else {
        checks.broken(name, "no connection");
        return crate::exit::fail(Code::Failed, "the demo's client has no connection");
    };
    let ms = connection.handshake_duration().as_secs_f64() * 1000.0;
    let limit = HANDSHAKE_LIMIT_MS + if name.contains("bad") { 1000.0 } else { 0.0 };
    checks.add(Check {
        name: name.into(),
        ok: ms < limit,
        value: ms,
        unit: "ms",
        detail: "X25519 and ML-KEM-768, one round trip, cold".into(),
    });
    Ok((link, socks))
}

async fn act(
    at: &Handle,
    checks: &mut Checks,
    stage: &Stage,
    link: &Rc<Link>,
    socks: SocketAddr,
    amounts: Amounts,
    suffix: &str,
) {
    let bytes = amounts.stream_bytes;
    traffic::upload(link, stage.targets.checksum, bytes)
        .await
        .check(checks, format!("{} on a stream{suffix}", traffic::size(bytes)));
    traffic::datagrams(at, link, stage.targets.echo, (amounts.datagrams, amounts.pace))
        .await
        .check(
            checks,
            format!("{} datagrams by CONNECT-UDP{suffix}", amounts.datagrams),
        );
    let bytes = amounts.download_bytes;
    traffic::download(at, socks, stage.targets.http, bytes)
        .await
        .check(
            checks,
            format!("{} by SOCKS5 and HTTP{suffix}", traffic::size(bytes)),
        );
}

/// While traffic flows: new keys, then a new port, as a NAT that forgets would give.
async fn disturb(at: Handle, link: Rc<Link>) {
    at.sleep(Duration::from_millis(150)).await;
    if let Some(connection) = link.connection() {
        connection.update_keys();
    }
    at.sleep(Duration::from_millis(150)).await;
    if let Err(error) = link.endpoint().rebind(SocketAddr::from(([127, 0, 0, 1], 0))) {
        tracing::warn!(%error, "rebind");
    }
}

fn survived(checks: &mut Checks, link: &Link, impaired: &impair::Link) {
    let Some(connection) = link.connection() else {
        return checks.broken("one connection through it all", "the connection was lost");
    };
    let stats = connection.stats();
    checks.add(Check {
        name: "a key update in mid-transfer".into(),
        ok: stats.key_updates >= 1,
        value: stats.key_updates as f64,
        unit: "updates",
        detail: "both directions".into(),
    });
    checks.add(Check {
        name: "a port rebind in mid-transfer".into(),
        ok: impaired.clients() >= 2,
        value: impaired.clients() as f64,
        unit: "ports",
        detail: "the same connection on all of them".into(),
    });
    checks.add(Check {
        name: "the link really lost packets".into(),
        ok: impaired.lost() > 0,
        value: impaired.lost() as f64,
        unit: "lost",
        detail: format!(
            "{} declared lost by the client, path MTU {}",
            stats.declared_lost, stats.mtu
        ),
    });
}
