//! One relay of the way, as the next connection to it is made: with its newest bundle, and with the tickets it gave.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use transport_api::{
    Bundle, ClientIdentity, ConnectOptions, Connection, EndpointAddress, RelayId, masque::Template,
    relay::APP, tunnel::Successor,
};

use super::keeper::{self, Keeper};
use crate::{
    exit::{Code, Context, Outcome},
    keyring::unix_now,
    state::State,
    tickets::Tickets,
};

/// Who is called, and as whom.
pub(crate) struct Party {
    pub(crate) bundle: Bundle,
    pub(crate) identity: Option<ClientIdentity>,
    /// Where the relay's newest bundle is remembered; nowhere for tests and demos.
    pub(crate) state: Option<State>,
}

/// See the module.
pub(super) struct Hop {
    /// The newest bundle: what the next connection is made with.
    bundle: RefCell<Bundle>,
    identity: Option<ClientIdentity>,
    state: Option<State>,
    /// What the next process begins with; nowhere for tests and demos.
    keeper: Option<Keeper>,
    /// Where the first relay is. The others are found by the relays before them.
    server: Option<SocketAddr>,
}

impl Hop {
    pub(super) fn new(party: Party, server: Option<SocketAddr>) -> Outcome<Rc<Self>> {
        let Party {
            bundle,
            identity,
            state,
        } = party;
        let client = identity.as_ref().map(ClientIdentity::client_id);
        let start =
            |state: &State| Keeper::start(state.clone(), Tickets::of(state, bundle.relay_id(), client));
        let keeper = state.as_ref().map(start).transpose();
        Ok(Rc::new(Self {
            keeper: keeper.or_fail(Code::Failed, "thread")?,
            bundle: RefCell::new(bundle),
            identity,
            state,
            server,
        }))
    }

    pub(super) fn relay_id(&self) -> RelayId {
        self.bundle.borrow().relay_id()
    }

    /// Where the socket reaches it; `None` in a chain, where the relay before finds it.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// How requests to it name it.
    pub(super) fn template(&self) -> Outcome<Template> {
        Template::well_known(&self.place()).or_fail(Code::Failed, "relay address")
    }

    /// The relay it names to go on with, for the same client. Its bundle must be valid, and no older than what this machine knows of it.
    pub(super) fn succeeded_by(&self, successor: &Successor) -> Outcome<Party> {
        let state = self.state.as_ref().map(|_| State::of(&successor.relay_id()));
        let mut bundle = successor.bundle().clone();
        if let Some(state) = &state {
            bundle = state.choose(bundle)?;
        }
        bundle
            .check_time(unix_now())
            .or_fail(Code::Auth, "the successor's bundle")?;
        Ok(Party {
            bundle,
            identity: self.identity.clone(),
            state,
        })
    }

    /// Where it is, for people and for the names of requests.
    pub(super) fn place(&self) -> String {
        let bundle = self.bundle.borrow();
        let first = bundle.endpoints().first();
        match (self.server, first) {
            (Some(server), _) => server.to_string(),
            (None, Some(endpoint)) => match &endpoint.address {
                EndpointAddress::Ip(ip) => SocketAddr::new(*ip, endpoint.port).to_string(),
                EndpointAddress::Name(name) => format!("{name}:{}", endpoint.port),
            },
            (None, None) => "nowhere".into(),
        }
    }

    /// What this client is to the relay, for people.
    pub(super) fn client(&self) -> String {
        match &self.identity {
            Some(identity) => format!("client_id {}", identity.client_id()),
            None => "an anonymous client".to_string(),
        }
    }

    /// The next connection. A ticket that is taken is gone.
    pub(super) fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(self.bundle.borrow().clone(), APP);
        options.identity.clone_from(&self.identity);
        options.server = self.server;
        options.ticket = self.keeper.as_ref().and_then(Keeper::take_ticket);
        options
    }

    /// Keeps the bundle that this relay has proved to be its own, before anything is built on it.
    pub(super) fn remember(&self) {
        if let Some(state) = &self.state {
            keeper::remember(state, &self.bundle.borrow());
        }
    }

    /// Takes the relay's next bundles as they come, until the connection ends.
    pub(super) async fn follow_bundles(self: Rc<Self>, connection: Connection) {
        while let Ok(bundle) = connection.bundle_updates().await {
            if bundle.epoch() > self.bundle.borrow().epoch() {
                tracing::info!(epoch = bundle.epoch(), "the relay's next bundle");
                if let Some(keeper) = &self.keeper {
                    keeper.put_bundle(bundle.clone());
                }
                *self.bundle.borrow_mut() = bundle;
            }
        }
    }

    /// Keeps the relay's tickets as they come, until the connection ends.
    pub(super) async fn follow_tickets(self: Rc<Self>, connection: Connection) {
        while let (Some(keeper), Ok(ticket)) = (&self.keeper, connection.tickets().await) {
            keeper.put_ticket(ticket);
        }
    }
}
