//! `adit bench client`: opens the connections, runs one workload, reports.

mod echo;
mod handshakes;
mod mixed;
mod opening;
mod transfer;

use std::{net::SocketAddr, rc::Rc, time::Duration};

use transport_api::{
    Bundle, Connection, DatagramPolicy, Endpoint, EndpointConfig,
    local::{Handle, Loop},
};

use super::{DATAGRAM_QUEUE, GOODBYE_LIMIT, IDLE_TIMEOUT, MAX_TASKS, protocol::Request, report::Figures};
use crate::{
    cli::{BenchClient, Cipher, Workload},
    exit::{Code, Context, Outcome, fail},
    files,
    measure::Usage,
    output,
};

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
    config.transport.provider = crate::provider::chosen(options.provider)?;
    config.busy_poll = options.busy_poll.time();
    config.transport.idle_timeout = IDLE_TIMEOUT;
    config.transport.datagram_policy = DatagramPolicy::Wait;
    config.transport.limits.datagram_queue_bytes = DATAGRAM_QUEUE;
    if options.cipher == Cipher::Chacha20 {
        config.transport.has_aes = Some(false);
    }
    if let Some(path) = &options.key_log {
        config.key_log = Some(crate::key_log::open(path, &bundle.relay_id())?);
    }
    let mut main = Loop::new(MAX_TASKS).or_fail(Code::Failed, "event loop")?;
    let at = main.handle();
    let endpoint = Endpoint::bind_on(config, &at).or_fail(Code::Failed, "socket")?;
    let bench = Rc::new(Bench {
        endpoint,
        bundle,
        server,
        options: options.clone(),
    });
    let work = async {
        let figures = bench.clone().work(at.clone()).await;
        bench.endpoint.close(0, b"");
        // The server hears of it, or it will see our silence.
        let _ = at.timeout(GOODBYE_LIMIT, bench.endpoint.wait_idle()).await;
        figures
    };
    let figures = main.run(work).or_fail(Code::Failed, "event loop")??;
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
    if options.reverse
        && !matches!(
            options.workload,
            Workload::Bulk | Workload::Datagrams | Workload::Mixed
        )
    {
        return fail(Code::Usage, "--reverse goes with bulk, datagrams and mixed");
    }
    if options.streams != 1 && !matches!(options.workload, Workload::Bulk | Workload::Mixed) {
        return fail(Code::Usage, "--streams goes with bulk and mixed");
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

impl Bench {
    async fn work(self: Rc<Self>, at: Handle) -> Outcome<Figures> {
        let usage = Usage::now();
        let mut figures = match self.options.workload {
            Workload::Handshakes => self.handshakes(&at).await?,
            Workload::Idle => self.idle(&at).await?,
            Workload::Echo => self.echo(&at).await?,
            Workload::Bulk | Workload::Datagrams => self.transfer(&at).await?,
            Workload::Mixed => self.mixed(&at).await?,
        };
        figures.usage_before = usage;
        figures.offload = Some(self.endpoint.socket_caps());
        Ok(figures)
    }

    async fn figures(&self, connections: &[Connection], opening: Duration) -> Figures {
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
            let stats = connection.current_stats().await;
            figures.packets.add(&stats, connection.suite());
        }
        figures
    }

    fn request(&self) -> Request {
        let size = self.options.size.unwrap_or(match self.options.workload {
            Workload::Echo | Workload::Mixed => DEFAULT_ECHO,
            _ => DEFAULT_DATAGRAM,
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
        Workload::Mixed => "mixed",
    }
}

fn silence(server: SocketAddr) -> String {
    format!(
        "{server} does not answer: check that the server runs, that its bundle is this one and that UDP passes"
    )
}
