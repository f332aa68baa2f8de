//! What this process has used, as the kernel counts it.

use std::fs;

/// CPU time and memory of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds in user mode.
    pub(crate) cpu_user_s: f64,
    /// Seconds in the kernel.
    pub(crate) cpu_sys_s: f64,
    /// Largest resident set so far.
    pub(crate) max_rss_bytes: u64,
    /// Resident set now.
    pub(crate) rss_bytes: u64,
}

/// Kernel clock ticks a second: `USER_HZ`, 100 on every Linux that Rust supports.
const TICKS: f64 = 100.0;

impl Usage {
    /// The present figures; zeros where /proc is missing.
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let (cpu_user_s, cpu_sys_s) = cpu(&stat).unwrap_or_default();
        Self {
            cpu_user_s,
            cpu_sys_s,
            max_rss_bytes: kib(&status, "VmHWM:").unwrap_or(0) * 1024,
            rss_bytes: kib(&status, "VmRSS:").unwrap_or(0) * 1024,
        }
    }
}

/// utime and stime: the 14th and 15th field, counted behind the name in brackets.
fn cpu(stat: &str) -> Option<(f64, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
    Some((seconds()?, seconds()?))
}

fn kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_an_odd_name() {
        let stat = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu(stat), Some((2.5, 0.5)));
        assert_eq!(kib("Name:\tx\nVmRSS:\t  123 kB\n", "VmRSS:"), Some(123));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::now();
        assert!(usage.rss_bytes > 100_000 && usage.max_rss_bytes >= usage.rss_bytes);
    }
}
