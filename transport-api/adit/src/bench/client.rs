//! `adit bench client`: opens the connections, runs one workload, reports.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use transport_api::{
    Bundle, ClientTicket, ConnectError, ConnectOptions, Connection, DatagramPolicy, Endpoint, EndpointConfig,
    SuiteChoice, Wait,
    local::{Handle, Loop},
    now,
};

use super::{
    CHUNK, IDLE_TIMEOUT, MAX_TASKS,
    datagrams::{self, Counter},
    protocol::{self, APP, Received, Request},
    report::Figures,
};
use crate::{
    cli::{BenchClient, Cipher, Workload},
    exit::{Code, Context, Failure, Outcome, fail},
    files,
    measure::Usage,
    output,
};

/// Connections opened at the same time while many are being opened.
const OPENING_AT_ONCE: usize = 64;
/// For the last packets to leave.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// A server gives its tickets with its first packets.
const TICKET_LIMIT: Duration = Duration::from_secs(1);
/// `--size` where it is not given.
const DEFAULT_DATAGRAM: usize = 1200;
const DEFAULT_ECHO: usize = 1024;

pub(crate) fn run(options: &BenchClient, as_json: bool) -> Outcome {
    check(options)?;
    let bundle = files::read_bundle(&options.bundle)?;
    crate::bundle::check(&bundle, None).or_fail(Code::Auth, options.bundle.display())?;
    let server = match options.server {
        Some(server) => server,
        None => crate::connect::addresses(&bundle)?[0],
    };
    let mut config = EndpointConfig::client(crate::connect::any_address(server));
    config.transport.congestion = options.cc.into();
    config.transport.idle_timeout = IDLE_TIMEOUT;
    config.transport.datagram_policy = DatagramPolicy::Wait;
    if options.cipher == Cipher::Chacha20 {
        config.transport.has_aes = Some(false);
    }
    if let Some(path) = &options.key_log {
        config.key_log = Some(crate::key_log::open(path, &bundle.relay_id())?);
    }
    let endpoint = Endpoint::bind(config).or_fail(Code::Failed, "socket")?;
    let bench = Rc::new(Bench {
        endpoint,
        bundle,
        server,
        options: options.clone(),
    });
    let mut main = Loop::new(MAX_TASKS).or_fail(Code::Failed, "event loop")?;
    let at = main.handle();
    let figures = main
        .run(bench.clone().work(at))
        .or_fail(Code::Failed, "event loop")??;
    bench.endpoint.close(0, b"");
    // The server hears of it, or it will see our silence.
    let _ = bench.endpoint.wait_idle().wait_timeout(GOODBYE_LIMIT);
    report(&figures, as_json);
    Ok(())
}

fn check(options: &BenchClient) -> Outcome {
    if !(options.seconds > 0.0 && options.seconds <= 86_400.0) {
        return fail(Code::Usage, "--seconds must be above 0 and at most 86400");
    }
    if options.connections == 0 || options.streams == 0 || options.streams > 1000 {
        return fail(
            Code::Usage,
            "--connections must be at least 1, --streams from 1 to 1000",
        );
    }
    if options.reverse && !matches!(options.workload, Workload::Bulk | Workload::Datagrams) {
        return fail(Code::Usage, "--reverse goes with bulk and datagrams");
    }
    if options.resume && options.workload != Workload::Handshakes {
        return fail(Code::Usage, "--resume goes with handshakes");
    }
    if options.size.is_some_and(|size| size == 0 || size > 1 << 20) {
        return fail(Code::Usage, "--size must be from 1 to 1048576");
    }
    Ok(())
}

fn report(figures: &Figures, as_json: bool) {
    let json = figures.json();
    if as_json {
        return output::json_line(&json);
    }
    for (key, value) in json
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
    {
        output::line(format_args!("{key:<26}{value}"));
    }
}

struct Bench {
    endpoint: Endpoint,
    bundle: Bundle,
    server: SocketAddr,
    options: BenchClient,
}

/// What one connection did.
#[derive(Default)]
struct Share {
    received: Received,
    sent: Option<u64>,
}

impl Bench {
    async fn work(self: Rc<Self>, at: Handle) -> Outcome<Figures> {
        let usage = Usage::now();
        let mut figures = match self.options.workload {
            Workload::Handshakes => self.handshakes(&at).await?,
            Workload::Idle => self.idle(&at).await?,
            Workload::Echo => self.echo(&at).await?,
            Workload::Bulk | Workload::Datagrams => self.transfer(&at).await?,
        };
        figures.usage_before = usage;
        figures.offload = Some(self.endpoint.socket_caps());
        Ok(figures)
    }

    fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(self.bundle.clone(), APP);
        options.server = Some(self.server);
        options.suite = match self.options.cipher {
            Cipher::Auto => SuiteChoice::Auto,
            Cipher::Chacha20 => SuiteChoice::ChaCha20Poly1305,
            Cipher::Aes256 => SuiteChoice::Aes256Gcm,
        };
        options
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        self.endpoint.connect(self.connect_options()).await
    }

    /// Opens all connections, a bounded number at a time.
    async fn connect_all(self: &Rc<Self>, at: &Handle) -> Outcome<(Vec<Connection>, Duration)> {
        let want = self.options.connections as usize;
        let begin = now().instant;
        let opened = Rc::new(RefCell::new((Vec::new(), None::<ConnectError>, 0)));
        let mut started = 0;
        while opened.borrow().0.len() < want {
            if let Some(error) = opened.borrow_mut().1.take() {
                return Err(unreachable_server(&error, self.server));
            }
            while started < want && opened.borrow().2 < OPENING_AT_ONCE {
                let (bench, opened) = (Rc::clone(self), Rc::clone(&opened));
                opened.borrow_mut().2 += 1;
                started += 1;
                let open = async move {
                    let result = bench.connect().await;
                    let mut opened = opened.borrow_mut();
                    opened.2 -= 1;
                    match result {
                        Ok(connection) => opened.0.push(connection),
                        Err(error) => opened.1 = Some(error),
                    }
                };
                at.spawn(open).or_fail(Code::Failed, "event loop")?;
            }
            at.sleep(Duration::from_millis(1)).await;
        }
        let connections = std::mem::take(&mut opened.borrow_mut().0);
        Ok((connections, now().instant - begin))
    }

    async fn transfer(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let (connections, opening) = self.connect_all(at).await?;
        let shares = Rc::new(RefCell::new(Vec::new()));
        let failed = Rc::new(Cell::new(None::<String>));
        for connection in &connections {
            let (bench, shares, failed) = (Rc::clone(self), Rc::clone(&shares), Rc::clone(&failed));
            let (connection, inner) = (connection.clone(), at.clone());
            let one = async move {
                match bench.share(&connection, &inner).await {
                    Ok(share) => shares.borrow_mut().push(share),
                    Err(error) => failed.set(Some(error)),
                }
            };
            at.spawn(one).or_fail(Code::Failed, "event loop")?;
        }
        while shares.borrow().len() < connections.len() {
            if let Some(error) = failed.take() {
                return fail(Code::Failed, error);
            }
            at.sleep(Duration::from_millis(2)).await;
        }
        let mut figures = self.figures(&connections, opening);
        for share in shares.borrow().iter() {
            figures.received.bytes += share.received.bytes;
            figures.received.micros = figures.received.micros.max(share.received.micros);
            if self.options.workload == Workload::Datagrams {
                *figures.datagrams_sent.get_or_insert(0) += share.sent.unwrap_or(0);
                *figures.datagrams_delivered.get_or_insert(0) += share.received.datagrams;
            }
        }
        Ok(figures)
    }

    fn figures(&self, connections: &[Connection], opening: Duration) -> Figures {
        let mut figures = Figures {
            workload: Some(workload_name(self.options.workload)),
            seconds: Some(self.options.seconds),
            handshakes: connections.len() as u64,
            handshakes_per_s: Some(connections.len() as f64 / opening.as_secs_f64().max(1e-9)),
            connections: connections.len() as u64,
            failed: Some(0),
            ..Figures::default()
        };
        for connection in connections {
            figures.packets.add(connection);
        }
        figures
    }

    fn request(&self) -> Request {
        let size = self
            .options
            .size
            .unwrap_or(if self.options.workload == Workload::Echo {
                DEFAULT_ECHO
            } else {
                DEFAULT_DATAGRAM
            });
        Request {
            workload: self.options.workload,
            reverse: self.options.reverse,
            streams: self.options.streams as u16,
            size: size as u32,
            run_for: Duration::from_secs_f64(self.options.seconds),
            cc: self.options.cc,
        }
    }

    /// One connection's part of a transfer.
    async fn share(&self, connection: &Connection, at: &Handle) -> Result<Share, String> {
        let request = self.request();
        let (mut ask, mut answer) = connection.open_bi().await.map_err(shown)?;
        ask.write_all(&request.encode()).await.map_err(shown)?;
        let until = now().instant + request.run_for;
        let mut share = Share::default();
        match (request.workload, request.reverse) {
            (Workload::Bulk, false) => self.fill(connection, until, at).await?,
            (Workload::Bulk, true) => share.received = self.drain(connection, until).await?,
            (_, false) => share.sent = Some(datagrams::send(connection, request.size as usize, until).await),
            (_, true) => {
                let counter = Counter::default();
                at.spawn(counter.clone().count(connection.clone()))
                    .map_err(shown)?;
                let sent = protocol::read_exact(&mut answer)
                    .await
                    .map_err(shown)?
                    .map(Received::decode);
                share.sent = Some(sent.ok_or("the server ended early")?.datagrams);
                share.received = counter.settled(at).await;
            }
        }
        // A server that has sent all reads no more.
        if !request.reverse {
            // One that has counted all may say so first; what is amiss shows in its answer.
            let _ = ask.finish();
            let received = protocol::read_exact(&mut answer).await.map_err(shown)?;
            share.received = received.map(Received::decode).ok_or("the server ended early")?;
        }
        Ok(share)
    }

    async fn fill(&self, connection: &Connection, until: Instant, at: &Handle) -> Result<(), String> {
        let running = Rc::new(Cell::new(self.options.streams));
        for _ in 0..self.options.streams {
            let mut stream = connection.open_uni().await.map_err(shown)?;
            let running = Rc::clone(&running);
            let fill = async move {
                let data = vec![0x5a; CHUNK];
                while now().instant < until && stream.write_all(&data).await.is_ok() {}
                // A connection that ended shows itself when the answer is read.
                let _ = stream.finish();
                running.set(running.get() - 1);
            };
            at.spawn(fill).map_err(shown)?;
        }
        while running.get() > 0 {
            at.sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn drain(&self, connection: &Connection, until: Instant) -> Result<Received, String> {
        let mut streams = Vec::new();
        for _ in 0..self.options.streams {
            streams.push(connection.accept_uni().await.map_err(shown)?);
        }
        let mut buffer = vec![0; CHUNK];
        let mut received = Received::default();
        let begin = now().instant;
        // Streams are read in turn: each holds at most its window, so none is starved for long.
        while !streams.is_empty() && now().instant < until {
            let mut open = Vec::with_capacity(streams.len());
            for mut stream in streams {
                if let Some(read) = stream.read(&mut buffer).await.map_err(shown)? {
                    received.bytes += read as u64;
                    open.push(stream);
                }
            }
            streams = open;
        }
        received.micros = (now().instant - begin).as_micros() as u64;
        Ok(received)
    }

    async fn handshakes(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let begin = now().instant;
        let until = begin + Duration::from_secs_f64(self.options.seconds);
        let tally = Rc::new(RefCell::new((latency(), 0u64, self.options.connections)));
        let resumed = Rc::new(Cell::new(0));
        for _ in 0..self.options.connections {
            let (bench, tally, resumed) = (Rc::clone(self), Rc::clone(&tally), Rc::clone(&resumed));
            let inner = at.clone();
            let one = async move {
                let mut ticket = None;
                while now().instant < until {
                    // Without a ticket it only makes ready for one that comes back.
                    let measured = ticket.is_some() || !bench.options.resume;
                    let result = bench.handshake(&mut ticket, &inner).await;
                    let (times, failed, _) = &mut *tally.borrow_mut();
                    match result {
                        Ok((took, came_back)) if measured => {
                            times.saturating_record(took.as_nanos() as u64);
                            resumed.set(resumed.get() + u64::from(came_back));
                        }
                        Ok(_) => {}
                        Err(_) => *failed += 1,
                    }
                }
                tally.borrow_mut().2 -= 1;
            };
            at.spawn(one).or_fail(Code::Failed, "event loop")?;
        }
        while tally.borrow().2 > 0 {
            at.sleep(Duration::from_millis(2)).await;
        }
        let (times, failed, _) = &*tally.borrow();
        if times.is_empty() && self.options.resume && *failed == 0 {
            return fail(Code::Failed, "the server gave no tickets, or none in time");
        }
        if times.is_empty() {
            return fail(Code::Unreachable, silence(self.server));
        }
        let seconds = (now().instant - begin).as_secs_f64();
        let mut figures = self.figures(&[], Duration::from_secs(1));
        figures.handshakes = times.len();
        figures.handshakes_per_s = Some(times.len() as f64 / seconds);
        figures.failed = Some(*failed);
        figures.connections = u64::from(self.options.connections);
        figures.resumed = Some(resumed.get());
        figures.latency = Some(times.clone());
        Ok(figures)
    }

    /// Opens, echoes one byte, closes; the time until the connection stood, and whether it came back with `ticket`. With
    /// `--resume` the next ticket is waited for, outside of that time.
    async fn handshake(
        &self,
        ticket: &mut Option<ClientTicket>,
        at: &Handle,
    ) -> Result<(Duration, bool), String> {
        let mut options = self.connect_options();
        options.ticket = ticket.take();
        let begin = now().instant;
        let connection = self.endpoint.connect(options).await.map_err(shown)?;
        let took = now().instant - begin;
        let (mut ask, mut answer) = connection.open_bi().await.map_err(shown)?;
        ask.write_all(&self.request().encode()).await.map_err(shown)?;
        ask.write_all(&[1]).await.map_err(shown)?;
        ask.finish().map_err(shown)?;
        let echoed: Option<[u8; 1]> = protocol::read_exact(&mut answer).await.map_err(shown)?;
        if self.options.resume
            && let Ok(Ok(next)) = at.timeout(TICKET_LIMIT, connection.tickets()).await
        {
            *ticket = Some(next);
        }
        connection.close(0, b"");
        echoed.map_or_else(
            || Err("the echo is missing".into()),
            |_| Ok((took, connection.resumed())),
        )
    }

    async fn idle(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let before = Usage::now().rss_bytes;
        let (connections, opening) = self.connect_all(at).await?;
        at.sleep(Duration::from_secs_f64(self.options.seconds)).await;
        let mut figures = self.figures(&connections, opening);
        figures.failed = Some(
            connections
                .iter()
                .filter(|connection| connection.close_reason().is_some())
                .count() as u64,
        );
        let grown = Usage::now().rss_bytes.saturating_sub(before);
        figures.rss_per_connection = grown.checked_div(connections.len() as u64);
        Ok(figures)
    }

    async fn echo(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let (connections, opening) = self.connect_all(at).await?;
        let tally = Rc::new(RefCell::new((latency(), 0u64, connections.len(), None::<String>)));
        let begin = now().instant;
        for connection in &connections {
            let (bench, tally, connection) = (Rc::clone(self), Rc::clone(&tally), connection.clone());
            let one = async move {
                let result = bench.ping_pong(&connection, &tally).await;
                tally.borrow_mut().2 -= 1;
                if let Err(error) = result {
                    tally.borrow_mut().3 = Some(error);
                }
            };
            at.spawn(one).or_fail(Code::Failed, "event loop")?;
        }
        while tally.borrow().2 > 0 {
            at.sleep(Duration::from_millis(2)).await;
        }
        let (times, bytes, _, error) = &*tally.borrow();
        if let Some(error) = error {
            return fail(Code::Failed, error);
        }
        let mut figures = self.figures(&connections, opening);
        figures.received = Received {
            bytes: *bytes,
            datagrams: 0,
            micros: (now().instant - begin).as_micros() as u64,
        };
        figures.latency = Some(times.clone());
        Ok(figures)
    }

    async fn ping_pong(&self, connection: &Connection, tally: &RefCell<Tally>) -> Result<(), String> {
        let request = self.request();
        let until = now().instant + request.run_for;
        let (mut ask, mut answer) = connection.open_bi().await.map_err(shown)?;
        ask.write_all(&request.encode()).await.map_err(shown)?;
        let ping = vec![0x5a; request.size as usize];
        let mut pong = vec![0; request.size as usize];
        while now().instant < until {
            let begin = now().instant;
            ask.write_all(&ping).await.map_err(shown)?;
            let mut have = 0;
            while have < pong.len() {
                have += answer
                    .read(&mut pong[have..])
                    .await
                    .map_err(shown)?
                    .ok_or("the echo ended early")?;
            }
            let took = now().instant - begin;
            let (times, bytes, ..) = &mut *tally.borrow_mut();
            times.saturating_record(took.as_nanos() as u64);
            *bytes += pong.len() as u64;
        }
        ask.finish().map_err(shown)
    }
}

/// Latencies, bytes echoed, connections still running, what went wrong.
type Tally = (Histogram<u64>, u64, usize, Option<String>);

/// Nanoseconds up to a minute with three digits.
fn latency() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constant"))
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn workload_name(workload: Workload) -> &'static str {
    match workload {
        Workload::Bulk => "bulk",
        Workload::Datagrams => "datagrams",
        Workload::Handshakes => "handshakes",
        Workload::Idle => "idle",
        Workload::Echo => "echo",
    }
}

fn unreachable_server(error: &ConnectError, server: SocketAddr) -> Failure {
    match error {
        error if crate::connect::is_silence(error) => Failure {
            code: Code::Unreachable,
            message: silence(server),
        },
        other => Failure {
            code: Code::Auth,
            message: format!("{server}: {other}"),
        },
    }
}

fn silence(server: SocketAddr) -> String {
    format!(
        "{server} does not answer: check that the server runs, that its bundle is this one and that UDP passes"
    )
}
