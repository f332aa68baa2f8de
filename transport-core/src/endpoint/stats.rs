//! What an endpoint counts.
#![forbid(unsafe_code)]

use super::Endpoint;
use crate::config::ServerConfig;
use crate::trace::Drops;

/// Figures of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Connections that stand, closing ones included.
    pub connections: usize,
    /// Handshakes answered whose client has not yet shown that it has the keys.
    pub half_open: usize,
    /// Handshakes begun as a client that are not over.
    pub dialing: usize,
    /// Handshakes answered since the start.
    pub handshakes_answered: u64,
    /// Connections since the start.
    pub handshakes_completed: u64,
    /// Of those, with a ticket.
    pub resumed: u64,
    /// Early flights taken: this relay's clients', or this client's.
    pub early_accepted: u64,
    /// Early flights not taken; their content came again.
    pub early_rejected: u64,
    /// Tickets given.
    pub tickets_issued: u64,
    /// Strangers must show a token before anything is remembered of them: there are too many of them.
    pub cookie_mode: bool,
    /// RETRYs sent since the start.
    pub retries_sent: u64,
    /// First messages of clients that are not yet complete.
    pub reassembling: usize,
    /// First messages that are complete and wait to be read.
    pub hellos_waiting: usize,
    /// Envelopes of strangers decrypted, whether they opened or not: what a flood costs at least.
    pub envelopes_tried: u64,
    /// First messages of clients read, one KEM decapsulation each, whether they were good or not.
    pub hellos_read: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// Claims that a packet was too big for the path, which were worth a probe; and those that proved nothing.
    pub size_hints: u64,
    /// See [`EndpointStats::size_hints`].
    pub size_hints_ignored: u64,
    /// Datagrams for connections of other [workers](crate::Worker), handed to those.
    pub forwarded: u64,
    /// What was dropped, by reason.
    pub drops: Drops,
    /// Connections closed because their client may no longer be here.
    pub revoked: u64,
    /// As a relay: the epochs that are answered, newest first.
    pub epochs: [Option<EpochStats>; ServerConfig::MAX_EPOCHS],
    /// As a relay: the bundle that clients get in-band.
    pub bundle: Option<EpochStats>,
}

/// An epoch or a bundle, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStats {
    /// Its number.
    pub epoch: u64,
    /// Its last second, Unix seconds.
    pub not_after_s: u64,
}

impl EndpointStats {
    /// Adds what another worker of the same relay counted. Epochs and bundle are the same for all.
    pub fn add(&mut self, other: &Self) {
        let Self {
            connections,
            half_open,
            dialing,
            handshakes_answered,
            handshakes_completed,
            resumed,
            early_accepted,
            early_rejected,
            tickets_issued,
            cookie_mode,
            retries_sent,
            reassembling,
            hellos_waiting,
            envelopes_tried,
            hellos_read,
            received_datagrams,
            received_bytes,
            size_hints,
            size_hints_ignored,
            forwarded,
            drops,
            revoked,
            epochs: _,
            bundle: _,
        } = self;
        let counters = [
            (handshakes_answered, other.handshakes_answered),
            (handshakes_completed, other.handshakes_completed),
            (resumed, other.resumed),
            (early_accepted, other.early_accepted),
            (early_rejected, other.early_rejected),
            (tickets_issued, other.tickets_issued),
            (retries_sent, other.retries_sent),
            (envelopes_tried, other.envelopes_tried),
            (hellos_read, other.hellos_read),
            (received_datagrams, other.received_datagrams),
            (received_bytes, other.received_bytes),
            (size_hints, other.size_hints),
            (size_hints_ignored, other.size_hints_ignored),
            (forwarded, other.forwarded),
            (revoked, other.revoked),
        ];
        for (count, more) in counters {
            *count += more;
        }
        let gauges = [
            (connections, other.connections),
            (half_open, other.half_open),
            (dialing, other.dialing),
            (reassembling, other.reassembling),
            (hellos_waiting, other.hellos_waiting),
        ];
        for (gauge, more) in gauges {
            *gauge += more;
        }
        *cookie_mode |= other.cookie_mode;
        drops.add(&other.drops);
    }
}

impl Endpoint {
    /// Counters and gauges.
    pub fn stats(&self) -> EndpointStats {
        let mut stats = EndpointStats {
            connections: self.slab.len().saturating_sub(self.dials.len()),
            dialing: self.dials.len(),
            ..self.watch.stats.clone()
        };
        if let Some(admission) = &self.admission {
            admission.report(&mut stats);
        }
        stats
    }
}
