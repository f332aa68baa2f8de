//! The system calls, one file for each kind of system, all with the same face.
#![allow(
    unsafe_code,
    reason = "the only way to the kernel's batch calls; every block says why it is sound"
)]

#[cfg(target_os = "linux")]
mod cmsg;
#[cfg(unix)]
mod interfaces;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod source;
#[cfg(target_os = "linux")]
mod timer;
// Compiled for tests everywhere, so that it cannot rot.
#[cfg(any(not(target_os = "linux"), test))]
pub(super) mod portable;

#[cfg(unix)]
pub(super) use interfaces::interfaces;
#[cfg(target_os = "linux")]
pub(super) use linux::{Socket, set_dont_fragment};
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Socket;
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) use portable::{begin_tcp, set_dont_fragment, set_source};
#[cfg(target_os = "linux")]
pub(super) use source::{begin_tcp, set_source};
#[cfg(target_os = "linux")]
pub use timer::Timer;
