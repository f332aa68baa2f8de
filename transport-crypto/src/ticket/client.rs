//! A ticket as the client keeps it.
//!
//! ```text
//!   0 version = 1 | 1 relay_id[32] | 33 ticket[180] | 213 rms[32] | 245 issued_s u64 | 253 lifetime_s u32 | 257 max_early u32
//! 261 rtt_us u32 | 265 client_id[32] | 297 suite | 298 anonymous (0, 1) | 299 throw-away key[32], zeros if enrolled
//! 331 params_len u16 | 333 params
//! ```

use zeroize::Zeroizing;

use super::{MAX_TICKET_LIFETIME_S, TICKET_LEN};
use crate::{ClientId, InvalidTicket, MAX_PARAMS, RelayId, Secret, Suite, fields::Fields};

const VERSION: u8 = 1;
const FIXED: usize = 333;
/// Seconds the client's clock may have gone back since the ticket came.
const CLOCK_SKEW_S: u64 = 60;

/// A ticket and the secrets to use it: for one connection, once.
///
/// Whoever has it can resume as an anonymous client; for an enrolled one the identity is needed too.
pub struct ClientTicket {
    /// The relay it is good for.
    pub relay_id: RelayId,
    /// What the relay sealed.
    pub ticket: [u8; TICKET_LEN],
    pub(crate) rms: Secret<32>,
    /// When it came, Unix seconds of the client's clock.
    pub issued_s: u64,
    /// How long it is good for, in seconds.
    pub lifetime_s: u32,
    /// Bytes of early data the relay may take; 0 for none.
    pub max_early: u32,
    /// Round-trip time of the connection it came on, microseconds; 0 if unknown.
    pub rtt_us: u32,
    /// The client's name on the connection it came on.
    pub client_id: ClientId,
    /// The static X25519 key of an anonymous client.
    pub(crate) throw_away: Option<Secret<32>>,
    /// The relay's transport parameters, for early data.
    pub params: Vec<u8>,
    /// The packet cipher of the connection it came on.
    pub suite: Suite,
}

impl ClientTicket {
    /// It may still be accepted. `now_s`: Unix seconds of the client's clock.
    pub fn is_fresh(&self, now_s: u64) -> bool {
        self.issued_s <= now_s.saturating_add(CLOCK_SKEW_S)
            && now_s.saturating_sub(self.issued_s) < self.lifetime_s.into()
    }

    /// It belongs to an enrolled client: the identity of that name is needed to use it.
    pub fn enrolled(&self) -> bool {
        self.throw_away.is_none()
    }

    /// The bytes to be stored; they are as secret as a key.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let throw_away = self.throw_away.as_ref().map_or(&[0; 32], Secret::expose);
        let parts: [&[u8]; 12] = [
            &[VERSION],
            self.relay_id.as_bytes(),
            &self.ticket,
            self.rms.expose(),
            &self.issued_s.to_be_bytes(),
            &self.lifetime_s.to_be_bytes(),
            &self.max_early.to_be_bytes(),
            &self.rtt_us.to_be_bytes(),
            self.client_id.as_bytes(),
            &[self.suite as u8, u8::from(self.throw_away.is_some())],
            throw_away,
            // Longer parameters were never accepted.
            &(self.params.len().min(MAX_PARAMS) as u16).to_be_bytes(),
        ];
        let mut bytes = Zeroizing::new(Vec::with_capacity(FIXED + self.params.len()));
        for part in parts {
            bytes.extend_from_slice(part);
        }
        bytes.extend(self.params.iter().take(MAX_PARAMS));
        bytes
    }

    /// Reads [`Self::to_bytes`]; anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidTicket> {
        Self::parse(bytes).ok_or(InvalidTicket)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u8()? != VERSION {
            return None;
        }
        let relay_id = RelayId::from_bytes(fields.bytes()?);
        let ticket = fields.bytes()?;
        let rms: Secret<32> = fields.secret()?;
        let (issued_s, lifetime_s) = (fields.u64()?, fields.u32()?);
        let (max_early, rtt_us) = (fields.u32()?, fields.u32()?);
        let client_id = ClientId::from_bytes(fields.bytes()?);
        let suite = match fields.u8()? {
            1 => Suite::ChaCha20Poly1305,
            2 => Suite::Aes256Gcm,
            _ => return None,
        };
        let anonymous = fields.flag()?;
        let throw_away: Secret<32> = fields.secret()?;
        let len = usize::from(fields.u16()?);
        let params = fields.slice(len)?;
        let good = len <= MAX_PARAMS
            && fields.is_empty()
            && lifetime_s <= MAX_TICKET_LIFETIME_S
            && !rms.is_zero()
            && anonymous != throw_away.is_zero();
        good.then(|| Self {
            relay_id,
            ticket,
            rms,
            issued_s,
            lifetime_s,
            max_early,
            rtt_us,
            client_id,
            throw_away: anonymous.then_some(throw_away),
            params: params.to_vec(),
            suite,
        })
    }
}
