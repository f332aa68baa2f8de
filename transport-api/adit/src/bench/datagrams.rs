//! Sending and counting datagrams, the same at both ends.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use transport_api::{Connection, DatagramOptions, instant, local::Handle};

use super::protocol::Received;

/// After the sender stopped, what is on the way arrives within this.
const QUIET: Duration = Duration::from_millis(300);

/// Between two looks at the clock.
const STRIDE: u64 = 16;

/// Sends as fast as congestion control allows until `until`; answers how many.
pub(crate) async fn send(connection: &Connection, size: usize, until: Instant) -> u64 {
    let mut sent = 0;
    while sent % STRIDE != 0 || instant() < until {
        let size = size.min(connection.max_datagram_size()).max(1);
        if connection
            .send_datagram_wait(vec![0x5a; size], DatagramOptions::default())
            .await
            .is_err()
        {
            break;
        }
        sent += 1;
    }
    sent
}

/// A count of datagrams that goes on in a task of its own.
#[derive(Clone, Default)]
pub(crate) struct Counter(Rc<Cell<(u64, u64)>>, Rc<Cell<Option<(Instant, Instant)>>>);

impl Counter {
    /// Counts what arrives on `connection` until it ends.
    pub(crate) async fn count(self, connection: Connection) {
        while let Ok(datagram) = connection.read_datagram().await {
            self.add(datagram.len());
        }
    }

    /// Counts what arrives and sends it back, but for what finds no room.
    pub(crate) async fn count_and_return(self, connection: Connection) {
        while let Ok(datagram) = connection.read_datagram().await {
            self.add(datagram.len());
            let _ = connection.send_datagram(datagram);
        }
    }

    fn add(&self, length: usize) {
        let now = instant();
        let (bytes, datagrams) = self.0.get();
        self.0.set((bytes + length as u64, datagrams + 1));
        let first = self.1.get().map_or(now, |(first, _)| first);
        self.1.set(Some((first, now)));
    }

    /// The count once nothing has come for a while.
    pub(crate) async fn settled(&self, at: &Handle) -> Received {
        at.sleep(QUIET).await;
        let (bytes, datagrams) = self.0.get();
        let micros = self
            .1
            .get()
            .map_or(0, |(first, last)| (last - first).as_micros() as u64);
        Received {
            bytes,
            datagrams,
            micros,
        }
    }
}

/// Between two datagrams of a [`Pace`].
const INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of the time at which a datagram was sent.
const STAMP: usize = 8;

/// Datagrams at a steady pace, each with the time at which it was sent, that come back.
#[derive(Clone)]
pub(crate) struct Pace {
    connection: Connection,
    size: usize,
    begin: Instant,
}

impl Pace {
    pub(crate) fn new(connection: &Connection, size: usize) -> Self {
        Self {
            connection: connection.clone(),
            size,
            begin: instant(),
        }
    }

    /// Sends until `until`; answers how many.
    pub(crate) async fn send(self, until: Instant, at: &Handle) -> u64 {
        let mut sent = 0;
        while instant() < until {
            let mut datagram = vec![0x5a; self.size.min(self.connection.max_datagram_size()).max(STAMP)];
            let stamp = (instant() - self.begin).as_nanos() as u64;
            datagram[..STAMP].copy_from_slice(&stamp.to_be_bytes());
            let options = DatagramOptions::default();
            if self
                .connection
                .send_datagram_wait(datagram, options)
                .await
                .is_err()
            {
                break;
            }
            sent += 1;
            at.sleep(INTERVAL).await;
        }
        sent
    }

    /// Notes how long each was on its way there and back, until the connection ends.
    pub(crate) async fn listen(self, times: Rc<RefCell<Histogram<u64>>>) {
        while let Ok(datagram) = self.connection.read_datagram().await {
            let Some(stamp) = datagram.first_chunk().copied().map(u64::from_be_bytes) else {
                continue;
            };
            let took = (instant() - self.begin).as_nanos() as u64;
            times.borrow_mut().saturating_record(took.saturating_sub(stamp));
        }
    }
}
