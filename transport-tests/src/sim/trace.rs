//! What happened over time, for plots: sampled when the world moves anyway, so that watching changes nothing.

use std::{collections::BTreeMap, time::Duration};

use transport_core::ConnectionStats;

use super::{
    flow::History,
    link::{Cause, Log},
    scenario::Direction,
};
use crate::report::{Plot, Series};

/// At most one sample of a connection in this time.
const EVERY: Duration = Duration::from_millis(20);

/// Everything a report draws.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Injected events.
    pub marks: Vec<(f64, String)>,
    /// Length of the run, seconds.
    pub seconds: f64,
    /// Payload of each flow and of each cross flow.
    pub goodput: Vec<(String, History)>,
    /// Lines by what they show: round trip, window and so on.
    lines: BTreeMap<Line, Vec<Series>>,
    links: Vec<(Direction, Log)>,
    next: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    Rtt,
    Window,
    Pacing,
    Lost,
}

impl Trace {
    /// An injected event.
    pub fn mark(&mut self, at: Duration, what: String) {
        self.marks.push((at.as_secs_f64(), what));
    }

    /// Whether it is time for another sample.
    pub fn due(&mut self, now: Duration) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + EVERY;
        }
        due
    }

    /// A sample of the sender of a connection.
    pub fn connection(&mut self, at: Duration, name: &str, stats: &ConnectionStats) {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        if stats.min_rtt < Duration::from_hours(1) && !stats.latest_rtt.is_zero() {
            self.point(Line::Rtt, &format!("{name} latest"), at, millis(stats.latest_rtt));
            self.point(Line::Rtt, &format!("{name} least"), at, millis(stats.min_rtt));
        }
        self.point(
            Line::Window,
            &format!("{name} window"),
            at,
            stats.cwnd as f64 / 1024.0,
        );
        let in_flight = stats.in_flight as f64 / 1024.0;
        self.point(Line::Window, &format!("{name} in flight"), at, in_flight);
        let pacing = stats.pacing_bytes_per_s as f64 * 8.0 / 1e6;
        self.point(Line::Pacing, name, at, pacing);
        self.point(
            Line::Lost,
            &format!("{name} declared lost"),
            at,
            stats.declared_lost as f64,
        );
        if stats.spurious > 0 {
            self.point(
                Line::Lost,
                &format!("{name} of those spurious"),
                at,
                stats.spurious as f64,
            );
        }
    }

    /// A sample of the window of simulated TCP.
    pub fn cross(&mut self, at: Duration, name: &str, window: u64) {
        self.point(
            Line::Window,
            &format!("{name} window"),
            at,
            window as f64 / 1024.0,
        );
    }

    fn point(&mut self, line: Line, name: &str, at: Duration, value: f64) {
        let all = self.lines.entry(line).or_default();
        let point = (at.as_secs_f64(), value);
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => all.push(Series::new(name, vec![point])),
        }
    }

    /// What the links kept, at the end of a run.
    pub fn links(&mut self, up: &Log, down: &Log) {
        self.links = vec![(Direction::Up, up.clone()), (Direction::Down, down.clone())];
    }

    /// The plots of a report page.
    pub fn plots(&self) -> Vec<Plot> {
        let mut plots = vec![
            self.plot("Goodput", "Mbit/s", self.goodput_series()),
            self.plot(
                "Round-trip time of the sender's samples",
                "ms",
                self.line(Line::Rtt),
            ),
            self.plot(
                "Congestion window and bytes in flight",
                "KiB",
                self.line(Line::Window),
            ),
            self.plot("Pacing rate", "Mbit/s", self.line(Line::Pacing)),
            self.plot("Time in the queue of the bottleneck", "ms", self.queue_series()),
            self.plot(
                "Packets the link dropped, since the start",
                "packets",
                self.drop_series(),
            ),
            self.plot(
                "Packets the sender declared lost, since the start",
                "packets",
                self.line(Line::Lost),
            ),
        ];
        plots.retain(|plot| !plot.series.is_empty());
        plots
    }

    fn plot(&self, title: &str, unit: &str, series: Vec<Series>) -> Plot {
        Plot {
            title: title.into(),
            x_label: "time, s".into(),
            y_label: unit.into(),
            series,
            marks: self.marks.clone(),
        }
    }

    fn line(&self, line: Line) -> Vec<Series> {
        self.lines.get(&line).cloned().unwrap_or_default()
    }

    /// Means over about a hundredth of the run, but of at least one step of the history.
    fn goodput_series(&self) -> Vec<Series> {
        let step = History::STEP.as_secs_f64();
        let width = ((self.seconds / 120.0 / step).round() as usize).max(1);
        let series = |(name, history): &(String, History)| {
            let span = width as f64 * step;
            let mbit = |bytes: u64| bytes as f64 * 8.0 / span / 1e6;
            let sums = history.steps().chunks(width).map(|chunk| chunk.iter().sum());
            let mut points = vec![(0.0, 0.0)];
            points.extend(
                sums.enumerate()
                    .map(|(at, sum)| ((at as f64 + 0.5) * span, mbit(sum))),
            );
            Series::new(name, points)
        };
        self.goodput.iter().map(series).collect()
    }

    fn queue_series(&self) -> Vec<Series> {
        let of = |(direction, log): &(Direction, Log)| {
            let point = |(at, wait): &(u32, u32)| (f64::from(*at) / 1000.0, f64::from(*wait) / 1000.0);
            Series::new(name(*direction), log.waits.iter().map(point).collect())
        };
        let filled = self.links.iter().filter(|(_, log)| !log.waits.is_empty());
        filled.map(of).collect()
    }

    fn drop_series(&self) -> Vec<Series> {
        let mut all = Vec::new();
        for (direction, log) in &self.links {
            for (cause, what) in CAUSES {
                let times = log.drops.iter().filter(|(_, why)| *why == cause);
                let count =
                    |(index, (at, _)): (usize, &(u32, Cause))| (f64::from(*at) / 1000.0, (index + 1) as f64);
                let points: Vec<(f64, f64)> = times.enumerate().map(count).collect();
                if !points.is_empty() {
                    all.push(Series::new(format!("{}: {what}", name(*direction)), points));
                }
            }
        }
        all
    }
}

const CAUSES: [(Cause, &str); 5] = [
    (Cause::Full, "queue full"),
    (Cause::Aqm, "CoDel"),
    (Cause::Policed, "policer"),
    (Cause::Mtu, "over the MTU"),
    (Cause::Wire, "on the wire"),
];

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    }
}
