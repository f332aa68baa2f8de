//! Where clients go when a relay ends: it names another one on its control stream, in a frame of our own.
//!
//! The connection proves who says so, and a bundle proves itself by its signatures; that the relay it belongs to is the right one
//! to go on with is the old relay's word alone. Whoever trusts it with his traffic today may trust it with that as well, or not.

use std::sync::Arc;

use super::{Role, Session, SessionEnd, State};
use crate::http::frame;
use crate::{Bundle, RelayId};

/// Bundles of successors verified on one connection.
const MAX_NAMED: u8 = 4;

/// The relay that another one names as its successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor(Bundle);

impl Successor {
    /// Who it is.
    pub fn relay_id(&self) -> RelayId {
        self.0.relay_id()
    }

    /// Its bundle; both signatures are verified, its time is not.
    pub fn bundle(&self) -> &Bundle {
        &self.0
    }
}

/// What either end knows of a successor.
#[derive(Debug, Default)]
pub(super) struct Naming {
    /// A relay's: to be told.
    untold: Option<Arc<[u8]>>,
    /// A client's: the newest, and how many there were.
    named: Option<Successor>,
    count: u8,
}

impl Naming {
    /// The frame that is due.
    pub(super) fn take_frame(&mut self) -> Option<Vec<u8>> {
        let bundle = self.untold.take()?;
        let mut out = Vec::with_capacity(bundle.len() + 16);
        frame::put(&mut out, frame::kind::SUCCESSOR, &bundle);
        Some(out)
    }
}

impl<L> Session<L> {
    /// Tells the peer which relay goes on (relay).
    pub(crate) fn name_successor(&self, bundle: Arc<[u8]>) {
        self.change(|state| state.successor.untold = Some(bundle));
    }

    /// The relay that goes on, if one was named (client).
    pub(crate) fn successor(&self) -> Option<Successor> {
        self.state().successor.named.clone()
    }

    /// Waits for a successor (client).
    pub(crate) async fn until_moved(&self) -> Result<Successor, SessionEnd> {
        self.until(|state| match (&state.successor.named, &state.end) {
            (Some(named), _) => Some(Ok(named.clone())),
            (None, Some(end)) => Some(Err(end.clone())),
            (None, None) => None,
        })
        .await
    }

    /// A frame of the peer. What is no bundle says nothing, and is no reason to end anything.
    pub(super) fn on_successor(&self, payload: &[u8]) {
        let wanted = {
            let naming = &mut self.state().successor;
            naming.count = naming.count.saturating_add(1);
            self.0.role == Role::Client && naming.count <= MAX_NAMED
        };
        if wanted && let Ok(bundle) = Bundle::parse(payload) {
            self.change(|state: &mut State| state.successor.named = Some(Successor(bundle)));
        }
    }
}
