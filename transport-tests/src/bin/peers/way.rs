//! How the two reach each other: by their tunnels alone, or by a connection that begins there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use transport_api::local::Handle;
use transport_api::relay::APP;
use transport_api::tunnel::{BindOptions, BoundUdp, Client, PeerLink};
use transport_api::{
    AddressOptions, Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Connection, Endpoint,
    EndpointAddress, EndpointConfig, OsEntropy, PathReason, PathState, RelayIdentity, RelayStatics,
    ServerOptions, now, resolve_endpoint,
};

use crate::{Cli, End, Outcome, SIZE, say, since};

/// What the two speak with each other.
const PEERS: &[u8] = b"peers/1";

/// This end at its relay.
pub(crate) struct Here {
    endpoint: Endpoint,
    client: Client,
    bound: BoundUdp,
    /// Who we are to the other, as a signed bundle.
    pub(crate) bundle: Vec<u8>,
    /// Where the relay listens for us.
    pub(crate) public: SocketAddr,
}

impl Here {
    pub(crate) async fn new(at: &Handle, cli: &Cli) -> Outcome<Self> {
        let relay = Bundle::parse(&std::fs::read(&cli.bundle)?)?;
        let server = *resolve_endpoint(&relay)?
            .first()
            .ok_or("the bundle names no address")?;
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let identity = RelayIdentity::generate(&mut OsEntropy)?;
        let statics = RelayStatics::generate(&mut OsEntropy)?;
        let bundle = sign(&identity, &statics)?;
        let answering = ServerOptions::open(identity.relay_id(), statics, 1, PEERS);
        let mut config = EndpointConfig::server(any.parse()?, answering);
        config.transport.addresses = AddressOptions {
            ask: true,
            direct: true,
            ..AddressOptions::default()
        };
        let endpoint = Endpoint::bind_on(config, at)?;
        let mut options = ConnectOptions::new(relay, APP);
        options.server = Some(server);
        let client = Client::start(at, endpoint.connect(options).await?)?;
        let bound = client.bind_udp(&BindOptions::default()).await?;
        let public = *bound.public_addrs().first().ok_or("the relay binds nothing")?;
        Ok(Self {
            endpoint,
            client,
            bound,
            bundle,
            public,
        })
    }

    /// The way to the other one, whose bundle lies at `bundle` and whose tunnel is found at `peer`.
    pub(crate) async fn reach(self, at: &Handle, cli: &Cli, peer: SocketAddr, bundle: &Path) -> Outcome<Way> {
        if !cli.direct {
            return Ok(Way {
                here: self,
                peer,
                link: None,
            });
        }
        let begun = now().instant;
        let link = PeerLink::start(at, &self.endpoint, &self.client, self.bound.clone(), &[])?;
        let connection = match cli.end {
            End::Near => {
                let options = ConnectOptions::new(Bundle::parse(&std::fs::read(bundle)?)?, PEERS);
                link.connect(options, peer).await?
            }
            End::Far => link.accept().await?,
        };
        let mut width = connection.max_datagram_size();
        while width < SIZE {
            width = connection.max_datagram_size_changed(width).await?;
        }
        at.spawn(watch(connection.clone(), begun))?;
        Ok(Way {
            here: self,
            peer,
            link: Some(connection),
        })
    }
}

/// Where we are found is told beside it, and changes.
fn sign(identity: &RelayIdentity, statics: &RelayStatics) -> Outcome<Vec<u8>> {
    let seconds = now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: seconds - 60,
        not_after: seconds + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Name("peer".into()),
            port: 1,
            cover: 0,
        }],
    };
    Ok(identity.sign_bundle(&draft, statics)?)
}

/// Says what becomes of the paths.
async fn watch(connection: Connection, begun: Instant) {
    while let Ok(change) = connection.path_changes().await {
        let event = match (change.state, change.reason) {
            (PathState::Active, PathReason::Direct) => "direct",
            _ => "path",
        };
        say(&json!({
            "event": event,
            "ms": since(begun),
            "state": change.state.name(),
            "reason": change.reason.name(),
        }));
    }
}

/// How payloads go.
pub(crate) struct Way {
    /// Stays as long as the tunnel is used.
    here: Here,
    /// Where the other one's tunnel is.
    peer: SocketAddr,
    /// `None`: bare packets.
    link: Option<Connection>,
}

impl Way {
    /// Sends, or drops: one that is dropped is missed like any other.
    pub(crate) fn send(&self, payload: Vec<u8>) {
        match &self.link {
            Some(connection) => drop(connection.send_datagram(payload)),
            None => drop(self.here.bound.send_to(&payload, self.peer)),
        }
    }

    /// The next payload of the other one.
    pub(crate) async fn recv(&self) -> Outcome<Vec<u8>> {
        if let Some(connection) = &self.link {
            return Ok(connection.read_datagram().await?);
        }
        loop {
            let (datagram, from) = self.here.bound.recv_from().await?;
            if from == self.peer {
                return Ok(datagram.to_vec());
            }
        }
    }

    /// Which way payloads go now.
    pub(crate) fn route(&self) -> &'static str {
        match &self.link {
            Some(connection) if connection.remote_address() != self.peer => "direct",
            _ => "relayed",
        }
    }

    /// Tells the other one that this is the end.
    pub(crate) async fn close(self, at: &Handle) {
        if let Some(connection) = &self.link {
            connection.close(0, b"");
            // The driver lives on this loop and must send it.
            at.sleep(Duration::from_millis(50)).await;
        }
    }
}
