//! The capsules of bind (draft §3), and payloads in DATAGRAM capsules.
//!
//! The reader holds one capsule at most: a registration of at most 27 bytes, or a payload that could be sent on.

use std::net::SocketAddr;

use super::datagram::{put_peer, take_tuple};
use super::{BindFault, Dialect, Role, WRAP_UP};
use crate::http::varint;
use crate::masque::capsule::{self, CapsuleParser, Piece};
use crate::masque::payloads::PayloadReader;
use crate::masque::udp::{MAX_UDP_PAYLOAD, UDP_CONTEXT};

/// The longest ASSIGN: an id of eight bytes, version, address and port of IPv6.
const MAX_ASSIGN: u64 = 8 + 1 + 16 + 2;
/// The longest ACK or CLOSE: an id.
const MAX_ID: u64 = 8;

/// COMPRESSION_ASSIGN: registers a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assign {
    /// Its id; the sender allocates it.
    pub context: u64,
    /// The one peer its payloads belong to; `None`: uncompressed, each payload names its peer.
    pub target: Option<SocketAddr>,
}

/// What is told about contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindCapsule {
    /// COMPRESSION_ASSIGN.
    Assign(Assign),
    /// COMPRESSION_ACK: the registration of this context is accepted.
    Ack(u64),
    /// COMPRESSION_CLOSE: the context is refused, or no longer used.
    Close(u64),
}

/// What stands on the data stream of a request with bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindItem {
    /// For [`Contexts::on_capsule`](super::Contexts::on_capsule).
    Capsule(BindCapsule),
    /// A datagram on the stream, for [`Contexts::receive`](super::Contexts::receive).
    Datagram {
        /// Its context.
        context: u64,
        /// What follows the context id.
        bytes: Vec<u8>,
    },
    /// The proxy asks for what is open to be moved elsewhere.
    WrapUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Assign,
    Ack,
    Close,
    WrapUp,
}

/// Reads the capsules of one stream, however they are cut; unknown ones are skipped, those of the other dialect among them.
#[derive(Debug)]
pub struct BindCapsules {
    parser: CapsuleParser,
    role: Role,
    dialect: Dialect,
    target_is_any: bool,
    payloads: PayloadReader,
    /// The kind of the capsule whose value is collected in `held`.
    collecting: Option<Kind>,
    held: Vec<u8>,
    wrapped_up: bool,
}

impl BindCapsules {
    /// Reads what the peer of `role` sends. Datagrams with more than `limit` bytes behind the context id (address and port of an
    /// uncompressed one included) are discarded without being held (RFC 9297 §3.5). `target_is_any`: the request has no target, so a
    /// datagram on context 0 is a fault, however long it would be.
    pub fn new(role: Role, dialect: Dialect, target_is_any: bool, limit: usize) -> Self {
        Self {
            parser: CapsuleParser::new(),
            role,
            dialect,
            target_is_any,
            payloads: PayloadReader::new(limit.min(MAX_UDP_PAYLOAD + super::datagram::V6_HEADER), true),
            collecting: None,
            held: Vec::new(),
            wrapped_up: false,
        }
    }

    /// The next item in `input`, which is taken off it; `None` when `input` is used up. After a fault nothing more may be read.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<BindItem>, BindFault> {
        while let Some(piece) = self.parser.next(input) {
            match piece {
                Piece::Header { kind, len } => self.begin(kind, len)?,
                Piece::Chunk(chunk) if self.collecting.is_some() => self.held.extend_from_slice(chunk),
                Piece::Chunk(chunk) => {
                    if self.payloads.chunk(chunk)? == Some(UDP_CONTEXT) && self.target_is_any {
                        return Err(BindFault::NoTarget);
                    }
                }
                Piece::End => {
                    if let Some(item) = self.end()? {
                        return Ok(Some(item));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The stream ended cleanly.
    pub fn finish(&self) -> Result<(), BindFault> {
        self.parser.finish().map_err(|_| BindFault::Truncated)
    }

    fn begin(&mut self, kind: u64, len: u64) -> Result<(), BindFault> {
        if kind == capsule::kind::DATAGRAM {
            self.payloads.begin(len);
            return Ok(());
        }
        let codes = self.dialect.codes();
        let (kind, longest) = match kind {
            kind if kind == codes.assign => (Kind::Assign, MAX_ASSIGN),
            kind if Some(kind) == codes.ack => (Kind::Ack, MAX_ID),
            kind if kind == codes.close => (Kind::Close, MAX_ID),
            WRAP_UP => (Kind::WrapUp, 0),
            _ => return Ok(()),
        };
        if len > longest {
            return Err(BindFault::Malformed);
        }
        self.held.clear();
        self.collecting = Some(kind);
        Ok(())
    }

    fn end(&mut self) -> Result<Option<BindItem>, BindFault> {
        let capsule = match self.collecting.take() {
            None => {
                let datagram = self.payloads.end()?;
                return Ok(datagram.map(|(context, bytes)| BindItem::Datagram { context, bytes }));
            }
            Some(Kind::WrapUp) => {
                if self.role == Role::Proxy || std::mem::replace(&mut self.wrapped_up, true) {
                    return Err(BindFault::WrapUp);
                }
                return Ok(Some(BindItem::WrapUp));
            }
            Some(Kind::Assign) => read_assign(&self.held).map(BindCapsule::Assign),
            Some(Kind::Ack) => read_id(&self.held).map(BindCapsule::Ack),
            Some(Kind::Close) => read_id(&self.held).map(BindCapsule::Close),
        };
        match capsule {
            Some(capsule) => Ok(Some(BindItem::Capsule(capsule))),
            None => Err(BindFault::Malformed),
        }
    }
}

/// Exactly an id.
fn read_id(value: &[u8]) -> Option<u64> {
    let (context, rest) = varint::take(value)?;
    rest.is_empty().then_some(context)
}

/// Exactly an id, a version, and the tuple that belongs to it.
fn read_assign(value: &[u8]) -> Option<Assign> {
    let (context, rest) = varint::take(value)?;
    let (target, rest) = match rest.split_first()? {
        (0, rest) => (None, rest),
        (&version, rest) => {
            let (peer, rest) = take_tuple(version, rest)?;
            (Some(peer), rest)
        }
    };
    rest.is_empty().then_some(Assign { context, target })
}

/// Appends a capsule in the words of `dialect`, which has nothing to append for [`BindCapsule::Ack`] if it is the older one.
pub fn put_capsule(out: &mut Vec<u8>, dialect: Dialect, capsule: BindCapsule) {
    let codes = dialect.codes();
    match capsule {
        BindCapsule::Assign(assign) => put_assign(out, dialect, assign),
        BindCapsule::Ack(context) => {
            if let Some(ack) = codes.ack {
                put_id(out, ack, context);
            }
        }
        BindCapsule::Close(context) => put_id(out, codes.close, context),
    }
}

/// Appends a registration.
pub fn put_assign(out: &mut Vec<u8>, dialect: Dialect, assign: Assign) {
    let mut value = Vec::with_capacity(MAX_ASSIGN as usize);
    varint::put(&mut value, assign.context);
    match assign.target {
        None => value.push(0),
        Some(peer) => put_peer(&mut value, peer),
    }
    capsule::put(out, dialect.codes().assign, &value);
}

fn put_id(out: &mut Vec<u8>, kind: u64, context: u64) {
    varint::put(out, kind);
    varint::put(out, varint::len(context) as u64);
    varint::put(out, context);
}
