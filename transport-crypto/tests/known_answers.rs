//! Published answers (Wycheproof, RFC 7748) to what a provider of primitives is asked. Those of the fixed functions,
//! which are private, stand in `src/provider/known_answers.rs`.

#[path = "known_answers/mod.rs"]
mod answers;

use answers::CHECKS;
use transport_crypto::provider::DEFAULT;

/// Runs the check of that name.
fn check(name: &str) {
    let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).expect("known");
    check(DEFAULT);
}

#[test]
fn chacha20_poly1305() {
    check("ChaCha20-Poly1305");
}

#[test]
fn aes_256_gcm() {
    check("AES-256-GCM");
}

#[test]
fn x25519_and_its_low_order_points() {
    check("X25519");
    check("X25519, iterated");
}

#[test]
fn ml_kem_768_key_generation() {
    check("ML-KEM-768 key generation");
}

#[test]
fn ml_kem_768_encapsulation_and_the_modulus_check() {
    check("ML-KEM-768 encapsulation");
}

#[test]
fn ml_kem_768_decapsulation_and_implicit_rejection() {
    check("ML-KEM-768 decapsulation");
}

#[test]
fn no_check_is_left_out() {
    assert_eq!(CHECKS.len(), 7, "give a new one its test above");
}
