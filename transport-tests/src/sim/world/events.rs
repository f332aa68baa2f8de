//! What a scenario makes happen at its times.

use super::{
    super::scenario::{Direction, EventKind},
    What, World, ms,
};

impl World<'_> {
    pub(super) fn event(&mut self, index: usize) {
        let event = &self.scenario.event[index];
        let elapsed = self.clock.elapsed();
        if let Some(trace) = &mut self.trace {
            trace.mark(elapsed, event.describe());
        }
        match event.kind {
            EventKind::RebindPort => self.rebind(false),
            EventKind::RebindAddr => self.rebind(true),
            EventKind::Rate | EventKind::Delay | EventKind::Loss | EventKind::Outage | EventKind::Freeze => {
                self.link_event(index);
            }
            EventKind::KeyUpdate => {
                for session in &mut self.sessions {
                    if let Some(connection) = session.client.endpoint.connection(session.handle) {
                        connection.update_keys();
                    }
                }
            }
            EventKind::Close => {
                let now = self.clock.now();
                for session in &mut self.sessions {
                    if let Some(connection) = session.client.endpoint.connection(session.handle) {
                        connection.close(now, 0, b"");
                    }
                }
            }
        }
        if let Some(every) = event.every_ms {
            self.schedule(elapsed + ms(every), What::Event(index));
        }
    }

    fn link_event(&mut self, index: usize) {
        let event = &self.scenario.event[index];
        let until = self.clock.elapsed() + ms(event.for_ms.unwrap_or(0.0));
        for (direction, link) in [(Direction::Up, &mut self.up), (Direction::Down, &mut self.down)] {
            if event.link.is_some_and(|only| only != direction) {
                continue;
            }
            match event.kind {
                EventKind::Rate => link.set_rate(event.rate_mbit.unwrap_or(10.0)),
                EventKind::Delay => link.set_delay(event.delay_ms.unwrap_or(0.0)),
                EventKind::Loss => link.set_loss(event.p.unwrap_or(0.0)),
                EventKind::Outage => link.outage(until),
                _ => link.freeze(until),
            }
        }
    }

    fn rebind(&mut self, move_host: bool) {
        for index in 0..self.sessions.len() {
            let old = self.sessions[index].address;
            let mut address = self.new_address(move_host.then_some(old));
            if !move_host {
                address.set_ip(old.ip());
            }
            self.addresses.insert(address, index);
            self.sessions[index].address = address;
        }
    }
}
