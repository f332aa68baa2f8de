//! Published answers that any provider of primitives must give. Another provider's package includes this file by path.
//!
//! The files in `vectors/wycheproof/` name their source.

use serde_json::Value;
use transport_crypto::{
    Secret, Suite,
    provider::{Provider, kem_check},
};

type Check = fn(&dyn Provider);

/// Every check, by name.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("ChaCha20-Poly1305", |provider| {
        aead(
            provider,
            Suite::ChaCha20Poly1305,
            include_str!("../vectors/wycheproof/chacha20-poly1305.json"),
        );
    }),
    ("AES-256-GCM", |provider| {
        aead(
            provider,
            Suite::Aes256Gcm,
            include_str!("../vectors/wycheproof/aes-256-gcm.json"),
        );
    }),
    ("X25519", x25519),
    ("X25519, iterated", x25519_iterated),
    ("ML-KEM-768 key generation", kem_key_generation),
    ("ML-KEM-768 encapsulation", kem_encapsulation),
    ("ML-KEM-768 decapsulation", kem_decapsulation),
];

/// RFC 8439 and edge cases of Poly1305, GCM, tags and ciphertexts; packets use it in place.
fn aead(provider: &dyn Provider, suite: Suite, file: &str) {
    for test in tests(file, 50) {
        let cipher = provider.packet_cipher(suite, &Secret::new(bytes(&test["key"])));
        let (nonce, ad, tag) = (bytes(&test["nonce"]), hex(&test["ad"]), bytes(&test["tag"]));
        let (message, ciphertext) = (hex(&test["message"]), hex(&test["ciphertext"]));
        let mut body = ciphertext.clone();
        if test["valid"] == true {
            cipher.open(&nonce, &ad, &mut body, &tag).expect("opens");
            assert_eq!(body, message, "{test}");
            assert_eq!(cipher.seal(&nonce, &ad, &mut body).unwrap(), tag, "{test}");
            assert_eq!(body, ciphertext, "{test}");
        } else {
            assert!(cipher.open(&nonce, &ad, &mut body, &tag).is_err(), "{test}");
            assert!(
                body == ciphertext || body.iter().all(|&byte| byte == 0),
                "a refused body gives nothing away: {test}"
            );
        }
    }
}

/// RFC 7748, twists, non-canonical keys; results that are all zero come as such, for the caller to refuse.
fn x25519(provider: &dyn Provider) {
    let file = include_str!("../vectors/wycheproof/x25519.json");
    let mut refused = 0;
    for test in tests(file, 180) {
        let pair = provider.x25519_key_pair(&Secret::new(bytes(&test["private"])));
        let shared = pair.agree(&bytes(&test["public"]));
        assert_eq!(*shared.expose(), bytes(&test["shared"]), "{test}");
        refused += usize::from(*shared.expose() == [0; 32]);
    }
    assert!(refused > 25, "low-order points are among them: {refused}");
}

/// RFC 7748 §5.2, after 1,000 iterations.
fn x25519_iterated(provider: &dyn Provider) {
    let mut base = [0; 32];
    base[0] = 9;
    let (mut k, mut u) = (base, base);
    for _ in 0..1000 {
        let next = *provider.x25519_key_pair(&Secret::new(k)).agree(&u).expose();
        (k, u) = (next, k);
    }
    let expected = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    assert_eq!(k, bytes(&expected.into()));
    let pair = provider.x25519_key_pair(&Secret::new(base));
    assert_eq!(pair.public(), pair.agree(&base).expose());
}

/// FIPS 203 §7.1 from the seed `d ‖ z`.
fn kem_key_generation(provider: &dyn Provider) {
    let file = include_str!("../vectors/wycheproof/ml-kem-768-keygen.json");
    for test in tests(file, 100) {
        let pair = provider.kem_key_pair(&Secret::new(bytes(&test["seed"])));
        assert_eq!(digest(pair.public()), bytes(&test["ek_sha256"]), "{test}");
        kem_check(pair.public()).unwrap();
    }
}

/// FIPS 203 §7.2: the answer to `m`, and keys with a coefficient at or above the modulus refused.
fn kem_encapsulation(provider: &dyn Provider) {
    let file = include_str!("../vectors/wycheproof/ml-kem-768-encaps.json");
    let (mut answered, mut refused) = (0, 0);
    for test in tests(file, 25) {
        // A key of another length is no `KemPublic`; that refusal is the type's.
        let Ok(ek) = <[u8; 1184]>::try_from(hex(&test["ek"])) else {
            assert_eq!(test["valid"], false);
            continue;
        };
        let result = provider.kem_encapsulate(&ek, &Secret::new(bytes(&test["m"])));
        assert_eq!(kem_check(&ek).is_ok(), result.is_ok());
        assert_eq!(test["valid"], result.is_ok(), "{}", test["id"]);
        let Ok((ciphertext, shared)) = result else {
            refused += 1;
            continue;
        };
        answered += 1;
        assert_eq!(digest(&ciphertext), bytes(&test["c_sha256"]), "{}", test["id"]);
        assert_eq!(*shared.expose(), bytes(&test["shared"]), "{}", test["id"]);
    }
    assert!(answered >= 6 && refused >= 16, "{answered} {refused}");
}

/// FIPS 203 §7.3, and implicit rejection of ciphertexts that differ in one place or only after a zero byte.
fn kem_decapsulation(provider: &dyn Provider) {
    let file = include_str!("../vectors/wycheproof/ml-kem-768-decaps.json");
    let mut rejected = 0;
    for test in tests(file, 25) {
        let pair = provider.kem_key_pair(&Secret::new(bytes(&test["seed"])));
        let shared = pair.decapsulate(&bytes(&test["c"]));
        assert_eq!(*shared.expose(), bytes(&test["shared"]), "{}", test["id"]);
        let flags = test["flags"].to_string();
        rejected += usize::from(flags.contains("Malleable") || flags.contains("Strcmp"));
    }
    assert!(rejected >= 9, "{rejected}");
}

/// The tests of `file`, of which there are at least `least`.
fn tests(file: &str, least: usize) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(file).expect("JSON");
    let Value::Array(tests) = file["tests"].take() else {
        panic!("no tests");
    };
    assert!(tests.len() >= least, "{}", tests.len());
    tests
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().expect("a hexadecimal string").as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty());
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(byte).collect()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().expect("length")
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    transport_crypto::sha256(&[bytes])
}
