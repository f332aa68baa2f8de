//! What an embedder hears of tunnels, for bills and logs.

use std::fmt;
use std::time::Duration;

use super::grant::TenantId;
use super::hook::Protocol;
use crate::Peer;
use crate::masque::Target;

/// Hears of every tunnel, from its opening to its end. Called on the relay's thread, between packets: it must not block. Whoever
/// writes to a disk or asks a database hands a copy to a thread of its own, through a queue with a bound.
pub trait Accountant: Send + Sync + 'static {
    /// Something happened to a tunnel.
    fn on_event(&self, event: &AccountingEvent<'_>);
}

/// A function listens.
impl<F: Fn(&AccountingEvent<'_>) + Send + Sync + 'static> Accountant for F {
    fn on_event(&self, event: &AccountingEvent<'_>) {
        self(event);
    }
}

/// What happened to a tunnel. Figures are from its opening on; they add up to the relay's
/// [`Snapshot`](super::Snapshot), as both are counted in one place.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AccountingEvent<'a> {
    /// What happened.
    pub kind: EventKind,
    /// The tunnel's number; no other tunnel of this process has it.
    pub tunnel: u64,
    /// The session's number.
    pub session: u64,
    /// What it carries.
    pub protocol: Protocol,
    /// On whose account.
    pub tenant: Option<TenantId>,
    /// Who asked for it.
    pub peer: &'a Peer,
    /// Where it leads, if [`RelayConfig::account_targets`](super::RelayConfig::account_targets) asks for that; IP and bound
    /// tunnels lead to many.
    pub target: Option<&'a Target>,
    /// Since when it is open.
    pub open_for: Duration,
    /// What it carried.
    pub carried: Carried,
    /// What it lost.
    pub drops: TunnelDrops,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The tunnel is open: the client gets its 2xx.
    Opened,
    /// It is still open.
    Interim,
    /// It has ended. Every tunnel that was opened ends once.
    Closed(TunnelEnd),
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TunnelEnd {
    /// Both sides had no more to say, or the client closed it.
    Finished,
    /// The client gave up, or its connection ended.
    Client,
    /// The target reset or refused.
    Target,
    /// The client broke the protocol.
    Fault,
    /// Nothing was carried for long.
    Idle,
    /// The time it was granted is over.
    Lifetime,
    /// The bytes it was granted are spent.
    Bytes,
    /// The bytes of its tenant are spent.
    Quota,
    /// The relay ended.
    Relay,
}

impl TunnelEnd {
    /// A word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Client => "client",
            Self::Target => "target",
            Self::Fault => "fault",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Bytes => "bytes",
            Self::Quota => "quota",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for TunnelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a tunnel carried. TCP has no packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carried {
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes to the client.
    pub bytes_down: u64,
    /// Packets from the client.
    pub packets_up: u64,
    /// Packets to the client.
    pub packets_down: u64,
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// Too large to send on.
    TooLarge,
    /// The next hop's queue was full.
    QueueFull,
    /// Beyond a rate of the session, the tunnel or the tenant.
    Rate,
    /// Before the answer to the request, beyond what is kept for it.
    Early,
    /// Not well-formed.
    Malformed,
    /// From an address that is not the client's.
    Source,
    /// To or from where routes or policy do not let it pass.
    Policy,
    /// The system would not send it there.
    Refused,
    /// From a sender without a context, where the client of a bound tunnel keeps strangers out.
    NoContext,
    /// On a context that nobody registered.
    UnknownContext,
}

impl DropCause {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::TooLarge,
        Self::QueueFull,
        Self::Rate,
        Self::Early,
        Self::Malformed,
        Self::Source,
        Self::Policy,
        Self::Refused,
        Self::NoContext,
        Self::UnknownContext,
    ];

    /// A word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::QueueFull => "queue_full",
            Self::Rate => "rate",
            Self::Early => "early",
            Self::Malformed => "malformed",
            Self::Source => "source",
            Self::Policy => "policy",
            Self::Refused => "refused",
            Self::NoContext => "no_context",
            Self::UnknownContext => "unknown_context",
        }
    }
}

/// Packets of one tunnel that were dropped, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelDrops([u64; DropCause::ALL.len()]);

impl TunnelDrops {
    /// Those dropped for this cause.
    pub fn get(&self, cause: DropCause) -> u64 {
        self.0.get(cause as usize).copied().unwrap_or_default()
    }

    /// All causes with their figures.
    pub fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> + '_ {
        DropCause::ALL.into_iter().zip(self.0)
    }

    pub(super) fn add(&mut self, cause: DropCause, n: u64) {
        if let Some(count) = self.0.get_mut(cause as usize) {
            *count += n;
        }
    }
}
