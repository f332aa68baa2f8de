//! A link for callers in real time, who want the arrival of a datagram the moment they have it: the bottleneck is
//! reckoned ahead. Drop-tail alone; CoDel decides when a packet leaves, so it needs [`Link::offer`].

use std::time::Duration;

use super::{Arrivals, Cause, IP_UDP_HEADERS, IPV6_EXTRA, Link};

impl Link {
    /// Offers a datagram at `now`; corruption changes it in place. Answers when it arrives. Not to be mixed with
    /// [`Link::offer`].
    pub fn send(&mut self, now: Duration, datagram: &mut [u8]) -> Arrivals {
        self.seen += 1;
        let doomed = self.config.drop.contains(&self.seen);
        let size = datagram.len() + IP_UDP_HEADERS + if self.ipv6 { IPV6_EXTRA } else { 0 };
        let departure = match self.admit(now, size) {
            Ok(departure) if !self.lost(departure, doomed) => departure,
            Ok(_) => return self.vanished(Cause::Wire),
            Err(cause) => return self.vanished(cause),
        };
        if self.rng.chance(self.config.corrupt) {
            self.flip(datagram);
        }
        self.arrivals(departure)
    }

    fn vanished(&mut self, cause: Cause) -> Arrivals {
        self.count_drop(cause);
        [None; 2]
    }

    /// The time at which the last bit leaves the bottleneck.
    fn admit(&mut self, now: Duration, size: usize) -> Result<Duration, Cause> {
        while let Some((_, size)) = self.reckoned.pop_front_if(|(left, _)| *left <= now) {
            self.reckoned_bytes -= size;
        }
        let waiting = self.reckoned.len().saturating_sub(1);
        if let Some(cause) = self.refused(now, size, waiting, self.reckoned_bytes, !self.reckoned.is_empty())
        {
            return Err(cause);
        }
        let start = self.busy_until.max(now).max(self.frozen_until);
        let Some(rate) = self.config.rate_mbit else {
            return Ok(start);
        };
        self.waited_us.push(start.saturating_sub(now).as_micros() as u32);
        self.busy_until = start + Duration::from_secs_f64(size as f64 * 8.0 / (rate * 1e6));
        self.reckoned.push_back((self.busy_until, size));
        self.reckoned_bytes += size;
        Ok(self.busy_until)
    }

    /// Time each datagram of [`Link::send`] waited in the queue, in microseconds.
    pub fn queue_delays_us(&self) -> &[u32] {
        &self.waited_us
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Cargo, Ecn, Packet},
        *,
    };
    use crate::sim::rng::Rng;

    /// Both faces are one link: the same datagrams at the same times arrive at the same times.
    #[test]
    fn reckoning_ahead_agrees_with_events() {
        let text =
            "rate_mbit = 10.0\ndelay_ms = 5.0\nqueue_packets = 20\nloss = { kind = \"iid\", p = 0.05 }";
        let link = || Link::new(toml::from_str(text).unwrap(), Rng::new(3, "link"), false);
        let (mut ahead, mut events) = (link(), link());
        let mut due = None;
        let mut arrived = [Vec::new(), Vec::new()];
        for index in 0..4000_u64 {
            // Bursts of 40 every 20 ms: the queue fills and empties.
            let now = Duration::from_millis(index / 40 * 20);
            arrived[0].extend(ahead.send(now, &mut [0; 972])[0]);
            while let Some(at) = due.take_if(|at| *at <= now) {
                let departure = events.depart(at);
                arrived[1].extend(departure.packet.and_then(|(_, arrivals)| arrivals[0]));
                due = departure.next;
            }
            let packet = Packet::new(Cargo::Cbr { flow: 0 }, 1000, Ecn::NotEct);
            due = due.or(events.offer(now, packet));
        }
        let known = arrived[1].len();
        assert!(
            known > 1900 && arrived[0][..known] == arrived[1],
            "{known} arrived"
        );
    }
}
