//! Whole packets: built, sealed and masked in a batch; unmasked and opened.

use std::hint::black_box;

use transport_core::buffer::MAX_SEGMENTS;
use transport_core::{
    Access, Batch,
    packet::{Builder, Sealed, clear_cids, mask_batch},
    wire::{ConnectionId, Header},
};
use transport_crypto::{
    Auth, CidMasks, ClientHello, Direction, Generation, Grant, Initiator, Responder, SeededEntropy,
    ServerAnswer, Session, Suite,
};
use transport_tests::pair::RELAY;

use crate::Bench;

const CID: ConnectionId = ConnectionId(*b"receiver!");
const SIZE: usize = 1452;
/// A batch of these is what a sender hands to the kernel at once.
const COUNT: u64 = 44;
const BODY: [u8; SIZE] = [0x5a; SIZE];

struct State {
    client: Session,
    server: Session,
    cids: CidMasks,
    batch: Batch,
    next: u64,
}

pub(crate) fn run(bench: &Bench) {
    for (name, suite) in [
        ("chacha20", Suite::ChaCha20Poly1305),
        ("aes256", Suite::Aes256Gcm),
    ] {
        let (client, server) = sessions(suite);
        let mut state = State {
            client,
            server,
            cids: CidMasks::new(&RELAY.bundle.relay_id(), &Grant::default()),
            batch: Batch::default(),
            next: 0,
        };
        bench.measure(
            &format!("packet_seal_{name}"),
            COUNT as u32,
            &mut state,
            |state| state.batch.clear(),
            |state, ()| state.seal(),
        );
        bench.measure(
            &format!("packet_open_{name}"),
            COUNT as u32,
            &mut state,
            |state| {
                state.batch.clear();
                state.seal();
                state.batch.segments().map(<[u8]>::to_vec).collect::<Vec<_>>()
            },
            |state, wire| state.open(wire),
        );
    }
}

impl State {
    fn seal(&mut self) {
        for _ in 0..COUNT {
            let header = Header {
                cid: CID,
                key_phase: false,
                number: self.next,
                number_len: 4,
                grease: 0,
            };
            self.next += 1;
            let mut packet = Builder::start(&mut self.batch, &header, SIZE).expect("room");
            let length = packet.datagram_fit().expect("room");
            packet.datagram([&BODY[..length], &[]], None).expect("it fits");
            packet.seal(&mut self.client.seal, 0).expect("a fresh number");
        }
        mask_batch(
            &mut self.batch,
            &self.client.seal,
            &self.cids,
            Direction::ClientToServer,
        );
    }

    fn open(&mut self, datagrams: &mut [Vec<u8>]) {
        let mut found = [None; MAX_SEGMENTS];
        let clear = datagrams.iter().map(Vec::as_slice);
        clear_cids(&self.cids, Direction::ClientToServer, clear, &mut found);
        let first = self.next - COUNT;
        for ((datagram, cid), number) in datagrams.iter_mut().zip(found).zip(first..) {
            let packet =
                Sealed::unmask(datagram, cid.expect("a packet"), &self.server.open).expect("a packet");
            let frames = packet.open(&mut self.server.open, Generation::Current, 0, number);
            black_box(frames.expect("genuine"));
        }
    }
}

/// Both ends of a handshake: client, relay.
fn sessions(suite: Suite) -> (Session, Session) {
    let config = RELAY.config(Access::Open, b"");
    let statics = config.epochs.into_iter().next().expect("one epoch").statics;
    let responder = Responder::new(statics, RELAY.bundle.relay_id(), RELAY.bundle.epoch());
    let mut entropy = SeededEntropy::new([3; 32]);
    let (mut body, mut reply) = (Vec::new(), Vec::new());
    let hello = ClientHello {
        has_aes: suite == Suite::Aes256Gcm,
        time_ms: 0,
        scid: [0; 9],
        auth: Auth::Anonymous,
        params: &[],
    };
    let answer = ServerAnswer {
        suite,
        relay_cids: &[CID.0],
        params: &[],
        server_time_ms: 0,
        early_accepted: false,
        retry_token: None,
    };
    let mut initiator =
        Initiator::start(&RELAY.bundle, [4; 8], hello, &mut entropy, &mut body).expect("a hello");
    let offered = responder.read([4; 8], &body, None, 0).expect("our hello");
    let accepted = offered
        .accept(answer, &mut entropy, &mut reply)
        .expect("an answer");
    let client = initiator.finish(&reply, &[]).expect("our answer").session;
    (client, accepted.into_session())
}
