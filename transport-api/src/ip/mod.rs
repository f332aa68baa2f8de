//! IP packets as values: bytes in, bytes out, no I/O, no clock, no allocation of its own.
//!
//! What a tunnel of IP packets needs of RFC 791 and RFC 8200 (RFC 9484 names most of it): reading a header, taking one off
//! the hop limit, telling flows apart, and answering what cannot be forwarded.
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

pub mod address;
pub(crate) mod bytes;
pub mod checksum;
pub(crate) mod extension;
pub mod fragment;
pub mod icmp;
pub mod mss;
mod network;
pub mod packet;
#[cfg(test)]
pub(crate) mod sample;

pub use address::AddressKind;
pub use network::{BadNetwork, Network};
pub use packet::{Expired, Packet, Version, decrement_ttl};

/// The bytes are not exactly one IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Protocol numbers that are treated on their own (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}
