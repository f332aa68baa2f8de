//! Early data at the door (the role of RFC 8446 §2.3): datagrams that belong to a hello by its name.
//!
//! They may overtake the hello, so a few of them are kept for it. Once the hello is judged the rest go straight to its connection,
//! or are dropped. Nothing is decrypted before the hello was accepted.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use transport_crypto::{EARLY_OVERHEAD, EarlyOpen, EnvelopeHeader};

use super::half_open::Waiting;
use crate::buffer::Route;
use crate::endpoint::flight::Hid;
use crate::handle::Handle;
use crate::trace::DropReason;

/// Early data of one hello kept until it is judged, bytes; and of all.
const MAX_OF_ONE: usize = 16 * 1024;
const MAX_BYTES: usize = 1 << 20;
/// What a kept packet counts at least, bytes.
const COST: usize = 64;
/// Hellos with early data at once, kept, taken or refused.
const MAX_LANES: usize = 1024;
/// How long a hello is waited for, and how long its early data is told from others'.
const LIFETIME: Duration = Duration::from_secs(10);

/// A hello and where it comes from.
pub(in crate::endpoint) type Key = (Hid, SocketAddr);

/// An early packet that was opened.
pub(in crate::endpoint) struct Packet {
    pub(in crate::endpoint) number: u32,
    pub(in crate::endpoint) frames: Vec<u8>,
    /// Bytes of the datagram it came in.
    pub(in crate::endpoint) size: usize,
}

/// A client whose early data is taken: it becomes a connection at once.
pub(in crate::endpoint) struct Guest {
    pub(in crate::endpoint) key: Key,
    pub(in crate::endpoint) waiting: Waiting,
    pub(in crate::endpoint) route: Route,
    pub(in crate::endpoint) born: Instant,
    pub(in crate::endpoint) packets: Vec<Packet>,
}

/// What came of a stranger's datagram.
pub(in crate::endpoint) enum Visit {
    Guest(Box<Guest>),
    /// One more early packet of a connection.
    Packet(Handle, Packet),
}

/// Early data of one hello.
enum Stage {
    /// The hello is not judged yet: what came, with the sizes of the datagrams.
    Kept(Vec<(Vec<u8>, usize)>, usize),
    /// Taken: so many bytes more, for this connection.
    Open(EarlyOpen, usize, Option<Handle>),
    Refused,
}

struct Lane {
    born: Instant,
    stage: Stage,
}

/// All of them.
#[derive(Default)]
pub(in crate::endpoint) struct Lanes {
    lanes: BTreeMap<Key, Lane>,
    by_age: VecDeque<(Instant, Key)>,
    /// Kept bytes.
    bytes: usize,
}

impl Lanes {
    /// A datagram of `size` bytes with early data.
    pub(super) fn add(
        &mut self,
        now: Instant,
        key: Key,
        header: &EnvelopeHeader,
        fragment: &[u8],
        size: usize,
    ) -> Result<Option<Visit>, DropReason> {
        self.expire(now);
        let whole = header.fragment_offset == 0 && usize::from(header.total_len) == fragment.len();
        if !whole || fragment.len() <= 4 + EARLY_OVERHEAD {
            return Err(DropReason::FragmentMismatch);
        }
        let lane = self.lanes.get_mut(&key);
        match lane.map(|lane| &mut lane.stage) {
            Some(Stage::Refused) => Err(DropReason::EarlyRejected),
            Some(Stage::Open(open, left, handle)) => {
                let handle = handle.ok_or(DropReason::EarlyRejected)?;
                let packet = open_packet(open, left, fragment.to_vec(), size)?;
                Ok(Some(Visit::Packet(handle, packet)))
            }
            Some(Stage::Kept(..)) | None => self.keep(now, key, fragment, size).map(|()| None),
        }
    }

    fn keep(&mut self, now: Instant, key: Key, fragment: &[u8], size: usize) -> Result<(), DropReason> {
        let cost = fragment.len().max(COST);
        let held = match self.lanes.get(&key).map(|lane| &lane.stage) {
            Some(Stage::Kept(_, held)) => *held,
            _ => 0,
        };
        if held + cost > MAX_OF_ONE {
            return Err(DropReason::EarlyBuffer);
        }
        // Newcomers take the oldest place, for the oldest hello is the least likely to come.
        while self.bytes + cost > MAX_BYTES {
            let Some((_, oldest)) = self.by_age.front().copied().filter(|(_, oldest)| *oldest != key) else {
                return Err(DropReason::EarlyBuffer);
            };
            self.by_age.pop_front();
            self.remove(&oldest);
        }
        let lane = self.lane(now, key);
        if let Stage::Kept(packets, held) = &mut lane.stage {
            packets.push((fragment.to_vec(), size));
            *held += cost;
            self.bytes += cost;
        }
        Ok(())
    }

    /// The lane of a hello; of too many the oldest goes.
    fn lane(&mut self, now: Instant, key: Key) -> &mut Lane {
        if !self.lanes.contains_key(&key) {
            while self.lanes.len() >= MAX_LANES
                && let Some((_, oldest)) = self.by_age.pop_front()
            {
                self.remove(&oldest);
            }
            self.by_age.push_back((now, key));
        }
        self.lanes.entry(key).or_insert_with(|| Lane {
            born: now,
            stage: Stage::Kept(Vec::new(), 0),
        })
    }

    /// The hello's early data is taken, at most `most` bytes of it: what came before. The rest waits for [`Lanes::seat`]. Also
    /// how many of those packets were no good.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        key: Key,
        open: EarlyOpen,
        most: usize,
    ) -> (Vec<Packet>, Vec<DropReason>) {
        let kept = self.judge(now, key);
        let mut left = most;
        let (mut packets, mut drops) = (Vec::new(), Vec::new());
        for (fragment, size) in kept {
            match open_packet(&open, &mut left, fragment, size) {
                Ok(packet) => packets.push(packet),
                Err(reason) => drops.push(reason),
            }
        }
        self.lane(now, key).stage = Stage::Open(open, left, None);
        (packets, drops)
    }

    /// The hello's early data is not taken; how many packets were kept for it.
    pub(super) fn refuse(&mut self, now: Instant, key: Key) -> usize {
        let kept = self.judge(now, key).len();
        self.lane(now, key).stage = Stage::Refused;
        kept
    }

    fn judge(&mut self, now: Instant, key: Key) -> Vec<(Vec<u8>, usize)> {
        match std::mem::replace(&mut self.lane(now, key).stage, Stage::Refused) {
            Stage::Kept(packets, held) => {
                self.bytes = self.bytes.saturating_sub(held);
                packets
            }
            Stage::Open(..) | Stage::Refused => Vec::new(),
        }
    }

    /// The connection that gets what else comes.
    pub(in crate::endpoint) fn seat(&mut self, key: &Key, connection: Handle) {
        if let Some(Stage::Open(_, _, handle)) = self.lanes.get_mut(key).map(|lane| &mut lane.stage) {
            *handle = Some(connection);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(Lane {
            stage: Stage::Kept(_, held),
            ..
        }) = self.lanes.remove(key)
        {
            self.bytes = self.bytes.saturating_sub(held);
        }
    }

    /// Lets go what has waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((born, key)) = self.by_age.front().copied() {
            let gone = self.lanes.get(&key).is_none_or(|lane| lane.born != born);
            if !gone && now.saturating_duration_since(born) < LIFETIME {
                return;
            }
            self.by_age.pop_front();
            if !gone {
                self.remove(&key);
            }
        }
    }

    /// Allocated bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.lanes.len() * (size_of::<(Key, Lane)>() + 128) + self.by_age.capacity() * 64
    }
}

/// `number (32) ‖ sealed frames`.
fn open_packet(
    open: &EarlyOpen,
    left: &mut usize,
    mut fragment: Vec<u8>,
    size: usize,
) -> Result<Packet, DropReason> {
    let (number, sealed) = fragment.split_first_chunk_mut().ok_or(DropReason::Forged)?;
    let number = u32::from_be_bytes(*number);
    let frames = open.open(number, sealed).map_err(|_| DropReason::Forged)?;
    *left = left.checked_sub(frames.len()).ok_or(DropReason::EarlyBuffer)?;
    Ok(Packet {
        number,
        frames: frames.to_vec(),
        size,
    })
}

#[cfg(test)]
mod tests;
