//! Address tokens: a client that echoes one receives at the address it claims (the role of RFC 9000 §8.1.2).
//!
//! ```text
//! token = unix_s u32 ‖ HMAC-SHA256(k[unix_s / 120], "adit1 ck" ‖ hid ‖ ip16 ‖ port u16 ‖ unix_s ‖ relay_id)[..16]
//! k[w]  = Expand(secret, "adit1 cookie key" ‖ w u32)
//! ```
//!
//! Nothing is stored for a token. A token is good for one handshake and one address, for [`COOKIE_LIFETIME_S`].

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::net::SocketAddr;

use subtle::ConstantTimeEq;

use crate::{
    Entropy, EntropyFailed, RelayId, Secret,
    kdf::{self, label},
    provider::hash::hmac,
};

/// Length of an address token.
pub const TOKEN_LEN: usize = 20;
/// Seconds a token is good for.
pub const COOKIE_LIFETIME_S: u32 = 120;

/// Seconds a token may seem to come from the future: the clock was set back a little.
const AHEAD_S: u32 = 2;

/// A relay's keys for address tokens, one for each two minutes.
pub struct CookieKeys(Secret<32>);

impl CookieKeys {
    /// Keys from a fresh secret.
    pub fn new(rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        Secret::generate(rng).map(Self)
    }

    /// The token for the handshake `hid` of `remote`. `unix_s` is the relay's clock.
    pub fn token(
        &self,
        unix_s: u64,
        relay_id: &RelayId,
        hid: &[u8; 8],
        remote: SocketAddr,
    ) -> [u8; TOKEN_LEN] {
        self.token_of(seconds(unix_s), relay_id, hid, remote)
    }

    /// The token was made for this handshake and address, at most 120 seconds ago. Takes the same time whatever differs.
    pub fn check(
        &self,
        unix_s: u64,
        relay_id: &RelayId,
        hid: &[u8; 8],
        remote: SocketAddr,
        token: &[u8; TOKEN_LEN],
    ) -> bool {
        let [s0, s1, s2, s3, ..] = *token;
        let (made, now) = (u32::from_be_bytes([s0, s1, s2, s3]), seconds(unix_s));
        let timely = made <= now.saturating_add(AHEAD_S) && now.saturating_sub(made) <= COOKIE_LIFETIME_S;
        let genuine: bool = self.token_of(made, relay_id, hid, remote).ct_eq(token).into();
        timely && genuine
    }

    fn token_of(
        &self,
        unix_s: u32,
        relay_id: &RelayId,
        hid: &[u8; 8],
        remote: SocketAddr,
    ) -> [u8; TOKEN_LEN] {
        let window = unix_s / COOKIE_LIFETIME_S;
        let key = kdf::expand(&self.0, &[label::COOKIE_KEY, &window.to_be_bytes()]);
        let ip = match remote.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(ip) => ip.octets(),
        };
        let time = unix_s.to_be_bytes();
        let parts: [&[u8]; 6] = [
            label::COOKIE,
            hid,
            &ip,
            &remote.port().to_be_bytes(),
            &time,
            relay_id.as_bytes(),
        ];
        let mac = hmac(&key, &parts);
        let mut token = [0; TOKEN_LEN];
        let bytes = time.iter().chain(&mac);
        token.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        token
    }
}

fn seconds(unix_s: u64) -> u32 {
    u32::try_from(unix_s).unwrap_or(u32::MAX)
}
