//! Where the peer sees this end, and where this end may be reached: what a direct path is made from.
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
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::connection::Connection;
use crate::driver::shared::{ConnectionShared, OfferReply, Query, Reply, lock};
use crate::engine::PathError;
use crate::error::ConnectionError;

impl Connection {
    /// The address the peer sees this end at: behind a NAT, the one outside. `None` until it has said so, or when
    /// [`AddressOptions::ask`](crate::AddressOptions::ask) is off or the peer does not tell.
    pub fn observed_address(&self) -> Option<SocketAddr> {
        self.addresses().observed()
    }

    /// From now on this end may be reached at these addresses; see [`Addresses::offer`].
    pub fn offer_addresses(&self, addresses: Vec<SocketAddr>) -> Offered {
        self.addresses().offer(addresses)
    }

    /// A handle on what the two ends say of their addresses. It does not keep the connection open.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            shared: Arc::clone(self.shared()),
        }
    }
}

/// What the two ends of a connection say of their addresses. It does not keep the connection open.
#[derive(Clone, Debug)]
pub struct Addresses {
    shared: Arc<ConnectionShared>,
}

impl Addresses {
    /// As [`Connection::observed_address`].
    pub fn observed(&self) -> Option<SocketAddr> {
        lock(&self.shared.state).news().observed
    }

    /// Waits until the peer sees this end at another address than `known`, and says where; the error is the end of the connection.
    ///
    /// Cancel-safe.
    pub fn observed_changed(&self, known: Option<SocketAddr>) -> ObservedChanged {
        ObservedChanged {
            addresses: self.clone(),
            known,
        }
    }

    /// From now on this end may be reached at these addresses, eight of them at most: its own, and those that others see it at. The
    /// peer is told, and the two look for a direct path when both have said so; [`Connection::path_changes`] tells of it with
    /// [`PathReason::Direct`](crate::PathReason::Direct), [`Connection::paths`] which one it is. Until there is one, and whenever it falls silent,
    /// everything goes as before.
    ///
    /// Cancel-safe: the request stands when the future is dropped.
    ///
    /// # Errors
    /// [`PathError::NoDirect`] unless both ends have [`AddressOptions::direct`](crate::AddressOptions::direct) and neither
    /// [`AddressOptions::force_relay`](crate::AddressOptions::force_relay).
    pub fn offer(&self, addresses: Vec<SocketAddr>) -> Offered {
        let reply = Reply::new();
        let ended = {
            let mut state = lock(&self.shared.state);
            if state.ended.is_none() {
                state
                    .orders()
                    .queries
                    .push(Query::Offer(addresses, Arc::clone(&reply)));
            }
            state.ended.is_some()
        };
        if ended {
            // A fresh reply takes its first value.
            let _ = reply.put(Err(PathError::NotConnected));
        } else {
            self.shared.post();
        }
        Offered(reply)
    }
}

/// Future of [`Addresses::offer`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Offered(Arc<OfferReply>);

impl Future for Offered {
    type Output = Result<(), PathError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Future of [`Addresses::observed_changed`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct ObservedChanged {
    addresses: Addresses,
    known: Option<SocketAddr>,
}

impl Future for ObservedChanged {
    type Output = Result<SocketAddr, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.addresses.shared.state);
        if let Some(observed) = state.news().observed
            && Some(observed) != self.known
        {
            return Poll::Ready(Ok(observed));
        }
        if let Some(reason) = &state.ended {
            return Poll::Ready(Err(ConnectionError::clone(reason)));
        }
        state.news().path_waiters.add(cx.waker());
        Poll::Pending
    }
}
