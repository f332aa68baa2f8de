//! Signals as a value that can be waited for.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    task::{Poll, Waker},
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
pub(crate) struct Signals {
    came: Receiver<Signal>,
    waiting: Arc<Mutex<Option<Waker>>>,
}

impl Signals {
    /// Takes the signals over from their defaults.
    pub(crate) fn listen() -> Outcome<Self> {
        let watched = [consts::SIGTERM, consts::SIGINT, consts::SIGHUP];
        let mut signals = Iterator::new(watched).or_fail(Code::Failed, "signals")?;
        let (sender, came) = mpsc::channel();
        let waiting: Arc<Mutex<Option<Waker>>> = Arc::default();
        let waits = Arc::clone(&waiting);
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
                let waker = waits.lock().unwrap_or_else(PoisonError::into_inner).take();
                waker.into_iter().for_each(Waker::wake);
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(forward)
            .or_fail(Code::Failed, "signals")?;
        Ok(Self { came, waiting })
    }

    /// The next signal, for a task; one at a time.
    pub(crate) async fn next(&self) -> Signal {
        poll_fn(|cx| {
            // Before looking: what comes now wakes.
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            self.wait_for(Duration::ZERO).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The next signal within `limit`, if one comes.
    pub(crate) fn wait_for(&self, limit: Duration) -> Option<Signal> {
        match self.came.recv_timeout(limit) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Signal::Stop),
        }
    }
}
