//! How adit does beside the best peer and beside the floor of the same round: above one is better.

use serde_json::{Value, json};

use crate::cells::{Cell, Metric, median, metrics, summary};

/// Ratios of one variant of ours over the rounds.
#[derive(Clone, Debug)]
pub struct Ratio {
    pub net: String,
    pub workload: String,
    pub variant: String,
    /// What it was compared with.
    pub beside: &'static str,
    /// The peer that was the best most often.
    pub best: String,
    /// Rising.
    pub values: Vec<f64>,
}

impl Ratio {
    pub fn json(&self) -> Value {
        json!({
            "net": self.net, "workload": self.workload, "variant": self.variant, "beside": self.beside,
            "best": self.best, "ratio": summary(&self.values),
        })
    }

    pub fn median(&self) -> f64 {
        median(&self.values)
    }
}

/// Every variant of adit beside the peers with the same cipher, and beside the floor where there is one.
pub fn all(cells: &[Cell]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for ours in cells.iter().filter(|cell| is_ours(cell)) {
        let same = |cell: &&Cell| cell.net == ours.net && cell.workload == ours.workload;
        let peers = |cipher: &str| -> Vec<&Cell> {
            let peer = |cell: &&Cell| !is_ours(cell) && cell.program() != "udp" && cell.cipher() == cipher;
            cells.iter().filter(same).filter(peer).collect()
        };
        let floor: Vec<&Cell> = cells
            .iter()
            .filter(same)
            .filter(|cell| {
                cell.program() == "udp" && (cell.cipher() == ours.cipher() || ours.workload == "echo")
            })
            .collect();
        ratios.push(beside(ours, &peers(ours.cipher()), "best peer"));
        if ours.cipher() == "aes" {
            // Theirs has shorter keys; these have ours.
            ratios.push(beside(ours, &peers("aes256"), "best peer with AES-256"));
        }
        ratios.push(beside(ours, &floor, "floor"));
    }
    ratios.retain(|ratio| !ratio.values.is_empty());
    ratios
}

fn is_ours(cell: &Cell) -> bool {
    cell.program().starts_with("adit")
}

fn beside(ours: &Cell, others: &[&Cell], word: &'static str) -> Ratio {
    let metric = metrics(&ours.workload)[0];
    let mut values = Vec::new();
    let mut winners: Vec<&str> = Vec::new();
    for (round, figures) in &ours.rounds {
        let others = others
            .iter()
            .filter_map(|cell| Some((*cell.rounds.get(round)?.get(metric.key)?, cell.program())));
        let best = others.max_by(|a, b| better(metric, a.0, b.0));
        if let (Some(ours), Some((best, program))) = (figures.get(metric.key), best) {
            values.push(if metric.more_is_better {
                ours / best
            } else {
                best / ours
            });
            winners.push(program);
        }
    }
    values.sort_by(f64::total_cmp);
    let times = |program: &str| winners.iter().filter(|winner| **winner == program).count();
    let best = winners.iter().max_by_key(|program| times(program));
    Ratio {
        net: ours.net.clone(),
        workload: ours.workload.clone(),
        variant: ours.variant.clone(),
        beside: word,
        best: best.map_or_else(String::new, |program| (*program).to_owned()),
        values,
    }
}

fn better(metric: Metric, a: f64, b: f64) -> std::cmp::Ordering {
    if metric.more_is_better {
        a.total_cmp(&b)
    } else {
        b.total_cmp(&a)
    }
}
