//! What comes while tunnels are open and outlives the process, bundles and tickets, is written beside the event loop: a disk that
//! stalls must not stop them.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use transport_api::{Bundle, ClientTicket};

use crate::{state::State, tickets::Tickets};

/// What waits for a slow disk; what comes when it is full is not kept.
const MAX_WAITING: usize = 16;

enum Keep {
    Bundle(Bundle),
    Ticket(Box<ClientTicket>),
}

/// Keeps what a relay gives. Dropping it waits until all is written.
pub(crate) struct Keeper {
    tickets: Arc<Tickets>,
    /// Gone first, which ends the writer.
    waiting: Option<SyncSender<Keep>>,
    writer: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(state: State, tickets: Tickets) -> io::Result<Self> {
        let (waiting, orders) = sync_channel(MAX_WAITING);
        let tickets = Arc::new(tickets);
        let kept = Arc::clone(&tickets);
        let writer = std::thread::Builder::new()
            .name("adit-keeper".into())
            .spawn(move || write(&orders, &state, &kept))?;
        Ok(Self {
            tickets,
            waiting: Some(waiting),
            writer: Some(writer),
        })
    }

    /// The newest ticket, if there is one. Reads and writes files here and now: a connection to be made waits for it.
    pub(crate) fn take_ticket(&self) -> Option<ClientTicket> {
        self.tickets.take()
    }

    /// Keeps a ticket for another time.
    pub(crate) fn put_ticket(&self, ticket: ClientTicket) {
        self.order(Keep::Ticket(Box::new(ticket)));
    }

    /// Keeps the relay's next bundle.
    pub(crate) fn put_bundle(&self, bundle: Bundle) {
        self.order(Keep::Bundle(bundle));
    }

    fn order(&self, keep: Keep) {
        let refused = self
            .waiting
            .as_ref()
            .is_none_or(|waiting| waiting.try_send(keep).is_err());
        if refused {
            tracing::warn!("the disk is too slow: a bundle or ticket of the relay was not kept");
        }
    }
}

fn write(orders: &Receiver<Keep>, state: &State, tickets: &Tickets) {
    while let Ok(keep) = orders.recv() {
        match keep {
            Keep::Ticket(ticket) => tickets.put(*ticket),
            Keep::Bundle(bundle) => remember(state, &bundle),
        }
    }
}

/// Keeps a bundle that its relay has proved to be its own, and waits for the disk.
pub(crate) fn remember(state: &State, bundle: &Bundle) {
    if let Err(error) = state.remember(bundle) {
        tracing::warn!(%error, "the relay's bundle could not be remembered");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.waiting = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
