//! The report of a run as files: an index, a page for each scenario, CSV beside it.

use std::{fs, io, path::Path};

use super::{Report, batch::Finished};
use crate::report::{Cell, Page, csv};

/// Pages under construction.
#[derive(Default)]
pub struct Pages {
    rows: Vec<Vec<Cell>>,
    failed: usize,
}

impl Pages {
    /// Writes the page and the CSV of one scenario into `folder`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn add(&mut self, folder: &Path, done: &Finished) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let stem = stem(&done.file);
        let plots = done
            .trace
            .as_ref()
            .map(super::trace::Trace::plots)
            .unwrap_or_default();
        let report = &done.report;
        let text = fs::read_to_string(&done.file).unwrap_or_default();
        let seed = report.seed;
        let mut page = Page::new(&done.scenario.name)
            .text(comment(&text).as_str())
            .table(
                &["flow", "cc", "done, s", "Mbit/s", "declared lost", "spurious"],
                flows(report),
            );
        if !report.cross.is_empty() {
            page = page.table(
                &["cross traffic", "Mbit/s", "segments sent", "sent again"],
                cross(report),
            );
        }
        page = page.table(
            &[
                "link",
                "delivered",
                "dropped",
                "queue mean, ms",
                "p50",
                "p95",
                "p99",
                "max",
            ],
            links(report),
        );
        page = if report.faults.is_empty() {
            page.text("Every expectation holds.")
        } else {
            page.table(
                &["what does not hold"],
                report.faults.iter().map(|fault| [fault.clone()]),
            )
        };
        for plot in &plots {
            page = page.plot(plot);
        }
        let page = page
            .heading("The scenario")
            .code(&text)
            .text(&format!(
                "Seed {seed}; digest of the wire {}.",
                report.wire_digest
            ))
            .table(
                &["file"],
                [[Cell::link("all points as CSV", format!("{stem}.csv"))]],
            )
            .table(&["page"], [[Cell::link("all scenarios", "index.html")]])
            .finish();
        fs::write(folder.join(format!("{stem}.html")), page)?;
        fs::write(folder.join(format!("{stem}.csv")), csv(&plots))?;
        self.failed += usize::from(!report.passed());
        self.rows.push(row(&stem, done));
        Ok(())
    }

    /// Writes the index.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(self, folder: &Path, command: &str) -> io::Result<()> {
        let heads = [
            "scenario",
            "Mbit/s",
            "ended, s",
            "queue p95, ms",
            "dropped by the link",
            "Jain",
            "result",
        ];
        let page = Page::new("Loss simulation")
            .text(&format!("{} scenarios, {} failed.", self.rows.len(), self.failed))
            .code(command)
            .table(&heads, self.rows)
            .finish();
        fs::create_dir_all(folder)?;
        fs::write(folder.join("index.html"), page)
    }
}

fn row(stem: &str, done: &Finished) -> Vec<Cell> {
    let report = &done.report;
    let goodput: f64 = report.flows.iter().map(|flow| flow.goodput_mbit).sum();
    let verdict = if report.passed() {
        "pass".into()
    } else {
        format!("FAIL: {}", report.faults.join("\n"))
    };
    let queue = report
        .links
        .up
        .queue_delay_ms
        .p95
        .max(report.links.down.queue_delay_ms.p95);
    vec![
        Cell::link(stem, format!("{stem}.html")),
        Cell::from(format!("{goodput:.2}")),
        Cell::from(format!("{:.2}", report.virtual_seconds)),
        Cell::from(format!("{queue:.1}")),
        Cell::from(format!("{}", report.links.up.dropped + report.links.down.dropped)),
        Cell::from(format!("{:.3}", report.jain)),
        Cell::from(verdict),
    ]
}

/// A page's name: the file's, with its folder when that is not the list itself.
fn stem(file: &Path) -> String {
    let name = file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let folder = file
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    if folder.is_empty() || folder == "scenarios" {
        name
    } else {
        format!("{folder}-{name}")
    }
}

/// The comment at the head of a scenario file.
fn comment(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    lines
        .map(|line| line.trim_start_matches(['#', ' ']))
        .collect::<Vec<_>>()
        .join(" ")
}

fn flows(report: &Report) -> Vec<Vec<Cell>> {
    let row = |flow: &super::report::FlowReport| {
        let done = flow.completion_s.map_or("–".into(), |s| format!("{s:.2}"));
        let text = [
            flow.kind.to_string(),
            flow.cc.clone(),
            done,
            format!("{:.2}", flow.goodput_mbit),
            flow.declared_lost.to_string(),
            flow.spurious.to_string(),
        ];
        text.into_iter().map(Cell::from).collect()
    };
    report.flows.iter().map(row).collect()
}

fn cross(report: &Report) -> Vec<[String; 4]> {
    let row = |cross: &super::report::CrossReport| {
        [
            cross.kind.to_string(),
            format!("{:.2}", cross.goodput_mbit),
            cross.sent_segments.to_string(),
            cross.retransmitted_segments.to_string(),
        ]
    };
    report.cross.iter().map(row).collect()
}

fn links(report: &Report) -> Vec<Vec<String>> {
    let row = |(name, link): (&str, &super::report::LinkReport)| {
        let queue = link.queue_delay_ms;
        let mut row = vec![
            name.to_string(),
            link.delivered.to_string(),
            link.dropped.to_string(),
        ];
        let times = [queue.mean, queue.p50, queue.p95, queue.p99, queue.max];
        row.extend(times.map(|time| format!("{time:.2}")));
        row
    };
    [("up", &report.links.up), ("down", &report.links.down)]
        .into_iter()
        .map(row)
        .collect()
}
