//! `adit status`: asks a running relay over its local socket.

mod socket;
mod table;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use transport_api::RelayId;

pub(crate) use socket::{Page, Socket, make_folder, serve};

use crate::{
    cli,
    config::Config,
    exit::{Code, Context, Failure, Outcome, fail},
    files, output,
    state::{self, set},
};

/// A relay that has not answered by now does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest document taken.
const MAX_DOCUMENT: u64 = 16 << 20;

pub(crate) fn run(options: &cli::Status, as_json: bool) -> Outcome {
    let path = match (&options.socket, &options.config) {
        (Some(path), _) => path.clone(),
        (None, Some(config)) => configured(config)?,
        (None, None) => the_only_one()?,
    };
    let request = format!("sessions={} skip={}\n", options.sessions, options.skip);
    let text = ask(&path, &request).map_err(|error| explain(&path, &error))?;
    let document: Value = serde_json::from_str(&text)
        .or_fail(Code::Failed, format!("{}: not a relay's answer", path.display()))?;
    if as_json {
        output::json_line(&document);
    } else {
        table::print(&document);
    }
    Ok(())
}

/// Where a relay's socket is unless its configuration says otherwise.
pub(crate) fn default_path(relay: &RelayId) -> PathBuf {
    let id = relay.to_string();
    folder().join(format!("{PREFIX}{}{SUFFIX}", id.get(..16).unwrap_or(&id)))
}

const PREFIX: &str = "status-";
const SUFFIX: &str = ".sock";

fn folder() -> PathBuf {
    set("ADIT_STATE_DIR")
        .or_else(|| set("XDG_RUNTIME_DIR").map(|folder| folder.join("adit")))
        .unwrap_or_else(state::root)
}

fn configured(path: &Path) -> Outcome<PathBuf> {
    let config = Config::load(path)?;
    match config.status.socket {
        Some(socket) if socket.as_os_str().is_empty() => fail(
            Code::Config,
            format!("{}: [status] socket is \"\": this relay has none", path.display()),
        ),
        Some(socket) => Ok(socket),
        None => Ok(default_path(
            &files::read_bundle(&config.identity.bundle)?.relay_id(),
        )),
    }
}

/// The socket of the one relay that answers in the default folder.
fn the_only_one() -> Outcome<PathBuf> {
    let folder = folder();
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let named = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    });
    let mut alive: Vec<PathBuf> = named.filter(|path| UnixStream::connect(path).is_ok()).collect();
    alive.sort();
    match (alive.pop(), alive.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => fail(
            Code::Unreachable,
            format!(
                "no relay answers in {}; is one running as this user? Otherwise give --config FILE or --socket PATH",
                folder.display()
            ),
        ),
        (Some(last), more) => {
            let all: Vec<String> = more
                .iter()
                .chain([&last])
                .map(|path| path.display().to_string())
                .collect();
            fail(
                Code::Usage,
                format!("several relays run; give --socket with one of: {}", all.join(" ")),
            )
        }
    }
}

fn ask(path: &Path, request: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(MAX_DOCUMENT).read_to_string(&mut text)?;
    Ok(text)
}

fn explain(path: &Path, error: &io::Error) -> Failure {
    use io::ErrorKind::{ConnectionRefused, InvalidInput, NotFound, PermissionDenied};
    let shown = path.display();
    let (code, message) = match error.kind() {
        NotFound | ConnectionRefused => (
            Code::Unreachable,
            format!("{shown}: no relay answers here; is it running? ({error})"),
        ),
        PermissionDenied => (
            Code::Privilege,
            format!("{shown}: {error}; ask as the user the relay runs as, or as root"),
        ),
        InvalidInput => (Code::Config, format!("{shown}: {error}")),
        _ => (
            Code::Unreachable,
            format!("{shown}: the relay did not answer: {error}"),
        ),
    };
    Failure { code, message }
}
