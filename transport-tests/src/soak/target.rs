//! What the relay's tunnels lead to: a TCP and a UDP target on loopback, in a thread of their own. A planted fault sits here.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use transport_api::local::{Handle, Loop, TcpListener, TcpStream, UdpSocket};

use super::plant::Plant;
use crate::oracle::delivery;

/// What a request begins with: kind, label of its bytes, how many.
pub(super) const HEADER: usize = 17;
/// Bytes of an upload after which the target says one byte: that it goes on.
pub(super) const PROGRESS: u64 = 16 * 1024;
/// Length of a message of the ordered echo.
pub(super) const MESSAGE: usize = 128;
/// Of a planted fault: every so many messages or pieces.
const NOW_AND_THEN: u64 = 20;
const CHUNK: usize = 64 * 1024;
const MAX_TASKS: usize = 65_536;

/// What is asked of the TCP target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads, says how it goes, and at the end how many bytes came and their checksum.
    Upload,
    /// Writes the bytes of the label.
    Download,
    /// Sends messages back in order.
    Echo,
    /// Writes bytes without meaning as fast as they go.
    Flood,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Upload => b'U',
            Self::Download => b'D',
            Self::Echo => b'E',
            Self::Flood => b'F',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Upload, Self::Download, Self::Echo, Self::Flood]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }
}

/// The beginning of a request.
pub(super) fn header(kind: Kind, label: u64, bytes: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[0] = kind.byte();
    out[1..9].copy_from_slice(&label.to_be_bytes());
    out[9..].copy_from_slice(&bytes.to_be_bytes());
    out
}

/// A checksum that notices order (FNV-1a): accidents, not forgeries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    /// Adds bytes.
    pub(super) fn add(&mut self, data: &[u8]) {
        for byte in data {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The sum so far.
    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// The running targets. They stop when this is dropped.
pub(super) struct Targets {
    /// The TCP target.
    pub(super) tcp: SocketAddr,
    /// The UDP echo.
    pub(super) udp: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Targets {
    /// Starts both.
    pub(super) fn start(plant: Option<Plant>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let theirs = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("soak-target".into())
            .spawn(move || {
                let outcome = serve(plant, &theirs, &tell);
                if let Err(error) = outcome {
                    eprintln!("the targets stopped: {error}");
                }
            })?;
        let (tcp, udp) = told
            .recv()
            .map_err(|_| io::Error::other("the targets did not start"))?;
        Ok(Self {
            tcp,
            udp,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

type Tell = mpsc::Sender<(SocketAddr, SocketAddr)>;

fn serve(plant: Option<Plant>, stop: &AtomicBool, tell: &Tell) -> io::Result<()> {
    let mut local = Loop::new(MAX_TASKS)?;
    let at = local.handle();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (tcp, udp) = (TcpListener::bind(&at, any)?, UdpSocket::bind(&at, any)?);
    // The other end of the channel waits.
    let _ = tell.send((tcp.local_addr()?, udp.local_addr()?));
    let faulty = Rc::new(Faulty {
        plant,
        counted: Cell::new(0),
        memory: RefCell::default(),
        streams: RefCell::default(),
    });
    at.spawn(echo_packets(udp, Rc::clone(&faulty)))
        .map_err(io::Error::other)?;
    at.spawn(accept(at.clone(), tcp, faulty))
        .map_err(io::Error::other)?;
    local.run(async {
        while !stop.load(Ordering::Acquire) {
            at.sleep(Duration::from_millis(20)).await;
        }
    })
}

/// The planted fault with what it keeps.
struct Faulty {
    plant: Option<Plant>,
    counted: Cell<u64>,
    memory: RefCell<Vec<Vec<u8>>>,
    streams: RefCell<Vec<TcpStream>>,
}

impl Faulty {
    fn is(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// True now and then, when this fault is planted.
    fn strikes(&self, plant: Plant) -> bool {
        if !self.is(plant) {
            return false;
        }
        self.counted.set(self.counted.get() + 1);
        self.counted.get().is_multiple_of(NOW_AND_THEN)
    }

    fn piece(&self, data: &mut [u8]) {
        if self.is(Plant::LeakMemory) {
            self.memory.borrow_mut().push(vec![1; data.len().max(CHUNK / 4)]);
        }
        if self.strikes(Plant::Corrupt)
            && let Some(byte) = data.last_mut()
        {
            *byte ^= 0x55;
        }
    }
}

async fn echo_packets(socket: UdpSocket, faulty: Rc<Faulty>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((read, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let packet = buffer.get_mut(..read).unwrap_or_default();
        faulty.piece(packet);
        // A full socket buffer loses it, as UDP may.
        let _ = socket.try_send_to(packet, from);
    }
}

async fn accept(at: Handle, listener: TcpListener, faulty: Rc<Faulty>) {
    while let Ok((stream, _)) = listener.accept().await {
        if faulty.is(Plant::LeakDescriptors) {
            faulty.streams.borrow_mut().push(stream.clone());
        }
        let faulty = Rc::clone(&faulty);
        let timer = at.clone();
        let one = async move {
            // A client that gave up is not this side's fault; the client notes what it misses.
            let _ = answer(&timer, stream, &faulty).await;
        };
        if at.spawn(one).is_err() {
            return;
        }
    }
}

async fn answer(at: &Handle, stream: TcpStream, faulty: &Faulty) -> io::Result<()> {
    let mut head = [0; HEADER];
    read_exact(&stream, &mut head).await?;
    let word = |from: usize| {
        let bytes = head.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    let (label, bytes) = (word(1), word(9));
    match Kind::of(head[0]) {
        Some(Kind::Upload) => upload(at, &stream, bytes, faulty).await?,
        Some(Kind::Download) => download(&stream, label, bytes, faulty).await?,
        Some(Kind::Echo) => echo(&stream, faulty).await?,
        Some(Kind::Flood) => {
            let chunk = vec![0x5a; CHUNK];
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        None => return Err(io::ErrorKind::InvalidData.into()),
    }
    if faulty.is(Plant::LeakDescriptors) {
        // The peer gets its end nevertheless.
        stream.shutdown(std::net::Shutdown::Write)?;
    }
    Ok(())
}

async fn read_exact(stream: &TcpStream, out: &mut [u8]) -> io::Result<()> {
    let mut have = 0;
    while have < out.len() {
        match stream.read(out.get_mut(have..).unwrap_or_default()).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => have += read,
        }
    }
    Ok(())
}

async fn upload(at: &Handle, stream: &TcpStream, bytes: u64, faulty: &Faulty) -> io::Result<()> {
    let mut sum = Sum::default();
    let mut buffer = vec![0; CHUNK];
    let mut had = 0u64;
    while had < bytes {
        if faulty.is(Plant::Stall) && had > bytes / 2 {
            at.sleep(Duration::from_hours(1)).await;
        }
        let room = (bytes - had).min(CHUNK as u64) as usize;
        let read = stream.read(buffer.get_mut(..room).unwrap_or_default()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let piece = buffer.get_mut(..read).unwrap_or_default();
        faulty.piece(piece);
        sum.add(piece);
        let before = had / PROGRESS;
        had += read as u64;
        let dots = (had / PROGRESS - before) as usize;
        stream.write_all(&vec![b'.'; dots]).await?;
    }
    let result = [had.to_be_bytes(), sum.value().to_be_bytes()].concat();
    stream.write_all(&result).await
}

async fn download(stream: &TcpStream, label: u64, bytes: u64, faulty: &Faulty) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK / 4];
    let mut sent = 0u64;
    while sent < bytes {
        let size = (bytes - sent).min(chunk.len() as u64) as usize;
        let piece = chunk.get_mut(..size).unwrap_or_default();
        delivery::fill(label, sent, piece);
        faulty.piece(piece);
        stream.write_all(piece).await?;
        sent += size as u64;
    }
    Ok(())
}

async fn echo(stream: &TcpStream, faulty: &Faulty) -> io::Result<()> {
    let mut message = vec![0; MESSAGE];
    let mut held: Option<Vec<u8>> = None;
    while read_exact(stream, &mut message).await.is_ok() {
        faulty.piece(&mut message);
        if held.is_none() && faulty.strikes(Plant::Reorder) {
            held = Some(message.clone());
            continue;
        }
        stream.write_all(&message).await?;
        if let Some(earlier) = held.take() {
            stream.write_all(&earlier).await?;
        }
    }
    match held {
        Some(last) => stream.write_all(&last).await,
        None => Ok(()),
    }
}
