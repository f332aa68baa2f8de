//! Tickets: what a relay remembers of a client, kept by the client (the role of RFC 5077 and RFC 8446 §4.6.1).
//!
//! ```text
//! ticket:  0 key_id u32 | 4 nonce[24] | 28 sealed[136] | 164 tag[16]     XChaCha20-Poly1305(key, nonce, ad = relay_id)
//! content: 0 version = 1 | 1 flags (1: early data, 2: enrolled) | 2 policy u16 | 4 issued_s u32 | 8 lifetime_s u32
//!         12 replay_domain u32 | 16 rms[32] | 48 client_id[32] | 80 params_digest[16] | 96 max_early u32
//!        100 rtt_us u32 | 104 bdp u64 | 112 serial u64 | 120 static_tag[16]
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod client;

use zeroize::Zeroizing;

pub use client::ClientTicket;

use crate::{
    ClientId, Entropy, EntropyFailed, Forged, RelayId, Secret,
    fields::Fields,
    kdf,
    provider::{self, Provider, symmetric::LongNonceCipher},
};

/// Length of a ticket.
pub const TICKET_LEN: usize = KEY_ID + NONCE + CONTENT + TAG;
/// No ticket lives longer, in seconds.
pub const MAX_TICKET_LIFETIME_S: u32 = 86_400;

const KEY_ID: usize = 4;
const NONCE: usize = 24;
const CONTENT: usize = 136;
const TAG: usize = 16;
const VERSION: u8 = 1;
const FLAG_EARLY: u8 = 1;
const FLAG_ENROLLED: u8 = 2;
/// Seconds by which the clocks of a fleet may differ.
const CLOCK_SKEW_S: u64 = 60;

const _: () = assert!(TICKET_LEN == 180);

/// What a ticket allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TicketFlags {
    /// Early data may come with it.
    pub early_ok: bool,
    /// The client was authenticated by its long-term keys, ML-KEM among them.
    pub enrolled: bool,
}

/// What a relay seals into a ticket.
pub struct TicketContent {
    /// What the ticket allows.
    pub flags: TicketFlags,
    /// The relay's own mark, for rules of its own.
    pub policy: u16,
    /// When it was issued, Unix seconds of the relay's clock.
    pub issued_s: u32,
    /// How long it is good for, in seconds; at most [`MAX_TICKET_LIFETIME_S`].
    pub lifetime_s: u32,
    /// Who may accept early data with it: the node whose register remembers what was used.
    pub replay_domain: u32,
    /// The secret both sides resume from.
    pub rms: Secret<32>,
    /// The client's name.
    pub client_id: ClientId,
    /// SHA-256 of the transport parameters the relay gave, first half.
    pub params_digest: [u8; 16],
    /// Bytes of early data the relay takes; 0 for none.
    pub max_early: u32,
    /// Round-trip time of the connection, microseconds; 0 if unknown.
    pub rtt_us: u32,
    /// Bandwidth-delay product of the connection, bytes; 0 if unknown.
    pub bdp: u64,
    /// Number of the ticket: it is used once.
    pub serial: u64,
    /// SHA-256("adit1 tkt static" ‖ the client's X25519 key), first half: nobody else can use the ticket.
    pub static_tag: [u8; 16],
}

/// `SHA-256("adit1 tkt static" ‖ x25519)[..16]`.
pub(crate) fn static_tag(x25519: &[u8; 32]) -> [u8; 16] {
    let [tag @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
        kdf::hash(&[kdf::label::TICKET_STATIC, x25519]);
    tag
}

impl TicketContent {
    /// Its time has come and is not over. `now_s`: Unix seconds of the relay's clock.
    pub fn is_valid_at(&self, now_s: u64) -> bool {
        let issued_s = u64::from(self.issued_s);
        issued_s <= now_s.saturating_add(CLOCK_SKEW_S) && now_s < issued_s + u64::from(self.lifetime_s)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let early = if self.flags.early_ok { FLAG_EARLY } else { 0 };
        let enrolled = if self.flags.enrolled { FLAG_ENROLLED } else { 0 };
        let parts: [&[u8]; 13] = [
            &[VERSION, early | enrolled],
            &self.policy.to_be_bytes(),
            &self.issued_s.to_be_bytes(),
            &self.lifetime_s.min(MAX_TICKET_LIFETIME_S).to_be_bytes(),
            &self.replay_domain.to_be_bytes(),
            self.rms.expose(),
            self.client_id.as_bytes(),
            &self.params_digest,
            &self.max_early.to_be_bytes(),
            &self.rtt_us.to_be_bytes(),
            &self.bdp.to_be_bytes(),
            &self.serial.to_be_bytes(),
            &self.static_tag,
        ];
        for part in parts {
            out.extend_from_slice(part);
        }
    }

    fn decode(content: &[u8; CONTENT]) -> Option<Self> {
        let mut fields = Fields(content);
        let (version, flags) = (fields.u8()?, fields.u8()?);
        if version != VERSION || flags & !(FLAG_EARLY | FLAG_ENROLLED) != 0 {
            return None;
        }
        let content = Self {
            flags: TicketFlags {
                early_ok: flags & FLAG_EARLY != 0,
                enrolled: flags & FLAG_ENROLLED != 0,
            },
            policy: fields.u16()?,
            issued_s: fields.u32()?,
            lifetime_s: fields.u32()?,
            replay_domain: fields.u32()?,
            rms: fields.secret()?,
            client_id: ClientId::from_bytes(fields.bytes()?),
            params_digest: fields.bytes()?,
            max_early: fields.u32()?,
            rtt_us: fields.u32()?,
            bdp: fields.u64()?,
            serial: fields.u64()?,
            static_tag: fields.bytes()?,
        };
        let usable = content.lifetime_s <= MAX_TICKET_LIFETIME_S && !content.rms.is_zero();
        (fields.is_empty() && usable).then_some(content)
    }
}

/// The keys a relay seals its tickets with: the current one, and the one before, which only opens.
pub struct TicketKeys {
    provider: &'static dyn Provider,
    relay_id: RelayId,
    current: SealingKey,
    previous: Option<SealingKey>,
}

struct SealingKey {
    id: u32,
    cipher: LongNonceCipher,
}

impl SealingKey {
    fn new(provider: &'static dyn Provider, id: u32, secret: &Secret<32>) -> Self {
        Self {
            id,
            cipher: LongNonceCipher::new(provider, secret),
        }
    }

    /// A new key with an id other than `taken`.
    fn generate(
        provider: &'static dyn Provider,
        taken: Option<u32>,
        rng: &mut dyn Entropy,
    ) -> Result<Self, EntropyFailed> {
        let mut id = [0; 4];
        rng.fill(&mut id)?;
        let id = u32::from_be_bytes(id);
        let id = if taken == Some(id) { id.wrapping_add(1) } else { id };
        Ok(Self::new(provider, id, &Secret::generate(rng)?))
    }
}

impl TicketKeys {
    /// A first key of its own for the relay.
    pub fn generate(relay_id: RelayId, rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        Ok(Self {
            provider: provider::DEFAULT,
            relay_id,
            current: SealingKey::generate(provider::DEFAULT, None, rng)?,
            previous: None,
        })
    }

    /// The key `secret`, which the nodes of a fleet share, by the name `key_id`.
    pub fn from_secret(relay_id: RelayId, key_id: u32, secret: &Secret<32>) -> Self {
        Self {
            provider: provider::DEFAULT,
            relay_id,
            current: SealingKey::new(provider::DEFAULT, key_id, secret),
            previous: None,
        }
    }

    /// The same keys with the primitives of `provider`, also for those that follow.
    #[must_use]
    pub fn with_provider(mut self, provider: &'static dyn Provider) -> Self {
        self.provider = provider;
        for key in [Some(&mut self.current), self.previous.as_mut()]
            .into_iter()
            .flatten()
        {
            key.cipher.use_provider(provider);
        }
        self
    }

    /// A new key takes over; the current one only opens from now on, and the one before it is erased.
    /// On failure nothing has changed.
    pub fn rotate(&mut self, rng: &mut dyn Entropy) -> Result<(), EntropyFailed> {
        let next = SealingKey::generate(self.provider, Some(self.current.id), rng)?;
        self.previous = Some(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// As [`Self::rotate`], to the key `secret` of a fleet. Adopting the current key again changes nothing else.
    pub fn adopt(&mut self, key_id: u32, secret: &Secret<32>) {
        let last = std::mem::replace(&mut self.current, SealingKey::new(self.provider, key_id, secret));
        if last.id != key_id {
            self.previous = Some(last);
        }
    }

    /// Seals a ticket with the current key.
    pub fn seal(
        &self,
        content: &TicketContent,
        rng: &mut dyn Entropy,
    ) -> Result<[u8; TICKET_LEN], EntropyFailed> {
        let mut nonce = [0; NONCE];
        rng.fill(&mut nonce)?;
        let mut body = Zeroizing::new(Vec::with_capacity(CONTENT));
        content.encode(&mut body);
        // Cannot fail: no cipher refuses 136 bytes.
        let tag = self
            .current
            .cipher
            .seal(&nonce, self.relay_id.as_bytes(), &mut body)
            .ok_or(EntropyFailed)?;
        let mut ticket = [0; TICKET_LEN];
        let mut rest = &mut ticket[..];
        for part in [&self.current.id.to_be_bytes()[..], &nonce, &body, &tag] {
            let (place, after) = rest.split_at_mut_checked(part.len()).ok_or(EntropyFailed)?;
            place.copy_from_slice(part);
            rest = after;
        }
        Ok(ticket)
    }

    /// Opens a ticket sealed by the current key or the one before. Its time is not looked at.
    pub fn open(&self, ticket: &[u8; TICKET_LEN]) -> Result<TicketContent, Forged> {
        let mut fields = Fields(ticket);
        let id = fields.u32().ok_or(Forged)?;
        let nonce = fields.bytes().ok_or(Forged)?;
        let mut content: Zeroizing<[u8; CONTENT]> = Zeroizing::new(fields.bytes().ok_or(Forged)?);
        let tag = fields.bytes().ok_or(Forged)?;
        let mut keys = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten();
        let key = keys.find(|key| key.id == id).ok_or(Forged)?;
        key.cipher
            .open(&nonce, self.relay_id.as_bytes(), &mut *content, &tag)?;
        TicketContent::decode(&content).ok_or(Forged)
    }
}

#[cfg(test)]
mod tests;
