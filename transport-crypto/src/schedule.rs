//! From the Noise handshake to traffic keys.
//!
//! ```text
//! MS     = Extract(salt = h, ikm = k1 ‖ k2)
//! c_ap_0 = Expand(MS, "adit1 c ap")   s_ap_0 = Expand(MS, "adit1 s ap")   exp = Expand(MS, "adit1 exp")
//! res    = Expand(MS, "adit1 res")    rms_i  = Expand(res, "tkt" ‖ serial u64)
//! key_n  = Expand(ap_n, "adit1 key")  iv_n = Expand(ap_n, "adit1 iv")     ap_n+1 = Expand(ap_n, "adit1 ku")
//! hp     = Expand(ap_0, "adit1 hp")   never updated, as in QUIC
//! ```

use crate::{
    Secret, Suite,
    kdf::{self, label},
    provider::{MaskCipher, PacketCipher, Provider, hash::Prk},
};

/// The secrets of a finished handshake.
pub(crate) struct KeySchedule {
    /// Client-to-server application secret, generation 0.
    pub(crate) client: Secret<32>,
    /// Server-to-client application secret, generation 0.
    pub(crate) server: Secret<32>,
    /// For values the application exports.
    pub(crate) exporter: Exporter,
    /// What the secrets of tickets are derived from.
    pub(crate) resumption: Secret<32>,
}

impl KeySchedule {
    /// From the transcript hash `h` and the two keys of the Noise split.
    pub(crate) fn new(h: &[u8; 32], k1: &Secret<32>, k2: &Secret<32>) -> Self {
        let master = Prk::extract(h, &[k1.expose(), k2.expose()]);
        Self {
            client: master.expand(&[label::CLIENT_AP]),
            server: master.expand(&[label::SERVER_AP]),
            exporter: Exporter(master.expand(&[label::EXPORTER])),
            resumption: master.expand(&[label::RESUMPTION]),
        }
    }
}

/// Derives keys for the application from a connection, the same on both sides (the role of RFC 8446 §7.5).
pub struct Exporter(Secret<32>);

impl Exporter {
    /// Fills `out` with bytes that depend on the connection and `label`. Shorter outputs are prefixes of longer ones.
    pub fn export(&self, label: &[u8], out: &mut [u8]) {
        kdf::expand_long(&self.0, &[label::EXPORTED, label], out);
    }
}

/// An expanded packet key of one generation.
pub(crate) struct PacketKey {
    pub(crate) cipher: Box<dyn PacketCipher>,
    pub(crate) iv: Secret<12>,
}

/// The chain of packet keys of one direction: each step forgets the secret it came from.
pub(crate) struct Generations {
    provider: &'static dyn Provider,
    suite: Suite,
    secret: Secret<32>,
}

impl Generations {
    /// The chain from `ap_0`, its first packet key, and the mask that serves all its generations.
    pub(crate) fn start(
        provider: &'static dyn Provider,
        suite: Suite,
        ap_0: Secret<32>,
    ) -> (Self, PacketKey, Box<dyn MaskCipher>) {
        let prk = Prk::of(&ap_0);
        let mask = provider.mask_cipher(suite, &prk.expand(&[label::MASK]));
        let mut keys = Self {
            provider,
            suite,
            secret: ap_0,
        };
        let first = keys.step(&prk);
        (keys, first, mask)
    }

    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    /// The next packet key of the chain.
    pub(crate) fn advance(&mut self) -> PacketKey {
        self.step(&Prk::of(&self.secret))
    }

    /// The packet key of the generation whose secret is `prk`; the chain's secret becomes that of the one after.
    fn step(&mut self, prk: &Prk) -> PacketKey {
        self.secret = prk.expand(&[label::UPDATE]);
        PacketKey {
            cipher: self
                .provider
                .packet_cipher(self.suite, &prk.expand(&[label::KEY])),
            iv: prk.expand(&[label::IV]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported(h: u8, k1: u8, k2: u8, name: &[u8]) -> [u8; 32] {
        let keys = KeySchedule::new(&[h; 32], &Secret::new([k1; 32]), &Secret::new([k2; 32]));
        let mut out = [0; 32];
        keys.exporter.export(name, &mut out);
        out
    }

    #[test]
    fn every_input_reaches_the_exporter() {
        let base = exported(1, 2, 3, b"a");
        for other in [
            exported(9, 2, 3, b"a"),
            exported(1, 9, 3, b"a"),
            exported(1, 2, 9, b"a"),
            exported(1, 2, 3, b"b"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn directions_and_generations_differ() {
        let keys = KeySchedule::new(&[1; 32], &Secret::new([2; 32]), &Secret::new([3; 32]));
        assert!(keys.client != keys.server);
        let (mut chain, first, _) =
            Generations::start(crate::provider::DEFAULT, Suite::Aes256Gcm, keys.client);
        let later = (0..4).map(|_| chain.advance());
        let ivs: Vec<_> = std::iter::once(first)
            .chain(later)
            .map(|key| *key.iv.expose())
            .collect();
        for (i, iv) in ivs.iter().enumerate() {
            assert!(!ivs[..i].contains(iv));
        }
    }
}
