//! A relay's connection and a client that breaks the rules: it has the keys, and seals what it likes.

use transport_crypto::{
    Auth, Bundle, BundleDraft, BundleEndpoint, ClientHello, EndpointAddress, Grant, Initiator, RelayIdentity,
    RelayStatics, Responder, SealKeys, SeededEntropy, ServerAnswer,
};

use super::*;
use crate::buffer::Batch;
use crate::error::{By, code};
use crate::packet::{Builder, clear_cid, mask_batch, sample};
use crate::trace::{DropReason, Drops, Tracer};
use crate::wire::Header;
use crate::wire::frame::{Close, Datagram, Frame, PathNewConnectionId, PathRetireConnectionId, Stream};

const CID: ConnectionId = ConnectionId([3; 9]);

/// A connection, and what its peer would seal with.
pub(super) struct Bed {
    pub(super) connection: Connection,
    seal: SealKeys,
    masks: Arc<CidMasks>,
    /// The way of what the peer sends.
    way: Way,
    number: u64,
    pub(super) now: Now,
    pub(super) drops: Drops,
}

pub(super) fn relay() -> RelayIdentity {
    RelayIdentity::generate(&mut SeededEntropy::new([4; 32])).unwrap()
}

fn sessions(relay: &RelayIdentity) -> (Session, Session) {
    let mut rng = SeededEntropy::new([5; 32]);
    let statics = RelayStatics::generate(&mut rng).unwrap();
    let endpoint = BundleEndpoint {
        address: EndpointAddress::Ip([10, 0, 0, 1].into()),
        port: 1,
        cover: 0,
    };
    let draft = BundleDraft {
        epoch: 1,
        not_before: 0,
        not_after: 86_400,
        endpoints: vec![endpoint],
    };
    let bundle = Bundle::parse(&relay.sign_bundle(&draft, &statics).unwrap()).unwrap();
    let (mut hello, mut answer) = (Vec::new(), Vec::new());
    let client = ClientHello {
        has_aes: false,
        time_ms: 0,
        scid: [9; 9],
        auth: Auth::Anonymous,
        params: &[],
    };
    let mut initiator = Initiator::start(&bundle, [1; 8], client, &mut rng, &mut hello).unwrap();
    let offered = Responder::new(statics, relay.relay_id(), 1)
        .read([1; 8], &hello, None, 0)
        .unwrap();
    let suite = Suite::ChaCha20Poly1305;
    let reply = ServerAnswer {
        suite,
        relay_cids: &[CID.0],
        params: &[],
        server_time_ms: 0,
        early_accepted: false,
        retry_token: None,
    };
    let server = offered
        .accept(reply, &mut rng, &mut answer)
        .unwrap()
        .into_session();
    (initiator.finish(&answer, &[]).unwrap().session, server)
}

impl Bed {
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    pub(super) fn new(side: Side) -> Self {
        let relay = relay();
        let (client, server) = sessions(&relay);
        let (ours, theirs, peer, way) = match side {
            Side::Server => (server, client, Peer::Anonymous, Way::ClientToServer),
            Side::Client => (client, server, Peer::Relay(relay.relay_id()), Way::ServerToClient),
        };
        let masks = Arc::new(CidMasks::new(&relay.relay_id(), &Grant::default()));
        let now = Now {
            instant: Instant::now(),
            unix_ms: 0,
        };
        let transport = Arc::new(TransportConfig::default());
        let made = Established {
            side,
            info: Info {
                peer,
                suite: ours.suite,
                handshake: Duration::ZERO,
                resumed: false,
                early_accepted: None,
            },
            session: ours,
            cids: masks.clone(),
            route: Route {
                remote: ([10, 0, 0, 2], 2).into(),
                local: None,
            },
            ours: vec![CID],
            theirs: vec![ConnectionId([9; 9])],
            params: announce(&transport, b"x"),
            rtt: None,
            tickets: 0,
            confirmed: true,
            narrow: false,
            epoch: 1,
        };
        let connection = Connection::new(now, made, transport, Random::new([6; 32]));
        Self {
            connection,
            seal: theirs.seal,
            masks,
            way,
            number: 0,
            now,
            drops: Drops::default(),
        }
    }

    /// The client sends a packet with these frames.
    fn receive(&mut self, write: impl FnOnce(&mut Builder<'_>)) {
        let mut datagram = self.sealed(write);
        self.receive_bytes(&mut datagram);
    }

    /// The client makes a packet with these frames.
    fn sealed(&mut self, write: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
        let mut batch = Batch::default();
        let header = Header {
            cid: CID,
            key_phase: self.seal.phase(),
            number: self.number,
            number_len: 4,
            grease: 0,
        };
        self.number += 1;
        let mut builder = Builder::start(&mut batch, &header, 1232).unwrap();
        write(&mut builder);
        builder.seal(&mut self.seal, 0).unwrap();
        mask_batch(&mut batch, &self.seal, &self.masks, self.way);
        batch.bytes().to_vec()
    }

    fn receive_bytes(&mut self, datagram: &mut [u8]) {
        let mut mask = [[0; 9]];
        self.masks
            .masks(self.way, &[sample(datagram).unwrap()], &mut mask);
        let cid = clear_cid(datagram, &mask[0]).unwrap();
        assert_eq!(cid, CID);
        let mut tracer = Tracer {
            now: self.now,
            connection: None,
            observer: None,
            drops: &mut self.drops,
        };
        let route = self.connection.paths.active.route;
        self.connection
            .handle_datagram(self.now, route, (cid, None), datagram, &mut tracer);
    }

    pub(super) fn frame(&mut self, frame: &Frame<'_>) {
        self.receive(|builder| builder.frame(frame).unwrap());
    }

    /// The client sends a packet of early data with this frame.
    fn early(&mut self, number: u32, frame: &Frame<'_>) {
        let mut frames = vec![0; frame.encoded_len()];
        frame.encode(&mut crate::wire::Writer::new(&mut frames)).unwrap();
        let mut tracer = Tracer {
            now: self.now,
            connection: None,
            observer: None,
            drops: &mut self.drops,
        };
        self.connection
            .handle_early(self.now, 1000, number, &frames, &mut tracer);
    }

    /// Sends all there is; how many packets.
    fn transmit(&mut self) -> usize {
        let mut sent = 0;
        let mut batch = Batch::default();
        let mut tracer = Tracer {
            now: self.now,
            connection: None,
            observer: None,
            drops: &mut self.drops,
        };
        while self
            .connection
            .poll_transmit(self.now, &mut batch, &mut tracer)
            .is_some()
        {
            sent += batch.count();
            batch.clear();
        }
        sent
    }

    pub(super) fn ended_with(&mut self) -> Option<u64> {
        let events = std::iter::from_fn(|| self.connection.poll_event());
        events.last().and_then(|event| match event {
            Event::Closed(CloseReason::Transport { code, by: By::Local }) => Some(code),
            _ => None,
        })
    }
}

#[test]
fn each_broken_rule_ends_the_connection_with_its_code() {
    let stream = |id, offset, data| {
        Frame::Stream(Stream {
            id,
            offset,
            data,
            fin: false,
        })
    };
    let new_cid = |path, sequence| PathNewConnectionId {
        path,
        sequence,
        retire_prior_to: 0,
        cid: ConnectionId([9; 9]),
    };
    let cases: [(Frame<'_>, u64); 9] = [
        (Frame::HandshakeDone, code::PROTOCOL_VIOLATION),
        (stream(0, 1 << 40, b"x"), code::FLOW_CONTROL_ERROR),
        (stream(4 << 20, 0, b"x"), code::STREAM_LIMIT_ERROR),
        (stream(3, 0, b"x"), code::STREAM_STATE_ERROR),
        (Frame::MaxStreamData { id: 2, max: 1 }, code::STREAM_STATE_ERROR),
        (
            Frame::PathRetireConnectionId(PathRetireConnectionId {
                path: 0,
                sequence: 99,
            }),
            code::PROTOCOL_VIOLATION,
        ),
        (
            Frame::PathNewConnectionId(new_cid(1, 1)),
            code::PROTOCOL_VIOLATION,
        ),
        (
            Frame::PathNewConnectionId(new_cid(0, 1)),
            code::PROTOCOL_VIOLATION,
        ),
        (
            Frame::ResetStream {
                id: 0,
                code: 0,
                final_size: 1 << 40,
            },
            code::FLOW_CONTROL_ERROR,
        ),
    ];
    for (frame, code) in cases {
        let mut bed = Bed::new(Side::Server);
        bed.frame(&frame);
        assert_eq!(bed.ended_with(), Some(code), "{frame:?}");
        assert_eq!(bed.transmit(), 1, "one CLOSE");
    }
}

#[test]
fn false_acknowledgements_end_the_connection() {
    for path in [0, 7] {
        let mut bed = Bed::new(Side::Server);
        bed.frame(&Frame::Ping);
        bed.transmit();
        bed.receive(|builder| {
            builder
                .ack(path, 0, std::iter::once(1_000_000..=1_000_001), None)
                .unwrap();
        });
        assert_eq!(bed.ended_with(), Some(code::PROTOCOL_VIOLATION));
    }
}

#[test]
fn a_key_phase_that_flips_twice_in_a_moment_is_an_error() {
    let mut bed = Bed::new(Side::Server);
    bed.frame(&Frame::Ping);
    bed.seal.update();
    bed.frame(&Frame::Ping);
    assert_eq!((bed.ended_with(), bed.connection.stats().key_updates), (None, 1));
    bed.seal.update();
    bed.frame(&Frame::Ping);
    assert_eq!(bed.ended_with(), Some(code::KEY_UPDATE_ERROR));
}

#[test]
fn a_packet_counts_once() {
    let mut bed = Bed::new(Side::Server);
    let mut batch = Batch::default();
    let header = Header {
        cid: CID,
        key_phase: false,
        number: 5,
        number_len: 2,
        grease: 7,
    };
    let mut builder = Builder::start(&mut batch, &header, 1232).unwrap();
    builder.datagram([b"once", b""], None).unwrap();
    builder.seal(&mut bed.seal, 0).unwrap();
    mask_batch(&mut batch, &bed.seal, &bed.masks, Way::ClientToServer);
    for _ in 0..3 {
        bed.receive_bytes(&mut batch.bytes().to_vec());
    }
    let messages = std::iter::from_fn(|| bed.connection.poll_event());
    assert_eq!(
        messages
            .filter(|event| matches!(event, Event::DatagramReceived(_)))
            .count(),
        1
    );
    assert_eq!(bed.drops.get(DropReason::Replay), 2);
}

#[test]
fn a_message_in_a_refused_packet_arrives_once_with_the_copy_that_is_taken() {
    let mut bed = Bed::new(Side::Server);
    let piece = |offset, data| Stream {
        id: 0,
        offset,
        data,
        fin: false,
    };
    // A stream in as many pieces as are kept.
    let pieces = bed.connection.settings.transport.limits.max_receive_segments as u64;
    for at in 1..=pieces {
        bed.frame(&Frame::Stream(piece(2 * at, b"x")));
    }
    assert_eq!(bed.drops.get(DropReason::Refused), 0);
    let packet = bed.sealed(|builder| {
        builder.datagram([b"once", b""], None).unwrap();
        let refused = piece(2 * pieces + 2, b"x");
        builder.frame(&Frame::Stream(refused)).unwrap();
    });
    let messages = |bed: &mut Bed| {
        std::iter::from_fn(|| bed.connection.poll_event())
            .filter(|event| matches!(event, Event::DatagramReceived(_)))
            .count()
    };
    for times in 1..=2 {
        bed.receive_bytes(&mut packet.clone());
        assert_eq!(
            (messages(&mut bed), bed.drops.get(DropReason::Refused)),
            (0, times)
        );
        assert_eq!(bed.connection.stats().datagrams_received, 0);
    }
    // A gap is filled, so that there is room for one more piece.
    bed.frame(&Frame::Stream(piece(3, b"x")));
    for _ in 0..2 {
        bed.receive_bytes(&mut packet.clone());
    }
    assert_eq!((messages(&mut bed), bed.drops.get(DropReason::Replay)), (1, 1));
    assert_eq!(bed.connection.stats().datagrams_received, 1);
}

#[test]
fn challenges_without_end_are_answered_four_at_a_time() {
    let mut bed = Bed::new(Side::Server);
    bed.frame(&Frame::Ping);
    bed.transmit();
    let before = bed.connection.stats().sent_packets;
    bed.receive(
        |builder| {
            while builder.frame(&Frame::PathChallenge([1; 8])).is_ok() {}
        },
    );
    bed.transmit();
    assert!(bed.connection.stats().sent_packets - before <= 5);
}

#[test]
fn nothing_is_said_after_the_peer_has_closed() {
    let mut bed = Bed::new(Side::Server);
    bed.frame(&Frame::Close(Close {
        code: 9,
        frame_type: None,
        reason: b"bye",
    }));
    assert_eq!(bed.transmit(), 0);
    bed.frame(&Frame::Ping);
    assert_eq!((bed.transmit(), bed.drops.get(DropReason::Closing)), (0, 1));
    let last = std::iter::from_fn(|| bed.connection.poll_event()).last();
    let reason = CloseReason::Application {
        code: 9,
        reason: b"bye".to_vec(),
        by: By::Peer,
    };
    assert_eq!(last, Some(Event::Closed(reason)));
}

#[test]
fn any_frames_leave_the_connection_standing_or_closed() {
    arbtest::arbtest(|u| {
        let mut bed = Bed::new(Side::Server);
        for _ in 0..4 {
            let bytes: Vec<u8> = u.arbitrary()?;
            let data = Frame::Datagram(crate::wire::frame::Datagram { data: &[] });
            if bytes.is_empty() {
                bed.frame(&data);
                continue;
            }
            let arrival = receive::Arrival {
                path: PathId::FIRST,
                now: bed.now,
                route: bed.connection.paths.active.route,
                ecn: None,
                number: 0,
                size: bytes.len(),
                newest: true,
                early: false,
            };
            let mut tracer = Tracer {
                now: bed.now,
                connection: None,
                observer: None,
                drops: &mut bed.drops,
            };
            let _ = bed.connection.dispatch_all(&arrival, &bytes, &mut tracer);
        }
        bed.transmit();
        Ok(())
    })
    .budget_ms(1500);
}

#[test]
fn early_packets_carry_data_alone_and_count_once() {
    let forbidden = [
        Frame::HandshakeDone,
        Frame::MaxData { max: 1 << 30 },
        Frame::ResetStream {
            id: 0,
            code: 0,
            final_size: 0,
        },
        Frame::StopSending { id: 0, code: 0 },
        Frame::PathChallenge([1; 8]),
        Frame::Close(Close {
            code: 0,
            frame_type: None,
            reason: b"",
        }),
    ];
    for frame in forbidden {
        let mut bed = Bed::new(Side::Server);
        bed.early(0, &frame);
        assert_eq!(bed.ended_with(), Some(code::PROTOCOL_VIOLATION), "{frame:?}");
    }
    let mut bed = Bed::new(Side::Server);
    let data = Frame::Datagram(Datagram { data: b"once" });
    for _ in 0..3 {
        bed.early(7, &data);
    }
    assert_eq!(bed.connection.counters.datagrams_received, 1);
    assert_eq!(bed.drops.get(DropReason::Replay), 2);
    // The same number with the session's keys is a copy as well.
    bed.number = 7;
    bed.frame(&Frame::Ping);
    assert_eq!(bed.drops.get(DropReason::Replay), 3);
    bed.frame(&Frame::Ping);
    assert_eq!(bed.connection.counters.received_packets, 2);
}
