//! The tables for people: medians with the least and the largest.

use std::fmt::Write;

use crate::{
    cells::{Cell, median, metrics},
    ratios::Ratio,
};

pub fn all(cells: &[Cell], ratios: &[Ratio]) -> String {
    let mut out = String::from("# adit beside others\n\nMedian (least..largest) of the rounds.\n");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for cell in cells {
        let group = (&*cell.net, &*cell.workload);
        if !seen.contains(&group) {
            seen.push(group);
            one(&mut out, cells, group);
        }
    }
    out.push_str("\n## Ratios\n\nOf each round; above 1 adit does better.\n\n");
    out.push_str("| net | workload | variant | beside | ratio |\n|---|---|---|---|---|\n");
    for ratio in ratios {
        let (net, workload, variant) = (&ratio.net, &ratio.workload, &ratio.variant);
        let beside = match ratio.beside {
            "floor" => "floor".to_owned(),
            other => format!("{other} ({})", ratio.best),
        };
        let shown = range(&ratio.values, ratio.median());
        let _ = writeln!(out, "| {net} | {workload} | {variant} | {beside} | {shown} |");
    }
    out
}

fn one(out: &mut String, cells: &[Cell], (net, workload): (&str, &str)) {
    let metrics = metrics(workload);
    let mut group: Vec<&Cell> = cells
        .iter()
        .filter(|cell| cell.net == net && cell.workload == workload)
        .collect();
    group.sort_by_key(|cell| (cell.cipher().to_owned(), cell.program().to_owned()));
    let _ = writeln!(out, "\n## {workload}, {net}\n");
    let titles: Vec<&str> = metrics.iter().map(|metric| metric.title).collect();
    let _ = writeln!(out, "| variant | n | {} |", titles.join(" | "));
    let _ = writeln!(out, "|---|---|{}", "---|".repeat(titles.len()));
    for cell in group {
        let failed = match cell.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let _ = write!(out, "| {} | {}{failed} |", cell.variant, cell.rounds.len());
        for metric in metrics {
            let values = cell.values(metric.key);
            let _ = write!(out, " {} |", range(&values, median(&values)));
        }
        out.push('\n');
    }
}

fn range(values: &[f64], median: f64) -> String {
    match (values.first(), values.last()) {
        (Some(min), Some(max)) if values.len() > 1 => {
            format!("{} ({}..{})", number(median), number(*min), number(*max))
        }
        (Some(only), _) => number(*only),
        _ => "-".into(),
    }
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        zero if zero == 0.0 => 0,
        _ => 2,
    };
    format!("{value:.decimals$}")
}
