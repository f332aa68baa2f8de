//! The demo's three kinds of traffic, each checked to the last byte.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use transport_api::{
    local::{Handle, TcpStream},
    now,
    tunnel::TcpTunnel,
};

use super::{
    Check, Checks, Pace,
    targets::{Checksum, Pattern},
};
use crate::connect::Link;

const CHUNK: usize = 64 * 1024;
/// Payload of a datagram; fits the base path MTU with room to spare.
const DATAGRAM: usize = 1000;
/// Echoes that have not come by now are lost.
const ECHO_LIMIT: Duration = Duration::from_millis(700);
/// Of the datagrams, at least this part must come back: the bad link loses 2 % each way, and a rebind what is on the way.
const DELIVERED: f64 = 0.85;

/// A figure, or why there is none.
pub(super) struct Measured(Result<(bool, f64, &'static str, String), String>);

impl From<Result<(bool, f64, &'static str, String), String>> for Measured {
    fn from(measured: Result<(bool, f64, &'static str, String), String>) -> Self {
        Self(measured)
    }
}

impl Measured {
    pub(super) fn check(self, checks: &mut Checks, name: String) {
        match self.0 {
            Ok((ok, value, unit, detail)) => checks.add(Check {
                name,
                ok,
                value,
                unit,
                detail,
            }),
            Err(why) => checks.broken(&name, &why),
        }
    }
}

pub(super) fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Mbit/s.
pub(super) fn mbit(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / seconds.max(1e-9) / 1e6
}

/// For people.
pub(super) fn size(bytes: u64) -> String {
    if bytes >= 1 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

/// Sends `bytes` through CONNECT to a target that answers their checksum.
pub(super) async fn upload(link: &Link, target: SocketAddr, bytes: u64) -> Measured {
    Measured(try_upload(link, target, bytes).await)
}

async fn try_upload(
    link: &Link,
    target: SocketAddr,
    bytes: u64,
) -> Result<(bool, f64, &'static str, String), String> {
    let client = link.client().await.ok_or("no connection to the relay")?;
    let begin = now().instant;
    let mut tunnel = client
        .connect_tcp(&target.ip().to_string(), target.port())
        .await
        .map_err(shown)?;
    let (mut pattern, mut sum) = (Pattern::default(), Checksum::default());
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let part = chunk
            .get_mut(..left.min(CHUNK as u64) as usize)
            .unwrap_or_default();
        pattern.fill(part);
        sum.add(part);
        tunnel.write_all(part).await.map_err(shown)?;
        left -= part.len() as u64;
    }
    tunnel.finish();
    let answer = read_u64(&mut tunnel).await?;
    let seconds = (now().instant - begin).as_secs_f64();
    let same = answer == sum.value();
    let detail = if same {
        "checksum is right"
    } else {
        "CHECKSUM DIFFERS"
    };
    Ok((same, mbit(bytes, seconds), "Mbit/s", detail.into()))
}

async fn read_u64(tunnel: &mut TcpTunnel) -> Result<u64, String> {
    let mut answer = [0; 8];
    let mut have = 0;
    while let Some(rest) = answer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        have += tunnel
            .read(rest)
            .await
            .map_err(shown)?
            .ok_or("the target ended early")?;
    }
    Ok(u64::from_be_bytes(answer))
}

/// Sends `count` datagrams through CONNECT-UDP to an echo and counts what comes back unharmed.
pub(super) async fn datagrams(
    at: &Handle,
    link: &Link,
    target: SocketAddr,
    (count, pace): (u32, Pace),
) -> Measured {
    Measured(try_datagrams(at, link, target, count, pace).await)
}

async fn try_datagrams(
    at: &Handle,
    link: &Link,
    target: SocketAddr,
    count: u32,
    pace: Pace,
) -> Result<(bool, f64, &'static str, String), String> {
    let client = link.client().await.ok_or("no connection to the relay")?;
    let begin = now().instant;
    let tunnel = client
        .connect_udp(&target.ip().to_string(), target.port())
        .await
        .map_err(shown)?;
    let sender = tunnel.sender();
    let back = Rc::new(Cell::new(0u32));
    let done = Rc::clone(&back);
    let receive = async move {
        while let Ok(packet) = tunnel.recv().await {
            let intact = packet.len() == DATAGRAM && packet.iter().skip(4).all(|byte| *byte == 0x5a);
            done.set(done.get() + u32::from(intact));
        }
    };
    let stop = Rc::new(Cell::new(false));
    let stopping = Rc::clone(&stop);
    let timer = at.clone();
    at.spawn(async move {
        let mut receive = std::pin::pin!(receive);
        // The tunnel is dropped, and closed, once the counting is over; one that ended is not read again.
        while !stopping.get() {
            if timer
                .timeout(Duration::from_millis(20), receive.as_mut())
                .await
                .is_ok()
            {
                return;
            }
        }
    })
    .map_err(shown)?;
    let mut packet = vec![0x5a; DATAGRAM];
    for number in 0..count {
        if number % pace.burst == 0 {
            at.sleep(pace.every).await;
        }
        if let Some(place) = packet.first_chunk_mut::<4>() {
            *place = number.to_be_bytes();
        }
        sender.send(&packet).map_err(shown)?;
    }
    let last = now().instant;
    while back.get() < count && now().instant - last < ECHO_LIMIT {
        at.sleep(Duration::from_millis(5)).await;
    }
    stop.set(true);
    let returned = f64::from(back.get());
    let seconds = (now().instant - begin).as_secs_f64();
    let detail = format!("{} of {count} came back in {seconds:.1} s", back.get());
    Ok((
        returned >= f64::from(count) * DELIVERED,
        returned * 100.0 / f64::from(count),
        "%",
        detail,
    ))
}

/// Downloads `bytes` from an HTTP server with a SOCKS5 client, as any program would.
pub(super) async fn download(at: &Handle, socks: SocketAddr, target: SocketAddr, bytes: u64) -> Measured {
    Measured(try_download(at, socks, target, bytes).await)
}

async fn try_download(
    at: &Handle,
    socks: SocketAddr,
    target: SocketAddr,
    bytes: u64,
) -> Result<(bool, f64, &'static str, String), String> {
    let begin = now().instant;
    let stream = TcpStream::connect(at, socks).await.map_err(shown)?;
    stream.write_all(&[5, 1, 0]).await.map_err(shown)?;
    expect(&stream, &[5, 0]).await?;
    let host = target.ip().to_string();
    let mut request = vec![5, 1, 0, 3, host.len() as u8];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&target.port().to_be_bytes());
    stream.write_all(&request).await.map_err(shown)?;
    expect(&stream, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let fetched = fetch(&stream, bytes, &mut |_| ()).await?;
    let seconds = (now().instant - begin).as_secs_f64();
    Ok(verdict(fetched, bytes, seconds))
}

/// Of a download: what came and whether it was right, what was wanted, and how long it took.
pub(super) fn verdict(
    (received, right): (u64, bool),
    wanted: u64,
    seconds: f64,
) -> (bool, f64, &'static str, String) {
    let ok = right && received == wanted;
    let detail = if ok {
        "every byte is right".into()
    } else {
        format!("{received} bytes, right: {right}")
    };
    (ok, mbit(received, seconds), "Mbit/s", detail)
}

async fn expect(stream: &TcpStream, wanted: &[u8]) -> Result<(), String> {
    let mut answer = vec![0; wanted.len()];
    let mut have = 0;
    while have < answer.len() {
        match stream
            .read(answer.get_mut(have..).unwrap_or_default())
            .await
            .map_err(shown)?
        {
            0 => return Err("the SOCKS port closed".into()),
            read => have += read,
        }
    }
    if answer == wanted {
        Ok(())
    } else {
        Err(format!("the SOCKS port answered {answer:?}"))
    }
}

/// Asks an HTTP server for `bytes` and reads to the end; how many came, which `seen` is told on the way, and whether each was right.
pub(super) async fn fetch(
    stream: &TcpStream,
    bytes: u64,
    seen: &mut dyn FnMut(u64),
) -> Result<(u64, bool), String> {
    stream
        .write_all(format!("GET /{bytes} HTTP/1.1\r\nHost: demo\r\n\r\n").as_bytes())
        .await
        .map_err(shown)?;
    let mut head: Vec<u8> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let mut wanted = vec![0; CHUNK];
    let mut pattern = Pattern::default();
    let (mut received, mut right, mut in_body) = (0, true, false);
    loop {
        let read = stream.read(&mut buffer).await.map_err(shown)?;
        let mut data = buffer.get(..read).unwrap_or_default();
        if read == 0 {
            return Ok((received, right && in_body));
        }
        if !in_body {
            head.extend_from_slice(data);
            let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") else {
                continue;
            };
            in_body = true;
            data = data
                .get(data.len() - (head.len() - end - 4)..)
                .unwrap_or_default();
        }
        let expected = wanted.get_mut(..data.len()).unwrap_or_default();
        pattern.fill(expected);
        right &= expected == data;
        received += data.len() as u64;
        seen(received);
    }
}
