//! Private keys as PEM of seeds with mode 0600, bundles, and the state kept for each relay.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use transport_api::{Bundle, BundleError, RelayId};

use crate::exit::{Code, Context, Outcome, fail};

/// PEM label of a relay's key file: identity seeds (64 bytes) and static seeds (96 bytes).
pub(crate) const RELAY_LABEL: &str = "ADIT RELAY KEY";
/// PEM label of a client's key file: seeds of its static keys (96 bytes).
pub(crate) const CLIENT_LABEL: &str = "ADIT CLIENT KEY";

/// Writes a new file with mode `mode`, refusing to overwrite.
pub(crate) fn create(path: &Path, mode: u32, bytes: &[u8]) -> Outcome {
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = match file {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return fail(
                Code::Config,
                format!(
                    "{}: exists already; move it away or choose another --dir",
                    path.display()
                ),
            );
        }
        file => file.or_fail(Code::Config, path.display())?,
    };
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .or_fail(Code::Config, path.display())
}

/// Writes a private key as PEM, mode 0600, refusing to overwrite.
pub(crate) fn create_key(path: &Path, label: &str, seeds: &[u8]) -> Outcome {
    let text = pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, seeds)
        .or_fail(Code::Failed, path.display())?;
    create(path, 0o600, text.as_bytes())
}

/// Reads a private key of `N` seed bytes. A file that others may read is refused.
pub(crate) fn read_key<const N: usize>(path: &Path, label: &str) -> Outcome<[u8; N]> {
    let shown = path.display();
    let mode = fs::metadata(path)
        .or_fail(Code::Config, &shown)?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return fail(
            Code::Config,
            format!("{shown}: mode {mode:04o} lets others read this key; run: chmod 600 {shown}"),
        );
    }
    let text = fs::read(path).or_fail(Code::Config, &shown)?;
    let (found, seeds) =
        pem_rfc7468::decode_vec(&text).or_fail(Code::Config, format!("{shown}: not a PEM key"))?;
    if found != label {
        return fail(Code::Config, format!("{shown}: holds {found}, wanted {label}"));
    }
    let length = seeds.len();
    seeds.try_into().or_else(|_| {
        fail(
            Code::Config,
            format!("{shown}: {length} bytes of seed, wanted {N}"),
        )
    })
}

/// Reads a bundle and checks both of its signatures.
pub(crate) fn read_bundle(path: &Path) -> Outcome<Bundle> {
    let bytes = fs::read(path).or_fail(Code::Config, path.display())?;
    parse_bundle(&bytes, &path.display().to_string())
}

fn parse_bundle(bytes: &[u8], shown: &str) -> Outcome<Bundle> {
    Bundle::parse(bytes).map_err(|error| crate::exit::Failure {
        code: if matches!(error, BundleError::BadSignature) {
            Code::Auth
        } else {
            Code::Config
        },
        message: format!("{shown}: {error}"),
    })
}

/// What this machine remembers of one relay.
pub(crate) struct State {
    folder: PathBuf,
}

impl State {
    /// The folder of `relay` under `${ADIT_STATE_DIR:-$XDG_STATE_HOME/adit}`.
    pub(crate) fn of(relay: &RelayId) -> Self {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = set("ADIT_STATE_DIR")
            .or_else(|| set("XDG_STATE_HOME").map(|home| home.join("adit")))
            .or_else(|| set("HOME").map(|home| home.join(".local/state/adit")))
            .unwrap_or_else(|| PathBuf::from(".adit"));
        Self {
            folder: root.join(relay.to_string()),
        }
    }

    /// The newer of `given` and the bundle stored. A bundle older than the highest epoch seen is refused.
    pub(crate) fn choose(&self, given: Bundle) -> Outcome<Bundle> {
        let stored = match fs::read(self.bundle_path()) {
            Ok(bytes) => Some(parse_bundle(&bytes, &self.bundle_path().display().to_string())?),
            Err(_) => None,
        };
        let highest = self.highest_epoch();
        let newest = match stored {
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

    /// Remembers a bundle that a relay proved to be its own.
    pub(crate) fn remember(&self, bundle: &Bundle) -> io::Result<()> {
        if bundle.epoch() < self.highest_epoch() {
            return Ok(());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        replace(&self.bundle_path(), bundle.bytes())?;
        replace(&self.epoch_path(), bundle.epoch().to_string().as_bytes())
    }

    fn highest_epoch(&self) -> u64 {
        let text = fs::read_to_string(self.epoch_path()).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn bundle_path(&self) -> PathBuf {
        self.folder.join("relay.bundle")
    }

    fn epoch_path(&self) -> PathBuf {
        self.folder.join("epoch")
    }
}

/// Replaces a file whole: readers see the old or the new, never a part.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("adit-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_key_comes_back_and_is_never_overwritten() {
        let path = folder("key").join("client.key");
        create_key(&path, CLIENT_LABEL, &[7; 96]).unwrap();
        assert_eq!(read_key::<96>(&path, CLIENT_LABEL).unwrap(), [7; 96]);
        assert_eq!(
            create_key(&path, CLIENT_LABEL, &[8; 96]).unwrap_err().code,
            Code::Config
        );
        assert_eq!(read_key::<96>(&path, CLIENT_LABEL).unwrap(), [7; 96]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let path = folder("mode").join("client.key");
        create_key(&path, CLIENT_LABEL, &[7; 96]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let failure = read_key::<96>(&path, CLIENT_LABEL).unwrap_err();
        assert!(failure.message.contains("chmod 600") && failure.code == Code::Config);
    }

    #[test]
    fn a_key_of_another_kind_or_length_is_refused() {
        let path = folder("kind").join("relay.key");
        create_key(&path, RELAY_LABEL, &[7; 160]).unwrap();
        assert!(
            read_key::<96>(&path, CLIENT_LABEL)
                .unwrap_err()
                .message
                .contains("wanted ADIT CLIENT KEY")
        );
        assert!(
            read_key::<96>(&path, RELAY_LABEL)
                .unwrap_err()
                .message
                .contains("160 bytes")
        );
    }
}
