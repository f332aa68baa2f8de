//! The device at the end of a tunnel, as the tunnel sees it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use crate::local::TunDevice;
use crate::tun::offload::{Coalescer, VNET_HEADER};

/// Takes the packets that come out of tunnels.
pub(crate) trait Device {
    /// One whole packet. It may be held back until [`flush`](Self::flush), so that the packets of a flow become one write.
    fn put(&self, packet: &[u8]);
    /// Nothing more comes for now.
    fn flush(&self);
    /// Packets and super-packets that were not taken, since this was asked last.
    fn take_dropped(&self) -> u64;
}

/// A TUN device; what it does not take is dropped and counted, as on any link.
#[derive(Debug)]
pub(crate) struct TunPort {
    device: TunDevice,
    /// None without offload: then packets go one by one.
    coalescer: Option<RefCell<Coalescer>>,
    dropped: Cell<u64>,
}

impl TunPort {
    pub(crate) fn new(device: TunDevice) -> Self {
        let coalescer = device.get().has_offload().then(|| {
            let mut coalescer = Coalescer::new();
            coalescer.set_udp(device.get().has_uso());
            RefCell::new(coalescer)
        });
        Self {
            device,
            coalescer,
            dropped: Cell::new(0),
        }
    }

    fn write(&self, frame: &[u8]) {
        if self.device.try_send(frame).is_err() {
            self.dropped.set(self.dropped.get() + 1);
        }
    }
}

impl Device for TunPort {
    fn put(&self, packet: &[u8]) {
        match &self.coalescer {
            Some(coalescer) => coalescer
                .borrow_mut()
                .push(packet, &mut |frame: &[u8]| self.write(frame)),
            None => self.write(packet),
        }
    }

    fn flush(&self) {
        if let Some(coalescer) = &self.coalescer {
            coalescer
                .borrow_mut()
                .flush(&mut |frame: &[u8]| self.write(frame));
        }
    }

    fn take_dropped(&self) -> u64 {
        self.dropped.take()
    }
}

/// What a device gives: frames that begin with [`VNET_HEADER`] bytes of virtio_net_hdr, whether the kernel wrote one or not.
#[derive(Debug)]
pub(crate) struct FrameReader {
    device: TunDevice,
    buffer: Vec<u8>,
}

/// The largest super-packet and its header.
const FRAME: usize = VNET_HEADER + 65_535;

impl FrameReader {
    pub(crate) fn new(device: TunDevice) -> Self {
        Self {
            device,
            buffer: vec![0; FRAME],
        }
    }

    /// The next frame; whoever reads it may write in it. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<&mut [u8]> {
        let n = poll_fn(|cx| self.poll_read(cx)).await?;
        Ok(self.buffer.get_mut(..n).unwrap_or_default())
    }

    /// As [`next`](Self::next).
    pub(crate) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<io::Result<&mut [u8]>> {
        let n = ready!(self.poll_read(cx))?;
        Poll::Ready(Ok(self.buffer.get_mut(..n).unwrap_or_default()))
    }

    fn poll_read(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let start = if self.device.get().has_offload() {
            0
        } else {
            VNET_HEADER
        };
        let space = self.buffer.get_mut(start..).unwrap_or_default();
        let n = ready!(self.device.poll_recv(cx, space))?;
        Poll::Ready(Ok(start + n))
    }
}
