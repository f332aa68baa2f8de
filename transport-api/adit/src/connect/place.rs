//! The relays that may serve a client: the one it was given, and the one that this names as its successor.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::mpsc::{TryRecvError, sync_channel},
    time::Duration,
};

use transport_api::{Bundle, local::Handle};

use super::hop::Hop;
use crate::exit::{Code, Context, Outcome, fail};

/// How often a name that is being resolved is looked at.
const STEP: Duration = Duration::from_millis(20);

/// Where to connect: at home, or away.
pub(super) struct Places {
    home: Rc<Hop>,
    successor: RefCell<Option<Rc<Hop>>>,
    away: Cell<bool>,
}

impl Places {
    pub(super) fn new(home: Rc<Hop>) -> Self {
        Self {
            home,
            successor: RefCell::new(None),
            away: Cell::new(false),
        }
    }

    /// Where the next connection goes.
    pub(super) fn now(&self) -> Rc<Hop> {
        match &*self.successor.borrow() {
            Some(successor) if self.away.get() => Rc::clone(successor),
            _ => Rc::clone(&self.home),
        }
    }

    pub(super) fn move_to(&self, hop: Rc<Hop>) {
        *self.successor.borrow_mut() = Some(hop);
        self.away.set(true);
    }

    /// Nobody answered: perhaps the other one does.
    pub(super) fn try_other(&self) {
        self.away
            .set(!self.away.get() && self.successor.borrow().is_some());
    }
}

/// Where a relay is to be reached by a socket that reaches `home`.
pub(super) async fn reach(at: &Handle, bundle: &Bundle, home: SocketAddr) -> Outcome<SocketAddr> {
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
        Some(server) => Ok(server),
        None => fail(
            Code::Unreachable,
            "the successor has no address that this socket reaches",
        ),
    }
}
