use std::sync::LazyLock;

use super::*;
use crate::{Auth, ClientHello, HandshakeFailure, Initiator, SeededEntropy};

const NOW: u64 = 1_800_000_000;

struct Relay {
    identity: RelayIdentity,
    statics: RelayStatics,
    bytes: Vec<u8>,
}

static RELAY: LazyLock<Relay> = LazyLock::new(|| {
    let identity = RelayIdentity::from_seeds([1; 64]);
    let statics = RelayStatics::from_seeds([2; 96]);
    let bytes = identity.sign_bundle(&draft(), &statics).unwrap();
    Relay {
        identity,
        statics,
        bytes,
    }
});

fn draft() -> BundleDraft {
    let endpoint = |address, port| BundleEndpoint {
        address,
        port,
        cover: 0,
    };
    BundleDraft {
        epoch: 4,
        not_before: NOW,
        not_after: NOW + 30 * 24 * 3600,
        endpoints: vec![
            endpoint(EndpointAddress::Ip(Ipv4Addr::new(192, 0, 2, 1).into()), 4433),
            endpoint(EndpointAddress::Ip("2001:db8::1".parse().unwrap()), 443),
            endpoint(EndpointAddress::Name("relay.example.org".into()), 8443),
        ],
    }
}

/// Signs `change`d TBS bytes with both keys: what only the relay itself could do.
fn resigned(change: impl FnOnce(&mut Vec<u8>)) -> Result<Bundle, BundleError> {
    let relay = &*RELAY;
    let mut tbs = relay.bytes[..relay.bytes.len() - ML_DSA_SIGNATURE - ED25519_SIGNATURE].to_vec();
    change(&mut tbs);
    Bundle::parse(&relay.identity.sign_tbs(tbs)?)
}

fn error(result: Result<Bundle, BundleError>) -> BundleError {
    result.expect_err("refused")
}

#[test]
fn round_trip() {
    let bundle = Bundle::parse(&RELAY.bytes).unwrap();
    assert_eq!(bundle.relay_id(), RELAY.identity.relay_id());
    assert_eq!(bundle.kh(), RELAY.statics.kh());
    assert_eq!(bundle.endpoints(), draft().endpoints);
    assert_eq!(
        (bundle.epoch(), bundle.not_before(), bundle.not_after()),
        (4, NOW, NOW + 30 * 24 * 3600)
    );
    assert_eq!(bundle.bytes(), RELAY.bytes);
    assert_eq!(bundle.x25519(), RELAY.statics.keys().x25519.public());
    assert!(RELAY.bytes.len() < MAX_BUNDLE_BYTES);
}

#[test]
fn time_identity_and_epoch() {
    let bundle = Bundle::parse(&RELAY.bytes).unwrap();
    let not_after = bundle.not_after();
    assert_eq!(
        bundle.check_time(NOW - 1),
        Err(BundleError::NotYetValid { not_before: NOW })
    );
    assert_eq!(bundle.check_time(NOW), Ok(()));
    assert_eq!(bundle.check_time(not_after), Ok(()));
    assert_eq!(
        bundle.check_time(not_after + 1),
        Err(BundleError::Expired { not_after })
    );
    let found = bundle.relay_id();
    assert_eq!(bundle.check_id(&found), Ok(()));
    assert_eq!(
        bundle.check_id(&RelayId::from_bytes([0; 32])),
        Err(BundleError::WrongRelay { found })
    );
    assert_eq!(bundle.check_epoch(4), Ok(()));
    assert_eq!(
        bundle.check_epoch(5),
        Err(BundleError::EpochRegression { known: 5, found: 4 })
    );
}

#[test]
fn every_cut_and_every_extra_byte_is_refused() {
    let bytes = &RELAY.bytes;
    for len in 0..bytes.len() {
        assert_eq!(
            error(Bundle::parse(&bytes[..len])),
            BundleError::Truncated,
            "{len}"
        );
    }
    for extra in [1, 64, 3373] {
        let long = [&bytes[..], &vec![0; extra]].concat();
        assert_eq!(error(Bundle::parse(&long)), BundleError::TrailingBytes);
    }
}

#[test]
fn flipped_bytes_are_refused() {
    // Every third byte: a verification costs its time, and neighbours share their fate.
    for at in (0..RELAY.bytes.len()).step_by(3) {
        let mut bytes = RELAY.bytes.clone();
        bytes[at] ^= 1 << (at / 3 % 8);
        assert!(Bundle::parse(&bytes).is_err(), "{at}");
    }
}

#[test]
fn one_broken_leg_is_enough() {
    let first = RELAY.bytes.len() - ED25519_SIGNATURE - 1;
    for at in [first, RELAY.bytes.len() - 1, first - 3000, RELAY.bytes.len() - 40] {
        let mut bytes = RELAY.bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(error(Bundle::parse(&bytes)), BundleError::BadSignature, "{at}");
    }
}

#[test]
fn signing_with_another_identity_gives_another_relay() {
    // One leg by the relay, the other by a stranger, under the relay's verifying keys.
    let stranger = RelayIdentity::from_seeds([9; 64]);
    let signed = RELAY.bytes.len() - ML_DSA_SIGNATURE - ED25519_SIGNATURE;
    let (tbs, signatures) = RELAY.bytes.split_at(signed);
    let (ml_dsa, ed25519) = signatures.split_at(ML_DSA_SIGNATURE);
    let by_stranger = stranger.keys().sign_ml_dsa(tbs, label::BUNDLE).unwrap();
    let mixed = [tbs, &by_stranger, ed25519].concat();
    assert_eq!(error(Bundle::parse(&mixed)), BundleError::BadSignature);
    let mixed = [tbs, ml_dsa, &stranger.keys().sign_ed25519(tbs)].concat();
    assert_eq!(error(Bundle::parse(&mixed)), BundleError::BadSignature);
    // The right key under another context.
    let other = RELAY.identity.keys().sign_ml_dsa(tbs, b"adit1 bind").unwrap();
    assert_eq!(
        error(Bundle::parse(&[tbs, &other, ed25519].concat())),
        BundleError::BadSignature
    );
    // Wholly signed by the stranger: valid, but not the relay that was pinned.
    let bytes = stranger.sign_bundle(&draft(), &RELAY.statics).unwrap();
    let found = stranger.relay_id();
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(
        bundle.check_id(&RELAY.identity.relay_id()),
        Err(BundleError::WrongRelay { found })
    );
}

#[test]
fn signed_nonsense_is_refused() {
    let malformed = |change: fn(&mut Vec<u8>)| matches!(error(resigned(change)), BundleError::Malformed(_));
    assert!(resigned(|_| ()).is_ok());
    assert!(malformed(|tbs| tbs[0] = b'B'));
    assert!(malformed(|tbs| tbs[5] = 2));
    assert!(malformed(|tbs| tbs[7] = 1));
    assert!(malformed(|tbs| tbs[24..32].fill(0)), "ends before it begins");
    assert!(malformed(|tbs| tbs[24..32].fill(0xff)), "more than 90 days");
    assert!(malformed(|tbs| tbs[3237] = 17), "endpoints");
    assert!(malformed(|tbs| tbs[3238] = 5), "family");
    assert_eq!(
        error(resigned(|tbs| tbs[33..36].copy_from_slice(&[2, 0, 9]))),
        BundleError::UnsupportedVersion { min: 2, max: 9 }
    );
    assert_eq!(
        error(resigned(|tbs| tbs[68..71].fill(0xff))),
        BundleError::InvalidKemKey
    );
    let name = RELAY
        .bytes
        .windows(5)
        .position(|window| window == b"relay")
        .unwrap();
    assert!(matches!(
        error(resigned(|tbs| tbs[name] = b' ')),
        BundleError::Malformed("endpoint name")
    ));
}

#[test]
fn a_relay_key_of_low_order_ends_the_handshake() {
    let tbs = RELAY
        .identity
        .bundle_tbs(&draft(), &[0; 32], RELAY.statics.keys().kem.public())
        .unwrap();
    let bundle = Bundle::parse(&RELAY.identity.sign_tbs(tbs).unwrap()).unwrap();
    let hello = ClientHello {
        has_aes: false,
        time_ms: 0,
        scid: [0; 9],
        auth: Auth::Anonymous,
        params: &[],
    };
    let mut body = Vec::new();
    let started = Initiator::start(
        &bundle,
        [0; 8],
        hello,
        &mut SeededEntropy::new([1; 32]),
        &mut body,
    );
    assert_eq!(started.err(), Some(HandshakeFailure::LowOrderPoint));
    assert!(body.is_empty());
}

#[test]
fn extensions() {
    let with = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        resigned(move |tbs| {
            tbs.truncate(tbs.len() - 2);
            tbs.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            tbs.extend_from_slice(&bytes);
        })
    };
    assert!(
        with(&[0, 2, 0, 1, 7, 0, 4, 0, 0]).is_ok(),
        "unknown, not critical"
    );
    assert_eq!(
        error(with(&[0, 3, 0, 0])),
        BundleError::Malformed("unknown critical extension")
    );
    assert_eq!(
        error(with(&[0, 2, 0, 0, 0, 2, 0, 0])),
        BundleError::Malformed("extensions out of order")
    );
    assert_eq!(error(with(&[0, 2, 0, 1])), BundleError::Truncated);
    assert_eq!(error(with(&[0])), BundleError::Truncated);
}

#[test]
fn a_relay_does_not_sign_what_no_client_accepts() {
    let sign = |draft: BundleDraft| RELAY.identity.sign_bundle(&draft, &RELAY.statics);
    assert!(
        sign(BundleDraft {
            not_after: NOW - 1,
            ..draft()
        })
        .is_err()
    );
    assert!(
        sign(BundleDraft {
            not_after: NOW + MAX_LIFETIME_S + 1,
            ..draft()
        })
        .is_err()
    );
    let endpoint = draft().endpoints[0].clone();
    assert!(
        sign(BundleDraft {
            endpoints: vec![endpoint; 17],
            ..draft()
        })
        .is_err()
    );
    let longest = "a".repeat(254);
    for name in ["", "two words", "käse.example", &longest] {
        let endpoints = vec![BundleEndpoint {
            address: EndpointAddress::Name(name.into()),
            port: 1,
            cover: 0,
        }];
        assert!(sign(BundleDraft { endpoints, ..draft() }).is_err(), "{name}");
    }
    let full = BundleEndpoint {
        address: EndpointAddress::Name("a".repeat(253)),
        port: 1,
        cover: 0,
    };
    assert!(
        sign(BundleDraft {
            endpoints: vec![full.clone(); 5],
            ..draft()
        })
        .is_ok()
    );
    assert_eq!(
        sign(BundleDraft {
            endpoints: vec![full; 16],
            ..draft()
        }),
        Err(BundleError::Malformed("bundle too long"))
    );
}
