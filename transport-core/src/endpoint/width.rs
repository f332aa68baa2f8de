//! Addresses of this machine of which is known how much leaves from them, or that they are gone.
#![forbid(unsafe_code)]
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

use super::Endpoint;
use super::slab::Occupant;
use crate::config::Now;
use crate::error::{CloseReason, code};

impl Endpoint {
    /// From `local` datagrams of at most `payload` bytes of UDP payload leave, from now on, as whoever carries them says; it may be
    /// said again whenever that changes. Paths that begin there go down to it at once, and search no further up; where it has grown they
    /// search again. Less than 1,000 bytes count as 1,000, which no path goes below. Walks all connections, so it is for changes.
    pub fn set_width(&mut self, local: IpAddr, payload: u16) {
        let slab = &mut self.slab;
        let concerned = slab.iter_mut_from(0).filter_map(|(slot, occupant)| {
            let heeded = match occupant {
                Occupant::Live(connection, _) => connection.set_width(local, payload),
                Occupant::Dial(dial) if dial.route.local == Some(local) => {
                    dial.width = Some(payload);
                    false
                }
                Occupant::Dial(_) | Occupant::Free => false,
            };
            heeded.then_some(slot)
        });
        let concerned: Vec<u32> = concerned.collect();
        for slot in concerned {
            self.slab.mark(slot);
        }
    }

    /// This machine has the address `local` no more: what begins there ends. A connection that has another path goes on by that; one
    /// that has none ends with [`code::NO_VIABLE_PATH`], without a word, for there is no way to send it. Walks all connections.
    pub fn lose_address(&mut self, now: Now, local: IpAddr) {
        let lost = |(slot, occupant): (u32, &mut Occupant)| match occupant {
            Occupant::Live(connection, _) => connection.lose_address(now, local).then_some((slot, false)),
            Occupant::Dial(dial) => (dial.route.local == Some(local)).then_some((slot, true)),
            Occupant::Free => None,
        };
        let concerned: Vec<(u32, bool)> = self.slab.iter_mut_from(0).filter_map(lost).collect();
        for (slot, dials) in concerned {
            if dials {
                self.end_dial(now, slot, CloseReason::violation(code::NO_VIABLE_PATH));
            } else {
                self.slab.mark(slot);
            }
        }
    }
}
