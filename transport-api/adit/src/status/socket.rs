//! The relay's end: a local socket that answers one JSON document to whoever may open it, and closes.
//!
//! The caller may send one line, `sessions=N skip=N`; without it the defaults hold. One caller is served after another, on
//! a thread that does nothing else, and each has a few seconds.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::Value;
use transport_api::now;

use crate::files;

/// Sessions of one document at most.
pub(crate) const MAX_SESSIONS: usize = 1000;
/// Sessions of one document unless the caller says otherwise.
const SESSIONS: usize = 100;
/// Time for a caller to take its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time for a caller to say what it wants.
const HEARING: Duration = Duration::from_millis(250);
/// Longest request.
const MAX_REQUEST: usize = 128;
/// Pause when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// Which sessions a document lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many are passed over.
    pub(crate) skip: usize,
    /// How many are listed, at most [`MAX_SESSIONS`].
    pub(crate) sessions: usize,
}

impl Page {
    /// What is not understood is passed over.
    fn parse(request: &str) -> Self {
        let mut page = Self {
            skip: 0,
            sessions: SESSIONS,
        };
        for (key, value) in request.split_whitespace().filter_map(|word| word.split_once('=')) {
            match (key, value.parse()) {
                ("skip", Ok(skip)) => page.skip = skip,
                ("sessions", Ok(sessions)) => page.sessions = MAX_SESSIONS.min(sessions),
                _ => {}
            }
        }
        page
    }
}

/// A socket that is served until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Says that the socket has an owner; the system lets go of it whatever becomes of the process.
    _lock: File,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Stale sockets are recognised.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens `path` with mode 0600 and answers with `document`. A socket another process serves is left alone; one whose owner
/// is gone is taken over.
pub(crate) fn serve(path: &Path, document: impl Fn(Page) -> Value + Send + 'static) -> io::Result<Socket> {
    let lock = own(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is not a socket is in the way",
            ));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = private(|| UnixListener::bind(path))?;
    let socket = Socket {
        path: path.to_path_buf(),
        _lock: lock,
    };
    let work = move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = answer(stream, &document) {
                        tracing::debug!(%error, "a status request");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "status socket");
                    thread::park_timeout(PAUSE);
                }
            }
        }
    };
    thread::Builder::new().name("status".into()).spawn(work)?;
    Ok(socket)
}

/// The folder of a default path is made; private, as the socket is.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(files::folder_of(path))
}

/// Two relays never serve one path: whoever holds the lock beside it does.
fn own(path: &Path) -> io::Result<File> {
    let lock = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(files::beside(path, ".lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another relay serves this socket",
        )),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Files made meanwhile are this user's alone, from the first moment.
fn private<T>(make: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let made = make();
    #[cfg(target_os = "linux")]
    rustix::process::umask(before);
    made
}

fn answer(mut stream: UnixStream, document: &impl Fn(Page) -> Value) -> io::Result<()> {
    let page = Page::parse(&request(&mut stream)?);
    let mut text = document(page).to_string();
    text.push('\n');
    let (until, mut rest) = (now().instant + PATIENCE, text.as_bytes());
    while !rest.is_empty() {
        let left = until.saturating_duration_since(now().instant);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        let written = stream.write(rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// The caller's line, or what came of it in time.
fn request(stream: &mut UnixStream) -> io::Result<String> {
    let until = now().instant + HEARING;
    let mut line = Vec::new();
    let mut buffer = [0; MAX_REQUEST];
    while line.len() < MAX_REQUEST && !line.contains(&b'\n') {
        let left = until.saturating_duration_since(now().instant);
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => line.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn path(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("adit-socket-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder.join("s")
    }

    fn ask(path: &Path, request: &str) -> Value {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn echo(page: Page) -> Value {
        json!([page.skip, page.sessions])
    }

    #[test]
    fn one_document_for_each_caller_whatever_it_says() {
        let path = path("answer");
        let _socket = serve(&path, echo).unwrap();
        assert_eq!(ask(&path, "sessions=7 skip=3\n"), json!([3, 7]));
        assert_eq!(ask(&path, ""), json!([0, SESSIONS]));
        assert_eq!(ask(&path, "sessions=100000 skip=x\n"), json!([0, MAX_SESSIONS]));
        assert_eq!(ask(&path, &"z".repeat(MAX_REQUEST)), json!([0, SESSIONS]));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_socket_in_use_is_not_taken_and_a_stale_one_is() {
        let path = path("own");
        let first = serve(&path, |_| json!("first")).unwrap();
        let error = serve(&path, |_| json!("second")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(ask(&path, "\n"), json!("first"));
        drop(first);
        assert!(!path.exists());
        // What a killed process leaves behind.
        drop(UnixListener::bind(&path).unwrap());
        let _second = serve(&path, |_| json!("second")).unwrap();
        assert_eq!(ask(&path, "\n"), json!("second"));
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let path = path("file");
        fs::write(&path, "precious").unwrap();
        assert!(serve(&path, echo).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_caller_that_does_not_read_is_let_go() {
        let path = path("stall");
        let _socket = serve(&path, |_| json!("x".repeat(4 << 20))).unwrap();
        let _stalled = UnixStream::connect(&path).unwrap();
        let began = now().instant;
        assert_eq!(ask(&path, "\n").as_str().unwrap().len(), 4 << 20);
        assert!(now().instant - began < PATIENCE + Duration::from_secs(3));
    }
}
