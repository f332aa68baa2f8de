//! Access tokens: what an issuer says of whoever shows one, signed with ML-DSA-65.
//!
//! ```text
//!  0   4  "ADT1"
//!  4   8  the issuer's key: the first bytes of its SHA-256
//! 12  32  tenant, zeros behind it
//! 44   8  not_before        52  8  not_after (Unix seconds)
//! 60  16  nonce
//! 76   4  Mbit/s; 0: no limit
//! 80   1  1: bound to the client below; 0: not
//! 81  32  client id, or zeros
//! 113 3309 signature over all before it (context "adit1 token")        all integers big-endian
//! ```
//! In a field it is base64url without padding, after the scheme `AditToken`.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::relay::grant::TenantId;
use crate::{ClientId, Entropy, EntropyFailed, TokenIssuer, TokenKey};

/// The scheme in `authorization`.
pub const TOKEN_SCHEME: &str = "AditToken";
/// A token's length, bytes.
pub const TOKEN_LEN: usize = SIGNED + TokenKey::SIGNATURE;
/// The longest time a token may be valid, seconds.
pub const MAX_TOKEN_LIFETIME_S: u64 = 31 * 24 * 3600;

const MAGIC: [u8; 4] = *b"ADT1";
/// Bytes that are signed.
const SIGNED: usize = 113;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// On whose account its tunnels are.
    pub tenant: TenantId,
    /// First second of validity, Unix seconds.
    pub not_before: u64,
    /// Last second of validity, Unix seconds; at most [`MAX_TOKEN_LIFETIME_S`] later.
    pub not_after: u64,
    /// No other token of the issuer has it ([`AccessToken::fresh_nonce`]).
    pub nonce: [u8; 16],
    /// Megabits per second for all its tunnels together; 0: no limit.
    pub mbit: u32,
    /// The one client that may show it, in any number of sessions. A token without a client is for the one session that shows it
    /// first.
    pub client: Option<ClientId>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a token, or not one of this version.
    Malformed,
    /// The issuer is not known here.
    UnknownIssuer,
    /// The signature is not the issuer's.
    BadSignature,
    /// It begins later than now.
    NotYetValid,
    /// It is over.
    Expired,
    /// It is valid for longer than [`MAX_TOKEN_LIFETIME_S`], or not at all.
    Lifetime,
    /// It is for another client.
    OtherClient,
    /// Another session has shown it before.
    Replayed,
}

impl TokenError {
    /// Text for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed => "not an access token",
            Self::UnknownIssuer => "the token's issuer is not known here",
            Self::BadSignature => "the token's signature is wrong",
            Self::NotYetValid => "the token is not valid yet",
            Self::Expired => "the token has expired",
            Self::Lifetime => "the token is valid for too long, or not at all",
            Self::OtherClient => "the token is for another client",
            Self::Replayed => "the token was shown in another session",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for TokenError {}

impl AccessToken {
    /// A nonce that no other token has.
    ///
    /// # Errors
    /// When `rng` fails.
    pub fn fresh_nonce(rng: &mut dyn Entropy) -> Result<[u8; 16], EntropyFailed> {
        let mut nonce = [0; 16];
        rng.fill(&mut nonce)?;
        Ok(nonce)
    }

    /// Signs the token; its text, without the scheme.
    ///
    /// # Errors
    /// [`TokenError::Lifetime`].
    pub fn issue(&self, issuer: &TokenIssuer) -> Result<String, TokenError> {
        self.check_lifetime()?;
        let mut bytes = self.signed_bytes(issuer.verifier().id());
        let signature = issuer.sign(&bytes).ok_or(TokenError::BadSignature)?;
        bytes.extend_from_slice(&signature);
        Ok(Base64UrlUnpadded::encode_string(&bytes))
    }

    fn signed_bytes(&self, issuer: [u8; 8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TOKEN_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&issuer);
        bytes.extend_from_slice(&self.tenant.to_bytes());
        bytes.extend_from_slice(&self.not_before.to_be_bytes());
        bytes.extend_from_slice(&self.not_after.to_be_bytes());
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.mbit.to_be_bytes());
        bytes.push(u8::from(self.client.is_some()));
        let client: &[u8; 32] = self.client.as_ref().map_or(&[0; 32], ClientId::as_bytes);
        bytes.extend_from_slice(client);
        bytes
    }

    /// What a token says, and the id of the key that it claims to be signed with. Nothing is verified.
    ///
    /// # Errors
    /// [`TokenError::Malformed`].
    pub fn peek(text: &str) -> Result<(Self, [u8; 8]), TokenError> {
        let token = SignedToken::parse(text).ok_or(TokenError::Malformed)?;
        Ok((token.says, token.issuer))
    }

    /// What a token says that was signed with `key`. Its time is not looked at.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::UnknownIssuer`], [`TokenError::BadSignature`].
    pub fn verify(text: &str, key: &TokenKey) -> Result<Self, TokenError> {
        let token = SignedToken::parse(text).ok_or(TokenError::Malformed)?;
        if token.issuer != key.id() {
            return Err(TokenError::UnknownIssuer);
        }
        let signed = token.is_signed_by(key);
        signed.then_some(token.says).ok_or(TokenError::BadSignature)
    }

    /// Refuses a token that is not valid at `unix_s`.
    ///
    /// # Errors
    /// [`TokenError::NotYetValid`], [`TokenError::Expired`], [`TokenError::Lifetime`].
    pub fn check_time(&self, unix_s: u64) -> Result<(), TokenError> {
        self.check_lifetime()?;
        match unix_s {
            now if now < self.not_before => Err(TokenError::NotYetValid),
            now if now > self.not_after => Err(TokenError::Expired),
            _ => Ok(()),
        }
    }

    fn check_lifetime(&self) -> Result<(), TokenError> {
        match self.not_after.checked_sub(self.not_before) {
            Some(0..=MAX_TOKEN_LIFETIME_S) => Ok(()),
            _ => Err(TokenError::Lifetime),
        }
    }
}

/// A token taken apart; its signature may be anybody's.
#[derive(Debug)]
pub(super) struct SignedToken {
    pub(super) says: AccessToken,
    pub(super) issuer: [u8; 8],
    pub(super) bytes: [u8; TOKEN_LEN],
}

impl SignedToken {
    /// `None` when it is malformed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The length first: nothing long is decoded.
        if text.len() != (TOKEN_LEN * 4).div_ceil(3) {
            return None;
        }
        let bytes: [u8; TOKEN_LEN] = Base64UrlUnpadded::decode_vec(text).ok()?.try_into().ok()?;
        let mut rest = bytes.as_slice();
        if take::<4>(&mut rest)? != MAGIC {
            return None;
        }
        let issuer = take(&mut rest)?;
        let tenant = TenantId::from_bytes(take(&mut rest)?)?;
        let not_before = u64::from_be_bytes(take(&mut rest)?);
        let not_after = u64::from_be_bytes(take(&mut rest)?);
        let nonce = take(&mut rest)?;
        let mbit = u32::from_be_bytes(take(&mut rest)?);
        let bound = take::<1>(&mut rest)?;
        let client: [u8; 32] = take(&mut rest)?;
        let client = match bound {
            [1] => Some(ClientId::from_bytes(client)),
            [0] if client == [0; 32] => None,
            _ => return None,
        };
        let says = AccessToken {
            tenant,
            not_before,
            not_after,
            nonce,
            mbit,
            client,
        };
        Some(Self { says, issuer, bytes })
    }

    /// Whether it was signed with this key.
    pub(super) fn is_signed_by(&self, key: &TokenKey) -> bool {
        let Some((signed, signature)) = self.bytes.split_last_chunk() else {
            return false;
        };
        key.verify(signed, signature)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> AccessToken {
        AccessToken {
            tenant: "acme".parse().expect("tenant"),
            not_before: 1000,
            not_after: 2000,
            nonce: [7; 16],
            mbit: 20,
            client: Some(ClientId::from_bytes([9; 32])),
        }
    }

    #[test]
    fn what_was_issued_is_read_and_verified() {
        let issuer = TokenIssuer::from_seed([1; 32]);
        let anybody = AccessToken {
            client: None,
            ..token()
        };
        for says in [token(), anybody] {
            let text = says.issue(&issuer).expect("issued");
            let parsed = SignedToken::parse(&text).expect("well-formed");
            assert_eq!((parsed.says, parsed.issuer), (says, issuer.verifier().id()));
            assert!(parsed.is_signed_by(&issuer.verifier()));
            assert!(!parsed.is_signed_by(&TokenIssuer::from_seed([2; 32]).verifier()));
        }
    }

    #[test]
    fn every_bit_counts() {
        let issuer = TokenIssuer::from_seed([1; 32]);
        let text = token().issue(&issuer).expect("issued");
        let bytes = Base64UrlUnpadded::decode_vec(&text).expect("base64");
        assert_eq!(bytes.len(), TOKEN_LEN);
        for at in (0..SIGNED).chain([SIGNED, TOKEN_LEN - 1]) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let parsed = SignedToken::parse(&Base64UrlUnpadded::encode_string(&changed));
            let taken = parsed.is_some_and(|parsed| {
                parsed.issuer == issuer.verifier().id() && parsed.is_signed_by(&issuer.verifier())
            });
            assert!(!taken, "byte {at}");
        }
        for wrong in [&text[1..], &format!("{text}A"), "", "AAAA"] {
            assert_eq!(AccessToken::peek(wrong), Err(TokenError::Malformed));
        }
    }

    #[test]
    fn what_is_read_is_what_would_be_written() {
        let template = token().signed_bytes([3; 8]);
        arbtest::arbtest(|u| {
            let mut bytes = [template.as_slice(), &[0; TokenKey::SIGNATURE]].concat();
            for _ in 0..u.int_in_range(0..=8)? {
                let at = u.choose_index(SIGNED)?;
                bytes[at] = u.arbitrary()?;
            }
            if let Some(read) = SignedToken::parse(&Base64UrlUnpadded::encode_string(&bytes)) {
                assert_eq!(read.says.signed_bytes(read.issuer), bytes[..SIGNED]);
            }
            let noise: String = u.arbitrary()?;
            assert_eq!(AccessToken::peek(&noise), Err(TokenError::Malformed));
            Ok(())
        });
    }

    #[test]
    fn times() {
        let says = token();
        assert_eq!(says.check_time(999), Err(TokenError::NotYetValid));
        assert_eq!((says.check_time(1000), says.check_time(2000)), (Ok(()), Ok(())));
        assert_eq!(says.check_time(2001), Err(TokenError::Expired));
        let issuer = TokenIssuer::from_seed([1; 32]);
        for not_after in [999, 1001 + MAX_TOKEN_LIFETIME_S] {
            let too_long = AccessToken { not_after, ..says };
            assert_eq!(too_long.issue(&issuer), Err(TokenError::Lifetime));
            assert_eq!(too_long.check_time(1000), Err(TokenError::Lifetime));
        }
    }
}
