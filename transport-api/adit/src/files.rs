//! Private keys as PEM of seeds with mode 0600, bundles, and files that are replaced whole.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use transport_api::{Bundle, BundleError};
use zeroize::Zeroizing;

use crate::exit::{Code, Context, Outcome, fail};

/// PEM label of a relay's key file: identity seeds (64 bytes) and static seeds (96 bytes).
pub(crate) const RELAY_LABEL: &str = "ADIT RELAY KEY";
/// PEM label of a client's key file: seeds of its static keys (96 bytes).
pub(crate) const CLIENT_LABEL: &str = "ADIT CLIENT KEY";
/// How a PEM block begins.
const BEGIN: &str = "-----BEGIN ";
/// PEM blocks of one key file at most.
const MAX_BLOCKS: usize = 4;

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
    create(path, 0o600, encode_key(label, seeds)?.as_bytes())
}

/// One PEM block of secret bytes.
pub(crate) fn encode_key(label: &str, seeds: &[u8]) -> Outcome<Zeroizing<String>> {
    pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, seeds)
        .map(Zeroizing::new)
        .or_fail(Code::Failed, label)
}

/// Reads a private key of `N` seed bytes. A file that others may read is refused.
pub(crate) fn read_key<const N: usize>(path: &Path, label: &str) -> Outcome<Zeroizing<[u8; N]>> {
    match &read_blocks(path)?[..] {
        [block] => block.seeds(path, label),
        blocks => fail(
            Code::Config,
            format!("{}: holds {} keys, wanted one", path.display(), blocks.len()),
        ),
    }
}

/// One PEM block of a key file.
pub(crate) struct Block {
    label: String,
    bytes: Zeroizing<Vec<u8>>,
}

impl Block {
    /// The block's `N` bytes, if it is what `label` says.
    pub(crate) fn seeds<const N: usize>(&self, path: &Path, label: &str) -> Outcome<Zeroizing<[u8; N]>> {
        let (shown, found) = (path.display(), &self.label);
        if found != label {
            return fail(Code::Config, format!("{shown}: holds {found}, wanted {label}"));
        }
        let length = self.bytes.len();
        match self.bytes.as_slice().try_into() {
            Ok(seeds) => Ok(Zeroizing::new(seeds)),
            Err(_) => fail(
                Code::Config,
                format!("{shown}: {length} bytes of seed, wanted {N}"),
            ),
        }
    }
}

/// The PEM blocks of a key file, at least one. A file that others may read is refused.
pub(crate) fn read_blocks(path: &Path) -> Outcome<Vec<Block>> {
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
    let text = Zeroizing::new(fs::read_to_string(path).or_fail(Code::Config, &shown)?);
    let starts: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let blocks: Vec<&str> = match &starts[..] {
        // What is no PEM at all is told by the decoder.
        [] => vec![text.as_str()],
        _ => starts
            .iter()
            .zip(ends)
            .map(|(from, to)| &text[*from..to])
            .collect(),
    };
    if blocks.len() > MAX_BLOCKS {
        return fail(
            Code::Config,
            format!(
                "{shown}: {} keys; a key file holds at most {MAX_BLOCKS}",
                blocks.len()
            ),
        );
    }
    let decode = |block: &str| {
        let (label, bytes) = pem_rfc7468::decode_vec(block.as_bytes())
            .or_fail(Code::Config, format!("{shown}: not a PEM key"))?;
        let label = label.to_string();
        Ok(Block {
            label,
            bytes: Zeroizing::new(bytes),
        })
    };
    blocks.into_iter().map(decode).collect()
}

/// Reads a bundle and checks both of its signatures.
pub(crate) fn read_bundle(path: &Path) -> Outcome<Bundle> {
    let bytes = fs::read(path).or_fail(Code::Config, path.display())?;
    parse_bundle(&bytes, &path.display().to_string())
}

pub(crate) fn parse_bundle(bytes: &[u8], shown: &str) -> Outcome<Bundle> {
    Bundle::parse(bytes).map_err(|error| crate::exit::Failure {
        code: if matches!(error, BundleError::BadSignature) {
            Code::Auth
        } else {
            Code::Config
        },
        message: format!("{shown}: {error}"),
    })
}

/// Replaces a file whole and for good: readers, and a machine that loses power, see the old or the new, never a part.
/// Two writers of one file must hold a lock between them.
pub(crate) fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let (part, file) = part_of(path, mode, bytes)?;
    file.sync_all()?;
    rename(&part, path)
}

/// As [`replace`], but a machine that loses power may lose the file.
pub(crate) fn swap(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let (part, _) = part_of(path, mode, bytes)?;
    fs::rename(part, path)
}

fn part_of(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<(PathBuf, fs::File)> {
    let part = beside(path, ".part");
    remove_if_there(&part)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)?;
    file.write_all(bytes)?;
    Ok((part, file))
}

/// Renames within one folder, for good.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    fs::File::open(folder_of(to))?.sync_all()
}

/// Removes a file; that there is none is well.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `path` with something behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

/// The folder a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
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
        assert_eq!(*read_key::<96>(&path, CLIENT_LABEL).unwrap(), [7; 96]);
        assert_eq!(
            create_key(&path, CLIENT_LABEL, &[8; 96]).unwrap_err().code,
            Code::Config
        );
        assert_eq!(*read_key::<96>(&path, CLIENT_LABEL).unwrap(), [7; 96]);
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
