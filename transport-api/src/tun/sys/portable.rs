//! Systems whose devices this crate does not know: nothing can be opened.

use std::convert::Infallible;
use std::io::{self, IoSlice};

use mio::{Interest, Registry, Token};

/// A queue of a device; there are none.
#[derive(Debug)]
pub(in crate::tun) struct Device(Infallible);

#[cfg_attr(
    target_os = "linux",
    expect(dead_code, reason = "compiled so that it cannot rot")
)]
impl Device {
    pub(in crate::tun) fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::tun) fn create(&self, _: &str, _: bool, _: bool) -> io::Result<String> {
        match self.0 {}
    }

    pub(in crate::tun) fn join(&self, _: &str, _: bool) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::tun) fn set_offload(&self, _: bool) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::tun) fn recv(&self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(in crate::tun) fn send(&self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(in crate::tun) fn send_parts(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(in crate::tun) fn register(&self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::tun) fn reregister(&self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::tun) fn deregister(&self, _: &Registry) -> io::Result<()> {
        match self.0 {}
    }
}

/// A netlink socket; there are none.
#[derive(Debug)]
pub(in crate::tun) struct NetlinkSocket(Infallible);

#[cfg_attr(
    target_os = "linux",
    expect(dead_code, reason = "compiled so that it cannot rot")
)]
impl NetlinkSocket {
    pub(in crate::tun) fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::tun) fn send(&self, _: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::tun) fn recv(&self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}
