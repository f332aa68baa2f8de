//! Single rules, where a name helps more than a program.

use std::net::{SocketAddr, SocketAddrV6};

use super::super::{Change, Contexts, Incoming, Limits, OpenError, Outgoing};
use crate::http::varint;
use crate::masque::bind::{Assign, BindCapsule, BindFault, Dialect, Role};

fn contexts(role: Role) -> Contexts {
    Contexts::new(role, Dialect::Current, true, Limits::default())
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn assign(context: u64, port: u16) -> BindCapsule {
    BindCapsule::Assign(Assign {
        context,
        target: Some(peer(port)),
    })
}

const UNCOMPRESSED: BindCapsule = BindCapsule::Assign(Assign {
    context: 2,
    target: None,
});

fn give(contexts: &mut Contexts, capsule: BindCapsule) -> Option<Change> {
    contexts.on_capsule(capsule, |_| true).expect("no fault")
}

#[test]
fn a_proxy_registers_nothing_while_the_client_keeps_strangers_out() {
    let mut proxy = contexts(Role::Proxy);
    assert_eq!(proxy.open(Some(peer(1))), Err(OpenError::Firewalled));
    give(&mut proxy, UNCOMPRESSED);
    assert_eq!(proxy.open(Some(peer(1))), Ok(1));
    give(&mut proxy, BindCapsule::Ack(1));
    give(&mut proxy, BindCapsule::Close(2));
    assert_eq!(proxy.open(Some(peer(2))), Err(OpenError::Firewalled));
    assert_eq!(
        proxy.outgoing(peer(1)),
        Some(Outgoing::Compressed(1)),
        "opened before"
    );
    assert_eq!(proxy.outgoing(peer(2)), None);
    assert_eq!(proxy.open(None), Err(OpenError::Uncompressed(None)));
}

#[test]
fn the_first_sure_way_is_taken() {
    let mut client = contexts(Role::Client);
    assert_eq!(client.outgoing(peer(1)), None);
    assert_eq!((client.open(Some(peer(1))), client.open(None)), (Ok(2), Ok(4)));
    assert_eq!(
        client.outgoing(peer(1)),
        Some(Outgoing::Compressed(2)),
        "nothing is sure"
    );
    assert_eq!(client.outgoing(peer(2)), Some(Outgoing::Uncompressed(4)));
    give(&mut client, BindCapsule::Ack(4));
    assert_eq!(client.outgoing(peer(1)), Some(Outgoing::Uncompressed(4)));
    give(&mut client, BindCapsule::Ack(2));
    assert_eq!(client.outgoing(peer(1)), Some(Outgoing::Compressed(2)));
    assert!(client.close(2));
    assert_eq!(client.outgoing(peer(1)), Some(Outgoing::Uncompressed(4)));
    let mut careful = contexts(Role::Client);
    careful.set_preemptive(false);
    assert_eq!(careful.open(None), Ok(2));
    assert_eq!(careful.outgoing(peer(1)), None);
}

#[test]
fn a_proxy_waits_for_the_answer() {
    let mut proxy = contexts(Role::Proxy);
    give(&mut proxy, UNCOMPRESSED);
    assert_eq!(proxy.open(Some(peer(1))), Ok(1));
    assert_eq!(proxy.outgoing(peer(1)), Some(Outgoing::Uncompressed(2)));
    assert_eq!(
        proxy.incoming(1),
        Incoming::Peer(peer(1)),
        "the client may know it already"
    );
}

#[test]
fn surplus_and_forbidden_registrations_are_refused() {
    let limits = Limits {
        contexts: 2,
        unanswered: 9,
    };
    let mut proxy = Contexts::new(Role::Proxy, Dialect::Current, true, limits);
    let refused = |change| matches!(change, Some(Change::Refused { replaces: None, .. }));
    assert!(refused(
        proxy.on_capsule(assign(2, 7), |_| false).expect("no fault")
    ));
    assert!(refused(give(&mut proxy, assign(4, 0))), "nothing goes to port 0");
    assert!(!refused(give(&mut proxy, assign(6, 1))));
    assert!(!refused(give(&mut proxy, assign(8, 2))));
    assert!(refused(give(&mut proxy, assign(10, 3))), "surplus");
    let mut out = Vec::new();
    proxy.take_outgoing(&mut out);
    assert_eq!(out, [0x13, 1, 2, 0x13, 1, 4, 0x12, 1, 6, 0x12, 1, 8, 0x13, 1, 10]);
    assert!(proxy.close(6));
    assert!(!refused(give(&mut proxy, assign(12, 3))), "there is room again");
}

#[test]
fn answers_that_cannot_be_written_are_bounded() {
    let limits = Limits {
        contexts: 1,
        unanswered: 3,
    };
    let mut proxy = Contexts::new(Role::Proxy, Dialect::Current, true, limits);
    for context in [2, 4, 6] {
        give(&mut proxy, assign(context, context as u16));
    }
    let ninth = proxy.clone().on_capsule(assign(8, 8), |_| true);
    assert_eq!(ninth, Err(BindFault::Overrun));
    proxy.take_outgoing(&mut Vec::new());
    give(&mut proxy, assign(8, 8));
}

#[test]
fn own_registrations_that_nobody_answers_are_bounded() {
    let limits = Limits {
        contexts: 100,
        unanswered: 2,
    };
    let mut client = Contexts::new(Role::Client, Dialect::Current, true, limits);
    assert_eq!((client.open(None), client.open(Some(peer(1)))), (Ok(2), Ok(4)));
    assert_eq!(client.open(Some(peer(2))), Err(OpenError::Busy));
    assert!(client.close(4));
    assert_eq!(
        client.open(Some(peer(2))),
        Err(OpenError::Busy),
        "an answer is still due"
    );
    give(&mut client, BindCapsule::Ack(4));
    assert_eq!(client.open(Some(peer(2))), Ok(6));
    assert_eq!(client.open(Some(peer(2))), Err(OpenError::Exists(6)));
    assert_eq!(client.open(None), Err(OpenError::Uncompressed(Some(2))));
    assert_eq!(client.open(Some(peer(0))), Err(OpenError::NoPort));
}

#[test]
fn capsules_that_nobody_fetches_are_bounded_in_the_older_dialect_too() {
    let limits = Limits {
        contexts: 3,
        unanswered: 2,
    };
    let mut client = Contexts::new(Role::Client, Dialect::Older, true, limits);
    while let Ok(context) = client.open(Some(peer(1))) {
        assert!(client.close(context));
    }
    assert_eq!(client.open(Some(peer(1))), Err(OpenError::Busy));
    assert!(client.outbox.len() <= 6);
}

#[test]
fn a_tuple_is_address_and_port_only() {
    let scoped = |flow, scope| -> SocketAddr {
        SocketAddrV6::new("fe80::1".parse().expect("ip"), 9, flow, scope).into()
    };
    let mut client = contexts(Role::Client);
    assert_eq!(client.open(Some(scoped(1, 2))), Ok(2));
    assert_eq!(client.open(Some(scoped(3, 4))), Err(OpenError::Exists(2)));
    assert_eq!(client.outgoing(scoped(5, 6)), Some(Outgoing::Compressed(2)));
    assert_eq!(client.compressed(scoped(0, 0)), Some(2));
}

#[test]
fn ids_end_with_the_integers_that_carry_them() {
    let mut client = contexts(Role::Client);
    client.next = varint::MAX - 1;
    assert_eq!(client.open(Some(peer(1))), Ok(varint::MAX - 1));
    assert_eq!(client.open(Some(peer(2))), Err(OpenError::Exhausted));
    assert_eq!(client.incoming(varint::MAX - 1), Incoming::Peer(peer(1)));
}

#[test]
fn context_0_belongs_to_the_target_if_there_is_one() {
    assert_eq!(contexts(Role::Proxy).incoming(0), Incoming::Abort);
    let plain = Contexts::new(Role::Proxy, Dialect::Current, false, Limits::default());
    assert_eq!(plain.incoming(0), Incoming::Udp);
}
