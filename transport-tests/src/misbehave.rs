//! A client, or a relay, made by hand: it holds real keys, and says what no honest one would.
//!
//! It shakes hands with the other end of a [`Pair`] through the crypto crate alone, then seals whatever bytes a test wants as
//! frames, under whatever number.

use std::net::SocketAddr;

use transport_core::packet::{Sealed, clear_cid, sample};
use transport_core::wire::frame::{Frame, Frames, kind};
use transport_core::wire::{ConnectionId, Header, TransportParameters, Writer};
use transport_core::{Access, Grant, SeededEntropy};
use transport_crypto::{
    Auth, CidMasks, ClientHello, Counter, Direction, ENVELOPE_OVERHEAD, EnvelopeHeader, EnvelopeKeys,
    EnvelopeType, Generation, Initiator, Responder, ServerAnswer, Session, Suite,
};

use crate::pair::{APP, Pair, RELAY, Way, client_address, server_address};
use crate::sim::clock::EPOCH_UNIX_MS;
use crate::sim::rng::seed_bytes;

const UP: Direction = Direction::ClientToServer;
const DOWN: Direction = Direction::ServerToClient;
const SCID: [u8; 9] = *b"misbehave";

/// Seals fragments of a hello, honest or not.
pub struct Envelopes {
    keys: EnvelopeKeys,
    entropy: SeededEntropy,
}

impl Envelopes {
    /// With the keys everyone has who holds the bundle.
    pub fn new(seed: u64) -> Self {
        let bundle = &RELAY.bundle;
        let keys = EnvelopeKeys::new(bundle.kh(), bundle.epoch(), &Grant::default());
        Self {
            keys,
            entropy: SeededEntropy::new(seed_bytes(seed, "envelopes")),
        }
    }

    /// A header for a fragment of a hello of `total` bytes.
    pub fn header(hid: [u8; 8], total: usize) -> EnvelopeHeader {
        EnvelopeHeader {
            kind: EnvelopeType::ClientHello,
            hid,
            unix_minutes: (EPOCH_UNIX_MS / 60_000) as u32,
            index: 0,
            count: 1,
            total_len: total as u16,
            fragment_offset: 0,
            fragment_len: 0,
            token: None,
        }
    }

    /// One datagram of `size` bytes.
    pub fn seal(&mut self, header: &EnvelopeHeader, fragment: &[u8], size: usize) -> Vec<u8> {
        self.try_seal(header, fragment, size)
            .expect("a fragment that fits")
    }

    /// The same, unless no envelope has such a header or size.
    pub fn try_seal(&mut self, header: &EnvelopeHeader, fragment: &[u8], size: usize) -> Option<Vec<u8>> {
        let header = EnvelopeHeader {
            fragment_len: fragment.len() as u16,
            ..header.clone()
        };
        let way = if header.kind == EnvelopeType::ClientHello {
            UP
        } else {
            DOWN
        };
        let mut out = Vec::new();
        self.keys
            .seal(way, &header, fragment, size, &mut self.entropy, &mut out)
            .ok()?;
        Some(out)
    }

    /// A client's message in fragments of `length` bytes, each in a datagram of 1232.
    pub fn fragments(&mut self, hid: [u8; 8], body: &[u8], length: usize) -> Vec<Vec<u8>> {
        self.fragments_of(EnvelopeType::ClientHello, hid, body, length)
    }

    fn fragments_of(&mut self, kind: EnvelopeType, hid: [u8; 8], body: &[u8], length: usize) -> Vec<Vec<u8>> {
        let count = body.len().div_ceil(length) as u8;
        let parts = body.chunks(length).enumerate();
        parts
            .map(|(index, part)| {
                let offset = (index * length) as u16;
                let header = EnvelopeHeader {
                    kind,
                    index: index as u8,
                    count,
                    fragment_offset: offset,
                    ..Self::header(hid, body.len())
                };
                self.seal(&header, part, 1232)
            })
            .collect()
    }

    /// The message of the other side that `pair` has recorded since `from`, put together, and the id of its handshake.
    fn message(&self, pair: &Pair, from: usize, way: Way) -> ([u8; 8], Vec<u8>) {
        let sealed = if way == Way::Up { UP } else { DOWN };
        let (mut hid, mut message) = ([0; 8], Vec::new());
        for passing in pair.record.iter().skip(from).filter(|passing| passing.way == way) {
            let mut bytes = passing.bytes.clone();
            let (header, fragment) = self.keys.open(sealed, &mut bytes).expect("an envelope");
            let offset = usize::from(header.fragment_offset);
            message.resize(usize::from(header.total_len), 0);
            message[offset..offset + fragment.len()].copy_from_slice(fragment);
            hid = header.hid;
        }
        (hid, message)
    }
}

/// What the misbehaving client tells the relay of itself: it takes everything.
pub fn generous() -> TransportParameters {
    let much = 1 << 40;
    TransportParameters {
        max_data: much,
        max_stream_data_bidi_local: much,
        max_stream_data_bidi_remote: much,
        max_stream_data_uni: much,
        max_streams_bidi: 1000,
        max_streams_uni: 1000,
        max_datagram: 65_535,
        cid_limit: 4,
        idle_timeout_ms: 30_000,
        app: APP.to_vec(),
        ..TransportParameters::default()
    }
}

/// What an anonymous client says of itself.
pub fn client_hello(params: &[u8]) -> ClientHello<'_> {
    ClientHello {
        has_aes: false,
        time_ms: EPOCH_UNIX_MS,
        scid: SCID,
        auth: Auth::Anonymous,
        params,
    }
}

/// A hello with any parameters at all, and what finishes it.
pub fn hello(seed: u64, hid: [u8; 8], params: &[u8]) -> (Initiator, Vec<u8>) {
    let mut entropy = SeededEntropy::new(seed_bytes(seed, "misbehaving hello"));
    let mut body = Vec::new();
    let initiator = Initiator::start(&RELAY.bundle, hid, client_hello(params), &mut entropy, &mut body)
        .expect("a good bundle");
    (initiator, body)
}

/// The misbehaving end.
pub struct Raw {
    /// Its keys.
    pub session: Session,
    /// Where it speaks from.
    pub address: SocketAddr,
    /// The number of its next packet, unless a test says otherwise.
    pub next: u64,
    /// The way its datagrams go.
    way: Way,
    masks: CidMasks,
    theirs: ConnectionId,
    seen: usize,
    largest: Option<u64>,
}

impl Raw {
    /// Shakes hands with the relay of an idle pair, and shows that it has the keys.
    pub fn join(pair: &mut Pair, seed: u64) -> Self {
        let mut params = Vec::new();
        generous().encode(&mut params).expect("parameters that fit");
        let hid = seed.to_be_bytes();
        let (mut initiator, body) = hello(seed, hid, &params);
        let mut envelopes = Envelopes::new(seed);
        let seen = pair.record.len();
        for datagram in envelopes.fragments(hid, &body, 1232 - ENVELOPE_OVERHEAD) {
            pair.inject(Way::Up, client_address(), &datagram);
        }
        let (_, answer) = envelopes.message(pair, seen, Way::Down);
        let established = initiator.finish(&answer, &[]).expect("the relay's answer");
        let mut raw = Self {
            session: established.session,
            address: client_address(),
            next: 0,
            way: Way::Up,
            masks: CidMasks::new(&RELAY.bundle.relay_id(), &Grant::default()),
            theirs: ConnectionId(established.relay_cids[0]),
            seen: pair.record.len(),
            largest: None,
        };
        raw.say(pair, &[Frame::Ping]);
        assert!(pair.server.info().is_some(), "the relay takes the first packet");
        raw
    }

    /// Takes the place of the relay of a fresh pair, and answers its client's dial.
    pub fn stand_in(pair: &mut Pair, seed: u64, said: &TransportParameters) -> Self {
        pair.hook(|passing| passing.lose());
        pair.settle();
        let mut envelopes = Envelopes::new(seed);
        let (hid, hello) = envelopes.message(pair, 0, Way::Up);
        let config = RELAY.config(Access::Open, b"");
        let [epoch] = config.epochs.try_into().ok().expect("one epoch");
        let responder = Responder::new(epoch.statics, config.relay_id, epoch.epoch);
        let offered = responder.read(hid, &hello, None, 0).expect("an honest hello");
        let theirs = ConnectionId(offered.scid());
        let mut params = Vec::new();
        said.encode(&mut params).expect("parameters that fit");
        let answer = ServerAnswer {
            suite: Suite::ChaCha20Poly1305,
            relay_cids: &[SCID],
            params: &params,
            server_time_ms: EPOCH_UNIX_MS,
            early_accepted: false,
            retry_token: None,
        };
        let mut entropy = SeededEntropy::new(seed_bytes(seed, "misbehaving answer"));
        let mut body = Vec::new();
        let session = offered
            .accept(answer, &mut entropy, &mut body)
            .expect("an answer")
            .into_session();
        let kind = EnvelopeType::ServerHello;
        for datagram in envelopes.fragments_of(kind, hid, &body, 1232 - ENVELOPE_OVERHEAD) {
            pair.inject(Way::Down, server_address(), &datagram);
        }
        assert!(pair.client.info().is_some(), "the client takes the answer");
        Self {
            session,
            address: server_address(),
            next: 0,
            way: Way::Down,
            masks: CidMasks::new(&RELAY.bundle.relay_id(), &Grant::default()),
            theirs,
            seen: 0,
            largest: None,
        }
    }

    /// Sends frames under the next number.
    pub fn say(&mut self, pair: &mut Pair, frames: &[Frame<'_>]) {
        self.say_bytes(pair, &encode(frames));
    }

    /// Sends any bytes as the frames of a packet under the next number.
    pub fn say_bytes(&mut self, pair: &mut Pair, frames: &[u8]) {
        let datagram = self.seal(frames);
        pair.inject(self.way, self.address, &datagram);
    }

    /// Seals a packet under the next number, and keeps it.
    pub fn seal(&mut self, frames: &[u8]) -> Vec<u8> {
        let header = Header {
            cid: self.theirs,
            key_phase: self.session.seal.phase(),
            number: self.next,
            number_len: 4,
            grease: 0,
        };
        let mut datagram = vec![0; header.encoded_len()];
        header
            .encode(&mut Writer::new(&mut datagram))
            .expect("room for a header");
        let mut body = frames.to_vec();
        let at = Counter {
            lane: 0,
            number: self.next,
        };
        let tag = self
            .session
            .seal
            .seal(at, &datagram, &mut body)
            .expect("numbers that rise");
        self.next += 1;
        datagram.extend_from_slice(&body);
        datagram.extend_from_slice(&tag);
        self.mask(&mut datagram);
        datagram
    }

    fn mask(&self, datagram: &mut [u8]) {
        let sample = [sample(datagram).expect("long enough")];
        let (mut cid, mut packet) = ([[0; 9]], [[0; 5]]);
        self.masks.masks(directions(self.way).0, &sample, &mut cid);
        self.session.seal.masks(&sample, &mut packet);
        let mask = cid[0].iter().chain(&packet[0]);
        datagram
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
    }

    /// What the other end has sent since the last call: the frames of each packet, decrypted.
    pub fn hear(&mut self, pair: &Pair) -> Vec<Vec<u8>> {
        let new = pair
            .record
            .iter()
            .skip(self.seen)
            .filter(|passing| passing.way != self.way && passing.to == self.address);
        let datagrams: Vec<Vec<u8>> = new.map(|passing| passing.bytes.clone()).collect();
        self.seen = pair.record.len();
        datagrams
            .into_iter()
            .filter_map(|mut datagram| self.open(&mut datagram))
            .collect()
    }

    /// Forgets what was recorded so far.
    pub fn forget(&mut self, pair: &mut Pair) {
        pair.record.clear();
        self.seen = 0;
    }

    fn open(&mut self, datagram: &mut [u8]) -> Option<Vec<u8>> {
        let mut mask = [[0; 9]];
        self.masks
            .masks(directions(self.way).1, &[sample(datagram)?], &mut mask);
        let sealed = Sealed::unmask(datagram, clear_cid(datagram, &mask[0])?, &self.session.open)?;
        let number = u64::from(sealed.truncated());
        let which = if sealed.key_phase() == self.session.open.phase() {
            Generation::Current
        } else {
            Generation::Next
        };
        let frames = sealed
            .open(&mut self.session.open, which, 0, number)
            .ok()?
            .to_vec();
        if which == Generation::Next {
            self.session.open.update();
        }
        self.largest = self.largest.max(Some(number));
        Some(frames)
    }

    /// The code of the other end's CLOSE among what it said since the last call.
    pub fn heard_close(&mut self, pair: &Pair) -> Option<u64> {
        let packets = self.hear(pair);
        let closes = packets.iter().flat_map(|frames| Frames::new(frames)).flatten();
        closes.into_iter().find_map(|frame| {
            if let Frame::Close(close) = frame {
                Some(close.code)
            } else {
                None
            }
        })
    }

    /// PATH_ACK for the numbers `first` to `last`, as bytes.
    pub fn ack(first: u64, last: u64) -> Vec<u8> {
        let mut space = [0; 64];
        let mut out = Writer::new(&mut space);
        for value in [kind::PATH_ACK, 0, last, 0, 0, last - first] {
            out.varint(value).expect("room for an ACK");
        }
        let used = out.len();
        space[..used].to_vec()
    }
}

/// How an end that sends this way seals, and how its peer does.
fn directions(way: Way) -> (Direction, Direction) {
    match way {
        Way::Up => (UP, DOWN),
        Way::Down => (DOWN, UP),
    }
}

/// The bytes of frames.
pub fn encode(frames: &[Frame<'_>]) -> Vec<u8> {
    let length = frames.iter().map(Frame::encoded_len).sum();
    let mut bytes = vec![0; length];
    let mut out = Writer::new(&mut bytes);
    for frame in frames {
        frame.encode(&mut out).expect("room was made");
    }
    bytes
}
