//! What a request with bind meets: capsules however cut, programs of both ends, datagrams, and the field of public addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use arbitrary::Arbitrary;
use transport_api::http::Field;
use transport_api::masque::bind::{
    ADDRESS_FIELD, Assign, BindCapsule, BindCapsules, BindFault, BindItem, Change, Contexts, Dialect,
    Incoming, Limits, Outgoing, Received, Role, address, datagram, put_capsule,
};

use super::decode;

const ENDS: [(Role, Dialect); 4] = [
    (Role::Client, Dialect::Current),
    (Role::Proxy, Dialect::Current),
    (Role::Client, Dialect::Older),
    (Role::Proxy, Dialect::Older),
];
const LIMITS: Limits = Limits {
    contexts: 4,
    unanswered: 3,
};

/// However a stream is cut it says the same, and what it says can be written and reads the same.
pub fn bind_capsules(data: &[u8]) {
    for ((role, dialect), any) in ENDS.into_iter().flat_map(|end| [(end, false), (end, true)]) {
        let read = |cut: usize| {
            let mut reader = BindCapsules::new(role, dialect, any, 100);
            let mut items = Vec::new();
            for mut input in data.chunks(cut) {
                loop {
                    match reader.next(&mut input) {
                        Ok(Some(item)) => items.push(item),
                        Ok(None) => break,
                        Err(fault) => return (items, Err(fault)),
                    }
                }
            }
            (items, reader.finish())
        };
        let whole = read(data.len().max(1));
        assert_eq!(read(1), whole);
        assert_eq!(read(5), whole);
        for item in &whole.0 {
            match item {
                BindItem::Capsule(capsule) => written_reads_the_same(role, dialect, *capsule),
                BindItem::Datagram { context, bytes } => {
                    assert!(bytes.len() <= 100 && (!any || *context != 0));
                }
                BindItem::WrapUp => assert_eq!(role, Role::Client),
            }
        }
    }
}

fn written_reads_the_same(role: Role, dialect: Dialect, capsule: BindCapsule) {
    let mut wire = Vec::new();
    put_capsule(&mut wire, dialect, capsule);
    let mut reader = BindCapsules::new(role, dialect, true, 0);
    let again = reader.next(&mut wire.as_slice());
    assert_eq!(again, Ok(Some(BindItem::Capsule(capsule))));
}

/// A step of a program: ids and tuples are small, so that they meet.
#[derive(Arbitrary, Debug)]
enum Step {
    Open(Option<u8>),
    Close(u8),
    Assigned {
        context: u8,
        target: Option<u8>,
        allowed: bool,
    },
    AssignedFar(u64),
    Accepted(u8),
    Closed(u8),
    Written,
    Datagram(u8, Vec<u8>),
}

/// A program and the end that runs it, in words.
pub fn show(data: &[u8]) -> String {
    format!("{:?}", decode::<Step>(data))
}

fn tuple(index: u8) -> SocketAddr {
    let port = u16::from(index % 4);
    if index & 4 == 0 {
        SocketAddr::from(([192, 0, 2, 1], port))
    } else {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port))
    }
}

/// One end of any role, whose application and whose peer do what they like.
pub fn bind_contexts(data: &[u8]) {
    for (role, dialect) in ENDS {
        let mut program = Program::new(role, dialect);
        for step in decode(data) {
            if program.step(step).is_err() {
                break;
            }
            program.check();
        }
    }
}

struct Program {
    role: Role,
    dialect: Dialect,
    contexts: Contexts,
    /// What each id was registered for, when it was accepted here or is our own.
    meaning: BTreeMap<u64, Option<SocketAddr>>,
    closed: BTreeSet<u64>,
    /// Registrations of the peer that must be answered.
    unanswered: BTreeSet<u64>,
}

impl Program {
    fn new(role: Role, dialect: Dialect) -> Self {
        Self {
            role,
            dialect,
            contexts: Contexts::new(role, dialect, true, LIMITS),
            meaning: BTreeMap::new(),
            closed: BTreeSet::new(),
            unanswered: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), BindFault> {
        match step {
            Step::Open(target) => {
                let target = target.map(tuple);
                if let Ok(context) = self.contexts.open(target) {
                    assert!(self.meaning.insert(context, target).is_none(), "{context} again");
                }
            }
            Step::Close(context) => {
                if self.contexts.close(context.into()) {
                    self.closed.insert(context.into());
                }
            }
            Step::Assigned {
                context,
                target,
                allowed,
            } => self.assigned(context.into(), target.map(tuple), allowed)?,
            Step::AssignedFar(context) => self.assigned(context >> 2, Some(tuple(1)), true)?,
            Step::Accepted(context) => {
                self.contexts
                    .on_capsule(BindCapsule::Ack(context.into()), |_| true)?;
            }
            Step::Closed(context) => {
                let capsule = BindCapsule::Close(context.into());
                if let Some(Change::Closed(assign)) = self.contexts.on_capsule(capsule, |_| true)? {
                    self.closed.insert(assign.context);
                }
            }
            Step::Written => self.written(),
            Step::Datagram(context, bytes) => self.datagram(context.into(), &bytes)?,
        }
        Ok(())
    }

    fn assigned(&mut self, context: u64, target: Option<SocketAddr>, allowed: bool) -> Result<(), BindFault> {
        let assign = Assign { context, target };
        let change = self
            .contexts
            .on_capsule(BindCapsule::Assign(assign), |_| allowed)?;
        let (read, replaces) = match change {
            Some(Change::Opened { assign, replaces }) => {
                assert!(allowed, "against the policy's word");
                self.meaning.insert(context, target);
                (assign, replaces)
            }
            Some(Change::Refused { assign, replaces }) => {
                self.closed.insert(context);
                (assign, replaces)
            }
            // The older dialect's answer.
            _ => return Ok(()),
        };
        assert!(self.unanswered.insert(context), "{context} twice");
        assert_eq!(read, assign);
        if let Some(own) = replaces {
            assert_eq!((self.role, self.meaning[&own]), (Role::Proxy, target));
            self.closed.insert(own);
        }
        Ok(())
    }

    /// What is written reads as capsules of the dialect, each registration of the peer answered once.
    fn written(&mut self) {
        let mut wire = Vec::new();
        self.contexts.take_outgoing(&mut wire);
        assert!(wire.len() <= 40 * (2 * LIMITS.contexts + 3 * LIMITS.unanswered));
        let mut reader = BindCapsules::new(self.role.peer(), self.dialect, true, 0);
        let mut input = wire.as_slice();
        while let Some(item) = reader.next(&mut input).expect("our own capsules") {
            match item {
                BindItem::Capsule(BindCapsule::Ack(context)) => {
                    assert!(self.unanswered.remove(&context), "{context} was not asked");
                }
                BindItem::Capsule(BindCapsule::Close(context)) => {
                    self.unanswered.remove(&context);
                    assert!(self.closed.contains(&context));
                }
                BindItem::Capsule(BindCapsule::Assign(assign)) => {
                    if self.role.peer().allocates(assign.context) {
                        assert!(self.unanswered.remove(&assign.context));
                    }
                    assert_eq!(self.meaning.get(&assign.context), Some(&assign.target));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((reader.finish(), self.unanswered.len()), (Ok(()), 0));
    }

    fn datagram(&self, context: u64, bytes: &[u8]) -> Result<(), BindFault> {
        match self.contexts.receive(context, bytes)? {
            Received::Udp(_) => panic!("there is no target"),
            Received::Peer(peer, _) => {
                let named = datagram::split_peer(bytes).map(|(peer, _)| peer);
                assert_eq!(Some(peer), self.meaning[&context].or(named));
            }
            Received::Closed => assert!(self.closed.contains(&context)),
            Received::Unreadable => assert_eq!(self.meaning.get(&context), Some(&None)),
            Received::Unknown => assert!(!self.meaning.contains_key(&context)),
        }
        Ok(())
    }

    fn check(&self) {
        let open: BTreeMap<u64, Option<SocketAddr>> = self
            .contexts
            .iter()
            .map(|assign| (assign.context, assign.target))
            .collect();
        let targets: BTreeSet<_> = open.values().collect();
        assert!(open.len() <= LIMITS.contexts && targets.len() == open.len());
        for (context, target) in &open {
            assert!(!self.closed.contains(context) && self.meaning.get(context) == Some(target));
        }
        for peer in (0..8).map(tuple) {
            let (context, target) = match self.contexts.outgoing(peer) {
                Some(Outgoing::Compressed(context)) => (context, Incoming::Peer(peer)),
                Some(Outgoing::Uncompressed(context)) => (context, Incoming::Uncompressed),
                None => continue,
            };
            assert_eq!(self.contexts.incoming(context), target);
        }
    }
}

/// Datagrams are taken apart and put together the same; a field of addresses that is read can be written.
pub fn bind_datagrams(data: &[u8]) {
    if let Ok((context, bytes)) = datagram::parse(data)
        && let Some((peer, payload)) = datagram::split_peer(bytes)
    {
        let mut again = Vec::new();
        datagram::put_header(&mut again, context, peer);
        assert_eq!(again.len(), datagram::overhead(context, Some(peer)));
        again.extend_from_slice(payload);
        assert_eq!(datagram::parse(&again), Ok((context, bytes)));
    }
    let line = Field::new(ADDRESS_FIELD, String::from_utf8_lossy(data));
    if let Ok(addresses) = address::parse(&[line]) {
        assert!(!addresses.is_empty() && addresses.len() <= address::MAX_ADDRESSES);
        assert_eq!(address::parse(&[address::field(&addresses)]), Ok(addresses));
    }
}

/// Streams, datagrams and a field to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let streams: [&[u8]; 8] = [
        &[0x11, 2, 2, 0, 0x12, 1, 2, 0x13, 1, 2],
        &[0x11, 8, 4, 4, 203, 0, 113, 11, 0xea, 0x60],
        &[0x11, 8, 1, 4, 192, 0, 2, 42, 0xc3, 0x50, 0x12, 1, 1],
        &[0x11, 9, 0x40, 0x40, 4, 192, 0, 2, 1, 0, 53, 0x17, 1, 9],
        &[0, 12, 2, 4, 192, 0, 2, 42, 0xc3, 0x50, b'p', b'i', b'n', b'g'],
        &[0xa7, 0x2d, 0xda, 0x5e, 0],
        &[0x9c, 0x0f, 0xe3, 0x23, 2, 2, 0, 0x9c, 0x0f, 0xe3, 0x24, 1, 2],
        &[2, 4, 192, 0, 2, 42, 0xc3, 0x50, b'p'],
    ];
    let mut v6 = vec![0x11, 20, 6];
    datagram::put_peer(&mut v6, tuple(5));
    let fields = [
        r#""192.0.2.45:54321", "[2001:db8::1234]:54321""#,
        r#""192.0.2.1:1";a="b\"";c=?1"#,
    ];
    let mut all: Vec<Vec<u8>> = streams.iter().map(|&stream| stream.to_vec()).collect();
    all.push(v6);
    all.extend(fields.map(|field| field.as_bytes().to_vec()));
    all
}
