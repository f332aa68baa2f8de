//! A running relay's keys: renewed at half of the bundle's validity, forgotten when their bundle has ended.

use std::time::Duration;

use crate::{
    config::Identity,
    exit::{Code, Context, Outcome},
    keyring::{self, KeyRing, Paths},
    output,
};

/// The clock is looked at this often: it may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_mins(15);

/// What became of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// There are other keys to serve with than before.
    Keys,
}

/// The keys a relay serves with, and when they change.
pub(super) struct Rotation {
    paths: Paths,
    enabled: bool,
    ring: KeyRing,
}

impl Rotation {
    /// Reads the files. Says whether they will be renewed.
    pub(super) fn new(identity: &Identity) -> Outcome<Self> {
        let paths = identity.paths();
        let ring = KeyRing::load(&paths)?;
        let enabled = identity.rotate && may_rotate(&paths);
        Ok(Self { paths, enabled, ring })
    }

    pub(super) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// When the next pair will be made, Unix seconds; nothing if nobody makes one.
    pub(super) fn due(&self) -> Option<u64> {
        self.enabled.then(|| self.ring.due())
    }

    /// How long nothing needs to be done.
    pub(super) fn pause(&self, now: u64) -> Duration {
        let due = self
            .due()
            .map_or(LOOK, |due| Duration::from_secs(due.saturating_sub(now)));
        // Never at once: what failed is not tried again in a circle.
        due.clamp(Duration::from_secs(5), LOOK)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: u64) -> Change {
        let mut change = Change::None;
        match self.ring.forget_expired(&self.paths, now) {
            Ok(false) => {}
            Ok(true) => change = Change::Keys,
            Err(failure) => {
                change = Change::Keys;
                tracing::warn!(%failure, "expired keys are no longer used, but could not be removed from the file");
            }
        }
        if self.due().is_none_or(|due| now < due) {
            return change;
        }
        match self.renew(now) {
            Ok(()) => Change::Keys,
            Err(failure) => {
                output::complain(&format!(
                    "the static keys are due, but were not renewed: {failure}"
                ));
                change
            }
        }
    }

    /// Takes the keys another program made meanwhile, or makes the next ones.
    fn renew(&mut self, now: u64) -> Outcome {
        let there = KeyRing::load(&self.paths)?;
        self.ring = if there.bundle.epoch() > self.ring.bundle.epoch() {
            there
        } else {
            KeyRing::rotate(&self.paths, now, false)?
        };
        let bundle = &self.ring.bundle;
        tracing::info!(
            epoch = bundle.epoch(),
            not_after = bundle.not_after(),
            "new static keys"
        );
        Ok(())
    }

    /// Reads the files again.
    pub(super) fn reload(&mut self, identity: &Identity, now: u64) -> Outcome<Change> {
        let paths = identity.paths();
        let ring = KeyRing::load(&paths)?;
        crate::bundle::check(&ring.bundle, Some(&self.ring.relay_id()))
            .or_fail(Code::Auth, paths.bundle.display())?;
        let same = ring.bundle.bytes() == self.ring.bundle.bytes()
            && ring.previous.is_some() == self.ring.previous.is_some();
        self.enabled = identity.rotate && may_rotate(&paths);
        (self.paths, self.ring) = (paths, ring);
        Ok(match self.tick(now) {
            Change::None if same => Change::None,
            _ => Change::Keys,
        })
    }
}

fn may_rotate(paths: &Paths) -> bool {
    match keyring::writable(paths) {
        Ok(()) => {
            tracing::info!("the static keys are renewed at half of the bundle's validity");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "key and bundle cannot be written: the static keys are not renewed; run `adit bundle rotate`");
            false
        }
    }
}
