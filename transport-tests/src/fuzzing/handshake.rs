//! What reaches the crypto crate: envelopes, bundles, both hellos.

use std::cell::RefCell;
use std::sync::LazyLock;

use transport_core::{Bundle, Grant, SeededEntropy};
use transport_crypto::{
    Direction, EnvelopeHeader, EnvelopeKeys, EnvelopeType, Initiator, Responder, ServerAnswer, Suite,
};

use crate::misbehave::{Envelopes, generous, hello};
use crate::pair::RELAY;

const HID: [u8; 8] = *b"fuzzing!";

static KEYS: LazyLock<EnvelopeKeys> =
    LazyLock::new(|| EnvelopeKeys::new(RELAY.bundle.kh(), RELAY.bundle.epoch(), &Grant::default()));

/// Bytes nobody sealed open to nothing.
pub fn envelope(data: &[u8]) {
    for direction in [Direction::ClientToServer, Direction::ServerToClient] {
        let mut datagram = data.to_vec();
        KEYS.recognises(direction, &datagram);
        assert!(KEYS.open(direction, &mut datagram).is_err());
    }
}

/// Headers of arbitrary fields are refused, or read the same after sealing.
pub fn envelope_fields(data: &[u8]) {
    let field = |at: usize| data.get(at).copied().unwrap_or(0);
    let word = |at: usize| u16::from_be_bytes([field(at), field(at + 1)]);
    let fragment = data.get(8..).unwrap_or_default();
    let fragment = &fragment[..fragment.len().min(1500)];
    let header = EnvelopeHeader {
        kind: [
            EnvelopeType::ClientHello,
            EnvelopeType::ServerHello,
            EnvelopeType::HandshakeClose,
        ][usize::from(field(0)) % 3],
        index: field(1) & 15,
        count: field(1) >> 4,
        total_len: word(2),
        fragment_offset: word(4),
        fragment_len: fragment.len() as u16,
        token: (field(6) & 1 == 1).then_some([field(7); 20]),
        ..Envelopes::header(HID, 0)
    };
    let mut datagram = Vec::new();
    let mut entropy = SeededEntropy::new([7; 32]);
    let way = Direction::ServerToClient;
    let size = 64 + usize::from(word(6)) % 1985;
    if KEYS
        .seal(way, &header, fragment, size, &mut entropy, &mut datagram)
        .is_err()
    {
        assert!(datagram.is_empty());
        return;
    }
    assert_eq!(datagram.len(), size);
    assert!(KEYS.recognises(way, &datagram));
    let other = Direction::ClientToServer;
    assert!(
        KEYS.open(other, &mut datagram.clone()).is_err(),
        "each way has keys of its own"
    );
    assert_eq!(KEYS.open(way, &mut datagram), Ok((header, fragment)));
}

/// Bytes nobody signed are no bundle.
pub fn bundle(data: &[u8]) {
    assert!(Bundle::parse(data).is_err());
}

/// A bundle with a piece replaced, cut off or added is none.
pub fn bundle_damaged(data: &[u8]) {
    let good = RELAY.bundle.bytes();
    let Some((place, data)) = data.split_first_chunk::<2>() else {
        return;
    };
    let place = usize::from(u16::from_be_bytes(*place)) % good.len();
    let end = (place + data.len()).min(good.len());
    let mut damaged = good.to_vec();
    damaged[place..end].copy_from_slice(&data[..end - place]);
    assert_eq!(Bundle::parse(&damaged).is_ok(), damaged == good);
    assert!(Bundle::parse(&good[..place]).is_err());
    if !data.is_empty() {
        damaged = [good, data].concat();
        assert!(Bundle::parse(&damaged).is_err());
    }
}

fn responder() -> Responder {
    let config = RELAY.config(transport_core::Access::Open, b"");
    let [epoch] = config.epochs.try_into().ok().expect("one epoch");
    Responder::new(epoch.statics, config.relay_id, epoch.epoch)
}

/// Arbitrary bytes, and an honest hello with a piece replaced, are no hello; under another name neither.
pub fn client_hello(data: &[u8]) {
    thread_local! {
        static RESPONDER: Responder = responder();
        static HELLO: Vec<u8> = hello(0xF2, HID, &encoded_params()).1;
    }
    RESPONDER.with(|responder| {
        assert!(responder.read(HID, data, None, 0).is_err());
        HELLO.with(|hello| {
            let damaged = damage(hello, data);
            assert_eq!(responder.read(HID, &damaged, None, 0).is_ok(), damaged == *hello);
            assert!(responder.read(*b"another!", hello, None, 0).is_err());
        });
    });
}

fn encoded_params() -> Vec<u8> {
    let mut params = Vec::new();
    generous().encode(&mut params).expect("parameters that fit");
    params
}

fn damage(good: &[u8], data: &[u8]) -> Vec<u8> {
    let mut damaged = good.to_vec();
    if let Some((place, piece)) = data.split_first_chunk::<2>() {
        let place = usize::from(u16::from_be_bytes(*place)) % good.len();
        damaged
            .iter_mut()
            .skip(place)
            .zip(piece)
            .for_each(|(byte, with)| *byte = *with);
    }
    damaged
}

/// Arbitrary bytes, and an honest answer with a piece replaced, finish nothing, and spoil nothing: the initiator lasts.
pub fn server_hello(data: &[u8]) {
    thread_local!(static FLIGHT: RefCell<(Initiator, Vec<u8>)> = RefCell::new(flight()));
    FLIGHT.with_borrow_mut(|(initiator, answer)| {
        assert!(initiator.finish(data, &[]).is_err());
        let damaged = damage(answer, data);
        if damaged == *answer {
            return;
        }
        assert!(initiator.finish(&damaged, &[]).is_err());
        // Once in a while prove that all those left the state usable.
        if data.len() % 64 == 63 {
            assert!(initiator.finish(answer, &[]).is_ok());
            (*initiator, *answer) = flight();
        }
    });
}

fn flight() -> (Initiator, Vec<u8>) {
    let (initiator, body) = hello(0xF3, HID, &encoded_params());
    let offered = responder().read(HID, &body, None, 0).expect("an honest hello");
    let params = encoded_params();
    let answer = ServerAnswer {
        suite: Suite::ChaCha20Poly1305,
        relay_cids: &[[1; 9], [2; 9]],
        params: &params,
        server_time_ms: 5,
        early_accepted: false,
        retry_token: None,
    };
    let mut reply = Vec::new();
    offered
        .accept(answer, &mut SeededEntropy::new([9; 32]), &mut reply)
        .expect("an answer");
    (initiator, reply)
}
