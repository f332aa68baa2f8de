//! The codecs of MASQUE: capsules and HTTP datagrams (RFC 9297), CONNECT-UDP (RFC 9298) and its extension bind, CONNECT-IP
//! (RFC 9484), Proxy-Status (RFC 9209).
//!
//! Bytes in, bytes out, no I/O, and no knowledge of the transport below: what carries it is a [`Lane`]. The same
//! codecs serve our transport and an HTTP/1.1 or HTTP/2 door.
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

pub mod bind;
pub mod capsule;
pub mod datagram;
pub mod ip;
pub mod lane;
mod payloads;
pub mod proxy_status;
pub mod target;
pub mod template;
pub mod udp;

pub use capsule::CapsuleParser;
pub use ip::{IpScope, ScopeTarget};
pub use lane::{Lane, LaneRecv, LaneSend};
pub use proxy_status::{ProxyError, ProxyStatus};
pub use target::{BindTarget, Target};
pub use template::Template;

use crate::http::Field;
use crate::http::fields::single;

/// Whether `Capsule-Protocol` says that capsules are in use (RFC 9297 §3.4): exactly one field with the structured
/// boolean `?1`, with or without parameters. Anything else counts as absent.
pub fn capsule_protocol(fields: &[Field]) -> bool {
    is_true(fields, "capsule-protocol")
}

/// Whether there is exactly one field of this name, with the structured boolean `?1` (RFC 8941 §3.3.6).
pub fn is_true(fields: &[Field], name: &str) -> bool {
    let Some(value) = single(fields, name) else {
        return false;
    };
    let item = value.split_once(';').map_or(value, |(item, _)| item);
    item.trim_matches(' ') == "?1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capsule_protocol_is_one_true_boolean() {
        let fields = |values: &[&str]| -> Vec<Field> {
            values
                .iter()
                .map(|&v| Field::new("capsule-protocol", v))
                .collect()
        };
        assert!(capsule_protocol(&fields(&["?1"])));
        assert!(capsule_protocol(&fields(&["?1;x=2"])));
        // X22: as if absent.
        for values in [&[][..], &["?1", "?1"], &["1"], &["\"?1\""], &["?0"], &["?1, ?1"]] {
            assert!(!capsule_protocol(&fields(values)), "{values:?}");
        }
    }
}
