//! The only caller of the Noise library.
//!
//! The library keeps the transcript and the order of tokens; every primitive under it is ours: X25519 that refuses an
//! all-zero result, ciphers and keys that are erased, and a "generator" that gives exactly one ephemeral key, drawn
//! beforehand from [`crate::Entropy`]. Its transport mode is never entered (`clippy.toml` forbids it).

#![deny(clippy::disallowed_methods)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::sync::{Arc, Mutex};

use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver,
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroize;

use super::{
    kem::{Psk0, Psk2},
    message::{NOISE_1, NOISE_2},
};
use crate::{
    HandshakeFailure, Secret,
    provider::{Provider, hash::RunningHash, symmetric::NoiseCipher},
    schedule::KeySchedule,
};

const PROTOCOL: &str = "Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256";

/// A handshake in progress; it cannot exist without a `psk0`.
pub(super) struct Noise {
    state: HandshakeState,
    ephemeral: Ephemeral,
    psk0: Psk0,
}

/// What a finished handshake leaves.
pub(super) struct Finished {
    pub(super) keys: KeySchedule,
    pub(super) transcript: [u8; 32],
}

impl Noise {
    /// The client's state; `relay` is the relay's static X25519 key.
    pub(super) fn initiator(
        provider: &'static dyn Provider,
        secret: &Secret<32>,
        relay: &[u8; 32],
        prologue: &[u8],
        psk0: Psk0,
    ) -> Result<Self, HandshakeFailure> {
        let ephemeral = Ephemeral::default();
        let state = builder(provider, &ephemeral, secret, prologue, &psk0)?
            .remote_public_key(relay)?
            .build_initiator()?;
        Ok(Self {
            state,
            ephemeral,
            psk0,
        })
    }

    /// The relay's state.
    pub(super) fn responder(
        provider: &'static dyn Provider,
        secret: &Secret<32>,
        prologue: &[u8],
        psk0: Psk0,
    ) -> Result<Self, HandshakeFailure> {
        let ephemeral = Ephemeral::default();
        let state = builder(provider, &ephemeral, secret, prologue, &psk0)?.build_responder()?;
        Ok(Self {
            state,
            ephemeral,
            psk0,
        })
    }

    /// Writes the next message with the ephemeral key `e`. After a failure the state is of no use.
    pub(super) fn write(&mut self, payload: &[u8], e: Secret<32>) -> Result<Vec<u8>, HandshakeFailure> {
        let overhead = if self.state.is_initiator() {
            NOISE_1
        } else {
            NOISE_2
        };
        self.ephemeral.put(e)?;
        let mut message = vec![0; payload.len() + overhead];
        let written = self.state.write_message(payload, &mut message)?;
        if written == message.len() {
            Ok(message)
        } else {
            Err(HandshakeFailure::Misused)
        }
    }

    /// Reads the next message. After a failure the state is as before.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeFailure> {
        let mut payload = vec![0; message.len()];
        let read = self.state.read_message(message, &mut payload)?;
        payload.truncate(read);
        Ok(payload)
    }

    /// The client's static key, after its message was read.
    pub(super) fn remote_static(&self) -> Result<[u8; 32], HandshakeFailure> {
        let remote = self.state.get_remote_static().and_then(|key| key.try_into().ok());
        remote.ok_or(HandshakeFailure::Misused)
    }

    /// The transcript hash so far.
    pub(super) fn transcript(&self) -> Result<[u8; 32], HandshakeFailure> {
        self.state
            .get_handshake_hash()
            .try_into()
            .map_err(|_| HandshakeFailure::Misused)
    }

    /// Sets the key of the second message; it may be set anew after a failed read.
    pub(super) fn set_psk2(&mut self, psk2: &Psk2) -> Result<(), HandshakeFailure> {
        psk2.refuse_equal(&self.psk0)?;
        Ok(self.state.set_psk(2, psk2.expose())?)
    }

    /// The traffic secrets. The library's copies of the pre-shared keys are overwritten.
    pub(super) fn finish(mut self) -> Result<Finished, HandshakeFailure> {
        if !self.state.is_handshake_finished() {
            return Err(HandshakeFailure::Misused);
        }
        let transcript = self.transcript()?;
        let (mut k1, mut k2) = self.state.dangerously_get_raw_split();
        let keys = KeySchedule::new(&transcript, &Secret::new(k1), &Secret::new(k2));
        k1.zeroize();
        k2.zeroize();
        for psk in [0, 2] {
            self.state.set_psk(psk, &[0; 32])?;
        }
        Ok(Finished { keys, transcript })
    }
}

fn builder<'a>(
    provider: &'static dyn Provider,
    ephemeral: &Ephemeral,
    secret: &'a Secret<32>,
    prologue: &'a [u8],
    psk0: &'a Psk0,
) -> Result<Builder<'a>, HandshakeFailure> {
    let resolver = Resolver {
        provider,
        ephemeral: ephemeral.clone(),
    };
    let builder = Builder::with_resolver(PROTOCOL.parse()?, Box::new(resolver));
    Ok(builder
        .prologue(prologue)?
        .local_private_key(secret.expose())?
        .psk(0, psk0.expose())?)
}

impl From<Error> for HandshakeFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::Decrypt => Self::Forged,
            Error::Dh => Self::LowOrderPoint,
            Error::Rng => Self::EntropyFailed,
            Error::Input => Self::Malformed("Noise message"),
            _ => Self::Misused,
        }
    }
}

/// The one ephemeral key of this side, handed over just before it is used and given once.
#[derive(Clone, Default)]
struct Ephemeral(Arc<Mutex<Option<Secret<32>>>>);

impl Ephemeral {
    fn put(&self, e: Secret<32>) -> Result<(), HandshakeFailure> {
        *self.0.lock().map_err(|_| HandshakeFailure::Misused)? = Some(e);
        Ok(())
    }
}

impl Random for Ephemeral {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let e = self.0.lock().map_err(|_| Error::Rng)?.take().ok_or(Error::Rng)?;
        let out: &mut [u8; 32] = out.try_into().map_err(|_| Error::Rng)?;
        *out = *e.expose();
        Ok(())
    }
}

struct Resolver {
    provider: &'static dyn Provider,
    ephemeral: Ephemeral,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.ephemeral.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let key = X25519 {
            provider: self.provider,
            secret: Secret::new([0; 32]),
            public: [0; 32],
        };
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(key) as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| Box::<Sha256>::default() as _)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly).then(|| Box::<ChaChaPoly>::default() as _)
    }
}

struct X25519 {
    provider: &'static dyn Provider,
    secret: Secret<32>,
    public: [u8; 32],
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

    fn set(&mut self, privkey: &[u8]) {
        // A key of another length would leave zeros, whose public half no peer knows: the handshake fails.
        self.secret
            .expose_mut()
            .iter_mut()
            .zip(privkey)
            .for_each(|(to, from)| *to = *from);
        self.public = self.provider.x25519_public(&self.secret);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(self.secret.expose_mut())?;
        self.public = self.provider.x25519_public(&self.secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.expose()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = pubkey.first_chunk().ok_or(Error::Dh)?;
        let out = out.first_chunk_mut().ok_or(Error::Dh)?;
        let shared = self.provider.x25519(&self.secret, public);
        if shared.is_zero() {
            return Err(Error::Dh);
        }
        *out = *shared.expose();
        Ok(())
    }
}

#[derive(Default)]
struct ChaChaPoly(Option<NoiseCipher>);

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
            .0
            .as_ref()
            .and_then(|cipher| cipher.seal(&Self::nonce(nonce), ad, body));
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

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Some(NoiseCipher::new(key));
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
        let cipher = self.0.as_ref().ok_or(Error::Decrypt)?;
        let (body, tag) = ciphertext.split_last_chunk().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..body.len()).ok_or(Error::Decrypt)?;
        out.copy_from_slice(body);
        cipher
            .open(&Self::nonce(nonce), authtext, out, tag)
            .map_err(|_| Error::Decrypt)?;
        Ok(body.len())
    }
}

#[derive(Default)]
struct Sha256(RunningHash);

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
        self.0 = RunningHash::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out.iter_mut()
            .zip(self.0.finish())
            .for_each(|(to, from)| *to = from);
    }
}

#[cfg(test)]
mod tests {
    use snow::resolvers::DefaultResolver;

    use super::*;

    /// The library's own cipher and hash as oracle for ours.
    #[test]
    fn our_primitives_are_the_library_s() {
        let resolver = Resolver {
            provider: crate::provider::DEFAULT,
            ephemeral: Ephemeral::default(),
        };
        let [mut ours, mut theirs] = [
            resolver.resolve_hash(&HashChoice::SHA256).unwrap(),
            DefaultResolver.resolve_hash(&HashChoice::SHA256).unwrap(),
        ];
        let (mut a, mut b) = ([0; 32], [0; 32]);
        ours.hmac(&[1; 32], b"data", &mut a);
        theirs.hmac(&[1; 32], b"data", &mut b);
        assert_eq!(a, b);

        let [mut ours, mut theirs] = [
            resolver.resolve_cipher(&CipherChoice::ChaChaPoly).unwrap(),
            DefaultResolver.resolve_cipher(&CipherChoice::ChaChaPoly).unwrap(),
        ];
        ours.set(&a);
        theirs.set(&a);
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
        ours.set(&[7; 32]);
        theirs.set(&[7; 32]);
        assert_eq!(ours.pubkey(), theirs.pubkey());
        let (mut x, mut y) = ([0; 32], [0; 32]);
        ours.dh(&b, &mut x).unwrap();
        theirs.dh(&b, &mut y).unwrap();
        assert_eq!(x, y);
    }

    #[test]
    fn low_order_points_are_refused() {
        let resolver = Resolver {
            provider: crate::provider::DEFAULT,
            ephemeral: Ephemeral::default(),
        };
        let mut dh = resolver.resolve_dh(&DHChoice::Curve25519).unwrap();
        dh.set(&[7; 32]);
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
        let mut ephemeral = Ephemeral::default();
        assert_eq!(ephemeral.try_fill_bytes(&mut [0; 32]), Err(Error::Rng));
        ephemeral.put(Secret::new([3; 32])).unwrap();
        let mut out = [0; 32];
        ephemeral.try_fill_bytes(&mut out).unwrap();
        assert_eq!(out, [3; 32]);
        assert_eq!(ephemeral.try_fill_bytes(&mut out), Err(Error::Rng));
    }
}
