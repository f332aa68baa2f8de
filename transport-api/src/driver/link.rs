//! One connection, seen by the driver: what its handles asked for, and what they are told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::roam;
use super::shared::{
    ConnectionShared, DatagramOutcome, FinishReply, Halves, MAX_TICKETS, OpenReply, Orders, Query, Queued,
    ReceiptReply, RecvShared, SendShared, lock,
};
use super::streams::{Outbox, Streams};
use crate::config::{DatagramPolicy, RECEIVE_QUEUE_BYTES, RECEIVE_QUEUE_LEN};
use crate::engine::{
    Bundle, Connection, ConnectionStats, DatagramDrop, DatagramId, Direction, Handle, Info, Now, PathError,
    StreamId, Ticket,
};
use crate::error::{ConnectionError, FinishError};

/// A `finish_and_close` that waits.
struct Finish {
    deadline: Instant,
    after: Duration,
    reply: Arc<FinishReply>,
}

/// See the module.
pub(crate) struct Link {
    pub(crate) handle: Handle,
    pub(crate) shared: Arc<ConnectionShared>,
    pub(crate) streams: Streams,
    /// Nearly always there is none.
    asked: Option<Box<Asked>>,
    /// Datagrams wait in the handle's queue because the engine's is full.
    datagrams_wait: bool,
}

/// Whoever waits for an answer.
#[derive(Default)]
struct Asked {
    bi_openers: VecDeque<Arc<OpenReply>>,
    uni_openers: VecDeque<Arc<OpenReply>>,
    finishes: Vec<Finish>,
    /// Who wants to know what becomes of a datagram.
    receipts: BTreeMap<DatagramId, Arc<ReceiptReply>>,
}

impl Asked {
    fn openers(&mut self, direction: Direction) -> &mut VecDeque<Arc<OpenReply>> {
        match direction {
            Direction::Bi => &mut self.bi_openers,
            Direction::Uni => &mut self.uni_openers,
        }
    }

    fn is_empty(&self) -> bool {
        self.bi_openers.is_empty()
            && self.uni_openers.is_empty()
            && self.finishes.is_empty()
            && self.receipts.is_empty()
    }
}

/// Places kept for datagrams on their way.
const KEPT_PLACES: usize = 256;

impl Link {
    pub(crate) fn new(handle: Handle, shared: Arc<ConnectionShared>) -> Self {
        Self {
            handle,
            shared,
            streams: Streams::default(),
            asked: None,
            datagrams_wait: false,
        }
    }

    /// Does what the handles asked for since the last mark.
    pub(crate) fn feed(&mut self, now: Now, engine: &mut Connection, out: &mut Outbox) {
        let Orders {
            opens,
            queries,
            finishes,
            update_keys,
            congestion,
            network_changed,
            close,
        } = self.take_orders();
        if let Some(algorithm) = congestion {
            engine.set_algorithm(algorithm);
        }
        for (direction, reply) in opens {
            self.wait_to_open(direction, reply);
        }
        self.open_waiting(engine, Direction::Bi);
        self.open_waiting(engine, Direction::Uni);
        self.send_datagrams(now, engine, out);
        for (after, reply) in finishes {
            let deadline = now
                .instant
                .checked_add(after)
                .unwrap_or(now.instant + Duration::from_hours(24));
            self.asked().finishes.push(Finish {
                deadline,
                after,
                reply,
            });
        }
        for query in queries {
            self.answer(now, query, engine, out);
        }
        if network_changed {
            out.interfaces = true;
            engine.network_changed(now);
        }
        if update_keys {
            engine.update_keys();
        }
        if let Some((code, reason)) = close {
            engine.close(now, code, &reason);
        }
        self.asked.take_if(|asked| asked.is_empty());
    }

    fn asked(&mut self) -> &mut Asked {
        self.asked.get_or_insert_default()
    }

    fn finishes(&self) -> &[Finish] {
        self.asked.as_ref().map_or(&[], |asked| &asked.finishes)
    }

    fn take_orders(&self) -> Orders {
        let orders = lock(&self.shared.state).orders.take();
        orders.map(|orders| *orders).unwrap_or_default()
    }

    /// Room for the scheduler's answer to everybody, and none for those who went away.
    fn wait_to_open(&mut self, direction: Direction, reply: Arc<OpenReply>) {
        let waiting = self.asked().openers(direction);
        if waiting.len() >= 64 {
            waiting.retain(|reply| !reply.is_abandoned());
        }
        waiting.push_back(reply);
    }

    /// Opens streams for those who wait, first come first served.
    pub(crate) fn open_waiting(&mut self, engine: &mut Connection, direction: Direction) {
        loop {
            let Some(asked) = &mut self.asked else { return };
            let waiting = asked.openers(direction);
            let Some(reply) = waiting.pop_front() else { return };
            if reply.is_abandoned() {
                continue;
            }
            let Ok(id) = engine.open(direction) else {
                waiting.push_front(reply);
                return;
            };
            let halves = self.halves(id, true, direction == Direction::Bi);
            if let Err(Ok(halves)) = reply.put(Ok(halves)) {
                // Given up between the question and the answer.
                abandon(halves);
            }
        }
    }

    fn halves(&mut self, id: StreamId, sends: bool, receives: bool) -> Halves {
        let (connection, mailbox) = (self.shared.id, &self.shared.mailbox);
        let send = sends.then(|| SendShared::new(connection, id, Arc::clone(mailbox)));
        let recv = receives.then(|| RecvShared::new(connection, id, Arc::clone(mailbox)));
        if let Some(send) = &send {
            self.streams.add_send(Arc::clone(send));
        }
        if let Some(recv) = &recv {
            self.streams.add_recv(Arc::clone(recv));
        }
        Halves { send, recv }
    }

    /// Takes over the streams the peer opened.
    pub(crate) fn accept_streams(&mut self, engine: &mut Connection, out: &mut Outbox) {
        for direction in [Direction::Bi, Direction::Uni] {
            while let Some(id) = engine.accept(direction) {
                let halves = self.halves(id, direction == Direction::Bi, true);
                if let Some(recv) = &halves.recv {
                    lock(&recv.state).early = engine.is_early();
                }
                let mut state = lock(&self.shared.state);
                if direction == Direction::Bi {
                    state.accepted_bi.push_back(halves);
                    state.bi_waiters.take_into(&mut out.wakers);
                } else {
                    state.accepted_uni.push_back(halves);
                    state.uni_waiters.take_into(&mut out.wakers);
                }
                drop(state);
                self.streams.pump_recv(engine, id, out);
            }
        }
    }

    /// A datagram of the peer: the oldest unread one goes when nobody reads.
    pub(crate) fn receive_datagram(&mut self, data: Vec<u8>, out: &mut Outbox) {
        let mut queue = lock(&self.shared.datagrams);
        queue.received_bytes += data.len();
        queue.received.push_back(data);
        while queue.received.len() > RECEIVE_QUEUE_LEN || queue.received_bytes > RECEIVE_QUEUE_BYTES {
            let Some(old) = queue.received.pop_front() else {
                break;
            };
            queue.received_bytes = queue.received_bytes.saturating_sub(old.len());
            queue.received_dropped += 1;
        }
        queue.readers.take_into(&mut out.wakers);
    }

    /// The handshake is over.
    pub(crate) fn connected(&self, info: Info, out: &mut Outbox) {
        let mut state = lock(&self.shared.state);
        state.info = Some(info);
        state.info_waiters.take_into(&mut out.wakers);
    }

    /// A ticket: a few are kept until somebody asks.
    pub(crate) fn receive_ticket(&self, ticket: Ticket, out: &mut Outbox) {
        let mut state = lock(&self.shared.state);
        let news = state.news();
        if news.tickets.len() >= MAX_TICKETS {
            news.tickets.pop_front();
        }
        news.tickets.push_back(ticket);
        news.ticket_waiters.take_into(&mut out.wakers);
    }

    /// The relay's next bundle: the newest one is kept until somebody asks.
    pub(crate) fn receive_bundle(&self, bundle: Bundle, out: &mut Outbox) {
        let mut state = lock(&self.shared.state);
        let news = state.news();
        news.bundle = Some(bundle);
        news.bundle_waiters.take_into(&mut out.wakers);
    }

    /// Handle's datagrams → scheduler, many under one lock. With `DropOldest` the scheduler's queue decides what goes; otherwise
    /// nothing is handed over that does not fit. Age counts from when the handle was given a datagram. True: some were handed over.
    pub(crate) fn send_datagrams(&mut self, now: Now, engine: &mut Connection, out: &mut Outbox) -> bool {
        self.datagrams_wait = false;
        let mut any = false;
        for with_flow in [false, true] {
            let mut handed = std::mem::take(&mut out.places);
            {
                let mut queue = lock(&self.shared.datagrams);
                let sending = queue.sending(with_flow);
                let all = self.shared.policy == DatagramPolicy::DropOldest;
                sending.take(&mut handed, |bytes, count| {
                    all || engine.has_datagram_room(bytes, count, with_flow)
                });
                self.datagrams_wait |= !sending.queue.is_empty();
                if !handed.is_empty() {
                    queue.writers.take_into(&mut out.wakers);
                }
            }
            any |= !handed.is_empty();
            for queued in handed.drain(..) {
                self.hand_over(now, engine, queued, out);
            }
            handed.shrink_to(KEPT_PLACES);
            out.places = handed;
        }
        any
    }

    /// Whether the scheduler's queue for what waits here is half empty: for less it is not worth asking.
    fn may_send_datagrams(&self, engine: &Connection) -> bool {
        let mut queue = lock(&self.shared.datagrams);
        [false, true].into_iter().any(|with_flow| {
            let waits = !queue.sending(with_flow).queue.is_empty();
            waits && engine.has_datagram_room(self.shared.bound(with_flow) / 2, 1, with_flow)
        })
    }

    fn hand_over(&mut self, now: Now, engine: &mut Connection, queued: Queued, out: &mut Outbox) {
        let mut options = queued.options;
        options.notify = queued.receipt.is_some();
        let since = Now {
            instant: queued.since,
            ..now
        };
        match (engine.send_datagram(since, queued.data, options), queued.receipt) {
            (Ok(id), Some(receipt)) => drop(self.asked().receipts.insert(id, receipt)),
            (Ok(_), None) => {}
            (Err(_), receipt) => {
                // The path narrowed after the caller's check.
                lock(&self.shared.datagrams).sending_dropped += 1;
                if let Some(receipt) = receipt {
                    self.answer_receipt(&receipt, DatagramOutcome::Dropped(DatagramDrop::TooLarge), out);
                }
            }
        }
    }

    /// It is known what became of a datagram.
    pub(crate) fn datagram_settled(&mut self, id: DatagramId, outcome: DatagramOutcome, out: &mut Outbox) {
        let receipt = self.asked.as_mut().and_then(|asked| asked.receipts.remove(&id));
        if let Some(receipt) = receipt {
            self.answer_receipt(&receipt, outcome, out);
        }
    }

    fn answer_receipt(&self, receipt: &ReceiptReply, outcome: DatagramOutcome, out: &mut Outbox) {
        {
            let mut queue = lock(&self.shared.datagrams);
            queue.receipts = queue.receipts.saturating_sub(1);
            queue.writers.take_into(&mut out.wakers);
        }
        // Nobody need wait for it.
        let _ = receipt.put(Ok(outcome));
    }

    /// Whether time or transmission may let this link go on although no event says so.
    pub(crate) fn is_waiting(&self) -> bool {
        self.datagrams_wait || !self.finishes().is_empty()
    }

    /// After a drain. True: the engine was changed, drain again.
    pub(crate) fn settle(&mut self, now: Now, engine: &mut Connection, out: &mut Outbox) -> bool {
        let mut changed =
            self.datagrams_wait && self.may_send_datagrams(engine) && self.send_datagrams(now, engine, out);
        if self.finishes().is_empty() {
            return changed;
        }
        let missing = self.streams.unacknowledged();
        let drained = missing == 0 && self.datagrams_are_sent(engine);
        let late = self
            .finishes()
            .iter()
            .any(|finish| finish.deadline <= now.instant);
        if drained || late {
            self.reply_finishes(|finish| {
                if drained {
                    return Ok(());
                }
                Err(FinishError::Deadline {
                    unacknowledged: missing,
                    after: finish.after,
                })
            });
            engine.close(now, 0, b"");
            changed = true;
        }
        changed
    }

    fn datagrams_are_sent(&self, engine: &Connection) -> bool {
        let queue = lock(&self.shared.datagrams);
        let handed_over = queue.plain.queue.is_empty() && queue.flows.queue.is_empty();
        handed_over && engine.datagram_queue().len == 0
    }

    fn reply_finishes(&mut self, answer: impl Fn(&Finish) -> Result<(), FinishError>) {
        let finishes = self
            .asked
            .as_mut()
            .map(|asked| std::mem::take(&mut asked.finishes));
        for finish in finishes.unwrap_or_default() {
            // Nobody need wait for it.
            let _ = finish.reply.put(answer(&finish));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.finishes().iter().map(|finish| finish.deadline).min()
    }

    /// The peer sees this end somewhere else.
    pub(crate) fn observe(&self, engine: &Connection, out: &mut Outbox) {
        let mut state = lock(&self.shared.state);
        let news = state.news();
        news.observed = engine.observed_address();
        news.path_waiters.take_into(&mut out.wakers);
    }

    /// Tells handles the size that fits now.
    pub(crate) fn publish_size(&self, engine: &Connection, out: &mut Outbox) {
        self.shared
            .max_datagram
            .store(engine.max_datagram(), Ordering::Relaxed);
        *lock(&self.shared.remote) = engine.remote();
        lock(&self.shared.datagrams).sizes.take_into(&mut out.wakers);
    }

    /// The end: everything that has arrived is handed over, then everybody who waits learns the reason.
    pub(crate) fn end(
        mut self,
        mut engine: Option<&mut Connection>,
        error: &ConnectionError,
        out: &mut Outbox,
    ) {
        if let Some(engine) = engine.as_deref_mut() {
            self.accept_streams(engine, out);
        }
        let unacknowledged = self.streams.unacknowledged();
        self.reply_finishes(|_| match unacknowledged {
            0 => Ok(()),
            _ => Err(FinishError::Connection(error.clone())),
        });
        let stats = engine.as_deref().map(Connection::stats);
        self.streams.end(engine, error, out);
        {
            let mut state = lock(&self.shared.state);
            state.ended = Some(Box::new(error.clone()));
            state.stats = stats.map(Box::new).or_else(|| state.stats.take());
            state.bi_waiters.take_into(&mut out.wakers);
            state.uni_waiters.take_into(&mut out.wakers);
            state.end_waiters.take_into(&mut out.wakers);
            let news = state.news();
            news.bundle_waiters.take_into(&mut out.wakers);
            news.ticket_waiters.take_into(&mut out.wakers);
            news.path_waiters.take_into(&mut out.wakers);
            state.info_waiters.take_into(&mut out.wakers);
        }
        let orders = self.take_orders();
        let asked = *self.asked.take().unwrap_or_default();
        let opens = orders
            .opens
            .into_iter()
            .map(|(_, reply)| reply)
            .chain(asked.bi_openers)
            .chain(asked.uni_openers);
        // Who went away needs no answer.
        for reply in opens {
            let _ = reply.put(Err(error.clone()));
        }
        for (_, reply) in orders.finishes {
            let _ = reply.put(Err(FinishError::Connection(error.clone())));
        }
        orders.queries.into_iter().for_each(refuse);
        let unsent = {
            let mut queue = lock(&self.shared.datagrams);
            queue.ended = Some(Box::new(error.clone()));
            queue.receipts = 0;
            queue.readers.take_into(&mut out.wakers);
            queue.writers.take_into(&mut out.wakers);
            queue.sizes.take_into(&mut out.wakers);
            [std::mem::take(&mut queue.plain), std::mem::take(&mut queue.flows)]
        };
        let unsent = unsent.into_iter().flat_map(|sending| sending.queue);
        let unsent = unsent.filter_map(|queued| queued.receipt);
        for receipt in asked.receipts.into_values().chain(unsent) {
            let _ = receipt.put(Err(error.clone()));
        }
    }

    fn answer(&self, now: Now, query: Query, engine: &mut Connection, out: &mut Outbox) {
        match query {
            Query::Export(label, len, reply) => {
                let mut bytes = vec![0; len];
                let known = engine.export(&label, &mut bytes);
                // An abandoned answer is nobody's.
                let _ = reply.put(known.then_some(bytes));
            }
            Query::Stats(reply) => {
                let _ = reply.put(Some(self.stats(now, engine)));
            }
            Query::Early(reply) => {
                let _ = reply.put(Some(engine.is_early()));
            }
            Query::Paths(reply) => {
                let _ = reply.put(Some(engine.paths().collect()));
            }
            Query::Path(order, reply) => {
                let _ = reply.put(roam::obey(now, order, engine, out));
            }
            Query::Offer(addresses, reply) => {
                let _ = reply.put(engine.offer_addresses(now, &addresses));
            }
        }
    }

    /// The engine's figures; what waits in the handle's queue counts as waiting.
    fn stats(&self, now: Now, engine: &Connection) -> ConnectionStats {
        let mut stats = engine.stats();
        let queue = lock(&self.shared.datagrams);
        let waiting = &mut stats.datagram_queue;
        for sending in [&queue.plain, &queue.flows] {
            waiting.len += sending.queue.len();
            waiting.bytes += sending.bytes;
            if let Some(first) = sending.queue.front() {
                let age = now.instant.saturating_duration_since(first.since);
                waiting.oldest_age = waiting.oldest_age.max(age);
            }
        }
        stats
    }
}

/// There is no connection any more that could be asked.
fn refuse(query: Query) {
    match query {
        Query::Export(_, _, reply) => drop(reply.put(None)),
        Query::Stats(reply) => drop(reply.put(None)),
        Query::Early(reply) => drop(reply.put(None)),
        Query::Paths(reply) => drop(reply.put(None)),
        Query::Path(_, reply) => drop(reply.put(Err(PathError::NotConnected))),
        Query::Offer(_, reply) => drop(reply.put(Err(PathError::NotConnected))),
    }
}

/// Streams nobody took: reset what we would send, stop what we would read.
fn abandon(halves: Halves) {
    if let Some(send) = halves.send {
        lock(&send.state).reset = Some(0);
        send.post();
    }
    if let Some(recv) = halves.recv {
        lock(&recv.state).stop = Some(0);
        recv.post();
    }
}
