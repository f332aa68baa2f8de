//! The result of a run, as JSON and as a line of a table.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{record::Percentiles, scenario::Bound};

/// What a run produced.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct Report {
    pub name: String,
    pub seed: u64,
    /// Every flow with an end reached it.
    pub completed: bool,
    pub virtual_seconds: f64,
    pub handshakes: u64,
    /// Of those, with a ticket; and of those, whose early data was taken.
    pub resumed: u64,
    pub early_accepted: u64,
    pub wire_digest: String,
    pub flows: Vec<FlowReport>,
    pub links: Links,
    /// Traffic of others.
    pub cross: Vec<CrossReport>,
    /// Figures of the times the scenario names.
    pub windows: Vec<WindowReport>,
    /// Jain's index over the goodput of the bulk flows, in the last half of the time in which all were active.
    pub jain: f64,
    /// Datagrams that either end dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    pub peak_memory_bytes: usize,
    /// Bytes that were not what was sent, connections that ended, expectations that failed.
    pub faults: Vec<String>,
    /// Of several seeds: this report with the median of every number.
    #[serde(skip)]
    pub medians: Option<serde_json::Value>,
}

/// One flow of a run. Packet counters are those of its sender's connection.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct FlowReport {
    pub kind: &'static str,
    pub connection: u32,
    pub cc: String,
    pub bytes: u64,
    pub completion_s: Option<f64>,
    pub goodput_mbit: f64,
    pub sent_bytes: u64,
    pub retransmitted_bytes: u64,
    pub declared_lost: u64,
    pub spurious: u64,
    pub delivered: u64,
    pub expired: u64,
    pub latency_ms: Percentiles,
}

/// Both directions of the link.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct Links {
    pub up: LinkReport,
    pub down: LinkReport,
}

/// One direction of the link.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct LinkReport {
    pub delivered: u64,
    pub dropped: u64,
    /// Of the dropped, by what.
    pub dropped_full: u64,
    pub dropped_aqm: u64,
    pub dropped_policer: u64,
    /// Marked CE.
    pub marked: u64,
    pub queue_delay_ms: Percentiles,
}

/// One flow of cross traffic.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct CrossReport {
    pub kind: &'static str,
    pub bytes: u64,
    pub completion_s: Option<f64>,
    pub goodput_mbit: f64,
    pub sent_segments: u64,
    pub retransmitted_segments: u64,
}

/// Figures of a time within the run.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct WindowReport {
    pub from_s: f64,
    pub to_s: f64,
    pub flows: Vec<Share>,
    pub cross: Vec<Share>,
    /// Over bulk flows and simulated TCP.
    pub jain: f64,
    pub up: LinkWindow,
    pub down: LinkWindow,
}

/// What one flow got of a window.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct Share {
    pub goodput_mbit: f64,
    /// Of all that arrived in the window.
    pub share: f64,
}

/// What a direction of the link did in a window.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documented keys of the JSON report")]
pub struct LinkWindow {
    pub offered: u64,
    pub dropped: u64,
    /// Dropped of those offered.
    pub loss: f64,
    pub queue_delay_ms: Percentiles,
}

impl Report {
    /// Whether the run completed, delivered what was sent and met every expectation.
    pub fn passed(&self) -> bool {
        self.completed && self.faults.is_empty()
    }

    /// Notes each expectation that does not hold as a fault.
    pub fn judge(&mut self, expect: &BTreeMap<String, Bound>) {
        let json = serde_json::to_value(&*self).unwrap_or_default();
        self.judge_against(&json, expect);
    }

    /// The same of other numbers than the report's own: medians of several seeds.
    pub fn judge_against(&mut self, numbers: &serde_json::Value, expect: &BTreeMap<String, Bound>) {
        for (key, bound) in expect {
            if let Some(fault) = breach(numbers, key, *bound) {
                self.faults.push(fault);
            }
        }
    }

    /// The report as JSON: of several seeds the medians, with this report's verdict.
    pub fn json(&self) -> serde_json::Value {
        let own = serde_json::to_value(self).unwrap_or_default();
        let Some(mut medians) = self.medians.clone() else {
            return own;
        };
        for key in ["seed", "completed", "faults"] {
            medians[key] = own[key].clone();
        }
        medians
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let verdict = if self.passed() { "pass" } else { "FAIL" };
        let goodput: f64 = self.flows.iter().map(|flow| flow.goodput_mbit).sum();
        let lost: u64 = self.links.up.dropped + self.links.down.dropped;
        let mut line = format!(
            "{verdict}  {:<32} {:>7.2} s  {:>8.2} Mbit/s  {:>3} handshakes  {lost:>5} lost on the link",
            self.name, self.virtual_seconds, goodput, self.handshakes
        );
        for fault in &self.faults {
            line.push_str("\n      ");
            line.push_str(fault);
        }
        line
    }
}

fn breach(report: &serde_json::Value, key: &str, bound: Bound) -> Option<String> {
    let found = key
        .split('.')
        .try_fold(report, |value, part| match part.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(part),
        });
    let Some(number) = found.and_then(|value| {
        value
            .as_f64()
            .or_else(|| value.as_bool().map(|b| f64::from(u8::from(b))))
    }) else {
        return Some(format!("expect: {key} is not a number of this report"));
    };
    let low = bound.min.is_some_and(|min| number < min);
    let high = bound.max.is_some_and(|max| number > max);
    (low || high).then(|| format!("expect: {key} is {number}, wanted {bound:?}"))
}

/// Jain's fairness index; 1 for no or one flow.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (shares.len() as f64 * squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_find_their_key_and_can_fail() {
        let json = serde_json::json!({ "flows": [{ "goodput_mbit": 9.0 }] });
        let bound = Bound {
            min: Some(9.2),
            max: None,
        };
        assert!(
            breach(&json, "flows.0.goodput_mbit", bound)
                .unwrap()
                .contains("is 9")
        );
        assert!(
            breach(&json, "flows.1.goodput_mbit", bound)
                .unwrap()
                .contains("not a number")
        );
        assert_eq!(
            breach(
                &json,
                "flows.0.goodput_mbit",
                Bound {
                    min: Some(8.0),
                    max: Some(9.5)
                }
            ),
            None
        );
    }

    #[test]
    fn jain_of_equal_and_unequal_shares() {
        assert!((jain(&[1.0, 1.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0]) - 0.5).abs() < 1e-9);
    }
}
