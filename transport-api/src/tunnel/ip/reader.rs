//! What an IP tunnel's stream and datagrams bring.

use super::super::frames::StreamError;
use super::super::inbox::Datagram;
use super::super::session::RequestStream;
use super::super::stream::{Reader, TunnelStream};
use crate::http::{Code, Fault};
use crate::masque::ip::pieces::Pieces;
use crate::masque::ip::{
    AddressRequest, AssignedAddress, IpCapsule, IpCapsules, IpFault, Payload, Routes, parse,
};
use crate::masque::lane::Lane;

/// The request stream of an IP tunnel, at either end.
pub(crate) type IpStream<L> = TunnelStream<L, IpReader>;

impl<L: Lane> IpStream<L> {
    /// `pieces`: both sides put packets together.
    pub(crate) fn new(request: RequestStream<L>, pieces: bool) -> Self {
        Self::reading(request, IpReader::new(pieces))
    }
}

/// One thing the peer sent.
#[derive(Debug)]
pub(crate) enum IpItem {
    Packet(Datagram),
    Assigned(Vec<AssignedAddress>),
    Requested(Vec<AddressRequest>),
    Routes(Routes),
}

/// The longest packet in a capsule that is worth holding, bytes.
const MAX_PACKET: usize = 65_535;

#[derive(Debug)]
pub(crate) struct IpReader {
    capsules: IpCapsules,
    /// `None`: a piece has no meaning here.
    pieces: Option<Pieces>,
}

impl IpReader {
    fn new(pieces: bool) -> Self {
        Self {
            capsules: IpCapsules::new(MAX_PACKET),
            pieces: pieces.then(Pieces::default),
        }
    }
}

impl Reader for IpReader {
    type Item = IpItem;

    fn native(&mut self, datagram: Datagram) -> Result<Option<IpItem>, StreamError> {
        let packet = match parse(&datagram).map_err(malformed)? {
            Payload::Packet(packet) => {
                let context = datagram.len() - packet.len();
                Some(datagram.advance(context))
            }
            Payload::Piece(piece) => {
                let whole = self.pieces.as_mut().and_then(|pieces| pieces.join(piece));
                whole.map(|packet| Datagram::new(packet, 0))
            }
            Payload::UnknownContext(_) => None,
        };
        Ok(packet.map(IpItem::Packet))
    }

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<IpItem>, StreamError> {
        while let Some(capsule) = self.capsules.next(input).map_err(malformed)? {
            let item = match capsule {
                IpCapsule::Assign(list) => IpItem::Assigned(list),
                IpCapsule::Request(list) => IpItem::Requested(list),
                IpCapsule::Routes(routes) => IpItem::Routes(routes),
                IpCapsule::Datagram(payload) => match self.native(Datagram::new(payload, 0))? {
                    Some(item) => item,
                    None => continue,
                },
            };
            return Ok(Some(item));
        }
        Ok(None)
    }

    fn finish(&self) -> Result<(), StreamError> {
        self.capsules.finish().map_err(malformed)
    }
}

fn malformed(fault: IpFault) -> StreamError {
    StreamError::Fault(Fault::Stream(match fault {
        IpFault::TooMany => Code::EXCESSIVE_LOAD,
        IpFault::Malformed | IpFault::Truncated => Code::MESSAGE_ERROR,
    }))
}
