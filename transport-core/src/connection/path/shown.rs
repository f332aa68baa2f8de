//! What large packets looked like from outside. Who can quote one has seen it, or a router that has.
#![forbid(unsafe_code)]

/// Bytes of a packet that count: its masked connection id, flags and number, as good as random.
pub(crate) const QUOTE: usize = 16;
/// Packets remembered.
const KEPT: usize = 8;

/// The beginnings of the newest large packets, one of each batch. Most connections of a relay send none.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    kept: Vec<[u8; QUOTE]>,
    next: usize,
}

impl Shown {
    /// A large packet leaves.
    pub(crate) fn note(&mut self, packet: &[u8]) {
        let Some(begin) = packet.first_chunk() else { return };
        match self.kept.get_mut(self.next) {
            Some(slot) => *slot = *begin,
            None => {
                self.kept.reserve_exact(1);
                self.kept.push(*begin);
            }
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// Whether this is the beginning of one of them.
    pub(crate) fn quotes(&self, quoted: &[u8]) -> bool {
        let begin = quoted.first_chunk::<QUOTE>();
        begin.is_some_and(|begin| self.kept.contains(begin))
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
        assert_eq!(known, [2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(!shown.quotes(&[9; QUOTE - 1]));
    }
}
