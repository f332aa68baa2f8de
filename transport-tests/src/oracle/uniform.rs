//! Do bytes look like noise? Counts of byte values, place by place, held against what uniform bytes would give.
//!
//! All limits are so wide that uniform bytes pass a test of some hundred places with probability above 0.9999; tests give
//! fixed seeds, so that what passed once passes again.

/// Standard deviations that uniform bytes do not exceed: one chance in ten million for each place.
const FAR: f64 = 5.2;

/// How often each byte value stood at one place.
#[derive(Clone)]
pub struct Place {
    counts: [u64; 256],
    total: u64,
    /// For the correlation of a value with the one before it at the same place.
    last: Option<u8>,
    products: f64,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            counts: [0; 256],
            total: 0,
            last: None,
            products: 0.0,
        }
    }
}

impl Place {
    /// One more value.
    pub fn add(&mut self, byte: u8) {
        self.counts[usize::from(byte)] += 1;
        self.total += 1;
        if let Some(last) = self.last.replace(byte) {
            self.products += (f64::from(byte) - 127.5) * (f64::from(last) - 127.5);
        }
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Pearson's chi-square against the uniform distribution, with 255 degrees of freedom.
    pub fn chi_square(&self) -> f64 {
        let expected = self.total as f64 / 256.0;
        let square = |count: &u64| (*count as f64 - expected).powi(2) / expected;
        self.counts.iter().map(square).sum()
    }

    /// Shannon's entropy, bits a byte.
    pub fn entropy(&self) -> f64 {
        let total = self.total as f64;
        let term = |count: &u64| {
            let p = *count as f64 / total;
            if p > 0.0 { -p * p.log2() } else { 0.0 }
        };
        self.counts.iter().map(term).sum()
    }

    /// Correlation of neighbours in time, in standard deviations of what uniform bytes give.
    pub fn correlation(&self) -> f64 {
        let variance = (256.0 * 256.0 - 1.0) / 12.0;
        self.products / variance / (self.total.max(2) as f64 - 1.0).sqrt()
    }

    /// What is wrong with this place, if anything.
    pub fn fault(&self) -> Option<String> {
        let (chi, entropy, correlation) = (self.chi_square(), self.entropy(), self.correlation());
        // The expected loss of the entropy's estimate is 255 / (2 ln 2 · n); four times that is far beyond its spread.
        let least = 8.0 - 4.0 * 255.0 / (2.0 * std::f64::consts::LN_2 * self.total as f64);
        (chi > chi_limit() || entropy < least || correlation.abs() > FAR).then(|| {
            format!(
                "chi-square {chi:.0} (at most {:.0}), entropy {entropy:.4} (at least {least:.4}), correlation {correlation:.1} sd of {} bytes",
                chi_limit(),
                self.total
            )
        })
    }
}

/// The chi-square of 255 degrees of freedom that uniform bytes do not exceed (Wilson and Hilferty 1931).
fn chi_limit() -> f64 {
    let ninth = 2.0 / (9.0 * 255.0);
    255.0 * (1.0 - ninth + FAR * f64::sqrt(ninth)).powi(3)
}

/// The first and the last bytes of many datagrams, and of the XOR of neighbours.
pub struct Image {
    /// From the beginning.
    head: Vec<Place>,
    /// From the end: the last byte first.
    tail: Vec<Place>,
    /// Of each datagram and the one before it, from the beginning.
    xor: Vec<Place>,
    last: Vec<u8>,
}

impl Image {
    /// Looks at `places` bytes of either end.
    pub fn new(places: usize) -> Self {
        Self {
            head: vec![Place::default(); places],
            tail: vec![Place::default(); places],
            xor: vec![Place::default(); places],
            last: Vec::new(),
        }
    }

    /// One more datagram.
    pub fn add(&mut self, datagram: &[u8]) {
        for (place, byte) in self.head.iter_mut().zip(datagram) {
            place.add(*byte);
        }
        for (place, byte) in self.tail.iter_mut().zip(datagram.iter().rev()) {
            place.add(*byte);
        }
        for (place, (a, b)) in self.xor.iter_mut().zip(datagram.iter().zip(&self.last)) {
            place.add(a ^ b);
        }
        self.last.clear();
        self.last.extend(datagram.iter().take(self.xor.len()));
    }

    /// Places that do not look uniform, with what is wrong.
    pub fn faults(&self) -> Vec<String> {
        let named = [
            ("byte", &self.head),
            ("byte from the end", &self.tail),
            ("XOR", &self.xor),
        ];
        let of = |(name, places): (&str, &Vec<Place>)| -> Vec<String> {
            let fault =
                |(at, place): (usize, &Place)| place.fault().map(|fault| format!("{name} {at}: {fault}"));
            places.iter().enumerate().filter_map(fault).collect()
        };
        named.into_iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;

    const DATAGRAMS: usize = 20_000;

    fn image(change: impl Fn(usize, &mut [u8; 16])) -> Vec<String> {
        let mut rng = Rng::new(1, "uniform");
        let mut image = Image::new(16);
        for index in 0..DATAGRAMS {
            let mut datagram = [0; 16];
            datagram[..8].copy_from_slice(&rng.u64().to_le_bytes());
            datagram[8..].copy_from_slice(&rng.u64().to_le_bytes());
            change(index, &mut datagram);
            image.add(&datagram);
        }
        image.faults()
    }

    #[test]
    fn noise_passes() {
        assert_eq!(image(|_, _| {}), Vec::<String>::new());
    }

    /// One fault of each kind the wire had in other protocols.
    #[test]
    fn a_trace_of_order_is_found() {
        let constant = image(|_, datagram| datagram[3] = 0x40);
        assert!(
            constant.iter().any(|fault| fault.starts_with("byte 3")),
            "{constant:?}"
        );
        let one_bit_set_in_a_tenth = image(|index, datagram| datagram[0] |= u8::from(index % 10 == 0) << 6);
        assert!(!one_bit_set_in_a_tenth.is_empty());
        let counter = image(|index, datagram| datagram[9] = index as u8);
        assert!(counter.iter().any(|fault| fault.contains("XOR 9")), "{counter:?}");
        let ramp = image(|index, datagram| datagram[5] = (index / 79) as u8);
        assert!(!ramp.is_empty(), "a value that drifts");
    }
}
