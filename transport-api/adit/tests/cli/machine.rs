//! Commands about the machine itself.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::common::{adit, edit, folder, init_relay, json, run, until};

fn check<'a>(told: &'a Value, name: &str) -> &'a Value {
    let mut checks = told["checks"].as_array().unwrap().iter();
    checks
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("{name} is missing: {told}"))
}

#[test]
fn the_doctor_tells_what_is_here_and_what_to_do() {
    let folder = folder("doctor");
    // Nothing here is needed but a UDP socket and a clock, which tests have.
    let told = json(&folder, &["doctor", "--json"]);
    assert_eq!(told["ok"], true, "{told}");
    for name in ["UDP socket", "clock", "cryptography"] {
        assert_eq!(check(&told, name)["ok"], true, "{told}");
    }
    for one in told["checks"].as_array().unwrap() {
        let silent = one["detail"].as_str().unwrap().is_empty();
        assert_eq!(silent, one["ok"] == true, "advice where it is wanted: {one}");
        assert!(!one["value"].as_str().unwrap().is_empty(), "{one}");
    }
    let text = run(&folder, &["doctor"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("ok       UDP socket"), "{text}");
}

#[test]
fn the_doctor_needs_what_a_configuration_wants() {
    let folder = folder("doctor-tun");
    let (relay, _) = init_relay(&folder, "open");
    let toml = relay.join("relay.toml");
    edit(&toml, "enabled = false", "enabled = true");
    edit(&toml, "nat = false", "nat = true");
    let mut command = adit(&folder);
    // Without PATH there is no nft.
    command
        .args(["doctor", "--json", "--config"])
        .arg(&toml)
        .env("PATH", "");
    let output = command.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nft = check(&told, "nft");
    assert_eq!(
        (&nft["ok"], &nft["missing"]),
        (&false.into(), &true.into()),
        "{nft}"
    );
    // Where a privilege is missing too, it is told first.
    let device = check(&told, "TUN device");
    let forbidden = device["detail"].as_str().unwrap().contains("CAP_NET_ADMIN");
    let code = if forbidden { 6 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert_eq!(told["ok"], false);
}

/// Skips a test, or fails where none may be skipped.
#[cfg(target_os = "linux")]
fn skip(name: &str, reason: &str) {
    let must_run = std::env::var_os("ADIT_NO_SKIP").is_some();
    assert!(!must_run, "{name} must not be skipped: {reason}");
    eprintln!("SKIP: {name}: {reason}");
}

/// Processes of the demo with this folder, and the folder: what it may leave behind.
#[cfg(target_os = "linux")]
fn leftovers(pid: u32) -> Vec<String> {
    let folder = format!("adit-demo-{pid}");
    let of = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(of);
    let mut left: Vec<String> = processes.filter(|line| line.contains(&folder)).collect();
    left.extend(
        std::env::temp_dir()
            .join(&folder)
            .exists()
            .then(|| folder.clone()),
    );
    left
}

#[cfg(target_os = "linux")]
#[test]
fn the_vpn_demo_passes_with_real_devices() {
    let folder = folder("demo-vpn");
    let mut command = adit(&folder);
    command
        .args(["demo", "--vpn", "--quick", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(6) || said.contains("needs the program") {
        return skip("the_vpn_demo_passes_with_real_devices", said.trim());
    }
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    assert!(output.status.success() && told["ok"] == true, "{told}\n{said}");
    assert!(told["checks"].as_array().unwrap().len() >= 10, "{told}");
    assert_eq!(leftovers(pid), Vec::<String>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn a_vpn_demo_that_is_ended_leaves_nothing() {
    let name = "a_vpn_demo_that_is_ended_leaves_nothing";
    let folder = folder("demo-vpn-ended");
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let mut command = adit(&folder);
        command
            .args(["demo", "--vpn"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut demo = command.spawn().unwrap();
        let mut said = String::new();
        // Told when the devices are up.
        for line in BufReader::new(demo.stderr.take().unwrap()).lines() {
            said += &line.unwrap();
            if said.contains("TCP through") {
                break;
            }
        }
        if !said.contains("TCP through") {
            demo.wait().unwrap();
            return skip(name, &said);
        }
        assert!(leftovers(demo.id()).len() > 3, "processes and a folder");
        let pid = demo.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(demo.wait().unwrap().code(), code, "{signal}");
        if code.is_some() {
            assert_eq!(leftovers(demo.id()), Vec::<String>::new(), "{signal}");
        }
        // Who was killed waits for nobody.
        until("nothing is left", || leftovers(demo.id()).is_empty());
    }
}
