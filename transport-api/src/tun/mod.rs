//! TUN devices: IP packets of the kernel, as bytes of a file, and what a VPN asks of the kernel beside them.
//!
//! Only `sys` speaks to the kernel; this file says what it offers. [`netlink`] gives a device its addresses and routes.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::io::{self, IoSlice};

use mio::{Interest, Registry, Token};

mod error;
pub mod netlink;
pub mod offload;
mod sys;

pub use error::TunError;

/// The longest name of a network device, in bytes.
pub(crate) const MAX_NAME: usize = 15;

/// How a device is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunOptions {
    /// Its name, at most 15 bytes. One `%d` in it is replaced by the first number that is free; `None` leaves the whole name to
    /// the kernel.
    pub name: Option<String>,
    /// Queues to open; the kernel spreads flows over them, so that several threads can share the work. 0 counts as 1.
    pub queues: usize,
    /// Packets carry a `virtio_net_hdr`: the kernel leaves checksums and the cutting of long TCP and UDP packets to us.
    pub offload: bool,
}

impl Default for TunOptions {
    fn default() -> Self {
        Self {
            name: None,
            queues: 1,
            offload: false,
        }
    }
}

/// One queue of a TUN device. It never blocks, and is not inherited by programs that are started.
///
/// The device is not persistent: the kernel removes it, with its addresses and routes, when its last queue is closed, however
/// the process ends. It is made down and without addresses ([`netlink`]).
#[derive(Debug)]
pub struct Tun {
    device: sys::Device,
    name: String,
    offload: bool,
    uso: bool,
}

impl Tun {
    /// Makes a device in the network namespace of the calling thread, and opens its queues, at least one.
    ///
    /// # Errors
    /// As [`TunError`] says; a device of that name is never taken over. When a queue cannot be opened there is no device.
    pub fn open(options: &TunOptions) -> Result<Vec<Self>, TunError> {
        let wanted = options.name.as_deref();
        if let Some(name) = wanted.filter(|name| !is_valid_name(name)) {
            return Err(TunError::BadName {
                name: name.to_owned(),
            });
        }
        let several = options.queues > 1;
        let device = sys::Device::open().map_err(TunError::from_open)?;
        let name = device
            .create(wanted.unwrap_or_default(), options.offload, several)
            .map_err(|error| TunError::from_create(error, wanted))?;
        let uso = options.offload && switch_offload_on(&device)?;
        let queue = |device| Self {
            device,
            name: name.clone(),
            offload: options.offload,
            uso,
        };
        let mut queues = vec![queue(device)];
        while queues.len() < options.queues {
            let device = sys::Device::open().map_err(TunError::from_open)?;
            device
                .join(&name, options.offload)
                .map_err(|error| TunError::Io("opening another queue", error))?;
            queues.push(queue(device));
        }
        Ok(queues)
    }

    /// The name of the device when it was made; an administrator may have changed it since.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether packets carry a `virtio_net_hdr` of 10 bytes before them, in both directions.
    pub fn has_offload(&self) -> bool {
        self.offload
    }

    /// Whether the kernel leaves the cutting of long UDP packets to us as well (Linux 6.2 and later, with offload).
    pub fn has_uso(&self) -> bool {
        self.uso
    }

    /// Reads one packet, with the header before it if there is one. What does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; others when the device is gone.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buffer)
    }

    /// Hands one packet to the kernel, with the header before it if there is one.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the kernel has no room; `EINVAL` when it is not an IP packet; `EIO` while the
    /// device is down.
    pub fn send(&self, packet: &[u8]) -> io::Result<usize> {
        self.device.send(packet)
    }

    /// As [`Tun::send`], for a packet in pieces, so that header and payload need not be copied together.
    ///
    /// # Errors
    /// As [`Tun::send`].
    pub fn send_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.device.send_parts(parts)
    }
}

/// Whether segmented UDP is among what the kernel agreed to.
fn switch_offload_on(device: &sys::Device) -> Result<bool, TunError> {
    match device.set_offload(true) {
        Ok(()) => Ok(true),
        // Older kernels refuse the whole set for what they do not know.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => device
            .set_offload(false)
            .map(|()| false)
            .map_err(|error| TunError::Io("switching offload on", error)),
        Err(error) => Err(TunError::Io("switching offload on", error)),
    }
}

/// What the kernel takes for a name, at most one `%d` in it.
fn is_valid_name(name: &str) -> bool {
    let letters = name.replacen("%d", "", 1);
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    !name.is_empty() && name.len() <= MAX_NAME && !letters.contains(odd) && !matches!(name, "." | "..")
}

#[cfg(target_os = "linux")]
impl std::os::fd::AsRawFd for Tun {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.device.as_raw_fd()
    }
}

#[cfg(target_os = "linux")]
impl std::os::fd::AsFd for Tun {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl mio::event::Source for Tun {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.device.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.device.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.device.deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_would_refuse_are_refused_before() {
        for name in ["adit0", "adit%d", "%d", "a-b.c_d", "fifteen-letters", "ä"] {
            assert!(is_valid_name(name), "{name:?}");
        }
        let bad = [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a\tb",
            "a:b",
            "a\0b",
            "a%",
            "%s",
            "%d%d",
            "sixteen-letters-",
        ];
        for name in bad {
            assert!(!is_valid_name(name), "{name:?}");
            let name = Some(name.to_owned());
            let error = Tun::open(&TunOptions {
                name,
                ..TunOptions::default()
            })
            .unwrap_err();
            assert!(matches!(error, TunError::BadName { .. }), "{error}");
        }
    }

    #[test]
    fn a_system_without_devices_says_so() {
        let error = sys::portable::Device::open().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let error = sys::portable::NetlinkSocket::open().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
