//! Packet protection of one connection: one object for each direction.
//!
//! Core decides when keys change; here stands what must never happen: a counter used twice, a key used too often.

use crate::{
    Forged, KeyExhausted, PacketMask, Sample, Secret,
    provider::{MaskCipher, PacketCipher, Provider},
    schedule::{Generations, PacketKey},
};

/// An authentication tag.
pub type Tag = [u8; 16];

/// The packet cipher.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suite {
    /// `ChaCha20-Poly1305` with `ChaCha20` masks: fast everywhere.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM with AES-256 masks: fast with AES instructions.
    Aes256Gcm = 2,
}

impl Suite {
    /// Packets after which an update is due. AES-GCM must not pass 2^23 (RFC 9001 §6.6).
    const fn update_after(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1 << 24,
            Self::Aes256Gcm => 1 << 22,
        }
    }

    /// Packets after which a key refuses to seal.
    const fn packet_limit(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => u64::MAX,
            Self::Aes256Gcm => 1 << 23,
        }
    }
}

/// What makes a packet's nonce unique under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The packet number space: the path id.
    pub lane: u32,
    /// The packet number, below 2^62.
    pub number: u64,
}

impl Counter {
    /// `iv xor (lane ‖ number)`, both big-endian.
    pub(crate) fn nonce(self, iv: &Secret<12>) -> [u8; 12] {
        let mut nonce = *iv.expose();
        let counter = self
            .lane
            .to_be_bytes()
            .into_iter()
            .chain(self.number.to_be_bytes());
        nonce.iter_mut().zip(counter).for_each(|(to, from)| *to ^= from);
        nonce
    }
}

/// Which generation of keys a received packet belongs to; core tells from the phase bit and the packet number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The one before the last update.
    Previous,
    /// The one in use.
    Current,
    /// The one the peer may update to.
    Next,
}

/// Packet numbers end here (RFC 9000 §12.3).
const NUMBER_LIMIT: u64 = 1 << 62;
/// Lanes of one connection; far above the number of paths a connection may open.
const MAX_LANES: usize = 1024;

/// The sending half.
pub struct SealKeys {
    keys: Generations,
    current: PacketKey,
    mask: Box<dyn MaskCipher>,
    phase: bool,
    sealed: u64,
    lanes: Lanes,
}

impl SealKeys {
    pub(crate) fn new(provider: &'static dyn Provider, suite: Suite, secret: Secret<32>) -> Self {
        let (keys, current, mask) = Generations::start(provider, suite, secret);
        Self {
            keys,
            current,
            mask,
            phase: false,
            sealed: 0,
            lanes: Lanes::default(),
        }
    }

    /// The packet cipher.
    pub fn suite(&self) -> Suite {
        self.keys.suite()
    }

    /// The phase bit of packets sealed now.
    pub fn phase(&self) -> bool {
        self.phase
    }

    /// Packets sealed with the current key.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// The current key has done its work: 2^24 packets with suite 1, 2^22 with suite 2.
    pub fn update_due(&self) -> bool {
        self.sealed >= self.suite().update_after()
    }

    /// Encrypts `body` in place under `header` and returns the tag.
    ///
    /// Numbers must rise within each lane over the whole life of the connection; a number that does not is
    /// refused before anything is encrypted.
    pub fn seal(&mut self, at: Counter, header: &[u8], body: &mut [u8]) -> Result<Tag, KeyExhausted> {
        self.once(at, |cipher, nonce| cipher.seal(nonce, header, body))
    }

    /// As [`SealKeys::seal`], but the end of the body is elsewhere: `sealed` holds its beginning, room for `tail`, and 16 bytes for
    /// the tag.
    pub fn seal_from(
        &mut self,
        at: Counter,
        header: &[u8],
        sealed: &mut [u8],
        tail: &[u8],
    ) -> Result<(), KeyExhausted> {
        self.once(at, |cipher, nonce| cipher.seal_from(nonce, header, sealed, tail))
    }

    fn once<T>(
        &mut self,
        at: Counter,
        seal: impl FnOnce(&dyn PacketCipher, &[u8; 12]) -> Result<T, KeyExhausted>,
    ) -> Result<T, KeyExhausted> {
        if self.sealed >= self.suite().packet_limit() {
            return Err(KeyExhausted::PacketLimit);
        }
        self.lanes.advance(at)?;
        let done = seal(&*self.current.cipher, &at.nonce(&self.current.iv))?;
        self.sealed += 1;
        Ok(done)
    }

    /// Goes to the next generation and flips the phase. The old key is erased.
    pub fn update(&mut self) {
        self.current = self.keys.advance();
        self.phase = !self.phase;
        self.sealed = 0;
    }

    /// One header mask for each sample, in order; the same key for all generations (RFC 9001 §6).
    pub fn masks(&self, samples: &[Sample], out: &mut [PacketMask]) {
        self.mask.masks(samples, out);
    }
}

/// The receiving half. The next generation always exists, so that an update takes no longer than any packet.
pub struct OpenKeys {
    keys: Generations,
    previous: Option<PacketKey>,
    current: PacketKey,
    next: PacketKey,
    mask: Box<dyn MaskCipher>,
    phase: bool,
    failed: u64,
}

impl OpenKeys {
    pub(crate) fn new(provider: &'static dyn Provider, suite: Suite, secret: Secret<32>) -> Self {
        let (mut keys, current, mask) = Generations::start(provider, suite, secret);
        let next = keys.advance();
        Self {
            keys,
            previous: None,
            current,
            next,
            mask,
            phase: false,
            failed: 0,
        }
    }

    /// The phase bit of the current generation.
    pub fn phase(&self) -> bool {
        self.phase
    }

    /// The generation before the last update is still held.
    pub fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// One header mask for each sample, in order.
    pub fn masks(&self, samples: &[Sample], out: &mut [PacketMask]) {
        self.mask.masks(samples, out);
    }

    /// Opens `sealed` (ciphertext and tag) in place with the generation `which`; the plaintext's length.
    ///
    /// After a failure the content of `sealed` is of no use.
    pub fn open(
        &mut self,
        which: Generation,
        at: Counter,
        header: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        let opened = self.try_open(which, at, header, sealed);
        if opened.is_err() {
            self.failed = self.failed.saturating_add(1);
        }
        opened
    }

    fn try_open(
        &self,
        which: Generation,
        at: Counter,
        header: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        let key = match which {
            Generation::Previous => self.previous.as_ref().ok_or(Forged)?,
            Generation::Current => &self.current,
            Generation::Next => &self.next,
        };
        let (body, tag) = sealed.split_last_chunk_mut::<16>().ok_or(Forged)?;
        key.cipher.open(&at.nonce(&key.iv), header, body, tag)?;
        Ok(body.len())
    }

    /// The next generation becomes current, the current one previous; the one after is derived.
    pub fn update(&mut self) {
        let current = std::mem::replace(&mut self.next, self.keys.advance());
        self.previous = Some(std::mem::replace(&mut self.current, current));
        self.phase = !self.phase;
    }

    /// Erases the generation before the last update.
    pub fn drop_previous(&mut self) {
        self.previous = None;
    }

    /// Packets that did not open, over all generations.
    pub fn failed(&self) -> u64 {
        self.failed
    }
}

/// The last number of each lane. A connection has few lanes, and a packet train stays on one.
#[derive(Default)]
struct Lanes {
    last: Vec<Counter>,
    recent: usize,
}

impl Lanes {
    fn advance(&mut self, at: Counter) -> Result<(), KeyExhausted> {
        if at.number >= NUMBER_LIMIT {
            return Err(KeyExhausted::NumberLimit);
        }
        let is_lane = |last: &Counter| last.lane == at.lane;
        if !self.last.get(self.recent).is_some_and(is_lane) {
            self.recent = self.last.iter().position(is_lane).unwrap_or(self.last.len());
        }
        match self.last.get_mut(self.recent) {
            Some(last) if at.number <= last.number => return Err(KeyExhausted::CounterReused),
            Some(last) => last.number = at.number,
            None if self.recent >= MAX_LANES => return Err(KeyExhausted::TooManyLanes),
            None => {
                // Nearly always the only one.
                self.last.reserve_exact(1);
                self.last.push(at);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
