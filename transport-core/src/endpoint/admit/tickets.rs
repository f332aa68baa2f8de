//! Tickets of this relay: made for clients that were confirmed, and what is allowed to those who show one.
//!
//! Keys change every twelve hours and open tickets of the time before; a fleet installs its own, and changes them itself.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::time::{Duration, Instant};

use transport_crypto::{
    EarlyOpen, Entropy, Offered, RelayId, TicketContent, TicketGrant, TicketKeys, sha256,
};

use super::strikes::{GENERATION, Strikes};
use crate::config::{Now, TicketOptions, TransportConfig};
use crate::connection::{Connection, Issued, announce};
use crate::random::Random;

/// Time a key seals; then it opens for as long again.
const KEY_AGE_S: u64 = 12 * 3600;
/// How far a client's clock, as the relay told it, may be off for its early data to be taken, milliseconds.
const MAX_AGE_ERROR_MS: u64 = 10_000;

/// Keys, options, and what was used up.
pub(in crate::endpoint) struct Tickets {
    relay_id: RelayId,
    options: TicketOptions,
    keys: Option<TicketKeys>,
    /// When the present key was made; `None` for keys that others change.
    made_s: Option<u64>,
    /// Whose early data is taken.
    domain: Option<u32>,
    /// When the first client came. What was used before is not known, so at first early data on tickets that may be older is
    /// refused.
    started: Option<Instant>,
    strikes: Strikes,
    pub(super) issued: u64,
    pub(super) early_accepted: u64,
    pub(super) early_rejected: u64,
}

impl Tickets {
    pub(super) fn new(relay_id: RelayId, options: TicketOptions) -> Self {
        Self {
            relay_id,
            options,
            keys: None,
            made_s: None,
            domain: (options.replay_domain != 0).then_some(options.replay_domain),
            started: None,
            strikes: Strikes::default(),
            issued: 0,
            early_accepted: 0,
            early_rejected: 0,
        }
    }

    /// Keys that others change as well: those of a fleet.
    pub(in crate::endpoint) fn install(&mut self, keys: TicketKeys) {
        (self.keys, self.made_s) = (Some(keys), None);
    }

    /// Tickets owed to a client at its confirmation.
    pub(in crate::endpoint) fn count(&self) -> u8 {
        self.options.count.min(TicketOptions::MAX_COUNT)
    }

    /// Whether early data may ever be taken.
    pub(super) fn takes_early(&self) -> bool {
        self.count() > 0 && self.max_early() > 0
    }

    pub(super) fn max_early(&self) -> u32 {
        self.options.early_bytes.min(TicketOptions::MAX_EARLY)
    }

    /// What tickets are opened with; `None`: this relay gives none.
    pub(in crate::endpoint) fn keys(&mut self, now: Now, entropy: &mut dyn Entropy) -> Option<&TicketKeys> {
        if self.count() == 0 {
            return None;
        }
        self.started.get_or_insert(now.instant);
        let now_s = now.unix_ms / 1000;
        if self.keys.is_none() {
            self.keys = TicketKeys::generate(self.relay_id, entropy).ok();
            self.made_s = Some(now_s);
        }
        self.rotate(now, entropy);
        self.keys.as_ref()
    }

    /// Keys whose time is over go. Without randomness the old ones must not go on, so there are no tickets until there is.
    pub(in crate::endpoint) fn rotate(&mut self, now: Now, entropy: &mut dyn Entropy) {
        let now_s = now.unix_ms / 1000;
        let age = self.made_s.map_or(0, |made| now_s.saturating_sub(made));
        // After two periods without a use neither key may stay.
        for _ in 0..(age / KEY_AGE_S).min(2) {
            self.made_s = Some(now_s);
            let rotated = self.keys.as_mut().map(|keys| keys.rotate(entropy));
            if rotated.is_some_and(|rotated| rotated.is_err()) {
                self.keys = None;
                return;
            }
        }
    }

    /// When keys are to be changed next.
    pub(in crate::endpoint) fn next_rotation(&self, now: Now) -> Option<Instant> {
        let made_s = self.made_s.filter(|_| self.keys.is_some())?;
        let left_ms = ((made_s + KEY_AGE_S) * 1000).saturating_sub(now.unix_ms);
        Some(now.instant + Duration::from_millis(left_ms))
    }

    fn domain(&mut self, random: &mut Random) -> u32 {
        *self.domain.get_or_insert_with(|| (random.u64() as u32).max(1))
    }

    /// Makes the tickets a connection owes its client.
    pub(in crate::endpoint) fn issue(
        &mut self,
        now: Now,
        connection: &mut Connection,
        params_digest: [u8; 16],
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) {
        let (domain, max_early) = (self.domain(random), self.max_early());
        let lifetime = self.options.lifetime.min(TicketOptions::MAX_LIFETIME);
        let lifetime_s = lifetime.as_secs() as u32;
        while let Some(resumption) = connection.tickets_due() {
            let stats = connection.stats();
            let grant = TicketGrant {
                serial: random.u64(),
                issued_s: u32::try_from(now.unix_ms / 1000).unwrap_or(u32::MAX),
                lifetime_s,
                max_early,
                replay_domain: domain,
                policy: 0,
                rtt_us: u32::try_from(stats.srtt.as_micros()).unwrap_or(0),
                bdp: stats.cwnd,
                params_digest,
            };
            let sealed = resumption
                .relay_content(&grant)
                .and_then(|content| self.keys(now, entropy)?.seal(&content, entropy).ok());
            self.issued += u64::from(sealed.is_some());
            connection.ticket_made(sealed.map(|ticket| Issued {
                serial: grant.serial,
                lifetime_s,
                max_early,
                ticket,
            }));
        }
    }

    /// Whether the early data a client announces is taken, and what opens it. Its ticket is used up then.
    pub(super) fn judge(
        &mut self,
        now: Now,
        offered: &Offered,
        params_digest: [u8; 16],
    ) -> Option<EarlyOpen> {
        if !offered.wants_early() {
            return None;
        }
        let fresh = offered.time_ms().abs_diff(now.unix_ms) <= MAX_AGE_ERROR_MS;
        let good = fresh
            && self.takes_early()
            && offered.resumed().is_some_and(|content| {
                self.may_use(content, now) && content.params_digest == params_digest && {
                    self.strikes.strike(content.serial, now.instant)
                }
            });
        let open = offered.early_open().filter(|_| good);
        match open {
            Some(_) => self.early_accepted += 1,
            None => self.early_rejected += 1,
        }
        open
    }

    /// The ticket names this relay, which remembers all that was used.
    fn may_use(&self, content: &TicketContent, now: Now) -> bool {
        // A domain chosen at random at the start has no tickets from before.
        let complete = self.options.replay_domain == 0
            || self
                .started
                .is_some_and(|start| now.instant.saturating_duration_since(start) >= GENERATION);
        self.domain == Some(content.replay_domain) && complete
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.strikes.memory()
    }
}

/// What names the parameters this relay announces: early data is sent under those of the ticket.
pub(in crate::endpoint) fn params_digest(transport: &TransportConfig, app: &[u8]) -> [u8; 16] {
    let mut bytes = Vec::new();
    // Cannot fail: the label was accepted, and all other values are ours.
    let _ = announce(transport, app).encode(&mut bytes);
    digest_of(&bytes)
}

/// The same for parameters as they are written.
pub(super) fn digest_of(announced: &[u8]) -> [u8; 16] {
    let hash = sha256(&[announced]);
    hash.first_chunk().copied().unwrap_or_default()
}
