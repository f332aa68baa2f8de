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
    /// What failed is not tried again before this second.
    not_before: u64,
}

impl Rotation {
    /// Reads the files. Says whether they will be renewed.
    pub(super) fn new(identity: &Identity) -> Outcome<Self> {
        let paths = identity.paths();
        let ring = KeyRing::load(&paths)?;
        let enabled = identity.rotate && may_rotate(&paths);
        Ok(Self {
            paths,
            enabled,
            ring,
            not_before: 0,
        })
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
        let wait = |due: u64| Duration::from_secs(due.saturating_sub(now));
        self.next_try()
            .map_or(LOOK, wait)
            .clamp(Duration::from_secs(1), LOOK)
    }

    fn next_try(&self) -> Option<u64> {
        self.due().map(|due| due.max(self.not_before))
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
        if self.next_try().is_none_or(|due| now < due) {
            return change;
        }
        match self.renew(now) {
            Ok(()) => Change::Keys,
            Err(failure) => {
                self.not_before = now + LOOK.as_secs();
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{init, keyring::RelayKeys};

    #[test]
    fn keys_are_renewed_when_due_and_a_failure_is_not_repeated_at_once() {
        let folder = std::env::temp_dir().join(format!("adit-rotation-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let identity = Identity {
            key: folder.join("identity.key"),
            bundle: folder.join("relay.bundle"),
            rotate: true,
        };
        let keys = RelayKeys::generate().unwrap();
        keys.create(&identity.key).unwrap();
        let bundle = keys.bundle(init::bundle_endpoint("127.0.0.1", 9)).unwrap();
        fs::write(&identity.bundle, &bundle).unwrap();
        let mut rotation = Rotation::new(&identity).unwrap();
        let due = rotation.due().unwrap();
        assert_eq!(rotation.tick(due - 1), Change::None);
        assert_eq!(rotation.pause(due - 60), Duration::from_mins(1));
        // The file is gone for a while: the relay goes on with what it has.
        fs::rename(&identity.key, folder.join("away")).unwrap();
        assert_eq!(rotation.tick(due), Change::None);
        assert_eq!(rotation.pause(due), LOOK);
        fs::rename(folder.join("away"), &identity.key).unwrap();
        assert_eq!(rotation.tick(due + 1), Change::None, "not yet");
        assert_eq!(rotation.tick(due + LOOK.as_secs()), Change::Keys);
        let epochs = |rotation: &Rotation| -> Vec<u64> {
            rotation.ring().epochs().iter().map(|one| one.epoch).collect()
        };
        assert_eq!(epochs(&rotation), [2, 1]);
        // The next pair waits until the first one's bundle has ended: two are alive at most.
        let over = rotation.ring().previous.as_ref().unwrap().not_after + 601;
        assert_eq!(rotation.tick(over - 1), Change::None);
        assert_eq!(rotation.tick(over), Change::Keys);
        assert_eq!(epochs(&rotation), [3, 2]);
    }
}
