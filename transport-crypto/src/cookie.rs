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
    provider::hash::KeyedHash,
};

/// Length of an address token.
pub const TOKEN_LEN: usize = 20;
/// Seconds a token is good for.
pub const COOKIE_LIFETIME_S: u32 = 120;

/// Seconds a token may seem to come from the future: the clock was set back a little.
const AHEAD_S: u32 = 2;

/// A relay's keys for address tokens, one for each two minutes. Under a flood every stranger asks for one, so the two in use
/// are kept.
pub struct CookieKeys {
    secret: Secret<32>,
    /// By window, the one used last first.
    recent: [Option<(u32, KeyedHash)>; 2],
}

impl CookieKeys {
    /// Keys from a fresh secret.
    pub fn new(rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        let secret = Secret::generate(rng)?;
        Ok(Self {
            secret,
            recent: [None, None],
        })
    }

    /// The token for the handshake `hid` of `remote`. `unix_s` is the relay's clock.
    pub fn token(
        &mut self,
        unix_s: u64,
        relay_id: &RelayId,
        hid: &[u8; 8],
        remote: SocketAddr,
    ) -> [u8; TOKEN_LEN] {
        self.token_of(seconds(unix_s), relay_id, hid, remote)
    }

    /// The token was made for this handshake and address, at most 120 seconds ago. Among timely tokens it takes
    /// the same time whatever differs.
    pub fn check(
        &mut self,
        unix_s: u64,
        relay_id: &RelayId,
        hid: &[u8; 8],
        remote: SocketAddr,
        token: &[u8; TOKEN_LEN],
    ) -> bool {
        let [s0, s1, s2, s3, ..] = *token;
        let (made, now) = (u32::from_be_bytes([s0, s1, s2, s3]), seconds(unix_s));
        let timely = made <= now.saturating_add(AHEAD_S) && now.saturating_sub(made) <= COOKIE_LIFETIME_S;
        timely && self.token_of(made, relay_id, hid, remote).ct_eq(token).into()
    }

    fn token_of(
        &mut self,
        unix_s: u32,
        relay_id: &RelayId,
        hid: &[u8; 8],
        remote: SocketAddr,
    ) -> [u8; TOKEN_LEN] {
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
        let mac = self.key(unix_s / COOKIE_LIFETIME_S).of(&parts);
        let mut token = [0; TOKEN_LEN];
        let bytes = time.iter().chain(&mac);
        token.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        token
    }

    /// The key of a window; what is asked for is timely, so there are two of them at most at a time.
    fn key(&mut self, window: u32) -> &KeyedHash {
        let [last, other] = &mut self.recent;
        let is = |slot: &Option<(u32, KeyedHash)>| slot.as_ref().is_some_and(|(known, _)| *known == window);
        if is(other) {
            std::mem::swap(last, other);
        } else if !is(last) {
            *other = last.take();
        }
        let secret = &self.secret;
        let make = || {
            let key: Secret<32> = kdf::expand(secret, &[label::COOKIE_KEY, &window.to_be_bytes()]);
            (window, KeyedHash::new(key.expose()))
        };
        &last.get_or_insert_with(make).1
    }
}

fn seconds(unix_s: u64) -> u32 {
    u32::try_from(unix_s).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    const NOW: u64 = 1_800_000_000;
    const HID: [u8; 8] = [3; 8];

    fn keys(seed: u8) -> CookieKeys {
        CookieKeys::new(&mut SeededEntropy::new([seed; 32])).unwrap()
    }

    fn relay() -> RelayId {
        RelayId::from_bytes([2; 32])
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_good_for_two_minutes_from_any_second() {
        let (mut keys, from) = (keys(1), address("192.0.2.1:5000"));
        // Every place in a window of keys, so that most tokens outlive the window they were made in.
        for made in NOW..NOW + 130 {
            let token = keys.token(made, &relay(), &HID, from);
            assert_eq!(token[..4], (made as u32).to_be_bytes());
            let mut good = |now| keys.check(now, &relay(), &HID, from, &token);
            assert!(good(made) && good(made + 120), "{made}");
            assert!(!good(made + 121) && !good(made + 240), "{made}");
            assert!(good(made - 2) && !good(made - 3), "{made}");
        }
    }

    #[test]
    fn a_token_is_for_one_handshake_address_and_relay() {
        let (mut keys, from) = (keys(1), address("192.0.2.1:5000"));
        let token = keys.token(NOW, &relay(), &HID, from);
        assert!(keys.check(NOW, &relay(), &HID, from, &token));
        for other in ["192.0.2.1:5001", "192.0.2.2:5000", "[2001:db8::1]:5000"] {
            assert!(
                !keys.check(NOW, &relay(), &HID, address(other), &token),
                "{other}"
            );
        }
        assert!(!keys.check(NOW, &relay(), &[4; 8], from, &token));
        assert!(!keys.check(NOW, &RelayId::from_bytes([9; 32]), &HID, from, &token));
        assert!(!self::keys(2).check(NOW, &relay(), &HID, from, &token));
        for bit in 0..8 * TOKEN_LEN {
            let mut bad = token;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!keys.check(NOW, &relay(), &HID, from, &bad), "{bit}");
        }
    }

    #[test]
    fn an_ipv4_address_is_the_same_on_a_dual_stack_socket() {
        let mut keys = keys(1);
        let token = keys.token(NOW, &relay(), &HID, address("192.0.2.1:5000"));
        let mapped = address("[::ffff:192.0.2.1]:5000");
        assert!(keys.check(NOW, &relay(), &HID, mapped, &token));
    }

    #[test]
    fn each_window_has_a_key_of_its_own() {
        let mut keys = keys(1);
        let from = address("192.0.2.1:5000");
        // The time is in the MAC too, so compare keys, not tokens.
        let token = keys.token(240, &relay(), &HID, from);
        let key = |window: u32| -> Secret<32> {
            kdf::expand(&keys.secret, &[label::COOKIE_KEY, &window.to_be_bytes()])
        };
        assert!(key(1) != key(2));
        let ip = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let port = 5000u16.to_be_bytes();
        let parts: [&[u8]; 6] = [b"adit1 ck", &HID, &ip, &port, &240u32.to_be_bytes(), &[2; 32]];
        assert_eq!(token[4..], KeyedHash::new(key(2).expose()).of(&parts)[..16]);
        assert_ne!(token[4..], KeyedHash::new(key(1).expose()).of(&parts)[..16]);
    }

    #[test]
    fn times_at_the_ends_do_not_wrap() {
        let (mut keys, from) = (keys(1), address("192.0.2.1:5000"));
        for now in [0, 1, u64::from(u32::MAX), u64::MAX] {
            let token = keys.token(now, &relay(), &HID, from);
            assert!(keys.check(now, &relay(), &HID, from, &token), "{now}");
        }
        let token = keys.token(u64::MAX, &relay(), &HID, from);
        assert!(!keys.check(0, &relay(), &HID, from, &token));
    }
}
