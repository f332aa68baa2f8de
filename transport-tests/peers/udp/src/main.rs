//! The floor under every transport: datagrams as full as the link takes, cut and joined by the kernel, each sealed and
//! opened once, and nothing else: no acknowledgements, no repeats, no congestion control. And a bare ping-pong.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use clap::Parser;
use peers_common::{
    MAX_PAYLOAD, QUIET, Result,
    figures::{Figures, RECEIVED_LEN, Received},
    options::{Cipher, End, Options, Workload, ready},
    socket,
};

/// What the kernel takes at once: 44 datagrams of a full packet, 53 of 1200 bytes.
const BATCH_BYTES: usize = 65_000;
/// Four bytes of a counter before, sixteen of a tag behind, 1452 of payload between.
const COUNTER: usize = 4;
const TAG: usize = 16;
/// Marks a question for the count; no sealed datagram is as short.
const QUESTION: &[u8] = b"count?";
/// The answer may be lost behind what the receiver dropped.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let options = Options::parse();
    match (options.end, options.workload) {
        (End::Server, Workload::Echo) => echo(&options),
        (End::Server, _) => receive(&options),
        (End::Client, Workload::Echo) => ping_pong(&options),
        (End::Client, Workload::Bulk) => send(&options, MAX_PAYLOAD),
        (End::Client, Workload::Datagrams) => send(&options, COUNTER + options.size() + TAG),
        _ => Err("a floor knows bulk, datagrams and echo".into()),
    }
}

/// The cipher of the packets, the one that adit would use.
struct Cipherer(Option<LessSafeKey>);

impl Cipherer {
    fn new(cipher: Cipher) -> Result<Self> {
        let algorithm = match cipher {
            Cipher::Aes | Cipher::Aes256 => &AES_256_GCM,
            Cipher::Chacha => &CHACHA20_POLY1305,
            Cipher::None => return Ok(Self(None)),
        };
        let key = UnboundKey::new(algorithm, &[7; 32]).map_err(|_| "key")?;
        Ok(Self(Some(LessSafeKey::new(key))))
    }

    fn nonce(counter: [u8; COUNTER]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - COUNTER..].copy_from_slice(&counter);
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, number: u32, datagram: &mut [u8]) -> Result<()> {
        let (counter, sealed) = datagram.split_at_mut(COUNTER);
        counter.copy_from_slice(&number.to_be_bytes());
        let Some(key) = &self.0 else { return Ok(()) };
        let (body, tag) = sealed.split_at_mut(sealed.len() - TAG);
        let nonce = Self::nonce(number.to_be_bytes());
        let made = key
            .seal_in_place_separate_tag(nonce, Aad::from(counter), body)
            .map_err(|_| "seal")?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }

    /// The bytes of payload; nothing when the datagram is not genuine.
    fn open(&self, datagram: &mut [u8]) -> Option<u64> {
        let (counter, sealed) = datagram.split_at_mut_checked(COUNTER)?;
        let payload = sealed.len().checked_sub(TAG)?;
        if let Some(key) = &self.0 {
            let nonce = Self::nonce((&*counter).try_into().ok()?);
            key.open_in_place(nonce, Aad::from(counter), sealed).ok()?;
        }
        Some(payload as u64)
    }
}

fn receive(options: &Options) -> Result<()> {
    let socket = socket::bind(options.address)?;
    let cipher = Cipherer::new(options.cipher)?;
    let mut buffer = vec![0; socket::BURST];
    let mut received = Received::default();
    ready(options);
    loop {
        let arrived = socket::receive(&socket, &mut buffer, true)?;
        for datagram in buffer[..arrived.length].chunks_mut(arrived.segment) {
            if datagram == QUESTION {
                socket.send_to(&received.encode(), arrived.from)?;
            } else if let Some(bytes) = cipher.open(datagram) {
                received.add_datagrams(1, bytes);
            }
        }
    }
}

fn send(options: &Options, length: usize) -> Result<()> {
    let socket = socket::bind(options.any())?;
    let cipher = Cipherer::new(options.cipher)?;
    let mut batch = vec![0x5a; BATCH_BYTES / length * length];
    let mut number = 0;
    let mut figures = Figures::new();
    let until = Instant::now() + options.run_for();
    while Instant::now() < until {
        for datagram in batch.chunks_mut(length) {
            cipher.seal(number, datagram)?;
            number += 1;
        }
        socket::send(&socket, &batch, length, options.address)?;
    }
    std::thread::sleep(QUIET);
    figures.datagrams_sent = Some(number.into());
    figures.counted(&ask(&socket, options.address)?)?;
    figures.print(options);
    Ok(())
}

fn ask(socket: &UdpSocket, server: SocketAddr) -> Result<[u8; RECEIVED_LEN]> {
    let mut answer = [0; RECEIVED_LEN];
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(QUESTION, server)?;
    socket.recv_from(&mut answer)?;
    Ok(answer)
}

fn echo(options: &Options) -> Result<()> {
    let socket = socket::bind(options.address)?;
    let mut buffer = vec![0; socket::BURST];
    ready(options);
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}

fn ping_pong(options: &Options) -> Result<()> {
    let socket = socket::bind(options.any())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let ping = vec![0x5a; options.size()];
    let mut pong = vec![0; socket::BURST];
    let mut figures = Figures::new();
    let until = Instant::now() + options.run_for();
    while Instant::now() < until {
        let begin = Instant::now();
        socket.send_to(&ping, options.address)?;
        socket.recv_from(&mut pong)?;
        figures.latencies.push(begin.elapsed().as_nanos() as u64);
    }
    figures.print(options);
    Ok(())
}
