//! Sockets of their own for connections of a relay. The kernel hands a lane what comes from its peer; everything else, and
//! so every flood, waits in the common socket and overflows there.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::engine::net::UdpSocket;
use crate::engine::{Handle, Joined, RecvBatch, Route};

/// Lanes at once; connections beyond share the common socket. Each is a file descriptor, of which a relay needs many.
const MAX_LANES: usize = 256;
/// A lane that was silent for so long may be taken over by another connection.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection gets a lane when it is this old: one of a few round trips would pay twenty system calls for nothing.
const YOUTH: Duration = Duration::from_millis(50);
/// Connections that are not that old, and wait. One more, and the oldest counts as grown up.
const MAX_NEWCOMERS: usize = 1024;

/// Connections without a lane that shall have one.
#[derive(Default)]
pub(super) struct Newcomers(VecDeque<(Instant, Handle)>);

impl Newcomers {
    /// The connection `handle` began.
    pub(super) fn add(&mut self, now: Instant, handle: Handle) {
        self.0.push_back((now, handle));
    }

    /// One that is old enough. It may be over by now, or have moved.
    pub(super) fn next(&mut self, now: Instant) -> Option<Handle> {
        let full = self.0.len() > MAX_NEWCOMERS;
        let grown_up =
            |(since, _): &mut (Instant, Handle)| full || now.saturating_duration_since(*since) >= YOUTH;
        self.0.pop_front_if(grown_up).map(|(_, handle)| handle)
    }
}

struct Lane {
    socket: UdpSocket,
    handle: Handle,
    /// It stands in the row of those to be read.
    readable: bool,
    heard: Instant,
}

/// All of them.
pub(super) struct Lanes {
    by_token: BTreeMap<usize, Lane>,
    by_handle: BTreeMap<Handle, usize>,
    ready: VecDeque<usize>,
    next: usize,
    /// The system refused one: it does not know how, or has no more descriptors.
    refused: bool,
}

impl Lanes {
    /// None yet; their tokens begin with `first`.
    pub(super) fn new(first: usize) -> Self {
        Self {
            by_token: BTreeMap::new(),
            by_handle: BTreeMap::new(),
            ready: VecDeque::new(),
            next: first,
            refused: false,
        }
    }

    /// One for the connection `handle`, instead of the one it had.
    pub(super) fn open(
        &mut self,
        now: Instant,
        registry: &Registry,
        common: &UdpSocket,
        handle: Handle,
        route: Route,
    ) {
        self.close(handle);
        if self.refused || (self.by_token.len() >= MAX_LANES && !self.make_room(now)) {
            return;
        }
        let token = self.next;
        match Self::bind(registry, common, route, token) {
            Ok(socket) => {
                self.next += 1;
                self.by_handle.insert(handle, token);
                let lane = Lane {
                    socket,
                    handle,
                    readable: false,
                    heard: now,
                };
                self.by_token.insert(token, lane);
            }
            Err(error) => {
                self.refused = true;
                tracing::info!(target: "adit::driver", %error, "connections share one socket");
            }
        }
    }

    fn bind(registry: &Registry, common: &UdpSocket, route: Route, token: usize) -> io::Result<UdpSocket> {
        let socket = common.lane(route)?;
        registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            Token(token),
            Interest::READABLE,
        )?;
        Ok(socket)
    }

    /// Closes the lane that was silent for longest, if that was long enough.
    fn make_room(&mut self, now: Instant) -> bool {
        let longest = self.by_token.values().min_by_key(|lane| lane.heard);
        let idle = longest.filter(|lane| now.saturating_duration_since(lane.heard) >= SILENCE);
        let handle = idle.map(|lane| lane.handle);
        handle.is_some_and(|handle| self.close(handle))
    }

    /// The connection is over, or somewhere else.
    pub(super) fn close(&mut self, handle: Handle) -> bool {
        let token = self.by_handle.remove(&handle);
        // A closed descriptor leaves the poll by itself.
        token.and_then(|token| self.by_token.remove(&token)).is_some()
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.by_token.clear();
        self.by_handle.clear();
        self.ready.clear();
    }

    /// Something came.
    pub(super) fn note(&mut self, token: usize) {
        if let Some(lane) = self.by_token.get_mut(&token)
            && !lane.readable
        {
            lane.readable = true;
            self.ready.push_back(token);
        }
    }

    /// Whether one has something.
    pub(super) fn has_input(&self) -> bool {
        !self.ready.is_empty()
    }

    /// One kernel batch from the lane whose turn it is. True: there may be more, in this one or another.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        slots: &mut RecvBatch,
        each: &mut dyn FnMut(Joined<'_>),
    ) -> bool {
        let Some(token) = self.ready.pop_front() else {
            return false;
        };
        if let Some(lane) = self.by_token.get_mut(&token) {
            // Any error ends this reading; the next readiness tells more.
            let read = lane.socket.recv_batch(slots).is_ok();
            lane.readable = read && !slots.is_drained();
            if lane.readable {
                self.ready.push_back(token);
            }
            if read {
                lane.heard = now;
                slots.joined().for_each(each);
            }
        }
        self.has_input()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn newcomers_wait_until_they_are_old_or_too_many() {
        let now = Instant::now();
        let mut newcomers = Newcomers::default();
        newcomers.add(now, Handle::NOBODY);
        newcomers.add(now + YOUTH / 2, Handle::NOBODY);
        assert_eq!(newcomers.next(now + YOUTH / 2), None);
        assert_eq!(newcomers.next(now + YOUTH), Some(Handle::NOBODY));
        assert_eq!(newcomers.next(now + YOUTH), None, "the second is younger");
        (0..MAX_NEWCOMERS).for_each(|_| newcomers.add(now + YOUTH, Handle::NOBODY));
        assert_eq!(newcomers.next(now + YOUTH), Some(Handle::NOBODY), "one too many");
        assert_eq!(newcomers.next(now + YOUTH), None);
    }
}
