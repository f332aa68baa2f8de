//! A bound on the share of a class that would otherwise always go first.

/// Lets a class go first while it has had less than its share of what was sent. Bytes are the clock: what the others send
/// earns credit, so no rate is needed, and the bound counts only while others wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    percent: i64,
    /// In hundredths of bytes.
    credit: i64,
    burst: i64,
}

impl Share {
    pub(crate) fn new(percent: i64, burst_bytes: i64) -> Self {
        let burst = burst_bytes * (100 - percent);
        Self {
            percent,
            credit: burst,
            burst,
        }
    }

    /// Whether the class may go before the others.
    pub(crate) fn allows(&self) -> bool {
        self.credit > 0
    }

    /// The class sent `bytes`. Nothing is owed when nobody waited.
    pub(crate) fn spend(&mut self, bytes: i64, others_wait: bool) {
        if others_wait {
            self.credit -= bytes * (100 - self.percent);
        } else {
            self.credit = self.burst;
        }
    }

    /// Others sent `bytes`.
    pub(crate) fn earn(&mut self, bytes: i64) {
        self.credit = self.burst.min(self.credit + bytes * self.percent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_kept_while_others_wait() {
        for percent in [10, 50] {
            let mut share = Share::new(percent, 4000);
            let mut sent = [0i64; 2];
            for _ in 0..10_000 {
                if share.allows() {
                    share.spend(1200, true);
                    sent[0] += 1200;
                } else {
                    share.earn(1000);
                    sent[1] += 1000;
                }
            }
            let got = sent[0] as f64 / (sent[0] + sent[1]) as f64;
            assert!(
                (got - percent as f64 / 100.0).abs() < 0.005,
                "{percent} % became {got}"
            );
        }
    }

    #[test]
    fn alone_it_owes_nothing() {
        let mut share = Share::new(10, 4000);
        for _ in 0..1000 {
            share.spend(1200, false);
        }
        assert!(share.allows());
    }
}
