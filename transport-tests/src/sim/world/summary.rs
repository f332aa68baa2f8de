//! The end of a run: what it produced.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{
        link::Link,
        record::Percentiles,
        report::{FlowReport, LinkReport, Links, Report},
        scenario::Side,
    },
    World,
    windows::cross_report,
};

impl World<'_> {
    /// What the run produced.
    pub(super) fn report(&mut self, seed: u64) -> Report {
        let end = self.clock.elapsed();
        let flows: Vec<FlowReport> = (0..self.flows.len())
            .map(|index| self.flow_report(index, end))
            .collect();
        for session in &mut self.sessions {
            self.faults.append(&mut session.client_app.faults);
            self.faults.append(&mut session.server_app.faults);
        }
        let mut report = Report {
            name: self.scenario.name.clone(),
            seed,
            completed: self
                .flows
                .iter()
                .all(|flow| !flow.has_end() || flow.completion.is_some()),
            virtual_seconds: end.as_secs_f64(),
            handshakes: self.handshakes,
            resumed: self.server.endpoint.stats().resumed,
            early_accepted: self.server.endpoint.stats().early_accepted,
            wire_digest: self.digest.hex(),
            flows,
            links: Links {
                up: link_report(&self.up),
                down: link_report(&self.down),
            },
            cross: self.cross.iter().map(|cross| cross_report(cross, end)).collect(),
            windows: self
                .scenario
                .window
                .iter()
                .map(|window| self.window(window))
                .collect(),
            jain: self.jain(end),
            drops: self.drops(),
            peak_memory_bytes: self.peak_memory,
            faults: std::mem::take(&mut self.faults),
            medians: None,
        };
        report.judge(&self.scenario.expect);
        report
    }

    fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = BTreeMap::new();
        let clients = self.sessions.iter().map(|session| &session.client);
        for node in clients.chain([&self.server]) {
            for (reason, count) in node.endpoint.stats().drops.iter() {
                *drops.entry(reason.name().to_string()).or_insert(0) += count;
            }
        }
        drops
    }

    fn flow_report(&mut self, index: usize, end: Duration) -> FlowReport {
        let flow = &self.flows[index];
        let session = &mut self.sessions[flow.session];
        let connection = match flow.spec.from {
            Side::Client => session.client.endpoint.connection(session.handle),
            Side::Server => session
                .server_handle
                .and_then(|handle| self.server.endpoint.connection(handle)),
        };
        let active = flow
            .completion
            .unwrap_or(end)
            .saturating_sub(flow.start)
            .as_secs_f64();
        let mut report = FlowReport {
            kind: flow.kind_name(),
            connection: session.connection,
            cc: flow.spec.cc.clone().unwrap_or_else(|| "cubic".into()),
            bytes: flow.received,
            completion_s: flow
                .completion
                .map(|at| at.saturating_sub(flow.start).as_secs_f64()),
            goodput_mbit: if active > 0.0 {
                flow.received as f64 * 8.0 / active / 1e6
            } else {
                0.0
            },
            delivered: flow.delivered,
            expired: flow.expired,
            latency_ms: Percentiles::of_us(&flow.latencies_us),
            ..FlowReport::default()
        };
        if let Some(connection) = connection {
            let stats = connection.stats();
            report.sent_bytes = stats.sent_bytes;
            report.retransmitted_bytes = stats.retransmitted_bytes;
            report.declared_lost = stats.declared_lost;
            report.spurious = stats.spurious;
        }
        report
    }
}

fn link_report(link: &Link) -> LinkReport {
    let counters = link.counters();
    LinkReport {
        delivered: counters.delivered,
        dropped: counters.dropped,
        dropped_full: counters.dropped_full,
        dropped_aqm: counters.dropped_aqm,
        dropped_policer: counters.dropped_policer,
        marked: counters.marked,
        queue_delay_ms: Percentiles::of_us(&waits(link, 0, u32::MAX)),
    }
}

/// Times in the queue of what left it from `from_ms` on and before `to_ms`.
pub(super) fn waits(link: &Link, from_ms: u32, to_ms: u32) -> Vec<u32> {
    let within = link
        .log()
        .waits
        .iter()
        .filter(|(at, _)| (from_ms..to_ms).contains(at));
    within.map(|(_, wait)| *wait).collect()
}
