//! HTTP/3 framing (RFC 9114) without QUIC: bytes in, bytes out, no I/O.
//!
//! The profile: one control stream each way with SETTINGS and GOAWAY, request streams of HEADERS and DATA, field
//! sections with the static table of RFC 9204 only, no push, no trailers. It runs over any transport with ordered
//! streams and unreliable datagrams. `:scheme` is `https` although the transport below is not TLS, so that URI
//! templates, authentication realms and gateways work unchanged.
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

pub mod code;
pub mod fields;
pub mod frame;
pub mod head;
mod huffman;
pub mod settings;
mod static_table;
pub mod varint;

pub use code::{Code, Fault};
pub use fields::Field;
pub use head::{RequestHead, ResponseHead};
pub use settings::Settings;
