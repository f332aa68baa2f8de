//! What the long-lived clients do all the time: transfers both ways, an echo in order, packets.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

use transport_api::tunnel::{TcpReceiver, TcpSender, UdpSender, UdpTunnel};

use super::{
    member::{Crew, Member},
    target::{Kind, MESSAGE, PROGRESS, Sum, header},
};
use crate::{oracle::delivery, sim::rng::Rng};

/// Between two messages of the echo.
pub(super) const ECHO_EVERY: Duration = Duration::from_millis(10);
/// Between two packets.
const PACKET_EVERY: Duration = Duration::from_millis(20);
/// Packets of one tunnel.
const PACKETS: u64 = 150;
/// Messages of one tunnel, at least.
const MESSAGES: u64 = 200;
/// A message that waits for so many before it to come back: nothing more is sent.
const OUTSTANDING: u64 = 400;
/// What is still on the way after the last packet.
const STRAGGLERS: Duration = Duration::from_millis(700);
const PAUSE: Duration = Duration::from_millis(20);
const CHUNK: usize = 16 * 1024;
/// Transfers: so many bytes at least; up to 2^5 times as many.
const SMALLEST: f64 = 32_768.0;
const DOUBLINGS: f64 = 5.0;
const PACKET_HEADER: usize = 16;

/// Starts all work of a member.
pub(super) fn start(member: &Rc<Member>) {
    let crew = &member.crew;
    crew.spawn(transfers(Rc::clone(member), Kind::Upload));
    crew.spawn(transfers(Rc::clone(member), Kind::Download));
    crew.spawn(echoes(Rc::clone(member)));
    crew.spawn(packets(Rc::clone(member)));
}

/// One transfer after another.
async fn transfers(member: Rc<Member>, kind: Kind) {
    let crew = Rc::clone(&member.crew);
    let board = &crew.board;
    let mut rng = Rng::new(
        crew.seed.wrapping_add(member.index),
        if kind == Kind::Upload {
            "uploads"
        } else {
            "downloads"
        },
    );
    while !board.stopping() {
        let bytes = (SMALLEST * 2f64.powf(rng.unit() * DOUBLINGS)) as u64;
        let label = rng.u64();
        board.note(|tally| tally.transfers_begun += 1);
        let outcome = if kind == Kind::Upload {
            upload(&member, label, bytes).await
        } else {
            download(&member, label, bytes).await
        };
        board.note(|tally| match &outcome {
            Ok(()) => tally.transfers_done += 1,
            Err(_) if board.over() => {}
            Err(_) => tally.transfers_failed += 1,
        });
        if let Err(error) = outcome {
            board.fault(format!(
                "client {}: {kind:?} of {bytes} bytes: {error}",
                member.index
            ));
        }
        crew.at.sleep(PAUSE).await;
    }
}

async fn upload(member: &Rc<Member>, label: u64, bytes: u64) -> Result<(), String> {
    let crew = &member.crew;
    let (mut sender, mut receiver) = member.tcp().await?.split();
    let write = async {
        sender
            .write_all(&header(Kind::Upload, label, bytes))
            .await
            .map_err(|error| error.to_string())?;
        let mut sum = Sum::default();
        let mut chunk = vec![0; CHUNK];
        let mut sent = 0;
        while sent < bytes {
            let size = (bytes - sent).min(CHUNK as u64) as usize;
            let piece = chunk.get_mut(..size).unwrap_or_default();
            delivery::fill(label, sent, piece);
            sum.add(piece);
            sender.write_all(piece).await.map_err(|error| error.to_string())?;
            sent += size as u64;
        }
        sender.finish();
        Ok(sum.value())
    };
    // Writing runs ahead of the target by all buffers on the way: only what it says is progress.
    let read = read_answer(crew, &mut receiver, bytes);
    let (sum, (count, theirs)) = both(write, read).await?;
    let right = (count, theirs) == (bytes, sum);
    crew.board.note(|tally| {
        tally.checksums += 1;
        tally.checksums_wrong += u64::from(!right);
    });
    if right {
        Ok(())
    } else {
        Err(format!("the target's checksum of {count} bytes differs"))
    }
}

/// A dot for each piece the target has read, then its count and checksum.
async fn read_answer(crew: &Crew, receiver: &mut TcpReceiver, bytes: u64) -> Result<(u64, u64), String> {
    let mut dots = bytes / PROGRESS;
    let mut result = Vec::with_capacity(16);
    let mut buffer = [0; 256];
    while result.len() < 16 {
        let read = crew
            .patient("upload", receiver.read(&mut buffer))
            .await?
            .ok_or("the target ended early")?;
        let data = buffer.get(..read).unwrap_or_default();
        let progress = dots.min(read as u64);
        dots -= progress;
        crew.board.note(|tally| {
            tally.up_bytes += progress * PROGRESS;
            let kind = crew.board.present().name;
            tally.kind(kind).up_bytes += progress * PROGRESS;
        });
        result.extend_from_slice(data.get(progress as usize..).unwrap_or_default());
    }
    let word = |from: usize| {
        let bytes = result.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    Ok((word(0), word(8)))
}

/// Both to their end, or the first error.
async fn both<A, B>(
    first: impl Future<Output = Result<A, String>>,
    second: impl Future<Output = Result<B, String>>,
) -> Result<(A, B), String> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(cx)
        {
            match done {
                Ok(value) => one = Some(value),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if other.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(cx)
        {
            match done {
                Ok(value) => other = Some(value),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match (one.take(), other.take()) {
            (Some(a), Some(b)) => Poll::Ready(Ok((a, b))),
            (a, b) => {
                (one, other) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

async fn download(member: &Rc<Member>, label: u64, bytes: u64) -> Result<(), String> {
    let crew = &member.crew;
    let mut tunnel = member.tcp().await?;
    let request = header(Kind::Download, label, bytes);
    crew.patient("request", tunnel.write_all(&request)).await?;
    let mut buffer = vec![0; CHUNK];
    let (mut had, mut fault) = (0u64, None);
    while let Some(read) = crew.patient("download", tunnel.read(&mut buffer)).await? {
        let data = buffer.get(..read).unwrap_or_default();
        fault = fault.or_else(|| delivery::first_fault(label, had, data));
        had += read as u64;
        crew.board.note(|tally| {
            tally.down_bytes += read as u64;
            let kind = crew.board.present().name;
            tally.kind(kind).down_bytes += read as u64;
        });
    }
    tunnel.finish();
    crew.board.note(|tally| {
        tally.checksums += 1;
        tally.checksums_wrong += u64::from(fault.is_some());
    });
    match fault {
        Some(at) => Err(format!("byte {at} is not what was sent")),
        None if had != bytes => Err(format!("{had} bytes came")),
        None => Ok(()),
    }
}

/// An echo in order, one tunnel after another.
async fn echoes(member: Rc<Member>) {
    let crew = Rc::clone(&member.crew);
    while !crew.board.stopping() {
        if let Err(error) = echo(&member).await
            && !crew.board.over()
        {
            crew.board.note(|tally| tally.messages_lost += 1);
            crew.board
                .fault(format!("client {}: echo: {error}", member.index));
            crew.at.sleep(PAUSE).await;
        }
    }
}

async fn echo(member: &Rc<Member>) -> Result<(), String> {
    let crew = &member.crew;
    let (sender, receiver) = member.tcp().await?.split();
    let (sent, back) = (Cell::new(0), Cell::new(0));
    let write = echo_write(member, sender, &sent, &back);
    let read = echo_read(member, receiver, &back);
    let outcome = both(write, read).await;
    let missing = sent.get() - back.get();
    if missing > 0 && !crew.board.over() {
        crew.board.note(|tally| tally.messages_lost += missing);
        return Err(outcome
            .err()
            .unwrap_or_else(|| format!("{missing} messages did not come back")));
    }
    outcome.map(drop)
}

async fn echo_write(
    member: &Member,
    mut sender: TcpSender,
    sent: &Cell<u64>,
    back: &Cell<u64>,
) -> Result<(), String> {
    let crew = &member.crew;
    let shown = |error: transport_api::tunnel::TunnelError| error.to_string();
    sender.write_all(&header(Kind::Echo, 0, 0)).await.map_err(shown)?;
    let mut message = [0; MESSAGE];
    // While somebody watches the echo it is not interrupted.
    while !crew.board.stopping() && (sent.get() < MESSAGES || member.silence.get().is_some()) {
        crew.at.sleep(ECHO_EVERY).await;
        if sent.get() - back.get() >= OUTSTANDING {
            continue;
        }
        let (head, pattern) = message.split_at_mut(16);
        head[..8].copy_from_slice(&sent.get().to_be_bytes());
        head[8..].copy_from_slice(&((crew.ms() * 1000.0) as u64).to_be_bytes());
        delivery::fill(sent.get(), 0, pattern);
        sent.set(sent.get() + 1);
        crew.board.note(|tally| tally.messages_sent += 1);
        sender.write_all(&message).await.map_err(shown)?;
    }
    sender.finish();
    Ok(())
}

async fn echo_read(member: &Member, mut receiver: TcpReceiver, back: &Cell<u64>) -> Result<(), String> {
    let crew = &member.crew;
    let mut had = Vec::new();
    let mut buffer = [0; 4096];
    while let Some(read) = crew.patient("echo", receiver.read(&mut buffer)).await? {
        had.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let whole = had.len() / MESSAGE * MESSAGE;
        for message in had.get(..whole).unwrap_or_default().chunks_exact(MESSAGE) {
            check_message(member, message, back.get());
            back.set(back.get() + 1);
        }
        had.drain(..whole);
    }
    Ok(())
}

fn check_message(member: &Member, message: &[u8], wanted: u64) {
    let board = &member.crew.board;
    let word = |from: usize| {
        let bytes = message
            .get(from..from + 8)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    let (number, sent_us) = (word(0), word(8));
    let intact = delivery::first_fault(number, 0, message.get(16..).unwrap_or_default()).is_none();
    board.note(|tally| {
        tally.messages_back += 1;
        tally.bytes_wrong += u64::from(!intact);
        // A message that is broken says nothing about its place.
        tally.order_broken += u64::from(intact && number != wanted);
    });
    if intact && number != wanted {
        board.fault(format!(
            "client {}: message {number} came where {wanted} was due",
            member.index
        ));
    } else if !intact {
        board.fault(format!(
            "client {}: message {wanted} is not what was sent",
            member.index
        ));
    } else {
        member.echoed(member.crew.ms() - sent_us as f64 / 1000.0);
    }
}

/// Packets through CONNECT-UDP and back, one tunnel after another.
async fn packets(member: Rc<Member>) {
    let crew = Rc::clone(&member.crew);
    let mut rng = Rng::new(crew.seed.wrapping_add(member.index), "packets");
    while !crew.board.stopping() {
        let outcome = match member.udp().await {
            Ok(tunnel) => packet_tunnel(&member, &tunnel, &mut rng).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome
            && !crew.board.over()
        {
            crew.board
                .fault(format!("client {}: packets: {error}", member.index));
            crew.at.sleep(PAUSE).await;
        }
    }
}

async fn packet_tunnel(member: &Rc<Member>, tunnel: &UdpTunnel, rng: &mut Rng) -> Result<(), String> {
    let crew = &member.crew;
    let done = Cell::new(false);
    let write = async {
        let outcome = packet_write(crew, &tunnel.sender(), rng).await;
        crew.at.sleep(STRAGGLERS).await;
        done.set(true);
        outcome
    };
    let mut seen = vec![false; PACKETS as usize];
    let mut latest = 0;
    let read = async {
        while !done.get() {
            let Ok(packet) = crew.at.timeout(Duration::from_millis(50), tunnel.recv()).await else {
                continue;
            };
            let packet = packet.map_err(|error| error.to_string())?;
            check_packet(crew, &packet, &mut seen, &mut latest);
        }
        Ok(())
    };
    both(write, read).await.map(drop)
}

async fn packet_write(crew: &Crew, sender: &UdpSender, rng: &mut Rng) -> Result<(), String> {
    for number in 0..PACKETS {
        if crew.board.stopping() {
            break;
        }
        crew.at.sleep(PACKET_EVERY).await;
        let size = 200 + rng.below(800) as usize;
        let mut packet = vec![0; size];
        packet[..8].copy_from_slice(&number.to_be_bytes());
        let check = (size as u64).to_be_bytes();
        packet[8..PACKET_HEADER].copy_from_slice(&check);
        delivery::fill(number, 0, &mut packet[PACKET_HEADER..]);
        let present = crew.board.present();
        crew.board.note(|tally| {
            tally.packets_sent += 1;
            let kind = tally.kind(present.name);
            kind.packets_sent += 1;
            kind.packets_expected += present.survives;
        });
        // UDP promises nothing: what is dropped here is missing at the end.
        let _ = sender.send(&packet);
    }
    Ok(())
}

fn check_packet(crew: &Crew, packet: &[u8], seen: &mut [bool], latest: &mut u64) {
    let board = &crew.board;
    let kind = board.present().name;
    let head = packet.split_first_chunk::<8>();
    let parsed = head.and_then(|(number, rest)| {
        let (size, pattern) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        let right = u64::from_be_bytes(*size) == packet.len() as u64
            && delivery::first_fault(number, 0, pattern).is_none();
        right.then_some(number)
    });
    let slot = parsed.and_then(|number| Some((number, seen.get_mut(number as usize)?)));
    let Some((number, slot)) = slot else {
        board.note(|tally| tally.bytes_wrong += 1);
        return board.fault("a packet is not what was sent".into());
    };
    let twice = std::mem::replace(slot, true);
    let late = number < *latest;
    *latest = number.max(*latest);
    board.note(|tally| {
        tally.packets_twice += u64::from(twice);
        tally.packets_late += u64::from(late);
        tally.packets_back += u64::from(!twice);
        tally.kind(kind).packets_back += u64::from(!twice);
    });
    if twice {
        board.fault(format!("packet {number} came twice"));
    }
}
