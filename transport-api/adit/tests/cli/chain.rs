//! `connect --via`: relays behind relays, as separate processes on loopback.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::common::{Running, fails, folder, init_relay, json, until};
use crate::traffic::{echoes, socks_connect, start_client, start_relay, tcp_echo};

/// A relay with a state of its own, so that several can be asked how they are.
struct Relay {
    folder: PathBuf,
    dir: PathBuf,
    id: String,
}

impl Relay {
    fn init(name: &str) -> Self {
        let folder = folder(name);
        let (dir, _) = init_relay(&folder, "open");
        let shown = json(
            &folder,
            &[
                "bundle",
                "show",
                dir.join("relay.bundle").to_str().unwrap(),
                "--json",
            ],
        );
        Self {
            id: shown["relay_id"].as_str().unwrap().to_string(),
            folder,
            dir,
        }
    }

    fn start(&self) -> Running {
        start_relay(&self.folder, &self.dir)
    }

    fn bundle(&self) -> String {
        self.dir.join("relay.bundle").to_str().unwrap().to_string()
    }

    fn sessions(&self) -> Vec<Value> {
        let told = json(&self.folder, &["status", "--json"]);
        told["sessions"]["list"].as_array().unwrap().clone()
    }
}

/// A client of `last` through others, and what it tells, line by line.
fn client(
    folder: &Path,
    last: &Relay,
    via: &[&Relay],
) -> (Running, std::net::SocketAddr, impl Iterator<Item = Value> + use<>) {
    let bundles: Vec<String> = via.iter().map(|relay| relay.bundle()).collect();
    let more: Vec<&str> = bundles.iter().flat_map(|bundle| ["--via", bundle]).collect();
    let (mut client, socks) = start_client(folder, &last.dir, &more);
    let lines = BufReader::new(client.stdout()).lines();
    (
        client,
        socks,
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()),
    )
}

#[test]
fn two_relays_carry_socks_and_neither_sees_both_ends() {
    let (first, second, folder) = (Relay::init("chain-1"), Relay::init("chain-2"), folder("chain"));
    let _relays = [first.start(), second.start()];
    let (client, socks, mut events) = client(&folder, &second, &[&first]);
    let event = events.next().unwrap();
    assert_eq!(event["event"], "connected");
    assert_eq!(
        (&event["relay_id"], &event["via"][0]),
        (&second.id.clone().into(), &first.id.clone().into())
    );
    assert_eq!(event["via"].as_array().unwrap().len(), 1);
    let echo = tcp_echo();
    let (code, mut stream) = socks_connect(socks, "127.0.0.1", echo.port());
    assert_eq!(code, 0);
    echoes(&mut stream, 3_000_000);
    until("both relays know their client", || {
        first.sessions().len() + second.sessions().len() == 2
    });
    let remote = |relay: &Relay| {
        relay.sessions()[0]["paths"][0]["remote"]
            .as_str()
            .unwrap()
            .to_string()
    };
    // All stand on one address, so it is the port that tells who talks to whom: the second hears the first's socket.
    assert_ne!(remote(&first), remote(&second));
    assert_eq!(client.signal("INT"), Some(130));
    let rest: Vec<Value> = events.collect();
    assert!(rest.len() == 1 && rest[0]["event"] == "closed", "{rest:?}");
    // Both were told.
    until("nobody is left", || {
        first.sessions().is_empty() && second.sessions().is_empty()
    });
}

#[test]
fn a_chain_is_built_anew_when_its_first_relay_was_away() {
    let (first, second, folder) = (Relay::init("anew-1"), Relay::init("anew-2"), folder("anew"));
    let (gone, _second) = (first.start(), second.start());
    let (_client, socks, mut events) = client(&folder, &second, &[&first]);
    assert_eq!(events.next().unwrap()["event"], "connected");
    assert_eq!(gone.signal("INT"), Some(130));
    let closed = events.next().unwrap();
    assert_eq!(closed["event"], "closed");
    assert!(
        closed["reason"].as_str().unwrap().starts_with("relay 2 of 2"),
        "{closed}"
    );
    let _first = first.start();
    let event = events.find(|event| event["event"] == "reconnected").unwrap();
    assert_eq!(event["via"][0], first.id);
    let echo = tcp_echo();
    let (code, mut stream) = socks_connect(socks, "127.0.0.1", echo.port());
    assert_eq!(code, 0);
    echoes(&mut stream, 100_000);
}

#[test]
fn chains_that_make_no_sense_are_refused() {
    let (first, second, folder) = (Relay::init("sense-1"), Relay::init("sense-2"), folder("sense"));
    let (a, b) = (first.bundle(), second.bundle());
    // Nobody runs: nothing may be sent.
    let refused = |arguments: &[&str]| {
        let all = [&["connect", "--socks", "127.0.0.1:0"], arguments].concat();
        fails(&folder, 2, &all)
    };
    let said = refused(&[&a, "--via", &b, "--via", &a]);
    assert!(said.contains("relay 3 of 3") && said.contains("twice"), "{said}");
    let said = refused(&[&a, "--via", &a]);
    assert!(said.contains("relay 2 of 2"), "{said}");
    let said = refused(&[&a, "--via", &b, "--via", &b, "--via", &b, "--via", &b]);
    assert!(said.contains("1 to 4 relays, not 5"), "{said}");
    refused(&[&a, "--via-identity", "client.key"]);
    refused(&[&a, "--via", &b, "--fixed-rate", "10"]);
    let missing = fails(
        &folder,
        3,
        &["connect", "--socks", "127.0.0.1:0", &a, "--via", "nowhere.bundle"],
    );
    assert!(missing.contains("nowhere.bundle"), "{missing}");
}

#[test]
fn a_second_relay_that_does_not_answer_is_named() {
    let (first, second, folder) = (Relay::init("silent-1"), Relay::init("silent-2"), folder("silent"));
    let running = first.start();
    let arguments = [
        "connect",
        "--socks",
        "127.0.0.1:0",
        &second.bundle(),
        "--via",
        &first.bundle(),
    ];
    let said = fails(&folder, 5, &arguments);
    assert!(
        said.contains("relay 2 of 2") && said.contains(&second.id),
        "{said}"
    );
    // Where the first goes is its operator's business.
    let toml = first.dir.join("relay.toml");
    crate::common::edit(&toml, "allow = [\"127.0.0.0/8\"]", "allow = []");
    drop(running);
    let _first = first.start();
    let said = fails(&folder, 4, &arguments);
    assert!(
        said.contains("relay 2 of 2") && said.contains("no way there"),
        "{said}"
    );
}
