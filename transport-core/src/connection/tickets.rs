//! Tickets: what a relay owes its client, and what a client was given.
//!
//! The connection knows when tickets are due, and brings them over; the endpoint makes them, for it has the keys.
#![forbid(unsafe_code)]

use std::fmt;

use transport_crypto::{ClientTicket, IssuedTicket, Resumption, TICKET_LEN};
use transport_scheduler::Side;

use super::content::Item;
use super::transmit::Draft;
use super::{Connection, Event};
use crate::config::Now;
use crate::wire::TransportParameters;
use crate::wire::frame::{Frame, NewTicket};

/// Tickets on their way to one client; while so many are not acknowledged no more are made.
const MAX_UNDER_WAY: usize = 8;
/// Tickets one connection takes from its relay.
const MAX_TAKEN: usize = 64;

/// A ticket that was just given. It is a secret: it can be taken out, and nothing of it is shown.
pub struct Ticket(pub Box<ClientTicket>);

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        self.0.ticket == other.0.ticket
    }
}

impl Eq for Ticket {}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

/// A ticket as the relay made it.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) serial: u64,
    pub(crate) lifetime_s: u32,
    pub(crate) max_early: u32,
    pub(crate) ticket: [u8; TICKET_LEN],
}

/// What is due, and what is under way.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    /// Owed once the client is confirmed; zero: this relay gives none.
    count: u8,
    /// To be made.
    due: u8,
    /// Not acknowledged, the oldest first, and whether they were sent.
    under_way: Vec<(Issued, bool)>,
    client: Option<Box<Taken>>,
}

/// What a client has.
#[derive(Debug)]
struct Taken {
    /// What the relay announced.
    params: Vec<u8>,
    /// The tickets it gave, by serial number.
    serials: Vec<u64>,
}

impl Tickets {
    /// `count` are owed at confirmation. A client remembers what the relay announced.
    pub(super) fn new(count: u8, side: Side, params: &TransportParameters) -> Self {
        let client = (side == Side::Client).then(|| {
            let mut remembered = Vec::new();
            // What came in the handshake can be written again.
            let _ = params.encode(&mut remembered);
            Box::new(Taken {
                params: remembered,
                serials: Vec::new(),
            })
        });
        Self {
            count,
            client,
            ..Self::default()
        }
    }

    pub(super) fn on_confirmed(&mut self) {
        self.due = self.count;
    }

    /// The client moved: the ticket it comes back with shall know the new place (and not be known from the old one).
    pub(super) fn on_new_path(&mut self) {
        self.due = self.due.saturating_add(u8::from(self.count > 0));
    }

    pub(super) fn has_ready(&self) -> bool {
        self.next().is_some()
    }

    /// The one to be sent next.
    fn next(&self) -> Option<&Issued> {
        self.under_way
            .iter()
            .find(|(_, sent)| !sent)
            .map(|(issued, _)| issued)
    }

    /// Whether `serial` was put into a packet that is not lost.
    fn mark(&mut self, serial: u64, now_sent: bool) {
        let found = self
            .under_way
            .iter_mut()
            .find(|(issued, _)| issued.serial == serial);
        if let Some((_, sent)) = found {
            *sent = now_sent;
        }
    }

    /// The client has it.
    pub(super) fn acked(&mut self, serial: u64) {
        self.under_way.retain(|(issued, _)| issued.serial != serial);
        if self.under_way.is_empty() {
            // Most connections are owed tickets once: the room for them is given back.
            self.under_way = Vec::new();
        }
    }

    /// The packet that carried it was lost.
    pub(super) fn again(&mut self, serial: u64) {
        self.mark(serial, false);
    }
}

impl Connection {
    /// What a ticket that is due is to be made from.
    pub(crate) fn tickets_due(&self) -> Option<&Resumption> {
        let tickets = &self.pending.tickets;
        let open = tickets.due > 0 && self.state.is_open() && tickets.under_way.len() < MAX_UNDER_WAY;
        let keys = self.keys.as_ref().filter(|_| open)?;
        Some(&keys.resumption)
    }

    /// A ticket was made, or cannot be: in either case it is no longer due.
    pub(crate) fn ticket_made(&mut self, issued: Option<Issued>) {
        let tickets = &mut self.pending.tickets;
        tickets.due = tickets.due.saturating_sub(1);
        tickets.under_way.extend(issued.map(|issued| (issued, false)));
    }

    pub(super) fn write_tickets(&mut self, draft: &mut Draft<'_>) {
        while let Some(issued) = self.pending.tickets.next() {
            let serial = issued.serial;
            let frame = Frame::NewTicket(NewTicket {
                serial,
                lifetime_s: issued.lifetime_s,
                max_early: issued.max_early,
                ticket: &issued.ticket,
            });
            if !draft.put(&frame, Some(Item::Ticket(serial))) {
                return;
            }
            self.pending.tickets.mark(serial, true);
        }
    }

    /// The relay gave a ticket.
    pub(super) fn on_ticket(&mut self, now: Now, frame: &NewTicket<'_>) {
        let Some(keys) = &self.keys else { return };
        let Some(client) = &mut self.pending.tickets.client else {
            return;
        };
        // A frame may come twice.
        if client.serials.len() >= MAX_TAKEN || client.serials.contains(&frame.serial) {
            return;
        }
        client.serials.push(frame.serial);
        let issued = IssuedTicket {
            ticket: *frame.ticket,
            serial: frame.serial,
            lifetime_s: frame.lifetime_s,
            max_early: frame.max_early,
            rtt_us: u32::try_from(self.paths.active.recovery.rtt().smoothed().as_micros()).unwrap_or(0),
            now_s: now.unix_ms / 1000,
            params: &client.params,
        };
        if let Some(ticket) = keys.resumption.client_ticket(&issued) {
            self.inbox.push(Event::Ticket(Ticket(Box::new(ticket))));
        }
    }
}
