//! The primitives the Noise library calls: X25519 that refuses an all-zero result, `ChaCha20-Poly1305`, SHA-256 and a
//! "generator" that gives exactly one ephemeral key, drawn beforehand from [`crate::Entropy`].

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::sync::Arc;

use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver,
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroize;

use super::vault::Vault;
use crate::{
    Secret, Suite,
    provider::{DhKeyPair, PacketCipher, Provider, hash::RunningHash},
};

pub(super) struct Resolver {
    pub(super) provider: &'static dyn Provider,
    /// The static key.
    pub(super) key: Arc<dyn DhKeyPair>,
    pub(super) vault: Vault,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.vault.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let key = X25519 {
            provider: self.provider,
            fixed: Arc::clone(&self.key),
            vault: self.vault.clone(),
            pair: None,
        };
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(key) as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        let hash = Sha256 {
            running: RunningHash::default(),
            vault: self.vault.clone(),
        };
        matches!(choice, HashChoice::SHA256).then(|| Box::new(hash) as _)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let cipher = ChaChaPoly {
            provider: self.provider,
            cipher: None,
            vault: self.vault.clone(),
        };
        matches!(choice, CipherChoice::ChaChaPoly).then(|| Box::new(cipher) as _)
    }
}

impl Random for Vault {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let e = self.take_ephemeral().ok_or(Error::Rng)?;
        let out: &mut [u8; 32] = out.try_into().map_err(|_| Error::Rng)?;
        *out = *e.expose();
        Ok(())
    }
}

struct X25519 {
    provider: &'static dyn Provider,
    fixed: Arc<dyn DhKeyPair>,
    vault: Vault,
    /// The key in use: the static one, or an ephemeral one.
    pair: Option<Arc<dyn DhKeyPair>>,
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    /// Takes the static key: `_privkey` is its name.
    fn set(&mut self, _privkey: &[u8]) {
        self.pair = Some(Arc::clone(&self.fixed));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Secret::unwritten();
        rng.try_fill_bytes(secret.expose_mut())?;
        self.pair = Some(self.provider.x25519_key_pair(&secret));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        // Nobody knows the secret half of zeros: without a key the handshake fails.
        self.pair.as_ref().map_or(&[0; 32], |pair| pair.public())
    }

    /// For nobody here.
    fn privkey(&self) -> &[u8] {
        &[]
    }

    /// The result waits in the vault for the step that mixes it; `_out` stays as it is.
    fn dh(&self, pubkey: &[u8], _out: &mut [u8]) -> Result<(), Error> {
        let (pair, public) = self.pair.as_ref().zip(pubkey.first_chunk()).ok_or(Error::Dh)?;
        let shared = pair.agree(public);
        if shared.is_zero() {
            return Err(Error::Dh);
        }
        self.vault.put_shared(shared)
    }
}

struct ChaChaPoly {
    provider: &'static dyn Provider,
    cipher: Option<Box<dyn PacketCipher>>,
    vault: Vault,
}

impl ChaChaPoly {
    /// Noise specification §12.3: 32 zero bits, then the counter, little-endian.
    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce
            .iter_mut()
            .skip(4)
            .zip(counter.to_le_bytes())
            .for_each(|(to, from)| *to = from);
        nonce
    }

    fn try_encrypt(&self, nonce: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        let (body, rest) = out.split_at_mut_checked(plaintext.len())?;
        let to = rest.first_chunk_mut::<16>()?;
        body.copy_from_slice(plaintext);
        let tag = self
            .cipher
            .as_ref()
            .and_then(|cipher| cipher.seal(&Self::nonce(nonce), ad, body).ok());
        if tag.is_none() {
            body.zeroize();
        }
        *to = tag?;
        Some(plaintext.len() + 16)
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    /// Takes the key of the step just made from the vault. `_key` is none; and those of the split are for nobody here.
    fn set(&mut self, _key: &[u8; 32]) {
        let suite = Suite::ChaCha20Poly1305;
        self.cipher = self
            .vault
            .take_key()
            .map(|key| self.provider.packet_cipher(suite, &key));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        // Zero cannot happen with a key and our buffers; if it did, the message's length would give it away.
        self.try_encrypt(nonce, authtext, plaintext, out).unwrap_or(0)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let cipher = self.cipher.as_ref().ok_or(Error::Decrypt)?;
        let (body, tag) = ciphertext.split_last_chunk().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..body.len()).ok_or(Error::Decrypt)?;
        out.copy_from_slice(body);
        cipher
            .open(&Self::nonce(nonce), authtext, out, tag)
            .map_err(|_| Error::Decrypt)?;
        Ok(body.len())
    }
}

struct Sha256 {
    running: RunningHash,
    vault: Vault,
}

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.running = RunningHash::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.running.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out.iter_mut()
            .zip(self.running.finish())
            .for_each(|(to, from)| *to = from);
    }

    /// Noise specification §4.3, which is RFC 5869 without `info`. Of its results the library gets names, but for what
    /// it hashes into the transcript.
    fn hkdf(
        &mut self,
        chaining_key: &[u8],
        input: &[u8],
        outputs: usize,
        out1: &mut [u8],
        out2: &mut [u8],
        _out3: &mut [u8],
    ) {
        // A step that fails leaves no key behind it, and without one nothing is sealed or opened.
        let _ = match outputs {
            2 if input.is_empty() => self.vault.split(chaining_key),
            2 => self.vault.mix_key(chaining_key, input, out1),
            3 => self.vault.mix_key_and_hash(chaining_key, input, out1, out2),
            _ => None,
        };
    }
}
