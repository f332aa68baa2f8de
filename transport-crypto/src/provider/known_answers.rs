//! Published answers (Wycheproof, RFC 5869, RFC 8032) to the fixed functions. The files name their source.

use serde_json::Value;

use super::{hash, signature, symmetric::LongNonceCipher};
use crate::{Secret, kdf};

/// The tests of a file, at least `least`.
fn tests(file: &str, least: usize) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(file).unwrap();
    let Value::Array(tests) = file["tests"].take() else {
        panic!("no tests");
    };
    assert!(tests.len() >= least);
    tests
}

fn hex(value: &Value) -> Vec<u8> {
    let (pairs, rest) = value.as_str().unwrap().as_bytes().as_chunks::<2>();
    assert!(rest.is_empty());
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    pairs
        .iter()
        .map(|[high, low]| digit(*high) << 4 | digit(*low))
        .collect()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

#[test]
fn xchacha20_poly1305() {
    let file = include_str!("../../tests/vectors/wycheproof/xchacha20-poly1305.json");
    for test in tests(file, 100) {
        let cipher = LongNonceCipher::new(super::DEFAULT, &Secret::new(bytes(&test["key"])));
        let (nonce, ad, tag) = (bytes(&test["nonce"]), hex(&test["ad"]), bytes(&test["tag"]));
        let mut body = hex(&test["ciphertext"]);
        let opened = cipher.open(&nonce, &ad, &mut body, &tag);
        assert_eq!(test["valid"], opened.is_ok(), "{test}");
        if opened.is_ok() {
            assert_eq!(body, hex(&test["message"]), "{test}");
            assert_eq!(cipher.seal(&nonce, &ad, &mut body), Some(tag), "{test}");
            assert_eq!(body, hex(&test["ciphertext"]), "{test}");
        }
    }
}

#[test]
fn hkdf_sha256() {
    let mut longest = 0;
    for test in tests(
        include_str!("../../tests/vectors/wycheproof/hkdf-sha256.json"),
        86,
    ) {
        let size = test["size"].as_u64().unwrap() as usize;
        assert_eq!(test["valid"], size <= hash::MAX_EXPAND, "{test}");
        if size > hash::MAX_EXPAND {
            // No caller of ours can: lengths are checked when compiling, longer outputs are made of several.
            continue;
        }
        let (ikm, info) = (hex(&test["ikm"]), hex(&test["info"]));
        let (first, second) = info.split_at(info.len() / 2);
        let prk = hash::Prk::extract(
            &hex(&test["salt"]),
            &[&ikm[..ikm.len() / 2], &ikm[ikm.len() / 2..]],
        );
        let mut okm = vec![0; size];
        prk.fill(&[first, second], &mut okm);
        assert_eq!(kdf::hash(&[&okm]), bytes(&test["okm_sha256"]), "{test}");
        longest = longest.max(size);
    }
    assert_eq!(longest, hash::MAX_EXPAND);
}

#[test]
fn ml_dsa_65_key_generation_and_deterministic_signatures() {
    let (mut signed, mut refused) = (0, 0);
    for test in tests(
        include_str!("../../tests/vectors/wycheproof/ml-dsa-65-sign.json"),
        80,
    ) {
        let keys = signature::SigningKeys::new(&Secret::new(bytes(&test["seed"])), &Secret::new([0; 32]));
        let public = keys.ml_dsa_public();
        let (message, context) = (hex(&test["message"]), hex(&test["context"]));
        let signature = keys.sign_ml_dsa(&message, &context);
        assert_eq!(test["valid"], signature.is_some(), "{test}");
        let Some(signature) = signature else {
            refused += 1;
            continue;
        };
        signed += 1;
        assert_eq!(kdf::hash(&[&public[..]]), bytes(&test["public_sha256"]), "{test}");
        assert_eq!(
            kdf::hash(&[&signature]),
            bytes(&test["signature_sha256"]),
            "{test}"
        );
        assert!(
            signature::verify_ml_dsa(&public, &message, &context, &signature),
            "{test}"
        );
    }
    assert!(signed >= 80 && refused >= 1, "{signed} {refused}");
}

#[test]
fn ml_dsa_65_verification() {
    let (keys, cases): (Vec<Value>, Vec<Value>) = tests(
        include_str!("../../tests/vectors/wycheproof/ml-dsa-65-verify.json"),
        30,
    )
    .into_iter()
    .partition(|test| test.get("public").is_some());
    let mut refused = 0;
    for test in &cases {
        let key = &keys[test["key"].as_u64().unwrap() as usize];
        let verified = signature::verify_ml_dsa(
            &bytes(&key["public"]),
            &hex(&test["message"]),
            &hex(&test["context"]),
            &bytes(&test["signature"]),
        );
        assert_eq!(test["valid"], verified, "{}: {}", test["id"], test["comment"]);
        refused += usize::from(!verified);
    }
    assert!(refused >= 15, "{refused}");
}

/// RFC 8032 and the malleable, compressed and badly encoded. Verification is strict, so it may refuse more; it refuses
/// none of these that are valid.
#[test]
fn ed25519_verification() {
    let mut refused = 0;
    for test in tests(include_str!("../../tests/vectors/wycheproof/ed25519.json"), 150) {
        // A signature of another length is no array; that refusal is the type's.
        let Ok(signature) = <[u8; 64]>::try_from(hex(&test["signature"])) else {
            assert_eq!(test["valid"], false);
            continue;
        };
        let verified = signature::verify_ed25519(&bytes(&test["public"]), &hex(&test["message"]), &signature);
        assert_eq!(test["valid"], verified, "{test}");
        refused += usize::from(!verified);
    }
    assert!(refused >= 40, "{refused}");
}

/// RFC 8032 §7.1, test 1, from the secret key.
#[test]
fn ed25519_signing() {
    let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let keys = signature::SigningKeys::new(&Secret::new([0; 32]), &Secret::new(bytes(&secret.into())));
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(keys.ed25519_public(), bytes(&public.into()));
    let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
    assert_eq!(keys.sign_ed25519(b""), bytes(&signature.into()));
}
