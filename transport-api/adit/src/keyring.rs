//! A relay's key file with its bundle: read, renewed with overlap, and whole again after a crash at any step.
//!
//! ```text
//! identity.key   PEM, mode 0600: ADIT RELAY KEY       identity seeds 64 ‖ static seeds 96 (those of relay.bundle)
//!                then, after a rotation: ADIT RELAY PREVIOUS   epoch u64 ‖ not_after u64 ‖ static seeds 96
//! relay.bundle   the newest bundle, for clients
//! ```
//!
//! A rotation writes `relay.bundle.next`, replaces `identity.key` (this is the moment it happens) and renames the bundle.
//! Whoever reads a key that fits `relay.bundle.next` finishes the work; one that fits nothing was never used.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, OsEntropy, RelayEpoch, RelayId, RelayIdentity, RelayStatics,
};
use zeroize::Zeroizing;

use crate::{
    exit::{Code, Context, Outcome, fail},
    files,
};

/// How long a bundle is valid from the day it is made.
pub(crate) const VALIDITY: Duration = Duration::from_hours(30 * 24);
/// Clocks of clients may be behind by this much.
pub(crate) const CLOCK_MARGIN: Duration = Duration::from_hours(1);
/// A pair is kept this much longer than its bundle, for clients whose clock is behind.
const FORGET_MARGIN_S: u64 = 600;
/// PEM label of the pair before the present one.
const PREVIOUS_LABEL: &str = "ADIT RELAY PREVIOUS";
/// Attempts to hold a key file that is being replaced.
const HOLD_ATTEMPTS: usize = 16;

/// A relay's secrets.
pub(crate) struct RelayKeys {
    pub(crate) identity: RelayIdentity,
    pub(crate) statics: RelayStatics,
}

impl RelayKeys {
    pub(crate) fn generate() -> Outcome<Self> {
        Ok(Self {
            identity: RelayIdentity::generate(&mut OsEntropy).or_fail(Code::Failed, "random source")?,
            statics: new_statics()?,
        })
    }

    /// A bundle of the first epoch for one address.
    pub(crate) fn bundle(&self, endpoint: BundleEndpoint) -> Outcome<Vec<u8>> {
        let now = unix_now();
        let draft = BundleDraft {
            epoch: 1,
            not_before: now.saturating_sub(CLOCK_MARGIN.as_secs()),
            not_after: now + VALIDITY.as_secs(),
            endpoints: vec![endpoint],
        };
        self.identity
            .sign_bundle(&draft, &self.statics)
            .or_fail(Code::Config, "bundle")
    }

    /// The text of a key file.
    fn encode(&self, previous: Option<&Previous>) -> Outcome<Zeroizing<String>> {
        let mut seeds = Zeroizing::new([0; 160]);
        seeds[..64].copy_from_slice(self.identity.seeds().expose());
        seeds[64..].copy_from_slice(self.statics.seeds().expose());
        let first = files::encode_key(files::RELAY_LABEL, &*seeds)?;
        let Some(previous) = previous else {
            return Ok(first);
        };
        let mut seeds = Zeroizing::new([0; 112]);
        seeds[..8].copy_from_slice(&previous.epoch.to_be_bytes());
        seeds[8..16].copy_from_slice(&previous.not_after.to_be_bytes());
        seeds[16..].copy_from_slice(previous.statics.seeds().expose());
        let second = files::encode_key(PREVIOUS_LABEL, &*seeds)?;
        Ok(Zeroizing::new([first.as_str(), second.as_str()].concat()))
    }

    /// Writes a new key file, refusing to overwrite.
    pub(crate) fn create(&self, path: &Path) -> Outcome {
        files::create(path, 0o600, self.encode(None)?.as_bytes())
    }
}

/// The pair before the present one, while its bundle is valid.
#[derive(Clone)]
pub(crate) struct Previous {
    pub(crate) epoch: u64,
    /// The last second of its bundle, Unix seconds.
    pub(crate) not_after: u64,
    pub(crate) statics: RelayStatics,
}

impl Previous {
    fn is_over(&self, now: u64) -> bool {
        now > self.forgotten_after()
    }

    fn forgotten_after(&self) -> u64 {
        self.not_after.saturating_add(FORGET_MARGIN_S)
    }
}

/// Where a relay's key and bundle are.
#[derive(Clone)]
pub(crate) struct Paths {
    pub(crate) key: PathBuf,
    pub(crate) bundle: PathBuf,
}

/// A relay's key file and what belongs to it.
pub(crate) struct KeyRing {
    pub(crate) keys: RelayKeys,
    /// Of `keys.statics`.
    pub(crate) bundle: Bundle,
    pub(crate) previous: Option<Previous>,
}

impl KeyRing {
    /// Reads key and bundle, and finishes a rotation that was interrupted.
    pub(crate) fn load(paths: &Paths) -> Outcome<Self> {
        let (keys, previous) = read_key(&paths.key)?;
        let bundle = fitting_bundle(paths, &keys)?;
        Ok(Self {
            keys,
            bundle,
            previous,
        })
    }

    pub(crate) fn relay_id(&self) -> RelayId {
        self.keys.identity.relay_id()
    }

    /// What a relay answers: the present pair, and the previous one while there is one.
    pub(crate) fn epochs(&self) -> Vec<RelayEpoch> {
        let previous = self.previous.as_ref().map(|previous| RelayEpoch {
            statics: previous.statics.clone(),
            epoch: previous.epoch,
            not_after_s: previous.not_after,
        });
        let present = RelayEpoch::of(&self.bundle, self.keys.statics.clone());
        [present].into_iter().chain(previous).collect()
    }

    /// The second from which new keys are due: half of the bundle's validity, but not while two pairs are alive.
    pub(crate) fn due(&self) -> u64 {
        let (from, to) = (self.bundle.not_before(), self.bundle.not_after());
        let half = from + to.saturating_sub(from) / 2;
        let alone = self
            .previous
            .as_ref()
            .map_or(0, |previous| previous.forgotten_after() + 1);
        half.max(alone)
    }

    /// Makes the next pair and its bundle, and keeps the present pair as the previous one. Two pairs are alive at most: while
    /// there is a previous one, only `force` goes on, and clients that know only its bundle are left behind.
    pub(crate) fn rotate(paths: &Paths, now: u64, force: bool) -> Outcome<Self> {
        let _held = hold(&paths.key)?;
        let (keys, previous) = read_key(&paths.key)?;
        let present = fitting_bundle(paths, &keys).or_else(|_| newest_bundle(paths, &keys))?;
        if let Some(previous) = previous.filter(|previous| !previous.is_over(now) && !force) {
            return fail(
                Code::Failed,
                format!(
                    "the keys of epoch {} are still in use until {} (unix seconds), and clients that know only them would meet \
                     silence; wait, or give --force",
                    previous.epoch,
                    previous.forgotten_after()
                ),
            );
        }
        // A key that fits no bundle (restored from a copy) has no clients to keep.
        let fits = present.kh() == keys.statics.kh();
        let previous = Previous {
            epoch: present.epoch(),
            not_after: present.not_after(),
            statics: keys.statics.clone(),
        };
        let previous = Some(previous).filter(|previous| fits && !previous.is_over(now));
        let next = RelayKeys {
            identity: keys.identity,
            statics: new_statics()?,
        };
        let bundle = next_bundle(&next, &present, now)?;
        let shown = paths.key.display();
        files::replace(&next_path(paths), 0o644, bundle.bytes()).or_fail(Code::Config, &shown)?;
        files::replace(&paths.key, 0o600, next.encode(previous.as_ref())?.as_bytes())
            .or_fail(Code::Config, &shown)?;
        files::rename(&next_path(paths), &paths.bundle).or_fail(Code::Config, &shown)?;
        Ok(Self {
            keys: next,
            bundle,
            previous,
        })
    }

    /// Forgets the previous pair, here and in the file, once its bundle is no longer valid. True: it did.
    pub(crate) fn forget_expired(&mut self, paths: &Paths, now: u64) -> Outcome<bool> {
        if !self
            .previous
            .as_ref()
            .is_some_and(|previous| previous.is_over(now))
        {
            return Ok(false);
        }
        self.previous = None;
        let _held = hold(&paths.key)?;
        let (keys, on_disk) = read_key(&paths.key)?;
        if on_disk.is_some_and(|previous| previous.is_over(now)) {
            files::replace(&paths.key, 0o600, keys.encode(None)?.as_bytes())
                .or_fail(Code::Config, paths.key.display())?;
        }
        Ok(true)
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_now() -> u64 {
    transport_api::now().unix_ms / 1000
}

/// Whether the files can be replaced where they are; why not.
pub(crate) fn writable(paths: &Paths) -> io::Result<()> {
    for path in [&paths.key, &paths.bundle] {
        let probe = files::beside(path, &format!(".probe{}", std::process::id()));
        files::remove_if_there(&probe)?;
        File::create_new(&probe)?;
        fs::remove_file(&probe)?;
    }
    Ok(())
}

fn new_statics() -> Outcome<RelayStatics> {
    RelayStatics::generate(&mut OsEntropy).or_fail(Code::Failed, "random source")
}

fn next_path(paths: &Paths) -> PathBuf {
    files::beside(&paths.bundle, ".next")
}

/// As long as the present bundle, with its addresses.
fn next_bundle(next: &RelayKeys, present: &Bundle, now: u64) -> Outcome<Bundle> {
    let not_before = now.saturating_sub(CLOCK_MARGIN.as_secs());
    let validity = present.not_after().saturating_sub(present.not_before());
    let draft = BundleDraft {
        epoch: present.epoch() + 1,
        not_before,
        not_after: not_before + validity,
        endpoints: present.endpoints().to_vec(),
    };
    let signed = next.identity.sign_bundle(&draft, &next.statics);
    Bundle::parse(&signed.or_fail(Code::Config, "bundle")?).or_fail(Code::Failed, "the bundle just made")
}

fn read_key(path: &Path) -> Outcome<(RelayKeys, Option<Previous>)> {
    let blocks = files::read_blocks(path)?;
    let (first, rest) = blocks
        .split_first()
        .unwrap_or_else(|| unreachable!("a key file has one block at least"));
    let seeds = first.seeds::<160>(path, files::RELAY_LABEL)?;
    let keys = RelayKeys {
        identity: RelayIdentity::from_seeds(part(&*seeds, 0)),
        statics: RelayStatics::from_seeds(part(&*seeds, 64)),
    };
    let previous = match rest {
        [] => None,
        [block] => {
            let seeds = block.seeds::<112>(path, PREVIOUS_LABEL)?;
            Some(Previous {
                epoch: u64::from_be_bytes(part(&*seeds, 0)),
                not_after: u64::from_be_bytes(part(&*seeds, 8)),
                statics: RelayStatics::from_seeds(part(&*seeds, 16)),
            })
        }
        more => {
            let shown = path.display();
            return fail(
                Code::Config,
                format!("{shown}: {} previous pairs, wanted one at most", more.len()),
            );
        }
    };
    Ok((keys, previous))
}

/// `N` bytes of a block whose length is known.
fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}

/// The bundle of the key's statics: `relay.bundle`, or the next one of an interrupted rotation, which becomes it.
fn fitting_bundle(paths: &Paths, keys: &RelayKeys) -> Outcome<Bundle> {
    let present = newest_bundle(paths, keys)?;
    if present.kh() == keys.statics.kh() {
        return Ok(present);
    }
    let shown = paths.bundle.display();
    if let Ok(next) = files::read_bundle(&next_path(paths))
        && next.kh() == keys.statics.kh()
        && next.relay_id() == keys.identity.relay_id()
    {
        match files::rename(&next_path(paths), &paths.bundle) {
            Ok(()) => tracing::info!(epoch = next.epoch(), "an interrupted rotation was finished"),
            Err(error) => tracing::warn!(%error, "{shown} is old, and could not be replaced"),
        }
        return Ok(next);
    }
    fail(
        Code::Config,
        format!(
            "{shown}: its keys are not those of {}; restore the file that belongs to it, or run `adit bundle rotate`",
            paths.key.display()
        ),
    )
}

/// `relay.bundle`, which must be of this relay.
fn newest_bundle(paths: &Paths, keys: &RelayKeys) -> Outcome<Bundle> {
    let bundle = files::read_bundle(&paths.bundle)?;
    let relay_id = keys.identity.relay_id();
    if bundle.relay_id() == relay_id {
        return Ok(bundle);
    }
    let shown = paths.bundle.display();
    fail(
        Code::Config,
        format!(
            "{shown}: is of relay {}, the key of {relay_id}",
            bundle.relay_id()
        ),
    )
}

/// Holds a key file against other writers. The file is replaced, not rewritten: a lock on one that is no longer there says
/// nothing. Nobody else may open it, so nobody else can hold it.
fn hold(key: &Path) -> Outcome<File> {
    let shown = key.display();
    for _ in 0..HOLD_ATTEMPTS {
        let file = File::open(key).or_fail(Code::Config, &shown)?;
        file.lock().or_fail(Code::Config, &shown)?;
        let held = file.metadata().or_fail(Code::Config, &shown)?;
        let there = fs::metadata(key).or_fail(Code::Config, &shown)?;
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(file);
        }
    }
    fail(
        Code::Failed,
        format!("{shown}: other programs replace it again and again"),
    )
}

#[cfg(test)]
mod tests;
