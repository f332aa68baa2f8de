//! What a soak goes through: phases of changing links, and what happens meanwhile. Profile, time and seed decide all of it.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::sim::{
    rng::Rng,
    scenario::{Link, Links, Loss, Reorder},
};

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Each kind of link once; two minutes suffice, no privilege is needed.
    Smoke,
    /// For hours: kinds of links in random order with random figures, again and again.
    Nightly,
    /// Only the table that compares the simulator with real sockets.
    Agreement,
}

impl Profile {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Nightly => "nightly",
            Self::Agreement => "agreement",
        }
    }
}

/// Something that happens to the clients or the relay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happening {
    /// Every long-lived client changes its packet keys.
    KeyUpdate,
    /// The relay makes new handshake keys and sends their bundle to its clients.
    RelayRotation,
    /// The NAT gives every client another port.
    NatRebind,
    /// The clients move to another socket, and the old one is gone.
    Rebind,
    /// The clients open a second path, move there, and give up the first.
    Migration,
    /// Nothing passes for a while.
    Outage(Duration),
}

/// Kinds of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Clear,
    Loss,
    Bursts,
    Disorder,
    Outage,
    Narrow,
    Congested,
}

/// In the order of importance: a short run takes the first.
const KINDS: [Kind; 7] = [
    Kind::Clear,
    Kind::Loss,
    Kind::Outage,
    Kind::Disorder,
    Kind::Bursts,
    Kind::Narrow,
    Kind::Congested,
];

/// A fall of the path MTU is found within this time; how long it took is in the results.
const SETTLES_S: f64 = 4.0;

/// A stretch of time with one link.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its kind.
    pub name: &'static str,
    /// The figures of its link, for people.
    pub detail: String,
    /// When it begins, seconds of load.
    pub from: f64,
    /// When it ends.
    pub to: f64,
    /// Both directions.
    pub links: Links,
    /// What happens, at seconds of load, in order.
    pub events: Vec<(f64, Happening)>,
    /// Round-trip time of the link without queue, milliseconds.
    pub rtt_ms: f64,
    /// Share of round trips the random faults of the link let through.
    pub survives: f64,
    /// The 95th percentile of an echo stays under this, milliseconds; `None`: an outage makes the question meaningless.
    pub echo_limit_ms: Option<f64>,
    /// Seconds at its beginning that count for no latency: a path that got narrower is noticed only by silence.
    pub settles_s: f64,
    /// Whether it counts for latency under loss.
    pub lossy: bool,
}

/// The phases of a run of `seconds` under load.
pub fn phases(profile: Profile, seconds: f64, seed: u64) -> Vec<Phase> {
    let mut rng = Rng::new(seed, "soak plan");
    let mut all = Vec::new();
    let (count, length) = match profile {
        Profile::Agreement => return all,
        Profile::Smoke => {
            let count = ((seconds / 3.0) as usize).clamp(1, KINDS.len());
            (count, seconds / count as f64)
        }
        Profile::Nightly => {
            let count = ((seconds / 60.0).round() as usize).max(1);
            (count, seconds / count as f64)
        }
    };
    let mut order: Vec<Kind> = Vec::new();
    for index in 0..count {
        if order.is_empty() {
            order = KINDS.iter().rev().copied().collect();
            if profile == Profile::Nightly {
                shuffle(&mut order, &mut rng);
            }
        }
        let Some(kind) = order.pop() else { break };
        let from = index as f64 * length;
        all.push(phase(kind, profile, (from, length), index, &mut rng));
    }
    all
}

fn shuffle(kinds: &mut [Kind], rng: &mut Rng) {
    for last in (1..kinds.len()).rev() {
        kinds.swap(last, rng.below(last as u64 + 1) as usize);
    }
}

fn phase(kind: Kind, profile: Profile, (from, length): (f64, f64), index: usize, rng: &mut Rng) -> Phase {
    // Nightly draws the figures around those of smoke.
    let mut around = |figure: f64| match profile {
        Profile::Nightly => figure * (0.5 + rng.unit() * 1.5),
        _ => figure,
    };
    let mut link = Link {
        rate_mbit: Some(around(40.0)),
        delay_ms: around(15.0),
        ..Link::default()
    };
    let name = match kind {
        Kind::Clear => "clear",
        Kind::Loss => {
            link.loss = Some(Loss::Iid { p: around(0.01) });
            "loss"
        }
        Kind::Bursts => {
            link.loss = Some(Loss::Gilbert {
                p: around(0.002),
                r: 0.4,
            });
            "bursts"
        }
        Kind::Disorder => {
            link.jitter_ms = around(2.0);
            link.reorder = Some(Reorder {
                p: around(0.01),
                extra_ms: 8.0,
            });
            "disorder"
        }
        Kind::Outage => "outage",
        Kind::Narrow => {
            link.mtu = Some(1280);
            link.duplicate = around(0.01);
            link.corrupt = around(0.002);
            "narrow"
        }
        Kind::Congested => {
            link.rate_mbit = Some(around(8.0));
            "congested"
        }
    };
    let rate = link.rate_mbit.unwrap_or(40.0);
    // One bandwidth-delay product.
    let queue = ((rate * 1e6 / 8.0 * link.delay_ms * 2.0 / 1000.0) as usize).max(20_000);
    link.queue_bytes = Some(queue);
    let events = events(kind, (from, length), index, rng);
    describe(name, kind, link, (from, length), events)
}

/// Keys change and clients move in every phase; the relay's keys in every third.
fn events(kind: Kind, (from, length): (f64, f64), index: usize, rng: &mut Rng) -> Vec<(f64, Happening)> {
    let mut at = |share: f64| from + length * (share + 0.06 * rng.unit());
    let mut events = vec![(at(0.18), Happening::KeyUpdate)];
    events.push((
        at(0.38),
        match index % 3 {
            0 => Happening::Migration,
            1 => Happening::NatRebind,
            _ => Happening::Rebind,
        },
    ));
    if kind == Kind::Outage {
        let time = Duration::from_secs_f64((length / 8.0).clamp(0.5, 3.0));
        events.push((at(0.5), Happening::Outage(time)));
    } else if index.is_multiple_of(3) {
        events.push((at(0.56), Happening::RelayRotation));
    } else {
        events.push((at(0.56), Happening::KeyUpdate));
    }
    events
}

fn describe(
    name: &'static str,
    kind: Kind,
    link: Link,
    (from, length): (f64, f64),
    events: Vec<(f64, Happening)>,
) -> Phase {
    let rate = link.rate_mbit.unwrap_or(0.0);
    let queue_ms = link.queue_bytes.unwrap_or(0) as f64 * 8.0 / rate.max(0.1) / 1000.0;
    let rtt_ms = 2.0 * link.delay_ms + link.jitter_ms;
    let late_ms = link.reorder.as_ref().map_or(0.0, |reorder| reorder.extra_ms);
    let lost = link.corrupt
        + match &link.loss {
            None => 0.0,
            Some(Loss::Iid { p } | Loss::Burst { p, .. }) => *p,
            Some(Loss::Gilbert { p, r }) => p / (p + r),
        };
    let mut detail = format!(
        "{rate:.0} Mbit/s, RTT {:.0} ms, queue {queue_ms:.0} ms",
        2.0 * link.delay_ms
    );
    for (figure, unit, what) in [
        (lost * 100.0, " %", "lost"),
        (link.jitter_ms, " ms", "jitter"),
        (link.reorder.as_ref().map_or(0.0, |r| r.p * 100.0), " %", "late"),
        (link.duplicate * 100.0, " %", "twice"),
        (link.mtu.map_or(0.0, |mtu| mtu as f64), "", "MTU"),
    ] {
        if figure > 0.0 {
            detail.push_str(&format!(", {what} {figure:.2}{unit}").replace(".00", ""));
        }
    }
    // A lost message costs a round trip until the gap is seen and one to repeat it; both directions may have a full queue.
    let limit = 3.0 * rtt_ms + 2.0 * queue_ms + 2.0 * late_ms + 60.0;
    Phase {
        name,
        detail,
        from,
        to: from + length,
        links: Links {
            up: link.clone(),
            down: link,
        },
        events,
        rtt_ms,
        survives: (1.0 - lost) * (1.0 - lost),
        echo_limit_ms: (kind != Kind::Outage).then_some(limit),
        settles_s: if kind == Kind::Narrow { SETTLES_S } else { 0.0 },
        lossy: lost > 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_covers_its_time_and_is_the_same_again() {
        for (profile, seconds) in [
            (Profile::Smoke, 8.0),
            (Profile::Smoke, 110.0),
            (Profile::Nightly, 7200.0),
        ] {
            let plan = phases(profile, seconds, 7);
            assert!((plan.last().unwrap().to - seconds).abs() < 1e-6);
            for pair in plan.windows(2) {
                assert!((pair[0].to - pair[1].from).abs() < 1e-6);
            }
            for phase in &plan {
                let inside = |at: &f64| (phase.from..phase.to).contains(at);
                assert!(phase.events.iter().all(|(at, _)| inside(at)));
            }
            let again = phases(profile, seconds, 7);
            assert_eq!(format!("{plan:?}"), format!("{again:?}"));
        }
        assert_eq!(phases(Profile::Smoke, 110.0, 1).len(), KINDS.len());
    }

    #[test]
    fn a_short_run_still_meets_loss_and_every_long_one_all_kinds() {
        let short = phases(Profile::Smoke, 6.0, 1);
        assert!(short.iter().any(|phase| phase.lossy));
        let night = phases(Profile::Nightly, 7.0 * 60.0, 3);
        let names: std::collections::BTreeSet<_> = night.iter().map(|phase| phase.name).collect();
        assert_eq!(names.len(), KINDS.len());
    }
}
