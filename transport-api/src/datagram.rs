//! Datagrams: unreliable messages that fit one packet (RFC 9221).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::config::DatagramPolicy;
use crate::connection::Connection;
use crate::driver::shared::{ConnectionShared, DatagramState, lock};
use crate::engine::DatagramOptions;
use crate::error::{ConnectionError, SendDatagramError};

/// Datagrams that ended in a queue of this connection instead of on the wire or in the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramDrops {
    /// Received, but the application read too slowly: the oldest went.
    pub received: u64,
    /// Handed to `send_datagram`, but the network was slower: the oldest went.
    pub sent: u64,
}

impl Connection {
    /// Sends one datagram with the default class and no deadline. What happens when the queue is full is the
    /// connection's [`DatagramPolicy`]; with `Wait` this call refuses, see [`Connection::send_datagram_wait`].
    pub fn send_datagram(&self, data: Vec<u8>) -> Result<(), SendDatagramError> {
        self.send_datagram_with(data, DatagramOptions::default())
    }

    /// Sends one datagram with a class and a deadline; it is dropped unsent after the deadline.
    pub fn send_datagram_with(
        &self,
        data: Vec<u8>,
        options: DatagramOptions,
    ) -> Result<(), SendDatagramError> {
        let shared = self.shared();
        check_size(shared, data.len())?;
        {
            let mut queue = lock(&shared.datagrams);
            if let Some(error) = &queue.ended {
                return Err(SendDatagramError::Connection(error.clone()));
            }
            if !make_room(&mut queue, shared, data.len()) {
                return Err(SendDatagramError::Full);
            }
            push(&mut queue, data, options);
        }
        shared.post();
        Ok(())
    }

    /// Sends one datagram, waiting for room in the queue whatever the policy is.
    ///
    /// Cancel-safe: a dropped future has sent nothing (and drops the datagram).
    pub fn send_datagram_wait(&self, data: Vec<u8>, options: DatagramOptions) -> SendDatagram {
        SendDatagram {
            connection: self.clone(),
            datagram: Some((data, options)),
        }
    }

    /// Waits for the next datagram. What arrived before the connection ended is still given out.
    ///
    /// Cancel-safe.
    pub fn read_datagram(&self) -> ReadDatagram {
        ReadDatagram {
            connection: self.clone(),
        }
    }

    /// The largest datagram payload that fits a packet now, in bytes; 0 when the peer takes none. It changes with the
    /// path.
    pub fn max_datagram_size(&self) -> usize {
        self.shared().max_datagram()
    }

    /// Datagrams dropped by the queues at this side.
    pub fn datagram_drops(&self) -> DatagramDrops {
        let queue = lock(&self.shared().datagrams);
        DatagramDrops {
            received: queue.received_dropped,
            sent: queue.sending_dropped,
        }
    }
}

fn check_size(shared: &ConnectionShared, len: usize) -> Result<(), SendDatagramError> {
    match shared.max_datagram() {
        0 => Err(SendDatagramError::Disabled),
        max if len > max => Err(SendDatagramError::TooLarge { max }),
        _ => Ok(()),
    }
}

fn fits(queue: &DatagramState, shared: &ConnectionShared, len: usize) -> bool {
    queue.sending.is_empty() || queue.sending_bytes + len <= shared.queue_bytes
}

fn make_room(queue: &mut DatagramState, shared: &ConnectionShared, len: usize) -> bool {
    if shared.policy != DatagramPolicy::DropOldest {
        return fits(queue, shared, len);
    }
    while !fits(queue, shared, len) {
        let Some((old, _)) = queue.sending.pop_front() else {
            break;
        };
        queue.sending_bytes = queue.sending_bytes.saturating_sub(old.len());
        queue.sending_dropped += 1;
    }
    true
}

fn push(queue: &mut DatagramState, data: Vec<u8>, options: DatagramOptions) {
    queue.sending_bytes += data.len();
    queue.sending.push_back((data, options));
}

/// Future of [`Connection::send_datagram_wait`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct SendDatagram {
    connection: Connection,
    datagram: Option<(Vec<u8>, DatagramOptions)>,
}

impl Future for SendDatagram {
    type Output = Result<(), SendDatagramError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some((data, options)) = this.datagram.take() else {
            return Poll::Ready(Ok(()));
        };
        let shared = Arc::clone(this.connection.shared());
        if let Err(error) = check_size(&shared, data.len()) {
            return Poll::Ready(Err(error));
        }
        {
            let mut queue = lock(&shared.datagrams);
            if let Some(error) = &queue.ended {
                return Poll::Ready(Err(SendDatagramError::Connection(error.clone())));
            }
            if !fits(&queue, &shared, data.len()) {
                queue.writers.add(cx.waker());
                this.datagram = Some((data, options));
                return Poll::Pending;
            }
            push(&mut queue, data, options);
        }
        shared.post();
        Poll::Ready(Ok(()))
    }
}

/// Future of [`Connection::read_datagram`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct ReadDatagram {
    connection: Connection,
}

impl Future for ReadDatagram {
    type Output = Result<Vec<u8>, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut queue = lock(&self.connection.shared().datagrams);
        if let Some(data) = queue.received.pop_front() {
            queue.received_bytes = queue.received_bytes.saturating_sub(data.len());
            return Poll::Ready(Ok(data));
        }
        if let Some(error) = &queue.ended {
            return Poll::Ready(Err(error.clone()));
        }
        queue.readers.add(cx.waker());
        Poll::Pending
    }
}
