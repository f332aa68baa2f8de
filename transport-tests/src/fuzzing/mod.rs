//! Properties of everything that reads bytes of strangers or of a peer: `fn name(data: &[u8])`.
//!
//! None may panic, whatever the bytes; what is read and can be written must read the same again. Each is a test with
//! arbitrary bytes (`tests/parsers.rs`); grouped into [`TARGETS`] they are what `fuzz/` runs, and what replays its corpora
//! (`tests/corpus.rs`). A target that is a program rather than a text can show an input in words.

pub mod bind;
pub mod engine;
pub mod handshake;
pub mod ip;
pub mod packets;
pub mod programs;
pub mod recovery;
pub mod seeds;
pub mod streams;
pub mod tickets;
pub mod tunnel;

use arbitrary::{Arbitrary, Unstructured};

/// A property of arbitrary bytes.
pub type Property = fn(&[u8]);

/// Properties that are fuzzed together: each input goes to all of them.
pub struct Target {
    /// Name of the fuzz target and of the folder of its corpus.
    pub name: &'static str,
    /// Its properties by name.
    pub properties: &'static [(&'static str, Property)],
    /// An input in words.
    pub show: fn(&[u8]) -> String,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    plain(
        "envelope",
        &[
            ("envelope", handshake::envelope),
            ("envelope_fields", handshake::envelope_fields),
        ],
    ),
    plain(
        "hellos",
        &[
            ("client_hello", handshake::client_hello),
            ("server_hello", handshake::server_hello),
        ],
    ),
    Target {
        name: "strangers",
        properties: &[
            ("datagram_for_a_relay", engine::datagram_for_a_relay),
            ("fragments_for_a_relay", handshake::fragments_for_a_relay),
        ],
        show: handshake::show_fragments,
    },
    plain(
        "bundle",
        &[
            ("bundle", handshake::bundle),
            ("bundle_damaged", handshake::bundle_damaged),
            ("bundle_drafts", handshake::bundle_drafts),
        ],
    ),
    plain(
        "tickets",
        &[
            ("stored_ticket", tickets::stored_ticket),
            ("sealed_ticket", tickets::sealed_ticket),
            ("ticket_fields", tickets::ticket_fields),
            ("resume_hello", tickets::resume_hello),
            ("tokens", tickets::tokens),
            ("access_tokens", tickets::access_tokens),
        ],
    ),
    plain("params", &[("params", engine::params)]),
    plain(
        "frames",
        &[("frames", engine::frames), ("frame_fields", engine::frame_fields)],
    ),
    Target {
        name: "packets_up",
        properties: &[("packets_up", packets::up)],
        show: packets::show,
    },
    Target {
        name: "packets_down",
        properties: &[("packets_down", packets::down)],
        show: packets::show,
    },
    Target {
        name: "acks",
        properties: &[("acks", recovery::acks)],
        show: recovery::show,
    },
    Target {
        name: "streams",
        properties: &[("streams", streams::streams)],
        show: streams::show,
    },
    Target {
        name: "programs",
        properties: &[("programs", programs::programs)],
        show: programs::show,
    },
    plain(
        "capsules",
        &[
            ("capsules", tunnel::capsules),
            ("capsules_whole", tunnel::capsules_whole),
            ("udp_capsules", tunnel::udp_capsules),
            ("http_datagrams", tunnel::http_datagrams),
            ("varints", tunnel::varints),
        ],
    ),
    plain(
        "http",
        &[
            ("http_frames", tunnel::http_frames),
            ("http_settings", tunnel::http_settings),
            ("http_fields", tunnel::http_fields),
            ("http_heads", tunnel::http_heads),
            ("proxy_status", tunnel::proxy_status),
        ],
    ),
    plain(
        "templates",
        &[("templates", tunnel::templates), ("targets", tunnel::targets)],
    ),
    Target {
        name: "bind",
        properties: &[
            ("bind_capsules", bind::bind_capsules),
            ("bind_contexts", bind::bind_contexts),
            ("bind_datagrams", bind::bind_datagrams),
        ],
        show: bind::show,
    },
    plain(
        "ip",
        &[
            ("ip_packets", ip::ip_packets),
            ("tun_frames", ip::tun_frames),
            ("tun_merging", ip::tun_merging),
        ],
    ),
    plain("scenario", &[("scenario", engine::scenario)]),
];

const fn plain(name: &'static str, properties: &'static [(&'static str, Property)]) -> Target {
    Target {
        name,
        properties,
        show: dump,
    }
}

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Gives an input to all properties of a target.
///
/// # Panics
/// When there is no such target, or a property does not hold.
pub fn run(name: &str, data: &[u8]) {
    let target = target(name).expect("a target of the table");
    for (_, property) in target.properties {
        property(data);
    }
}

fn dump(data: &[u8]) -> String {
    data.escape_ascii().to_string()
}

/// Steps of one program at most.
const STEPS: usize = 300;

/// A program: the steps that all of `data` stands for.
fn decode<T: for<'a> Arbitrary<'a>>(data: &[u8]) -> Vec<T> {
    decode_from(&mut Unstructured::new(data))
}

fn decode_from<T: for<'a> Arbitrary<'a>>(u: &mut Unstructured<'_>) -> Vec<T> {
    let mut steps = Vec::new();
    while !u.is_empty() && steps.len() < STEPS {
        let Ok(step) = T::arbitrary(u) else { break };
        steps.push(step);
    }
    steps
}
