//! The machine itself: processor, clock, kernel, limits of a process.

use transport_api::TransportOptions;

use super::{Finding, sysctl};
use crate::secrets::Protection;

/// Start of the year in which this version was made, seconds since 1970. A clock before it is wrong.
const MADE: u64 = 1_767_225_600;
/// A relay wants one for each client with a socket of its own, for each TCP tunnel and for each UDP tunnel.
const FILES_WANTED: u64 = 4_096;
/// The first with GSO and GRO of UDP.
const KERNEL_WANTED: (u32, u32) = (5, 0);

pub(super) fn processor() -> [Finding; 2] {
    let aes = TransportOptions::machine_has_aes();
    [
        Finding::when(
            aes,
            "AES instructions",
            if aes { "yes" } else { "no" },
            "packets are sealed with ChaCha20-Poly1305, which is as safe and somewhat slower",
        ),
        Finding::well("cryptography", crate::provider::fastest().name()),
    ]
}

pub(super) fn clock(now: u64) -> Finding {
    Finding::when(
        now >= MADE,
        "clock",
        format!("{now} s since 1970"),
        "before this version was made: set it, for bundles are refused and relays stay silent when it is off by ten minutes",
    )
    .needed(true)
}

pub(super) fn kernel() -> Finding {
    let release = sysctl("kernel.osrelease");
    Finding::when(
        release
            .as_deref()
            .and_then(version)
            .is_some_and(|has| has >= KERNEL_WANTED),
        "kernel",
        release.unwrap_or_else(|| std::env::consts::OS.into()),
        "made for Linux 5.0 and later, where UDP travels in batches",
    )
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(target_os = "linux")]
pub(super) fn files() -> Finding {
    use rustix::process::{Resource, getrlimit};
    file_limit(getrlimit(Resource::Nofile).current)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn files() -> Finding {
    Finding::well("file descriptors", "unknown")
}

/// `None`: no limit.
fn file_limit(limit: Option<u64>) -> Finding {
    Finding::when(
        limit.is_none_or(|limit| limit >= FILES_WANTED),
        "file descriptors",
        limit.map_or_else(|| "unlimited".into(), |limit| limit.to_string()),
        format!("a busy relay runs out: ulimit -n {FILES_WANTED} or more (systemd: LimitNOFILE=)"),
    )
}

pub(super) fn secrecy(got: Protection) -> [Finding; 2] {
    [
        Finding::when(
            got.no_core_dumps,
            "core dumps off",
            if got.no_core_dumps { "yes" } else { "no" },
            "a crash may write keys to a file: forbid core dumps for this service",
        ),
        Finding::when(
            got.memory_locked,
            "memory locked",
            if got.memory_locked { "yes" } else { "no" },
            "keys may reach the swap: LimitMEMLOCK=infinity or CAP_IPC_LOCK, or a machine without swap",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn releases_are_compared_by_numbers() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("4.9-rc1"), Some((4, 9)));
        assert!(version("4.19.0") < Some(KERNEL_WANTED));
        assert_eq!((version("six"), version("6")), (None, None));
    }

    #[test]
    fn a_clock_of_the_past_is_missing_and_not_a_note() {
        assert_eq!(clock(0).verdict, Verdict::Missing);
        assert_eq!(clock(MADE).verdict, Verdict::Well);
    }

    #[test]
    fn few_descriptors_are_a_note() {
        assert_eq!(file_limit(Some(1024)).verdict, Verdict::Lacking);
        assert!(file_limit(Some(FILES_WANTED)).ok());
        assert_eq!(
            (file_limit(None).ok(), file_limit(None).value.as_str()),
            (true, "unlimited")
        );
    }
}
