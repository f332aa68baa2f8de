//! Clients that come and go: full handshakes, tickets, questions that come with the first flight.

use std::rc::Rc;
use std::time::Duration;

use transport_api::{ClientTicket, Connection, Endpoint, EndpointConfig, local::Handle, now, tunnel::Client};

use super::{
    member::{Crew, loopback},
    peer,
    target::{Kind, MESSAGE, header},
};
use crate::sim::rng::Rng;

const PAUSE: Duration = Duration::from_millis(200);
/// Time for a client to come, ask and be answered, outages included.
const LIMIT: Duration = Duration::from_secs(20);
/// Tickets come a moment after the handshake.
const TICKET_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Full,
    Ticket,
    Early,
}

/// One short-lived client after another.
pub(super) async fn run(crew: Rc<Crew>) {
    let endpoint = match Endpoint::bind(EndpointConfig::client(loopback())) {
        Ok(endpoint) => endpoint,
        Err(error) => return crew.board.fault(format!("churn: {error}")),
    };
    let mut rng = Rng::new(crew.seed, "churn");
    let mut tickets = [None, None];
    while !crew.board.stopping() {
        let way = match rng.below(5) {
            0 => Way::Full,
            1 | 2 => Way::Early,
            _ => Way::Ticket,
        };
        let outages = crew.board.note(|tally| {
            tally.connects += 1;
            tally.outages
        });
        let visit = visit(&crew, &endpoint, way, &mut tickets);
        let outcome = match crew.at.timeout(LIMIT, visit).await {
            Ok(outcome) => outcome,
            Err(_) => Err("not done in time".into()),
        };
        let disturbed =
            crew.board.note(|tally| tally.outages) != outages || crew.board.present().survives == 0.0;
        match outcome {
            Ok(visit) => note(&crew, visit, disturbed),
            Err(error) if !crew.board.over() => {
                crew.board.note(|tally| tally.connects_failed += 1);
                crew.board.fault(format!("a client that came: {error}"));
            }
            Err(_) => {}
        }
        crew.at.sleep(PAUSE).await;
    }
    // Goodbyes are on their way.
    let _ = crew
        .at
        .timeout(Duration::from_millis(300), endpoint.wait_idle())
        .await;
}

/// What became of a visit.
struct Visit {
    resumed: bool,
    early: Option<bool>,
    first_byte_ms: f64,
}

fn note(crew: &Crew, visit: Visit, disturbed: bool) {
    crew.board.note(|tally| {
        tally.connects_resumed += u64::from(visit.resumed);
        tally.early_sent += u64::from(visit.early.is_some());
        tally.early_taken += u64::from(visit.early == Some(true));
        // An outage is not the relay's slowness.
        if !disturbed {
            let times = if visit.resumed {
                &mut tally.reconnect_ms
            } else {
                &mut tally.connect_ms
            };
            times.add(visit.first_byte_ms);
        }
    });
}

type Tickets = [Option<ClientTicket>; 2];

async fn visit(
    crew: &Rc<Crew>,
    endpoint: &Endpoint,
    way: Way,
    tickets: &mut Tickets,
) -> Result<Visit, String> {
    let [at_relay, at_peer] = tickets;
    if way == Way::Early {
        return early(crew, endpoint, at_peer).await;
    }
    let mut options = crew.stage.to_relay(crew.stage.bundle());
    options.ticket = at_relay.take().filter(|_| way == Way::Ticket);
    let begun = now().instant;
    let connection = endpoint
        .connect(options)
        .await
        .map_err(|error| error.to_string())?;
    let client = Client::start(&crew.at, connection.clone()).map_err(|error| error.to_string())?;
    let target = crew.stage.targets.tcp;
    let shown = |error: transport_api::tunnel::TunnelError| error.to_string();
    let mut tunnel = client
        .connect_tcp(&target.ip().to_string(), target.port())
        .await
        .map_err(shown)?;
    crew.board.note(|tally| tally.tunnels_opened += 1);
    tunnel.write_all(&header(Kind::Echo, 0, 0)).await.map_err(shown)?;
    tunnel.write_all(&[0x42; MESSAGE]).await.map_err(shown)?;
    let mut back = [0; MESSAGE];
    tunnel.read(&mut back).await.map_err(shown)?.ok_or("no echo")?;
    let first_byte_ms = (now().instant - begun).as_secs_f64() * 1000.0;
    tunnel.finish();
    *at_relay = next_ticket(&crew.at, &connection).await;
    let resumed = connection.resumed();
    connection.close(0, b"");
    Ok(Visit {
        resumed,
        early: None,
        first_byte_ms,
    })
}

async fn next_ticket(at: &Handle, connection: &Connection) -> Option<ClientTicket> {
    at.timeout(TICKET_LIMIT, connection.tickets()).await.ok()?.ok()
}

/// A question to the peer, with the first flight where there is a ticket.
async fn early(
    crew: &Rc<Crew>,
    endpoint: &Endpoint,
    ticket: &mut Option<ClientTicket>,
) -> Result<Visit, String> {
    let mut options = crew.stage.to_peer();
    options.ticket = ticket.take();
    let hoped = options.ticket.is_some();
    let begun = now().instant;
    let connection = endpoint
        .connect_early(options)
        .await
        .map_err(|error| error.to_string())?;
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.allow_early();
    let question = [[peer::ECHO; 1].as_slice(), b"what goes along"].concat();
    send.write_all(&question)
        .await
        .map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())?;
    let answer = recv.read_to_end(100).await.map_err(|error| error.to_string())?;
    let first_byte_ms = (now().instant - begun).as_secs_f64() * 1000.0;
    if answer != b"what goes along" {
        crew.board.note(|tally| tally.bytes_wrong += 1);
        return Err("the peer's answer is not what was asked".into());
    }
    let taken = connection
        .early_accepted()
        .await
        .map_err(|error| error.to_string())?;
    let resumed = connection.resumed();
    *ticket = next_ticket(&crew.at, &connection).await;
    connection.close(0, b"");
    Ok(Visit {
        resumed,
        early: hoped.then_some(taken),
        first_byte_ms,
    })
}
