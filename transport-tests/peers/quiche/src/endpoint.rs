//! The event loop: datagrams in, a turn of the application, bursts out, sleep.

use std::{
    collections::{BTreeSet, HashMap},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use peers_common::{MAX_PAYLOAD, NAME, Result, socket};
use quiche::{Config, Connection, ConnectionId, Header, RecvInfo, Type};

/// Bytes of a connection id of ours: the number of the session behind a mark.
const ID_LEN: usize = 16;
const MARK: [u8; 8] = *b"peerpeer";
/// Runs of datagrams read, and bursts of one session sent, before the others have their turn.
const READS: usize = 16;
const BURSTS: usize = 8;
/// Datagrams of a burst at most.
const SEGMENTS: usize = 44;
/// A packet from this length on is worth a burst of its length.
const FULL: usize = 1200;
/// Release times closer than this are past when a sleep for them ends.
const SOON: Duration = Duration::from_micros(100);
/// The application is asked at least as often.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// What runs on the connections.
pub trait Work {
    /// Its memory of one connection.
    type State: Default;
    /// Reads and writes what there is; answers whether it wrote. `deadline` is when it wants to be called again.
    fn turn(&mut self, connection: &mut Connection, state: &mut Self::State) -> Result<bool>;
    fn deadline(&self, _state: &Self::State) -> Option<Instant> {
        None
    }
    /// A connection is over.
    fn ended(&mut self, _state: Self::State) {}
    /// What the client wants now, beside `live` connections.
    fn want(&mut self, _live: usize) -> Want {
        Want::Nothing
    }
}

/// See [`Work::want`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Nothing,
    Another,
    End,
}

/// Datagrams that wait for their release time.
struct Held {
    data: Vec<u8>,
    segment: usize,
    to: SocketAddr,
    at: Instant,
}

struct Session<S> {
    connection: Connection,
    state: S,
    held: Option<Held>,
    wake: Option<Instant>,
    touched: bool,
    /// The id that the client invented for the server.
    invented: Option<Vec<u8>>,
}

pub struct Endpoint {
    socket: UdpSocket,
    local: SocketAddr,
    server: Option<SocketAddr>,
    config: Config,
    buffer: Vec<u8>,
}

/// The sessions and who of them has something to do.
struct Sessions<S> {
    all: HashMap<u64, Session<S>>,
    invented: HashMap<Vec<u8>, u64>,
    alarms: BTreeSet<(Instant, u64)>,
    touched: Vec<u64>,
    next: u64,
}

fn id_of(session: u64) -> [u8; ID_LEN] {
    let mut id = [0; ID_LEN];
    id[..8].copy_from_slice(&MARK);
    id[8..].copy_from_slice(&session.to_be_bytes());
    id
}

impl<S: Default> Sessions<S> {
    fn new() -> Self {
        Self {
            all: HashMap::new(),
            invented: HashMap::new(),
            alarms: BTreeSet::new(),
            touched: Vec::new(),
            next: 0,
        }
    }

    fn add(&mut self, connection: Connection, invented: Option<Vec<u8>>) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(id) = &invented {
            self.invented.insert(id.clone(), number);
        }
        let session = Session {
            connection,
            state: S::default(),
            held: None,
            wake: None,
            touched: false,
            invented,
        };
        self.all.insert(number, session);
        self.touch(number);
        number
    }

    fn touch(&mut self, number: u64) {
        if let Some(session) = self.all.get_mut(&number)
            && !std::mem::replace(&mut session.touched, true)
        {
            self.touched.push(number);
        }
    }

    fn find(&self, id: &[u8]) -> Option<u64> {
        match id.strip_prefix(&MARK) {
            Some(number) => Some(u64::from_be_bytes(number.try_into().ok()?)),
            None => self.invented.get(id).copied(),
        }
    }

    /// Whose time has come.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((at, number)) = self.alarms.first().copied()
            && at <= now
        {
            self.alarms.pop_first();
            if let Some(session) = self.all.get_mut(&number) {
                session.wake = None;
                if session.connection.timeout_instant().is_some_and(|due| due <= now) {
                    session.connection.on_timeout();
                }
            }
            self.touch(number);
        }
    }

    fn set_alarm(&mut self, number: u64, wanted: Option<Instant>) {
        let Some(session) = self.all.get_mut(&number) else {
            return;
        };
        let held = session.held.as_ref().map(|held| held.at);
        let at = [session.connection.timeout_instant(), held, wanted]
            .into_iter()
            .flatten()
            .min();
        if at != session.wake {
            if let Some(old) = std::mem::replace(&mut session.wake, at) {
                self.alarms.remove(&(old, number));
            }
            self.alarms.extend(at.map(|at| (at, number)));
        }
    }

    fn remove(&mut self, number: u64) -> Option<S> {
        let session = self.all.remove(&number)?;
        if let Some(at) = session.wake {
            self.alarms.remove(&(at, number));
        }
        if let Some(id) = session.invented {
            self.invented.remove(&id);
        }
        Some(session.state)
    }
}

impl Endpoint {
    pub fn bind(address: SocketAddr, config: Config) -> Result<Self> {
        let socket = socket::bind(address)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            server: None,
            config,
            buffer: vec![0; socket::BURST],
        })
    }

    /// Makes a client of it.
    pub fn aim(&mut self, server: SocketAddr) -> Result<()> {
        self.socket.connect(server)?;
        self.local = self.socket.local_addr()?;
        self.server = Some(server);
        Ok(())
    }

    /// Goes on until the application wants to end.
    pub fn run<W: Work>(&mut self, work: &mut W) -> Result<()> {
        let mut sessions = Sessions::new();
        loop {
            self.receive(&mut sessions);
            sessions.expire();
            for number in std::mem::take(&mut sessions.touched) {
                self.turn(work, &mut sessions, number)?;
            }
            match work.want(sessions.all.len()) {
                Want::End => return Ok(()),
                Want::Another => self.connect(&mut sessions)?,
                Want::Nothing => {}
            }
            if sessions.touched.is_empty() {
                let alarm = sessions.alarms.first();
                let limit = alarm.map_or(LONGEST_SLEEP, |(at, _)| {
                    at.saturating_duration_since(Instant::now()).min(LONGEST_SLEEP)
                });
                socket::wait(&self.socket, limit);
            }
        }
    }

    fn connect<S: Default>(&mut self, sessions: &mut Sessions<S>) -> Result<()> {
        let server = self.server.ok_or("only clients connect")?;
        let id = id_of(sessions.next);
        let id = ConnectionId::from_ref(&id);
        let connection = quiche::connect(Some(NAME), &id, self.local, server, &mut self.config)?;
        sessions.add(connection, None);
        Ok(())
    }

    fn receive<S: Default>(&mut self, sessions: &mut Sessions<S>) {
        for _ in 0..READS {
            let mut buffer = std::mem::take(&mut self.buffer);
            let arrived = socket::receive(&self.socket, &mut buffer, false);
            if let Ok(arrived) = &arrived {
                for datagram in buffer[..arrived.length].chunks_mut(arrived.segment) {
                    self.datagram(sessions, datagram, arrived.from);
                }
            }
            self.buffer = buffer;
            if arrived.is_err() {
                return;
            }
        }
    }

    fn datagram<S: Default>(&mut self, sessions: &mut Sessions<S>, datagram: &mut [u8], from: SocketAddr) {
        let Ok(header) = Header::from_slice(datagram, ID_LEN) else {
            return;
        };
        let number = match sessions.find(&header.dcid) {
            Some(number) => number,
            None if self.server.is_none() && header.ty == Type::Initial => {
                let id = id_of(sessions.next);
                let id = ConnectionId::from_ref(&id);
                let Ok(connection) = quiche::accept(&id, None, self.local, from, &mut self.config) else {
                    return;
                };
                sessions.add(connection, Some(header.dcid.to_vec()))
            }
            None => return,
        };
        if let Some(session) = sessions.all.get_mut(&number) {
            let to = self.local;
            // A packet that cannot be read is dropped; what breaks the protocol closes the connection.
            let _ = session.connection.recv(datagram, RecvInfo { from, to });
            sessions.touch(number);
        }
    }

    fn turn<W: Work>(&mut self, work: &mut W, sessions: &mut Sessions<W::State>, number: u64) -> Result<()> {
        let Some(session) = sessions.all.get_mut(&number) else {
            return Ok(());
        };
        session.touched = false;
        let wrote = work.turn(&mut session.connection, &mut session.state)?;
        let more = self.flush(session)?;
        let again = (wrote || more) && session.held.is_none();
        let wanted = work.deadline(&session.state);
        let connection = &session.connection;
        // Nobody waits out the time in which late packets are answered.
        if connection.is_closed() || connection.is_draining() || connection.local_error().is_some() {
            work.ended(sessions.remove(number).unwrap_or_default());
            return Ok(());
        }
        sessions.set_alarm(number, wanted);
        if again {
            sessions.touch(number);
        }
        Ok(())
    }

    /// Sends what a connection has to send; whether it has more.
    fn flush<S>(&mut self, session: &mut Session<S>) -> Result<bool> {
        if let Some(held) = session.held.take_if(|held| held.at <= Instant::now()) {
            socket::send(&self.socket, &held.data, held.segment, held.to)?;
        }
        if session.held.is_some() {
            return Ok(false);
        }
        for _ in 0..BURSTS {
            let Some((length, segment, info)) = self.burst(&mut session.connection) else {
                return Ok(false);
            };
            let data = &self.buffer[..length];
            if info.at > Instant::now() + SOON {
                session.held = Some(Held {
                    data: data.to_vec(),
                    segment,
                    to: info.to,
                    at: info.at,
                });
                return Ok(false);
            }
            socket::send(&self.socket, data, segment, info.to)?;
        }
        Ok(true)
    }

    /// Fills the buffer with packets of one length, the last maybe shorter: length, length of one, when and where.
    fn burst(&mut self, connection: &mut Connection) -> Option<(usize, usize, quiche::SendInfo)> {
        let room = connection
            .send_quantum()
            .clamp(MAX_PAYLOAD, SEGMENTS * MAX_PAYLOAD);
        let (mut segment, info) = connection.send(&mut self.buffer[..MAX_PAYLOAD]).ok()?;
        let mut length = segment;
        // What follows a short packet would have to be as short.
        while segment >= FULL && length + segment <= room {
            let Ok((written, _)) = connection.send(&mut self.buffer[length..length + segment]) else {
                break;
            };
            length += written;
            if written < segment {
                break;
            }
        }
        segment = segment.max(1);
        Some((length, segment, info))
    }
}
