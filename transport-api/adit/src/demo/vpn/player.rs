//! A process of the demo: what it says, and its end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use transport_api::now;

use crate::exit::{Code, Context, Failure, Outcome};

/// Whoever has not said what is waited for by now, or not ended, does not.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(5);

pub(super) struct Player {
    who: &'static str,
    child: Child,
    lines: Receiver<String>,
    /// Its last line, which says why it ended.
    last: String,
}

/// This program.
pub(super) fn program() -> Outcome<PathBuf> {
    std::env::current_exe().or_fail(Code::Failed, "finding this program")
}

impl Player {
    /// Starts it with its state in `folder`, and without what the environment says about other relays.
    pub(super) fn start(who: &'static str, command: &mut Command, folder: &Path) -> Outcome<Self> {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ADIT_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .env("ADIT_STATE_DIR", folder.join(who))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .or_fail(Code::Failed, who)?;
        let (heard, lines) = channel();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            listen(out, heard.clone())?;
            listen(err, heard)?;
        }
        Ok(Self {
            who,
            child,
            lines,
            last: String::new(),
        })
    }

    /// Its process, as its parent sees it.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line.
    pub(super) fn say(&mut self, line: &str) -> Outcome {
        let Some(input) = self.child.stdin.as_mut() else {
            return Ok(());
        };
        writeln!(input, "{line}").or_fail(Code::Failed, self.who)
    }

    /// Waits for a line with `word` in it.
    pub(super) fn expect(&mut self, word: &str) -> Outcome<String> {
        let begin = now().instant;
        while let Some(left) = PATIENCE.checked_sub(now().instant - begin) {
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(word) => return Ok(line),
                Ok(line) => self.last = line,
                Err(_) => break,
            }
        }
        Err(self.failure(word))
    }

    /// Why it did not say `word`; a privilege that it lacks is ours.
    fn failure(&mut self, word: &str) -> Failure {
        let code = self
            .child
            .try_wait()
            .ok()
            .flatten()
            .and_then(|status| status.code());
        Failure {
            code: if code == Some(Code::Privilege as i32) {
                Code::Privilege
            } else {
                Code::Failed
            },
            message: format!(
                "the demo's {} did not say {word:?}: {}",
                self.who,
                self.last.trim_start_matches("adit: ")
            ),
        }
    }

    /// Ends it as Ctrl-C does; its exit code, if it ended by itself.
    pub(super) fn interrupt(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        // Who is gone needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let begin = now().instant;
        while now().instant - begin < PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            thread::park_timeout(STEP);
        }
        None
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(from: impl Read + Send + 'static, heard: Sender<String>) -> Outcome {
    let hear = move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if heard.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("listen".into())
        .spawn(hear)
        .or_fail(Code::Failed, "thread")?;
    Ok(())
}
