//! A peer made by hand: it holds real keys, and says what no honest peer would.
//!
//! It shakes hands with one end of a [`Pair`] through the crypto crate alone, as a client ([`Raw::join`]) or as the relay
//! ([`Raw::stand_in`]), then seals whatever bytes a test wants as frames, under whatever number.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use transport_core::packet::{Sealed, clear_cid, sample};
use transport_core::wire::frame::{Frame, Frames, ack};
use transport_core::wire::params::addresses;
use transport_core::wire::{ConnectionId, Header, TransportParameters, Writer};
use transport_core::{Grant, SeededEntropy};
use transport_crypto::{
    Auth, CidMasks, ClientHello, Counter, Direction, ENVELOPE_OVERHEAD, EnvelopeHeader, EnvelopeKeys,
    EnvelopeType, Generation, Initiator, Session,
};

use crate::pair::{APP, Pair, RELAY, Way, client_address, server_address};
use crate::sim::clock::EPOCH_UNIX_MS;
use crate::sim::rng::seed_bytes;

mod relay;

pub use relay::Overheard;

const UP: Direction = Direction::ClientToServer;
const DOWN: Direction = Direction::ServerToClient;
const SCID: [u8; 9] = *b"misbehave";
/// Bytes of a hello in each of its fragments: a token fits as well.
const PIECE: usize = 1100;

/// Seals fragments of a hello, or of an answer, honest or not.
pub struct Envelopes {
    keys: EnvelopeKeys,
    entropy: SeededEntropy,
    later: u32,
}

impl Envelopes {
    /// With the keys everyone has who holds the bundle.
    pub fn new(seed: u64) -> Self {
        let bundle = &RELAY.bundle;
        let keys = EnvelopeKeys::new(bundle.kh(), bundle.epoch(), &Grant::default());
        Self {
            keys,
            entropy: SeededEntropy::new(seed_bytes(seed, "envelopes")),
            later: 0,
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

    /// From now on envelopes are sealed so many minutes later.
    pub fn minutes_later(&mut self, minutes: u32) {
        self.later += minutes;
    }

    /// One datagram of `size` bytes.
    pub fn seal(&mut self, header: &EnvelopeHeader, fragment: &[u8], size: usize) -> Vec<u8> {
        self.try_seal(header, fragment, size)
            .expect("a fragment that fits")
    }

    /// The same, unless no envelope has such a header or size.
    pub fn try_seal(&mut self, header: &EnvelopeHeader, fragment: &[u8], size: usize) -> Option<Vec<u8>> {
        let header = EnvelopeHeader {
            unix_minutes: header.unix_minutes + self.later,
            fragment_len: fragment.len() as u16,
            ..header.clone()
        };
        let mut out = Vec::new();
        self.keys
            .seal(UP, &header, fragment, size, &mut self.entropy, &mut out)
            .ok()?;
        Some(out)
    }

    /// A message in fragments of `length` bytes, each in a datagram of 1232.
    pub fn fragments(&mut self, hid: [u8; 8], body: &[u8], length: usize) -> Vec<Vec<u8>> {
        self.fragments_with(hid, body, length, None)
    }

    /// The same, each with a token.
    pub fn fragments_with(
        &mut self,
        hid: [u8; 8],
        body: &[u8],
        length: usize,
        token: Option<[u8; 20]>,
    ) -> Vec<Vec<u8>> {
        let count = body.len().div_ceil(length) as u8;
        let parts = body.chunks(length).enumerate();
        parts
            .map(|(index, part)| {
                let offset = (index * length) as u16;
                let header = EnvelopeHeader {
                    index: index as u8,
                    count,
                    fragment_offset: offset,
                    token,
                    ..Self::header(hid, body.len())
                };
                self.seal(&header, part, 1232)
            })
            .collect()
    }
}

impl Envelopes {
    /// A RETRY as a relay would send it, with any token at all.
    pub fn retry(&mut self, hid: [u8; 8], token: Option<[u8; 20]>) -> Vec<u8> {
        let header = EnvelopeHeader {
            kind: EnvelopeType::Retry,
            token,
            ..Self::header(hid, 0)
        };
        let mut out = Vec::new();
        self.keys
            .seal(DOWN, &header, &[], 150, &mut self.entropy, &mut out)
            .expect("a size that fits");
        out
    }

    /// Sends a hello from where its sender can be reached; again with the token when it is asked for one, which is given.
    pub fn knock(
        &mut self,
        pair: &mut Pair,
        from: SocketAddr,
        hid: [u8; 8],
        body: &[u8],
    ) -> Option<[u8; 20]> {
        let seen = pair.record.len();
        for datagram in self.fragments(hid, body, PIECE) {
            pair.inject(Way::Up, from, &datagram);
        }
        let token = self.tokens_for(pair, seen, from).pop()?;
        for datagram in self.fragments_with(hid, body, PIECE, Some(token)) {
            pair.inject(Way::Up, from, &datagram);
        }
        Some(token)
    }

    /// The tokens in what the relay sent to `to` since the record had `seen` datagrams.
    pub fn tokens_for(&self, pair: &Pair, seen: usize, to: SocketAddr) -> Vec<[u8; 20]> {
        let sent = pair.record.iter().skip(seen);
        sent.filter(|passing| passing.way == Way::Down && passing.to == to)
            .filter_map(|passing| self.open_down(&passing.bytes)?.0.token)
            .collect()
    }

    /// Reads the header of what a client sent.
    pub fn open_up(&self, datagram: &[u8]) -> Option<EnvelopeHeader> {
        let mut bytes = datagram.to_vec();
        self.keys.open(UP, &mut bytes).ok().map(|(header, _)| header)
    }

    /// Reads what a relay sent.
    pub fn open_down(&self, datagram: &[u8]) -> Option<(EnvelopeHeader, Vec<u8>)> {
        let mut bytes = datagram.to_vec();
        let (header, fragment) = self.keys.open(DOWN, &mut bytes).ok()?;
        Some((header, fragment.to_vec()))
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

/// The same of one that opens paths as well, tells addresses, wants to hear its own, and looks for a direct path.
pub fn outgoing() -> TransportParameters {
    TransportParameters {
        initial_max_path_id: 3,
        addresses: addresses::TELLS | addresses::ASKS | addresses::PUNCHES,
        ..generous()
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

/// The peer.
pub struct Raw {
    /// Its keys.
    pub session: Session,
    /// Where it speaks from.
    pub address: SocketAddr,
    /// The number of its next packet, unless a test says otherwise.
    pub next: u64,
    /// The id it writes on its packets.
    pub theirs: ConnectionId,
    /// The numbers it heard, as they came.
    pub heard: Vec<u64>,
    /// The way its packets go.
    way: Way,
    masks: CidMasks,
    seen: usize,
}

impl Raw {
    /// Shakes hands with the relay of an idle pair, and shows that it has the keys.
    pub fn join(pair: &mut Pair, seed: u64) -> Self {
        Self::join_saying(pair, seed, &generous())
    }

    /// The same, with parameters of the test's choice.
    pub fn join_saying(pair: &mut Pair, seed: u64, said: &TransportParameters) -> Self {
        let mut raw = Self::shake_hands(pair, seed, said);
        raw.say(pair, &[Frame::Ping]);
        assert!(pair.server.info().is_some(), "the relay takes the first packet");
        raw
    }

    /// Shakes hands with the relay of an idle pair, and does not yet show that it has the keys.
    pub fn shake_hands(pair: &mut Pair, seed: u64, said: &TransportParameters) -> Self {
        let mut params = Vec::new();
        said.encode(&mut params).expect("parameters that fit");
        let hid = seed.to_be_bytes();
        let (mut initiator, body) = hello(seed, hid, &params);
        let mut envelopes = Envelopes::new(seed);
        let seen = pair.record.len();
        for datagram in envelopes.fragments(hid, &body, 1232 - ENVELOPE_OVERHEAD) {
            pair.inject(Way::Up, client_address(), &datagram);
        }
        let mut answer = Vec::new();
        for passing in pair
            .record
            .iter_mut()
            .skip(seen)
            .filter(|passing| passing.way == Way::Down)
        {
            let mut bytes = passing.bytes.clone();
            let (header, fragment) = envelopes.keys.open(DOWN, &mut bytes).expect("an envelope");
            let offset = usize::from(header.fragment_offset);
            answer.resize(usize::from(header.total_len), 0);
            answer[offset..offset + fragment.len()].copy_from_slice(fragment);
        }
        let established = initiator.finish(&answer, &[]).expect("the relay's answer");
        let theirs = ConnectionId(established.relay_cids[0]);
        Self::new(pair, established.session, theirs, Way::Up)
    }

    fn new(pair: &Pair, session: Session, theirs: ConnectionId, way: Way) -> Self {
        Self {
            session,
            address: match way {
                Way::Up => client_address(),
                Way::Down => server_address(),
            },
            next: 0,
            theirs,
            heard: Vec::new(),
            way,
            masks: CidMasks::new(&RELAY.bundle.relay_id(), &Grant::default()),
            seen: pair.record.len(),
        }
    }

    /// The directions of what it says and of what it hears.
    fn directions(&self) -> (Direction, Direction) {
        match self.way {
            Way::Up => (UP, DOWN),
            Way::Down => (DOWN, UP),
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
        self.masks.masks(self.directions().0, &sample, &mut cid);
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

    /// Empties the pair's record; what is sent from now on can still be heard.
    pub fn forget(&mut self, pair: &mut Pair) {
        pair.record.clear();
        self.seen = 0;
        let old = self.heard.len().saturating_sub(500);
        self.heard.drain(..old);
    }

    fn open(&mut self, datagram: &mut [u8]) -> Option<Vec<u8>> {
        let mut mask = [[0; 9]];
        self.masks
            .masks(self.directions().1, &[sample(datagram)?], &mut mask);
        let sealed = Sealed::unmask(datagram, clear_cid(datagram, &mask[0])?, &self.session.open)?;
        let number = self.expand(u64::from(sealed.truncated()), sealed.number_len());
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
        self.heard.push(number);
        Some(frames)
    }

    /// The number whose low bytes these are: the smallest that is not far below the last one heard.
    fn expand(&self, truncated: u64, length: usize) -> u64 {
        let window = 1 << (8 * length);
        let expected = self.heard.last().map_or(0, |last| last + 1);
        let number = expected / window * window + truncated;
        if number + window / 2 <= expected {
            number + window
        } else if number > expected + window / 2 && number >= window {
            number - window
        } else {
            number
        }
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
        Self::ack_ranges(0, &[first..=last])
    }

    /// PATH_ACK for `ranges`, which descend, after a delay in microseconds, as bytes.
    pub fn ack_ranges(delay_us: u64, ranges: &[RangeInclusive<u64>]) -> Vec<u8> {
        let mut space = vec![0; 64 + 16 * ranges.len()];
        let mut out = Writer::new(&mut space);
        ack::encode(&mut out, 0, delay_us, ranges.iter().cloned(), None).expect("ranges that descend");
        let used = out.len();
        space.truncate(used);
        space
    }

    /// An honest PATH_ACK for the last of what was heard.
    pub fn honest_ack(&self, delay_us: u64) -> Option<Vec<u8>> {
        let mut numbers: Vec<u64> = self.heard.iter().rev().take(500).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for number in numbers.into_iter().rev() {
            match ranges.last_mut() {
                Some(range) if *range.start() == number + 1 => *range = number..=*range.end(),
                _ => ranges.push(number..=number),
            }
        }
        ranges.truncate(64);
        (!ranges.is_empty()).then(|| Self::ack_ranges(delay_us, &ranges))
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
