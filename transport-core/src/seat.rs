//! Where a worker sits among others: its number, which the connection ids it issues carry.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use transport_crypto::{ServerId, ServerIdKey};

use crate::wire::ConnectionId;

/// The first octet of an id that says where it leads: which configuration made it (there is one), and bits that are random
/// (draft-ietf-quic-load-balancers §3).
const CONFIGURATION: u8 = 0b1110_0000;
/// Nodes have numbers once there are fleets.
const NODE: [u8; 2] = [0, 0];

/// One worker's.
pub(crate) struct Seat {
    key: Arc<ServerIdKey>,
    number: u8,
    workers: u8,
    /// No two ids have the same.
    nonce: AtomicU64,
}

impl Seat {
    /// Worker `number` of `workers`, whose key is not used by anybody else after them.
    pub(crate) fn new(key: Arc<ServerIdKey>, number: u8, workers: u8) -> Self {
        Self {
            key,
            number,
            workers,
            nonce: AtomicU64::new(0),
        }
    }

    /// How many there are.
    pub(crate) fn workers(&self) -> u8 {
        self.workers
    }

    /// A new id that leads here. `random`: a uniform byte.
    pub(crate) fn cid(&self, random: u8) -> ConnectionId {
        let [node_high, node_low] = NODE;
        let [.., e, d, c, b, a] = self.nonce.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [i, j, k, l, m, n, o, p] = self.key.seal([node_high, node_low, self.number], [e, d, c, b, a]);
        ConnectionId([random & !CONFIGURATION, i, j, k, l, m, n, o, p])
    }

    /// The other worker an id leads to. What nobody here has made leads to one with a probability of one in 2^27, times the
    /// number of workers.
    pub(crate) fn elsewhere(&self, cid: ConnectionId) -> Option<u8> {
        let (first, sealed) = cid.0.split_first_chunk::<1>()?;
        let made_here = first.first()? & CONFIGURATION == 0;
        let (server_id, _): (ServerId, _) = self.key.open(*sealed.first_chunk()?);
        let [node_high, node_low, worker] = server_id;
        let other = worker != self.number && worker < self.workers;
        (made_here && [node_high, node_low] == NODE && other).then_some(worker)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use transport_crypto::Secret;

    use super::*;
    use crate::random::Random;

    fn seats(workers: u8) -> Vec<Seat> {
        let key = Arc::new(ServerIdKey::new(&Secret::new([7; 16])));
        (0..workers)
            .map(|number| Seat::new(Arc::clone(&key), number, workers))
            .collect()
    }

    #[test]
    fn an_id_leads_to_whoever_issued_it_and_all_of_them_differ() {
        let seats = seats(4);
        let mut random = Random::new([1; 32]);
        let mut seen = BTreeSet::new();
        for issuer in &seats {
            for _ in 0..500 {
                let cid = issuer.cid(random.byte());
                assert!(seen.insert(cid.0), "an id twice");
                for reader in &seats {
                    let expected = (reader.number != issuer.number).then_some(issuer.number);
                    assert_eq!(reader.elsewhere(cid), expected);
                }
            }
        }
    }

    #[test]
    fn random_ids_and_workers_that_do_not_exist_lead_nowhere() {
        let seats = seats(4);
        let mut random = Random::new([2; 32]);
        assert!((0..200_000).all(|_| seats[0].elsewhere(random.cid()).is_none()));
        let key = Arc::clone(&seats[0].key);
        let stranger = Seat::new(key, 4, 5);
        assert_eq!(seats[0].elsewhere(stranger.cid(0)), None);
    }
}
