//! Where the secrets of a handshake are while the Noise library works.
//!
//! The library keeps chaining key, pre-shared keys and the results of the split in plain arrays, copies them about and
//! erases none. So it is given none: hash, cipher and X25519 under it are ours and share one vault, and what goes through the
//! library's hands is a name.
//!
//! ```text
//! what the library holds    what it is                               who knows the secret
//! chaining key              initial: the hash of the protocol's name nobody, it is public
//!                           later: CHAIN and the number of the step  `chain`
//! psk 0, psk 2              the digit of the place                   `psks`
//! result of a DH            zeros                                    `shared`, until the step that mixes it
//! key for the cipher        zeros                                    `key`, until the cipher takes it
//! results of the split      zeros                                    `split`
//! ```
//!
//! Names are trusted because no peer can utter one: a chaining key or a pre-shared key never comes from a message, and
//! a public key, which does, is only ever mixed when no DH result waits.

use std::sync::{Arc, Mutex, MutexGuard};

use snow::Error;
use zeroize::Zeroizing;

use crate::{HandshakeFailure, Secret, provider::hash::Prk};

/// Mixing steps of the pattern: psk0, e, es, ss; e, ee, se, psk2.
const STEPS: usize = 8;
/// A chaining key's name: this, then the number of the step.
const CHAIN: &[u8; 31] = b"adit: chaining key after step n";

/// Place of a pre-shared key in the pattern.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Zero,
    Two,
}

impl Place {
    /// What the library takes for the key.
    pub(super) fn name(self) -> &'static [u8; 32] {
        match self {
            Self::Zero => &[b'0'; 32],
            Self::Two => &[b'2'; 32],
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        [Self::Zero, Self::Two]
            .into_iter()
            .find(|place| place.name().as_slice() == name)
    }
}

/// All secrets of one handshake; erased with its last holder.
#[derive(Clone, Default)]
pub(super) struct Vault(Arc<Mutex<Secrets>>);

#[derive(Default)]
struct Secrets {
    ephemeral: Option<Secret<32>>,
    psks: [Option<Secret<32>>; 2],
    shared: Option<Secret<32>>,
    chain: [Option<Secret<32>>; STEPS],
    key: Option<Secret<32>>,
    split: Option<[Secret<32>; 2]>,
}

impl Vault {
    fn lock(&self) -> Option<MutexGuard<'_, Secrets>> {
        self.0.lock().ok()
    }

    /// The ephemeral key, handed over just before it is used.
    pub(super) fn put_ephemeral(&self, e: Secret<32>) -> Result<(), HandshakeFailure> {
        self.lock().ok_or(HandshakeFailure::Misused)?.ephemeral = Some(e);
        Ok(())
    }

    /// Given once.
    pub(super) fn take_ephemeral(&self) -> Option<Secret<32>> {
        self.lock()?.ephemeral.take()
    }

    /// Sets or replaces the pre-shared key of `place`.
    pub(super) fn put_psk(&self, place: Place, psk: &[u8; 32]) -> Result<(), HandshakeFailure> {
        let mut secrets = self.lock().ok_or(HandshakeFailure::Misused)?;
        if let Some(kept) = secrets.psks.get_mut(place as usize) {
            *kept = Secret::copy_of(psk);
        }
        Ok(())
    }

    /// The result of a Diffie-Hellman, for the step that follows at once.
    pub(super) fn put_shared(&self, shared: Secret<32>) -> Result<(), Error> {
        self.lock().ok_or(Error::Dh)?.shared = Some(shared);
        Ok(())
    }

    /// The key of the last step, given once; `None` if none waits.
    pub(super) fn take_key(&self) -> Option<Secret<32>> {
        self.lock()?.key.take()
    }

    /// The two keys of a finished handshake.
    pub(super) fn take_split(&self) -> Result<[Secret<32>; 2], HandshakeFailure> {
        let split = self.lock().and_then(|mut secrets| secrets.split.take());
        split.ok_or(HandshakeFailure::Misused)
    }

    /// Noise `MixKey`: `input` is a public key, or stands for the Diffie-Hellman result that waits.
    pub(super) fn mix_key(&self, chaining_key: &[u8], input: &[u8], name: &mut [u8]) -> Option<()> {
        let mut secrets = self.lock()?;
        let shared = secrets.shared.take();
        let input = shared.as_ref().map_or(input, |shared| shared.expose());
        let [next, key] = secrets.derive(chaining_key, input)?;
        secrets.key = Some(key);
        secrets.advance(chaining_key, next, name)
    }

    /// Noise `MixKeyAndHash`: `input` names a pre-shared key. What is hashed into the transcript goes to `hashed`.
    pub(super) fn mix_key_and_hash(
        &self,
        chaining_key: &[u8],
        input: &[u8],
        name: &mut [u8],
        hashed: &mut [u8],
    ) -> Option<()> {
        let mut secrets = self.lock()?;
        secrets.key = None;
        // It stays: a message that does not open may come again.
        let psk = secrets.psks.get(Place::named(input)? as usize)?.as_ref()?;
        let [next, hash, key] = secrets.derive(chaining_key, psk.expose())?;
        *hashed.first_chunk_mut()? = *hash.expose();
        secrets.key = Some(key);
        secrets.advance(chaining_key, next, name)
    }

    /// Noise `Split`.
    pub(super) fn split(&self, chaining_key: &[u8]) -> Option<()> {
        let mut secrets = self.lock()?;
        secrets.key = None;
        secrets.split = Some(secrets.derive(chaining_key, &[])?);
        Some(())
    }
}

impl Secrets {
    /// Noise `HKDF` with `N` outputs, two or three.
    fn derive<const N: usize>(&self, chaining_key: &[u8], input: &[u8]) -> Option<[Secret<32>; N]> {
        let chaining_key = match step(chaining_key) {
            Some(step) => self.chain.get(step)?.as_ref()?.expose(),
            None => chaining_key,
        };
        let mut bytes = Zeroizing::new([[0; 32]; N]);
        Prk::extract(chaining_key, &[input]).fill(&[], bytes.as_flattened_mut());
        let mut outputs = std::array::from_fn(|_| Secret::unwritten());
        for (output, bytes) in outputs.iter_mut().zip(&*bytes) {
            *output.expose_mut() = *bytes;
        }
        Some(outputs)
    }

    /// Keeps the chaining key that follows the one named `from`, and writes its name.
    ///
    /// The library goes back to an earlier name when a message does not open; what was derived after it is overwritten.
    fn advance(&mut self, from: &[u8], next: Secret<32>, name: &mut [u8]) -> Option<()> {
        let number = step(from).map_or(0, |step| step + 1);
        *self.chain.get_mut(number)? = Some(next);
        let (label, digit) = name.split_first_chunk_mut()?;
        *label = *CHAIN;
        *digit.first_mut()? = number as u8;
        Some(())
    }
}

/// The step after which a chaining key stands; `None` for the initial one.
fn step(chaining_key: &[u8]) -> Option<usize> {
    let (label, digit) = chaining_key.split_first_chunk()?;
    (label == CHAIN).then_some(usize::from(*digit.first()?))
}
