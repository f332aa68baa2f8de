//! Tickets: what a relay owes its client, and what a client was given.
//!
//! The connection knows when tickets are due, and brings them over; the endpoint makes them, for it has the keys.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
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
    /// To be sent, and sent.
    ready: VecDeque<Issued>,
    sent: Vec<Issued>,
    /// Client: what the relay announced, and the tickets it gave.
    params: Vec<u8>,
    taken: Vec<u64>,
}

impl Tickets {
    /// `count` are owed at confirmation. A client remembers what the relay announced.
    pub(super) fn new(count: u8, side: Side, params: &TransportParameters) -> Self {
        let mut remembered = Vec::new();
        if side == Side::Client {
            // What came in the handshake can be written again.
            let _ = params.encode(&mut remembered);
        }
        Self {
            count,
            params: remembered,
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

    fn under_way(&self) -> usize {
        self.ready.len() + self.sent.len()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The client has it.
    pub(super) fn acked(&mut self, serial: u64) {
        self.sent.retain(|issued| issued.serial != serial);
        self.release();
    }

    /// Most connections are owed tickets once: the room for them is given back.
    fn release(&mut self) {
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        if self.sent.is_empty() {
            self.sent = Vec::new();
        }
    }

    /// The packet that carried it was lost.
    pub(super) fn again(&mut self, serial: u64) {
        if let Some(at) = self.sent.iter().position(|issued| issued.serial == serial) {
            self.ready.push_back(self.sent.swap_remove(at));
            self.release();
        }
    }
}

impl Connection {
    /// What a ticket that is due is to be made from.
    pub(crate) fn tickets_due(&self) -> Option<&Resumption> {
        let tickets = &self.pending.tickets;
        let open = tickets.due > 0 && self.state.is_open() && tickets.under_way() < MAX_UNDER_WAY;
        let keys = self.keys.as_ref().filter(|_| open)?;
        Some(&keys.resumption)
    }

    /// A ticket was made, or cannot be: in either case it is no longer due.
    pub(crate) fn ticket_made(&mut self, issued: Option<Issued>) {
        let tickets = &mut self.pending.tickets;
        tickets.due = tickets.due.saturating_sub(1);
        tickets.ready.extend(issued);
    }

    pub(super) fn write_tickets(&mut self, draft: &mut Draft<'_>) {
        while let Some(issued) = self.pending.tickets.ready.front() {
            let frame = Frame::NewTicket(NewTicket {
                serial: issued.serial,
                lifetime_s: issued.lifetime_s,
                max_early: issued.max_early,
                ticket: &issued.ticket,
            });
            if !draft.put(&frame, Some(Item::Ticket(issued.serial))) {
                return;
            }
            let tickets = &mut self.pending.tickets;
            tickets.sent.extend(tickets.ready.pop_front());
            tickets.release();
        }
    }

    /// The relay gave a ticket.
    pub(super) fn on_ticket(&mut self, now: Now, frame: &NewTicket<'_>) {
        let Some(keys) = &self.keys else { return };
        let tickets = &mut self.pending.tickets;
        // A frame may come twice.
        if tickets.taken.len() >= MAX_TAKEN || tickets.taken.contains(&frame.serial) {
            return;
        }
        tickets.taken.push(frame.serial);
        let issued = IssuedTicket {
            ticket: *frame.ticket,
            serial: frame.serial,
            lifetime_s: frame.lifetime_s,
            max_early: frame.max_early,
            rtt_us: u32::try_from(self.paths.active.recovery.rtt().smoothed().as_micros()).unwrap_or(0),
            now_s: now.unix_ms / 1000,
            params: &tickets.params,
        };
        if let Some(ticket) = keys.resumption.client_ticket(&issued) {
            self.inbox.push(Event::Ticket(Ticket(Box::new(ticket))));
        }
    }
}
