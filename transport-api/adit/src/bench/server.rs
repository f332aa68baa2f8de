//! `adit bench server`: answers every workload and reports on SIGTERM.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use transport_api::{
    Class, Connection, DatagramPolicy, Endpoint, EndpointConfig, ReadError, RecvStream, SendStream,
    ServerOptions, WriteError,
    local::{Handle, Loop},
    now,
};

use super::{
    CHUNK, DATAGRAM_QUEUE, GOODBYE_LIMIT, IDLE_TIMEOUT, MAX_TASKS,
    crew::Crew,
    datagrams::{self, Counter},
    protocol::{self, APP, Received, Request},
    report::Totals,
};
use crate::{
    cli::{BenchServer, Workload},
    config::cores,
    exit::{Code, Context, Outcome, fail},
    files,
    init::bundle_endpoint,
    keyring::RelayKeys,
    output,
    signals::Signals,
};

/// How often a signal is looked for.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);
/// What an echo reads at a time.
const ECHO: usize = 4 * 1024;
/// Connections at once.
const MAX_CONNECTIONS: usize = 100_000;

pub(crate) fn run(options: &BenchServer) -> Outcome {
    let (dir, listen) = (&options.dir, options.listen);
    if listen.ip().is_unspecified() {
        return fail(
            Code::Usage,
            format!("--listen {listen}: name a concrete address; it goes into the bundle"),
        );
    }
    std::fs::create_dir_all(dir).or_fail(Code::Config, dir.display())?;
    let keys = RelayKeys::generate()?;
    let relay_id = keys.identity.relay_id();
    let signals = Signals::listen()?;
    let statics = keys.statics.clone();
    let mut server = ServerOptions::open(relay_id, statics, 1, APP);
    server.max_connections = MAX_CONNECTIONS;
    let mut config = EndpointConfig::server(listen, server);
    config.transport.provider = crate::provider::chosen(options.provider)?;
    config.workers = match options.workers {
        0 => cores(),
        some => some.into(),
    };
    config.busy_poll = options.busy_poll.time();
    config.transport.idle_timeout = IDLE_TIMEOUT;
    config.transport.datagram_policy = DatagramPolicy::Wait;
    config.transport.limits.datagram_queue_bytes = DATAGRAM_QUEUE;
    if let Some(path) = &options.key_log {
        config.key_log = Some(crate::key_log::open(path, &relay_id)?);
    }
    let mut main = Loop::new(MAX_TASKS).or_fail(Code::Failed, "event loop")?;
    // One worker needs no thread but this.
    let bound = if config.workers == 1 {
        Endpoint::bind_on(config, &main.handle())
    } else {
        Endpoint::bind(config)
    };
    let endpoint = bound.or_fail(Code::Failed, format!("--listen {listen}"))?;
    let address = endpoint.local_addr();
    let path = dir.join("relay.bundle");
    let _ = std::fs::remove_file(&path);
    files::create(
        &path,
        0o644,
        &keys.bundle(bundle_endpoint(&address.ip().to_string(), address.port()))?,
    )?;
    output::tell(format_args!("READY {address}"));
    let totals = serve(&mut main, &endpoint, &signals)?;
    output::json_line(&totals.server_json());
    Ok(())
}

fn serve(main: &mut Loop, endpoint: &Endpoint, signals: &Signals) -> Outcome<Totals> {
    let handle = main.handle();
    let totals = Rc::new(RefCell::new(Totals::default()));
    let accepting = accept(endpoint.clone(), handle.clone(), Rc::clone(&totals));
    handle.spawn(accepting).or_fail(Code::Failed, "event loop")?;
    main.run(async {
        while signals.wait_for(Duration::ZERO).is_none() {
            handle.sleep(SIGNAL_CHECK).await;
        }
        endpoint.close(0, b"");
        // Clients that do not hear of it see our silence.
        let _ = handle.timeout(GOODBYE_LIMIT, endpoint.wait_idle()).await;
    })
    .or_fail(Code::Failed, "event loop")?;
    Ok(totals.borrow().clone())
}

async fn accept(endpoint: Endpoint, at: Handle, totals: Rc<RefCell<Totals>>) {
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.accept();
        totals.borrow_mut().opened();
        let (inner, totals) = (at.clone(), Rc::clone(&totals));
        // A full loop refuses: the connection is dropped and thereby closed.
        let _ = at.spawn(async move {
            let received = work(&connection, &inner).await.unwrap_or_default();
            totals.borrow_mut().received(received);
            connection.closed().await;
            totals.borrow_mut().ended(&connection);
        });
    }
}

/// Why a workload ended early. The client sees its connection end; there is nobody to tell here.
struct Ended;

impl From<ReadError> for Ended {
    fn from(_: ReadError) -> Self {
        Self
    }
}

impl From<WriteError> for Ended {
    fn from(_: WriteError) -> Self {
        Self
    }
}

impl From<transport_api::ConnectionError> for Ended {
    fn from(_: transport_api::ConnectionError) -> Self {
        Self
    }
}

async fn work(connection: &Connection, at: &Handle) -> Result<Received, Ended> {
    let (answer, asked) = connection.accept_bi().await?;
    // A connection that asks for nothing keeps no room for the work.
    Box::pin(comply(connection, answer, asked, at)).await
}

async fn comply(
    connection: &Connection,
    mut answer: SendStream,
    mut asked: RecvStream,
    at: &Handle,
) -> Result<Received, Ended> {
    let Some(request) = protocol::read_exact(&mut asked).await?.and_then(Request::decode) else {
        return Err(Ended);
    };
    connection.set_congestion(request.cc.into());
    let received = match (request.workload, request.reverse) {
        (Workload::Bulk, false) => receive_bulk(connection, usize::from(request.streams), at).await?,
        (Workload::Bulk, true) => {
            send_bulk(connection, usize::from(request.streams), request.run_for, at).await?;
            Received::default()
        }
        (Workload::Datagrams, false) => {
            let counter = Counter::default();
            at.spawn(counter.clone().count(connection.clone()))
                .map_err(|_| Ended)?;
            while asked.read(&mut [0; 16]).await?.is_some() {}
            counter.settled(at).await
        }
        (Workload::Datagrams, true) => {
            let until = now().instant + request.run_for;
            let datagrams = datagrams::send(connection, request.size as usize, until).await;
            Received {
                datagrams,
                ..Received::default()
            }
        }
        (Workload::Mixed, reverse) => {
            let counter = Counter::default();
            at.spawn(counter.clone().count_and_return(connection.clone()))
                .map_err(|_| Ended)?;
            at.spawn(echo_beside(connection.clone())).map_err(|_| Ended)?;
            // The client says when the load begins.
            protocol::read_exact::<1>(&mut asked).await?.ok_or(Ended)?;
            let streams = usize::from(request.streams);
            let bulk = if reverse {
                send_bulk(connection, streams, request.run_for, at).await?;
                Received::default()
            } else {
                receive_bulk(connection, streams, at).await?
            };
            while asked.read(&mut [0; 16]).await?.is_some() {}
            Received {
                datagrams: counter.settled(at).await.datagrams,
                ..bulk
            }
        }
        (Workload::Echo | Workload::Handshakes | Workload::Idle, _) => {
            return echo(&mut answer, &mut asked).await;
        }
    };
    answer.write_all(&received.encode()).await?;
    answer.finish()?;
    Ok(received)
}

async fn echo(answer: &mut SendStream, asked: &mut RecvStream) -> Result<Received, Ended> {
    let mut buffer = vec![0; ECHO];
    let mut received = Received::default();
    while let Some(read) = asked.read(&mut buffer).await? {
        received.bytes += read as u64;
        answer.write_all(&buffer[..read]).await?;
    }
    answer.finish()?;
    Ok(received)
}

/// The echo of [`Workload::Mixed`]: the next stream, for which somebody waits.
async fn echo_beside(connection: Connection) {
    if let Ok((mut answer, mut asked)) = connection.accept_bi().await {
        answer.set_class(Class::Interactive);
        // What is amiss shows at the client.
        let _ = echo(&mut answer, &mut asked).await;
    }
}

async fn receive_bulk(connection: &Connection, streams: usize, at: &Handle) -> Result<Received, Ended> {
    let total = Rc::new(RefCell::new((Received::default(), None::<Instant>)));
    let mut crew = Crew::new(at);
    for _ in 0..streams.max(1) {
        let mut stream = connection.accept_uni().await?;
        let total = Rc::clone(&total);
        crew.start(async move {
            let mut buffer = vec![0; CHUNK];
            while let Ok(Some(read)) = stream.read(&mut buffer).await {
                let now = now().instant;
                let (received, first) = &mut *total.borrow_mut();
                received.bytes += read as u64;
                received.micros = (now - *first.get_or_insert(now)).as_micros() as u64;
            }
            Ok::<_, Ended>(())
        })
        .map_err(|_| Ended)?;
    }
    crew.all().await?;
    let received = total.borrow().0;
    Ok(received)
}

async fn send_bulk(
    connection: &Connection,
    streams: usize,
    run_for: Duration,
    at: &Handle,
) -> Result<(), Ended> {
    let until = now().instant + run_for;
    for _ in 0..streams.max(1) {
        let mut stream = connection.open_uni().await?;
        stream.set_class(Class::Bulk);
        let fill = async move {
            let data = vec![0x5a; CHUNK];
            while now().instant < until && stream.write_all(&data).await.is_ok() {}
            // The client may have closed already.
            let _ = stream.finish();
        };
        at.spawn(fill).map_err(|_| Ended)?;
    }
    at.sleep(run_for).await;
    Ok(())
}
