//! Every scenario file passes with both suites, and a seed decides every byte on the wire.

use std::path::Path;

use transport_tests::{
    oracle::{memory, quiet},
    sim::{
        Options, Report, Scenario,
        batch::{Plan, files, run_all},
        pages::Pages,
        run, run_recorded,
        scenario::Cipher,
    },
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
                if path.is_dir() {
                    continue;
                }
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

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Those in folders are long: `sim all` holds them to their bounds. Here their first second runs, and each has a bound.
#[test]
fn the_long_ones_parse_and_begin() {
    let mut list = Vec::new();
    for file in files(&folder()).unwrap() {
        let mut scenario = Scenario::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let stem = file.file_stem().unwrap().to_string_lossy();
        assert_eq!(scenario.name, stem, "{}", file.display());
        scenario.seconds = scenario.seconds.min(1.0);
        scenario.expect.clear();
        list.push((file, scenario));
    }
    assert!(list.len() > 100, "{} scenarios", list.len());
    let plan = Plan {
        options: Options {
            seed: 5,
            cipher: None,
        },
        seeds: 1,
        record: false,
        threads: 2,
    };
    run_all(list, plan, |done| {
        assert_eq!(
            done.report.faults,
            Vec::<String>::new(),
            "{}",
            done.file.display()
        );
    });
}

#[test]
fn watching_changes_nothing() {
    let scenario = Scenario::load(&folder().join("rebind-port.toml")).unwrap();
    let options = Options {
        seed: 7,
        cipher: None,
    };
    let (watched, trace) = run_recorded(&scenario, options);
    assert_eq!(watched.wire_digest, run(&scenario, options).wire_digest);
    let titles: Vec<String> = trace.plots().into_iter().map(|plot| plot.title).collect();
    for wanted in ["Goodput", "Round-trip", "Congestion window", "queue", "dropped"] {
        assert!(
            titles.iter().any(|title| title.contains(wanted)),
            "{wanted} is not among {titles:?}"
        );
    }
    assert!(
        trace.marks.iter().any(|(_, what)| what == "rebind-port"),
        "{:?}",
        trace.marks
    );
}

#[test]
fn a_report_is_an_index_a_page_and_its_points() {
    let out = std::env::temp_dir().join(format!("sim-report-{}", std::process::id()));
    let file = folder().join("transferloss.toml");
    let list = vec![(file.clone(), Scenario::load(&file).unwrap())];
    let plan = Plan {
        options: Options {
            seed: 7,
            cipher: None,
        },
        seeds: 1,
        record: true,
        threads: 1,
    };
    let mut pages = Pages::default();
    run_all(list, plan, |done| pages.add(&out, &done).unwrap());
    pages.finish(&out, "sim run transferloss.toml").unwrap();
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(read("index.html").contains("href=\"transferloss.html\""));
    let page = read("transferloss.html");
    assert!(page.matches("<svg").count() >= 5 && page.contains("prefers-color-scheme"));
    assert!(read("transferloss.csv").lines().count() > 100);
    std::fs::remove_dir_all(&out).unwrap();
}

fn shared(rest: &str) -> Report {
    let text = format!(
        "name = \"x\"\nseconds = 20\n[link.up]\nrate_mbit = 10.0\ndelay_ms = 10.0\n\
         [link.down]\nrate_mbit = 10.0\ndelay_ms = 10.0\nqueue_bytes = 50000\n{rest}"
    );
    run(
        &Scenario::parse(&text).unwrap(),
        Options {
            seed: 1,
            cipher: None,
        },
    )
}

#[test]
fn cross_traffic_fills_what_it_can_and_is_counted() {
    for kind in ["tcp-reno", "tcp-cubic"] {
        let report = shared(&format!(
            "[[flow]]\nkind = \"datagrams\"\nrate_mbit = 0.1\n[[cross]]\nkind = \"{kind}\"\nfrom = \"server\"\n\
             [[window]]\nfrom_ms = 5000\nto_ms = 20000\n"
        ));
        let alone = report.windows[0].cross[0].goodput_mbit;
        // 1448 of 1500 bytes of an IP packet are payload.
        assert!((9.0..9.66).contains(&alone), "{kind} alone: {alone}");
        assert!(report.cross[0].retransmitted_segments > 0 && report.links.down.dropped_full > 0);
    }
    let report = shared(
        "[[flow]]\nkind = \"datagrams\"\nrate_mbit = 0.1\n[[cross]]\nkind = \"udp-cbr\"\nfrom = \"server\"\nrate_mbit = 3.0\n",
    );
    assert!((report.cross[0].goodput_mbit - 3.0).abs() < 0.1);
}

#[test]
fn two_flows_of_a_bottleneck_share_it_and_windows_say_how() {
    let flow = |connection: u32| {
        format!(
            "[[flow]]\nkind = \"bulk\"\nfrom = \"server\"\nfor_ms = 12000\ncc = \"cubic\"\nconnection = {connection}\n"
        )
    };
    let report = shared(&format!(
        "{}{}[[window]]\nfrom_ms = 5000\nto_ms = 12000\n",
        flow(0),
        flow(1)
    ));
    assert!(
        report.completed,
        "what was cut by its time is complete: {:?}",
        report.faults
    );
    let window = &report.windows[0];
    let sum: f64 = window.flows.iter().map(|share| share.goodput_mbit).sum();
    assert!(sum > 8.5, "{sum}");
    assert!((window.flows[0].share + window.flows[1].share - 1.0).abs() < 1e-9);
    assert!((window.jain - report.jain).abs() < 0.3 && window.jain > 0.5);
    assert!(window.down.queue_delay_ms.mean > 0.0 && window.down.loss < 0.1);
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
