//! Bars of Gbit/s as SVG: medians, with a line from the least to the largest. Colours come from a style sheet inside, so
//! that one file reads on a light and on a dark ground.

use std::fmt::Write;

use crate::{
    cells::{Cell, median},
    table::number,
};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 110.0;
const ROW: f64 = 22.0;
const HEAD: f64 = 34.0;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#333}.head{font-weight:600}.name{text-anchor:end}\
    .ours{fill:#0a7d5a}.peer{fill:#5b7fb5}.floor{fill:#a8a8a8}.range{stroke:#333;stroke-width:1.5}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.ours{fill:#3fcf9f}.peer{fill:#86a9dd}.floor{fill:#6d6d6d}\
    .range{stroke:#ddd}}";

/// A panel for each network, workload and cipher that moves bytes.
pub fn svg(cells: &[Cell]) -> String {
    let mut panels: Vec<(String, Vec<&Cell>)> = Vec::new();
    for cell in cells.iter().filter(|cell| !cell.values("gbit_per_s").is_empty()) {
        let cipher = match cell.cipher() {
            "chacha" => "ChaCha20-Poly1305",
            "aes" | "aes256" => "AES-GCM",
            _ => "no cipher",
        };
        let title = format!("{}, {cipher}, {}", cell.workload, cell.net);
        match panels.iter_mut().find(|(known, _)| *known == title) {
            Some((_, panel)) => panel.push(cell),
            None => panels.push((title, vec![cell])),
        }
    }
    let most = cells
        .iter()
        .flat_map(|cell| cell.values("gbit_per_s"))
        .fold(1.0, f64::max);
    let mut body = String::new();
    let mut y = 0.0;
    for (title, mut panel) in panels {
        panel.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
        let _ = writeln!(
            body,
            r#"<text class="head" x="8" y="{:.0}">{title}</text>"#,
            y + 22.0
        );
        y += HEAD;
        for cell in panel {
            bar(&mut body, cell, y, most);
            y += ROW;
        }
        y += ROW / 2.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" role=\"img\" \
         aria-label=\"Gbit/s of adit, its peers and bare UDP\">\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

fn speed(cell: &Cell) -> f64 {
    median(&cell.values("gbit_per_s"))
}

fn bar(out: &mut String, cell: &Cell, y: f64, most: f64) {
    let class = match cell.program() {
        "udp" => "floor",
        program if program.starts_with("adit") => "ours",
        _ => "peer",
    };
    let name = match cell.program() {
        "udp" => "bare UDP",
        program => program,
    };
    let at = |value: f64| LEFT + value / most * (WIDTH - LEFT - RIGHT);
    let values = cell.values("gbit_per_s");
    let (least, largest) = (values.first().copied(), values.last().copied());
    let (least, largest) = (least.unwrap_or_default(), largest.unwrap_or_default());
    let (middle, text) = (y + ROW / 2.0, y + ROW / 2.0 + 4.5);
    let _ = writeln!(
        out,
        r#"<text class="name" x="{:.0}" y="{text:.1}">{name}</text><rect class="{class}" x="{LEFT}" y="{:.1}" width="{:.1}" height="{:.1}"/>"#,
        LEFT - 8.0,
        y + 3.0,
        at(speed(cell)) - LEFT,
        ROW - 6.0,
    );
    let _ = writeln!(
        out,
        r#"<path class="range" d="M{:.1} {middle:.1}H{:.1}"/><text x="{:.1}" y="{text:.1}">{} Gbit/s</text>"#,
        at(least),
        at(largest),
        at(largest) + 8.0,
        number(speed(cell)),
    );
}
