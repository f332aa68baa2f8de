//! The matrix of wide-area links that msquic runs every night: rate, round trip, queue, loss and reordering, one transfer each.

use super::scenario::{Link, Loss, Reorder, Scenario};

const RATES: [f64; 4] = [10.0, 50.0, 100.0, 1000.0];
const ROUND_TRIPS: [f64; 3] = [5.0, 50.0, 200.0];
const QUEUES: [f64; 3] = [0.2, 1.0, 5.0];
const LOSSES: [f64; 3] = [0.0, 0.001, 0.0001];
/// Probability and extra delay of a packet that comes late.
const REORDERS: [(f64, f64); 3] = [(0.0, 0.0), (0.001, 5.0), (0.001, 10.0)];
/// A queue below this cannot hold what one sender sends at once.
const SMALLEST_QUEUE: f64 = 3000.0;

/// All cells. Each transfers two seconds' worth of its link, at least 1 MB and at most 50 MB, and must complete within ten
/// times its ideal time; cells whose queue is below two packets are left out.
pub fn cells(cc: &str) -> Vec<Scenario> {
    let mut cells = Vec::new();
    for rate in RATES {
        for rtt in ROUND_TRIPS {
            for queue in QUEUES {
                for loss in LOSSES {
                    for reorder in REORDERS {
                        cells.extend(cell(cc, rate, rtt, queue, loss, reorder));
                    }
                }
            }
        }
    }
    cells
}

fn cell(cc: &str, rate: f64, rtt: f64, queue: f64, loss: f64, reorder: (f64, f64)) -> Option<Scenario> {
    let bdp = rate * 1e6 / 8.0 * rtt / 1000.0;
    let queue_bytes = bdp * queue;
    if queue_bytes < SMALLEST_QUEUE {
        return None;
    }
    let bytes = (rate * 1e6 / 8.0 * 2.0).clamp(1e6, 50e6);
    let ideal = bytes * 8.0 / (rate * 1e6) + rtt / 1000.0 * 3.0;
    let name = format!("{rate} Mbit/s {rtt} ms {queue} BDP loss {loss} late {}", reorder.1);
    let text = format!(
        "name = \"{name}\"\nseconds = {:.1}\n[[flow]]\nkind = \"bulk\"\nfrom = \"server\"\nbytes = {bytes:.0}\ncc = \"{cc}\"\n",
        ideal * 10.0
    );
    let mut scenario = Scenario::parse(&text).ok()?;
    let link = Link {
        rate_mbit: Some(rate),
        delay_ms: rtt / 2.0,
        queue_bytes: Some(queue_bytes as usize),
        loss: (loss > 0.0).then_some(Loss::Iid { p: loss }),
        reorder: (reorder.0 > 0.0).then_some(Reorder {
            p: reorder.0,
            extra_ms: reorder.1,
        }),
        ..Link::default()
    };
    scenario.link.up = link.clone();
    scenario.link.down = link;
    Some(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_a_cell_but_those_without_a_queue() {
        // 10 Mbit/s and 5 ms leave 1250 bytes at 0.2 BDP.
        assert_eq!(cells("bbr").len(), 4 * 3 * 3 * 3 * 3 - 9);
    }
}
