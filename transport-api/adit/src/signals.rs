//! Signals as a value that can be waited for.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use signal_hook::{consts, iterator::Signals as Iterator};

use crate::exit::{Code, Context, Outcome};

/// What the outside asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM: finish what runs.
    Drain,
    /// SIGINT: stop.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// A listener for SIGTERM, SIGINT and SIGHUP.
pub(crate) struct Signals(Receiver<Signal>);

impl Signals {
    /// Takes the signals over from their defaults.
    pub(crate) fn listen() -> Outcome<Self> {
        let watched = [consts::SIGTERM, consts::SIGINT, consts::SIGHUP];
        let mut signals = Iterator::new(watched).or_fail(Code::Failed, "signals")?;
        let (sender, receiver) = mpsc::channel();
        let forward = move || {
            for number in signals.forever() {
                let signal = match number {
                    consts::SIGTERM => Signal::Drain,
                    consts::SIGHUP => Signal::Reload,
                    _ => Signal::Stop,
                };
                if sender.send(signal).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(forward)
            .or_fail(Code::Failed, "signals")?;
        Ok(Self(receiver))
    }

    /// The next signal within `limit`, if one comes.
    pub(crate) fn wait_for(&self, limit: Duration) -> Option<Signal> {
        match self.0.recv_timeout(limit) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Signal::Stop),
        }
    }
}
