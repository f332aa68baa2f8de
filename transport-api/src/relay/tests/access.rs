//! Authenticators, through the wire.

use super::super::auth::{AccessToken, AccessTokens, Authenticators, ClientList, TOKEN_SCHEME, Words};
use super::*;
use crate::{ClientId, TokenIssuer};

fn guarded(authenticators: Authenticators) -> RelayConfig {
    let mut config = config();
    config.hook = Arc::new(authenticators);
    config
}

fn words() -> Authenticators {
    let narrow = Grant::new().with_policy(TargetPolicy::default());
    Authenticators::new()
        .or(Words::bearer("relay").with("s3cret", Grant::new()))
        .or(Words::basic("relay")
            .with("anna:pass:word", Grant::new())
            .with("ben:x", narrow))
}

/// The answer to a UDP request with this field: its status, and the names of its challenges.
async fn answer(world: &World, name: &str, value: &str) -> (u16, Vec<String>) {
    let port = world.udp_echo();
    let path = format!("/.well-known/masque/udp/127.0.0.1/{port}/");
    let mut head = RequestHead::extended("connect-udp", "relay", &path);
    head.fields.push(Field::new(name, value));
    let (_, _, response) = raw(world, &head).await;
    let challenges = response
        .fields
        .iter()
        .filter(|f| f.name.ends_with("-authenticate"));
    (response.status, challenges.map(|f| f.name.clone()).collect())
}

#[test]
fn words_open_the_door_and_nothing_else_does() {
    with_relay(guarded(words()), |world| async move {
        // anna:pass:word, ben:x, anna:pass, not base64.
        for (name, value, status) in [
            ("authorization", "Bearer s3cret", 200),
            ("proxy-authorization", "bearer  s3cret", 200),
            ("authorization", "Basic YW5uYTpwYXNzOndvcmQ=", 200),
            ("authorization", "Basic YmVuOng=", 403),
            ("authorization", "Bearer s3cre", 401),
            ("authorization", "Bearer ", 401),
            ("authorization", "Basic YW5uYTpwYXNz", 401),
            ("authorization", "Basic %%%", 401),
            ("authorization", "Digest s3cret", 401),
            ("proxy-authorization", "Bearer nonsense", 407),
            ("x-nothing", "", 401),
            ("proxy-nothing", "", 407),
        ] {
            let (found, challenges) = answer(&world, name, value).await;
            assert_eq!(found, status, "{name}: {value}");
            let wanted = match status {
                401 => vec!["www-authenticate"; 2],
                407 => vec!["proxy-authenticate"; 2],
                _ => Vec::new(),
            };
            assert_eq!(challenges, wanted, "{name}: {value}");
        }
        assert_eq!(world.snapshot().rejected_by_hook, 8);
    });
}

#[test]
fn a_client_shows_its_token_with_every_request() {
    with_relay(guarded(words()), |world| async move {
        let udp = world.udp_echo();
        let refused = world
            .client
            .connect_udp("127.0.0.1", udp)
            .await
            .expect_err("nothing shown");
        assert_eq!(refused.kind(), TunnelErrorKind::Authentication);
        let shown = Field::new("authorization", "Bearer s3cret");
        let client = world.client.clone().with_fields(vec![shown]);
        client.connect_udp("127.0.0.1", udp).await.expect("udp");
        client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tcp");
    });
}

#[test]
fn clients_are_known_by_their_keys() {
    let (known, other) = (ClientId::from_bytes([1; 32]), ClientId::from_bytes([2; 32]));
    let list = Arc::new(ClientList::of([known], &Grant::new()));
    let config = guarded(Authenticators::new().or(Arc::clone(&list)));
    with_relay(config, |world| async move {
        let port = world.udp_echo();
        let join = |peer| {
            let (near, far) = lanes();
            assert!(world.relay.serve(9, far, peer));
            let (client, work) = Client::new(near, template());
            world.local.spawn(async move { drop(work.await) }).expect("room");
            client
        };
        let client = join(Peer::Client(known));
        client.connect_udp("127.0.0.1", port).await.expect("on the list");
        let stranger = join(Peer::Client(other));
        let refused = stranger
            .connect_udp("127.0.0.1", port)
            .await
            .expect_err("a stranger");
        assert_eq!(refused.refusal().map(|r| r.status), Some(401));
        assert!(list.remove(known) && !list.remove(other));
        client
            .connect_udp("127.0.0.1", port)
            .await
            .expect_err("no longer");
    });
}

#[test]
fn access_tokens_are_granted_a_rate_on_the_account_of_their_tenant() {
    let issuer = TokenIssuer::from_seed([3; 32]);
    let now = crate::now().unix_ms / 1000;
    let says = AccessToken {
        tenant: "acme".parse().expect("tenant"),
        not_before: now - 5,
        not_after: now + 60,
        nonce: [1; 16],
        mbit: 1,
        client: None,
    };
    let text = says.issue(&issuer).expect("issued");
    let config = guarded(Authenticators::new().or(AccessTokens::new([issuer.verifier()], Grant::new())));
    with_relay(config, |world| async move {
        let shown = Field::new("authorization", format!("{TOKEN_SCHEME} {text}"));
        let client = world.client.clone().with_fields(vec![shown.clone()]);
        let port = world.udp_echo();
        let tunnels = [
            client.connect_udp("127.0.0.1", port).await.expect("first"),
            client.connect_udp("127.0.0.1", port).await.expect("second"),
        ];
        assert_eq!(world.shared.tenants().usage(says.tenant).tunnels, 2);
        // A burst of 128 KiB at 1 Mbit/s, both tunnels and both ways together.
        for n in 0..300 {
            tunnels[n % 2].send(&[0; 1000]).expect("sent");
        }
        world.until(|s| s.dropped_rate >= 169).await;
        let carried = world.snapshot();
        let passed = carried.udp_packets_up + carried.udp_packets_down;
        assert!((125..150).contains(&passed), "{passed}");
        // Another session shows the same token.
        let (near, far) = lanes();
        assert!(world.relay.serve(9, far, Peer::Anonymous));
        let (thief, work) = Client::new(near, template());
        world.local.spawn(async move { drop(work.await) }).expect("room");
        let refused = thief
            .with_fields(vec![shown])
            .connect_udp("127.0.0.1", port)
            .await
            .expect_err("replayed");
        assert_eq!(refused.kind(), TunnelErrorKind::Authentication);
        assert!(refused.to_string().contains("another session"), "{refused}");
    });
}
