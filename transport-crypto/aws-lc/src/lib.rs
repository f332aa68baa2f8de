//! AWS-LC as a [`Provider`]: the same bytes on the wire, from C and assembly.
//!
//! ```
//! use transport_crypto::provider::Provider;
//!
//! let provider: &'static dyn Provider = &transport_crypto_aws_lc::AwsLc;
//! ```
//!
//! A C compiler builds it; neither CMake nor Go nor clang is needed on the usual targets. What AWS-LC does no faster, or
//! only in more memory, stays with [`RustCrypto`]: masks (a batch of AES blocks is one call there, and one a block here; an
//! expanded mask key has 240 bytes there, 496 here) and the expansion of ML-KEM seeds, which AWS-LC takes by an unsafe
//! interface alone. That is also why [`Provider::kem_encapsulate`] draws its own randomness here.
//!
//! What AWS-LC cannot do for want of memory, [`RustCrypto`] does: nothing here fails that does not fail there.

#![forbid(unsafe_code)]

mod agreement;
mod packet;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use transport_crypto::{
    InvalidKemKey, Secret, Suite,
    provider::{
        DhKeyPair, KemCiphertext, KemKeyPair, KemPublic, MaskCipher, PacketCipher, Provider, RustCrypto,
    },
};

/// The provider. Not for simulations: its encapsulations differ from run to run.
pub struct AwsLc;

impl Provider for AwsLc {
    fn name(&self) -> &'static str {
        "aws-lc"
    }

    fn packet_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn PacketCipher> {
        packet::cipher(suite, key).unwrap_or_else(|_| RustCrypto.packet_cipher(suite, key))
    }

    fn with_single_use(&self, key: &[u8; 32], work: &mut dyn FnMut(&dyn PacketCipher)) {
        match packet::single_use(key) {
            Ok(cipher) => work(&cipher),
            Err(_) => RustCrypto.with_single_use(key, work),
        }
    }

    fn mask_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn MaskCipher> {
        RustCrypto.mask_cipher(suite, key)
    }

    fn kem_key_pair(&self, seed: &Secret<64>) -> Box<dyn KemKeyPair> {
        match agreement::MlKemKeyPair::new(seed) {
            Ok(pair) => Box::new(pair),
            Err(_) => RustCrypto.kem_key_pair(seed),
        }
    }

    /// `m` is used only until AWS-LC's own generator, from which it draws, is [ready](prepare).
    fn kem_encapsulate(
        &self,
        key: &KemPublic,
        m: &Secret<32>,
    ) -> Result<(KemCiphertext, Secret<32>), InvalidKemKey> {
        if READY.load(Ordering::Acquire) {
            agreement::kem_encapsulate(key)
        } else {
            RustCrypto.kem_encapsulate(key, m)
        }
    }

    fn x25519_key_pair(&self, secret: &Secret<32>) -> Arc<dyn DhKeyPair> {
        match agreement::X25519KeyPair::new(secret) {
            Ok(pair) => Arc::new(pair),
            Err(_) => RustCrypto.x25519_key_pair(secret),
        }
    }
}

static READY: AtomicBool = AtomicBool::new(false);

/// Collects the first randomness of AWS-LC's generator, which takes a tenth of a second and more: call it once, on a thread
/// that may wait. Until it is done, or for good if it never is, encapsulations are [`RustCrypto`]'s, and no handshake waits.
pub fn prepare() {
    READY.store(aws_lc_rs::rand::fill(&mut [0]).is_ok(), Ordering::Release);
}
