//! Runs the built program as a user would.

use std::{
    io::{BufRead, BufReader, Read},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

/// The program, with its state in `folder`.
pub(crate) fn adit(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command
        .env("ADIT_STATE_DIR", folder.join("state"))
        .stdin(Stdio::null());
    command
}

/// Runs to the end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    adit(folder).args(arguments).output().expect("the program starts")
}

/// Runs and expects this exit code; what it said on stderr.
pub(crate) fn fails(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// Runs, expects success and one JSON object.
pub(crate) fn json(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = run(folder, arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{arguments:?}: {err}");
    serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

/// An empty folder of this test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("adit-test-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// A UDP port of loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind(("127.0.0.1", 0))
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port()
}

/// A relay's folder: keys, configuration with metrics off, bundle for 127.0.0.1.
pub(crate) fn init_relay(folder: &Path, access: &str) -> (PathBuf, u16) {
    let (relay, port) = (folder.join("relay"), free_port());
    let endpoint = format!("127.0.0.1:{port}");
    let arguments = [
        "init",
        "relay",
        "--dir",
        relay.to_str().unwrap(),
        "--endpoint",
        &endpoint,
        "--access",
        access,
        "--json",
    ];
    json(folder, &arguments);
    edit(
        &relay.join("relay.toml"),
        "listen = \"127.0.0.1:9464\"",
        "listen = \"\"",
    );
    edit(
        &relay.join("relay.toml"),
        "allow = []",
        "allow = [\"127.0.0.0/8\"]",
    );
    (relay, port)
}

/// Replaces text in a file; it must be there.
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("a file");
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replace(from, to)).expect("a file");
}

/// Waits until something holds; nothing tells one process what another has done.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = transport_api::now().instant;
    while !holds() {
        assert!(
            transport_api::now().instant - begin < Duration::from_secs(20),
            "still not: {what}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A program that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    /// Starts it and waits until a line of its stderr contains `ready`.
    pub(crate) fn start(mut command: Command, ready: &str) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if stderr.read_line(&mut line).expect("text") == 0 {
                let _ = child.kill();
                panic!("{command:?} ended without {ready:?}: {said}");
            }
            said.push_str(&line);
            if line.contains(ready) {
                break;
            }
        }
        let said = Arc::new(Mutex::new(said));
        let heard = Arc::clone(&said);
        // The program must not block on a full pipe.
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                heard.lock().expect("text").push_str(&line);
                line.clear();
            }
        });
        Self { child, said }
    }

    /// What it said on stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("text").clone()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("taken once")
    }

    /// Sends a signal by name and waits for the exit code.
    pub(crate) fn signal(mut self, name: &str) -> Option<i32> {
        self.send(name);
        self.child.wait().expect("a child").code()
    }

    /// Sends a signal by name.
    pub(crate) fn send(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .expect("kill")
                .success()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a program's output to its end.
pub(crate) fn read_all(mut out: ChildStdout) -> String {
    let mut text = String::new();
    out.read_to_string(&mut text).expect("text");
    text
}
