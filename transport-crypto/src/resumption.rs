//! From a finished handshake to the tickets of the next one.

use crate::{
    ClientId, ClientTicket, RelayId, Secret, Suite, TICKET_LEN, TicketContent, TicketFlags,
    kdf::{self, label},
    ticket::{MAX_TICKET_LIFETIME_S, static_tag},
};

/// What later connections of the same client are resumed from. Erased on drop: drop it when no more tickets are due.
pub struct Resumption {
    secret: Secret<32>,
    relay_id: RelayId,
    client_id: ClientId,
    enrolled: bool,
    suite: Suite,
    side: Side,
}

/// What only one side has.
pub(crate) enum Side {
    /// The throw-away key of an anonymous client.
    Client(Option<Secret<32>>),
    /// The tag of the client's static key.
    Relay([u8; 16]),
}

/// Whom the handshake was with.
pub(crate) struct Parties {
    pub(crate) relay_id: RelayId,
    pub(crate) client_id: ClientId,
    pub(crate) enrolled: bool,
    pub(crate) side: Side,
}

impl Side {
    pub(crate) fn relay(x25519: &[u8; 32]) -> Self {
        Self::Relay(static_tag(x25519))
    }
}

/// What a relay decides about a ticket.
#[derive(Clone, Copy, Debug, Default)]
pub struct TicketGrant {
    /// Number of the ticket, unique for the relay's sealing key.
    pub serial: u64,
    /// Unix seconds of the relay's clock.
    pub issued_s: u32,
    /// At most [`MAX_TICKET_LIFETIME_S`]; longer ones are cut.
    pub lifetime_s: u32,
    /// Bytes of early data it allows; 0 for none.
    pub max_early: u32,
    /// Who may accept early data with it.
    pub replay_domain: u32,
    /// The relay's own mark.
    pub policy: u16,
    /// Round-trip time, microseconds; 0 if unknown.
    pub rtt_us: u32,
    /// Bandwidth-delay product, bytes; 0 if unknown.
    pub bdp: u64,
    /// SHA-256 of the transport parameters the relay gave, first half.
    pub params_digest: [u8; 16],
}

/// A ticket as it came to the client.
#[derive(Clone, Copy)]
pub struct IssuedTicket<'a> {
    /// What the relay sealed.
    pub ticket: [u8; TICKET_LEN],
    /// Its number.
    pub serial: u64,
    /// Seconds it is good for; more than [`MAX_TICKET_LIFETIME_S`] is cut.
    pub lifetime_s: u32,
    /// Bytes of early data it allows; 0 for none.
    pub max_early: u32,
    /// Round-trip time so far, microseconds; 0 if unknown.
    pub rtt_us: u32,
    /// Unix seconds of the client's clock.
    pub now_s: u64,
    /// The relay's transport parameters, at most [`crate::MAX_PARAMS`] bytes.
    pub params: &'a [u8],
}

impl Resumption {
    pub(crate) fn new(secret: Secret<32>, suite: Suite, parties: Parties) -> Self {
        let Parties {
            relay_id,
            client_id,
            enrolled,
            side,
        } = parties;
        Self {
            secret,
            relay_id,
            client_id,
            enrolled,
            suite,
            side,
        }
    }

    /// The secret of the ticket with this number: `Expand(res, "tkt" ‖ serial)`.
    pub fn ticket_secret(&self, serial: u64) -> Secret<32> {
        kdf::expand(&self.secret, &[label::TICKET, &serial.to_be_bytes()])
    }

    /// Relay: what to seal into a ticket. `None` on a client.
    pub fn relay_content(&self, grant: &TicketGrant) -> Option<TicketContent> {
        let Side::Relay(static_tag) = self.side else {
            return None;
        };
        Some(TicketContent {
            flags: TicketFlags {
                early_ok: grant.max_early > 0,
                enrolled: self.enrolled,
            },
            policy: grant.policy,
            issued_s: grant.issued_s,
            lifetime_s: grant.lifetime_s.min(MAX_TICKET_LIFETIME_S),
            replay_domain: grant.replay_domain,
            rms: self.ticket_secret(grant.serial),
            client_id: self.client_id,
            params_digest: grant.params_digest,
            max_early: grant.max_early,
            rtt_us: grant.rtt_us,
            bdp: grant.bdp,
            serial: grant.serial,
            static_tag,
        })
    }

    /// Client: a ticket with what it takes to use it. `None` on a relay, and for parameters too long to be true.
    pub fn client_ticket(&self, issued: &IssuedTicket<'_>) -> Option<ClientTicket> {
        let Side::Client(throw_away) = &self.side else {
            return None;
        };
        (issued.params.len() <= crate::MAX_PARAMS).then(|| ClientTicket {
            relay_id: self.relay_id,
            ticket: issued.ticket,
            rms: self.ticket_secret(issued.serial),
            issued_s: issued.now_s,
            lifetime_s: issued.lifetime_s.min(MAX_TICKET_LIFETIME_S),
            max_early: issued.max_early,
            rtt_us: issued.rtt_us,
            client_id: self.client_id,
            throw_away: throw_away.as_ref().map(Secret::duplicate),
            params: issued.params.to_vec(),
            suite: self.suite,
        })
    }
}
