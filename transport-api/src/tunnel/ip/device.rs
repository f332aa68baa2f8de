//! The device at the end of a tunnel, as the tunnel sees it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::local::TunDevice;
use crate::tun::offload::{Coalescer, VNET_HEADER};

/// Takes the packets that come out of tunnels.
pub(crate) trait Device {
    /// One whole packet. It may be held back until [`flush`](Self::flush), so that the packets of a flow become one write.
    fn put(&self, packet: &[u8]);
    /// Nothing more comes for now.
    fn flush(&self);
}

/// A TUN device; what it does not take is dropped and counted, as on any link.
#[derive(Debug)]
pub(crate) struct TunPort {
    device: Rc<TunDevice>,
    /// None without offload: then packets go one by one.
    coalescer: Option<RefCell<Coalescer>>,
    dropped: Cell<u64>,
}

impl TunPort {
    pub(crate) fn new(device: Rc<TunDevice>) -> Self {
        let coalescer = device.has_offload().then(|| RefCell::new(Coalescer::new(device.has_uso())));
        Self {
            device,
            coalescer,
            dropped: Cell::new(0),
        }
    }

    /// Packets and super-packets that the device did not take.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
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
            Some(coalescer) => coalescer.borrow_mut().push(packet, &mut |frame: &[u8]| self.write(frame)),
            None => self.write(packet),
        }
    }

    fn flush(&self) {
        if let Some(coalescer) = &self.coalescer {
            coalescer.borrow_mut().flush(&mut |frame: &[u8]| self.write(frame));
        }
    }
}

/// What a device gives: frames that begin with [`VNET_HEADER`] bytes of virtio_net_hdr, whether the kernel wrote one or not.
#[derive(Debug)]
pub(crate) struct FrameReader {
    device: Rc<TunDevice>,
    buffer: Vec<u8>,
}

/// The largest super-packet and its header.
const FRAME: usize = VNET_HEADER + 65_535;

impl FrameReader {
    pub(crate) fn new(device: Rc<TunDevice>) -> Self {
        Self {
            device,
            buffer: vec![0; FRAME],
        }
    }

    /// The next frame; whoever reads it may write in it.
    pub(crate) async fn next(&mut self) -> std::io::Result<&mut [u8]> {
        let start = if self.device.has_offload() { 0 } else { VNET_HEADER };
        let space = self.buffer.get_mut(start..).unwrap_or_default();
        let n = self.device.recv(space).await?;
        Ok(self.buffer.get_mut(..start + n).unwrap_or_default())
    }
}
