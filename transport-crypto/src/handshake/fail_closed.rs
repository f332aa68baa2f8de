//! The list of what must close rather than open, one test for each entry. What is tested at length elsewhere stands here
//! in its shortest form, so that the list is whole.

use super::{
    kem::{Binding, Psk0, Psk2},
    message::{ClientBody, ServerBody},
    *,
};
use crate::{
    Bundle, BundleDraft, BundleError, ClientId, HandshakeFailure, RelayIdentity, RelayStatics, Secret,
    SeededEntropy, TICKET_LEN,
    provider::{DEFAULT, KemCiphertext, KemPublic, kem_check},
};

const HID: [u8; 8] = *b"fail-clo";
const EPOCH: u64 = 3;

fn bundle(epoch: u64) -> (Bundle, Responder) {
    let (identity, statics) = (
        RelayIdentity::from_seeds([1; 64]),
        RelayStatics::from_seeds([2; 96]),
    );
    let draft = BundleDraft {
        epoch,
        not_before: 100,
        not_after: 200,
        endpoints: Vec::new(),
    };
    let bundle = Bundle::parse(&identity.sign_bundle(&draft, &statics).unwrap()).unwrap();
    let responder = Responder::new(statics, identity.relay_id(), epoch);
    (bundle, responder)
}

fn client_hello(bundle: &Bundle) -> (Initiator, Vec<u8>) {
    let hello = ClientHello {
        has_aes: true,
        time_ms: 0,
        scid: [1; 9],
        auth: Auth::Anonymous,
        params: b"",
    };
    let mut body = Vec::new();
    let mut rng = SeededEntropy::new([4; 32]);
    let initiator = Initiator::start(bundle, HID, hello, &mut rng, &mut body).unwrap();
    (initiator, body)
}

fn refused(responder: &Responder, ch: &[u8]) -> HandshakeFailure {
    responder.read(HID, ch, None, 0).err().expect("refused")
}

/// No path builds a Noise state without `psk0`: one function builds it, and takes one.
#[test]
fn one_place_builds_a_noise_state_and_it_has_psk0() {
    let source = include_str!("noise.rs");
    assert_eq!(source.matches("Builder::with_resolver").count(), 1);
    assert_eq!(source.matches("Builder::new").count(), 0);
    let built = source.split("Builder::with_resolver").nth(1).unwrap();
    assert!(built.split("\n}").next().unwrap().contains(".psk(0, "));
    // Both roles hand theirs over; its type cannot be had but from a KEM or a ticket (the next test).
    assert_eq!(source.matches("        psk0: Psk0,\n").count(), 2);
}

/// `Psk0` and `Psk2` come from encapsulations, decapsulations and tickets alone.
#[test]
fn pre_shared_keys_come_from_kems_and_tickets() {
    let source = include_str!("kem.rs");
    assert!(source.contains("pub(super) struct Psk0 {\n    key: Secret<32>,"));
    assert!(source.contains("pub(super) struct Psk2(Secret<32>);"));
    assert_eq!(source.matches("Self::expand(").count(), 2, "full, resumed");
    assert_eq!(source.matches("Self { key, opening }").count(), 1);
    assert_eq!(source.matches("Self(psk)").count(), 1, "second");
    // The type, and its methods; the type alone.
    assert_eq!(source.matches("Psk0 {").count(), 2);
    assert_eq!(source.matches("Psk2(").count(), 1);
    assert!(!source.contains("From<"), "nor by a conversion");
}

#[test]
fn another_kem_suite_is_refused() {
    let (bundle, responder) = bundle(EPOCH);
    let (_, mut ch) = client_hello(&bundle);
    for suite in [0, 2, 255] {
        ch[1] = suite;
        assert_eq!(
            refused(&responder, &ch),
            HandshakeFailure::UnsupportedKemSuite(suite)
        );
    }
}

#[test]
fn an_all_zero_diffie_hellman_is_refused() {
    let (bundle, responder) = bundle(EPOCH);
    let (_, mut ch) = client_hello(&bundle);
    let e = 12 + size_of::<KemCiphertext>();
    ch[e..e + 32].fill(0);
    assert_eq!(refused(&responder, &ch), HandshakeFailure::LowOrderPoint);
}

#[test]
fn a_kem_key_out_of_range_is_refused() {
    let key: KemPublic = [0xff; 1184];
    assert!(kem_check(&key).is_err());
    let binding = Binding {
        h1: &[1; 32],
        head: [1, 0],
        client_id: ClientId::from_bytes([2; 32]),
    };
    let mut rng = SeededEntropy::new([1; 32]);
    let made = Psk2::encapsulate(DEFAULT, &key, None, &binding, &mut rng);
    assert_eq!(made.err(), Some(HandshakeFailure::InvalidKemKey));
    let made = Psk0::encapsulate(DEFAULT, &[1; 32], &key, &mut rng);
    assert_eq!(made.err(), Some(HandshakeFailure::InvalidKemKey));
}

/// The layout has no place for a relay's message without `ct_e`: what stands there is taken for one.
#[test]
fn a_server_hello_without_ct_e_cannot_be_written() {
    let (bundle, responder) = bundle(EPOCH);
    let (mut initiator, ch) = client_hello(&bundle);
    let answer = ServerAnswer {
        suite: Suite::ChaCha20Poly1305,
        relay_cids: &[[1; 9]],
        params: b"",
        server_time_ms: 0,
        early_accepted: false,
        retry_token: None,
    };
    let mut sh = Vec::new();
    let offered = responder.read(HID, &ch, None, 0).unwrap();
    offered
        .accept(answer, &mut SeededEntropy::new([5; 32]), &mut sh)
        .unwrap();
    let without = [&sh[..2], &sh[2 + size_of::<KemCiphertext>()..]].concat();
    assert!(ServerBody::parse(&without).is_err());
    assert!(initiator.finish(&without, &[]).is_err());
    // Long enough to be parsed, it is another ciphertext.
    let padded = [&without[..], &[0; size_of::<KemCiphertext>()]].concat();
    assert!(initiator.finish(&padded, &[]).is_err());
    initiator.finish(&sh, &[]).unwrap();
}

#[test]
fn another_mode_or_unknown_flags_are_refused() {
    let (bundle, responder) = bundle(EPOCH);
    let (_, ch) = client_hello(&bundle);
    for mode in 3..=255 {
        let mut bad = ch.clone();
        bad[0] = mode;
        assert_eq!(refused(&responder, &bad), HandshakeFailure::UnsupportedMode(mode));
    }
    for bit in 1..16 {
        let mut bad = ch.clone();
        bad[2 + (15 - bit) / 8] |= 1 << (bit % 8);
        assert!(ClientBody::parse(&bad).is_err(), "flag {bit}");
    }
}

#[test]
fn an_unknown_critical_extension_of_a_bundle_is_refused() {
    // Signed over, so that nothing but the extension is wrong: see `bundle::tests::extensions`, which this repeats in short.
    let (bundle, _) = bundle(EPOCH);
    let (identity, mut bytes) = (RelayIdentity::from_seeds([1; 64]), bundle.bytes().to_vec());
    let end = bytes.len() - 3309 - 64;
    bytes.truncate(end - 2);
    bytes.extend_from_slice(&[0, 4, 0x7f, 0xff, 0, 0]);
    let signatures = [
        identity
            .keys()
            .sign_ml_dsa(&bytes, b"adit1 bundle")
            .unwrap()
            .to_vec(),
        identity.keys().sign_ed25519(&bytes).to_vec(),
    ]
    .concat();
    bytes.extend_from_slice(&signatures);
    assert_eq!(
        Bundle::parse(&bytes).err(),
        Some(BundleError::Malformed("unknown critical extension"))
    );
}

#[test]
fn an_older_bundle_is_refused() {
    let (bundle, responder) = bundle(EPOCH);
    assert_eq!(bundle.check_epoch(EPOCH), Ok(()));
    let regression = BundleError::EpochRegression {
        known: EPOCH + 1,
        found: EPOCH,
    };
    assert_eq!(bundle.check_epoch(EPOCH + 1), Err(regression));
    // And a relay does not serve another epoch than its own.
    let (_, ch) = client_hello(&self::bundle(EPOCH + 1).0);
    let offered = EPOCH + 1;
    assert_eq!(refused(&responder, &ch), HandshakeFailure::WrongEpoch { offered });
}

#[test]
fn an_expired_bundle_is_refused() {
    let (bundle, _) = bundle(EPOCH);
    for (now_s, good) in [(99, false), (100, true), (200, true), (201, false)] {
        assert_eq!(bundle.check_time(now_s).is_ok(), good, "{now_s}");
    }
}

#[test]
fn an_all_zero_secret_makes_no_pre_shared_key() {
    let ticket = [7; TICKET_LEN];
    let zero = Psk0::resume(&Secret::new([0; 32]), &ticket);
    assert_eq!(zero.err(), Some(HandshakeFailure::DegenerateKey));
    assert!(Psk0::resume(&Secret::new([1; 32]), &ticket).is_ok());
    // KEM secrets: `without_the_static_kem_secret_there_is_no_handshake` and its sister.
}

/// `psk0 ≠ psk2`, in every build; neither is zero by the test above.
#[test]
fn equal_pre_shared_keys_are_refused() {
    let psk = |rms: u8| Psk0::resume(&Secret::new([rms; 32]), &[7; TICKET_LEN]).unwrap();
    let psk2 = Psk2::same_as(&psk(1));
    assert_eq!(psk2.refuse_equal(&psk(1)), Err(HandshakeFailure::DegenerateKey));
    assert_eq!(psk2.refuse_equal(&psk(2)), Ok(()));
}

/// The library's own transport cannot be entered: the lint denies it where the library is named.
#[test]
fn the_library_s_transport_mode_is_denied() {
    let denied = include_str!("../../clippy.toml");
    for method in ["into_transport_mode", "into_stateless_transport_mode"] {
        assert!(denied.contains(&format!("snow::HandshakeState::{method}\"")));
    }
    for source in [
        include_str!("noise.rs"),
        include_str!("noise/primitives.rs"),
        include_str!("noise/vault.rs"),
    ] {
        assert!(!source.contains("transport_mode"));
    }
    assert!(include_str!("noise.rs").contains("#![deny(clippy::disallowed_methods)]"));
}
