//! Messages of the connection itself that fit no packet: CONTROL_DATA, in pieces.
//!
//! Each kind counts its messages. A message begins when the peer has acknowledged all of the one before, so the receiver
//! holds one at a time, in a buffer it makes with the first piece; a late copy of a piece names a message that is over.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Breach, code};
use crate::wire::frame::{ControlData, ControlKind, MAX_CONTROL_DATA, kind};

/// The longest message.
const MOST: usize = MAX_CONTROL_DATA as usize;
/// Bundles whose signatures are checked in [`CHECK_PERIOD`]: each costs a fifth of a millisecond or so, and an honest relay
/// has one in weeks.
const MAX_CHECKS: u8 = 4;
const CHECK_PERIOD: Duration = Duration::from_hours(1);

/// Which bytes of a message, and how many.
struct Marks {
    words: Box<[u64; MOST / 64]>,
    count: usize,
}

impl Marks {
    fn none() -> Self {
        Self {
            words: Box::new([0; MOST / 64]),
            count: 0,
        }
    }

    fn get(&self, at: usize) -> bool {
        self.words
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: usize, on: bool) {
        let bit = 1 << (at % 64);
        let Some(word) = self
            .words
            .get_mut(at / 64)
            .filter(|word| (**word & bit != 0) != on)
        else {
            return;
        };
        *word ^= bit;
        self.count = if on { self.count + 1 } else { self.count - 1 };
    }
}

/// A piece of a message that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    message: u32,
    start: u16,
    end: u16,
}

/// A message on its way out.
struct Sending {
    kind: ControlKind,
    message: u32,
    bytes: Arc<[u8]>,
    due: Marks,
    arrived: Marks,
}

impl Sending {
    fn new(kind: ControlKind, message: u32, bytes: Arc<[u8]>) -> Self {
        let mut due = Marks::none();
        (0..bytes.len()).for_each(|at| due.set(at, true));
        Self {
            kind,
            message,
            bytes,
            due,
            arrived: Marks::none(),
        }
    }

    /// The first run of bytes to be sent.
    fn run(&self) -> Option<(usize, usize)> {
        if self.due.count == 0 {
            return None;
        }
        let start = (0..self.bytes.len()).find(|at| self.due.get(*at))?;
        let end = (start..self.bytes.len()).find(|at| !self.due.get(*at));
        Some((start, end.unwrap_or(self.bytes.len())))
    }
}

/// A message on its way in.
struct Receiving {
    total: u64,
    bytes: Vec<u8>,
    arrived: Marks,
}

/// Both ways, of bundles: the one kind this version sends.
pub(crate) struct Control {
    /// The newest epoch the client knows, as far as this end can tell.
    epoch: u64,
    sending: Option<Box<Sending>>,
    /// Follows when the one before has arrived; the newest stands.
    waiting: Option<Arc<[u8]>>,
    /// Messages begun, and messages received in full.
    sent: u32,
    received: u64,
    receiving: Option<Box<Receiving>>,
    checks: u8,
    checks_since: Option<Instant>,
}

impl Control {
    /// For a client that knows `epoch`.
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            sending: None,
            waiting: None,
            sent: 0,
            received: 0,
            receiving: None,
            checks: 0,
            checks_since: None,
        }
    }

    /// The newest epoch the client knows.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    // --- out ---

    /// A bundle of `epoch` is to be sent. Its bytes are at most 8192, or it is not taken.
    pub(super) fn offer(&mut self, epoch: u64, bytes: Arc<[u8]>) -> bool {
        if epoch <= self.epoch || bytes.is_empty() || bytes.len() > MOST {
            return false;
        }
        self.epoch = epoch;
        self.waiting = Some(bytes);
        self.begin_next();
        true
    }

    fn begin_next(&mut self) {
        if self.sending.is_none()
            && let Some(bytes) = self.waiting.take()
        {
            self.sending = Some(Box::new(Sending::new(ControlKind::Bundle, self.sent, bytes)));
            self.sent = self.sent.saturating_add(1);
        }
    }

    /// Whether a piece is to be sent.
    pub(super) fn has_pending(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.due.count > 0)
    }

    /// The next piece, cut to what fits a frame of `room` bytes; `None` when there is none, or not worth the room.
    pub(super) fn next_piece(&self, room: usize) -> Option<(ControlData<'_>, Piece)> {
        let sending = self.sending.as_ref()?;
        let (start, end) = sending.run()?;
        let (message, total) = (u64::from(sending.message), sending.bytes.len() as u64);
        let fit = ControlData::fit(room, message, total, start as u64)?;
        let cut = end.min(start.saturating_add(fit));
        // A scrap of a longer run waits for the next packet.
        let worth = cut == end || cut - start >= 256;
        let data = sending.bytes.get(start..cut).filter(|_| worth)?;
        let frame = ControlData {
            kind: sending.kind,
            message,
            total,
            offset: start as u64,
            data,
        };
        let piece = Piece {
            message: sending.message,
            start: u16::try_from(start).ok()?,
            end: u16::try_from(cut).ok()?,
        };
        Some((frame, piece))
    }

    /// A piece is in a packet.
    pub(super) fn piece_sent(&mut self, piece: Piece) {
        self.each(piece, |sending, at| sending.due.set(at, false));
    }

    /// A piece arrived.
    pub(super) fn piece_acked(&mut self, piece: Piece) {
        self.each(piece, |sending, at| {
            sending.arrived.set(at, true);
            sending.due.set(at, false);
        });
        let over = |sending: &Sending| sending.arrived.count >= sending.bytes.len();
        if self.sending.as_deref().is_some_and(over) {
            self.sending = None;
            self.begin_next();
        }
    }

    /// A piece was lost, or is asked for again.
    pub(super) fn piece_lost(&mut self, piece: Piece) {
        self.each(piece, |sending, at| {
            let missing = !sending.arrived.get(at);
            sending.due.set(at, missing);
        });
    }

    fn each(&mut self, piece: Piece, act: impl Fn(&mut Sending, usize)) {
        if let Some(sending) = self
            .sending
            .as_mut()
            .filter(|sending| sending.message == piece.message)
        {
            (piece.start..piece.end).for_each(|at| act(sending, usize::from(at)));
        }
    }

    // --- in ---

    /// A piece of a bundle. The message, once it is whole.
    pub(super) fn receive(&mut self, piece: &ControlData<'_>) -> Result<Option<Vec<u8>>, Breach> {
        const LIE: Breach = Breach::new(code::PROTOCOL_VIOLATION, kind::CONTROL_DATA);
        if piece.message < self.received {
            return Ok(None);
        }
        if piece.message > self.received {
            return Err(LIE);
        }
        let total = usize::try_from(piece.total)
            .ok()
            .filter(|total| *total <= MOST)
            .ok_or(LIE)?;
        let message = self.receiving.get_or_insert_with(|| {
            Box::new(Receiving {
                total: piece.total,
                bytes: vec![0; total],
                arrived: Marks::none(),
            })
        });
        let start = usize::try_from(piece.offset).map_err(|_| LIE)?;
        let place = message
            .bytes
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..piece.data.len()));
        let place = place.filter(|_| message.total == piece.total).ok_or(LIE)?;
        for ((at, byte), new) in (start..).zip(place).zip(piece.data) {
            if message.arrived.get(at) && *byte != *new {
                return Err(LIE);
            }
            *byte = *new;
            message.arrived.set(at, true);
        }
        if message.arrived.count < total {
            return Ok(None);
        }
        self.received += 1;
        Ok(self.receiving.take().map(|message| message.bytes))
    }

    /// Whether another bundle may cost a check of its signatures now.
    pub(super) fn may_check(&mut self, now: Instant) -> bool {
        let since = *self.checks_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= CHECK_PERIOD {
            (self.checks, self.checks_since) = (0, Some(now));
        }
        self.checks += u8::from(self.checks < MAX_CHECKS + 1);
        self.checks <= MAX_CHECKS
    }

    /// A bundle of this epoch was taken.
    pub(super) fn took(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        let out = if self.sending.is_some() { 2 * MOST / 8 } else { 0 };
        let within = self
            .receiving
            .as_ref()
            .map_or(0, |message| message.bytes.capacity() + MOST / 8);
        out + within
    }
}

#[cfg(test)]
mod tests;
