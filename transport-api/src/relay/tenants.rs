//! Tenants: what all tunnels of one account may use together, whichever sessions, relays and threads they belong to.
//!
//! A tunnel finds its tenant once, under the table's lock; after that everything is a number that is read and added to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::grant::TenantId;
use super::rate::SharedRate;
use crate::driver::clock;

/// Tenants known at a time.
pub const MAX_TENANTS: usize = 1 << 16;
/// No limit.
const NONE: u64 = u64::MAX;

/// What one tenant may use; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantQuota {
    /// Sessions with tunnels of the tenant at a time. A session counts from its first tunnel to its end.
    pub sessions: Option<u64>,
    /// Tunnels at a time, requests under way included.
    pub tunnels: Option<u64>,
    /// Compression contexts of bound tunnels at a time.
    pub contexts: Option<u64>,
    /// Packets per second, both directions together.
    pub packets_per_s: Option<u64>,
    /// Bits per second, both directions together.
    pub bits_per_s: Option<u64>,
    /// Bytes in a period, both directions together; then running tunnels end and new ones are refused.
    pub bytes: Option<u64>,
    /// The period of `bytes`; it begins when the quota is first set, and anew at the end of each.
    pub period: Duration,
}

impl Default for TenantQuota {
    /// No limits; a period of 30 days.
    fn default() -> Self {
        Self {
            sessions: None,
            tunnels: None,
            contexts: None,
            packets_per_s: None,
            bits_per_s: None,
            bytes: None,
            period: Duration::from_hours(30 * 24),
        }
    }
}

impl TenantQuota {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }
}

/// What one tenant uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantUsage {
    /// Sessions with tunnels of the tenant.
    pub sessions: u64,
    /// Tunnels, requests under way included.
    pub tunnels: u64,
    /// Compression contexts.
    pub contexts: u64,
    /// Bytes in the present period.
    pub bytes: u64,
}

/// [`MAX_TENANTS`] are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTenants;

impl fmt::Display for TooManyTenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAX_TENANTS} tenants are known already")
    }
}

impl std::error::Error for TooManyTenants {}

/// The quotas of all tenants. Clones are the same table; several relays of one process may share it.
#[derive(Clone, Default)]
pub struct Quotas(Arc<Mutex<BTreeMap<TenantId, Arc<Tenant>>>>);

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quotas({} tenants)", self.table().len())
    }
}

impl Quotas {
    /// A table without limits.
    pub fn new() -> Self {
        Self::default()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<TenantId, Arc<Tenant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what a tenant may use from now on, running tunnels included. Fewer tunnels or sessions than there are end none.
    ///
    /// # Errors
    /// When too many tenants have quotas.
    pub fn set(&self, tenant: TenantId, quota: TenantQuota) -> Result<(), TooManyTenants> {
        let entry = self.tenant(tenant).ok_or(TooManyTenants)?;
        entry.named.store(true, Ordering::Relaxed);
        entry.set(&quota);
        Ok(())
    }

    /// Lifts a tenant's limits.
    pub fn clear(&self, tenant: TenantId) {
        if let Some(entry) = self.table().get(&tenant) {
            entry.named.store(false, Ordering::Relaxed);
            entry.set(&TenantQuota::default());
        }
    }

    /// Tenants that have quotas, sorted.
    pub fn tenants(&self) -> Vec<TenantId> {
        let table = self.table();
        let named = table.iter().filter(|(_, entry)| entry.is_named());
        named.map(|(tenant, _)| *tenant).collect()
    }

    /// What a tenant uses; nothing when it is not known.
    pub fn usage(&self, tenant: TenantId) -> TenantUsage {
        self.table()
            .get(&tenant)
            .map_or_else(TenantUsage::default, |entry| TenantUsage {
                sessions: entry.sessions.used(),
                tunnels: entry.tunnels.used(),
                contexts: entry.contexts.used(),
                bytes: entry.bytes.used.load(Ordering::Relaxed),
            })
    }

    /// The entry of a tenant; `None` when there are too many.
    pub(super) fn tenant(&self, tenant: TenantId) -> Option<Arc<Tenant>> {
        let mut table = self.table();
        if let Some(known) = table.get(&tenant) {
            return Some(Arc::clone(known));
        }
        if table.len() >= MAX_TENANTS {
            table.retain(|_, entry| entry.is_named() || Arc::strong_count(entry) > 1);
        }
        if table.len() >= MAX_TENANTS {
            return None;
        }
        let entry = Arc::new(Tenant::new(clock::now().instant));
        table.insert(tenant, Arc::clone(&entry));
        Some(entry)
    }
}

/// A count with a limit.
#[derive(Debug)]
pub(super) struct Count {
    used: AtomicU64,
    max: AtomicU64,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            used: AtomicU64::new(0),
            max: AtomicU64::new(NONE),
        }
    }
}

impl Count {
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let more = |used: u64| (used < max).then(|| used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

/// Bytes of a period.
#[derive(Debug)]
struct Total {
    used: AtomicU64,
    max: AtomicU64,
    /// Nanoseconds; the present period's end after the tenant's beginning.
    period: AtomicU64,
    ends: AtomicU64,
}

/// What one tenant may use, and uses.
#[derive(Debug)]
pub(super) struct Tenant {
    since: Instant,
    /// Somebody has set a quota, so the entry stays.
    named: AtomicBool,
    sessions: Count,
    tunnels: Count,
    contexts: Count,
    pub(super) packets: SharedRate,
    pub(super) bits: SharedRate,
    bytes: Total,
}

/// What a tenant has a limited number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Countable {
    Sessions,
    Tunnels,
    Contexts,
}

impl Tenant {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            named: AtomicBool::new(false),
            sessions: Count::default(),
            tunnels: Count::default(),
            contexts: Count::default(),
            packets: SharedRate::packets(0),
            bits: SharedRate::bits(0),
            bytes: Total {
                used: AtomicU64::new(0),
                max: AtomicU64::new(NONE),
                period: AtomicU64::new(NONE),
                ends: AtomicU64::new(NONE),
            },
        }
    }

    fn is_named(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }

    fn set(&self, quota: &TenantQuota) {
        for (count, max) in [
            (&self.sessions, quota.sessions),
            (&self.tunnels, quota.tunnels),
            (&self.contexts, quota.contexts),
        ] {
            count.max.store(max.unwrap_or(NONE), Ordering::Relaxed);
        }
        // 0 means no limit to a rate, and nothing at all to whoever says 0 here: one in a second comes nearest.
        let rate = |limit: Option<u64>| limit.map_or(0, |limit| limit.max(1));
        self.packets.set(rate(quota.packets_per_s));
        self.bits.set(rate(quota.bits_per_s));
        let period = u64::try_from(quota.period.as_nanos()).unwrap_or(NONE).max(1);
        let bytes = &self.bytes;
        if bytes.period.swap(period, Ordering::Relaxed) != period {
            let ends = self.nanos(clock::now().instant).saturating_add(period);
            bytes.ends.store(ends, Ordering::Relaxed);
        }
        bytes.max.store(quota.bytes.unwrap_or(NONE), Ordering::Relaxed);
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.since).as_nanos()).unwrap_or(NONE)
    }

    fn count(&self, what: Countable) -> &Count {
        match what {
            Countable::Sessions => &self.sessions,
            Countable::Tunnels => &self.tunnels,
            Countable::Contexts => &self.contexts,
        }
    }

    /// One more, until the value is dropped.
    pub(super) fn take(self: &Arc<Self>, what: Countable) -> Option<Taken> {
        self.count(what).take().then(|| Taken {
            tenant: Arc::clone(self),
            what,
        })
    }

    /// Adds to what was used in this period; whether that is still within the quota.
    pub(super) fn spend(&self, bytes: u64) -> bool {
        let max = self.bytes.max.load(Ordering::Relaxed);
        let used = self
            .bytes
            .used
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        used <= max || self.begin_period(clock::now().instant)
    }

    /// How long there will be no bytes; `None` when there are some now.
    pub(super) fn spent_for(&self, now: Instant) -> Option<Duration> {
        let max = self.bytes.max.load(Ordering::Relaxed);
        if self.bytes.used.load(Ordering::Relaxed) < max || self.begin_period(now) {
            return None;
        }
        let ends = self.bytes.ends.load(Ordering::Relaxed);
        Some(Duration::from_nanos(ends.saturating_sub(self.nanos(now))))
    }

    /// Forgets what was used if the period is over, which is looked at when there is nothing left of it.
    fn begin_period(&self, now: Instant) -> bool {
        let (total, now) = (&self.bytes, self.nanos(now));
        let period = total.period.load(Ordering::Relaxed).max(1);
        let next = |ends: u64| {
            let missed = now.checked_sub(ends)? / period;
            Some(ends.saturating_add(period.saturating_mul(missed.saturating_add(1))))
        };
        // Whoever moves the end on is the one that forgets.
        let begun = total
            .ends
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok();
        if begun {
            total.used.store(0, Ordering::Relaxed);
        }
        begun
    }
}

/// One of what a tenant has a number of.
#[derive(Debug)]
pub(super) struct Taken {
    tenant: Arc<Tenant>,
    what: Countable,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.tenant.count(self.what).used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> TenantId {
        name.parse().expect(name)
    }

    #[test]
    fn counts_are_taken_and_given_back() {
        let quotas = Quotas::new();
        let quota = TenantQuota {
            tunnels: Some(1),
            ..TenantQuota::new()
        };
        quotas.set(id("a"), quota).expect("room");
        let tenant = quotas.tenant(id("a")).expect("known");
        let one = tenant.take(Countable::Tunnels).expect("the first");
        assert!(tenant.take(Countable::Tunnels).is_none());
        assert!(tenant.take(Countable::Sessions).is_some(), "no limit");
        assert_eq!(quotas.usage(id("a")).tunnels, 1);
        drop(one);
        assert!(tenant.take(Countable::Tunnels).is_some());
        quotas.clear(id("a"));
        let _many = [(); 3].map(|()| tenant.take(Countable::Tunnels).expect("no limit"));
        assert_eq!(quotas.tenants(), []);
    }

    #[test]
    fn bytes_come_back_with_the_next_period() {
        let start = clock::now().instant;
        let tenant = Tenant::new(start);
        tenant.set(&TenantQuota {
            bytes: Some(100),
            period: Duration::from_secs(10),
            ..TenantQuota::new()
        });
        assert!(tenant.spend(100));
        assert!(!tenant.spend(1));
        let left = tenant.spent_for(start + Duration::from_secs(4)).expect("spent");
        assert!((5..=7).contains(&left.as_secs()), "{left:?}");
        assert_eq!(tenant.spent_for(start + Duration::from_secs(35)), None);
        assert!(tenant.spend(100) && !tenant.spend(1));
        let left = tenant
            .spent_for(start + Duration::from_secs(36))
            .expect("spent again");
        assert!(left <= Duration::from_secs(5), "periods do not drift: {left:?}");
        tenant.set(&TenantQuota::new());
        assert!(tenant.spend(1_000_000));
    }

    #[test]
    fn tenants_that_nobody_named_make_room() {
        let quotas = Quotas::new();
        let kept = quotas.tenant(id("in-use")).expect("room");
        for n in 1..MAX_TENANTS {
            quotas.tenant(id(&format!("t{n}"))).expect("room");
        }
        quotas.set(id("new"), TenantQuota::new()).expect("room was made");
        assert_eq!(quotas.table().len(), 2);
        assert!(Arc::ptr_eq(
            &kept,
            &quotas.tenant(id("in-use")).expect("still known")
        ));
    }
}
