//! Masks over what must be read before a packet can be opened: connection ids here, flags and numbers in
//! [`crate::SealKeys::masks`] and [`crate::OpenKeys::masks`].

use crate::{
    Grant, RelayId, Secret,
    kdf::label,
    provider::{hash::Prk, symmetric::Block128},
};

/// The last 16 bytes of a datagram (the tag): what masks are made from.
pub type Sample = [u8; 16];
/// Over the flags byte and up to four packet number bytes.
pub type PacketMask = [u8; 5];
/// Over the nine bytes of a connection id.
pub type CidMask9 = [u8; 9];

/// Which way a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the side that opened the connection.
    ClientToServer,
    /// From the relay.
    ServerToClient,
}

impl Direction {
    /// The label of this half of a relay-wide key.
    pub(crate) fn label(self) -> &'static [u8] {
        match self {
            Self::ClientToServer => label::TO_SERVER,
            Self::ServerToClient => label::TO_CLIENT,
        }
    }

    /// One value for each direction.
    pub(crate) fn both<T>(make: impl Fn(Self) -> T) -> [T; 2] {
        [make(Self::ClientToServer), make(Self::ServerToClient)]
    }

    /// The value for this direction.
    pub(crate) fn of<T>(self, [to_server, to_client]: &[T; 2]) -> &T {
        match self {
            Self::ClientToServer => to_server,
            Self::ServerToClient => to_client,
        }
    }
}

/// Connection-id masks of a relay, the same for all its clients: they hide ids from outsiders, not from clients.
pub struct CidMasks([Block128; 2]);

impl CidMasks {
    /// Derives `K_hdr` of both directions; it outlives bundle epochs.
    pub fn new(relay_id: &RelayId, grant: &Grant) -> Self {
        let prk = Prk::extract(label::HEADER, &[relay_id.as_bytes(), grant.expose()]);
        Self(Direction::both(|direction| {
            let key: Secret<16> = prk.expand(&[direction.label()]);
            Block128::new(&key)
        }))
    }

    /// One mask for each sample, in order, as far as the shorter of the two slices goes.
    pub fn masks(&self, direction: Direction, samples: &[Sample], out: &mut [CidMask9]) {
        direction.of(&self.0).masks(samples, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(relay: u8, grant: u8, direction: Direction) -> CidMask9 {
        let masks = CidMasks::new(&RelayId::from_bytes([relay; 32]), &Grant::from_bytes([grant; 32]));
        let mut out = [[0; 9]];
        masks.masks(direction, &[[7; 16]], &mut out);
        out[0]
    }

    #[test]
    fn every_input_changes_the_mask() {
        use Direction::{ClientToServer, ServerToClient};
        let base = mask(1, 0, ClientToServer);
        assert_eq!(base, mask(1, 0, ClientToServer));
        for other in [
            mask(2, 0, ClientToServer),
            mask(1, 1, ClientToServer),
            mask(1, 0, ServerToClient),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_batch_equals_its_parts() {
        let masks = CidMasks::new(&RelayId::from_bytes([1; 32]), &Grant::default());
        let samples: Vec<Sample> = (0..70u8).map(|i| [i; 16]).collect();
        let mut batch = vec![[0; 9]; 70];
        masks.masks(Direction::ServerToClient, &samples, &mut batch);
        for (sample, mask) in samples.iter().zip(&batch) {
            let mut one = [[0; 9]];
            masks.masks(Direction::ServerToClient, &[*sample], &mut one);
            assert_eq!(one[0], *mask);
        }
    }
}
