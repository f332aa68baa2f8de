//! Hellos that are not yet complete: bounded in number, in bytes, in time, and for each neighbourhood of the net.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use transport_crypto::EnvelopeHeader;

use super::sources::{Prefix, prefix};
use crate::endpoint::flight::{Body, Hid, Token, is_parity};
use crate::endpoint::sessions::Usage;
use crate::trace::DropReason;

/// Messages at once.
const MAX_ENTRIES: usize = 2048;
/// Of those, from one /24 or /56; and with tokens: whoever has one is there, and many may live behind one address.
const MAX_OF_PREFIX: u16 = 16;
const MAX_PROVED_OF_PREFIX: u16 = 128;
/// Bytes all of them may take.
const MAX_BYTES: usize = 8 << 20;
/// How long one may take.
const LIFETIME: Duration = Duration::from_secs(10);

type Key = (Hid, SocketAddr);

struct Entry {
    body: Body,
    cost: usize,
    born: Instant,
    received: usize,
    largest: usize,
    token: Option<Token>,
}

/// A message that is complete.
pub(super) struct Complete {
    pub(super) body: Body,
    /// When its first fragment came.
    pub(super) born: Instant,
    /// Bytes of datagrams it came in, and the largest of them.
    pub(super) received: usize,
    pub(super) largest: usize,
    /// The good token it came with, if any.
    pub(super) token: Option<Token>,
}

/// Messages in the making.
#[derive(Default)]
pub(super) struct Reassembly {
    entries: BTreeMap<Key, Entry>,
    by_age: VecDeque<(Instant, Key)>,
    by_prefix: BTreeMap<Prefix, u16>,
    bytes: usize,
}

impl Reassembly {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Per cent, of the places or of the bytes.
    pub(super) fn filled(&self) -> u32 {
        let (entries, bytes) = (
            self.entries.len() * 100 / MAX_ENTRIES,
            self.bytes * 100 / MAX_BYTES,
        );
        entries.max(bytes) as u32
    }

    /// Adds a fragment that came in a datagram of `size` bytes, from where, and with which good token.
    pub(super) fn add(
        &mut self,
        now: Instant,
        (from, token): (SocketAddr, Option<Token>),
        header: &EnvelopeHeader,
        fragment: &[u8],
        size: usize,
    ) -> Result<Option<Complete>, DropReason> {
        self.expire(now);
        let key = (header.hid, from);
        if !self.entries.contains_key(&key) {
            if is_parity(header) {
                // It comes last, mostly behind a message that is complete by then, and must not hold a place for ten seconds.
                return Ok(None);
            }
            self.begin(now, key, header.total_len, token.is_some())?;
        }
        let entry = self.entries.get_mut(&key).ok_or(DropReason::ReassemblyFull)?;
        entry.received += size;
        entry.largest = entry.largest.max(size);
        entry.token = token.or(entry.token);
        match entry.body.add(header, fragment) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(self.remove(&key).map(|entry| Complete {
                body: entry.body,
                born: entry.born,
                received: entry.received,
                largest: entry.largest,
                token: entry.token,
            })),
            Err(_) => {
                // What contradicts itself starts over with the next fragment.
                self.remove(&key);
                Err(DropReason::FragmentMismatch)
            }
        }
    }

    /// How full it is: messages, and bytes of them.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [
            Usage::new("reassembly_messages", self.entries.len(), MAX_ENTRIES),
            Usage::new("reassembly_bytes", self.bytes, MAX_BYTES),
        ]
    }

    fn begin(&mut self, now: Instant, key: Key, total: u16, proved: bool) -> Result<(), DropReason> {
        let cost = Body::cost(total);
        let of_prefix = self.by_prefix.get(&prefix(key.1)).copied().unwrap_or(0);
        let share = if proved {
            MAX_PROVED_OF_PREFIX
        } else {
            MAX_OF_PREFIX
        };
        let full = self.entries.len() >= MAX_ENTRIES || self.bytes + cost > MAX_BYTES || of_prefix >= share;
        if full {
            return Err(DropReason::ReassemblyFull);
        }
        let body = Body::new(total).ok_or(DropReason::FragmentMismatch)?;
        self.entries.insert(
            key,
            Entry {
                body,
                cost,
                born: now,
                received: 0,
                largest: 0,
                token: None,
            },
        );
        self.by_age.push_back((now, key));
        self.by_prefix.insert(prefix(key.1), of_prefix + 1);
        self.bytes += cost;
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.bytes = self.bytes.saturating_sub(entry.cost);
        let prefix = prefix(key.1);
        if let Some(count) = self.by_prefix.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.by_prefix.remove(&prefix);
            }
        }
        Some(entry)
    }

    /// Lets go what has taken too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((born, key)) = self.by_age.front().copied() {
            let gone = self.entries.get(&key).is_none_or(|entry| entry.born != born);
            if !gone && now.saturating_duration_since(born) < LIFETIME {
                return;
            }
            self.by_age.pop_front();
            if !gone {
                self.remove(&key);
            }
        }
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.by_age.capacity() * size_of::<(Instant, Key)>() + self.entries.len() * 256
    }
}

#[cfg(test)]
mod tests {
    use transport_crypto::EnvelopeType;

    use super::*;

    fn header(hid: u64, total: u16) -> EnvelopeHeader {
        EnvelopeHeader {
            kind: EnvelopeType::ClientHello,
            hid: hid.to_be_bytes(),
            unix_minutes: 0,
            index: 0,
            count: 2,
            total_len: total,
            fragment_offset: 0,
            fragment_len: 100,
            token: None,
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn every_bound_holds_and_time_frees() {
        let now = Instant::now();
        let from =
            |net: u32, port: u16| SocketAddr::new(std::net::Ipv4Addr::from_bits(net << 8 | 1).into(), port);
        let mut table = Reassembly::default();
        for hid in 0..40 {
            let result = table.add(
                now,
                (from(1, hid as u16), None),
                &header(hid, 4000),
                &[0; 100],
                900,
            );
            assert_eq!(result.is_ok(), hid < u64::from(MAX_OF_PREFIX), "{hid}");
        }
        for hid in 0..5000 {
            let _ = table.add(
                now,
                (from(hid as u32, 9), None),
                &header(hid, 4000),
                &[0; 100],
                900,
            );
        }
        assert!(table.entries.len() <= MAX_ENTRIES && table.bytes <= MAX_BYTES);
        assert!(table.memory() < 10 << 20, "{}", table.memory());
        table.expire(now + LIFETIME);
        assert_eq!(
            (
                table.entries.len(),
                table.bytes,
                table.by_prefix.len(),
                table.by_age.len()
            ),
            (0, 0, 0, 0)
        );
    }

    /// CVE-2025-54939: a million names, fragments that overlap, lengths that lie.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn a_million_messages_that_never_come_whole_are_bounded() {
        let mut now = Instant::now();
        let mut table = Reassembly::default();
        let (mut peak, mut refused) = (0, [0u32; 2]);
        for step in 0..1_000_000u64 {
            let mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let from = SocketAddr::from(((mixed as u32).to_be_bytes(), 9));
            let fragment = EnvelopeHeader {
                index: (mixed >> 40) as u8 % 3,
                fragment_offset: (mixed >> 50) as u16 % 3000,
                ..header(step / 3, 3000 + (mixed >> 32) as u16 % 1200)
            };
            let from = if step % 3 == 0 {
                from
            } else {
                SocketAddr::from(((step as u32 / 3).to_be_bytes(), 9))
            };
            match table.add(now, (from, None), &fragment, &[step as u8; 100], 900) {
                Err(DropReason::ReassemblyFull) => refused[0] += 1,
                Err(_) => refused[1] += 1,
                Ok(_) => {}
            }
            now += Duration::from_micros(10);
            if step % 1000 == 0 {
                peak = peak.max(table.memory());
            }
        }
        assert!(peak <= 12 << 20, "{peak}");
        assert!(refused.iter().all(|count| *count > 1000), "{refused:?}");
        table.expire(now + LIFETIME);
        assert_eq!((table.len(), table.bytes, table.by_prefix.len()), (0, 0, 0));
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn a_complete_message_says_how_it_came() {
        let (now, from) = (Instant::now(), SocketAddr::from(([10, 0, 0, 1], 1)));
        let mut table = Reassembly::default();
        assert!(
            table
                .add(now, (from, None), &header(1, 150), &[1; 100], 900)
                .unwrap()
                .is_none()
        );
        let second = EnvelopeHeader {
            index: 1,
            fragment_offset: 100,
            fragment_len: 50,
            ..header(1, 150)
        };
        let later = now + Duration::from_millis(5);
        let complete = table
            .add(later, (from, None), &second, &[2; 50], 1000)
            .unwrap()
            .unwrap();
        assert_eq!(
            (complete.born, complete.received, complete.largest),
            (now, 1900, 1000)
        );
        assert_eq!(
            complete
                .body
                .bytes()
                .iter()
                .map(|byte| usize::from(*byte))
                .sum::<usize>(),
            200
        );
        assert_eq!(table.bytes, 0);
        // The parity behind it begins nothing.
        let parity = EnvelopeHeader {
            index: 2,
            count: 3,
            ..header(1, 150)
        };
        assert!(
            table
                .add(later, (from, None), &parity, &[3; 75], 900)
                .unwrap()
                .is_none()
        );
        assert!(table.entries.is_empty());
    }
}
