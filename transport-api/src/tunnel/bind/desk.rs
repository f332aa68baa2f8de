//! What the halves of a bind tunnel share: its contexts, and who is to be woken when capsules wait to be written.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::busy::Busy;
use crate::masque::bind::{Change, Contexts, OpenError, Outgoing};
use crate::masque::udp::UDP_CONTEXT;

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    /// What context 0 stands for.
    target: Option<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// `None`: the peer knows no bind, and there is context 0 alone.
    pub(super) contexts: Option<Contexts>,
    pub(super) busy: Option<Busy>,
    /// Who writes capsules.
    pub(super) writer: Option<Waker>,
}

impl Desk {
    pub(crate) fn new(target: Option<SocketAddr>, contexts: Option<Contexts>, busy: Option<Busy>) -> Self {
        Self {
            target,
            state: Mutex::new(State {
                contexts,
                busy,
                writer: None,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What context 0 stands for.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        self.target
    }

    /// Which context carries a packet to, for a relay from, `peer`.
    pub(crate) fn outgoing(&self, peer: SocketAddr) -> Option<Outgoing> {
        self.way(&self.state(), peer)
    }

    /// The same for a packet that is sent now: peers that are busy get contexts of their own.
    pub(super) fn outgoing_now(&self, peer: SocketAddr) -> Option<Outgoing> {
        let mut state = self.state();
        let opened = match &mut *state {
            State {
                contexts: Some(contexts),
                busy: Some(busy),
                ..
            } if self.target != Some(peer) => busy.note(crate::local::now(), peer, contexts),
            _ => false,
        };
        let way = self.way(&state, peer);
        let writer = if opened { state.writer.take() } else { None };
        drop(state);
        wake(writer);
        way
    }

    fn way(&self, state: &State, peer: SocketAddr) -> Option<Outgoing> {
        let chosen = state
            .contexts
            .as_ref()
            .and_then(|contexts| contexts.outgoing(peer));
        match chosen {
            Some(Outgoing::Compressed(_)) => chosen,
            // It needs no address, and is there at once.
            _ if self.target == Some(peer) => Some(Outgoing::Compressed(UDP_CONTEXT)),
            _ => chosen,
        }
    }

    /// Registers or closes contexts; the capsules leave when somebody receives.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Contexts, Option<&mut Busy>) -> T) -> Option<T> {
        let (result, writer) = {
            let mut state = self.state();
            let State {
                contexts,
                busy,
                writer,
                ..
            } = &mut *state;
            let result = change(contexts.as_mut()?, busy.as_mut());
            (result, writer.take())
        };
        wake(writer);
        Some(result)
    }

    /// Registers a context for `peer`, or the uncompressed one; none if there is one already.
    pub(super) fn open(&self, peer: Option<SocketAddr>) -> Result<(), OpenError> {
        let opened = self.change(|contexts, busy| {
            if let (Some(busy), Some(peer)) = (busy, peer) {
                // What is asked for by name is not closed for others.
                busy.forget(peer);
            }
            contexts.open(peer)
        });
        match opened {
            Some(Ok(_) | Err(OpenError::Exists(_) | OpenError::Uncompressed(Some(_)))) => Ok(()),
            Some(Err(error)) => Err(error),
            None => Err(OpenError::Uncompressed(None)),
        }
    }
}

impl State {
    /// Keeps the policy in step with what the peer did.
    pub(super) fn note(&mut self, change: &Change) {
        if let (Some(busy), Change::Closed(assign)) = (&mut self.busy, change) {
            busy.closed(crate::local::now(), assign.target);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
