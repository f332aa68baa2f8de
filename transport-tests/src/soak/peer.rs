//! A server without a relay's ways: streams of this harness, for what comes with the first flight, and for comparisons with
//! the simulator, whose application does the same.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use transport_api::{
    Connection, Endpoint, RecvStream, SendStream,
    local::{Handle, Loop},
    now,
};

use crate::oracle::delivery;

/// The application protocol.
pub(super) const APP: &[u8] = b"adit-soak/1";
/// First byte of a stream: what follows comes back.
pub(super) const ECHO: u8 = b'E';
/// First byte of a stream: what follows is counted; the answer says when the last byte came.
pub(super) const COUNT: u8 = b'B';
/// Label of the bytes that are counted.
pub(super) const LABEL: u64 = 1;
const MAX_ECHO: usize = 64 * 1024;
const MAX_TASKS: usize = 16_384;
const CHUNK: usize = 64 * 1024;

/// What a counted stream was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Payload bytes that came.
    pub(super) bytes: u64,
    /// Time of the last, on the clock both sides have in common.
    pub(super) at: Duration,
    /// Whether each was what was sent.
    pub(super) intact: bool,
}

impl Counted {
    fn to_bytes(self) -> [u8; 17] {
        let mut out = [0; 17];
        out[..8].copy_from_slice(&self.bytes.to_be_bytes());
        out[8..16].copy_from_slice(&(self.at.as_nanos() as u64).to_be_bytes());
        out[16] = u8::from(self.intact);
        out
    }

    /// Reads the answer.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let (bytes, rest) = data.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            bytes: u64::from_be_bytes(*bytes),
            at: Duration::from_nanos(u64::from_be_bytes(*at)),
            intact: rest == [1],
        })
    }
}

/// The running server. It stops when this is dropped.
pub(super) struct Peer {
    /// Its endpoint.
    pub(super) endpoint: Endpoint,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Serves the connections of `endpoint`; times are told since `origin`.
    pub(super) fn start(endpoint: Endpoint, origin: Instant) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopped) = (endpoint.clone(), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("soak-peer".into())
            .spawn(move || {
                if let Err(error) = serve(&theirs, &stopped, origin) {
                    eprintln!("the peer stopped: {error}");
                }
            })?;
        Ok(Self {
            endpoint,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.endpoint.close(0, b"");
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

fn serve(endpoint: &Endpoint, stop: &AtomicBool, origin: Instant) -> io::Result<()> {
    let mut local = Loop::new(MAX_TASKS)?;
    let at = local.handle();
    local.run(async {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.accept();
            if stop.load(Ordering::Acquire) || at.spawn(session(at.clone(), connection, origin)).is_err() {
                return;
            }
        }
    })
}

async fn session(at: Handle, connection: Connection, origin: Instant) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        let one = async move {
            // A client that went away is the client's to report.
            let _ = answer(send, recv, origin).await;
        };
        if at.spawn(one).is_err() {
            return;
        }
    }
}

async fn answer(mut send: SendStream, mut recv: RecvStream, origin: Instant) -> Option<()> {
    let mut first = [0; 1];
    recv.read(&mut first).await.ok()??;
    if first == [ECHO] {
        let question = recv.read_to_end(MAX_ECHO).await.ok()?;
        send.write_all(&question).await.ok()?;
    } else if first == [COUNT] {
        let counted = count(&mut recv, origin).await?;
        send.write_all(&counted.to_bytes()).await.ok()?;
    }
    send.finish().ok()?;
    // The last handle closes: stay until the client has everything.
    let _ = send.stopped().await;
    Some(())
}

async fn count(recv: &mut RecvStream, origin: Instant) -> Option<Counted> {
    let mut buffer = vec![0; CHUNK];
    let mut counted = Counted {
        bytes: 0,
        at: Duration::ZERO,
        intact: true,
    };
    while let Some(read) = recv.read(&mut buffer).await.ok()? {
        counted.at = now().instant.saturating_duration_since(origin);
        let data = buffer.get(..read).unwrap_or_default();
        counted.intact &= delivery::first_fault(LABEL, counted.bytes, data).is_none();
        counted.bytes += read as u64;
    }
    Some(counted)
}
