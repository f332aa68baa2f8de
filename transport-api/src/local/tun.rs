//! A TUN device of a loop.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Handle;
use super::io::{Registered, Way};
use crate::tun::Tun;

/// A queue of a TUN device; clones share it. At most one task may wait for each direction.
#[derive(Clone, Debug)]
pub struct TunDevice(Rc<Registered<Tun>>);

impl TunDevice {
    /// Takes over a queue.
    pub fn new(handle: &Handle, tun: Tun) -> io::Result<Self> {
        Ok(Self(Rc::new(Registered::new(handle, tun)?)))
    }

    /// The queue itself.
    pub fn get(&self) -> &Tun {
        self.0.get()
    }

    /// The next packet ([`Tun::recv`]). Cancel-safe.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_recv(cx, buffer)).await
    }

    /// As [`TunDevice::recv`], for hand-written futures.
    pub fn poll_recv(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll(Way::Read, cx, |tun| tun.recv(buffer))
    }

    /// Hands a packet to the kernel without waiting ([`Tun::send`]); `WouldBlock` when it has no room.
    pub fn try_send(&self, packet: &[u8]) -> io::Result<usize> {
        self.0.get().send(packet)
    }

    /// As [`TunDevice::try_send`], and waits for room, or for the device to be up.
    pub fn poll_send(&self, cx: &Context<'_>, packet: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll(Way::Write, cx, |tun| tun.send(packet))
    }
}
