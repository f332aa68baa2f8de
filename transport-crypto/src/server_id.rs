//! Connection ids that say to the relay itself which part of it they lead to, and to nobody else.
//!
//! The four passes of draft-ietf-quic-load-balancers §5.4.2 over eight bytes: a permutation under a key, so that another
//! nonce always makes another id, and none can be changed into one that leads elsewhere.

use crate::{Secret, provider::symmetric::Block128};

/// Who a connection id leads to: a node, and a worker of it.
pub type ServerId = [u8; 3];
/// What makes two ids for the same place differ.
pub type IdNonce = [u8; 5];
/// Both, under the key.
pub type SealedId = [u8; 8];

/// Bytes that are worked on, as the passes name them.
const LENGTH: u8 = 8;

/// The key of the ids of a relay.
pub struct ServerIdKey(Block128);

impl ServerIdKey {
    /// Expands the key.
    pub fn new(key: &Secret<16>) -> Self {
        Self(Block128::new(key))
    }

    /// Eight bytes that look like noise.
    pub fn seal(&self, server_id: ServerId, nonce: IdNonce) -> SealedId {
        let ([a, b, c], [d, e, f, g, h]) = (server_id, nonce);
        let (mut left, mut right) = ([a, b, c, d], [e, f, g, h]);
        self.pass(1, &left, &mut right);
        self.pass(2, &right, &mut left);
        self.pass(3, &left, &mut right);
        self.pass(4, &right, &mut left);
        join(left, right)
    }

    /// What [`ServerIdKey::seal`] was given. Of bytes that it did not make, something as good as random.
    pub fn open(&self, sealed: SealedId) -> (ServerId, IdNonce) {
        let [a, b, c, d, e, f, g, h] = sealed;
        let (mut left, mut right) = ([a, b, c, d], [e, f, g, h]);
        self.pass(4, &right, &mut left);
        self.pass(3, &left, &mut right);
        self.pass(2, &right, &mut left);
        self.pass(1, &left, &mut right);
        let [a, b, c, d, e, f, g, h] = join(left, right);
        ([a, b, c], [d, e, f, g, h])
    }

    /// One half changes by what the other one says.
    fn pass(&self, number: u8, from: &[u8; 4], to: &mut [u8; 4]) {
        let [a, b, c, d] = *from;
        let block = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LENGTH, number];
        let mut mask = [[0; 4]];
        self.0.masks(&[block], &mut mask);
        let [mask] = mask;
        to.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

fn join([a, b, c, d]: [u8; 4], [e, f, g, h]: [u8; 4]) -> SealedId {
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(byte: u8) -> ServerIdKey {
        ServerIdKey::new(&Secret::new([byte; 16]))
    }

    fn nonce(number: u64) -> IdNonce {
        let [.., a, b, c, d, e] = number.to_be_bytes();
        [a, b, c, d, e]
    }

    #[test]
    fn what_was_sealed_opens_and_no_two_are_alike() {
        let key = key(1);
        let mut seen = BTreeSet::new();
        for worker in 0..4 {
            for number in 0..1000 {
                let sealed = key.seal([0, 0, worker], nonce(number));
                assert_eq!(key.open(sealed), ([0, 0, worker], nonce(number)));
                assert!(seen.insert(sealed));
            }
        }
    }

    #[test]
    fn every_flipped_bit_leads_anywhere() {
        let key = key(2);
        let sealed = key.seal([0, 0, 1], nonce(7));
        for bit in 0..64 {
            let mut other = sealed;
            other[bit / 8] ^= 1 << (bit % 8);
            let (server_id, _) = key.open(other);
            assert!(server_id[..2] != [0, 0], "bit {bit} stays at this node");
        }
    }

    #[test]
    fn another_key_opens_nothing() {
        let sealed = (0..1000).map(|number| key(3).seal([0, 0, 2], nonce(number)));
        let at_home = sealed.filter(|sealed| key(4).open(*sealed).0[..2] == [0, 0]);
        assert!(at_home.count() <= 1, "one in 65,536");
    }
}
