//! Who may import whom. The tables are the architecture: change `docs/architecture.md` first, then a line here.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use transport_tests::house::arrows::{self, Bars, Rule};
use transport_tests::house::manifest::{self, Allowed, Member};
use transport_tests::house::source::{self, Source};
use transport_tests::house::{expect_none, root};

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| source::all(&root()));
static MEMBERS: LazyLock<Vec<Member>> = LazyLock::new(|| manifest::members(&root()));

// ---- 1. manifests: crate → what it may ask for → why ----------------------------------------------------------

const PROPERTY_TESTS: Option<&[&str]> = Some(&["arbitrary", "arbtest"]);

const CRATES: &[Allowed] = &[
    Allowed {
        dir: "transport-crypto",
        ours: &[],
        others: Some(&[
            "snow",
            "chacha20poly1305",
            "chacha20",
            "aes-gcm",
            "aes",
            "ml-kem",
            "ml-dsa",
            "ed25519-dalek",
            "x25519-dalek",
            "sha2",
            "hmac",
            "rand_core",
            "zeroize",
            "subtle",
        ]),
        // Second implementations of Noise, ML-KEM and HKDF to compare with, and JSON, in which test vectors are.
        dev: Some(&["arbitrary", "arbtest", "clatter", "fips203", "hkdf", "serde_json"]),
        why: "a leaf: identities into keys, keys into sealed bytes; no other leaf, no I/O, no clock",
    },
    Allowed {
        dir: "transport-reliability",
        ours: &[],
        others: Some(&[]),
        dev: PROPERTY_TESTS,
        why: "a leaf: numbers and time; needs nothing but the standard library",
    },
    Allowed {
        dir: "transport-scheduler",
        ours: &[],
        others: Some(&[]),
        dev: PROPERTY_TESTS,
        why: "a leaf: data and fairness; needs nothing but the standard library",
    },
    Allowed {
        dir: "transport-core",
        ours: &["transport-crypto", "transport-reliability", "transport-scheduler"],
        others: Some(&["libc"]),
        dev: PROPERTY_TESTS,
        why: "the pure engine: the three leaves, and libc for the UDP syscalls in `net`",
    },
    Allowed {
        dir: "transport-api",
        ours: &["transport-core"],
        others: Some(&["mio", "libc", "getrandom", "tracing", "base64ct"]),
        dev: PROPERTY_TESTS,
        why: "the world; leaf types arrive re-exported by core, and an embedder compiles nothing else",
    },
    Allowed {
        dir: "transport-tests",
        ours: &[
            "transport-core",
            "transport-crypto",
            "transport-reliability",
            "transport-scheduler",
            "transport-api",
        ],
        others: None,
        dev: None,
        why: "sees all, is seen by none; a command or a front door is exercised as a program, not as a dependency",
    },
    // Nested packages: what an embedder must not be made to compile. They stand on the api alone.
    Allowed {
        dir: "transport-api/adit",
        ours: &[
            "transport-api",
            "transport-carriers",
            "transport-gateway",
            "transport-crypto-aws-lc",
        ],
        others: None,
        dev: None,
        why: "the command stands on the api; it never reaches past it to core or a leaf",
    },
    Allowed {
        dir: "transport-api/carriers",
        ours: &["transport-api"],
        others: None,
        dev: None,
        why: "carriers stand on the api alone",
    },
    Allowed {
        dir: "transport-api/gateway",
        ours: &["transport-api"],
        others: None,
        dev: None,
        why: "the gateway stands on the api alone",
    },
    Allowed {
        dir: "transport-crypto/aws-lc",
        ours: &["transport-crypto"],
        others: None,
        dev: None,
        why: "a provider of primitives knows the crypto crate alone",
    },
];

#[test]
fn manifests_ask_for_what_the_table_allows() {
    expect_none(
        &manifest::check(CRATES, &MEMBERS),
        "The table is CRATES in transport-tests/tests/layers.rs.",
    );
}

// ---- 2. sources: rooms → what nobody in them mentions → why -----------------------------------------------------

const LEAVES: &[&str] = &["transport_crypto", "transport_reliability", "transport_scheduler"];
const PURE: &[&str] = &[
    "transport-crypto/src",
    "transport-crypto/aws-lc/src",
    "transport-reliability/src",
    "transport-scheduler/src",
];

/// Crates against crates.
const BETWEEN_CRATES: &[Rule] = &[
    Rule {
        within: &["transport-crypto"],
        except: &[],
        bars: Bars::Paths(&[
            "transport_reliability",
            "transport_scheduler",
            "transport_core",
            "transport_api",
        ]),
        why: "crypto is a leaf: it knows bytes and keys",
    },
    Rule {
        within: &["transport-reliability"],
        except: &[],
        bars: Bars::Paths(&[
            "transport_crypto",
            "transport_scheduler",
            "transport_core",
            "transport_api",
        ]),
        why: "reliability is a leaf: it knows numbers and time",
    },
    Rule {
        within: &["transport-scheduler"],
        except: &[],
        bars: Bars::Paths(&[
            "transport_crypto",
            "transport_reliability",
            "transport_core",
            "transport_api",
        ]),
        why: "the scheduler is a leaf: it knows data and fairness",
    },
    Rule {
        within: &["transport-core"],
        except: &[],
        bars: Bars::Paths(&["transport_api", "mio"]),
        why: "core is driven; it does not know who drives it",
    },
    Rule {
        within: &["transport-api"],
        except: &[],
        bars: Bars::Paths(LEAVES),
        why: "the api sees leaf types as core re-exports them",
    },
    Rule {
        within: PURE,
        except: &[],
        bars: Bars::Paths(&[
            "std::thread",
            "std::net::UdpSocket",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::ToSocketAddrs",
            "std::io",
            "std::fs",
            "std::env",
            "std::process",
            "std::os",
            "std::time::SystemTime",
        ]),
        why: "a leaf does no I/O, starts no thread and reads no clock",
    },
    Rule {
        within: &["transport-core/src"],
        except: &["transport-core/src/net"],
        bars: Bars::Paths(&[
            "libc",
            "std::thread",
            "std::fs",
            "std::env",
            "std::process",
            "std::os",
            "std::net::UdpSocket",
            "std::time::SystemTime",
        ]),
        why: "in core only `net` knows the operating system; the rest builds where there are no sockets",
    },
    Rule {
        within: &["transport-crypto/src"],
        except: &[
            "transport-crypto/src/provider",
            "transport-crypto/src/handshake/noise",
        ],
        bars: Bars::Paths(&[
            "snow",
            "chacha20poly1305",
            "chacha20",
            "aes_gcm",
            "aes",
            "ml_kem",
            "ml_dsa",
            "ed25519_dalek",
            "x25519_dalek",
            "sha2",
            "hkdf",
            "hmac",
        ]),
        why: "ciphers, hashes, signatures and KEMs are named in `provider/` and `handshake/noise.rs` alone",
    },
    Rule {
        within: &["transport-crypto/src/handshake/noise"],
        except: &[],
        bars: Bars::Paths(&["ml_kem", "ml_dsa"]),
        why: "the Noise file knows Noise; lattices are named in `provider/`",
    },
];

/// Modules of core: wire, buffer, timer → packet → connection → endpoint; net uses buffer.
const INSIDE_CORE: &[Rule] = &[
    Rule {
        within: &["transport-core/src"],
        except: &[
            "transport-core/src/lib.rs",
            "transport-core/src/packet",
            "transport-core/src/connection",
            "transport-core/src/endpoint",
            "transport-core/src/cover",
            "transport-core/src/net",
            "transport-core/src/fuzzing",
        ],
        bars: Bars::Paths(&[
            "crate::packet",
            "crate::connection",
            "crate::endpoint",
            "crate::cover",
            "crate::net",
        ]),
        why: "wire, buffer, timer and the small shared modules stand below packet, connection and endpoint",
    },
    Rule {
        within: &["transport-core/src/buffer"],
        except: &[],
        bars: Bars::OwnCrateBut(&["crate::buffer"]),
        why: "buffers hold bytes and know nothing of what is in them",
    },
    Rule {
        within: &["transport-core/src/packet"],
        except: &[],
        bars: Bars::Paths(&[
            "crate::connection",
            "crate::endpoint",
            "crate::cover",
            "crate::net",
        ]),
        why: "a packet does not know its connection",
    },
    Rule {
        within: &["transport-core/src/connection"],
        except: &[],
        bars: Bars::Paths(&["crate::endpoint", "crate::cover", "crate::net"]),
        why: "a connection does not know the endpoint it lives in, nor the socket",
    },
    Rule {
        within: &["transport-core/src/cover"],
        except: &[],
        bars: Bars::Paths(&[
            "crate::packet",
            "crate::connection",
            "crate::endpoint",
            "crate::net",
        ]),
        why: "a cover dresses datagrams; what is inside them is none of its business",
    },
    Rule {
        within: &["transport-core/src/endpoint"],
        except: &[],
        bars: Bars::Paths(&["crate::net"]),
        why: "the endpoint takes and gives datagrams; sockets are the driver's",
    },
    Rule {
        within: &["transport-core/src/net"],
        except: &[],
        bars: Bars::OwnCrateBut(&["crate::net", "crate::buffer"]),
        why: "net moves buffers and knows nothing of the protocol",
    },
];

/// Modules of api: http, ip → tun → masque; driver ← handles ← tunnel ← relay.
///
/// `tunnel` holds MASQUE sessions over any `Lane` and lends them to connections, so it stands above the handles.
const INSIDE_API: &[Rule] = &[
    Rule {
        within: &["transport-api/src/http", "transport-api/src/masque"],
        except: &[],
        bars: Bars::Paths(&["transport_core"]),
        why: "the codecs see a `Lane`, so the same code serves any other HTTP door",
    },
    Rule {
        within: &["transport-api/src/http"],
        except: &[],
        bars: Bars::OwnCrateBut(&["crate::http"]),
        why: "http is a format and stands on nothing of ours",
    },
    Rule {
        within: &["transport-api/src/ip"],
        except: &[],
        bars: Bars::OwnCrateBut(&["crate::ip"]),
        why: "ip is a format and stands on nothing of ours",
    },
    Rule {
        within: &["transport-api/src/tun"],
        except: &[],
        bars: Bars::OwnCrateBut(&["crate::tun", "crate::ip"]),
        why: "a device moves IP packets and stands on `ip` alone",
    },
    Rule {
        within: &["transport-api/src/masque"],
        except: &[],
        bars: Bars::OwnCrateBut(&["crate::masque", "crate::http", "crate::ip", "crate::tun"]),
        why: "masque stands on http, ip and tun, and sees a connection as a `Lane`",
    },
    Rule {
        within: &["transport-api/src/driver"],
        except: &[],
        bars: Bars::Paths(&[
            "crate::endpoint",
            "crate::carrier",
            "crate::connection",
            "crate::addresses",
            "crate::stream",
            "crate::datagram",
            "crate::tunnel",
            "crate::relay",
        ]),
        why: "handles, tunnels and the relay service stand on the driver, not under it",
    },
    Rule {
        within: &[
            "transport-api/src/endpoint",
            "transport-api/src/carrier",
            "transport-api/src/connection",
            "transport-api/src/addresses",
            "transport-api/src/stream",
            "transport-api/src/datagram",
        ],
        except: &[],
        bars: Bars::Paths(&["crate::masque", "crate::tunnel", "crate::relay"]),
        why: "a handle carries bytes; what they mean is decided above it",
    },
    Rule {
        within: &["transport-api/src/tunnel"],
        except: &[],
        bars: Bars::Paths(&["crate::driver", "crate::relay"]),
        why: "a tunnel speaks to handles, not to the loop behind them, and does not know the service above it",
    },
    Rule {
        within: &["transport-api/src"],
        except: &["transport-api/src/tun"],
        bars: Bars::Paths(&["libc"]),
        why: "the api needs libc for TUN devices alone",
    },
];

/// The one word that has its own rooms.
const UNSAFE: &[Rule] = &[Rule {
    within: &[
        "transport-core",
        "transport-crypto",
        "transport-reliability",
        "transport-scheduler",
        "transport-api",
        "transport-tests",
    ],
    except: &[
        "transport-core/src/net/sys",
        "transport-api/src/tun/sys",
        // The counting allocator of the memory oracle.
        "transport-tests/src/oracle/memory",
        "transport-tests/src/alloc",
        // The allocator that looks into freed memory for secrets.
        "transport-crypto/tests/erased",
        // The UDP of programs that are compared with: a workspace of its own.
        "transport-tests/peers/common/src/socket",
    ],
    bars: Bars::Word("unsafe"),
    why: "syscalls live in `transport-core/src/net/sys` and `transport-api/src/tun/sys`; call what they offer",
}];

#[test]
fn crates_do_not_mention_what_they_must_not_know() {
    expect_none(
        &arrows::check(BETWEEN_CRATES, &SOURCES),
        "The table is BETWEEN_CRATES in transport-tests/tests/layers.rs.",
    );
}

#[test]
fn modules_of_core_point_one_way() {
    expect_none(
        &arrows::check(INSIDE_CORE, &SOURCES),
        "Arrows: wire, buffer, timer → packet → connection → endpoint; net → buffer.",
    );
}

#[test]
fn modules_of_api_point_one_way() {
    expect_none(
        &arrows::check(INSIDE_API, &SOURCES),
        "Arrows: http, ip → tun → masque; driver ← handles ← tunnel ← relay.",
    );
}

#[test]
fn unsafe_stands_in_two_rooms() {
    expect_none(
        &arrows::check(UNSAFE, &SOURCES),
        "The table is UNSAFE in transport-tests/tests/layers.rs.",
    );
}

#[test]
fn leaves_forbid_unsafe_code() {
    let missing = |dir: &&str| {
        let path = format!("{dir}/lib.rs");
        let source = SOURCES
            .iter()
            .find(|s| s.path == path)
            .unwrap_or_else(|| panic!("{path} is missing"));
        let bare = source.code_lines() == 0;
        (!bare && !source.code.contains("#![forbid(unsafe_code)]"))
            .then(|| format!("{path}: add `#![forbid(unsafe_code)]` below the description of the crate"))
    };
    expect_none(
        &PURE.iter().filter_map(missing).collect::<Vec<_>>(),
        "A leaf has no reason for unsafe code.",
    );
}

// ---- 3. the lock file: what is really built ----------------------------------------------------------------------

/// Runtimes, C libraries and whole transports: none of them is in what an embedder or the command builds.
const BANNED: &[&str] = &[
    "tokio",
    "tokio-*",
    "async-std",
    "smol",
    "ring",
    "openssl*",
    "quinn*",
    "noq*",
    "quiche",
    "tokio-quiche",
    "s2n-quic*",
    "neqo*",
    "msquic*",
    "h3",
    "h3-*",
];

/// What else the six crates do without; the command may reach it through its carriers.
const BANNED_IN_THE_SIX: &[&str] = &["rustls", "rustls-*", "native-tls", "aws-lc*", "h2", "hyper*"];

const SIX: &[&str] = &[
    "transport-core",
    "transport-crypto",
    "transport-reliability",
    "transport-scheduler",
    "transport-api",
    "transport-tests",
];

#[test]
fn the_lock_file_holds_no_banned_package() {
    let lock = manifest::lock(&root());
    let mut findings = Vec::new();
    for start in SIX.iter().chain(&["adit"]) {
        let six = if SIX.contains(start) {
            BANNED_IN_THE_SIX
        } else {
            &[]
        };
        let tree = lock.tree(start, &MEMBERS);
        assert!(
            tree.contains_key(*start),
            "Cargo.lock has no package {start}: run `cargo metadata` and commit the lock"
        );
        let hit = |name: &str| manifest::banned(name, BANNED) || manifest::banned(name, six);
        findings.extend(
            tree.iter()
                .filter(|(name, _)| hit(name))
                .map(|(_, way)| format!("banned: {way}")),
        );
    }
    expect_none(
        &findings,
        "Take another library, or switch off the feature that pulls this one in.",
    );
}

// ---- 4. the top level --------------------------------------------------------------------------------------------

/// Rooms, licences and the configuration of tools; nothing else stands at the top.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "transport-core",
    "transport-crypto",
    "transport-reliability",
    "transport-scheduler",
    "transport-api",
    "transport-tests",
    "docs",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "clippy.toml",
    "rustfmt.toml",
    "deny.toml",
    "rust-toolchain.toml",
];

#[test]
fn the_top_level_is_tidy() {
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let entries = fs::read_dir(root()).expect("the root can be listed");
    let names = entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()));
    let stray = |name: &String| {
        !name.starts_with('.') && !ignored.contains(name.as_str()) && !TOP.contains(&name.as_str())
    };
    let findings: Vec<String> = names
        .filter(stray)
        .map(|name| format!("{name}: has no place at the top level"))
        .collect();
    expect_none(&findings, "Put it into the crate it belongs to, or under docs/.");
}
