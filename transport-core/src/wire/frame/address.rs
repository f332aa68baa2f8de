//! Addresses of the two ends: OBSERVED_ADDRESS (draft-ietf-quic-address-discovery), and ADD_ADDRESS, PUNCH_ME_NOW and
//! REMOVE_ADDRESS (draft-seemann-quic-nat-traversal). An address is `IPv4 (32) | IPv6 (128) ‖ port (16)`; the low bit of the
//! frame type says which.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Frame, FrameFault, kind, path_id};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::varint;

/// An address with its number: of one sender's, the highest is the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NumberedAddress {
    /// Its number.
    pub sequence: u64,
    /// The address; never an IPv4 one in the form of IPv6, nor of port 0.
    pub address: SocketAddr,
}

/// The client asks for packets to an address of its own, so that the way becomes free for its packets from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PunchMeNow {
    /// Attempts are numbered upwards; packets go out for the newest alone.
    pub round: u64,
    /// The path the packets are of.
    pub path: u32,
    /// Where they shall go.
    pub address: SocketAddr,
}

impl NumberedAddress {
    pub(super) fn encoded_len(&self, frame_type: u64) -> usize {
        varint::len(frame_type) + varint::len(self.sequence) + address_len(self.address)
    }

    pub(super) fn encode(&self, frame_type: u64, out: &mut Writer<'_>) -> Result<(), WriteError> {
        check(&[self.sequence])?;
        out.varint(frame_type)?;
        out.varint(self.sequence)?;
        write_address(self.address, out)
    }
}

impl PunchMeNow {
    pub(super) fn encoded_len(&self, frame_type: u64) -> usize {
        let numbers = varint::len(self.round) + varint::len(u64::from(self.path));
        varint::len(frame_type) + numbers + address_len(self.address)
    }

    pub(super) fn encode(&self, frame_type: u64, out: &mut Writer<'_>) -> Result<(), WriteError> {
        check(&[self.round])?;
        out.varint(frame_type)?;
        out.varint(self.round)?;
        out.varint(u64::from(self.path))?;
        write_address(self.address, out)
    }
}

pub(super) fn decode(frame_type: u64, input: &mut Reader<'_>) -> Result<Frame<'static>, FrameFault> {
    Ok(match frame_type {
        kind::OBSERVED_ADDRESS_V4 | kind::OBSERVED_ADDRESS_V6 => {
            Frame::ObservedAddress(numbered(frame_type, input)?)
        }
        kind::ADD_ADDRESS_V4 | kind::ADD_ADDRESS_V6 => Frame::AddAddress(numbered(frame_type, input)?),
        kind::PUNCH_ME_NOW_V4 | kind::PUNCH_ME_NOW_V6 => Frame::PunchMeNow(PunchMeNow {
            round: input.varint()?,
            path: path_id(input)?,
            address: read_address(frame_type, input)?,
        }),
        kind::REMOVE_ADDRESS => Frame::RemoveAddress {
            sequence: input.varint()?,
        },
        _ => return Err(FrameFault::UnknownType),
    })
}

fn numbered(frame_type: u64, input: &mut Reader<'_>) -> Result<NumberedAddress, FrameFault> {
    Ok(NumberedAddress {
        sequence: input.varint()?,
        address: read_address(frame_type, input)?,
    })
}

fn check(numbers: &[u64]) -> Result<(), WriteError> {
    let carried = numbers.iter().all(|number| *number <= varint::MAX);
    carried.then_some(()).ok_or(WriteError::ValueTooLarge)
}

/// Which of two frame types carries this address: the second is for IPv6.
pub(super) fn typed(v4: u64, address: SocketAddr) -> u64 {
    v4 | u64::from(address.is_ipv6())
}

fn address_len(address: SocketAddr) -> usize {
    if address.is_ipv6() { 18 } else { 6 }
}

fn write_address(address: SocketAddr, out: &mut Writer<'_>) -> Result<(), WriteError> {
    match address {
        SocketAddr::V4(v4) => out.bytes(&v4.ip().octets())?,
        SocketAddr::V6(v6) => out.bytes(&v6.ip().octets())?,
    }
    out.bytes(&address.port().to_be_bytes())
}

fn read_address(frame_type: u64, input: &mut Reader<'_>) -> Result<SocketAddr, FrameFault> {
    let ip = if frame_type & 1 == 0 {
        Ipv4Addr::from(input.array::<4>()?).into()
    } else {
        let ip = Ipv6Addr::from(input.array::<16>()?);
        if ip.to_ipv4_mapped().is_some() {
            return Err(FrameFault::Invalid("IPv4 address in the form of IPv6"));
        }
        ip.into()
    };
    match u16::from_be_bytes(input.array()?) {
        0 => Err(FrameFault::Invalid("address of port 0")),
        port => Ok(SocketAddr::new(ip, port)),
    }
}
