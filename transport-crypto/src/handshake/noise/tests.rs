use snow::{
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver as _, DefaultResolver},
    types::Random as _,
};

use super::*;
use crate::provider::DEFAULT;

fn resolver() -> (Resolver, Vault) {
    let vault = Vault::default();
    let resolver = Resolver {
        provider: DEFAULT,
        key: DEFAULT.x25519_key_pair(&Secret::new([7; 32])),
        vault: vault.clone(),
    };
    (resolver, vault)
}

/// The library's own cipher and hash as oracle for ours.
#[test]
fn our_primitives_are_the_library_s() {
    let (resolver, vault) = resolver();
    let [mut ours, mut theirs] = [
        resolver.resolve_hash(&HashChoice::SHA256).unwrap(),
        DefaultResolver.resolve_hash(&HashChoice::SHA256).unwrap(),
    ];
    let (mut a, mut b) = ([0; 32], [0; 32]);
    ours.hmac(&[1; 32], b"data", &mut a);
    theirs.hmac(&[1; 32], b"data", &mut b);
    assert_eq!(a, b);

    // The key of the step goes to the cipher behind the library's back.
    let (mut name, mut ck, mut key) = ([0; 32], [0; 32], [0; 32]);
    vault.mix_key(&[4; 32], b"a public key", &mut name).unwrap();
    theirs.hkdf(&[4; 32], b"a public key", 2, &mut ck, &mut key, &mut []);
    let [mut ours, mut theirs] = [
        resolver.resolve_cipher(&CipherChoice::ChaChaPoly).unwrap(),
        DefaultResolver.resolve_cipher(&CipherChoice::ChaChaPoly).unwrap(),
    ];
    ours.set(&[0; 32]);
    theirs.set(&key);
    let (mut x, mut y) = ([0; 21], [0; 21]);
    assert_eq!(ours.encrypt(258, b"ad", b"plain", &mut x), 21);
    assert_eq!(theirs.encrypt(258, b"ad", b"plain", &mut y), 21);
    assert_eq!(x, y);
    let mut plain = [0; 5];
    assert_eq!(ours.decrypt(258, b"ad", &y, &mut plain), Ok(5));
    assert_eq!(&plain, b"plain");
    for len in 0..21 {
        assert_eq!(
            ours.decrypt(258, b"ad", &y[..len], &mut plain),
            Err(Error::Decrypt),
            "{len}"
        );
    }

    let [mut ours, mut theirs] = [
        resolver.resolve_dh(&DHChoice::Curve25519).unwrap(),
        DefaultResolver.resolve_dh(&DHChoice::Curve25519).unwrap(),
    ];
    ours.set(STATIC);
    theirs.set(&[7; 32]);
    assert_eq!(ours.pubkey(), theirs.pubkey());
    let (mut none, mut shared) = ([0; 32], [0; 32]);
    ours.dh(&b, &mut none).unwrap();
    theirs.dh(&b, &mut shared).unwrap();
    assert_eq!(none, [0; 32], "the library is given nothing");
    // The step that follows mixes what waits, whatever it is called with; the next one has nothing to mix but its input.
    let mut theirs = DefaultResolver.resolve_hash(&HashChoice::SHA256).unwrap();
    for input in [&shared[..], b"another public key"] {
        let mut next = [0; 32];
        theirs.hkdf(&ck, input, 2, &mut next, &mut key, &mut []);
        ck = next;
    }
    let mut next = name;
    vault.mix_key(&name, &none, &mut next).unwrap();
    name = next;
    vault.mix_key(&name, b"another public key", &mut next).unwrap();
    assert!(vault.take_key().is_some_and(|kept| *kept.expose() == key));
    assert!(vault.take_key().is_none(), "a key is given once");
    let (mut k1, mut k2) = ([0; 32], [0; 32]);
    theirs.hkdf(&ck, &[], 2, &mut k1, &mut k2, &mut []);
    vault.split(&next).unwrap();
    let split = vault.take_split().unwrap();
    assert_eq!(split.each_ref().map(|key| *key.expose()), [k1, k2]);
    assert!(vault.take_split().is_err());
}

#[test]
fn low_order_points_are_refused() {
    let (resolver, _) = resolver();
    let mut dh = resolver.resolve_dh(&DHChoice::Curve25519).unwrap();
    dh.set(STATIC);
    // RFC 7748 §6.1: 0 and 1 (order 4), p - 1 and p + 1.
    let mut points = [[0u8; 32]; 4];
    points[1][0] = 1;
    points[2] = [0xff; 32];
    points[2][0] = 0xec;
    points[2][31] = 0x7f;
    points[3] = points[2];
    points[3][0] = 0xee;
    for point in points {
        assert_eq!(dh.dh(&point, &mut [0; 32]), Err(Error::Dh), "{point:02x?}");
    }
}

#[test]
fn an_ephemeral_key_is_given_once() {
    let mut vault = Vault::default();
    assert_eq!(vault.try_fill_bytes(&mut [0; 32]), Err(Error::Rng));
    vault.put_ephemeral(Secret::new([3; 32])).unwrap();
    let mut out = [0; 32];
    vault.try_fill_bytes(&mut out).unwrap();
    assert_eq!(out, [3; 32]);
    assert_eq!(vault.try_fill_bytes(&mut out), Err(Error::Rng));
}

#[test]
fn a_pre_shared_key_that_was_not_set_leaves_no_key() {
    let vault = Vault::default();
    let (mut name, mut hashed) = ([0; 32], [0; 32]);
    vault.mix_key(&[4; 32], b"e", &mut name).unwrap();
    for place in [Place::Zero, Place::Two] {
        let mixed = vault.mix_key_and_hash(&name.clone(), place.name(), &mut name, &mut hashed);
        assert_eq!((mixed, hashed), (None, [0; 32]));
        assert!(vault.take_key().is_none(), "nor the one before");
    }
    // A key by value is no name.
    vault.put_psk(Place::Two, &[7; 32]).unwrap();
    assert!(
        vault
            .mix_key_and_hash(&[4; 32], &[7; 32], &mut name, &mut hashed)
            .is_none()
    );
    assert!(
        vault
            .mix_key_and_hash(&[4; 32], Place::Two.name(), &mut name, &mut hashed)
            .is_some()
    );
}

#[test]
fn steps_beyond_the_pattern_and_names_of_no_step_are_refused() {
    let vault = Vault::default();
    let (mut name, mut next) = ([4; 32], [0; 32]);
    for _ in 0..8 {
        vault.mix_key(&name, b"e", &mut next).unwrap();
        name = next;
    }
    assert!(vault.mix_key(&name, b"e", &mut next).is_none());
    name[31] = 8;
    assert!(vault.mix_key(&name, b"e", &mut next).is_none());
    assert!(vault.split(&name).is_none());
}
