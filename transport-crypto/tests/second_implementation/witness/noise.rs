//! `Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256` by `clatter`.

use clatter::{
    Handshaker as _, KeyPair, NqHandshakeCore,
    bytearray::{ByteArray as _, SensitiveByteArray},
    crypto::{cipher::ChaChaPoly, dh::X25519, hash::Sha256},
    error::HandshakeError,
    handshakepattern::noise_ik,
    rand_core::{CryptoRng, Error, RngCore},
    traits::Dh as _,
};

/// Ephemeral keys are handed in; nobody may draw one.
#[derive(Clone, Default)]
pub(crate) struct NoDraws;

impl RngCore for NoDraws {
    fn next_u32(&mut self) -> u32 {
        unreachable!("ephemeral keys are handed in")
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("ephemeral keys are handed in")
    }

    fn fill_bytes(&mut self, _: &mut [u8]) {
        unreachable!("ephemeral keys are handed in")
    }

    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Error> {
        unreachable!("ephemeral keys are handed in")
    }
}

impl CryptoRng for NoDraws {}

/// The other library's state.
pub(crate) struct Noise(NqHandshakeCore<X25519, ChaChaPoly, Sha256, NoDraws>);

/// What a finished handshake leaves.
pub(crate) struct Split {
    pub(crate) h: [u8; 32],
    pub(crate) k1: [u8; 32],
    pub(crate) k2: [u8; 32],
}

fn pair(secret: [u8; 32]) -> KeyPair<[u8; 32], SensitiveByteArray<[u8; 32]>> {
    let secret = SensitiveByteArray::new(secret);
    KeyPair::new(X25519::pubkey(&secret), secret)
}

/// The X25519 public key of `secret`.
pub(crate) fn public(secret: [u8; 32]) -> [u8; 32] {
    pair(secret).public
}

impl Noise {
    /// `remote` is the responder's static key; only the initiator knows it, and is one by that.
    pub(crate) fn new(
        prologue: &[u8],
        s: [u8; 32],
        e: [u8; 32],
        remote: Option<[u8; 32]>,
        psk0: &[u8; 32],
    ) -> Self {
        let pattern = noise_ik().add_psks(&[0, 2], "IKpsk0+psk2");
        let (s, e) = (Some(pair(s)), Some(pair(e)));
        let mut state =
            NqHandshakeCore::new(pattern, prologue, remote.is_some(), s, e, remote, None).unwrap();
        assert_eq!(
            state.get_name().as_str(),
            "Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256"
        );
        state.push_psk(psk0);
        Self(state)
    }

    pub(crate) fn push_psk2(&mut self, psk2: &[u8; 32]) {
        self.0.push_psk(psk2);
    }

    pub(crate) fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut message = vec![0; payload.len() + self.0.get_next_message_overhead()?];
        let written = self.0.write_message(payload, &mut message)?;
        assert_eq!(written, message.len());
        Ok(message)
    }

    pub(crate) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut payload = vec![0; message.len()];
        let read = self.0.read_message(message, &mut payload)?;
        payload.truncate(read);
        Ok(payload)
    }

    pub(crate) fn remote_static(&self) -> [u8; 32] {
        self.0.get_remote_static().unwrap()
    }

    /// The transcript so far.
    pub(crate) fn transcript(&self) -> [u8; 32] {
        self.0.get_state().get_hash().as_slice().try_into().unwrap()
    }

    pub(crate) fn split(self) -> Split {
        assert!(self.0.is_finished());
        let state = self.0.finalize().unwrap();
        let h = state.get_handshake_hash().as_slice().try_into().unwrap();
        let ciphers = state.take();
        Split {
            h,
            k1: *ciphers.initiator_to_responder.take().0,
            k2: *ciphers.responder_to_initiator.take().0,
        }
    }
}
