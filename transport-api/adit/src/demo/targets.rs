//! What the demo talks to behind the relay: a UDP echo, a TCP checksummer and a small HTTP server, on loopback.

use std::{io, net::SocketAddr};

use transport_api::local::{Handle, TcpListener, TcpStream, UdpSocket};

const CHUNK: usize = 64 * 1024;

/// Addresses of the running targets.
#[derive(Clone, Copy)]
pub(crate) struct Targets {
    pub(crate) echo: SocketAddr,
    pub(crate) checksum: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// Starts all three.
pub(crate) fn start(at: &Handle) -> io::Result<Targets> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let echo = UdpSocket::bind(at, any)?;
    let checksum = TcpListener::bind(at, any)?;
    let http = TcpListener::bind(at, any)?;
    let targets = Targets {
        echo: echo.local_addr()?,
        checksum: checksum.local_addr()?,
        http: http.local_addr()?,
    };
    at.spawn(serve_echo(echo)).map_err(io::Error::other)?;
    serve_tcp(at, checksum, http)?;
    Ok(targets)
}

/// Starts the checksummer and the HTTP server alone.
pub(crate) fn serve_tcp(at: &Handle, checksum: TcpListener, http: TcpListener) -> io::Result<()> {
    at.spawn(serve(at.clone(), checksum, answer_checksum))
        .map_err(io::Error::other)?;
    at.spawn(serve(at.clone(), http, answer_http))
        .map_err(io::Error::other)
}

async fn serve_echo(socket: UdpSocket) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((read, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let _ = socket.try_send_to(buffer.get(..read).unwrap_or_default(), from);
    }
}

async fn serve<F, T>(at: Handle, listener: TcpListener, answer: F)
where
    F: Fn(TcpStream) -> T,
    T: Future<Output = io::Result<()>> + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let answering = answer(stream);
        let one = async move {
            if let Err(error) = answering.await {
                tracing::debug!(%error, "a demo target");
            }
        };
        if at.spawn(one).is_err() {
            return;
        }
    }
}

/// Reads to the end, answers the checksum of what came.
async fn answer_checksum(stream: TcpStream) -> io::Result<()> {
    let mut sum = Checksum::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => sum.add(buffer.get(..read).unwrap_or_default()),
        }
    }
    stream.write_all(&sum.value().to_be_bytes()).await
}

/// `GET /BYTES`: that many bytes of the pattern.
async fn answer_http(stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => head.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
        if head.len() > 8192 {
            return Ok(());
        }
    }
    let path = String::from_utf8_lossy(&head)
        .split_ascii_whitespace()
        .nth(1)
        .map(str::to_string);
    let bytes: u64 = path
        .and_then(|path| path.trim_start_matches('/').parse().ok())
        .unwrap_or(0);
    stream
        .write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut pattern = Pattern::default();
    let mut left = bytes;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let size = left.min(CHUNK as u64) as usize;
        let part = chunk.get_mut(..size).unwrap_or_default();
        pattern.fill(part);
        stream.write_all(part).await?;
        left -= size as u64;
    }
    Ok(())
}

/// Bytes that do not repeat soon, the same from each beginning.
#[derive(Default)]
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
            self.0 += 1;
        }
    }
}

/// FNV-1a, 64 bits: finds accidents, not forgeries; those the transport finds.
pub(crate) struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        let mut sum = Checksum::default();
        sum.add(b"foobar");
        assert_eq!(sum.value(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_pattern_does_not_depend_on_how_it_is_cut() {
        let (mut whole, mut parts) = ([0; 100], [0; 100]);
        Pattern::default().fill(&mut whole);
        let mut pattern = Pattern::default();
        parts.chunks_mut(7).for_each(|part| pattern.fill(part));
        assert_eq!(whole, parts);
    }
}
