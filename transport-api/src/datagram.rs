//! Datagrams: unreliable messages that fit one packet (RFC 9221).
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::config::DatagramPolicy;
use crate::connection::Connection;
use crate::driver::clock::instant;
pub use crate::driver::shared::DatagramOutcome;
use crate::driver::shared::{ConnectionShared, DatagramState, Queued, ReceiptReply, Reply, lock};
use crate::engine::{DatagramDrop, DatagramOptions};
use crate::error::{ConnectionError, SendDatagramError};

/// Receipts of one connection whose answer is due; more are refused as if the queue were full.
pub(crate) const MAX_RECEIPTS: usize = 4096;
/// Bytes with flows that wait for the driver before who sends them should: two super-packets of a TUN device.
const FLOW_PORTION: usize = 128 * 1024;

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
        self.enqueue(data, options, None)
    }

    /// As [`Connection::send_datagram_with`]; the receipt tells what became of the datagram. At most 4,096 receipts of a
    /// connection may be unanswered; beyond that the queue counts as full. A receipt costs an allocation, a datagram sent
    /// without one pays nothing.
    pub fn send_datagram_tracked(
        &self,
        data: Vec<u8>,
        options: DatagramOptions,
    ) -> Result<DatagramReceipt, SendDatagramError> {
        let reply = Reply::new();
        self.enqueue(data, options, Some(Arc::clone(&reply)))?;
        Ok(DatagramReceipt { reply })
    }

    /// Sends several datagrams alike under one lock, and says how many of these, or of older ones, were dropped for it: because the
    /// queue is full or they do not fit a packet. `datagrams` is empty afterwards and keeps its memory.
    pub fn send_datagrams(&self, datagrams: &mut Vec<Vec<u8>>, options: DatagramOptions) -> usize {
        let shared = self.shared();
        let (since, mut receipts, mut refused) = (instant(), Vec::new(), 0);
        let overtaken = {
            let mut queue = lock(&shared.datagrams);
            let before = queue.sending_dropped;
            for data in datagrams.drain(..) {
                let (len, with_flow) = (data.len(), options.flow.is_some());
                let fits = queue.ended.is_none() && check_size(shared, len).is_ok();
                if fits && make_room(&mut queue, shared, len, with_flow, &mut receipts) {
                    push(&mut queue, since, data, options, None);
                } else {
                    refused += 1;
                }
            }
            queue.sending_dropped - before
        };
        tell_overtaken(receipts);
        shared.post();
        refused + overtaken as usize
    }

    /// Appends empty vectors to `spares`, `count` at most: of datagrams that have left, or that were given back with
    /// [`Connection::give_spares`]. Who forwards datagrams in these need not allocate. They are few, or none, when there was no traffic.
    pub fn take_spares(&self, count: usize, spares: &mut Vec<Vec<u8>>) {
        if count > 0 {
            lock(&self.shared().mailbox.spares).take_into(count, spares);
        }
    }

    /// Gives vectors of received datagrams back, to be used again by this or another connection of the endpoint; their content is
    /// not looked at. `spent` is empty afterwards and keeps its memory.
    pub fn give_spares(&self, spent: &mut Vec<Vec<u8>>) {
        if !spent.is_empty() {
            let mut spares = lock(&self.shared().mailbox.spares);
            spent.drain(..).for_each(|vector| spares.put(vector));
        }
    }

    /// Ready when the driver has taken over most of what was sent with a flow. Who has more than a queue holds sends it in
    /// portions and waits here in between; how long the network takes for it is another matter.
    pub fn poll_flows_taken(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = lock(&self.shared().datagrams);
        if queue.ended.is_some() || queue.flows.bytes < FLOW_PORTION {
            return Poll::Ready(());
        }
        queue.writers.add(cx.waker());
        Poll::Pending
    }

    fn enqueue(
        &self,
        data: Vec<u8>,
        options: DatagramOptions,
        receipt: Option<Arc<ReceiptReply>>,
    ) -> Result<(), SendDatagramError> {
        let shared = self.shared();
        check_size(shared, data.len())?;
        let mut dropped = Vec::new();
        {
            let mut queue = lock(&shared.datagrams);
            if let Some(error) = &queue.ended {
                return Err(SendDatagramError::Connection(ConnectionError::clone(error)));
            }
            if receipt.is_some() && queue.receipts >= MAX_RECEIPTS
                || !make_room(
                    &mut queue,
                    shared,
                    data.len(),
                    options.flow.is_some(),
                    &mut dropped,
                )
            {
                return Err(SendDatagramError::Full);
            }
            push(&mut queue, instant(), data, options, receipt);
        }
        tell_overtaken(dropped);
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
            receipt: None,
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
    /// path: [`Connection::max_datagram_size_changed`] waits for that.
    pub fn max_datagram_size(&self) -> usize {
        self.shared().max_datagram()
    }

    /// Waits until [`Connection::max_datagram_size`] is not `known`, larger or smaller, and says what it is now. At once if
    /// it is so already, so that no change is missed between two calls.
    ///
    /// Cancel-safe.
    pub fn max_datagram_size_changed(&self, known: usize) -> MaxDatagramSizeChanged {
        MaxDatagramSizeChanged {
            shared: Arc::clone(self.shared()),
            known,
        }
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

fn fits(queue: &mut DatagramState, shared: &ConnectionShared, len: usize, with_flow: bool) -> bool {
    let sending = queue.sending(with_flow);
    sending.queue.is_empty() || sending.bytes + Queued::cost(len) <= shared.bound(with_flow)
}

fn make_room(
    queue: &mut DatagramState,
    shared: &ConnectionShared,
    len: usize,
    with_flow: bool,
    dropped: &mut Vec<Arc<ReceiptReply>>,
) -> bool {
    if shared.policy != DatagramPolicy::DropOldest {
        return fits(queue, shared, len, with_flow);
    }
    while !fits(queue, shared, len, with_flow) {
        let Some(old) = queue.sending(with_flow).pop() else {
            break;
        };
        queue.sending_dropped += 1;
        if let Some(receipt) = old.receipt {
            queue.receipts = queue.receipts.saturating_sub(1);
            dropped.push(receipt);
        }
    }
    true
}

fn tell_overtaken(receipts: Vec<Arc<ReceiptReply>>) {
    for receipt in receipts {
        // Nobody need wait for it.
        let _ = receipt.put(Ok(DatagramOutcome::Dropped(DatagramDrop::QueueFull)));
    }
}

fn push(
    queue: &mut DatagramState,
    since: Instant,
    data: Vec<u8>,
    options: DatagramOptions,
    receipt: Option<Arc<ReceiptReply>>,
) {
    queue.receipts += usize::from(receipt.is_some());
    queue.sending(options.flow.is_some()).push(Queued {
        data,
        options,
        since,
        receipt,
    });
}

/// Future of [`Connection::send_datagram_wait`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct SendDatagram {
    connection: Connection,
    datagram: Option<(Vec<u8>, DatagramOptions)>,
    receipt: Option<Arc<ReceiptReply>>,
}

impl SendDatagram {
    /// The same, and a receipt that tells what became of the datagram. Waits for room among the receipts as well, see
    /// [`Connection::send_datagram_tracked`].
    ///
    /// Cancel-safe: a dropped future has sent nothing.
    pub fn tracked(mut self) -> SendTracked {
        self.receipt = Some(Reply::new());
        SendTracked(self)
    }
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
                return Poll::Ready(Err(SendDatagramError::Connection(ConnectionError::clone(error))));
            }
            let crowded = this.receipt.is_some() && queue.receipts >= MAX_RECEIPTS;
            if crowded || !fits(&mut queue, &shared, data.len(), options.flow.is_some()) {
                queue.writers.add(cx.waker());
                this.datagram = Some((data, options));
                return Poll::Pending;
            }
            push(&mut queue, instant(), data, options, this.receipt.clone());
        }
        shared.post();
        Poll::Ready(Ok(()))
    }
}

/// Future of [`SendDatagram::tracked`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct SendTracked(SendDatagram);

impl Future for SendTracked {
    type Output = Result<DatagramReceipt, SendDatagramError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(())) => {
                let reply = self.0.receipt.take().unwrap_or_else(Reply::new);
                Poll::Ready(Ok(DatagramReceipt { reply }))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What became of one datagram, once that is known. An error: the connection ended before.
///
/// Cancel-safe, and it may be dropped unread: the datagram goes its way. It does not keep the connection open.
#[derive(Debug)]
#[must_use = "a datagram whose fate nobody asks for is sent cheaper without a receipt"]
pub struct DatagramReceipt {
    reply: Arc<ReceiptReply>,
}

impl Future for DatagramReceipt {
    type Output = Result<DatagramOutcome, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.reply.poll(cx.waker()) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

/// Future of [`Connection::max_datagram_size_changed`]. It does not keep the connection open.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct MaxDatagramSizeChanged {
    shared: Arc<ConnectionShared>,
    known: usize,
}

impl Future for MaxDatagramSizeChanged {
    type Output = Result<usize, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut queue = lock(&self.shared.datagrams);
        if let Some(error) = &queue.ended {
            return Poll::Ready(Err(ConnectionError::clone(error)));
        }
        let size = self.shared.max_datagram();
        if size != self.known {
            return Poll::Ready(Ok(size));
        }
        queue.sizes.add(cx.waker());
        Poll::Pending
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
            return Poll::Ready(Err(ConnectionError::clone(error)));
        }
        queue.readers.add(cx.waker());
        Poll::Pending
    }
}
