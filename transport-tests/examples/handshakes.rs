//! What a handshake costs each end, full and with a ticket: `cargo run --release -p transport-tests --example handshakes`.

use std::time::Duration;

use transport_core::{ClientIdentity, RelayStatics};
use transport_crypto::{
    Auth, ClientHello, ClientTicket, Initiator, IssuedTicket, Responder, SeededEntropy, ServerAnswer, Suite,
    TicketGrant, TicketKeys,
};
use transport_tests::pair::{RELAY, client_identity};

const ROUNDS: u32 = 300;
const PARAMS: &[u8] = &[];

/// Least time of the client's two steps, and of the relay's one: what else runs on the machine only adds.
struct Cost {
    start: Duration,
    finish: Duration,
    relay: Duration,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            start: Duration::MAX,
            finish: Duration::MAX,
            relay: Duration::MAX,
        }
    }
}

struct World {
    entropy: SeededEntropy,
    responder: Responder,
    keys: TicketKeys,
    identity: Option<ClientIdentity>,
}

fn timed<T>(least: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = transport_api::now().instant;
    let result = work();
    *least = transport_api::now()
        .instant
        .saturating_duration_since(start)
        .min(*least);
    result
}

impl World {
    fn new(identity: Option<ClientIdentity>) -> Self {
        let relay_id = RELAY.bundle.relay_id();
        let config = RELAY.config(transport_core::Access::Open, b"");
        let statics: RelayStatics = config.epochs.into_iter().next().expect("one epoch").statics;
        let mut entropy = SeededEntropy::new([1; 32]);
        let keys = TicketKeys::generate(relay_id, &mut entropy).expect("seeded");
        Self {
            responder: Responder::new(statics, relay_id, RELAY.bundle.epoch()),
            entropy,
            keys,
            identity,
        }
    }

    /// One handshake, and the ticket it leaves.
    fn run(&mut self, ticket: Option<&ClientTicket>, cost: &mut Cost) -> (ClientTicket, [usize; 2]) {
        let (entropy, identity) = (&mut self.entropy, &self.identity);
        let hello = ClientHello {
            has_aes: false,
            time_ms: 0,
            scid: [1; 9],
            auth: identity.as_ref().map_or(Auth::Anonymous, Auth::Enrolled),
            params: PARAMS,
        };
        let (mut body, mut answer) = (Vec::new(), Vec::new());
        let mut initiator = timed(&mut cost.start, || match ticket {
            Some(ticket) => {
                Initiator::resume(&RELAY.bundle, ticket, false, [1; 8], hello, entropy, &mut body)
                    .map(|(initiator, _)| initiator)
            }
            None => Initiator::start(&RELAY.bundle, [1; 8], hello, entropy, &mut body),
        })
        .expect("a hello");
        let server = timed(&mut cost.relay, || {
            let offered = self
                .responder
                .read([1; 8], &body, Some(&self.keys), 10)
                .expect("our hello");
            let reply = ServerAnswer {
                suite: Suite::ChaCha20Poly1305,
                relay_cids: &[[2; 9], [3; 9]],
                params: PARAMS,
                server_time_ms: 0,
                early_accepted: false,
                retry_token: None,
            };
            offered
                .accept(reply, entropy, &mut answer)
                .expect("an answer")
                .into_session()
        });
        let client = timed(&mut cost.finish, || initiator.finish(&answer, &[])).expect("our answer");
        let grant = TicketGrant {
            serial: 1,
            issued_s: 10,
            lifetime_s: 3600,
            ..TicketGrant::default()
        };
        let content = server.resumption.relay_content(&grant).expect("a relay");
        let issued = IssuedTicket {
            ticket: self.keys.seal(&content, entropy).expect("seeded"),
            serial: 1,
            lifetime_s: 3600,
            max_early: 0,
            rtt_us: 0,
            now_s: 10,
            params: PARAMS,
        };
        let ticket = client
            .session
            .resumption
            .client_ticket(&issued)
            .expect("a client");
        (ticket, [body.len(), answer.len()])
    }
}

fn main() {
    for (name, identity) in [("anonymous", None), ("enrolled", Some(client_identity(1)))] {
        let mut world = World::new(identity);
        let (mut ticket, _) = world.run(None, &mut Cost::default());
        let (mut full, mut resumed) = (Cost::default(), Cost::default());
        let mut bytes = [[0; 2]; 2];
        for _ in 0..ROUNDS {
            (_, bytes[0]) = world.run(None, &mut full);
            (ticket, bytes[1]) = world.run(Some(&ticket), &mut resumed);
        }
        for (kind, cost, [hello, answer]) in [("full", full, bytes[0]), ("resumed", resumed, bytes[1])] {
            eprintln!(
                "{name:<10} {kind:<8} client {:>7.1?}  relay {:>7.1?}  hello {hello} B  answer {answer} B",
                cost.start + cost.finish,
                cost.relay,
            );
        }
    }
}
