//! Early data: until the handshake is over only what the application marked as safe to be repeated may be sent, under the
//! limits the peer had the last time (RFC 9001 §4.6, RFC 9000 §7.4.1).

use crate::{Direction, PeerLimits, Scheduler, StreamId, datagram_flow};

impl Scheduler {
    /// The handshake is under way: from now on everything is held back but marked streams and datagrams. Control frames, too.
    pub fn begin_early(&mut self) {
        self.early = true;
        self.refresh_all();
    }

    /// What is sent on this stream may go early. It may arrive twice, so it must be safe to be repeated.
    pub fn allow_early(&mut self, id: StreamId) {
        self.offer = None;
        let Some(slot) = self.streams.slot(id) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.early = true;
            self.refresh(slot);
        }
    }

    /// The handshake is over, and the peer's limits are known. False: more was used early than they allow.
    pub fn end_early(&mut self, peer: PeerLimits) -> bool {
        self.offer = None;
        self.early = false;
        self.peer = peer;
        let mut kept = self.credit.replace(peer.max_data);
        for (direction, max) in [
            (Direction::Bi, peer.max_streams_bidi),
            (Direction::Uni, peer.max_streams_uni),
        ] {
            self.raise_streams(direction, max);
            let ours = self.ours.get_mut(direction);
            ours.allowed = max;
            kept &= ours.opened <= max;
        }
        for slot in 0..self.streams.slots() {
            kept &= self.replace_limit(slot);
        }
        self.refresh_all();
        kept
    }

    /// A stream of ours gets the limit that holds now.
    fn replace_limit(&mut self, slot: crate::stream::table::Slot) -> bool {
        let Some(stream) = self.streams.get_mut(slot) else {
            return true;
        };
        let limit = match stream.id.direction() {
            Direction::Uni => self.peer.max_stream_data_uni,
            Direction::Bi => self.peer.max_stream_data_bidi_remote,
        };
        stream.send.as_mut().is_none_or(|send| send.credit.replace(limit))
    }

    fn refresh_all(&mut self) {
        self.offer = None;
        self.datagrams.set_early(self.early);
        self.note_steering();
        for slot in 0..self.streams.slots() {
            self.refresh(slot);
        }
        for class in crate::Class::ALL {
            // A deadline that was passed over while others were held back counts anew.
            self.fair.set(datagram_flow(class), crate::fair::Interest::None);
            self.refresh_datagrams(class);
        }
    }
}
