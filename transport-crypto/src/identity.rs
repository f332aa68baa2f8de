//! Long-term keys of relays and clients, made from seeds.

use std::sync::Arc;

use crate::{
    ClientId, Entropy, EntropyFailed, RelayId, Secret,
    kdf::{self, label},
    provider::{self, DhKeyPair, KemKeyPair, KemPublic, Provider, signature::SigningKeys},
};

/// A relay's signing identity: ML-DSA-65 and Ed25519. It signs bundles and takes no part in handshakes.
pub struct RelayIdentity {
    seeds: Secret<64>,
    keys: SigningKeys,
    relay_id: RelayId,
}

impl RelayIdentity {
    /// From the ML-DSA-65 seed (32 bytes) followed by the Ed25519 seed (32 bytes).
    pub fn from_seeds(seeds: [u8; 64]) -> Self {
        Self::new(Secret::new(seeds))
    }

    /// A new identity.
    pub fn generate(rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        Secret::generate(rng).map(Self::new)
    }

    fn new(seeds: Secret<64>) -> Self {
        let [ml_dsa, ed25519] = halves(&seeds);
        let keys = SigningKeys::new(&ml_dsa, &ed25519);
        let relay_id = RelayId::of(&*keys.ml_dsa_public(), &keys.ed25519_public());
        Self {
            seeds,
            keys,
            relay_id,
        }
    }

    /// The seeds, to be stored.
    pub fn seeds(&self) -> &Secret<64> {
        &self.seeds
    }

    /// The relay's name.
    pub fn relay_id(&self) -> RelayId {
        self.relay_id
    }

    pub(crate) fn keys(&self) -> &SigningKeys {
        &self.keys
    }
}

/// A relay's static handshake keys (X25519 and ML-KEM-768). Clones share one copy.
#[derive(Clone)]
pub struct RelayStatics(Arc<Statics>);

struct Statics {
    keys: HybridKeys,
    kh: [u8; 32],
}

impl RelayStatics {
    /// From the X25519 secret (32 bytes) followed by the ML-KEM-768 seed (64 bytes).
    pub fn from_seeds(seeds: [u8; 96]) -> Self {
        Self::new(Secret::new(seeds))
    }

    /// New keys.
    pub fn generate(rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        Secret::generate(rng).map(Self::new)
    }

    fn new(seeds: Secret<96>) -> Self {
        let keys = HybridKeys::new(provider::DEFAULT, seeds);
        let kh = statics_hash(keys.x25519.public(), keys.kem.public());
        Self(Arc::new(Statics { keys, kh }))
    }

    /// The seeds, to be stored.
    pub fn seeds(&self) -> &Secret<96> {
        &self.0.keys.seeds
    }

    /// KH, the hash of both public keys; envelope keys derive from it.
    pub fn kh(&self) -> &[u8; 32] {
        &self.0.kh
    }

    pub(crate) fn keys(&self) -> &HybridKeys {
        &self.0.keys
    }
}

/// `KH = SHA-256("adit1 kh" ‖ x25519 ‖ ml_kem)`.
pub(crate) fn statics_hash(x25519: &[u8; 32], ml_kem: &KemPublic) -> [u8; 32] {
    kdf::hash(&[label::STATICS, x25519, ml_kem])
}

/// An enrolled client's long-term keys (X25519 and ML-KEM-768). Clones share one copy.
#[derive(Clone)]
pub struct ClientIdentity(Arc<Client>);

struct Client {
    keys: HybridKeys,
    client_id: ClientId,
}

impl ClientIdentity {
    /// From the X25519 secret (32 bytes) followed by the ML-KEM-768 seed (64 bytes).
    pub fn from_seeds(seeds: [u8; 96]) -> Self {
        Self::new(Secret::new(seeds))
    }

    /// A new identity.
    pub fn generate(rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        Secret::generate(rng).map(Self::new)
    }

    fn new(seeds: Secret<96>) -> Self {
        let keys = HybridKeys::new(provider::DEFAULT, seeds);
        let client_id = ClientId::enrolled(keys.x25519.public(), keys.kem.public());
        Self(Arc::new(Client { keys, client_id }))
    }

    /// The seeds, to be stored.
    pub fn seeds(&self) -> &Secret<96> {
        &self.0.keys.seeds
    }

    /// The client's name, as relays' allow-lists hold it.
    pub fn client_id(&self) -> ClientId {
        self.0.client_id
    }

    pub(crate) fn keys(&self) -> &HybridKeys {
        &self.0.keys
    }
}

/// One X25519 and one ML-KEM-768 key pair.
pub(crate) struct HybridKeys {
    seeds: Secret<96>,
    pub(crate) x25519: Arc<dyn DhKeyPair>,
    pub(crate) kem: Box<dyn KemKeyPair>,
}

impl HybridKeys {
    fn new(provider: &dyn Provider, seeds: Secret<96>) -> Self {
        let (mut x25519, mut kem) = (Secret::new([0; 32]), Secret::new([0; 64]));
        let (x25519_seed, kem_seed) = seeds.expose().split_at(32);
        x25519.expose_mut().copy_from_slice(x25519_seed);
        kem.expose_mut().copy_from_slice(kem_seed);
        Self {
            seeds,
            x25519: provider.x25519_key_pair(&x25519),
            kem: provider.kem_key_pair(&kem),
        }
    }

    /// The same keys, expanded by another provider.
    pub(crate) fn expanded_by(&self, provider: &dyn Provider) -> Self {
        Self::new(provider, self.seeds.duplicate())
    }
}

fn halves(seeds: &Secret<64>) -> [Secret<32>; 2] {
    let mut halves = [Secret::new([0; 32]), Secret::new([0; 32])];
    for (half, seed) in halves.iter_mut().zip(seeds.expose().chunks_exact(32)) {
        half.expose_mut().copy_from_slice(seed);
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    #[test]
    fn seeds_restore_the_identity() {
        let mut rng = SeededEntropy::new([1; 32]);
        let relay = RelayIdentity::generate(&mut rng).unwrap();
        assert_eq!(
            RelayIdentity::from_seeds(*relay.seeds().expose()).relay_id(),
            relay.relay_id()
        );
        let statics = RelayStatics::generate(&mut rng).unwrap();
        assert_eq!(
            RelayStatics::from_seeds(*statics.seeds().expose()).kh(),
            statics.kh()
        );
        let client = ClientIdentity::generate(&mut rng).unwrap();
        assert_eq!(
            ClientIdentity::from_seeds(*client.seeds().expose()).client_id(),
            client.client_id()
        );
    }

    #[test]
    fn both_halves_of_the_seeds_matter() {
        let mut seeds = [7; 96];
        let base = ClientIdentity::from_seeds(seeds).client_id();
        // The last 32 bytes only serve implicit rejection and leave no trace in the public key.
        for at in [1, 40] {
            seeds[at] ^= 1;
            assert_ne!(ClientIdentity::from_seeds(seeds).client_id(), base);
            seeds[at] ^= 1;
        }
        let mut seeds = [7; 64];
        let base = RelayIdentity::from_seeds(seeds).relay_id();
        for at in [0, 63] {
            seeds[at] ^= 1;
            assert_ne!(RelayIdentity::from_seeds(seeds).relay_id(), base);
            seeds[at] ^= 1;
        }
    }
}
