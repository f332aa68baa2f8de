//! Bytes along streams, checked by the delivery oracle.

use transport_core::{Connection, Direction, ReadError, StreamId, WriteError};

use super::{Pair, Way};
use crate::oracle::delivery;

/// Drives all of them; true once the last is over.
pub fn drive_all(transfers: &mut [Transfer], pair: &mut Pair) -> bool {
    transfers
        .iter_mut()
        .filter(|transfer| !transfer.over)
        .fold(0, |open, transfer| open + usize::from(!transfer.drive(pair)))
        == 0
}

/// Bytes one way along a stream, every one of them checked on arrival.
pub struct Transfer {
    way: Way,
    id: StreamId,
    total: u64,
    /// Bytes the application has, so far: all of them, unless somebody says otherwise.
    pub allowed: u64,
    written: u64,
    finished: bool,
    /// Bytes that arrived.
    pub read: u64,
    over: bool,
}

impl Transfer {
    /// Opens the stream.
    pub fn open(pair: &mut Pair, way: Way, total: u64) -> Self {
        let id = pair
            .sender(way)
            .connection()
            .open(Direction::Uni)
            .expect("a stream");
        Self::along(way, id, total)
    }

    /// One way of a stream that is open, or will be.
    pub fn along(way: Way, id: StreamId, total: u64) -> Self {
        Self {
            way,
            id,
            total,
            allowed: total,
            written: 0,
            finished: false,
            read: 0,
            over: false,
        }
    }

    /// Names the bytes for the oracle.
    fn label(&self) -> u64 {
        self.id.get() << 1 | u64::from(self.way == Way::Down)
    }

    /// Writes and reads what can be; true once the end was read.
    pub fn drive(&mut self, pair: &mut Pair) -> bool {
        self.write_all(pair);
        if !self.over {
            self.read_all(pair.receiver(self.way).connection());
        }
        self.over
    }

    /// Writes what can be.
    pub fn write_all(&mut self, pair: &mut Pair) {
        if !self.finished {
            self.write(pair.sender(self.way).connection());
        }
    }

    fn write(&mut self, connection: &mut Connection) {
        let mut space = [0; 8192];
        while self.written < self.total.min(self.allowed) {
            let want = (self.total.min(self.allowed) - self.written).min(space.len() as u64) as usize;
            delivery::fill(self.label(), self.written, &mut space[..want]);
            match connection.write(self.id, &space[..want]) {
                Ok(taken) => self.written += taken as u64,
                Err(WriteError::Blocked) => return,
                // A stream of the peer does not exist before its first bytes arrive.
                Err(WriteError::Unknown) if self.written == 0 => return,
                Err(error) => panic!("{:?}: {error}", self.id),
            }
        }
        if self.written < self.total {
            return;
        }
        self.finished = connection.finish(self.id).is_ok();
        assert!(
            self.finished || self.total == 0,
            "{:?} cannot be finished",
            self.id
        );
    }

    fn read_all(&mut self, connection: &mut Connection) {
        while connection
            .accept(Direction::Uni)
            .or_else(|| connection.accept(Direction::Bi))
            .is_some()
        {}
        let mut space = [0; 8192];
        loop {
            match connection.read(self.id, &mut space) {
                Ok(read) => {
                    let fault = delivery::first_fault(self.label(), self.read, &space[..read.bytes]);
                    assert_eq!(fault, None, "{:?}", self.id);
                    self.read += read.bytes as u64;
                    if read.fin {
                        assert_eq!(self.read, self.total, "{:?} ended early", self.id);
                        self.over = true;
                        return;
                    }
                }
                Err(ReadError::Blocked) => return,
                // The stream does not exist before its first bytes arrive.
                Err(ReadError::Unknown) if self.read == 0 => return,
                Err(error) => panic!("{:?}: {error}", self.id),
            }
        }
    }
}
