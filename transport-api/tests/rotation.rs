//! A relay while it runs: new epochs, clients that may no longer be there, lists of who is; and keys that change all the time.
#![expect(clippy::disallowed_methods, reason = "real sockets, real time")]

mod common;

use std::time::Duration;

use common::{APP, LOOPBACK, PATIENCE, bundle, identity, pair, pair_with, server_options};
use transport_api::{
    Bundle, BundleDraft, By, ClientIdentity, CloseReason, ConnectOptions, Connection, ConnectionError,
    DropReason, Endpoint, EndpointConfig, EpochsError, OsEntropy, Peer, RelayEpoch, RelayStatics,
    ServerOptions, TransportOptions, Wait, code,
};

fn revoked(by: By) -> ConnectionError {
    ConnectionError::Closed(CloseReason::Transport {
        code: code::ACCESS_REVOKED,
        by,
    })
}

fn next_epoch(number: u64) -> (RelayEpoch, Bundle) {
    let now = transport_api::now().unix_ms / 1000;
    let statics = RelayStatics::generate(&mut OsEntropy).unwrap();
    let draft = BundleDraft {
        epoch: number,
        not_before: now - 60,
        not_after: now + 3600,
        endpoints: Vec::new(),
    };
    let bundle = Bundle::parse(&identity().sign_bundle(&draft, &statics).unwrap()).unwrap();
    (RelayEpoch::of(&bundle, statics), bundle)
}

#[test]
fn a_rotated_relay_sends_its_bundle_and_answers_both_epochs() {
    let pair = pair();
    assert!(
        pair.at_client
            .bundle_updates()
            .wait_timeout(Duration::from_millis(20))
            .is_none()
    );
    let (epoch, newest) = next_epoch(2);
    let [first] = server_options().epochs.try_into().ok().unwrap();
    assert_eq!(
        pair.server
            .replace_epochs(vec![first.clone()], Some(newest.clone())),
        Err(EpochsError::NotServed)
    );
    assert_eq!(
        pair.client.replace_epochs(vec![first.clone()], None),
        Err(EpochsError::NotARelay)
    );
    pair.server
        .replace_epochs(vec![epoch, first], Some(newest.clone()))
        .unwrap();
    let taken = pair.at_client.bundle_updates().wait_timeout(PATIENCE).unwrap();
    assert_eq!(taken, Ok(newest.clone()));
    assert_eq!(pair.server.stats().bundle.map(|one| one.epoch), Some(2));
    for bundle in [bundle(pair.server.local_addr()), newest.clone()] {
        let options = ConnectOptions {
            server: Some(pair.server.local_addr()),
            ..ConnectOptions::new(bundle.clone(), APP)
        };
        let again = pair
            .client
            .connect(options)
            .wait_timeout(PATIENCE)
            .unwrap()
            .unwrap();
        let told = again.bundle_updates().wait_timeout(if bundle.epoch() == 1 {
            PATIENCE
        } else {
            Duration::from_millis(300)
        });
        assert_eq!(told, (bundle.epoch() == 1).then(|| Ok(newest.clone())));
    }
    pair.at_client.close(0, b"");
    assert!(
        pair.at_client
            .bundle_updates()
            .wait_timeout(PATIENCE)
            .unwrap()
            .is_err()
    );
}

#[test]
fn a_relay_does_not_start_with_a_bundle_it_cannot_answer() {
    let config = EndpointConfig::server(
        LOOPBACK,
        ServerOptions {
            bundle: Some(next_epoch(2).1),
            ..server_options()
        },
    );
    let error = Endpoint::bind(config).expect_err("its keys are not served");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn revoked_clients_are_closed_and_stay_out() {
    let pair = pair();
    let options = || ConnectOptions {
        identity: Some(ClientIdentity::from_seeds([3; 96])),
        ..ConnectOptions::new(bundle(pair.server.local_addr()), APP)
    };
    let id = ClientIdentity::from_seeds([3; 96]).client_id();
    let enrolled = pair
        .client
        .connect(options())
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let at_server = pair
        .server
        .accept()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap()
        .accept();
    assert_eq!(at_server.peer(), Peer::Client(id));
    pair.server.revoke(&[id]);
    assert_eq!(
        at_server.closed().wait_timeout(PATIENCE).unwrap(),
        revoked(By::Local)
    );
    assert_eq!(
        enrolled.closed().wait_timeout(PATIENCE).unwrap(),
        revoked(By::Peer)
    );
    assert!(pair.at_client.close_reason().is_none(), "the anonymous one stays");
    let again = pair
        .client
        .connect(options())
        .wait_timeout(Duration::from_millis(500));
    assert!(again.is_none(), "silence");
    assert_eq!(pair.server.stats().revoked, 1);
    assert!(pair.server.stats().drops.get(DropReason::AccessDenied) >= 1);
}

#[test]
fn sessions_are_listed_in_pages_with_what_an_operator_asks_for() {
    let pair = pair();
    let more: Vec<Connection> = (0..20)
        .map(|_| {
            let options = ConnectOptions::new(bundle(pair.server.local_addr()), APP);
            let connection = pair
                .client
                .connect(options)
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap();
            pair.server
                .accept()
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap()
                .accept();
            connection
        })
        .collect();
    drop(more);
    let listed = |endpoint: &Endpoint| {
        let mut walk = endpoint.sessions();
        let mut all = Vec::new();
        while let Some(page) = walk.next_page().wait_timeout(PATIENCE).unwrap() {
            all.extend(page);
        }
        all
    };
    let found = listed(&pair.server)
        .into_iter()
        .find(|session| session.id == pair.at_server.id())
        .unwrap();
    assert_eq!(
        (found.peer, found.remote),
        (Peer::Anonymous, pair.client.local_addr())
    );
    assert_eq!((found.suite, found.resumed), (pair.at_server.suite(), false));
    assert!(found.stats.received_packets > 0 && found.age < PATIENCE);
    let usage = pair.server.usage().wait_timeout(PATIENCE).unwrap().unwrap();
    let names: Vec<&str> = usage.iter().map(|usage| usage.name).collect();
    for name in ["connections", "half_open", "reassembly_bytes", "domains"] {
        assert!(names.contains(&name), "{names:?}");
    }
    pair.server.close(0, b"");
    pair.server.wait_idle().wait_timeout(PATIENCE).unwrap();
    assert_eq!(listed(&pair.server), [], "closing ones are left out");
}

/// Datagrams both ways for so long, with so old keys at most. Each must arrive: none is sent again, so a packet that did not open
/// would show.
fn updates_lose_nothing(every: Duration, total: Duration, least: u64) {
    let options = || {
        let mut options = TransportOptions {
            key_update_interval: every,
            ..TransportOptions::default()
        };
        // A machine that pauses must not let them grow old.
        options.limits.datagram_max_age = PATIENCE;
        options
    };
    let pair = pair_with(options(), options());
    let started = transport_api::now().instant;
    let mut sent = 0u64;
    let mut missing = 0u64;
    while started.elapsed() < total {
        for connection in [&pair.at_client, &pair.at_server] {
            for _ in 0..10 {
                connection.send_datagram(vec![7; 1000]).unwrap();
            }
        }
        sent += 10;
        for connection in [&pair.at_client, &pair.at_server] {
            for _ in 0..10 {
                missing += u64::from(connection.read_datagram().wait_timeout(PATIENCE).is_none());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let stats = [pair.at_client.stats(), pair.at_server.stats()];
    let forged = [&pair.client, &pair.server].map(|endpoint| endpoint.stats().drops.get(DropReason::Forged));
    let updates = stats.map(|stats| stats.key_updates);
    eprintln!("{sent} datagrams each way, {updates:?} updates, {forged:?} did not open, {missing} missing");
    assert_eq!((forged, missing), ([0, 0], 0));
    assert!(updates.iter().all(|updates| *updates >= least), "{updates:?}");
}

/// The seconds are real ones: three, or as many as `ADIT_UPDATE_SECONDS` says. `.ci/run` takes a minute of them, with one
/// update a second, beside the end-to-end tests.
#[test]
fn updates_lose_no_packet() {
    let asked = std::env::var("ADIT_UPDATE_SECONDS")
        .ok()
        .map(|seconds| seconds.parse().expect("a number of seconds"));
    match asked {
        Some(seconds) => updates_lose_nothing(
            Duration::from_secs(1),
            Duration::from_secs(seconds),
            seconds * 3 / 4,
        ),
        None => updates_lose_nothing(Duration::from_millis(100), Duration::from_secs(3), 5),
    }
}
