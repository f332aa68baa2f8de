//! Carriers of an endpoint: tunnels and the like, by which its datagrams travel instead of the socket.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::net::IpAddr;
use std::sync::Arc;

use crate::Endpoint;
pub use crate::driver::carriers::{AttachError, Carrier, CarrierFigures, CarrierInput};
use crate::driver::shared::{Change, lock};

impl Endpoint {
    /// Attaches a carrier: connections leave by it that ask for [its address](CarrierInput::local) ([`ConnectOptions::via`], or
    /// [`Connection::add_path`] for one more path), and what it [brings](CarrierInput::deliver) is taken as if the socket had heard it, a
    /// relay's clients included. It stays until [`Endpoint::detach`] or the end of the endpoint.
    ///
    /// What leaves by a carrier never leaves by the socket, and a path that falls silent there is not replaced by one from an ordinary
    /// address unless the application opens it, or [names it](crate::Failover::Among).
    ///
    /// [`ConnectOptions::via`]: crate::ConnectOptions::via
    /// [`Connection::add_path`]: crate::Connection::add_path
    ///
    /// # Errors
    /// [`AttachError`]: 64 carriers at most, and none with several workers.
    pub fn attach(&self, carrier: Arc<dyn Carrier>) -> Result<CarrierInput, AttachError> {
        if self.worker_count() > 1 {
            return Err(AttachError::Workers);
        }
        self.shared().carriers.attach(carrier, &self.shared().mailbox)
    }

    /// Takes a carrier away, and drops it. Paths that began there end with
    /// [`PathReason::AddressLost`](crate::PathReason::AddressLost); a connection that has no other ends with
    /// [`code::NO_VIABLE_PATH`](crate::code::NO_VIABLE_PATH). False: there is none of this address.
    pub fn detach(&self, local: IpAddr) -> bool {
        let shared = self.shared();
        if !shared.carriers.detach(local) {
            return false;
        }
        {
            let mut state = lock(&shared.state);
            if !state.ended {
                state.changes.push(Change::AddressLost(local));
            }
        }
        shared.post();
        true
    }
}
