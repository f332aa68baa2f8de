//! What this process costs, as the kernel says.

use std::{fs, sync::atomic::Ordering};

use super::{
    board::{Board, Sample},
    stage::Stage,
};

const PAGE_KIB: u64 = 4;
/// `sysconf(_SC_CLK_TCK)` on every Linux.
const TICKS: f64 = 100.0;

/// Resident memory, KiB; 0 where there is no `/proc`.
pub(super) fn rss_kib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1);
    pages.and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_KIB
}

/// Open descriptors.
pub(super) fn descriptors() -> u64 {
    // One of them is the folder being read.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

fn threads() -> u64 {
    fs::read_dir("/proc/self/task").map_or(0, |entries| entries.count() as u64)
}

/// Processor time of this process, seconds, the kernel's part included.
pub(super) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |index: usize| -> f64 {
        let field = rest.split_ascii_whitespace().nth(index);
        field.and_then(|field| field.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS
}

/// Takes samples; each covers the time since the one before.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Which start of the program this is.
    pub(super) part: u32,
    before: Totals,
    at: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    up: u64,
    down: u64,
    sent: u64,
    back: u64,
}

impl Sampler {
    /// Counts from the figures `board` has now.
    pub(super) fn new(part: u32, at: f64, board: &Board) -> Self {
        Self {
            part,
            before: totals(board),
            at,
        }
    }

    /// The moment `at`, seconds of load.
    pub(super) fn take(&mut self, at: f64, board: &Board, stage: &Stage) -> Sample {
        let now = totals(board);
        let seconds = (at - self.at).max(1e-3);
        let mbit = |now: u64, before: u64| now.saturating_sub(before) as f64 * 8.0 / seconds / 1e6;
        let (sent, back) = (now.sent - self.before.sent, now.back - self.before.back);
        let window = board.take_window();
        let (mut queue_up_ms, mut queue_down_ms, mut dropped) = (0f64, 0f64, 0);
        for shim in stage.shims() {
            let [up, down] = shim.figures();
            queue_up_ms = queue_up_ms.max(up.queue_ms);
            queue_down_ms = queue_down_ms.max(down.queue_ms);
            dropped += up.dropped + down.dropped;
        }
        let tally = board.tally();
        let sample = Sample {
            t: at,
            part: self.part,
            phase: board.present().name.into(),
            rss_kib: rss_kib(),
            descriptors: descriptors(),
            threads: threads(),
            up_mbit: mbit(now.up, self.before.up),
            down_mbit: mbit(now.down, self.before.down),
            echo_ms: window.quantile(0.5).unwrap_or(0.0),
            echo_max_ms: window.max_ms(),
            packets_share: if sent > 0 { back as f64 / sent as f64 } else { 0.0 },
            srtt_ms: board.gauges.srtt_us.load(Ordering::Relaxed) as f64 / 1000.0,
            cwnd_kib: board.gauges.cwnd.load(Ordering::Relaxed) as f64 / 1024.0,
            lost: board.gauges.lost.load(Ordering::Relaxed),
            shim_dropped: dropped,
            queue_up_ms,
            queue_down_ms,
            tunnels: stage.tunnels_open(),
            transfers: tally.transfers_done,
            faults: tally.faults,
        };
        (self.before, self.at) = (now, at);
        sample
    }
}

fn totals(board: &Board) -> Totals {
    let tally = board.tally();
    Totals {
        up: tally.up_bytes,
        down: tally.down_bytes,
        sent: tally.packets_sent,
        back: tally.packets_back,
    }
}
