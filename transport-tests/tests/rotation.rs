//! A relay while it runs: its keys rotate, its clients get the next bundle in-band, and some may no longer be there.

use std::collections::BTreeSet;
use std::time::Duration;

use transport_core::{
    Access, Bundle, By, CloseReason, ConnectError, DropReason, EpochsError, Event, Peer, RelayEpoch, code,
};
use transport_tests::pair::{Options, Pair, RELAY, Transfer, Way, client_address, client_identity, faults};

const LIMIT: Duration = Duration::from_mins(1);
const DAY: u64 = 86_400;

fn bundles(pair: &Pair) -> Vec<Bundle> {
    let events = pair.client.events.iter();
    let taken = events.filter_map(|event| match event {
        Event::Bundle(bundle) => Some(bundle.clone()),
        _ => None,
    });
    taken.collect()
}

fn replace(pair: &mut Pair, epochs: Vec<RelayEpoch>, bundle: Option<&Bundle>) -> Result<(), EpochsError> {
    let now = pair.now(Way::Down);
    pair.server.endpoint.replace_epochs(now, epochs, bundle.cloned())
}

fn revoked(by: By) -> CloseReason {
    CloseReason::Transport {
        code: code::ACCESS_REVOKED,
        by,
    }
}

#[test]
fn a_new_bundle_reaches_those_who_are_connected_through_loss_and_disorder() {
    let (epoch, bundle) = RELAY.epoch(8, 30 * DAY);
    let mut repeated = 0;
    for seed in 0..12 {
        let mut pair = Pair::connected(Options::new(seed));
        pair.hook(faults(seed, 0.25, 0.3, 0.2));
        replace(&mut pair, vec![epoch.clone(), RELAY.first_epoch()], Some(&bundle)).unwrap();
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 30_000),
            Transfer::open(&mut pair, Way::Down, 30_000),
        ];
        assert!(pair.exchange(&mut both, LIMIT), "seed {seed}");
        assert!(
            pair.run_until(LIMIT, |pair| !bundles(pair).is_empty()),
            "seed {seed}"
        );
        repeated += pair.server.connection().stats().declared_lost;
        pair.run_for(Duration::from_secs(5));
        assert_eq!(bundles(&pair), std::slice::from_ref(&bundle), "seed {seed}: once");
        assert!(pair.client.closed().is_none() && pair.server.closed().is_none());
        assert_eq!(
            pair.client.endpoint.stats().drops.get(DropReason::BundleRefused),
            0
        );
    }
    assert!(repeated > 20, "pieces were lost: {repeated}");
}

#[test]
fn bundle_after_bundle_and_only_the_newest_of_those_that_wait() {
    let mut pair = Pair::connected(Options::new(20));
    let (ninth, last) = (RELAY.epoch(9, 30 * DAY), RELAY.epoch(11, 30 * DAY));
    for number in 8..=10 {
        let (epoch, bundle) = RELAY.epoch(number, 30 * DAY);
        replace(&mut pair, vec![epoch, RELAY.first_epoch()], Some(&bundle)).unwrap();
        pair.run_for(Duration::from_millis(1));
    }
    pair.run_for(Duration::from_secs(2));
    let epochs: Vec<u64> = bundles(&pair).iter().map(Bundle::epoch).collect();
    assert_eq!(
        epochs,
        [8, 10],
        "the first was on its way, the second was overtaken"
    );
    replace(&mut pair, vec![last.0], Some(&last.1)).unwrap();
    pair.run_for(Duration::from_secs(2));
    replace(&mut pair, vec![ninth.0], Some(&ninth.1)).unwrap();
    pair.run_for(Duration::from_secs(2));
    assert_eq!(bundles(&pair).len(), 3, "nobody goes back");
    assert!(
        pair.transfer(Way::Up, 10_000, LIMIT),
        "the connection outlives its epoch"
    );
}

#[test]
fn a_client_that_comes_by_the_old_epoch_learns_the_new_one_and_comes_back_by_it() {
    let (epoch, bundle) = RELAY.epoch(8, 30 * DAY);
    let served = Some((vec![epoch, RELAY.first_epoch()], bundle.clone()));
    let mut pair = Pair::connected(Options {
        epochs: served.clone(),
        ..Options::new(21)
    });
    pair.run_for(Duration::from_secs(1));
    assert_eq!(bundles(&pair), std::slice::from_ref(&bundle));
    let stats = pair.server.endpoint.stats();
    let both = stats.epochs.map(|one| one.map(|one| one.epoch));
    assert_eq!(both, [Some(8), Some(7)]);
    assert_eq!(stats.bundle.map(|one| one.not_after_s), Some(bundle.not_after()));
    let mut again = Pair::connected(Options {
        epochs: served,
        bundle: bundles(&pair).remove(0),
        ..Options::new(22)
    });
    again.run_for(Duration::from_secs(1));
    assert_eq!(bundles(&again), [], "it has the newest");
    assert!(again.transfer(Way::Up, 1000, LIMIT));
}

#[test]
fn an_epoch_that_is_over_meets_silence_and_its_connections_go_on() {
    // The old epoch ends a minute after the beginning; the client's clock is late, so that it still believes in it.
    let (old, stale) = RELAY.epoch(6, 60);
    let (new, bundle) = RELAY.epoch(8, DAY);
    let options = Options {
        epochs: Some((vec![old, new], bundle)),
        bundle: stale,
        skew_ms: -50_000,
        ..Options::new(23)
    }
    .with(|transport| transport.keep_alive = Some(Duration::from_secs(5)));
    let mut pair = Pair::connected(options);
    pair.run_for(Duration::from_secs(62));
    let served = pair.server.endpoint.stats().epochs;
    assert_eq!(
        served.map(|one| one.map(|one| one.epoch)),
        [Some(8), None],
        "its keys are gone"
    );
    assert!(pair.transfer(Way::Up, 30_000, LIMIT) && pair.transfer(Way::Down, 30_000, LIMIT));

    let (first, answered) = (
        pair.client.handle,
        pair.server.endpoint.stats().handshakes_answered,
    );
    let unknown = pair.server.endpoint.stats().drops.get(DropReason::Unknown);
    pair.client.events.clear();
    let second = pair.dial().unwrap();
    assert_ne!(first, Some(second));
    pair.run_until(Duration::from_secs(40), |pair| pair.client.closed().is_some());
    assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
    let stats = pair.server.endpoint.stats();
    assert_eq!(stats.handshakes_answered, answered);
    assert!(
        stats.drops.get(DropReason::Unknown) > unknown,
        "they look like anybody's"
    );
    pair.client.handle = first;
    assert!(pair.transfer(Way::Up, 30_000, LIMIT), "the connection stays");
}

#[test]
fn a_client_refuses_to_begin_with_a_bundle_that_is_over() {
    let mut pair = Pair::idle(Options {
        bundle: RELAY.epoch(6, 60).1,
        ..Options::new(24)
    });
    pair.run_for(Duration::from_secs(1));
    pair.restart_server();
    assert!(pair.dial().is_ok());
    let mut late = Pair::idle(Options {
        bundle: RELAY.epoch(6, 60).1,
        skew_ms: 61_000,
        ..Options::new(24)
    });
    assert!(matches!(late.dial(), Err(ConnectError::Bundle(_))));
}

#[test]
fn a_relay_serves_no_epochs_that_lock_clients_out() {
    let mut pair = Pair::connected(Options::new(25));
    let ((eighth, bundle), (ninth, _)) = (RELAY.epoch(8, DAY), RELAY.epoch(9, DAY));
    let mut refused = |epochs: Vec<RelayEpoch>, bundle| replace(&mut pair, epochs, bundle).unwrap_err();
    assert_eq!(refused(vec![], None), EpochsError::Count);
    assert_eq!(
        refused(vec![eighth.clone(), ninth.clone(), RELAY.first_epoch()], None),
        EpochsError::Count
    );
    assert_eq!(
        refused(vec![eighth.clone(), eighth.clone()], None),
        EpochsError::Repeated
    );
    assert_eq!(
        refused(vec![ninth.clone()], Some(&bundle)),
        EpochsError::NotServed
    );
    let wrong_keys = RelayEpoch {
        epoch: 8,
        ..ninth.clone()
    };
    assert_eq!(refused(vec![wrong_keys], Some(&bundle)), EpochsError::NotServed);
    let other = transport_tests::pair::Relay::new(2);
    let foreign = other.epoch(8, DAY);
    assert_eq!(
        refused(vec![foreign.0], Some(&foreign.1)),
        EpochsError::WrongRelay
    );
    let now = pair.now(Way::Up);
    let client = &mut pair.client.endpoint;
    assert_eq!(
        client.replace_epochs(now, vec![ninth], None),
        Err(EpochsError::NotARelay)
    );
    assert!(pair.transfer(Way::Up, 1000, LIMIT), "nothing changed");
}

#[test]
fn a_bundle_that_is_not_yet_valid_waits_until_it_is() {
    let mut pair = Pair::connected(Options::new(26).with(|transport| {
        transport.keep_alive = Some(Duration::from_secs(5));
    }));
    let (epoch, bundle) = RELAY.epoch_from(8, 90, DAY);
    replace(&mut pair, vec![epoch, RELAY.first_epoch()], Some(&bundle)).unwrap();
    pair.run_for(Duration::from_secs(80));
    assert_eq!(bundles(&pair), []);
    pair.run_for(Duration::from_secs(20));
    assert_eq!(bundles(&pair), [bundle]);
}

// --- revocation ---

fn enrolled(seed: u64) -> Options {
    let identity = client_identity(seed);
    Options {
        access: Access::AllowList(BTreeSet::from([identity.client_id()])),
        identity: Some(identity),
        ..Options::new(seed)
    }
}

#[test]
fn revocation_ends_a_transfer_at_both_ends_and_the_client_meets_silence() {
    let options = enrolled(30);
    let id = options.identity.as_ref().unwrap().client_id();
    let mut pair = Pair::connected(options);
    let mut transfer = Transfer::open(&mut pair, Way::Up, 10_000_000);
    pair.run_until(LIMIT, |pair| transfer.drive(pair) || transfer.read > 200_000);
    assert!(transfer.read < 10_000_000);
    let now = pair.now(Way::Down);
    pair.server
        .endpoint
        .revoke(now, &[client_identity(31).client_id()]);
    pair.settle();
    assert_eq!(pair.server.closed(), None, "somebody else");
    pair.server.endpoint.revoke(now, &[id]);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.server.closed(), Some(&revoked(By::Local)));
    assert_eq!(pair.client.closed(), Some(&revoked(By::Peer)));
    assert_eq!(pair.server.endpoint.stats().revoked, 1);
    let denied = pair.server.endpoint.stats().drops.get(DropReason::AccessDenied);
    pair.client.events.clear();
    pair.dial().unwrap();
    pair.run_until(Duration::from_secs(40), |pair| pair.client.closed().is_some());
    assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
    assert!(pair.server.endpoint.stats().drops.get(DropReason::AccessDenied) > denied);
    assert_eq!(
        pair.server.endpoint.sessions(pair.now(Way::Down), 0, 10).sessions,
        []
    );
}

#[test]
fn a_revoked_client_is_kept_out_of_an_open_relay_under_its_name() {
    let mut pair = Pair::connected(Options {
        access: Access::Open,
        ..enrolled(32)
    });
    let id = client_identity(32).client_id();
    let now = pair.now(Way::Down);
    pair.server.endpoint.revoke(now, &[id]);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.client.closed(), Some(&revoked(By::Peer)));
    pair.client.events.clear();
    pair.dial().unwrap();
    pair.run_until(Duration::from_secs(40), |pair| pair.client.closed().is_some());
    assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
}

#[test]
fn a_handshake_that_is_half_open_ends_with_the_right_to_it() {
    let mut pair = Pair::idle(enrolled(33));
    // The client never hears the answer.
    pair.hook(|passing| {
        if passing.way == Way::Down {
            passing.lose();
        }
    });
    pair.dial().unwrap();
    pair.run_for(Duration::from_millis(300));
    assert_eq!(pair.server.endpoint.stats().half_open, 1);
    let now = pair.now(Way::Down);
    pair.server
        .endpoint
        .replace_access(now, Access::AllowList(BTreeSet::new()));
    assert_eq!(pair.server.endpoint.stats().half_open, 0);
    pair.hook(|_| {});
    pair.run_until(Duration::from_secs(40), |pair| pair.client.closed().is_some());
    assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
}

#[test]
fn a_new_rule_leaves_those_alone_whom_it_lets_in() {
    let mut pair = Pair::connected(enrolled(34));
    let now = pair.now(Way::Down);
    for access in [Access::Open, Access::Except(BTreeSet::new())] {
        pair.server.endpoint.replace_access(now, access);
    }
    assert!(pair.transfer(Way::Up, 10_000, LIMIT));
    let mut anonymous = Pair::connected(Options::new(35));
    anonymous
        .server
        .endpoint
        .replace_access(now, Access::AllowList(BTreeSet::new()));
    anonymous.run_for(Duration::from_millis(100));
    assert_eq!(anonymous.client.closed(), Some(&revoked(By::Peer)));
    assert_eq!(anonymous.server.endpoint.stats().revoked, 1);
}

// --- who is there ---

#[test]
fn sessions_come_in_pages_and_each_once() {
    let mut pair = Pair::connected(enrolled(36));
    assert!(pair.transfer(Way::Up, 5000, LIMIT));
    for _ in 0..6 {
        pair.dial().unwrap();
        pair.run_for(Duration::from_secs(1));
    }
    let now = pair.now(Way::Down);
    let endpoint = &pair.server.endpoint;
    let (mut found, mut from, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(place) = from {
        let page = endpoint.sessions(now, place, 3);
        assert!(page.sessions.len() <= 3);
        found.extend(page.sessions);
        (from, pages) = (page.next, pages + 1);
    }
    assert_eq!((found.len(), pages), (7, 3));
    let handles: BTreeSet<_> = found.iter().map(|session| session.handle).collect();
    assert_eq!(handles.len(), 7);
    for session in &found {
        assert_eq!(session.peer, Peer::Client(client_identity(36).client_id()));
        assert_eq!(session.remote, client_address());
        assert!(session.stats.received_packets > 0 && session.stats.mtu >= 1232 && !session.resumed);
    }
    assert!(found[0].age > found[6].age && found[6].age > Duration::ZERO);
    let usage = endpoint.usage();
    let connections = usage.iter().find(|usage| usage.name == "connections").unwrap();
    assert_eq!((connections.used, connections.limit), (7, 100_000));
    assert!(
        usage
            .iter()
            .all(|usage| usage.used <= usage.limit && usage.limit > 0)
    );
}
