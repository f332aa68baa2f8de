//! Sending and counting datagrams, the same at both ends.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use transport_api::{Connection, DatagramOptions, local::Handle, now};

use super::protocol::Received;

/// After the sender stopped, what is on the way arrives within this.
const QUIET: Duration = Duration::from_millis(300);

/// Sends as fast as congestion control allows until `until`; answers how many.
pub(crate) async fn send(connection: &Connection, size: usize, until: Instant) -> u64 {
    let mut sent = 0;
    while now().instant < until {
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
            let now = now().instant;
            let (bytes, datagrams) = self.0.get();
            self.0.set((bytes + datagram.len() as u64, datagrams + 1));
            let first = self.1.get().map_or(now, |(first, _)| first);
            self.1.set(Some((first, now)));
        }
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
