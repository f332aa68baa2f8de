//! What happened, for whoever wants to watch. Nothing here changes what the engine does.
#![forbid(unsafe_code)]

use crate::config::Now;
use crate::error::{By, CloseReason};
use crate::handle::Handle;
use crate::path::{PathId, PathReason, PathState};
use transport_reliability::EcnState;

/// Watches an endpoint. Called in the midst of work: it must be quick and must not block.
pub trait Observer {
    /// Something happened.
    fn on_event(&mut self, now: Now, event: &Event<'_>) {
        let _ = (now, event);
    }
}

/// One thing that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A datagram, or a message in it, was dropped.
    Dropped {
        /// Why.
        reason: DropReason,
        /// The connection, when it is known.
        connection: Option<Handle>,
        /// Its length in bytes.
        len: usize,
    },
    /// A client sent its first message, or sent it again.
    HelloSent {
        /// The connection to be.
        connection: Handle,
        /// How many times it went out now.
        attempt: u32,
    },
    /// A relay answered a first message, or answered again.
    HelloAnswered {
        /// A copy of an answer given before.
        again: bool,
    },
    /// A relay asks strangers for a token from now on, or no longer.
    CookieMode {
        /// From now on.
        on: bool,
    },
    /// A relay asked one for a token.
    RetrySent,
    /// A client was asked for a token, and sends its first message again with it.
    RetryReceived {
        /// The connection to be.
        connection: Handle,
    },
    /// A relay told a client that it will not serve it.
    HandshakeRefused {
        /// The code it was told.
        code: u64,
    },
    /// A connection stands.
    Connected {
        /// The connection.
        connection: Handle,
    },
    /// The peer is known to have the keys.
    Confirmed {
        /// The connection.
        connection: Handle,
    },
    /// A packet left.
    PacketSent {
        /// The connection.
        connection: Handle,
        /// Its number.
        number: u64,
        /// Bytes of UDP payload.
        size: usize,
        /// The peer must acknowledge it.
        eliciting: bool,
    },
    /// A packet was opened.
    PacketReceived {
        /// The connection.
        connection: Handle,
        /// Its number.
        number: u64,
        /// Bytes of UDP payload.
        size: usize,
    },
    /// Packets were declared lost.
    PacketsLost {
        /// The connection.
        connection: Handle,
        /// How many.
        count: usize,
    },
    /// Of its batches only the first packets arrive: the host cuts them badly, or the path takes no bursts. Packets leave one by one
    /// from now on.
    BatchesStopped {
        /// The connection.
        connection: Handle,
        /// The path.
        path: PathId,
    },
    /// Keys changed.
    KeysUpdated {
        /// The connection.
        connection: Handle,
        /// Who began.
        by: By,
    },
    /// The peer speaks from a new address, which is being asked for a proof.
    PathChallenged {
        /// The connection.
        connection: Handle,
        /// The new address.
        remote: std::net::SocketAddr,
    },
    /// The new address proved itself; everything goes there now.
    PathSwitched {
        /// The connection.
        connection: Handle,
        /// The new address.
        remote: std::net::SocketAddr,
    },
    /// A path was opened, works, is suspect, or is over.
    PathStateChanged {
        /// The connection.
        connection: Handle,
        /// Which path.
        path: PathId,
        /// How it stands.
        state: PathState,
        /// Why.
        reason: PathReason,
    },
    /// The largest UDP payload sent changed.
    MtuChanged {
        /// The connection.
        connection: Handle,
        /// Bytes.
        mtu: u16,
    },
    /// It became clear whether the path carries ECN marks.
    EcnChanged {
        /// The connection.
        connection: Handle,
        /// What is known now.
        ecn: EcnState,
    },
    /// The peer sees this end's packets come from another address than before.
    AddressObserved {
        /// The connection.
        connection: Handle,
        /// The path it is about.
        path: PathId,
        /// The address.
        address: std::net::SocketAddr,
    },
    /// The peer named an address it may be reached at.
    CandidateAdded {
        /// The connection.
        connection: Handle,
        /// The address.
        address: std::net::SocketAddr,
    },
    /// The peer took an address back.
    CandidateRemoved {
        /// The connection.
        connection: Handle,
        /// The address.
        address: std::net::SocketAddr,
    },
    /// An attempt at a direct path begins.
    PunchBegun {
        /// The connection.
        connection: Handle,
        /// Its number.
        round: u64,
        /// The path that shall become one.
        path: PathId,
    },
    /// It came to nothing: no address answered, or none took packets of full size.
    PunchFailed {
        /// The connection.
        connection: Handle,
        /// Its number.
        round: u64,
    },
    /// Data go to the peer without a detour from now on.
    DirectChosen {
        /// The connection.
        connection: Handle,
        /// The path.
        path: PathId,
        /// Where it leads.
        remote: std::net::SocketAddr,
        /// Its round trip.
        rtt: std::time::Duration,
    },
    /// They no longer do.
    DirectLeft {
        /// The connection.
        connection: Handle,
        /// The path that was left.
        path: PathId,
        /// Why.
        reason: PathReason,
    },
    /// The connection is over.
    Closed {
        /// The connection.
        connection: Handle,
        /// Why.
        reason: &'a CloseReason,
    },
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Why something that arrived was dropped. Never an error: a counter and an [`Event`].
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(usize)]
        pub enum DropReason { $($(#[$doc])* $name,)+ }

        impl DropReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// A stable name, for reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than any packet, or longer than any this endpoint takes.
    Length = "length",
    /// Neither a connection id of ours nor an envelope made with our keys.
    Unknown = "unknown",
    /// Looked like an envelope of ours, but did not open.
    EnvelopeForged = "envelope_forged",
    /// An envelope of a kind this side does not take.
    EnvelopeKind = "envelope_kind",
    /// The sender's clock is too far off, or the datagram is old.
    Stale = "stale",
    /// The same envelope came before.
    EnvelopeReplayed = "envelope_replayed",
    /// In cookie mode: a fragment without a token; its sender was asked for one, as far as the rate allows.
    RetryRequired = "retry_required",
    /// The same with a token that is not ours, too old, or of another handshake or address.
    TokenInvalid = "token_invalid",
    /// No room to put fragments together, or too many from one place.
    ReassemblyFull = "reassembly_full",
    /// A fragment that contradicts those before it.
    FragmentMismatch = "fragment_mismatch",
    /// More hellos than there is time for: from one place, or altogether; then the one that has waited longest.
    /// As a client: more RETRYs than are answered at once.
    Overload = "overload",
    /// The same hello came before, and is not to be answered again.
    HelloReplayed = "hello_replayed",
    /// A hello that does not read.
    HelloInvalid = "hello_invalid",
    /// A ticket that is forged, too old, of another relay or not that client's.
    TicketInvalid = "ticket_invalid",
    /// Early data that is not taken: not offered by its ticket, too old, or perhaps a copy.
    EarlyRejected = "early_rejected",
    /// Early data beyond what is kept for a hello that is not complete, or beyond what its ticket allows.
    EarlyBuffer = "early_buffer",
    /// A client that is not on the list.
    AccessDenied = "access_denied",
    /// A new hello found no room for another half-open connection: the oldest of them was let go.
    HalfOpenFull = "half_open_full",
    /// Another answer would exceed three times what the client sent.
    Amplification = "amplification",
    /// An answer that does not belong to any handshake of ours, or does not read.
    AnswerInvalid = "answer_invalid",
    /// A packet that came before.
    Replay = "replay",
    /// A packet that does not open.
    Forged = "forged",
    /// A packet from an address the relay does not have.
    WrongAddress = "wrong_address",
    /// For a path that was not opened.
    PathUnopened = "path_unopened",
    /// An older wish about a path than one that came before.
    PathStatusOld = "path_status_old",
    /// For a connection that is closing.
    Closing = "closing",
    /// The stream is in too many pieces; the peer sends it again.
    Refused = "refused",
    /// The application does not take datagram messages as fast as they come.
    DatagramQueueFull = "datagram_queue_full",
    /// A message of the connection itself that nobody asked for.
    ControlUnasked = "control_unasked",
    /// A bundle that is forged, another relay's, not valid now or not newer; or too many of them came.
    BundleRefused = "bundle_refused",
    /// An address the peer named that may not get packets, one more than are kept, or an attempt more than are taken part in.
    AddressRefused = "address_refused",
    /// A packet of another worker's connection, which has more of them waiting than it takes.
    ForwardFull = "forward_full",
    /// Another worker handed it over by its id, but the connection is no longer here.
    ForwardUnknown = "forward_unknown",
}

/// How many of what were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// How many for one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|reason| (*reason, self.get(*reason)))
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds those of another endpoint.
    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    fn count(&mut self, reason: DropReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// The observer, and the counters of drops, on loan to whoever works at the moment.
pub(crate) struct Tracer<'a> {
    pub(crate) now: Now,
    pub(crate) connection: Option<Handle>,
    pub(crate) observer: Option<&'a mut (dyn Observer + Send + 'static)>,
    pub(crate) drops: &'a mut Drops,
}

impl Tracer<'_> {
    /// Tells what happened to the connection at work.
    pub(crate) fn tell<'e>(&mut self, event: impl FnOnce(Handle) -> Event<'e>) {
        if let (Some(observer), Some(handle)) = (self.observer.as_mut(), self.connection) {
            observer.on_event(self.now, &event(handle));
        }
    }

    /// Tells what happened where no connection exists yet.
    pub(crate) fn tell_endpoint(&mut self, event: &Event<'_>) {
        if let Some(observer) = self.observer.as_mut() {
            observer.on_event(self.now, event);
        }
    }

    /// Counts and tells a drop.
    pub(crate) fn dropped(&mut self, reason: DropReason, len: usize) {
        self.drops.count(reason);
        let connection = self.connection;
        self.tell_endpoint(&Event::Dropped {
            reason,
            connection,
            len,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_by_themselves() {
        let mut drops = Drops::default();
        for (times, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, times);
            (0..times).for_each(|_| drops.count(*reason));
        }
        assert!(
            drops
                .iter()
                .enumerate()
                .all(|(times, (_, count))| count == times as u64)
        );
    }
}
