//! Names of relays and clients, and the secret of a user group.

use std::{fmt, str::FromStr};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{InvalidId, kdf};

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The identity with these 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex(text).map(Self)
            }
        }
    };
}

public_id! {
    /// A relay's name: SHA-256 over its two verifying keys. What users pin.
    ///
    /// Written as 64 lower-case hexadecimal digits.
    RelayId
}

public_id! {
    /// A client's name: SHA-256 over its public keys; what allow-lists hold.
    ///
    /// Written as 64 lower-case hexadecimal digits.
    ClientId
}

impl RelayId {
    /// The name of the relay with these verifying keys.
    pub(crate) fn of(ml_dsa: &[u8], ed25519: &[u8; 32]) -> Self {
        Self(kdf::hash(&[kdf::label::RELAY_ID, ml_dsa, ed25519]))
    }
}

impl ClientId {
    /// The name of an enrolled client.
    pub(crate) fn enrolled(x25519: &[u8; 32], ml_kem: &[u8]) -> Self {
        Self(kdf::hash(&[kdf::label::CLIENT_ID, x25519, ml_kem]))
    }

    /// The name of a client that shows a throw-away key.
    pub(crate) fn anonymous(x25519: &[u8; 32]) -> Self {
        Self(kdf::hash(&[x25519]))
    }
}

/// A secret shared by a group of users: without it not even the relay's existence can be probed.
///
/// The default, 32 zero bytes, means "everyone who has the bundle".
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Grant([u8; 32]);

impl Grant {
    /// The grant with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, to be stored with a configuration.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Grant {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        parse_hex(text).map(Self)
    }
}

fn parse_hex(text: &str) -> Result<[u8; 32], InvalidId> {
    let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| InvalidId)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let value = char::from(digit).to_digit(16).ok_or(InvalidId)?;
            *byte = (*byte << 4) | value as u8;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip() {
        let mut bytes = [0u8; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (i * 37 + 5) as u8;
        }
        let id = RelayId::from_bytes(bytes);
        let text = id.to_string();
        assert_eq!(text.len(), 64);
        assert!(text.starts_with("052a4f74"));
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_refused() {
        let good = "0".repeat(64);
        for bad in [
            "",
            &good[1..],
            &format!("{good}0"),
            &good.replacen('0', "g", 1),
            &"é".repeat(32),
        ] {
            assert_eq!(bad.parse::<ClientId>(), Err(InvalidId), "{bad}");
        }
    }
}
