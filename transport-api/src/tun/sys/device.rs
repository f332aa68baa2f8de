//! `/dev/net/tun`: a file that becomes a queue of a device by `TUNSETIFF`.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;

use libc::{c_int, c_uint};
use mio::event::Source as _;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::tun::MAX_NAME;

/// `virtio_net_hdr` without the number of merged buffers, which TUN never sets.
const VNET_HEADER: c_int = 10;

/// A queue, once `create` or `join` has made it one.
#[derive(Debug)]
pub(in crate::tun) struct Device {
    /// The standard library opens files close-on-exec.
    file: File,
}

impl Device {
    pub(in crate::tun) fn open() -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        Ok(Self { file })
    }

    /// Makes a device and becomes its first queue; gives its name. Never takes over a device that exists.
    pub(in crate::tun) fn create(&self, name: &str, offload: bool, several: bool) -> io::Result<String> {
        self.attach(name, flags(offload, several) | libc::IFF_TUN_EXCL)
    }

    /// Becomes another queue of a device that was made for several.
    pub(in crate::tun) fn join(&self, name: &str, offload: bool) -> io::Result<()> {
        self.attach(name, flags(offload, true)).map(drop)
    }

    fn attach(&self, name: &str, flags: c_int) -> io::Result<String> {
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_flags: flags as libc::c_short,
            },
        };
        // The last byte stays 0.
        let place = request.ifr_name.iter_mut().take(MAX_NAME);
        place
            .zip(name.bytes())
            .for_each(|(to, from)| *to = from as libc::c_char);
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which is valid and borrowed mutably in this frame.
        check(unsafe { libc::ioctl(self.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        let given = request.ifr_name.iter().take_while(|&&c| c != 0);
        let given: Vec<u8> = given.map(|&c| c as u8).collect();
        String::from_utf8(given).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Tells the kernel what it may leave to us: checksums, cutting of TCP, and of UDP with `uso`.
    pub(in crate::tun) fn set_offload(&self, uso: bool) -> io::Result<()> {
        let size = VNET_HEADER;
        // SAFETY: TUNSETVNETHDRSZ reads one `int`, which outlives the call.
        check(unsafe { libc::ioctl(self.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })?;
        let mut features: c_uint =
            libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        if uso {
            features |= libc::TUN_F_USO4 | libc::TUN_F_USO6;
        }
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe {
            libc::ioctl(
                self.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(features),
            )
        })
    }

    pub(in crate::tun) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    pub(in crate::tun) fn send(&self, packet: &[u8]) -> io::Result<usize> {
        (&self.file).write(packet)
    }

    pub(in crate::tun) fn send_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.file).write_vectored(parts)
    }

    pub(in crate::tun) fn register(
        &self,
        to: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).register(to, token, interests)
    }

    pub(in crate::tun) fn reregister(
        &self,
        to: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).reregister(to, token, interests)
    }

    pub(in crate::tun) fn deregister(&self, from: &Registry) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).deregister(from)
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// IP packets without a header of TUN's own; the driver's, if any, is that of virtio.
fn flags(offload: bool, several: bool) -> c_int {
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
    if offload {
        flags |= libc::IFF_VNET_HDR;
    }
    if several {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    flags
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
