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

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use transport_crypto::{
    EarlyOpen, Entropy, Offered, RelayId, TicketContent, TicketGrant, TicketKeys, provider::Provider, sha256,
};

use super::commons::lock;
use super::strikes::{GENERATION, Strikes};
use crate::config::{Now, TicketOptions, TransportConfig};
use crate::connection::{Connection, Issued, announce};
use crate::random::Random;

/// Time a key seals; then it opens for as long again.
const KEY_AGE_S: u64 = 12 * 3600;
/// How far a client's clock, as the relay told it, may be off for its early data to be taken, milliseconds.
const MAX_AGE_ERROR_MS: u64 = 10_000;

/// Options and counters of one worker; keys, and what was used up, are those of all.
pub(in crate::endpoint) struct Tickets {
    provider: &'static dyn Provider,
    relay_id: RelayId,
    options: TicketOptions,
    store: Arc<Store>,
    /// [`Ring::made_s`] when it was last looked at: asked with every packet, so it is not asked of the others.
    made_s: Option<u64>,
    pub(super) issued: u64,
    pub(super) early_accepted: u64,
    pub(super) early_rejected: u64,
}

/// What is the same for all workers. Keys are only read while a hello is, so that one worker does not wait for another.
#[derive(Default)]
pub(super) struct Store {
    ring: RwLock<Ring>,
    strikes: Mutex<Strikes>,
}

/// Keys, and since when.
#[derive(Default)]
pub(super) struct Ring {
    keys: Option<TicketKeys>,
    /// When the present key was made; `None` for keys that others change.
    made_s: Option<u64>,
    /// Whose early data is taken, where the options do not say.
    domain: Option<u32>,
    /// When the first client came. What was used before is not known, so at first early data on tickets that may be older is
    /// refused.
    started: Option<Instant>,
}

impl Ring {
    /// What tickets are opened with; `None`: this relay gives none.
    pub(super) fn keys(&self) -> Option<&TicketKeys> {
        self.keys.as_ref()
    }

    /// How many times the present key should have been followed by another.
    fn overdue(&self, now: Now) -> u64 {
        let age = self
            .made_s
            .map_or(0, |made| (now.unix_ms / 1000).saturating_sub(made));
        // After two periods without a use neither key may stay.
        (age / KEY_AGE_S).min(2)
    }

    /// Keys whose time is over go. Without randomness the old ones must not go on, so there are no tickets until there is.
    fn rotate(&mut self, now: Now, entropy: &mut dyn Entropy) {
        for _ in 0..self.overdue(now) {
            self.made_s = Some(now.unix_ms / 1000);
            let rotated = self.keys.as_mut().map(|keys| keys.rotate(entropy));
            if rotated.is_some_and(|rotated| rotated.is_err()) {
                self.keys = None;
                return;
            }
        }
    }

    /// The keys are there, and no older than they may be.
    fn prepare(
        &mut self,
        now: Now,
        provider: &'static dyn Provider,
        relay_id: RelayId,
        entropy: &mut dyn Entropy,
    ) {
        self.started.get_or_insert(now.instant);
        if self.keys.is_none() {
            self.keys = TicketKeys::generate(relay_id, entropy)
                .ok()
                .map(|keys| keys.with_provider(provider));
            self.made_s = Some(now.unix_ms / 1000);
        }
        self.rotate(now, entropy);
    }

    fn is_ready(&self, now: Now) -> bool {
        self.started.is_some() && self.keys.is_some() && self.overdue(now) == 0
    }
}

impl Store {
    fn read(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ring> {
        self.ring.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tickets {
    pub(super) fn new(
        provider: &'static dyn Provider,
        relay_id: RelayId,
        options: TicketOptions,
        store: Arc<Store>,
    ) -> Self {
        Self {
            provider,
            relay_id,
            options,
            store,
            made_s: None,
            issued: 0,
            early_accepted: 0,
            early_rejected: 0,
        }
    }

    /// Keys that others change as well: those of a fleet.
    pub(in crate::endpoint) fn install(&mut self, keys: TicketKeys) {
        let mut ring = self.store.write();
        (ring.keys, ring.made_s) = (Some(keys.with_provider(self.provider)), None);
        self.made_s = None;
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

    /// The keys at this moment; `None`: this relay gives no tickets. Let go of them soon.
    pub(super) fn ring(&mut self, now: Now, entropy: &mut dyn Entropy) -> Option<RwLockReadGuard<'_, Ring>> {
        if self.count() == 0 {
            return None;
        }
        if !self.store.read().is_ready(now) {
            let mut ring = self.store.write();
            ring.prepare(now, self.provider, self.relay_id, entropy);
        }
        let ring = self.store.read();
        self.made_s = ring.made_s;
        Some(ring)
    }

    /// Keys whose time is over go.
    pub(in crate::endpoint) fn rotate(&mut self, now: Now, entropy: &mut dyn Entropy) {
        if self.next_rotation(now).is_some_and(|at| at <= now.instant) {
            let mut ring = self.store.write();
            ring.rotate(now, entropy);
            self.made_s = ring.made_s.filter(|_| ring.keys.is_some());
        }
    }

    /// When keys are to be changed next.
    pub(in crate::endpoint) fn next_rotation(&self, now: Now) -> Option<Instant> {
        let left_ms = ((self.made_s? + KEY_AGE_S) * 1000).saturating_sub(now.unix_ms);
        Some(now.instant + Duration::from_millis(left_ms))
    }

    /// Whose early data is taken; a random one is chosen when it is first needed.
    fn domain(&self, random: &mut Random) -> u32 {
        if self.options.replay_domain != 0 {
            return self.options.replay_domain;
        }
        let known = self.store.read().domain;
        known.unwrap_or_else(|| {
            let chosen = (random.u64() as u32).max(1);
            *self.store.write().domain.get_or_insert(chosen)
        })
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
            let sealed = resumption.relay_content(&grant).and_then(|content| {
                let ring = self.ring(now, entropy)?;
                ring.keys()?.seal(&content, entropy).ok()
            });
            self.issued += u64::from(sealed.is_some());
            connection.ticket_made(sealed.map(|ticket| Issued {
                serial: grant.serial,
                lifetime_s,
                max_early,
                ticket,
            }));
        }
    }

    /// Whether the early data a client announces is taken, and what opens it. Its ticket is used up then. `announced`: this
    /// relay's parameters, as they are written.
    pub(super) fn judge(&mut self, now: Now, offered: &Offered, announced: &[u8]) -> Option<EarlyOpen> {
        if !offered.wants_early() {
            return None;
        }
        let fresh = offered.time_ms().abs_diff(now.unix_ms) <= MAX_AGE_ERROR_MS;
        let good = fresh
            && self.takes_early()
            && offered.resumed().is_some_and(|content| {
                self.may_use(content, now) && content.params_digest == digest_of(announced) && {
                    lock(&self.store.strikes).strike(content.serial, now.instant)
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
        let ring = self.store.read();
        // A domain chosen at random at the start has no tickets from before.
        let chosen = self.options.replay_domain;
        let complete = chosen == 0
            || ring
                .started
                .is_some_and(|start| now.instant.saturating_duration_since(start) >= GENERATION);
        let domain = if chosen == 0 { ring.domain } else { Some(chosen) };
        domain == Some(content.replay_domain) && complete
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        lock(&self.store.strikes).memory()
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
fn digest_of(announced: &[u8]) -> [u8; 16] {
    let hash = sha256(&[announced]);
    hash.first_chunk().copied().unwrap_or_default()
}
