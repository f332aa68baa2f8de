//! The system calls, one file for each kind of system, all with the same face.
#![allow(
    unsafe_code,
    reason = "ioctl and netlink have no safe face in the standard library; every block says why it is sound"
)]

#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
mod socket;
// Compiled for tests everywhere, so that it cannot rot.
#[cfg(any(not(target_os = "linux"), test))]
pub(super) mod portable;

#[cfg(target_os = "linux")]
pub(super) use device::Device;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::{Device, NetlinkSocket};
#[cfg(target_os = "linux")]
pub(super) use socket::NetlinkSocket;
