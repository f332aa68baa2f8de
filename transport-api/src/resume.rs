//! Coming back: tickets, and data that goes along with the first flight.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::connection::Connection;
use crate::driver::shared::{ConnectionShared, Query, lock};
use crate::engine::{ClientTicket, Ticket};
use crate::error::ConnectionError;

impl Connection {
    /// Waits for the next ticket the relay gives: two come when the handshake is confirmed, one more with each new address.
    /// Each may be used for one connection, with [`ConnectOptions::ticket`](crate::ConnectOptions::ticket), within its
    /// lifetime; keep it as a key is kept, and remove it before it is used. Of more than eight that nobody asked for, the newest
    /// are given. Those that came before the end of the connection are still given out.
    ///
    /// Cancel-safe.
    pub fn tickets(&self) -> TicketUpdate {
        TicketUpdate {
            shared: Arc::clone(self.shared()),
        }
    }

    /// Whether a ticket was used for this connection. False before the end of the handshake.
    pub fn resumed(&self) -> bool {
        self.info().is_some_and(|info| info.resumed)
    }

    /// Waits for the end of the handshake: whether the relay took what was sent before. If not, streams went again by
    /// themselves, and datagrams are lost. False as well for a connection that sent nothing before.
    ///
    /// Cancel-safe.
    pub fn early_accepted(&self) -> EarlyAccepted {
        EarlyAccepted {
            shared: Arc::clone(self.shared()),
        }
    }

    /// At a relay: whether all that arrived so far came along with the first flight of a client that has not yet shown that it
    /// is there. It may be a copy of an earlier flight (RFC 8470): do only what is safe to be done twice, or wait. Asks the driver
    /// thread and waits for it; false when the connection has ended.
    pub fn is_early(&self) -> bool {
        self.ask(Query::Early).flatten().unwrap_or(false)
    }
}

/// Future of [`Connection::tickets`]. It does not keep the connection open.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct TicketUpdate {
    shared: Arc<ConnectionShared>,
}

impl Future for TicketUpdate {
    type Output = Result<ClientTicket, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.shared.state);
        if let Some(Ticket(ticket)) = state.news().tickets.pop_front() {
            return Poll::Ready(Ok(*ticket));
        }
        if let Some(reason) = &state.ended {
            return Poll::Ready(Err(ConnectionError::clone(reason)));
        }
        state.news().ticket_waiters.add(cx.waker());
        Poll::Pending
    }
}

/// Future of [`Connection::early_accepted`]. It does not keep the connection open.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct EarlyAccepted {
    shared: Arc<ConnectionShared>,
}

impl Future for EarlyAccepted {
    type Output = Result<bool, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.shared.state);
        if let Some(info) = state.info {
            return Poll::Ready(Ok(info.early_accepted == Some(true)));
        }
        if let Some(reason) = &state.ended {
            return Poll::Ready(Err(ConnectionError::clone(reason)));
        }
        state.info_waiters.add(cx.waker());
        Poll::Pending
    }
}
