//! The relays that may serve a client: the one it was given, and the one that this names as its successor.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::mpsc::{TryRecvError, sync_channel},
    time::Duration,
};

use transport_api::{Bundle, ClientIdentity, local::Handle, masque::Template, tunnel::Successor};

use super::keeper::{self, Keeper};
use crate::{
    exit::{Code, Context, Outcome, fail},
    keyring::unix_now,
    state::State,
    tickets::Tickets,
};

/// How often a name that is being resolved is looked at.
const STEP: Duration = Duration::from_millis(20);

/// A relay: where it is, and what this machine knows of it.
pub(super) struct Place {
    /// The newest: what the next connection is made with.
    pub(super) bundle: RefCell<Bundle>,
    pub(super) server: SocketAddr,
    pub(super) template: Template,
    /// What the next process begins with; nowhere for tests and demos.
    pub(super) keeper: Option<Keeper>,
    state: Option<State>,
}

impl Place {
    pub(super) fn new(
        bundle: Bundle,
        server: SocketAddr,
        state: Option<State>,
        identity: Option<&ClientIdentity>,
    ) -> Outcome<Rc<Self>> {
        let template = Template::well_known(&server.to_string()).or_fail(Code::Failed, "relay address")?;
        let client = identity.map(ClientIdentity::client_id);
        let start =
            |state: &State| Keeper::start(state.clone(), Tickets::of(state, bundle.relay_id(), client));
        let keeper = state.as_ref().map(start).transpose();
        Ok(Rc::new(Self {
            keeper: keeper.or_fail(Code::Failed, "thread")?,
            bundle: RefCell::new(bundle),
            server,
            template,
            state,
        }))
    }

    /// Keeps a bundle that this relay has proved to be its own, before anything is built on it.
    pub(super) fn remember(&self, bundle: &Bundle) {
        if let Some(state) = &self.state {
            keeper::remember(state, bundle);
        }
    }
}

/// Where to connect: at home, or away.
pub(super) struct Places {
    home: Rc<Place>,
    successor: RefCell<Option<Rc<Place>>>,
    away: Cell<bool>,
}

impl Places {
    pub(super) fn new(home: Rc<Place>) -> Self {
        Self {
            home,
            successor: RefCell::new(None),
            away: Cell::new(false),
        }
    }

    /// Where the next connection goes.
    pub(super) fn now(&self) -> Rc<Place> {
        match &*self.successor.borrow() {
            Some(successor) if self.away.get() => Rc::clone(successor),
            _ => Rc::clone(&self.home),
        }
    }

    pub(super) fn move_to(&self, place: Rc<Place>) {
        *self.successor.borrow_mut() = Some(place);
        self.away.set(true);
    }

    /// Nobody answered: perhaps the other one does.
    pub(super) fn try_other(&self) {
        self.away
            .set(!self.away.get() && self.successor.borrow().is_some());
    }
}

/// Where a successor is to be reached by a socket that reaches `home`. Its bundle must be valid, and no older than what this machine
/// knows of it.
pub(super) async fn find(
    at: &Handle,
    successor: &Successor,
    home: SocketAddr,
    state: Option<&State>,
) -> Outcome<(Bundle, SocketAddr)> {
    let mut bundle = successor.bundle().clone();
    if let Some(state) = state {
        bundle = state.choose(bundle)?;
    }
    bundle
        .check_time(unix_now())
        .or_fail(Code::Auth, "the successor's bundle")?;
    // Names are asked for on a thread: it may take its time.
    let (tell, told) = sync_channel(1);
    let asked = bundle.clone();
    std::thread::Builder::new()
        .name("adit-successor".into())
        .spawn(move || tell.send(super::addresses(&asked)))
        .or_fail(Code::Failed, "thread")?;
    let addresses = loop {
        match told.try_recv() {
            Ok(addresses) => break addresses?,
            Err(TryRecvError::Empty) => at.sleep(STEP).await,
            Err(TryRecvError::Disconnected) => return fail(Code::Failed, "the successor's address"),
        }
    };
    // A socket for IPv6 reaches both.
    let reached = addresses
        .into_iter()
        .find(|address| home.is_ipv6() || address.is_ipv4());
    match reached {
        Some(server) => Ok((bundle, server)),
        None => fail(
            Code::Unreachable,
            "the successor has no address that this socket reaches",
        ),
    }
}
