//! On a perfect network nothing is lost, dropped or sent twice.

use crate::sim::Report;

/// What broke the quiet, if anything did.
pub fn disturbance(report: &Report) -> Option<String> {
    for (index, flow) in report.flows.iter().enumerate() {
        if flow.declared_lost + flow.spurious + flow.retransmitted_bytes > 0 {
            return Some(format!(
                "flow {index}: {} declared lost, {} spurious, {} bytes sent twice",
                flow.declared_lost, flow.spurious, flow.retransmitted_bytes
            ));
        }
    }
    report
        .drops
        .iter()
        .find(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{count} dropped: {reason}"))
}
