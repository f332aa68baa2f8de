//! Namespaces for the demo, and their end.

use std::{
    fs,
    io::{ErrorKind, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    cli,
    exit::{Code, Context, Outcome, fail},
    output,
    signals::Signals,
};

/// How often the demo and the outside are looked at.
const STEP: Duration = Duration::from_millis(20);
/// A cell that has been left alone is gone after at most this.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// For who may make namespaces, and for who may in a user namespace of their own.
const MEANS: [&[&str]; 2] = [
    &["--net", "--pid", "--fork", "--kill-child"],
    &[
        "--user",
        "--map-root-user",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
    ],
];

/// Plays the demo in a cell; ends with its exit code.
pub(super) fn run(options: &cli::Demo, json: bool) -> Outcome {
    let means = means()?;
    let folder = Folder::make()?;
    let signals = Signals::listen()?;
    let mut command = Command::new("unshare");
    command
        .args(means)
        .arg("--")
        .arg(super::player::program()?)
        .args(["demo", "--vpn", "--inside", "client", "--folder"])
        .arg(&folder.0)
        .args(options.quick.then_some("--quick"))
        .args(json.then_some("--json"))
        .stdin(Stdio::piped());
    if let Some(report) = &options.report {
        command.arg("--report").arg(report);
    }
    let mut cell = Cell(command.spawn().or_fail(Code::Failed, "unshare")?);
    let status = loop {
        if let Some(status) = cell.0.try_wait().or_fail(Code::Failed, "unshare")? {
            break status;
        }
        if signals.wait_for(STEP).is_some() {
            drop(cell);
            return fail(Code::Interrupted, "interrupted; what the demo made is removed");
        }
    };
    drop(folder);
    match status.code() {
        Some(0) => Ok(()),
        // It has said why.
        Some(code) => std::process::exit(code),
        None => fail(Code::Failed, format!("the demo's processes were ended: {status}")),
    }
}

/// Ends this process, the first of its cell and so the cell, when the one that waits outside is gone: that one holds the
/// other end of stdin, and may have been killed before it could remove `folder`.
pub(super) fn end_with_parent(folder: &Path) -> Outcome {
    let folder = Folder(folder.to_owned());
    let watch = move || {
        let mut nothing = [0];
        while std::io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
        drop(folder);
        std::process::exit(Code::Interrupted as i32);
    };
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(watch)
        .or_fail(Code::Failed, "thread")?;
    Ok(())
}

/// Which way to make namespaces works here.
fn means() -> Outcome<&'static [&'static str]> {
    for (program, package) in [("ip", "iproute2"), ("ping", "iputils")] {
        found(Command::new(program).arg("-V"), program, package)?;
    }
    let mut reason = String::new();
    for means in MEANS {
        let mut tried = Command::new("unshare");
        tried.args(means).args(["--", "true"]);
        match found(&mut tried, "unshare", "util-linux")? {
            None => return Ok(means),
            Some(said) => reason = said,
        }
    }
    fail(
        Code::Privilege,
        format!(
            "demo --vpn needs network namespaces: run it as root, or allow user namespaces (sysctl user.max_user_namespaces, \
             kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); {reason}"
        ),
    )
}

/// What a program that is wanted says when it fails.
fn found(command: &mut Command, program: &str, package: &str) -> Outcome<Option<String>> {
    match command.stdin(Stdio::null()).output() {
        Ok(done) if done.status.success() => Ok(None),
        Ok(done) => Ok(Some(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => fail(
            Code::Failed,
            format!("demo --vpn needs the program `{program}`: install {package}"),
        ),
        Err(error) => fail(Code::Failed, format!("{program}: {error}")),
    }
}

/// The processes of the demo.
struct Cell(Child);

impl Drop for Cell {
    fn drop(&mut self) {
        // The first process hears it and ends, and the kernel ends the rest before that is told here.
        drop(self.0.stdin.take());
        let begin = transport_api::now().instant;
        while matches!(self.0.try_wait(), Ok(None)) {
            if transport_api::now().instant - begin > LAST_WORDS {
                // It takes its child with it.
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            std::thread::park_timeout(STEP);
        }
    }
}

/// Keys, configuration and state of the demo.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("adit-demo-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .or_fail(Code::Failed, path.display())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Who comes second finds nothing.
        let removed = fs::remove_dir_all(&self.0);
        if let Err(error) = removed.or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }) {
            output::complain(&format!("{}: {error}", self.0.display()));
        }
    }
}
