//! What this machine remembers of a relay: its newest bundle, the highest epoch, tickets.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use transport_api::{Bundle, RelayId};

use crate::{
    exit::{Code, Outcome, fail},
    files::{self, replace},
};

/// The folder all state is in: `${ADIT_STATE_DIR:-$XDG_STATE_HOME/adit}`.
pub(crate) fn root() -> PathBuf {
    set("ADIT_STATE_DIR")
        .or_else(|| set("XDG_STATE_HOME").map(|home| home.join("adit")))
        .or_else(|| set("HOME").map(|home| home.join(".local/state/adit")))
        .unwrap_or_else(|| PathBuf::from(".adit"))
}

/// A path in the environment; empty is as good as none.
pub(crate) fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// What this machine remembers of one relay.
#[derive(Clone)]
pub(crate) struct State {
    folder: PathBuf,
}

/// Holds the state of one relay against other processes until it is dropped.
pub(crate) struct Held(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl State {
    /// The folder of `relay`.
    pub(crate) fn of(relay: &RelayId) -> Self {
        Self {
            folder: root().join(relay.to_string()),
        }
    }

    /// A folder of this test.
    #[cfg(test)]
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A file of this relay's state.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Waits until no other process changes this relay's state. The folder, which nobody else may open, is the lock.
    pub(crate) fn hold(&self) -> io::Result<Held> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let folder = File::open(&self.folder)?;
        folder.lock()?;
        Ok(Held(folder))
    }

    /// The newer of `given` and the bundle stored. A bundle older than the highest epoch seen is refused.
    pub(crate) fn choose(&self, given: Bundle) -> Outcome<Bundle> {
        let highest = self.highest_epoch();
        let newest = match self.stored() {
            Some(stored) if stored.relay_id() == given.relay_id() && stored.epoch() > given.epoch() => stored,
            _ => given,
        };
        if newest.epoch() < highest {
            let why = format!(
                "bundle: epoch {} is older than {highest}, which this machine has seen; fetch the relay's newest bundle",
                newest.epoch()
            );
            return fail(Code::Auth, why);
        }
        Ok(newest)
    }

    /// The bundle stored. A damaged one is as good as none: the epoch beside it still stands.
    fn stored(&self) -> Option<Bundle> {
        let path = self.bundle_path();
        let bytes = fs::read(&path).ok()?;
        let parsed = files::parse_bundle(&bytes, &path.display().to_string());
        parsed
            .inspect_err(|failure| tracing::warn!(%failure, "the stored bundle is not used"))
            .ok()
    }

    /// Remembers a bundle that a relay proved to be its own. One that is older than what is known changes nothing.
    pub(crate) fn remember(&self, bundle: &Bundle) -> io::Result<()> {
        let _held = self.hold()?;
        if bundle.epoch() < self.highest_epoch() {
            return Ok(());
        }
        if fs::read(self.bundle_path()).is_ok_and(|stored| stored == bundle.bytes()) {
            return self.remember_epoch(bundle.epoch());
        }
        replace(&self.bundle_path(), 0o600, bundle.bytes())?;
        self.remember_epoch(bundle.epoch())
    }

    fn remember_epoch(&self, epoch: u64) -> io::Result<()> {
        if epoch <= self.highest_epoch() {
            return Ok(());
        }
        replace(&self.file("epoch"), 0o600, epoch.to_string().as_bytes())
    }

    fn highest_epoch(&self) -> u64 {
        let text = fs::read_to_string(self.file("epoch")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn bundle_path(&self) -> PathBuf {
        self.file("relay.bundle")
    }
}

#[cfg(test)]
mod tests {
    use transport_api::{BundleDraft, OsEntropy, RelayIdentity, RelayStatics};

    use super::*;

    fn bundles(epochs: &[u64]) -> Vec<Bundle> {
        let identity = RelayIdentity::generate(&mut OsEntropy).unwrap();
        let bundle = |epoch: &u64| {
            let draft = BundleDraft {
                epoch: *epoch,
                not_before: 0,
                not_after: 1000,
                endpoints: Vec::new(),
            };
            let statics = RelayStatics::generate(&mut OsEntropy).unwrap();
            Bundle::parse(&identity.sign_bundle(&draft, &statics).unwrap()).unwrap()
        };
        epochs.iter().map(bundle).collect()
    }

    fn state(name: &str) -> State {
        let folder = std::env::temp_dir().join(format!("adit-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        State::at(folder)
    }

    #[test]
    fn the_newest_bundle_wins_and_the_epoch_never_goes_back() {
        let (state, bundles) = (state("newest"), bundles(&[1, 3, 2]));
        state.remember(&bundles[0]).unwrap();
        state.remember(&bundles[1]).unwrap();
        state.remember(&bundles[2]).unwrap();
        assert_eq!(state.choose(bundles[0].clone()).unwrap().epoch(), 3);
        assert_eq!(fs::read_to_string(state.file("epoch")).unwrap(), "3");
    }

    #[test]
    fn a_damaged_bundle_is_not_used_and_the_epoch_still_stands() {
        let (state, bundles) = (state("damaged"), bundles(&[1, 3, 4]));
        state.remember(&bundles[1]).unwrap();
        fs::write(state.file("relay.bundle"), b"ADB1").unwrap();
        assert_eq!(
            state.choose(bundles[0].clone()).unwrap_err().code,
            Code::Auth,
            "an epoch once seen"
        );
        assert_eq!(state.choose(bundles[2].clone()).unwrap().epoch(), 4);
        state.remember(&bundles[2]).unwrap();
        assert_eq!(state.choose(bundles[1].clone()).unwrap().epoch(), 4);
    }
}
