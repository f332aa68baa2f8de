//! Where the datagrams of a request leave.

use super::error::TunnelError;
use super::frames::StreamError;
use super::session::{Route, Session};
use crate::masque::lane::{Lane, LaneDatagramError};

/// The sending end of a request's datagrams; clones are the same one.
#[derive(Debug)]
pub(crate) struct Outlet<L> {
    session: Session<L>,
    quarter: u64,
}

impl<L> Clone for Outlet<L> {
    fn clone(&self) -> Self {
        Self {
            session: self.session.clone(),
            quarter: self.quarter,
        }
    }
}

impl<L: Lane> Outlet<L> {
    pub(crate) fn new(route: &Route<L>) -> Self {
        Self {
            session: route.session().clone(),
            quarter: route.ordinal(),
        }
    }

    /// The quarter stream id, with which datagrams begin.
    pub(crate) fn quarter(&self) -> u64 {
        self.quarter
    }

    /// The longest datagram that fits now, bytes, with the quarter stream id.
    pub(crate) fn max_datagram(&self) -> usize {
        self.session.lane().max_datagram()
    }

    /// Sends one datagram or drops it.
    pub(crate) fn send(&self, datagram: Vec<u8>) -> Result<(), LaneDatagramError> {
        self.session.lane().send_datagram(datagram)
    }

    /// Sends several; how many were dropped for it, these or older ones. Requests of one connection share it fairly.
    pub(crate) fn send_all(&self, datagrams: &mut Vec<Vec<u8>>) -> usize {
        // As a key of fairness any 32 bits will do.
        let flow = self.quarter as u32;
        self.session.lane().send_flow(flow, datagrams)
    }

    /// Sees to `count` vectors for datagrams in `spares`, as far as there are any.
    pub(crate) fn fill_spares(&self, count: usize, spares: &mut Vec<Vec<u8>>) {
        let missing = count.saturating_sub(spares.len());
        self.session.lane().take_spares(missing, spares);
    }

    /// Gives vectors back.
    pub(crate) fn give_spares(&self, spent: &mut Vec<Vec<u8>>) {
        self.session.lane().give_spares(spent);
    }

    /// Waits until `max` gives another figure than `known`.
    pub(crate) async fn changed(&self, known: usize, max: impl Fn() -> usize) -> Result<usize, TunnelError> {
        loop {
            let whole = self.max_datagram();
            let now = max();
            if now != known {
                return Ok(now);
            }
            let changed = self.session.lane().max_datagram_changed(whole).await;
            changed.map_err(StreamError::Lane)?;
        }
    }
}
