//! The epochs a relay answers in: at most two, each until its bundle ends. What replaces them, and what they leave behind.
//!
//! A connection outlives the epoch it came by: its connection ids are masked with keys of the relay and the grant, which
//! belong to no epoch.
#![forbid(unsafe_code)]

use std::sync::Arc;

use transport_crypto::{Bundle, Direction, Grant, RelayId, Responder, provider::Provider};

use crate::config::{EpochsError, Now, RelayEpoch, ServerConfig};
use crate::endpoint::EpochStats;
use crate::endpoint::route::{Domain, Routes};

/// One epoch that is answered.
struct Serving {
    stats: EpochStats,
    kh: [u8; 32],
    responder: Responder,
    /// One for each grant.
    domains: Vec<usize>,
}

/// The newest bundle, for clients that came by an older one.
struct News {
    bundle: Bundle,
    /// Its bytes: one copy for all connections.
    bytes: Arc<[u8]>,
}

/// What is answered, and what is told to those who came before.
pub(in crate::endpoint) struct Epochs {
    provider: &'static dyn Provider,
    relay_id: RelayId,
    grants: Vec<Grant>,
    serving: Vec<Serving>,
    news: Option<News>,
}

impl Epochs {
    /// Enters the domains of `epochs`. Of too many the newest are taken; a bundle that does not fit is left out.
    pub(super) fn new(
        provider: &'static dyn Provider,
        relay_id: RelayId,
        mut grants: Vec<Grant>,
        mut epochs: Vec<RelayEpoch>,
        bundle: Option<Bundle>,
        routes: &mut Routes,
    ) -> Self {
        grants.truncate(ServerConfig::MAX_GRANTS);
        epochs.sort_by_key(|one| std::cmp::Reverse(one.epoch));
        epochs.dedup_by_key(|one| one.epoch);
        epochs.truncate(ServerConfig::MAX_EPOCHS);
        let news = bundle.filter(|bundle| ServerConfig::check(relay_id, &epochs, Some(bundle)).is_ok());
        for grant in &grants {
            routes.keep(relay_id, grant, Direction::ClientToServer);
        }
        let mut new = Self {
            provider,
            relay_id,
            grants,
            serving: Vec::new(),
            news: news.map(News::new),
        };
        for one in epochs {
            let serving = new.serve(one, routes);
            new.serving.push(serving);
        }
        new
    }

    fn serve(&self, one: RelayEpoch, routes: &mut Routes) -> Serving {
        let kh = *one.statics.kh();
        let way = Direction::ClientToServer;
        let domain = |grant| Domain::new(self.provider, self.relay_id, one.epoch, &kh, grant, way);
        let domains = self.grants.iter().filter_map(|grant| routes.enter(domain(grant)));
        Serving {
            stats: EpochStats {
                epoch: one.epoch,
                not_after_s: one.not_after_s,
            },
            kh,
            domains: domains.collect(),
            responder: Responder::with_provider(self.provider, one.statics, self.relay_id, one.epoch),
        }
    }

    /// Serves other epochs from now on; the domains nobody is answered in any more.
    pub(super) fn replace(
        &mut self,
        epochs: Vec<RelayEpoch>,
        bundle: Option<Bundle>,
        routes: &mut Routes,
    ) -> Result<Vec<usize>, EpochsError> {
        ServerConfig::check(self.relay_id, &epochs, bundle.as_ref())?;
        let mut old = std::mem::take(&mut self.serving);
        for one in epochs {
            let same = |known: &Serving| known.stats.epoch == one.epoch && known.kh == *one.statics.kh();
            let serving = match old.iter().position(same) {
                Some(at) => {
                    let mut known = old.swap_remove(at);
                    known.stats.not_after_s = one.not_after_s;
                    known
                }
                None => self.serve(one, routes),
            };
            self.serving.push(serving);
        }
        self.news = bundle.map(News::new);
        Ok(leave(old, routes))
    }

    /// Lets the epochs go whose time is over; the domains nobody is answered in any more. Nearly always none.
    pub(super) fn retire(&mut self, now: Now, routes: &mut Routes) -> Vec<usize> {
        let over = |one: &Serving| one.stats.not_after_s < now.unix_ms / 1000;
        if !self.serving.iter().any(over) {
            return Vec::new();
        }
        let (gone, left) = std::mem::take(&mut self.serving).into_iter().partition(over);
        self.serving = left;
        leave(gone, routes)
    }

    /// When the next epoch ends, Unix milliseconds.
    pub(in crate::endpoint) fn next_end_ms(&self) -> Option<u64> {
        let ends = self.serving.iter().map(|one| one.stats.not_after_s);
        // The first moment after the last second.
        ends.min()?.checked_add(1)?.checked_mul(1000)
    }

    /// Who answers in a domain.
    pub(super) fn responder(&self, domain: usize) -> Option<&Responder> {
        let serving = self.serving.iter().find(|one| one.domains.contains(&domain))?;
        Some(&serving.responder)
    }

    /// The bundle for a client that knows `epoch`, if there is a newer one that is valid.
    pub(in crate::endpoint) fn news_for(&self, epoch: u64, now: Now) -> Option<(u64, Arc<[u8]>)> {
        let news = self.news.as_ref()?;
        let newer = news.bundle.epoch() > epoch && news.bundle.check_time(now.unix_ms / 1000).is_ok();
        newer.then(|| (news.bundle.epoch(), Arc::clone(&news.bytes)))
    }

    /// When the newest bundle becomes valid, Unix milliseconds.
    pub(in crate::endpoint) fn news_from_ms(&self) -> Option<u64> {
        Some(self.news.as_ref()?.bundle.not_before().saturating_mul(1000))
    }

    /// What is served, newest first, and the bundle that is handed out.
    pub(in crate::endpoint) fn stats(
        &self,
    ) -> ([Option<EpochStats>; ServerConfig::MAX_EPOCHS], Option<EpochStats>) {
        let mut served = [None; ServerConfig::MAX_EPOCHS];
        for (slot, one) in served.iter_mut().zip(&self.serving) {
            *slot = Some(one.stats);
        }
        served.sort_by_key(|one| std::cmp::Reverse(one.map(|one| one.epoch)));
        let news = self.news.as_ref().map(|news| EpochStats {
            epoch: news.bundle.epoch(),
            not_after_s: news.bundle.not_after(),
        });
        (served, news)
    }
}

impl News {
    fn new(bundle: Bundle) -> Self {
        Self {
            bytes: bundle.bytes().into(),
            bundle,
        }
    }
}

fn leave(gone: Vec<Serving>, routes: &mut Routes) -> Vec<usize> {
    let domains: Vec<usize> = gone.into_iter().flat_map(|one| one.domains).collect();
    for domain in &domains {
        routes.leave(*domain);
    }
    domains
}
