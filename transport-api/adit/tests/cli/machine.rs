//! Commands about the machine itself.

use serde_json::Value;

use crate::common::{adit, edit, folder, init_relay, json, run};

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
