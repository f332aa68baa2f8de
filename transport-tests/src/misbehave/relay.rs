//! The scripted peer in the relay's place: it has the relay's keys, and answers a client as it likes.

use std::collections::BTreeMap;

use transport_core::wire::{ConnectionId, TransportParameters};
use transport_core::{Access, SeededEntropy};
use transport_crypto::{EnvelopeHeader, EnvelopeType, Offered, Responder, ServerAnswer, Suite};

use super::{DOWN, Envelopes, Raw, UP};
use crate::pair::{APP, Pair, RELAY, Way, server_address};
use crate::sim::clock::EPOCH_UNIX_MS;
use crate::sim::rng::seed_bytes;

/// The relay's id for the client.
const RELAY_CID: [u8; 9] = *b"stands in";

/// A hello as it was overheard on its way up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overheard {
    /// Its handshake's name.
    pub hid: [u8; 8],
    /// The whole message.
    pub body: Vec<u8>,
}

impl Overheard {
    /// The newest hello that left the client whole.
    pub fn newest(pair: &Pair, envelopes: &mut Envelopes) -> Option<Self> {
        let mut messages: BTreeMap<[u8; 8], (usize, Vec<Option<u8>>)> = BTreeMap::new();
        let up = pair.record.iter().filter(|passing| passing.way == Way::Up);
        for (at, passing) in up.enumerate() {
            let mut bytes = passing.bytes.clone();
            let Ok((header, fragment)) = envelopes.keys.open(UP, &mut bytes) else {
                continue;
            };
            // The parity of the others says nothing of its own: it stands last, and at the beginning.
            let parity = header.index > 0 && header.fragment_offset == 0;
            if header.kind != EnvelopeType::ClientHello || parity {
                continue;
            }
            let (newest, body) = messages.entry(header.hid).or_default();
            *newest = at;
            body.resize(usize::from(header.total_len), None);
            let offset = usize::from(header.fragment_offset);
            for (slot, byte) in body[offset..].iter_mut().zip(fragment) {
                *slot = Some(*byte);
            }
        }
        let whole = messages
            .into_iter()
            .filter(|(_, (_, body))| body.iter().all(Option::is_some));
        let (hid, (_, body)) = whole.max_by_key(|(_, (newest, _))| *newest)?;
        let body = body.into_iter().flatten().collect();
        Some(Self { hid, body })
    }

    /// Reads it with the relay's own keys.
    pub fn read(&self) -> Offered {
        let mut config = RELAY.config(Access::Open, APP);
        let epoch = config.epochs.remove(0);
        let responder = Responder::new(epoch.statics, config.relay_id, epoch.epoch);
        responder
            .read(self.hid, &self.body, None, EPOCH_UNIX_MS / 1000)
            .expect("an honest hello")
    }
}

impl Envelopes {
    /// A message of the relay to a client, in datagrams.
    pub fn answer(&mut self, hid: [u8; 8], kind: EnvelopeType, body: &[u8]) -> Vec<Vec<u8>> {
        let pieces: Vec<&[u8]> = body.chunks(1000).collect();
        let count = pieces.len() as u8;
        let mut datagrams = Vec::new();
        for (index, piece) in pieces.into_iter().enumerate() {
            let header = EnvelopeHeader {
                kind,
                index: index as u8,
                count,
                fragment_offset: (index * 1000) as u16,
                fragment_len: piece.len() as u16,
                ..Self::header(hid, body.len())
            };
            let mut out = Vec::new();
            self.keys
                .seal(DOWN, &header, piece, 1232, &mut self.entropy, &mut out)
                .expect("a fragment that fits");
            datagrams.push(out);
        }
        datagrams
    }
}

impl Raw {
    /// Takes the relay's place: answers the dialing client of `pair`, whose own relay hears nothing from now on.
    pub fn stand_in(pair: &mut Pair, seed: u64, said: &TransportParameters) -> Self {
        pair.hook(|passing| {
            if passing.way == Way::Up {
                passing.lose();
            }
        });
        pair.settle();
        let mut envelopes = Envelopes::new(seed);
        let overheard = Overheard::newest(pair, &mut envelopes).expect("a client that dials");
        let mut params = Vec::new();
        said.encode(&mut params).expect("parameters that fit");
        let answer = ServerAnswer {
            suite: Suite::ChaCha20Poly1305,
            relay_cids: &[RELAY_CID],
            params: &params,
            server_time_ms: EPOCH_UNIX_MS,
            early_accepted: false,
            retry_token: None,
        };
        let mut entropy = SeededEntropy::new(seed_bytes(seed, "standing in"));
        let (offered, mut body) = (overheard.read(), Vec::new());
        let theirs = ConnectionId(offered.scid());
        let session = offered
            .accept(answer, &mut entropy, &mut body)
            .expect("an honest hello")
            .into_session();
        let raw = Self::new(pair, session, theirs, Way::Down);
        for datagram in envelopes.answer(overheard.hid, EnvelopeType::ServerHello, &body) {
            pair.inject(Way::Down, server_address(), &datagram);
        }
        assert!(pair.client.info().is_some(), "the client takes the answer");
        raw
    }
}
