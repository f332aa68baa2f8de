//! Pre-shared keys that can only come from ML-KEM, or from a ticket of a connection that did.
//!
//! [`Psk0`] and [`Psk2`] have no other constructors than encapsulation and decapsulation, for [`Psk0`] also the secret of
//! a ticket, and the Noise state takes nothing else: a handshake without a fresh KEM secret cannot be written down.
//!
//! ```text
//! psk0 = HKDF(salt = KH, ikm = ss_s, info = "adit1 psk0 full" ‖ SHA-256(ct_s))
//!      | HKDF(salt = "adit1 res", ikm = rms, info = "adit1 psk0 resume" ‖ SHA-256(ticket))     resumption
//! psk2 = HKDF(salt = h1, ikm = ss_e ‖ (ss_c or 32 zeros),
//!             info = "adit1 psk2" ‖ SH[0..2] ‖ SHA-256(ct_e) ‖ SHA-256(ct_c or "") ‖ client_id)
//! ```

use subtle::ConstantTimeEq;

use crate::{
    ClientId, Entropy, HandshakeFailure, Secret, TICKET_LEN,
    kdf::{self, label},
    provider::{KemCiphertext, KemKeyPair, KemPublic, Provider, hash::Prk},
};

/// From the encapsulation to the relay's static key, or from a ticket.
pub(super) struct Psk0 {
    key: Secret<32>,
    /// SHA-256(ct_s | ticket).
    opening: [u8; 32],
}

/// From the encapsulation to the client's ephemeral key, and to its static key if it is enrolled.
pub(super) struct Psk2(Secret<32>);

impl Psk0 {
    /// Client: encapsulates to the relay's static key.
    pub(super) fn encapsulate(
        provider: &dyn Provider,
        kh: &[u8; 32],
        relay: &KemPublic,
        rng: &mut dyn Entropy,
    ) -> Result<(KemCiphertext, Self), HandshakeFailure> {
        let (ct_s, ss_s) = encapsulate(provider, relay, rng)?;
        Ok((ct_s, Self::derive(kh, &ss_s, &ct_s)?))
    }

    /// Relay: opens the client's encapsulation.
    pub(super) fn decapsulate(
        kh: &[u8; 32],
        relay: &dyn KemKeyPair,
        ct_s: &KemCiphertext,
    ) -> Result<Self, HandshakeFailure> {
        Self::derive(kh, &relay.decapsulate(ct_s), ct_s)
    }

    /// Both sides: the secret `rms` behind `ticket`.
    pub(super) fn resume(rms: &Secret<32>, ticket: &[u8; TICKET_LEN]) -> Result<Self, HandshakeFailure> {
        refuse_zero(rms)?;
        let prk = Prk::extract(label::RESUMPTION, &[rms.expose()]);
        Self::expand(&prk, label::PSK0_RESUME, ticket)
    }

    fn derive(kh: &[u8; 32], ss_s: &Secret<32>, ct_s: &KemCiphertext) -> Result<Self, HandshakeFailure> {
        refuse_zero(ss_s)?;
        let prk = Prk::extract(kh, &[ss_s.expose()]);
        Self::expand(&prk, label::PSK0, ct_s)
    }

    fn expand(prk: &Prk, label: &[u8], opening: &[u8]) -> Result<Self, HandshakeFailure> {
        let opening = kdf::hash(&[opening]);
        let key = prk.expand(&[label, &opening]);
        refuse_zero(&key)?;
        Ok(Self { key, opening })
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.key.expose()
    }

    /// The hash of what the key came with, for the prologue.
    pub(super) fn opening(&self) -> &[u8; 32] {
        &self.opening
    }
}

/// What `psk2` is bound to besides the ciphertexts.
pub(super) struct Binding<'a> {
    /// Transcript hash after the first message.
    pub(super) h1: &'a [u8; 32],
    /// Status and flags of the server's message.
    pub(super) head: [u8; 2],
    /// Who the client is.
    pub(super) client_id: ClientId,
}

/// The relay's encapsulations and the key they give.
pub(super) struct Encapsulated {
    pub(super) ct_e: KemCiphertext,
    pub(super) ct_c: Option<KemCiphertext>,
    pub(super) psk: Psk2,
}

impl Psk2 {
    /// Relay: encapsulates to the client's ephemeral key, and to the static key of an enrolled client.
    pub(super) fn encapsulate(
        provider: &dyn Provider,
        ek_e: &KemPublic,
        ek_c: Option<&KemPublic>,
        binding: &Binding<'_>,
        rng: &mut dyn Entropy,
    ) -> Result<Encapsulated, HandshakeFailure> {
        let (ct_e, ss_e) = encapsulate(provider, ek_e, rng)?;
        let (ct_c, ss_c) = ek_c
            .map(|ek_c| encapsulate(provider, ek_c, rng))
            .transpose()?
            .unzip();
        let psk = Self::derive(&ss_e, ss_c.as_ref(), &ct_e, ct_c.as_ref(), binding)?;
        Ok(Encapsulated { ct_e, ct_c, psk })
    }

    /// Client: opens the relay's encapsulations; `enrolled` is the static key with its ciphertext.
    pub(super) fn decapsulate(
        ephemeral: &dyn KemKeyPair,
        ct_e: &KemCiphertext,
        enrolled: Option<(&dyn KemKeyPair, &KemCiphertext)>,
        binding: &Binding<'_>,
    ) -> Result<Self, HandshakeFailure> {
        let ss_e = ephemeral.decapsulate(ct_e);
        let (ss_c, ct_c) = enrolled.map(|(key, ct_c)| (key.decapsulate(ct_c), ct_c)).unzip();
        Self::derive(&ss_e, ss_c.as_ref(), ct_e, ct_c, binding)
    }

    fn derive(
        ss_e: &Secret<32>,
        ss_c: Option<&Secret<32>>,
        ct_e: &KemCiphertext,
        ct_c: Option<&KemCiphertext>,
        binding: &Binding<'_>,
    ) -> Result<Self, HandshakeFailure> {
        refuse_zero(ss_e)?;
        ss_c.map_or(Ok(()), refuse_zero)?;
        let ss_c = ss_c.map_or(&[0; 32], Secret::expose);
        let prk = Prk::extract(binding.h1, &[ss_e.expose(), ss_c]);
        let ct_c: &[u8] = ct_c.map_or(&[], |ct_c| ct_c);
        let info: [&[u8]; 5] = [
            label::PSK2,
            &binding.head,
            &kdf::hash(&[ct_e]),
            &kdf::hash(&[ct_c]),
            binding.client_id.as_bytes(),
        ];
        let psk = prk.expand(&info);
        refuse_zero(&psk)?;
        Ok(Self(psk))
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// What the check below is for.
    #[cfg(test)]
    pub(super) fn same_as(psk0: &Psk0) -> Self {
        Self(psk0.key.duplicate())
    }

    /// The two keys must never coincide.
    pub(super) fn refuse_equal(&self, psk0: &Psk0) -> Result<(), HandshakeFailure> {
        if self.0.ct_eq(&psk0.key).into() {
            Err(HandshakeFailure::DegenerateKey)
        } else {
            Ok(())
        }
    }
}

fn encapsulate(
    provider: &dyn Provider,
    key: &KemPublic,
    rng: &mut dyn Entropy,
) -> Result<(KemCiphertext, Secret<32>), HandshakeFailure> {
    let m = Secret::generate(rng)?;
    Ok(provider.kem_encapsulate(key, &m)?)
}

fn refuse_zero(secret: &Secret<32>) -> Result<(), HandshakeFailure> {
    if secret.is_zero() {
        Err(HandshakeFailure::DegenerateKey)
    } else {
        Ok(())
    }
}
