//! A relay in operation: what it tells, new keys, clients that must leave.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use transport_api::{
    BundleDraft, BundleEndpoint, EndpointAddress, OsEntropy, RelayIdentity, RelayStatics, now,
};

use crate::{
    common::{Running, adit, edit, fails, folder, init_relay, json, run, until},
    traffic::{echoes, socks_connect, start_client, start_relay, tcp_echo},
};

fn status(folder: &Path) -> Value {
    json(folder, &["status", "--json"])
}

/// A client is connected before its relay knows.
fn sessions_open(folder: &Path, count: u64) {
    until("the relay counts them", || {
        status(folder)["tunnels"]["sessions_open"] == count
    });
}

/// The one folder of a relay in this machine's state.
fn state(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder.join("state")).unwrap().flatten();
    entries.find(|entry| entry.path().is_dir()).unwrap().path()
}

fn client_key(folder: &Path) -> (String, String) {
    let made = json(
        folder,
        &["init", "client", "--dir", folder.to_str().unwrap(), "--json"],
    );
    let key = folder.join("client.key").to_str().unwrap().to_string();
    (made["client_id"].as_str().unwrap().to_string(), key)
}

#[test]
fn status_tells_who_is_there_and_what_is_used() {
    let folder = folder("status");
    let (relay_dir, port) = init_relay(&folder, "open");
    let (client_id, key) = client_key(&folder);
    let relay = start_relay(&folder, &relay_dir);
    let (_client, socks) = start_client(&folder, &relay_dir, &["--identity", &key]);
    let (_anonymous, _) = start_client(&folder, &relay_dir, &[]);
    let echo = tcp_echo();
    let (_, mut stream) = socks_connect(socks, "127.0.0.1", echo.port());
    echoes(&mut stream, 50_000);
    sessions_open(&folder, 2);
    let told = status(&folder);
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["pid"], relay.pid());
    assert_eq!(
        (&told["draining"], &told["cookie_mode"]),
        (&false.into(), &false.into())
    );
    assert!(told["listen"][0].as_str().unwrap().ends_with(&format!(":{port}")));
    assert_eq!(told["bundle"]["epoch"], 1);
    let days = |key: &str| told["bundle"][key].as_f64().unwrap() / 86_400.0;
    assert!((29.0..=30.0).contains(&days("expires_in_s")), "{told}");
    assert!((14.0..=15.0).contains(&days("rotate_in_s")), "{told}");
    assert!(told["drops"].as_object().unwrap().len() > 10, "{told}");
    let limit = |name: &str| {
        let rows = told["limits"].as_array().unwrap();
        rows.iter()
            .find(|row| row["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(
        (&limit("sessions")["limit"], &limit("sessions")["used"]),
        (&100_000.into(), &2.into())
    );
    assert_eq!(limit("connections")["used"], 2);
    let sessions = told["sessions"]["list"].as_array().unwrap();
    assert_eq!((sessions.len(), &told["sessions"]["total"]), (2, &2.into()));
    let ours = sessions
        .iter()
        .find(|session| session["peer"] == client_id.as_str())
        .unwrap();
    assert!(ours["sent_bytes"].as_u64().unwrap() > 50_000, "{ours}");
    assert!(
        ours["rtt_ms"].as_f64().unwrap() > 0.0 && ours["mtu"].as_u64().unwrap() >= 1232,
        "{ours}"
    );
    assert!(ours["paths"][0]["remote"].as_str().unwrap().contains("127.0.0.1"));
    assert!(sessions.iter().any(|session| session["peer"] == "anonymous"));
    // Pages, and the same for people.
    let page = json(&folder, &["status", "--json", "--sessions", "1", "--skip", "1"]);
    assert_eq!(page["sessions"]["list"].as_array().unwrap().len(), 1);
    assert_eq!(page["sessions"]["list"][0]["id"], sessions[1]["id"]);
    let toml = relay_dir.join("relay.toml");
    let text = run(&folder, &["status", "--config", toml.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("SESSIONS (2)") && text.contains(&client_id[..16]),
        "{text}"
    );
    assert_eq!(relay.signal("INT"), Some(130));
    fails(&folder, 5, &["status"]);
}

#[test]
fn the_status_socket_has_one_owner() {
    let folder = folder("status-owner");
    let (relay_dir, _) = init_relay(&folder, "open");
    let toml = relay_dir.join("relay.toml");
    edit(
        &toml,
        "# socket = \"/run/adit/status.sock\"",
        "socket = \"here.sock\"",
    );
    let socket = relay_dir.join("here.sock");
    let socket = socket.to_str().unwrap();
    let told = || json(&folder, &["status", "--json", "--socket", socket]);
    let first = start_relay(&folder, &relay_dir);
    // Another relay of the same configuration, elsewhere.
    let mut second = adit(&folder);
    second
        .args(["relay", "--config"])
        .arg(&toml)
        .env("ADIT_LISTEN_UDP", "127.0.0.1:0");
    let second = second.output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another relay serves this socket"), "{said}");
    assert_eq!(told()["pid"], first.pid());
    // Its owner is killed; what it leaves behind is nobody's.
    first.signal("KILL");
    assert!(Path::new(socket).exists());
    assert!(fails(&folder, 5, &["status", "--socket", socket]).contains("is it running?"));
    let third = start_relay(&folder, &relay_dir);
    assert_eq!(told()["pid"], third.pid());
}

#[test]
fn new_keys_reach_clients_and_the_old_ones_still_serve() {
    let folder = folder("rotate");
    let (relay_dir, _) = init_relay(&folder, "open");
    let old = folder.join("old.bundle");
    fs::copy(relay_dir.join("relay.bundle"), &old).unwrap();
    let relay = start_relay(&folder, &relay_dir);
    let (_client, _) = start_client(&folder, &relay_dir, &[]);
    let toml = relay_dir.join("relay.toml");
    let made = json(
        &folder,
        &["bundle", "rotate", "--json", "--config", toml.to_str().unwrap()],
    );
    assert_eq!(
        (&made["epoch"], &made["previous"]["epoch"]),
        (&2.into(), &1.into())
    );
    relay.send("HUP");
    until("the relay serves both", || {
        let bundle = &status(&folder)["bundle"];
        bundle["epoch"] == 2 && bundle["previous"]["epoch"] == 1
    });
    let epoch = state(&folder).join("epoch");
    until("the client has the new bundle", || {
        fs::read_to_string(&epoch).is_ok_and(|epoch| epoch == "2")
    });
    assert_eq!(
        fs::read(state(&folder).join("relay.bundle")).unwrap(),
        fs::read(relay_dir.join("relay.bundle")).unwrap()
    );
    // A machine that knows only the old bundle, with a state of its own.
    let late = folder.join("late");
    fs::create_dir_all(&late).unwrap();
    let mut command = adit(&late);
    command.args(["connect", "--socks", "127.0.0.1:0"]).arg(&old);
    let _late = Running::start(command, "connected");
    until("the late client has the new bundle", || {
        fs::read_to_string(state(&late).join("epoch")).is_ok_and(|epoch| epoch == "2")
    });
    // The new bundle serves as well, and the old one is refused where the new one is known.
    let (_new, _) = start_client(&folder, &relay_dir, &[]);
    sessions_open(&folder, 3);
}

/// A relay that has slept past half of its bundle's validity, or past all of it.
#[test]
fn due_keys_are_renewed_by_the_relay_itself() {
    const DAY: u64 = 86_400;
    let now = transport_api::now().unix_ms / 1000;
    for (name, not_after, previous) in [("due", now + 10 * DAY, true), ("expired", now - DAY, false)] {
        let folder = folder(name);
        let (relay_dir, port) = init_relay(&folder, "open");
        let identity = RelayIdentity::generate(&mut OsEntropy).unwrap();
        let statics = RelayStatics::generate(&mut OsEntropy).unwrap();
        let draft = BundleDraft {
            epoch: 7,
            not_before: not_after - 30 * DAY,
            not_after,
            endpoints: vec![BundleEndpoint {
                address: EndpointAddress::Ip([127, 0, 0, 1].into()),
                port,
                cover: 0,
            }],
        };
        let seeds = [&identity.seeds().expose()[..], &statics.seeds().expose()[..]].concat();
        let pem = pem_rfc7468::encode_string("ADIT RELAY KEY", pem_rfc7468::LineEnding::LF, &seeds).unwrap();
        fs::write(relay_dir.join("identity.key"), pem).unwrap();
        let bundle = relay_dir.join("relay.bundle");
        fs::write(&bundle, identity.sign_bundle(&draft, &statics).unwrap()).unwrap();
        let toml = relay_dir.join("relay.toml");
        edit(&toml, "[identity] ", "[identity]\nrotate = false\n#");
        if previous {
            let relay = start_relay(&folder, &relay_dir);
            assert_eq!(status(&folder)["bundle"]["epoch"], 7, "told not to");
            assert_eq!(status(&folder)["bundle"]["rotate_in_s"], Value::Null);
            relay.signal("INT");
        } else {
            fails(&folder, 4, &["relay", "--config", toml.to_str().unwrap()]);
        }
        edit(&toml, "rotate = false", "rotate = true");
        let _relay = start_relay(&folder, &relay_dir);
        let told = status(&folder);
        assert_eq!(told["bundle"]["epoch"], 8, "{told}");
        assert_eq!(told["bundle"]["previous"].is_object(), previous, "{told}");
        let (_client, _) = start_client(&folder, &relay_dir, &[]);
        assert_eq!(fs::read_to_string(state(&folder).join("epoch")).unwrap(), "8");
    }
}

#[test]
fn a_client_that_is_removed_is_out_at_once() {
    let folder = folder("revoke");
    let (relay_dir, _) = init_relay(&folder, "open");
    let (client_id, key) = client_key(&folder);
    let relay = start_relay(&folder, &relay_dir);
    let identity = ["--identity", key.as_str()];
    let (mut revoked, _) = start_client(&folder, &relay_dir, &identity);
    let (_other, socks) = start_client(&folder, &relay_dir, &[]);
    let echo = tcp_echo();
    let (_, mut stream) = socks_connect(socks, "127.0.0.1", echo.port());
    edit(
        &relay_dir.join("relay.toml"),
        "[access] ",
        &format!("[access]\nrevoked = [\"{client_id}\"]\n#"),
    );
    relay.send("HUP");
    let lines = BufReader::new(revoked.stdout()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(events.next().unwrap()["event"], "connected");
    let closed = events.next().unwrap();
    assert_eq!(closed["event"], "closed", "{closed}");
    until("the relay has told", || {
        relay
            .said()
            .contains("ended 1 sessions of clients that may no longer be here")
    });
    // The others go on, and the removed one meets silence.
    echoes(&mut stream, 10_000);
    let told = status(&folder);
    assert_eq!(told["tunnels"]["sessions_open"], 1, "{told}");
    assert_eq!(told["connections"]["revoked"], 1);
}

/// A relay that says nothing is waited for much longer.
#[test]
fn a_client_that_is_ended_before_the_relay_answers_ends_at_once() {
    let folder = folder("early-end");
    let (relay_dir, port) = init_relay(&folder, "open");
    let silent = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = adit(&folder);
        command
            .args(["connect", "--socks", "127.0.0.1:0"])
            .arg(relay_dir.join("relay.bundle"));
        let mut client = command.spawn().unwrap();
        silent.recv(&mut [0; 2000]).unwrap();
        let began = now().instant;
        let pid = client.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(client.wait().unwrap().code(), Some(code), "{signal}");
        let took = now().instant - began;
        assert!(took < Duration::from_secs(3), "{signal}: {took:?}");
        silent.set_nonblocking(true).unwrap();
        while silent.recv(&mut [0; 2000]).is_ok() {}
        silent.set_nonblocking(false).unwrap();
    }
}

#[test]
fn a_relay_leaves_no_core_and_locks_what_it_may() {
    let folder = folder("secrets");
    let (relay_dir, _) = init_relay(&folder, "open");
    let relay = start_relay(&folder, &relay_dir);
    let of = |what: &str| fs::read_to_string(format!("/proc/{}/{what}", relay.pid())).unwrap();
    let limits = of("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(),
        ["0", "0"]
    );
    let told = status(&folder)["secrets"].clone();
    assert_eq!(told["core_dumps_off"], true);
    let locked = of("status")
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap()
        .to_string();
    assert_eq!(
        told["memory_locked"] == true,
        !locked.contains(" 0 kB"),
        "{locked}"
    );
}

/// The first event of a client that is told to write JSON.
fn first_event(client: &mut Running) -> Value {
    let mut line = String::new();
    BufReader::new(client.stdout()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_client_comes_back_with_a_ticket_and_never_twice_with_the_same() {
    let folder = folder("tickets");
    let (relay_dir, _) = init_relay(&folder, "open");
    let (client_id, key) = client_key(&folder);
    let relay = start_relay(&folder, &relay_dir);
    let identity = ["--identity", key.as_str()];
    let (mut client, _) = start_client(&folder, &relay_dir, &identity);
    assert_eq!(first_event(&mut client)["resumed"], false);
    let tickets = state(&folder).join(format!("tickets-{client_id}"));
    until("the client has tickets", || tickets.exists());
    assert_eq!(
        fs::metadata(&tickets).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = fs::read(&tickets).unwrap();
    client.signal("INT");
    let (mut client, socks) = start_client(&folder, &relay_dir, &identity);
    assert_eq!(first_event(&mut client)["resumed"], true);
    let echo = tcp_echo();
    let (_, mut stream) = socks_connect(socks, "127.0.0.1", echo.port());
    echoes(&mut stream, 10_000);
    let told = status(&folder);
    assert_eq!(told["tickets"]["resumed"], 1, "{told}");
    assert_eq!(told["sessions"]["list"][0]["resumed"], true);
    assert_eq!(told["sessions"]["list"][0]["peer"], client_id.as_str());
    client.signal("INT");
    // A used ticket put back by somebody: the relay does not take it, and the client is none the worse.
    fs::write(&tickets, &before).unwrap();
    let (mut client, _) = start_client(&folder, &relay_dir, &identity);
    assert_eq!(first_event(&mut client)["event"], "connected");
    client.signal("INT");
    // Somebody else's file, and no file at all.
    fs::write(&tickets, "nonsense").unwrap();
    let (mut client, _) = start_client(&folder, &relay_dir, &identity);
    assert_eq!(first_event(&mut client)["resumed"], false);
    assert_eq!(relay.signal("INT"), Some(130));
}

/// A relay that was started anew has other ticket keys.
#[test]
fn a_client_reconnects_whether_its_ticket_is_taken_or_not() {
    let folder = folder("reconnect");
    let (relay_dir, _) = init_relay(&folder, "open");
    let relay = start_relay(&folder, &relay_dir);
    let (mut client, _) = start_client(&folder, &relay_dir, &[]);
    let lines = BufReader::new(client.stdout()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(events.next().unwrap()["event"], "connected");
    let tickets = state(&folder).join("tickets-anonymous");
    until("the client has tickets", || tickets.exists());
    relay.signal("INT");
    let _relay = start_relay(&folder, &relay_dir);
    let event = events.find(|event| event["event"] == "reconnected").unwrap();
    assert_eq!(event["resumed"], false, "{event}");
}

/// Its successor knows no keys of before and is silent to them; the idle timeout would be half a minute.
#[test]
fn a_relay_that_died_and_is_back_serves_again_within_seconds() {
    let folder = folder("died");
    let (relay_dir, _) = init_relay(&folder, "open");
    let relay = start_relay(&folder, &relay_dir);
    let (_client, socks) = start_client(&folder, &relay_dir, &[]);
    let echo = tcp_echo();
    let works = || socks_connect(socks, "127.0.0.1", echo.port()).0 == 0;
    assert!(works());
    assert_eq!(relay.signal("KILL"), None);
    let _relay = start_relay(&folder, &relay_dir);
    let began = now().instant;
    until("the new relay serves", works);
    let took = now().instant - began;
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn a_key_log_is_loud_private_and_the_same_at_both_ends() {
    let folder = folder("key-log");
    let (relay_dir, _) = init_relay(&folder, "open");
    let at = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (relay_log, client_log) = (at("relay.keys"), at("client.keys"));
    let mut relay = adit(&folder);
    relay
        .args(["relay", "--key-log", &relay_log, "--config"])
        .arg(relay_dir.join("relay.toml"));
    let relay = Running::start(relay, "READY");
    let (client, _) = start_client(&folder, &relay_dir, &["--key-log", &client_log]);
    for said in [relay.said(), client.said()] {
        assert!(said.contains("KEY LOG IS ON"), "{said}");
    }
    let lines = |path: &str| -> Vec<Value> {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    until("the relay has written", || !lines(&relay_log).is_empty());
    let (theirs, ours) = (lines(&relay_log), lines(&client_log));
    assert_eq!((theirs.len(), ours.len()), (1, 1));
    for key in ["v", "relay_id", "suite", "transcript", "c_ap_0", "s_ap_0"] {
        assert_eq!(theirs[0][key], ours[0][key], "{key}");
    }
    assert_eq!(
        (&theirs[0]["side"], &ours[0]["side"]),
        (&"relay".into(), &"client".into())
    );
    assert_eq!(ours[0]["c_ap_0"].as_str().unwrap().len(), 64);
    assert_ne!(ours[0]["c_ap_0"], ours[0]["s_ap_0"]);
    // A file that others may read is not written to, and nothing is written without being asked for.
    let open = at("open.keys");
    fs::write(&open, "").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let bundle = relay_dir.join("relay.bundle");
    let arguments = [
        "connect",
        "--socks",
        "127.0.0.1:0",
        "--key-log",
        &open,
        bundle.to_str().unwrap(),
    ];
    assert!(fails(&folder, 3, &arguments).contains("mode 0600"));
    let (silent, _) = start_client(&folder, &relay_dir, &[]);
    assert!(!silent.said().contains("KEY LOG"));
}
