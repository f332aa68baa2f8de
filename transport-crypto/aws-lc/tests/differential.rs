//! This provider against the default one: what one makes the other takes, and both refuse the same.

use arbitrary::{Arbitrary, Unstructured};
use arbtest::arbtest;
use transport_crypto::{
    Auth, Bundle, BundleDraft, ClientHello, ClientIdentity, Forged, Initiator, KeyExhausted, RelayIdentity,
    RelayStatics, Responder, Secret, SeededEntropy, ServerAnswer, Suite,
    provider::{KemKeyPair, KemPublic, Provider, RustCrypto},
};
use transport_crypto_aws_lc::AwsLc;

const SUITES: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];
const PROVIDERS: [&'static dyn Provider; 2] = [&RustCrypto, &AwsLc];

#[derive(Arbitrary, Debug)]
struct Packet {
    key: [u8; 32],
    nonce: [u8; 12],
    header: [u8; 24],
    header_len: u8,
    fill: u8,
    len: u16,
    flip: u16,
}

#[test]
fn packets_of_one_open_with_the_other_and_forged_ones_with_none() {
    arbtest(|u: &mut Unstructured<'_>| {
        let packet = Packet::arbitrary(u)?;
        let header = &packet.header[..usize::from(packet.header_len % 25)];
        let len = usize::from(packet.len % 2001);
        let plain: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(packet.fill)).collect();
        for suite in SUITES {
            let [ours, theirs] = PROVIDERS.map(|p| p.packet_cipher(suite, &Secret::new(packet.key)));
            let (mut a, mut b) = (plain.clone(), plain.clone());
            let tag = ours.seal(&packet.nonce, header, &mut a).unwrap();
            assert_eq!(theirs.seal(&packet.nonce, header, &mut b), Ok(tag));
            assert_eq!(a, b);
            for cipher in [&ours, &theirs] {
                let mut bad = (a.clone(), tag, header.to_vec(), packet.nonce);
                flip(&mut bad, usize::from(packet.flip));
                let opened = cipher.open(&bad.3, &bad.2, &mut bad.0, &bad.1);
                assert_eq!(opened, Err(Forged));
                let mut good = a.clone();
                cipher.open(&packet.nonce, header, &mut good, &tag).unwrap();
                assert_eq!(good, plain);
            }
        }
        Ok(())
    });
}

/// Flips one bit of what is sent, tag first.
fn flip((body, tag, header, nonce): &mut (Vec<u8>, [u8; 16], Vec<u8>, [u8; 12]), bit: usize) {
    let places = tag.iter_mut().chain(body).chain(header).chain(nonce);
    let mut places: Vec<_> = places.collect();
    let at = bit / 8 % places.len();
    *places[at] ^= 1 << (bit % 8);
}

#[test]
fn every_length_seals_to_the_same_bytes() {
    for suite in SUITES {
        let [ours, theirs] = PROVIDERS.map(|p| p.packet_cipher(suite, &Secret::new([9; 32])));
        for len in 0..=2000 {
            let (mut a, mut b) = (vec![len as u8; len], vec![len as u8; len]);
            let tags = [
                ours.seal(&[1; 12], b"header", &mut a).unwrap(),
                theirs.seal(&[1; 12], b"header", &mut b).unwrap(),
            ];
            assert_eq!((&a, tags[0]), (&b, tags[1]), "{len}");
        }
    }
}

#[test]
fn the_end_of_a_body_may_be_elsewhere() {
    for (suite, provider) in SUITES.into_iter().flat_map(|suite| PROVIDERS.map(|p| (suite, p))) {
        let cipher = provider.packet_cipher(suite, &Secret::new([9; 32]));
        let plain: Vec<u8> = (0..1444).map(|i| i as u8).collect();
        let mut whole = plain.clone();
        let tag = cipher.seal(&[1; 12], b"header", &mut whole).unwrap();
        whole.extend(tag);
        for begun in (0..70).chain([1443, 1444]) {
            let (begin, tail) = plain.split_at(begun);
            let mut sealed = [begin, &vec![0xee; tail.len() + 16]].concat();
            cipher.seal_from(&[1; 12], b"header", &mut sealed, tail).unwrap();
            assert!(sealed == whole, "{suite:?} {} {begun}", provider.name());
        }
        for (room, tail) in [(0, 0), (15, 0), (16, 1), (40, 25)] {
            let refused = cipher.seal_from(&[1; 12], b"header", &mut vec![0; room], &vec![0; tail]);
            assert_eq!(refused, Err(KeyExhausted::BodyTooLong), "{room} {tail}");
        }
    }
}

#[test]
fn masks_are_the_same() {
    let samples: Vec<[u8; 16]> = (0..70).map(|i| [i; 16]).collect();
    for suite in SUITES {
        let [a, b] = PROVIDERS.map(|provider| {
            let mut out = vec![[0; 5]; 70];
            provider
                .mask_cipher(suite, &Secret::new([3; 32]))
                .masks(&samples, &mut out);
            out
        });
        assert_eq!(a, b);
    }
}

#[test]
fn both_agree_on_the_same_secret_or_none() {
    arbtest(|u| {
        let (a, b) = (u.arbitrary::<[u8; 32]>()?, u.arbitrary::<[u8; 32]>()?);
        let [ours, theirs] = PROVIDERS.map(|provider| provider.x25519_key_pair(&Secret::new(a)));
        assert_eq!(ours.public(), theirs.public());
        assert!(ours.agree(&b) == theirs.agree(&b));
        Ok(())
    });
    // Points of low order: zeros, which a handshake refuses.
    for low in [[0; 32], std::array::from_fn(|i| u8::from(i == 0))] {
        for provider in PROVIDERS {
            let pair = provider.x25519_key_pair(&Secret::new([7; 32]));
            assert_eq!(*pair.agree(&low).expose(), [0; 32], "{}", provider.name());
        }
    }
}

fn pairs(seed: u8) -> [Box<dyn KemKeyPair>; 2] {
    PROVIDERS.map(|provider| provider.kem_key_pair(&Secret::new([seed; 64])))
}

#[test]
fn encapsulations_of_one_open_with_the_other() {
    for seed in 0..20 {
        let [ours, theirs] = pairs(seed);
        assert_eq!(ours.public(), theirs.public());
        for provider in PROVIDERS {
            let (mut ciphertext, shared) = provider
                .kem_encapsulate(ours.public(), &Secret::new([seed; 32]))
                .unwrap();
            assert!(shared == ours.decapsulate(&ciphertext) && shared == theirs.decapsulate(&ciphertext));
            // Implicit rejection: another secret, the same with both.
            ciphertext[usize::from(seed) * 50] ^= 1;
            let rejected = ours.decapsulate(&ciphertext);
            assert!(rejected != shared && rejected == theirs.decapsulate(&ciphertext));
        }
    }
}

#[test]
fn two_encapsulations_differ() {
    transport_crypto_aws_lc::prepare();
    let [pair, _] = pairs(1);
    let [a, b] = [0, 1].map(|_| {
        AwsLc
            .kem_encapsulate(pair.public(), &Secret::new([1; 32]))
            .unwrap()
    });
    assert!(a.0 != b.0 && a.1 != b.1);
}

#[test]
fn keys_outside_the_field_are_refused_by_both() {
    let [pair, _] = pairs(2);
    // Low and high half of the first and of the last three bytes of coefficients.
    for (at, first) in [(0, true), (1, false), (1149, true), (1150, false)] {
        let mut key: KemPublic = *pair.public();
        if first {
            (key[at], key[at + 1]) = (0x01, key[at + 1] & 0xf0 | 0x0d);
        } else {
            (key[at], key[at + 1]) = (key[at] & 0x0f | 0x10, 0xd0);
        }
        for provider in PROVIDERS {
            let made = provider.kem_encapsulate(&key, &Secret::new([6; 32]));
            assert!(made.is_err(), "{} takes 3329 at {at}", provider.name());
        }
    }
}

/// A relay with one provider and a client with the other, anonymous and enrolled.
#[test]
fn a_handshake_between_the_two() {
    let mut rng = SeededEntropy::new([1; 32]);
    let identity = RelayIdentity::generate(&mut rng).unwrap();
    let statics = RelayStatics::generate(&mut rng).unwrap();
    let client = ClientIdentity::generate(&mut rng).unwrap();
    let draft = BundleDraft {
        epoch: 1,
        not_before: 0,
        not_after: 86_400,
        endpoints: vec![],
    };
    let bundle = identity.sign_bundle(&draft, &statics).unwrap();
    let bundle = Bundle::parse(&bundle).unwrap();
    for (relay, dialler) in [(0, 1), (1, 0), (1, 1)] {
        for auth in [Auth::Anonymous, Auth::Enrolled(&client)] {
            let hello = ClientHello {
                has_aes: true,
                time_ms: 0,
                scid: [1; 9],
                auth,
                params: b"",
            };
            let (mut ch, mut sh) = (Vec::new(), Vec::new());
            let mut initiator =
                Initiator::start_with(PROVIDERS[dialler], &bundle, [8; 8], hello, &mut rng, &mut ch).unwrap();
            let responder =
                Responder::with_provider(PROVIDERS[relay], statics.clone(), identity.relay_id(), 1);
            let answer = ServerAnswer {
                suite: Suite::Aes256Gcm,
                relay_cids: &[[2; 9]],
                params: b"",
                server_time_ms: 0,
                early_accepted: false,
                retry_token: None,
            };
            let offered = responder.read([8; 8], &ch, None, 0).unwrap();
            let server = offered.accept(answer, &mut rng, &mut sh).unwrap().into_session();
            let client = initiator.finish(&sh, &[]).unwrap().session;
            let (mut ours, mut theirs) = ([0; 32], [1; 32]);
            server.exporter.export(b"test", &mut ours);
            client.exporter.export(b"test", &mut theirs);
            assert_eq!(ours, theirs);
        }
    }
}
