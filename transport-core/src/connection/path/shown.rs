//! What large packets looked like from outside. Who can quote one has seen it, or a router that has.
#![forbid(unsafe_code)]

/// Bytes of a packet that count: its masked connection id, flags and number, as good as random.
pub(crate) const QUOTE: usize = 16;
/// Packets remembered.
const KEPT: usize = 8;

/// The beginnings of the newest large packets, one of each batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    kept: [Option<[u8; QUOTE]>; KEPT],
    next: usize,
}

impl Shown {
    /// A large packet leaves.
    pub(crate) fn note(&mut self, packet: &[u8]) {
        if let Some(slot) = self.kept.get_mut(self.next % KEPT) {
            *slot = packet.first_chunk().copied();
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// Whether this is the beginning of one of them.
    pub(crate) fn quotes(&self, quoted: &[u8]) -> bool {
        let begin = quoted.first_chunk::<QUOTE>();
        begin.is_some_and(|begin| self.kept.contains(&Some(*begin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_nothing_else() {
        let mut shown = Shown::default();
        assert!(!shown.quotes(&[0; 40]) && !shown.quotes(&[]));
        for fill in 0..10u8 {
            shown.note(&[fill; 1200]);
        }
        shown.note(&[10; QUOTE - 1]);
        let known: Vec<u8> = (0..12u8).filter(|fill| shown.quotes(&[*fill; 28])).collect();
        assert_eq!(known, [3, 4, 5, 6, 7, 8, 9]);
        assert!(!shown.quotes(&[9; QUOTE - 1]));
    }
}
