//! Datagrams in: whose each one is, and to whom it goes.
#![forbid(unsafe_code)]

use transport_crypto::{Direction, PacketMask};

use super::route::Target;
use super::{Endpoint, MAX_DATAGRAM, Whose};
use crate::buffer::{Arrived, Joined, MAX_SEGMENTS, Route};
use crate::config::Now;
use crate::trace::DropReason;
use crate::wire::ConnectionId;

/// Where the id of a datagram leads, if anywhere.
type Found = Option<(ConnectionId, Target)>;

/// Takes a datagram of another worker's, by its number; false: it cannot.
type HandOver<'a> = &'a mut dyn FnMut(u8, Arrived, &[u8]) -> bool;

impl Endpoint {
    /// A datagram arrived. It is decrypted where it lies. Gives whose it is: what names no connection or handshake of ours is
    /// a stranger's, and may be part of a flood; another [worker's](super::Worker) is as it came, to be given to
    /// [`Endpoint::handle_forwarded`] of that worker.
    pub fn handle_datagram(&mut self, now: Now, arrived: impl Into<Arrived>, datagram: &mut [u8]) -> Whose {
        self.count(1, datagram.len());
        let found = self.routes.find(datagram);
        self.on_datagram(now, arrived.into(), found, None, datagram)
    }

    /// The same for datagrams that arrived together; what they have in common is computed once, and those of other workers are
    /// handed over. Gives how many there were, and how many of them are no strangers'.
    pub fn handle_joined(&mut self, now: Now, joined: Joined<'_>, hand_over: HandOver<'_>) -> (u32, u32) {
        let Joined {
            arrived,
            stride,
            bytes,
        } = joined;
        let stride = stride.max(1);
        if bytes.len() <= stride {
            let whose = self.handle_datagram(now, arrived, bytes);
            return (1, self.pass_on(now, whose, arrived, bytes, hand_over).into());
        }
        let (mut all, mut ours) = (0, 0);
        for train in bytes.chunks_mut(stride.saturating_mul(MAX_SEGMENTS)) {
            all += train.len().div_ceil(stride) as u32;
            ours += self.on_train(now, arrived, stride, train, hand_over);
        }
        (all, ours)
    }

    /// At most [`MAX_SEGMENTS`] datagrams.
    fn on_train(
        &mut self,
        now: Now,
        arrived: Arrived,
        stride: usize,
        train: &mut [u8],
        hand_over: HandOver<'_>,
    ) -> u32 {
        self.count(train.len().div_ceil(stride) as u64, train.len());
        let mut found = [None; MAX_SEGMENTS];
        self.routes.find_each(train.chunks(stride), &mut found);
        let [first, ..] = found;
        let mut masks = [[0; 5]; MAX_SEGMENTS];
        let masked = self.masks_of(first, stride, train, &mut masks);
        let mut ours = 0;
        for (datagram, (mut found, mask)) in train.chunks_mut(stride).zip(found.into_iter().zip(&masks)) {
            if !matches!(found, Some((_, Target::Connection(_)))) {
                // What came before it in the train may have made a connection.
                found = self.routes.find(datagram);
            }
            let same = masked && found.map(|found| found.1) == first.map(|first| first.1);
            let whose = self.on_datagram(now, arrived, found, same.then_some(mask), datagram);
            ours += u32::from(self.pass_on(now, whose, arrived, datagram, hand_over));
        }
        ours
    }

    /// Whether a datagram is no stranger's; another worker's is handed over.
    fn pass_on(
        &mut self,
        now: Now,
        whose: Whose,
        arrived: Arrived,
        datagram: &[u8],
        hand_over: HandOver<'_>,
    ) -> bool {
        if let Whose::OfWorker(worker) = whose
            && !hand_over(worker, arrived, datagram)
        {
            self.forward_failed(now, datagram.len());
        }
        whose != Whose::Stranger
    }

    /// The masks of all packets of a train, if it is one of a connection with keys.
    fn masks_of(
        &mut self,
        first: Found,
        stride: usize,
        train: &[u8],
        out: &mut [PacketMask; MAX_SEGMENTS],
    ) -> bool {
        let Some((_, Target::Connection(slot))) = first else {
            return false;
        };
        let connection = self.slab.connection(slot);
        connection.is_some_and(|connection| connection.packet_masks(train.chunks(stride), out))
    }

    fn count(&mut self, datagrams: u64, bytes: usize) {
        self.watch.stats.received_datagrams += datagrams;
        self.watch.stats.received_bytes += bytes as u64;
    }

    fn on_datagram(
        &mut self,
        now: Now,
        arrived: Arrived,
        found: Found,
        mask: Option<&PacketMask>,
        datagram: &mut [u8],
    ) -> Whose {
        let unknown = match found {
            _ if datagram.len() > MAX_DATAGRAM => DropReason::Length,
            Some((cid, target)) => {
                self.on_known(now, arrived, (cid, mask), target, datagram);
                return Whose::Ours;
            }
            None => match self.routes.recognise(datagram) {
                Some(index) => return self.on_envelope(now, arrived.route, index, datagram),
                None => match self.routes.elsewhere(datagram) {
                    Some(worker) => return self.of_another(worker),
                    None => DropReason::Unknown,
                },
            },
        };
        self.watch.tracer(now, None).dropped(unknown, datagram.len());
        Whose::Stranger
    }

    /// The id of a datagram leads somewhere.
    pub(super) fn on_known(
        &mut self,
        now: Now,
        arrived: Arrived,
        header: (ConnectionId, Option<&PacketMask>),
        target: Target,
        datagram: &mut [u8],
    ) {
        match target {
            Target::Connection(slot) => self.on_packet(now, arrived, slot, header, datagram),
            Target::HalfOpen(id) => self.on_first(now, arrived, id, header.0, datagram),
        }
    }

    fn on_packet(
        &mut self,
        now: Now,
        arrived: Arrived,
        slot: u32,
        header: (ConnectionId, Option<&PacketMask>),
        datagram: &mut [u8],
    ) {
        let handle = self.slab.handle(slot);
        let mut tracer = self.watch.tracer(now, Some(handle));
        match self.slab.connection(slot) {
            Some(connection) => {
                connection.lend(&mut self.spares);
                connection.handle_datagram(now, arrived, header, datagram, &mut tracer);
                connection.take_back(&mut self.spares);
            }
            // A packet may overtake the answer it belongs behind; it will come again.
            None => tracer.dropped(DropReason::Unknown, datagram.len()),
        }
        self.slab.mark(slot);
    }

    fn on_envelope(&mut self, now: Now, route: Route, index: usize, datagram: &mut [u8]) -> Whose {
        let incoming = self.routes.domain(index).map(|domain| domain.incoming);
        match incoming {
            Some(Direction::ClientToServer) => self.on_stranger(now, route, index, datagram),
            Some(Direction::ServerToClient) => self.on_answer(now, route, index, datagram),
            None => {}
        }
        if incoming == Some(Direction::ServerToClient) {
            Whose::Ours
        } else {
            Whose::Stranger
        }
    }
}
