//! Properties of everything that reads bytes of strangers: `fn name(data: &[u8])`, each a fuzz target and a test.
//!
//! None may panic, whatever the bytes; what is read and can be written must read the same again.

pub mod engine;
pub mod handshake;
pub mod tunnel;

/// A property of arbitrary bytes.
pub type Property = fn(&[u8]);

/// All of them by name.
pub const ALL: &[(&str, Property)] = &[
    ("frames", engine::frames),
    ("frame_fields", engine::frame_fields),
    ("params", engine::params),
    ("datagram_for_a_relay", engine::datagram_for_a_relay),
    ("frames_of_a_peer", engine::frames_of_a_peer),
    ("envelope", handshake::envelope),
    ("envelope_fields", handshake::envelope_fields),
    ("bundle", handshake::bundle),
    ("bundle_damaged", handshake::bundle_damaged),
    ("client_hello", handshake::client_hello),
    ("server_hello", handshake::server_hello),
    ("capsules", tunnel::capsules),
    ("capsules_whole", tunnel::capsules_whole),
    ("udp_capsules", tunnel::udp_capsules),
    ("http_frames", tunnel::http_frames),
    ("http_settings", tunnel::http_settings),
    ("http_fields", tunnel::http_fields),
    ("http_heads", tunnel::http_heads),
    ("http_datagrams", tunnel::http_datagrams),
    ("varints", tunnel::varints),
    ("templates", tunnel::templates),
    ("targets", tunnel::targets),
    ("proxy_status", tunnel::proxy_status),
];
