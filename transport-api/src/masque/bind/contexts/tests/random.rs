//! Random programs: one machine against the model, honest and dishonest capsules; and two honest machines with datagrams that
//! overtake capsules and each other, or are lost.

use std::collections::VecDeque;
use std::net::SocketAddr;

use arbitrary::Unstructured;

use super::super::{Contexts, Limits, Received};
use super::model::Model;
use crate::masque::bind::{
    Assign, BindCapsule, BindCapsules, BindItem, Dialect, Role, datagram, put_capsule,
};

pub(super) fn peers() -> [SocketAddr; 4] {
    let port = |port| SocketAddr::from(([192, 0, 2, 1], port));
    // No packet goes to the last.
    [port(1), port(2), "[2001:db8::1]:1".parse().expect("v6"), port(0)]
}

fn target(u: &mut Unstructured<'_>) -> arbitrary::Result<Option<SocketAddr>> {
    let some: Option<u8> = u.arbitrary()?;
    Ok(some.map(|i| peers()[usize::from(i) % 4]))
}

fn limits(u: &mut Unstructured<'_>) -> arbitrary::Result<Limits> {
    Ok(Limits {
        contexts: u.int_in_range(1..=6)?,
        unanswered: u.int_in_range(1..=4)?,
    })
}

fn end(u: &mut Unstructured<'_>) -> arbitrary::Result<(Role, Dialect)> {
    let role = if u.arbitrary()? { Role::Client } else { Role::Proxy };
    let dialect = if u.ratio(1, 4)? {
        Dialect::Older
    } else {
        Dialect::Current
    };
    Ok((role, dialect))
}

fn capsule(u: &mut Unstructured<'_>, role: Role) -> arbitrary::Result<BindCapsule> {
    // Mostly ids that the peer may allocate, in turn or not, now and then far apart.
    let context = match u.int_in_range(0..=9)? {
        0 => u.int_in_range(0..=9)?,
        1 => u.int_in_range(0..=400)?,
        _ => 2 * u.int_in_range(0..=9)? + if role == Role::Client { 1 } else { 2 },
    };
    Ok(match u.int_in_range(0..=4)? {
        0 => BindCapsule::Ack(context),
        1 => BindCapsule::Close(context),
        _ => BindCapsule::Assign(Assign {
            context,
            target: target(u)?,
        }),
    })
}

/// The same step on both; `false` when the peer went too far.
fn step(u: &mut Unstructured<'_>, machine: &mut Contexts, model: &mut Model) -> arbitrary::Result<bool> {
    match u.int_in_range(0..=7)? {
        0 | 1 => {
            let target = target(u)?;
            assert_eq!(machine.open(target), model.open(target));
        }
        2 => {
            let context = u.int_in_range(0..=20)?;
            assert_eq!(machine.close(context), model.close(context));
        }
        3 => {
            let mut expected = Vec::new();
            for (capsule, _) in model.queue.drain(..) {
                put_capsule(&mut expected, model.dialect, capsule);
            }
            let mut out = Vec::new();
            assert_eq!(machine.has_outgoing(), !expected.is_empty());
            machine.take_outgoing(&mut out);
            assert_eq!(out, expected);
        }
        _ => {
            let capsule = capsule(u, model.role)?;
            let allowed = u.ratio(4, 5)?;
            let expected = model.on_capsule(capsule, allowed);
            match (machine.on_capsule(capsule, |_| allowed), expected) {
                (Ok(change), expected) => assert_eq!(Ok(change), expected),
                (Err(fault), Err(broken)) => {
                    assert!(broken.contains(&fault), "{fault:?} is none of {broken:?}");
                    return Ok(false);
                }
                (Err(fault), Ok(change)) => panic!("{fault:?} instead of {change:?}"),
            }
        }
    }
    Ok(true)
}

#[test]
fn the_machine_does_what_the_model_says() {
    arbtest::arbtest(|u| {
        let (role, dialect) = end(u)?;
        let (any, limits) = (u.arbitrary()?, limits(u)?);
        let mut machine = Contexts::new(role, dialect, any, limits);
        let mut model = Model::new(role, dialect, any, limits);
        while !u.is_empty() {
            if !step(u, &mut machine, &mut model)? {
                break;
            }
            assert_eq!(machine.len(), model.count());
            assert!(machine.len() <= limits.contexts);
            assert!(machine.outbox.len() <= 2 * limits.contexts + 3 * limits.unanswered);
            for context in 0..30 {
                assert_eq!(machine.incoming(context), model.incoming(context), "{context}");
            }
            for peer in peers() {
                assert_eq!(machine.outgoing(peer), model.outgoing(peer), "{peer}");
            }
        }
        Ok(())
    })
    .budget_ms(3_000);
}

#[test]
fn ids_far_apart_are_borne_up_to_a_bound() {
    let limits = Limits {
        contexts: 3,
        unanswered: 500,
    };
    let mut machine = Contexts::new(Role::Proxy, Dialect::Current, true, limits);
    let mut model = Model::new(Role::Proxy, Dialect::Current, true, limits);
    let mut refused = None;
    for i in 0..200 {
        let assign = Assign {
            context: 2 + 4 * i,
            target: Some(SocketAddr::from(([192, 0, 2, 1], 1 + i as u16))),
        };
        let expected = model.on_capsule(BindCapsule::Assign(assign), true);
        let got = machine.on_capsule(BindCapsule::Assign(assign), |_| true);
        assert_eq!(got.is_ok(), expected.is_ok(), "{i}");
        if got.is_err() {
            refused.get_or_insert(i);
        }
    }
    assert_eq!(refused, Some(super::super::ranges::MAX_RUNS as u64));
}

/// One end of an honest pair.
struct End {
    contexts: Contexts,
    reader: BindCapsules,
    /// Bytes of the stream from the peer.
    stream: VecDeque<u8>,
    /// Datagrams from the peer, and whom each belongs to.
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
}

impl End {
    fn new(role: Role, dialect: Dialect, limits: Limits) -> Self {
        Self {
            contexts: Contexts::new(role, dialect, true, limits),
            reader: BindCapsules::new(role, dialect, true, 100),
            stream: VecDeque::new(),
            datagrams: Vec::new(),
        }
    }

    fn read(&mut self, bytes: usize, allowed: bool) {
        let bytes = bytes.min(self.stream.len());
        let piece: Vec<u8> = self.stream.drain(..bytes).collect();
        let mut input = piece.as_slice();
        while let Some(item) = self.reader.next(&mut input).expect("an honest peer") {
            let BindItem::Capsule(capsule) = item else {
                panic!("{item:?}")
            };
            self.contexts
                .on_capsule(capsule, |_| allowed)
                .expect("an honest peer");
        }
    }

    /// A datagram of the peer means whom it belongs to, or nothing.
    fn receive(&mut self, at: usize) {
        let (peer, payload) = self.datagrams.swap_remove(at);
        let (context, bytes) = datagram::parse(&payload).expect("an id");
        match self.contexts.receive(context, bytes).expect("an honest peer") {
            Received::Peer(read, bytes) => assert_eq!((read, bytes), (peer, &b"ping"[..])),
            Received::Closed | Received::Unknown => {}
            other => panic!("{other:?}"),
        }
    }
}

fn flush(from: &mut End, to: &mut End) {
    let mut out = Vec::new();
    from.contexts.take_outgoing(&mut out);
    to.stream.extend(out);
}

fn act(u: &mut Unstructured<'_>, us: &mut End, them: &mut End) -> arbitrary::Result<()> {
    match u.int_in_range(0..=8)? {
        0 | 1 => {
            let _ = us.contexts.open(target(u)?);
        }
        2 => {
            let open: Vec<u64> = us.contexts.iter().map(|assign| assign.context).collect();
            if !open.is_empty() {
                assert!(us.contexts.close(*u.choose(&open)?));
            }
        }
        3 => flush(us, them),
        4 | 5 => us.read(u.int_in_range(1..=40)?, u.ratio(7, 8)?),
        6 | 7 => {
            let peer = *u.choose(&peers()[..3])?;
            if let Some(outgoing) = us.contexts.outgoing(peer) {
                let mut payload = Vec::new();
                outgoing.put_header(&mut payload, peer);
                payload.extend_from_slice(b"ping");
                them.datagrams.push((peer, payload));
            }
        }
        _ => {
            let waiting = us.datagrams.len();
            if waiting > 0 {
                let at = u.int_in_range(0..=waiting - 1)?;
                if u.ratio(1, 4)? {
                    us.datagrams.swap_remove(at);
                } else {
                    us.receive(at);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn an_honest_pair_agrees_and_mistakes_no_peer() {
    arbtest::arbtest(|u| {
        let (_, dialect) = end(u)?;
        // In the older dialect nobody knows how many answers are outstanding, so the limit must be out of reach.
        let mut limits = limits(u)?;
        if dialect == Dialect::Older {
            limits.unanswered = 10_000;
        }
        let mut client = End::new(Role::Client, dialect, limits);
        let mut proxy = End::new(Role::Proxy, dialect, limits);
        let _ = client.contexts.open(None);
        while !u.is_empty() {
            if u.arbitrary()? {
                act(u, &mut client, &mut proxy)?;
            } else {
                act(u, &mut proxy, &mut client)?;
            }
            assert!(client.contexts.len().max(proxy.contexts.len()) <= limits.contexts);
        }
        while client.contexts.has_outgoing()
            || proxy.contexts.has_outgoing()
            || !(client.stream.is_empty() && proxy.stream.is_empty())
        {
            flush(&mut client, &mut proxy);
            flush(&mut proxy, &mut client);
            client.read(usize::MAX, true);
            proxy.read(usize::MAX, true);
        }
        assert!(client.contexts.iter().eq(proxy.contexts.iter()));
        assert!(client.contexts.unanswered.is_empty() && proxy.contexts.unanswered.is_empty());
        for end in [&mut client, &mut proxy] {
            while !end.datagrams.is_empty() {
                end.receive(0);
            }
        }
        Ok(())
    })
    .budget_ms(3_000);
}
