//! Key derivation: HKDF-SHA-256 (RFC 5869) and every label of the protocol, in one table.

use crate::{
    Secret,
    provider::hash::{self, MAX_EXPAND, Prk},
};

/// Every label that enters a hash or a derivation. No label may be a prefix of another one used with the same key.
pub(crate) mod label {
    macro_rules! labels {
        ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
            $($(#[$doc])* pub(crate) const $name: &[u8] = $text;)*
            #[cfg(test)]
            pub(super) const ALL: &[&[u8]] = &[$($name),*];
        };
    }

    labels! {
        /// Relay identity over both verifying keys.
        RELAY_ID = b"adit1 relay";
        /// Identity of an enrolled client.
        CLIENT_ID = b"adit1 client";
        /// Hash of the relay's static keys, KH.
        STATICS = b"adit1 kh";
        /// Context of the bundle's ML-DSA signature.
        BUNDLE = b"adit1 bundle";
        /// Context of an access token's ML-DSA signature.
        TOKEN = b"adit1 token";
        /// Salt of the envelope keys.
        OUTER = b"adit1 outer";
        /// Salt of the hint keys.
        HINT = b"adit1 hint";
        /// Salt of the connection-id mask keys.
        HEADER = b"adit1 hdr";
        /// Client-to-server half of a relay-wide key.
        TO_SERVER = b"c2s";
        /// Server-to-client half of a relay-wide key.
        TO_CLIENT = b"s2c";
        /// Prologue of the Noise handshake.
        PROLOGUE = b"adit1/noise";
        /// The first pre-shared key: encapsulation to the relay's static key.
        PSK0 = b"adit1 psk0 full";
        /// The first pre-shared key of a resumption: the secret behind a ticket.
        PSK0_RESUME = b"adit1 psk0 resume";
        /// The second pre-shared key: encapsulation to the client's ephemeral (and static) key.
        PSK2 = b"adit1 psk2";
        /// Client-to-server application secret, generation 0.
        CLIENT_AP = b"adit1 c ap";
        /// Server-to-client application secret, generation 0.
        SERVER_AP = b"adit1 s ap";
        /// Exporter secret.
        EXPORTER = b"adit1 exp";
        /// Resumption secret; also the salt of the resumption's pre-shared key.
        RESUMPTION = b"adit1 res";
        /// Secret of one ticket, from the resumption secret.
        TICKET = b"tkt";
        /// Hash of a ticket holder's static X25519 key.
        TICKET_STATIC = b"adit1 tkt static";
        /// Key of the address tokens of one window.
        COOKIE_KEY = b"adit1 cookie key";
        /// Address token.
        COOKIE = b"adit1 ck";
        /// Values exported to the application.
        EXPORTED = b"adit1 exported";
        /// Packet key of a generation.
        KEY = b"adit1 key";
        /// Packet nonce base of a generation.
        IV = b"adit1 iv";
        /// Application secret of the next generation.
        UPDATE = b"adit1 ku";
        /// Header mask key, the same for all generations.
        MASK = b"adit1 hp";
    }
}

/// SHA-256 over the concatenation of `parts`.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    hash::sha256(parts)
}

impl Prk {
    /// HKDF-Expand of `info` to `N` bytes.
    pub(crate) fn expand<const N: usize>(&self, info: &[&[u8]]) -> Secret<N> {
        const { assert!(N <= MAX_EXPAND) };
        let mut out = Secret::unwritten();
        self.fill(info, out.expose_mut());
        out
    }
}

/// HKDF-Expand of `info` to `N` bytes, from a key that gives nothing else here.
pub(crate) fn expand<const N: usize>(secret: &Secret<32>, info: &[&[u8]]) -> Secret<N> {
    Prk::of(secret).expand(info)
}

/// HKDF-Expand to any length: one expansion for each 8160 bytes, told apart by a counter behind `info`.
pub(crate) fn expand_long(secret: &Secret<32>, info: &[&[u8]; 2], out: &mut [u8]) {
    let prk = Prk::of(secret);
    for (counter, block) in (0u32..).zip(out.chunks_mut(MAX_EXPAND)) {
        let [label, name] = info;
        prk.fill(&[label, name, &counter.to_be_bytes()], block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_differ() {
        for (i, a) in label::ALL.iter().enumerate() {
            for b in &label::ALL[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn long_expansions_do_not_repeat() {
        let prk = Secret::new([1; 32]);
        let mut long = vec![0; MAX_EXPAND + 32];
        expand_long(&prk, &[b"l", b"n"], &mut long);
        assert_ne!(long[..32], long[MAX_EXPAND..]);
        let mut short = [0; 32];
        expand_long(&prk, &[b"l", b"n"], &mut short);
        assert_eq!(short, long[..32]);
    }
}
