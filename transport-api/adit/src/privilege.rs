//! A process that handles packets of others keeps the capabilities it needs for that, and no other.

use crate::exit::Outcome;

/// Gives up every capability but those for devices, routes and low ports, and for locking memory. Call it before there are
/// threads: each has its own set. What is missing is told by what needs it.
#[cfg(target_os = "linux")]
pub(crate) fn keep_network_alone() -> Outcome {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

    use crate::exit::{Code, Context};

    let what = "giving up capabilities";
    let has = capabilities(None).or_fail(Code::Failed, what)?;
    let keep = CapabilitySet::NET_ADMIN | CapabilitySet::NET_BIND_SERVICE | CapabilitySet::IPC_LOCK;
    let kept = has.permitted & keep;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
    .or_fail(Code::Failed, what)
}

/// Other systems have no capabilities.
#[cfg(not(target_os = "linux"))]
pub(crate) fn keep_network_alone() -> Outcome {
    Ok(())
}
