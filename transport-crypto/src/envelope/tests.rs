use super::*;
use crate::{EntropyFailed, SeededEntropy};

use Direction::{ClientToServer, ServerToClient};

struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), EntropyFailed> {
        Err(EntropyFailed)
    }
}

fn keys() -> EnvelopeKeys {
    EnvelopeKeys::new(&[1; 32], 7, &Grant::default())
}

fn header(fragment: &[u8]) -> EnvelopeHeader {
    EnvelopeHeader {
        kind: EnvelopeType::ClientHello,
        hid: *b"handshak",
        unix_minutes: 0x0102_0304,
        index: 2,
        count: 3,
        total_len: 2460,
        fragment_offset: 1640,
        fragment_len: fragment.len() as u16,
        token: None,
    }
}

fn sealed(header: &EnvelopeHeader, fragment: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rng = SeededEntropy::new([size as u8; 32]);
    keys()
        .seal(ClientToServer, header, fragment, size, &mut rng, &mut out)
        .unwrap();
    assert_eq!(out.len(), size);
    out
}

#[test]
fn round_trip_at_every_fit() {
    for (len, size) in [
        (0, 64),
        (2, 64),
        (820, 900),
        (820, 882),
        (820, 1232),
        (1986, 2048),
    ] {
        let fragment: Vec<u8> = (0..len).map(|i| i as u8 | 1).collect();
        let header = EnvelopeHeader {
            fragment_offset: 0,
            ..header(&fragment)
        };
        let mut datagram = sealed(&header, &fragment, size);
        assert!(keys().recognises(ClientToServer, &datagram));
        let (found, opened) = keys().open(ClientToServer, &mut datagram).unwrap();
        assert_eq!((found, opened), (header, &fragment[..]));
    }
}

#[test]
fn the_token_travels_along() {
    let header = EnvelopeHeader {
        token: Some(*b"twenty bytes of toke"),
        ..header(b"fragment")
    };
    let mut datagram = sealed(&header, b"fragment", ENVELOPE_OVERHEAD + 20 + 8);
    let (found, fragment) = keys().open(ClientToServer, &mut datagram).unwrap();
    assert_eq!((found, fragment), (header, &b"fragment"[..]));
}

#[test]
fn any_bit_flip_and_any_cut_is_forged() {
    let datagram = sealed(&header(b"fragment"), b"fragment", 120);
    for bit in 0..8 * datagram.len() {
        let mut bad = datagram.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(keys().open(ClientToServer, &mut bad), Err(Forged));
    }
    for len in 0..datagram.len() {
        assert_eq!(
            keys().open(ClientToServer, &mut datagram[..len].to_vec()),
            Err(Forged)
        );
        assert!(len >= ENVELOPE_MIN || !keys().recognises(ClientToServer, &datagram[..len]));
    }
}

#[test]
fn other_keys_neither_recognise_nor_open() {
    let datagram = sealed(&header(b"x"), b"x", 100);
    let other_epoch = EnvelopeKeys::new(&[1; 32], 8, &Grant::default());
    assert!(!other_epoch.recognises(ClientToServer, &datagram));
    let others = [
        EnvelopeKeys::new(&[2; 32], 7, &Grant::default()),
        EnvelopeKeys::new(&[1; 32], 7, &Grant::from_bytes([1; 32])),
    ];
    for other in &others {
        assert!(!other.recognises(ClientToServer, &datagram));
        assert_eq!(other.open(ClientToServer, &mut datagram.clone()), Err(Forged));
    }
    assert!(!keys().recognises(ServerToClient, &datagram));
    assert_eq!(keys().open(ServerToClient, &mut datagram.clone()), Err(Forged));
}

#[test]
fn an_envelope_never_repeats() {
    let mut rng = SeededEntropy::new([1; 32]);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for out in [&mut first, &mut second] {
        keys()
            .seal(ServerToClient, &header(b"x"), b"x", 100, &mut rng, out)
            .unwrap();
    }
    assert!(first.iter().zip(&second).filter(|(a, b)| a == b).count() < 10);
}

#[test]
fn wrong_calls_leave_the_output_alone() {
    let mut rng = SeededEntropy::new([1; 32]);
    let good = header(b"fragment");
    let cases = [
        (good.clone(), ENVELOPE_OVERHEAD + 7, EnvelopeError::Size),
        (good.clone(), ENVELOPE_MAX + 1, EnvelopeError::Size),
        (
            EnvelopeHeader {
                fragment_len: 7,
                ..good.clone()
            },
            100,
            EnvelopeError::Header,
        ),
        (
            EnvelopeHeader {
                index: 3,
                ..good.clone()
            },
            100,
            EnvelopeError::Header,
        ),
        (
            EnvelopeHeader {
                count: 16,
                ..good.clone()
            },
            100,
            EnvelopeError::Header,
        ),
        (
            EnvelopeHeader {
                fragment_offset: 2453,
                ..good.clone()
            },
            100,
            EnvelopeError::Header,
        ),
    ];
    for (header, size, error) in cases {
        let mut out = vec![7];
        let sealed = keys().seal(ClientToServer, &header, b"fragment", size, &mut rng, &mut out);
        assert_eq!((sealed, out), (Err(error), vec![7]), "{header:?} {size}");
    }
    let mut out = vec![7];
    let sealed = keys().seal(ClientToServer, &good, b"fragment", 100, &mut NoEntropy, &mut out);
    assert_eq!((sealed, out), (Err(EnvelopeError::EntropyFailed), vec![7]));
}

/// Seals `plaintext` as it stands: what a holder of the bundle may send.
fn misbehave(plaintext: &[u8]) -> Result<(), Forged> {
    let mut rng = SeededEntropy::new([9; 32]);
    let keys = keys();
    let half = ClientToServer.of(&keys.0);
    let nonce = half.nonce(&mut rng).unwrap();
    let mut body = plaintext.to_vec();
    let tag = half.outer.seal(&nonce, &[], &mut body).unwrap();
    let mut datagram = [&nonce[..], &body, &tag].concat();
    keys.open(ClientToServer, &mut datagram).map(|_| ())
}

#[test]
fn headers_no_honest_peer_writes_are_refused() {
    let good = [&header(b"fragment").encode()[..], b"fragment", &[0; 10]].concat();
    assert_eq!(misbehave(&good), Ok(()));
    // type 0 and 6, version 2, index = count, fragment beyond the message, token length, padding
    let changes = [
        (0, 0),
        (0, 6),
        (1, 2),
        (14, 0x33),
        (14, 0x20),
        (17, 0xff),
        (20, 200),
        (21, 1),
        (39, 1),
    ];
    for (at, value) in changes {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(misbehave(&bad), Err(Forged), "byte {at} = {value}");
    }
    // A token that is announced but missing.
    let mut bad = good[..HEADER + 2].to_vec();
    bad[21] = 20;
    assert_eq!(misbehave(&[&bad[..], &[0; 2]].concat()), Err(Forged));
}

#[test]
fn arbitrary_bytes_are_refused_quietly() {
    arbtest::arbtest(|u| {
        let mut datagram: Vec<u8> = u.arbitrary()?;
        keys().recognises(ClientToServer, &datagram);
        assert_eq!(keys().open(ClientToServer, &mut datagram), Err(Forged));
        let plaintext: Vec<u8> = u.arbitrary()?;
        let _ = EnvelopeHeader::decode(&plaintext);
        Ok(())
    })
    .budget_ms(300);
}
