//! A relay service inside your own program: its own authenticator and policy, a quota for each tenant, and an account of every
//! tunnel: `cargo run -p transport-api --example relay_service`.

mod common;

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use common::{loopback, relay};
use transport_api::http::Field;
use transport_api::masque::{ProxyError, ProxyStatus};
use transport_api::relay::auth::{
    AccessToken, AccessTokens, Authenticator, Authenticators, Denied, TOKEN_SCHEME,
};
use transport_api::relay::{
    Accountant, AccountingEvent, Asked, Decision, EventKind, Grant, OnRequest, RelayConfig, RelayService,
    RequestMeta, TargetPolicy, TenantId, TenantQuota,
};
use transport_api::tunnel::{APP, Client};
use transport_api::{ConnectOptions, Endpoint, EndpointConfig, OsEntropy, TokenIssuer, Wait, now};

/// Whoever asks from this machine is at home. A real service would ask its own tables, held in memory: this must not block.
struct House(Grant);

impl Authenticator for House {
    fn authenticate(&self, request: &RequestMeta<'_>) -> Result<Option<Grant>, Denied> {
        let shown = request.field("x-house-key");
        let here = request.remote.is_some_and(|remote| remote.ip().is_loopback());
        match shown {
            Some("under the mat") if here => Ok(Some(self.0.clone())),
            Some(_) => Err(Denied::Forbidden("not your house")),
            None => Ok(None),
        }
    }
}

/// Who asks, by one of the authenticators; then where to, by this service's own rule.
struct Door(Authenticators);

impl OnRequest for Door {
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision {
        match (self.0.on_request(request), request.target) {
            (Decision::Accept(_), Asked::Host(target)) if target.port() == 25 => {
                let why = ProxyStatus::new(ProxyError::HttpRequestDenied).with_details("no mail from here");
                Decision::reject(403, why)
            }
            (decision, _) => decision,
        }
    }
}

/// Hands what a bill is made of to a thread that may block; what it has no room for is lost, and could be counted.
struct Bills(SyncSender<String>);

impl Accountant for Bills {
    fn on_event(&self, event: &AccountingEvent<'_>) {
        let (Some(tenant), EventKind::Closed(why)) = (event.tenant, event.kind) else {
            return;
        };
        let carried = event.carried;
        let bytes = carried.bytes_up + carried.bytes_down;
        let line = format!("{tenant}: {} {why}, {bytes} bytes", event.protocol.name());
        let _ = self.0.try_send(line);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // Two tenants: one is at home, the other shows tokens that this issuer signs, wherever it is.
    let (family, acme): (TenantId, TenantId) = ("family".parse()?, "acme".parse()?);
    let issuer = TokenIssuer::generate(&mut OsEntropy)?;
    // This example's targets are on this machine, which the usual policy forbids.
    let policy = TargetPolicy {
        allow: "127.0.0.0/8".parse().into_iter().collect(),
        ..TargetPolicy::default()
    };
    let grant = Grant::new().with_policy(policy);
    let door = Authenticators::new()
        .or(House(grant.clone().with_tenant(family)))
        .or(AccessTokens::new([issuer.verifier()], grant));
    let (bills, billed) = sync_channel(1000);
    let config = RelayConfig {
        hook: Arc::new(Door(door)),
        accountant: Some(Arc::new(Bills(bills))),
        ..RelayConfig::default()
    };
    let (server, bundle) = relay(APP, 0)?;
    let service = RelayService::start(server, config)?;
    let mut quota = TenantQuota::new();
    (quota.tunnels, quota.bits_per_s) = (Some(1), Some(50_000_000));
    service.set_quota(acme, quota)?;

    let endpoint = Endpoint::bind(EndpointConfig::client(loopback()))?;
    let connection = endpoint.connect(ConnectOptions::new(bundle, APP)).wait()?;
    let client = Client::start_thread(connection)?;
    tunnels(&client, &issuer, acme)?;

    service.drain(Duration::from_secs(5));
    client.connection().closed().wait();
    for (name, value) in service.snapshot().entries().filter(|(_, value)| *value > 0) {
        eprintln!("{name} {value}");
    }
    service.join()?;
    for line in billed {
        eprintln!("{line}");
    }
    Ok(())
}

/// What clients ask for: two tunnels, and three that are refused.
fn tunnels(client: &Client, issuer: &TokenIssuer, tenant: TenantId) -> Result<(), Box<dyn Error>> {
    let says = AccessToken {
        tenant,
        not_before: now().unix_ms / 1000,
        not_after: now().unix_ms / 1000 + 3600,
        nonce: AccessToken::fresh_nonce(&mut OsEntropy)?,
        mbit: 20,
        client: None,
    };
    let token = format!("{TOKEN_SCHEME} {}", says.issue(issuer)?);
    let with = |name: &str, value: &str| client.clone().with_fields(vec![Field::new(name, value)]);
    let target = TcpListener::bind(loopback())?;
    let port = target.local_addr()?.port();
    let _at_home = with("x-house-key", "under the mat")
        .connect_tcp("127.0.0.1", port)
        .wait()?;
    let shown = with("authorization", &token);
    let _by_token = shown.connect_tcp("127.0.0.1", port).wait()?;
    let refusals = [
        (
            "nothing shown",
            client.connect_tcp("127.0.0.1", port).wait().err(),
        ),
        (
            "one tunnel too many",
            shown.connect_tcp("127.0.0.1", port).wait().err(),
        ),
        (
            "mail",
            with("x-house-key", "under the mat")
                .connect_tcp("127.0.0.1", 25)
                .wait()
                .err(),
        ),
    ];
    for (what, refusal) in refusals {
        eprintln!("{what}: {}", refusal.ok_or("it was let in")?);
    }
    Ok(())
}
