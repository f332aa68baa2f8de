//! What all parts of a run write down, and what is kept when it is interrupted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;

/// Faults kept in words; the rest are counted.
const MAX_NOTES: usize = 50;

/// What was carried under one kind of link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are keys of the results")]
pub struct KindTally {
    pub seconds: f64,
    /// The figures of the link, those of the last phase of this kind.
    pub detail: String,
    pub echo_ms: Histogram,
    /// Limit of the 95th percentile, milliseconds, the loosest of the phases; 0: none.
    pub echo_limit_ms: f64,
    pub lossy: bool,
    pub packets_sent: u64,
    pub packets_back: u64,
    /// Round trips the random faults should have let through, summed over the packets.
    pub packets_expected: f64,
    pub up_bytes: u64,
    pub down_bytes: u64,
}

/// Counters of a run; sums over all its parts when it was interrupted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are keys of the results")]
pub struct Tally {
    /// Transfers through CONNECT, either direction.
    pub transfers_begun: u64,
    pub transfers_done: u64,
    pub transfers_failed: u64,
    pub up_bytes: u64,
    pub down_bytes: u64,
    pub checksums: u64,
    pub checksums_wrong: u64,
    /// Messages of the ordered echo.
    pub messages_sent: u64,
    pub messages_back: u64,
    pub messages_lost: u64,
    pub order_broken: u64,
    pub bytes_wrong: u64,
    /// Packets through CONNECT-UDP.
    pub packets_sent: u64,
    pub packets_back: u64,
    pub packets_twice: u64,
    pub packets_late: u64,
    pub tunnels_opened: u64,
    pub tunnels_refused: u64,
    /// Connections that come and go.
    pub connects: u64,
    pub connects_failed: u64,
    pub connects_resumed: u64,
    pub early_sent: u64,
    pub early_taken: u64,
    /// From the first packet of a connection that comes back to the first byte through it, without outages.
    pub reconnect_ms: Histogram,
    /// The same with full handshakes.
    pub connect_ms: Histogram,
    pub connections_lost: u64,
    pub keys_wished: u64,
    pub keys_changed: u64,
    pub rotations: u64,
    pub bundles_wished: u64,
    pub bundles_taken: u64,
    pub migrations: u64,
    pub rebinds: u64,
    pub nat_rebinds: u64,
    pub outages: u64,
    /// Silence in the echo beyond its interval when clients moved, on links without faults.
    pub migration_gap_ms: Histogram,
    pub migration_gap_bad_ms: Histogram,
    /// The same when the socket or the NAT's port was gone at once.
    pub rebind_gap_ms: Histogram,
    /// Echoes sent while a narrower path had not been noticed.
    pub settling_ms: Histogram,
    /// From the end of an outage to the next echo.
    pub outage_end_ms: Histogram,
    pub kinds: BTreeMap<String, KindTally>,
    pub faults: u64,
    pub notes: Vec<String>,
}

/// A moment, for the plots and the slopes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are columns of the CSV")]
pub struct Sample {
    pub t: f64,
    /// Which start of the program: slopes are not drawn across them.
    pub part: u32,
    pub phase: String,
    pub rss_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
    pub up_mbit: f64,
    pub down_mbit: f64,
    pub echo_ms: f64,
    pub echo_max_ms: f64,
    pub packets_share: f64,
    pub srtt_ms: f64,
    pub cwnd_kib: f64,
    pub lost: u64,
    pub shim_dropped: u64,
    pub queue_up_ms: f64,
    pub queue_down_ms: f64,
    pub tunnels: u64,
    pub transfers: u64,
    pub faults: u64,
}

/// Something a plot marks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds of load.
    pub t: f64,
    /// What.
    pub what: String,
}

/// The present, shared by all threads of a run.
#[derive(Debug, Default)]
pub struct Board {
    tally: Mutex<Tally>,
    marks: Mutex<Vec<Mark>>,
    /// Echo times since the last sample.
    window: Mutex<Histogram>,
    phase: Mutex<Present>,
    stopping: AtomicBool,
    over: AtomicBool,
    /// Counters of the clients' connections, as of the last look.
    pub gauges: Gauges,
}

/// What connections say about themselves.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "as in Sample")]
pub struct Gauges {
    pub srtt_us: AtomicU64,
    pub cwnd: AtomicU64,
    pub lost: AtomicU64,
}

/// The phase of the moment.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// Its kind; empty before the first and after the last.
    pub name: &'static str,
    /// Seconds of load at its beginning.
    pub from: f64,
    /// Expected share of surviving round trips.
    pub survives: f64,
    /// The path just got narrower.
    pub settling: bool,
    /// No faults but delay: what a move costs is seen undisturbed.
    pub quiet: bool,
}

impl Board {
    /// A board that goes on from `tally` and `marks`.
    pub fn resume(tally: Tally, marks: Vec<Mark>) -> Arc<Self> {
        Arc::new(Self {
            tally: Mutex::new(tally),
            marks: Mutex::new(marks),
            ..Self::default()
        })
    }

    /// Changes the counters.
    pub fn note<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut lock(&self.tally))
    }

    /// A fault, in words.
    pub fn fault(&self, what: String) {
        self.note(|tally| {
            tally.faults += 1;
            if tally.notes.len() < MAX_NOTES {
                tally.notes.push(what);
            }
        });
    }

    /// The counters now.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Marks a moment.
    pub fn mark(&self, t: f64, what: impl Into<String>) {
        lock(&self.marks).push(Mark { t, what: what.into() });
    }

    /// All marks.
    pub fn marks(&self) -> Vec<Mark> {
        lock(&self.marks).clone()
    }

    /// An echo came back.
    pub fn echo(&self, ms: f64) {
        lock(&self.window).add(ms);
        let present = self.present();
        self.note(|tally| {
            if present.settling {
                tally.settling_ms.add(ms);
            } else {
                tally.kind(present.name).echo_ms.add(ms);
            }
        });
    }

    /// Echo times since the last call.
    pub fn take_window(&self) -> Histogram {
        std::mem::take(&mut *lock(&self.window))
    }

    /// The phase of the moment.
    pub fn present(&self) -> Present {
        lock(&self.phase).clone()
    }

    /// Another phase begins.
    pub fn set_present(&self, present: Present) {
        *lock(&self.phase) = present;
    }

    /// Nothing new is begun from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether nothing new is to be begun.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Nothing is waited for any more.
    pub fn end(&self) {
        self.stop();
        self.over.store(true, Ordering::Release);
    }

    /// Whether all is over.
    pub fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Tally {
    /// What was carried under one kind of link.
    pub fn kind(&mut self, name: &str) -> &mut KindTally {
        self.kinds.entry(name.to_owned()).or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
