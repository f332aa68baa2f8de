//! Figures over a part of the run: windows, fairness, and samples for plots.

use std::time::Duration;

use super::{
    super::{
        cross::Cross,
        flow::{Flow, History},
        link::Link,
        record::Percentiles,
        report::{CrossReport, LinkWindow, Share, WindowReport, jain},
        scenario::{CrossKind, Kind, Side, Window},
        trace::Trace,
    },
    World, ms,
    summary::waits,
};

impl World<'_> {
    pub(super) fn window(&self, window: &Window) -> WindowReport {
        let (from, to) = (ms(window.from_ms), ms(window.to_ms));
        let mbit = |history: &History| history.mbit(from, to);
        let flows: Vec<f64> = self.flows.iter().map(|flow| mbit(&flow.history)).collect();
        let cross: Vec<f64> = self.cross.iter().map(|cross| mbit(&cross.history)).collect();
        let all: f64 = flows.iter().chain(&cross).sum();
        let share = |goodput_mbit: &f64| Share {
            goodput_mbit: *goodput_mbit,
            share: if all > 0.0 { goodput_mbit / all } else { 0.0 },
        };
        let bulk = self.flows.iter().filter(|flow| flow.spec.kind == Kind::Bulk);
        let tcp = self
            .cross
            .iter()
            .filter(|cross| cross.spec.kind != CrossKind::UdpCbr);
        let histories = bulk
            .map(|flow| &flow.history)
            .chain(tcp.map(|cross| &cross.history));
        WindowReport {
            from_s: from.as_secs_f64(),
            to_s: to.as_secs_f64(),
            jain: jain(&histories.map(mbit).collect::<Vec<_>>()),
            flows: flows.iter().map(share).collect(),
            cross: cross.iter().map(share).collect(),
            up: link_window(&self.up, window),
            down: link_window(&self.down, window),
        }
    }

    /// Over the last half of the time in which all bulk flows were active.
    pub(super) fn jain(&self, end: Duration) -> f64 {
        let bulk = || self.flows.iter().filter(|flow| flow.spec.kind == Kind::Bulk);
        let ends = |flow: &Flow| flow.completion.unwrap_or(end);
        let from = bulk().map(|flow| flow.start).max().unwrap_or_default();
        let to = bulk().map(ends).min().unwrap_or(end);
        let middle = from + to.saturating_sub(from) / 2;
        if to.saturating_sub(middle) < 2 * History::STEP {
            let whole = |flow: &Flow| {
                let active = ends(flow).saturating_sub(flow.start).as_secs_f64();
                flow.received as f64 / active.max(1e-9)
            };
            return jain(&bulk().map(whole).collect::<Vec<_>>());
        }
        let rates: Vec<f64> = bulk().map(|flow| flow.history.mbit(middle, to)).collect();
        jain(&rates)
    }

    /// Notes how the senders stand, if anyone watches.
    pub(super) fn sample(&mut self) {
        let now = self.clock.elapsed();
        let Some(trace) = &mut self.trace else { return };
        if !trace.due(now) {
            return;
        }
        for session in &mut self.sessions {
            let mut sides: Vec<Side> = Vec::new();
            for flow in self.flows.iter().filter(|flow| session.carries(flow)) {
                let data = if flow.spec.kind == Kind::Requests
                    && flow.spec.response_bytes > flow.spec.request_bytes
                {
                    flow.spec.from.other()
                } else {
                    flow.spec.from
                };
                if flow.start <= now && flow.completion.is_none() && !sides.contains(&data) {
                    sides.push(data);
                }
            }
            for side in sides {
                let (name, connection) = match side {
                    Side::Client => ("client", session.client.endpoint.connection(session.handle)),
                    Side::Server => (
                        "server",
                        session
                            .server_handle
                            .and_then(|handle| self.server.endpoint.connection(handle)),
                    ),
                };
                if let Some(connection) = connection {
                    let name = format!("{} {name}", session.connection);
                    trace.connection(now, &name, &connection.stats());
                }
            }
        }
        for (index, cross) in self.cross.iter().enumerate() {
            if let Some(window) = cross.window().filter(|_| cross.start() <= now) {
                trace.cross(now, &format!("{} {index}", cross.spec.kind.name()), window);
            }
        }
    }

    /// What was kept for plots.
    pub(super) fn trace(&mut self) -> Trace {
        let mut trace = self.trace.take().unwrap_or_default();
        trace.seconds = self.clock.elapsed().as_secs_f64();
        trace.links(self.up.log(), self.down.log());
        for (index, flow) in self.flows.iter().enumerate() {
            let cc = flow
                .spec
                .cc
                .as_deref()
                .map_or(String::new(), |cc| format!(" {cc}"));
            let name = format!("flow {index} {}{cc}", flow.kind_name());
            trace.goodput.push((name, flow.history.clone()));
        }
        for (index, cross) in self.cross.iter().enumerate() {
            let name = format!("cross {index} {}", cross.spec.kind.name());
            trace.goodput.push((name, cross.history.clone()));
        }
        trace
    }
}

/// What a flow of cross traffic did.
pub(super) fn cross_report(cross: &Cross, end: Duration) -> CrossReport {
    let (sent_segments, retransmitted_segments) = cross.sent();
    let bytes = cross.history.total();
    let active = cross.completion.unwrap_or(end).saturating_sub(cross.start());
    let seconds = active.as_secs_f64().max(1e-9);
    CrossReport {
        kind: cross.spec.kind.name(),
        bytes,
        completion_s: cross.completion.map(|_| seconds),
        goodput_mbit: bytes as f64 * 8.0 / seconds / 1e6,
        sent_segments,
        retransmitted_segments,
    }
}

fn link_window(link: &Link, window: &Window) -> LinkWindow {
    let (from, to) = (window.from_ms as u32, window.to_ms as u32);
    let within = |at: &u32| (from..to).contains(at);
    let offered = link.log().offers.iter().filter(|at| within(at)).count() as u64;
    let dropped = link.log().drops.iter().filter(|(at, _)| within(at)).count() as u64;
    LinkWindow {
        offered,
        dropped,
        loss: dropped as f64 / offered.max(1) as f64,
        queue_delay_ms: Percentiles::of_us(&waits(link, from, to)),
    }
}
