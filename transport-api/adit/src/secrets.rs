//! Keeps keys in this process's memory: no core dump, no debugger of the same user, no swap where the system allows.

use serde_json::{Value, json};

/// What was achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protection {
    /// The kernel writes no core file and lets no other process of this user look in.
    pub(crate) no_core_dumps: bool,
    /// No page is written to swap.
    pub(crate) memory_locked: bool,
}

impl Protection {
    pub(crate) fn json(self) -> Value {
        json!({ "core_dumps_off": self.no_core_dumps, "memory_locked": self.memory_locked })
    }
}

/// Protects this process, as far as the system lets it. Call it before keys are read.
pub(crate) fn protect() -> Protection {
    let protection = system::protect();
    if !protection.no_core_dumps {
        tracing::warn!("core dumps could not be switched off: a crash may write keys to a file");
    }
    if protection.memory_locked {
        tracing::info!("memory is locked: no key reaches the swap");
    } else {
        tracing::info!(
            "memory is not locked, keys may reach the swap: raise RLIMIT_MEMLOCK to unlimited (systemd: \
             LimitMEMLOCK=infinity) or give CAP_IPC_LOCK"
        );
    }
    protection
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::{
        mm::{MlockAllFlags, mlockall},
        process::{
            DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior,
            setrlimit,
        },
    };

    use super::Protection;

    pub(super) fn protect() -> Protection {
        Protection {
            no_core_dumps: forbid_core_dumps(),
            memory_locked: lock_memory(),
        }
    }

    /// The limit stops files; a core that is piped to a program ignores the limit, but not the flag.
    fn forbid_core_dumps() -> bool {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        let limited = setrlimit(Resource::Core, none).is_ok();
        let flagged = set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
        limited && flagged && dumpable_behavior() == Ok(DumpableBehavior::NotDumpable)
    }

    /// Locks everything that is and will be, if no limit can ever stand in the way: under a limit `mlockall` makes later
    /// allocations fail, which ends the process. Pages are locked when they are first touched, so that reserved stacks cost nothing.
    fn lock_memory() -> bool {
        let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        let limit = getrlimit(Resource::Memlock);
        if limit.maximum.is_none() {
            // `None`: no limit. The soft one may be raised up to it.
            let raised = setrlimit(Resource::Memlock, limit_of(None, &limit));
            return raised.is_ok() && mlockall(all).is_ok();
        }
        // Under a limit of zero only CAP_IPC_LOCK lets this pass, and with it no limit counts.
        if setrlimit(Resource::Memlock, limit_of(Some(0), &limit)).is_err() {
            return false;
        }
        let locked = mlockall(all).is_ok();
        locked & setrlimit(Resource::Memlock, limit).is_ok()
    }

    fn limit_of(current: Option<u64>, limit: &Rlimit) -> Rlimit {
        Rlimit {
            current,
            maximum: limit.maximum,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Protection;

    pub(super) fn protect() -> Protection {
        Protection::default()
    }
}
