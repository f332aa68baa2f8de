//! What an endpoint holds stays under what its limits allow.
#![expect(unsafe_code, reason = "a global allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that one connection may hold at most: both windows, its send buffers and its bookkeeping.
pub const CONNECTION_BOUND: usize = 96 << 20;

/// Whether `peak` bytes are within bounds for `connections` connections, both ends counted.
pub fn within_bounds(peak: usize, connections: usize) -> bool {
    peak <= connections.max(1) * CONNECTION_BOUND
}

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls for new memory by all threads that did not step aside.
static ALL_CALLS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, which counts what each thread holds. A test binary makes it its global allocator.
pub struct Counting;

impl Counting {
    /// Bytes that this thread holds.
    pub fn held() -> i64 {
        HELD.with(Cell::get)
    }

    /// The most it held since [`Counting::forget_peak`].
    pub fn peak() -> i64 {
        PEAK.with(Cell::get)
    }

    /// The peak is what is held now.
    pub fn forget_peak() {
        PEAK.with(|peak| peak.set(Self::held()));
    }

    /// Calls for new memory by this thread: a measure of work that no clock disturbs.
    pub fn calls() -> u64 {
        CALLS.with(Cell::get)
    }

    /// This thread does not count in [`Counting::calls_of_all`] from now on: it belongs to who measures.
    pub fn step_aside() {
        ASIDE.with(|aside| aside.set(true));
    }

    /// Calls for new memory by all threads of the process, but for those that [stepped aside](Counting::step_aside).
    pub fn calls_of_all() -> u64 {
        ALL_CALLS.load(Ordering::Relaxed)
    }
}

/// Where a thread ends, its counters may be gone already.
fn note(bytes: i64, call: bool) {
    let held = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        held.get()
    });
    if let Ok(held) = held {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    }
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + u64::from(call)));
    if call && ASIDE.try_with(Cell::get) == Ok(false) {
        ALL_CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64, true);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(-(layout.size() as i64), false);
        // SAFETY: the memory came from `alloc` above, which is the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as i64 - layout.size() as i64, true);
        // SAFETY: as `dealloc` and `alloc`; the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Nanoseconds this thread has computed so far, as the kernel counts them: it does not count what neighbours take.
pub fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|ns| ns.parse().ok()).unwrap_or(0)
}
