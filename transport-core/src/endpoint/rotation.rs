//! A relay while it runs: other epochs, a new bundle for everybody who is connected, clients that may no longer be.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use transport_crypto::{Bundle, ClientId};

use super::Endpoint;
use super::admit::{Admission, lets_in};
use super::slab::Occupant;
use crate::config::{Access, EpochsError, Now, RelayEpoch};
use crate::connection::Connection;
use crate::timer::Why;

/// A new bundle goes to so many connections at once, then to the next after a while: 100,000 of them in half a minute, which
/// is 170 Mb/s for bundles of 6.6 kB.
const ANNOUNCED_AT_ONCE: usize = 32;
const ANNOUNCE_EVERY: Duration = Duration::from_millis(10);
/// Places looked at for that.
const LOOKED_AT_ONCE: usize = 4096;

/// What is due, and when.
#[derive(Default)]
pub(super) struct Rotation {
    /// A new bundle on its way through the connections: whose turn it is, and when.
    announcing: Option<(u32, Instant)>,
    /// The first epoch ends.
    epoch_ends: Option<Instant>,
    /// The time is known, so the above is.
    noted: bool,
}

impl Endpoint {
    /// Serves these epochs from now on, and no others.
    ///
    /// The keys of an epoch answer until `not_after_s`, so a relay that rotates lists the old epoch beside the new one. A
    /// client that comes by an older epoch than that of `bundle` gets the bundle in-band; those connected now get it too,
    /// 3,200 a second, once it is valid. Connections stay, whatever becomes of the epoch they came by.
    pub fn replace_epochs(
        &mut self,
        now: Now,
        epochs: Vec<RelayEpoch>,
        bundle: Option<Bundle>,
    ) -> Result<(), EpochsError> {
        let admission = self.admission.as_mut().ok_or(EpochsError::NotARelay)?;
        admission.replace_epochs(epochs, bundle, &mut self.routes)?;
        let from_ms = admission.epochs.news_from_ms();
        self.rotation.announcing = from_ms.and_then(|from| Some((0, moment(now, from)?)));
        self.note_epochs(now);
        Ok(())
    }

    /// Replaces the rule for who may enter. Connections and half-open handshakes of those it shuts out end at once, the
    /// former with [`crate::code::ACCESS_REVOKED`]; poll afterwards. Walks all connections.
    pub fn replace_access(&mut self, now: Now, access: Access) {
        let Some(admission) = &mut self.admission else {
            return;
        };
        admission.replace_access(access, &mut self.routes);
        self.enforce_access(now);
    }

    /// Takes these clients out of the rule for who may enter, and ends what they have as [`Endpoint::replace_access`] does.
    pub fn revoke(&mut self, now: Now, clients: &[ClientId]) {
        let Some(admission) = &mut self.admission else {
            return;
        };
        let mut access = admission.access().clone();
        access.revoke(clients);
        self.replace_access(now, access);
    }

    fn enforce_access(&mut self, now: Now) {
        let Some(admission) = &self.admission else { return };
        let access = admission.access();
        let shut_out = |(slot, occupant): (u32, &Occupant)| match occupant {
            Occupant::Live(connection, _) => {
                let leaves = !lets_in(access, connection.peer()) && !connection.is_closed();
                leaves.then_some(slot)
            }
            Occupant::Free | Occupant::Dial(_) => None,
        };
        let slots: Vec<u32> = self.slab.iter().filter_map(shut_out).collect();
        self.watch.stats.revoked += slots.len() as u64;
        for slot in slots {
            if let Some(connection) = self.slab.connection(slot) {
                connection.revoke(now.instant);
            }
            self.slab.mark(slot);
        }
    }

    /// The bundle a client that knows `epoch` should have.
    pub(super) fn tell_news(&mut self, now: Now, slot: u32) {
        if let Some(admission) = &self.admission
            && let Some(connection) = self.slab.connection(slot)
        {
            offer(connection, admission, now);
        }
    }

    // --- time ---

    /// When something of this is due.
    pub(super) fn next_rotation(&mut self, now: Now) -> Option<(Instant, Why)> {
        if !self.rotation.noted {
            self.note_epochs(now);
        }
        let announce = self.rotation.announcing.map(|(_, at)| at);
        let keys = self
            .admission
            .as_ref()
            .and_then(|admission| admission.tickets.next_rotation(now));
        let next = [announce, self.rotation.epoch_ends, keys]
            .into_iter()
            .flatten()
            .min();
        next.map(|at| (at, Why::Rotation))
    }

    /// Does what of this is due.
    pub(super) fn rotate(&mut self, now: Now) {
        if self.rotation.epoch_ends.is_some_and(|at| at <= now.instant) {
            if let Some(admission) = &mut self.admission {
                admission.retire(now, &mut self.routes);
            }
            self.note_epochs(now);
        }
        if let Some(admission) = &mut self.admission {
            admission.tickets.rotate(now, &mut *self.entropy);
        }
        if let Some((next, _)) = self.rotation.announcing.take_if(|(_, at)| *at <= now.instant) {
            let next = self.announce(now, next);
            let every = ANNOUNCE_EVERY * self.routes.workers();
            self.rotation.announcing = next.map(|next| (next, now.instant + every));
        }
    }

    /// Offers the new bundle to some; where to go on.
    fn announce(&mut self, now: Now, from: u32) -> Option<u32> {
        let admission = self.admission.as_ref()?;
        let mut told = Vec::new();
        let mut next = None;
        for (looked, (slot, occupant)) in self.slab.iter_mut_from(from).enumerate() {
            if looked >= LOOKED_AT_ONCE || told.len() >= ANNOUNCED_AT_ONCE {
                next = Some(slot);
                break;
            }
            if let Occupant::Live(connection, _) = occupant
                && offer(connection, admission, now)
            {
                told.push(slot);
            }
        }
        for slot in told {
            self.slab.mark(slot);
        }
        next
    }

    /// The end the wall clock gives the oldest epoch becomes a deadline; asked again when it passes, so that a clock that was
    /// set in between changes little.
    fn note_epochs(&mut self, now: Now) {
        let end = self
            .admission
            .as_ref()
            .and_then(|admission| admission.epochs.next_end_ms());
        self.rotation.epoch_ends = end.and_then(|end| moment(now, end));
        self.rotation.noted = true;
    }
}

/// When the wall clock will show `unix_ms`; at least in a moment, so that a clock set back does not make us spin.
fn moment(now: Now, unix_ms: u64) -> Option<Instant> {
    let left = Duration::from_millis(unix_ms.saturating_sub(now.unix_ms));
    now.instant.checked_add(left)
}

fn offer(connection: &mut Connection, admission: &Admission, now: Now) -> bool {
    let epoch = connection.client_epoch();
    let news = epoch.and_then(|epoch| admission.epochs.news_for(epoch, now));
    news.is_some_and(|(epoch, bytes)| connection.offer_bundle(epoch, bytes))
}
