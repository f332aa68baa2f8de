//! What reaches the crypto crate: envelopes and what they carry, bundles, both hellos.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use transport_core::wire::Reader;
use transport_core::{
    Bundle, BundleDraft, BundleEndpoint, EndpointAddress, Grant, RelayIdentity, RelayStatics, SeededEntropy,
};
use transport_crypto::{
    Direction, EnvelopeHeader, EnvelopeKeys, EnvelopeType, Initiator, Responder, ServerAnswer, Suite,
};

use super::decode;
use crate::misbehave::{Envelopes, generous, hello};
use crate::pair::{Options, Pair, RELAY, Way, stranger};

pub(super) const HID: [u8; 8] = *b"fuzzing!";

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
    if let Ok(bundle) = Bundle::parse(data) {
        assert_eq!(bundle.bytes(), RELAY.bundle.bytes());
    }
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

/// Drafts that can be signed say the same once they are parsed.
pub fn bundle_drafts(data: &[u8]) {
    static SIGNER: LazyLock<(RelayIdentity, RelayStatics)> = LazyLock::new(|| {
        let mut entropy = SeededEntropy::new([3; 32]);
        let made = "a seeded stream does not fail";
        let identity = RelayIdentity::generate(&mut entropy).expect(made);
        (identity, RelayStatics::generate(&mut entropy).expect(made))
    });
    let mut input = Reader::new(data);
    let mut number = || input.array().map_or(0, u64::from_be_bytes);
    let (epoch, not_before, length) = (number(), number(), number());
    let mut endpoints = Vec::new();
    while let Ok([family, cover, high, low]) = input.array() {
        let address = match family % 3 {
            0 => input.array::<4>().map(|ip| EndpointAddress::Ip(ip.into())),
            1 => input.array::<16>().map(|ip| EndpointAddress::Ip(ip.into())),
            _ => input
                .bytes(usize::from(cover))
                .map(|name| EndpointAddress::Name(String::from_utf8_lossy(name).into_owned())),
        };
        let Ok(address) = address else { break };
        endpoints.push(BundleEndpoint {
            address,
            port: u16::from_be_bytes([high, low]),
            cover,
        });
    }
    let draft = BundleDraft {
        epoch,
        not_before,
        not_after: not_before.saturating_add(length % (100 * 86_400)),
        endpoints,
    };
    let Ok(signed) = SIGNER.0.sign_bundle(&draft, &SIGNER.1) else {
        return;
    };
    let bundle = Bundle::parse(&signed).expect("signed a moment ago");
    assert_eq!(bundle.epoch(), draft.epoch);
    assert!(bundle.check_time(draft.not_after).is_ok());
    assert_eq!(bundle.endpoints(), draft.endpoints);
}

/// One fragment of a hello, sealed as anyone can who holds the bundle.
#[derive(Arbitrary, Clone, Debug)]
struct Fragment {
    hid: u8,
    from: u8,
    kind: u8,
    index: u8,
    count: u8,
    total: u16,
    offset: u16,
    length: u8,
    minutes: i8,
    token: bool,
    /// Of the datagram.
    size: u16,
    /// Milliseconds until it comes.
    wait: u16,
    /// An honest hello of this hid is cut instead of zeros.
    honest: bool,
}

/// The fragments an input stands for.
pub fn show_fragments(data: &[u8]) -> String {
    format!("{}\n{:#?}", data.escape_ascii(), decode::<Fragment>(data))
}

/// Fragments with any header, put together or not: a relay answers at most an honest hello, with at most three bytes for
/// one, and holds no more than its table.
pub fn fragments_for_a_relay(data: &[u8]) {
    let fragments: Vec<Fragment> = decode(data);
    if fragments.is_empty() {
        return;
    }
    static HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| hello(0xF5, HID, &encoded_params()).1);
    let mut pair = Pair::idle(Options::new(0xF5));
    let mut envelopes = Envelopes::new(0xF5);
    let mut sent = [0; 8];
    for fragment in fragments {
        pair.run_for(Duration::from_millis(u64::from(fragment.wait >> 3)));
        let datagram = sealed(&fragment, &mut envelopes, &HELLO);
        let port = u16::from(fragment.from % 8);
        sent[usize::from(port)] += datagram.len();
        pair.inject(Way::Up, stranger(port + 1), &datagram);
    }
    for (port, sent) in (1..).zip(sent) {
        assert!(
            pair.sent_to(stranger(port)) <= 3 * sent,
            "more than three bytes for one"
        );
    }
    let stats = pair.server.endpoint.stats();
    assert!(stats.half_open <= 1 && stats.connections == 0, "{stats:?}");
    assert!(pair.server.endpoint.memory() < 1 << 20);
}

fn sealed(fragment: &Fragment, envelopes: &mut Envelopes, hello: &[u8]) -> Vec<u8> {
    let total = if fragment.honest {
        hello.len() as u16
    } else {
        fragment.total
    };
    let offset = usize::from(fragment.offset % total.max(1));
    let length = (usize::from(fragment.length) * 8).min(1100);
    let zeros = [0; 1100];
    let bytes = if fragment.honest {
        let rest = &hello[offset..];
        &rest[..rest.len().min(length)]
    } else {
        &zeros[..length]
    };
    let own = Envelopes::header(HID, 0);
    let header = EnvelopeHeader {
        kind: [
            EnvelopeType::ClientHello,
            EnvelopeType::ServerHello,
            EnvelopeType::HandshakeClose,
        ][usize::from(fragment.kind.saturating_sub(200)) % 3],
        hid: if fragment.honest { HID } else { [fragment.hid; 8] },
        unix_minutes: own
            .unix_minutes
            .saturating_add_signed(i32::from(fragment.minutes / 8)),
        index: fragment.index % 16,
        count: fragment.count % 17,
        total_len: total,
        fragment_offset: offset as u16,
        token: fragment.token.then_some([9; 20]),
        ..own
    };
    envelopes
        .try_seal(&header, bytes, usize::from(fragment.size % 2049))
        .unwrap_or_else(|| bytes.to_vec())
}

pub(super) fn responder() -> Responder {
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

pub(super) fn encoded_params() -> Vec<u8> {
    let mut params = Vec::new();
    generous().encode(&mut params).expect("parameters that fit");
    params
}

pub(super) fn damage(good: &[u8], data: &[u8]) -> Vec<u8> {
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
