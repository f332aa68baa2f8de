//! Tokens, tenants and a relay that names its successor.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    common::{Running, edit, fails, folder, init_relay, json, until},
    traffic::{echoes, socks_connect, start_client, start_relay, tcp_echo},
};

/// Replies of RFC 1928 §6.
const OK: u8 = 0;
const FAILED: u8 = 1;
const NOT_ALLOWED: u8 = 2;

/// SHA-256 of `s3cret`, and of `anna:pass`.
const SECRET: &str = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0";
const ANNA: &str = "a653f58cf7c49d807930544ed87ad2cb3bcae3e5bf0c6338004b9cf9319babda";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn issuer(folder: &Path, name: &str) -> PathBuf {
    let dir = folder.join(name);
    let made = json(folder, &["init", "issuer", "--dir", text(&dir), "--json"]);
    assert_eq!(made["issuer"].as_str().unwrap().len(), 16);
    dir
}

fn issue(folder: &Path, issuer: &Path, more: &[&str]) -> Value {
    let key = issuer.join("issuer.key");
    let mut arguments = vec![
        "token",
        "issue",
        "--key",
        text(&key),
        "--tenant",
        "acme",
        "--json",
    ];
    arguments.extend_from_slice(more);
    json(folder, &arguments)
}

/// What a program behind this client hears from the SOCKS port.
fn reply(socks: SocketAddr, echo: SocketAddr) -> u8 {
    socks_connect(socks, "127.0.0.1", echo.port()).0
}

#[test]
fn tokens_are_issued_shown_and_asked_for() {
    let folder = folder("tokens");
    let (relay_dir, _) = init_relay(&folder, "open");
    let (ours, other) = (issuer(&folder, "ours"), issuer(&folder, "other"));
    let toml = relay_dir.join("relay.toml");
    let access = format!(
        "issuers = [\"../ours/issuer.pub\"]\ntokens = [\"acme:{SECRET}\"]\nusers = [\"acme:{ANNA}\"]\n# tokens"
    );
    edit(&toml, "# tokens", &access);
    let made = json(&folder, &["init", "client", "--dir", text(&folder), "--json"]);
    let client_id = made["client_id"].as_str().unwrap();
    let key = folder.join("client.key");
    let token = folder.join("acme.token");
    let told = issue(&folder, &ours, &["--client", client_id, "--mbit", "100"]);
    fs::write(&token, told["token"].as_str().unwrap()).unwrap();
    // Shown, with and without the issuer.
    let public = ours.join("issuer.pub");
    let shown = json(
        &folder,
        &["token", "show", text(&token), "--issuer", text(&public), "--json"],
    );
    assert_eq!((&shown["tenant"], &shown["mbit"]), (&"acme".into(), &100.into()));
    assert_eq!(
        (&shown["verified"], &shown["valid"]),
        (&true.into(), &true.into())
    );
    assert_eq!(shown["client_id"], client_id);
    let wrong = other.join("issuer.pub");
    let arguments = ["token", "show", text(&token), "--issuer", text(&wrong)];
    assert!(fails(&folder, 4, &arguments).contains("issuer is not known"));

    let (_relay, echo) = (start_relay(&folder, &relay_dir), tcp_echo());
    let (nobody, socks) = start_client(&folder, &relay_dir, &[]);
    assert_eq!(reply(socks, echo), NOT_ALLOWED);
    until("it is said what is missing", || {
        nobody.said().contains("--token FILE")
    });
    let shows = ["--token", text(&token)];
    let identity = ["--identity", text(&key), "--token", text(&token)];
    let (_thief, socks) = start_client(&folder, &relay_dir, &shows);
    assert_eq!(reply(socks, echo), NOT_ALLOWED, "the token is for another client");
    for _ in 0..2 {
        let (_acme, socks) = start_client(&folder, &relay_dir, &identity);
        let (reply, mut stream) = socks_connect(socks, "127.0.0.1", echo.port());
        assert_eq!(reply, OK);
        echoes(&mut stream, 50_000);
    }
    for (value, wanted) in [
        ("Bearer s3cret", OK),
        ("Basic YW5uYTpwYXNz", OK),
        ("Bearer s3cre", NOT_ALLOWED),
    ] {
        fs::write(&token, value).unwrap();
        let (_client, socks) = start_client(&folder, &relay_dir, &shows);
        assert_eq!(reply(socks, echo), wanted, "{value}");
    }
}

#[test]
fn what_a_tenant_may_use_changes_with_sighup() {
    let folder = folder("tenants");
    let (relay_dir, _) = init_relay(&folder, "open");
    let made = json(&folder, &["init", "client", "--dir", text(&folder), "--json"]);
    let clients = format!("clients = [{}]\n", made["client_id"]);
    let tenants = relay_dir.join("tenants.toml");
    fs::write(&tenants, format!("[acme]\n{clients}tunnels = 1\n")).unwrap();
    edit(&relay_dir.join("relay.toml"), "# tenants", "tenants");
    let (relay, echo) = (start_relay(&folder, &relay_dir), tcp_echo());
    let key = folder.join("client.key");
    let (_acme, socks) = start_client(&folder, &relay_dir, &["--identity", text(&key)]);
    let (_other, free) = start_client(&folder, &relay_dir, &[]);
    let open = socks_connect(socks, "127.0.0.1", echo.port());
    assert_eq!((open.0, reply(socks, echo)), (OK, FAILED));
    let others = [(); 3].map(|()| socks_connect(free, "127.0.0.1", echo.port()));
    assert!(
        others.iter().all(|(reply, _)| *reply == OK),
        "they are no tenant's"
    );
    fs::write(&tenants, format!("[acme]\n{clients}tunnels = 2\n")).unwrap();
    relay.send("HUP");
    until("the quota is larger", || {
        let (reply, _stream) = socks_connect(socks, "127.0.0.1", echo.port());
        reply == OK
    });
    // A mistake leaves what was.
    fs::write(&tenants, "[acme]\ntunels = 3\n").unwrap();
    relay.send("HUP");
    until("the mistake is told", || {
        relay.said().contains("unknown field `tunels`")
    });
    assert_eq!(reply(socks, echo), OK);
}

#[test]
fn mistakes_with_tokens_and_tenants() {
    let folder = folder("token-mistakes");
    let (relay_dir, _) = init_relay(&folder, "open");
    let toml = relay_dir.join("relay.toml");
    let good = fs::read_to_string(&toml).unwrap();
    let bundle = relay_dir.join("relay.bundle");
    let stranger = folder.join("stranger.toml");
    fs::write(&stranger, "[acme]\nclients = [\"zz\"]\n").unwrap();
    for (from, to, word) in [
        ("# tokens", "issuers = [\"none.pub\"]\n# tokens", "none.pub"),
        (
            "# tokens",
            "issuers = [\"relay.bundle\"]\n# tokens",
            "relay.bundle",
        ),
        (
            "# tenants = \"tenants.toml\"",
            "tenants = \"none.toml\"",
            "none.toml",
        ),
        (
            "# tenants = \"tenants.toml\"",
            "tenants = \"../stranger.toml\"",
            "acme: \"zz\"",
        ),
        ("# [drain]\n# successor", "[drain]\nsuccessor", "other.bundle"),
    ] {
        fs::write(&toml, good.replace(from, to)).unwrap();
        let said = fails(&folder, 3, &["relay", "--config", text(&toml)]);
        assert!(said.contains(word), "{word}: {said}");
    }
    let garbage = folder.join("garbage.token");
    fs::write(&garbage, "AAAA").unwrap();
    fails(&folder, 3, &["token", "show", text(&garbage)]);
    fs::write(&garbage, "two\nlines").unwrap();
    let connect = |file: &Path| {
        let arguments = [
            "connect",
            text(&bundle),
            "--socks",
            "127.0.0.1:0",
            "--token",
            text(file),
        ];
        fails(&folder, 3, &arguments)
    };
    assert!(connect(&garbage).contains("one line"));
    assert!(connect(&folder.join("none.token")).contains("none.token"));
    let ours = issuer(&folder, "ours");
    let arguments = ["init", "issuer", "--dir", text(&ours)];
    assert!(fails(&folder, 3, &arguments).contains("exists already"));
    let key = ours.join("issuer.key");
    for (wrong, code) in [
        (&["--tenant", "a b"][..], 2),
        (&["--tenant", "acme", "--hours", "0"], 2),
        (&["--tenant", "acme", "--client", "12"], 2),
    ] {
        let arguments = [&["token", "issue", "--key", text(&key)][..], wrong].concat();
        fails(&folder, code, &arguments);
    }
    let public = ours.join("issuer.pub");
    let arguments = ["token", "issue", "--key", text(&public), "--tenant", "acme"];
    fails(&folder, 3, &arguments);
}

/// Waits for an event of `connect --json`.
fn event(lines: &mut impl Iterator<Item = String>, name: &str) -> Value {
    lines
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .find(|event| event["event"] == name)
        .unwrap_or_else(|| panic!("ended without {name}"))
}

fn lines(client: &mut Running) -> impl Iterator<Item = String> {
    BufReader::new(client.stdout()).lines().map_while(Result::ok)
}

fn relay_id(bundle: &Path, folder: &Path) -> Value {
    json(folder, &["bundle", "show", text(bundle), "--json"])["relay_id"].clone()
}

#[test]
fn clients_go_on_where_the_relay_says_unless_they_are_told_to_stay() {
    let folder = folder("successor");
    let (first, second) = (folder.join("a"), folder.join("b"));
    let (relay_dir, _) = init_relay(&first, "open");
    let (other_dir, _) = init_relay(&second, "open");
    let toml = relay_dir.join("relay.toml");
    edit(&toml, "# [drain]\n# successor", "[drain]\nsuccessor");
    fs::copy(other_dir.join("relay.bundle"), relay_dir.join("other.bundle")).unwrap();
    let relay = start_relay(&first, &relay_dir);
    let other = start_relay(&second, &other_dir);
    let (mut follower, socks) = start_client(&first, &relay_dir, &[]);
    let (stayer, stay) = start_client(&folder, &relay_dir, &["--stay"]);
    let echo = tcp_echo();
    let (reply_before, mut open) = socks_connect(socks, "127.0.0.1", echo.port());
    assert_eq!((reply_before, reply(stay, echo)), (OK, OK));
    relay.send("TERM");
    let mut events = lines(&mut follower);
    let successor = relay_id(&other_dir.join("relay.bundle"), &folder);
    assert_eq!(
        event(&mut events, "connected")["relay_id"],
        relay_id(&relay_dir.join("relay.bundle"), &folder)
    );
    assert_eq!(event(&mut events, "moved")["relay_id"], successor);
    assert_eq!(event(&mut events, "reconnected")["relay_id"], successor);
    // What was open stays where it is to its end; what is new goes by the successor.
    let (reply_after, mut new) = socks_connect(socks, "127.0.0.1", echo.port());
    assert_eq!(reply_after, OK);
    echoes(&mut new, 50_000);
    echoes(&mut open, 50_000);
    drop((open, new));
    assert_eq!(
        relay.signal("CONT"),
        Some(0),
        "it ends when the last tunnel has ended"
    );
    until("the one that stays has noticed", || {
        stayer.said().contains("closed")
    });
    assert!(!stayer.said().contains("moved"));
    // The successor ends as well: the client tries both, and finds the first when it is there again.
    let again = start_relay(&first, &relay_dir);
    assert_eq!(other.signal("INT"), Some(130));
    let back = event(&mut events, "reconnected");
    assert_eq!(
        back["relay_id"],
        relay_id(&relay_dir.join("relay.bundle"), &folder)
    );
    assert_eq!(again.signal("INT"), Some(130));
}
