//! Every scenario file passes with both suites, and a seed decides every byte on the wire.

use std::path::Path;

use transport_tests::{
    oracle::{memory, quiet},
    sim::{Options, Report, Scenario, run, scenario::Cipher},
};

fn simulate(name: &str, seed: u64, cipher: Cipher) -> Report {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios")
        .join(format!("{name}.toml"));
    let scenario = Scenario::load(&file).unwrap_or_else(|error| panic!("{error}"));
    run(
        &scenario,
        Options {
            seed,
            cipher: Some(cipher),
        },
    )
}

fn passes(name: &str) {
    for cipher in [Cipher::Chacha20, Cipher::Aes256] {
        let report = simulate(name, 7, cipher);
        assert!(report.passed(), "{cipher:?}, seed 7: {}", report.line());
        let connections = report.handshakes as usize;
        assert!(
            memory::within_bounds(report.peak_memory_bytes, connections),
            "{} bytes",
            report.peak_memory_bytes
        );
    }
}

macro_rules! scenarios {
    ($($test:ident = $file:literal),* $(,)?) => {
        $(#[test] fn $test() { passes($file); })*

        #[test]
        fn every_file_has_its_test() {
            let named = [$($file),*];
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
                assert!(named.contains(&stem.as_str()), "{stem}.toml has no test here");
            }
        }
    };
}

scenarios! {
    handshake = "handshake",
    long_rtt = "longrtt",
    transfer = "transfer",
    multiplexing = "multiplexing",
    key_update = "keyupdate",
    amplification_limit = "amplificationlimit",
    blackhole = "blackhole",
    handshake_loss = "handshakeloss",
    transfer_loss = "transferloss",
    transfer_corruption = "transfercorruption",
    rebind_port = "rebind-port",
    rebind_address = "rebind-addr",
    ipv6 = "ipv6",
    goodput = "goodput",
    quiet_link = "quiet",
    datagrams = "datagrams",
    resumption = "resumption",
    zerortt = "zerortt",
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for cipher in [Cipher::Chacha20, Cipher::Aes256] {
        let digests = [7, 7, 8].map(|seed| simulate("transferloss", seed, cipher).wire_digest);
        assert_eq!(digests[0], digests[1]);
        assert_ne!(digests[0], digests[2], "another seed is another world");
    }
}

#[test]
fn a_perfect_link_is_quiet() {
    for cipher in [Cipher::Chacha20, Cipher::Aes256] {
        let report = simulate("quiet", 3, cipher);
        assert_eq!(quiet::disturbance(&report), None);
    }
}

#[test]
fn an_expectation_that_does_not_hold_fails_the_run() {
    let text = "name = \"x\"\nseconds = 5\n[[flow]]\nkind = \"bulk\"\nbytes = 1000\n[expect]\nhandshakes = { min = 2 }\n";
    let report = run(
        &Scenario::parse(text).unwrap(),
        Options {
            seed: 1,
            cipher: None,
        },
    );
    assert!(report.completed && !report.passed());
}

#[test]
fn a_dead_link_is_not_completed() {
    let text = "name = \"x\"\nseconds = 5\n[link.up]\nmtu = 100\n[[flow]]\nkind = \"bulk\"\nbytes = 1000\n";
    let report = run(
        &Scenario::parse(text).unwrap(),
        Options {
            seed: 1,
            cipher: None,
        },
    );
    assert!(!report.completed && report.handshakes == 0);
}
