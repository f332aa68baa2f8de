//! What goes through the tunnel, each checked to the last byte.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use transport_api::{
    local::{Handle, TcpStream},
    now,
};

use super::{
    relay::{CHECKSUM_PORT, HTTP_PORT},
    stage::{CLIENT_MOVED, Stage, TUN},
};
use crate::demo::{
    Check, Checks,
    targets::{Checksum, Pattern},
    traffic::{self, Measured, mbit, shown},
};

/// The relay in the tunnel: the first address of each pool.
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
/// A handshake over a veth takes less.
const HANDSHAKE_LIMIT_MS: f64 = 100.0;
const PINGS: u32 = 20;
/// A transfer that has not ended by now does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// A move may stop the download for this long.
const PAUSE_LIMIT: Duration = Duration::from_secs(3);
const CHUNK: usize = 64 * 1024;

pub(super) async fn play(at: &Handle, checks: &mut Checks, stage: &mut Stage, bytes: u64) {
    tunnel(checks, &stage.connected);
    for (name, address) in [
        ("ping through the tunnel, IPv4", V4),
        ("ping through the tunnel, IPv6", V6),
    ] {
        ping(address).check(checks, name.into());
    }
    checks.progress("the kernel's TCP through the tunnel");
    let size = traffic::size(bytes);
    for (family, address) in [("IPv4", V4), ("IPv6", V6)] {
        let down = limited(at, download(at, address, bytes, &mut |_| ())).await;
        down.check(checks, format!("{size} down, {family}"));
    }
    limited(at, upload(at, V6, bytes))
        .await
        .check(checks, format!("{size} up, IPv6"));
    checks.progress("the client moves");
    let moved = limited(at, move_in_mid_download(at, stage, bytes)).await;
    moved.check(checks, format!("longest pause of {size} down, client moved"));
    survived(checks, stage);
    carried(bytes * 3, bytes).check(checks, "the device carried it".into());
}

type Result<T = (bool, f64, &'static str, String)> = std::result::Result<T, String>;

async fn limited(at: &Handle, work: impl Future<Output = Result>) -> Measured {
    let late = |_| Err(format!("not done after {} s", PATIENCE.as_secs()));
    Measured::from(at.timeout(PATIENCE, work).await.unwrap_or_else(late))
}

fn tunnel(checks: &mut Checks, connected: &Value) {
    let ms = connected["handshake_ms"].as_f64().unwrap_or(f64::INFINITY);
    let addresses: Vec<&str> = connected["ip"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    checks.add(Check {
        name: "handshake, and an address of each family".into(),
        ok: ms < HANDSHAKE_LIMIT_MS && addresses.len() == 2,
        value: ms,
        unit: "ms",
        detail: format!("{}, MTU {}", addresses.join(" "), connected["ip"]["mtu"]),
    });
}

/// The system's own `ping`.
fn ping(to: IpAddr) -> Measured {
    let said = Command::new("ping")
        .args(["-n", "-q", "-i", "0.01", "-W", "2", "-c", &PINGS.to_string()])
        .arg(to.to_string())
        .stdin(Stdio::null())
        .output();
    let measured = said.map_err(shown).and_then(|said| {
        let out = String::from_utf8_lossy(&said.stdout).into_owned();
        let (returned, average) = read_ping(&out).ok_or_else(|| {
            let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            format!("no answer {why}")
        })?;
        let detail = format!("{returned} of {PINGS} came back; the mean");
        Ok((returned == PINGS, average, "ms", detail))
    });
    Measured::from(measured)
}

/// How many came back and their mean round trip in ms, from what `ping -q` says.
fn read_ping(said: &str) -> Option<(u32, f64)> {
    let counts = said.lines().find(|line| line.contains(" transmitted, "))?;
    let returned = counts.split(", ").nth(1)?.split(' ').next()?.parse().ok()?;
    let times = said.lines().find(|line| line.contains("min/avg/max"))?;
    let average = times.split(" = ").nth(1)?.split('/').nth(1)?.parse().ok()?;
    Some((returned, average))
}

async fn connect(at: &Handle, to: IpAddr, port: u16) -> Result<TcpStream> {
    TcpStream::connect(at, SocketAddr::new(to, port))
        .await
        .map_err(shown)
}

/// `seen` is told how many bytes there are so far.
async fn download(at: &Handle, from: IpAddr, bytes: u64, seen: &mut dyn FnMut(u64)) -> Result {
    let begin = now().instant;
    let stream = connect(at, from, HTTP_PORT).await?;
    let fetched = traffic::fetch(&stream, bytes, seen).await?;
    let seconds = (now().instant - begin).as_secs_f64();
    Ok(traffic::verdict(fetched, bytes, seconds))
}

/// Sends to a target that answers the checksum.
async fn upload(at: &Handle, to: IpAddr, bytes: u64) -> Result {
    let begin = now().instant;
    let stream = connect(at, to, CHECKSUM_PORT).await?;
    let (mut sum, mut pattern) = (Checksum::default(), Pattern::default());
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(CHUNK as u64) as usize;
        let part = chunk.get_mut(..size).unwrap_or_default();
        pattern.fill(part);
        sum.add(part);
        stream.write_all(part).await.map_err(shown)?;
        left -= size as u64;
    }
    stream.shutdown(std::net::Shutdown::Write).map_err(shown)?;
    let mut answer = [0; 8];
    let mut have = 0;
    while let Some(rest) = answer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await.map_err(shown)? {
            0 => return Err("the target ended early".into()),
            read => have += read,
        }
    }
    let seconds = (now().instant - begin).as_secs_f64();
    let theirs = u64::from_be_bytes(answer);
    let detail = format!("checksum {theirs:016x}");
    Ok((theirs == sum.value(), mbit(bytes, seconds), "Mbit/s", detail))
}

/// One TCP connection, over a quarter of which the client has one address and then another; the longest it stood still.
async fn move_in_mid_download(at: &Handle, stage: &mut Stage, bytes: u64) -> Result {
    let moved = RefCell::new(None);
    let mut last = now().instant;
    let mut pause = Duration::ZERO;
    let mut seen = |received| {
        let now = now().instant;
        if moved.borrow().is_some() {
            pause = pause.max(now - last);
        } else if received > bytes / 4 {
            *moved.borrow_mut() = Some(stage.move_client().map_err(shown));
        }
        last = now;
    };
    let (right, speed, unit, detail) = download(at, V4, bytes, &mut seen).await?;
    moved.into_inner().ok_or("the client never moved")??;
    Ok((
        right && pause < PAUSE_LIMIT,
        pause.as_secs_f64() * 1000.0,
        "ms",
        format!("{detail}, {speed:.0} {unit} all in all"),
    ))
}

/// At the relay there is the first connection and no other, and its peer is where the client has moved to.
fn survived(checks: &mut Checks, stage: &Stage) {
    let name = "one connection at both addresses";
    let told = match stage.relay_status() {
        Ok(told) => told,
        Err(failure) => return checks.broken(name, &failure.message),
    };
    let handshakes = told["connections"]["handshakes_completed"].as_u64().unwrap_or(0);
    let remote = told["sessions"]["list"][0]["remote"].as_str().unwrap_or("nobody");
    let there = remote
        .parse()
        .is_ok_and(|remote: SocketAddr| remote.ip() == CLIENT_MOVED);
    checks.add(Check {
        name: name.into(),
        ok: handshakes == 1 && there,
        value: handshakes as f64,
        unit: "made",
        detail: format!("the relay sees {remote}"),
    });
}

/// What the kernel has counted at the device is at least what was carried.
fn carried(down: u64, up: u64) -> Measured {
    let counted = std::fs::read_to_string("/proc/thread-self/net/dev").map_err(shown);
    Measured::from(counted.and_then(|text| {
        let (received, sent) = read_counters(&text, TUN).ok_or("the device is not listed")?;
        let ok = received >= down && sent >= up;
        let detail = format!("{received} bytes in, {sent} out, as the kernel counts");
        Ok((ok, (received + sent) as f64 / f64::from(1 << 20), "MiB", detail))
    }))
}

/// Bytes received and sent by a device, from `/proc/net/dev`.
fn read_counters(text: &str, device: &str) -> Option<(u64, u64)> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))?;
    let mut numbers = line.split_whitespace().map(str::parse);
    let received = numbers.next()?.ok()?;
    Some((received, numbers.nth(7)?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_ping_are_understood() {
        let iputils = "PING 10.77.0.1 (10.77.0.1) 56(84) bytes of data.\n\n--- 10.77.0.1 ping statistics ---\n\
            20 packets transmitted, 19 received, 5% packet loss, time 209ms\nrtt min/avg/max/mdev = 0.1/0.25/0.4/0.05 ms\n";
        assert_eq!(read_ping(iputils), Some((19, 0.25)));
        let busybox = "20 packets transmitted, 20 packets received, 0% packet loss\nround-trip min/avg/max = 0.1/0.2/0.3 ms\n";
        assert_eq!(read_ping(busybox), Some((20, 0.2)));
        assert_eq!(read_ping("20 packets transmitted, 0 received\n"), None);
        assert_eq!(read_ping(""), None);
    }

    #[test]
    fn counters_are_those_of_the_device() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n adit0: 10 2 0 0 0 0 0 0 30 4 0 0 0 0 0 0\n";
        assert_eq!(read_counters(text, "adit0"), Some((10, 30)));
        assert_eq!(read_counters(text, "adit"), None);
        assert_eq!(read_counters("adit0: 1", "adit0"), None);
    }
}
