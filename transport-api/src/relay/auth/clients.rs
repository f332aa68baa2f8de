//! Clients that the relay knows by the keys they showed in the handshake.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Authenticator, Denied};
use crate::relay::grant::Grant;
use crate::relay::hook::RequestMeta;
use crate::{ClientId, Peer};

/// Client ids, and what each is granted. It may change while the relay runs.
#[derive(Default)]
pub struct ClientList(Mutex<BTreeMap<ClientId, Grant>>);

impl ClientList {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of them get the same.
    pub fn of(clients: impl IntoIterator<Item = ClientId>, grant: &Grant) -> Self {
        let list = clients.into_iter().map(|client| (client, grant.clone()));
        Self(Mutex::new(list.collect()))
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<ClientId, Grant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `client` in, with this for requests from now on.
    pub fn insert(&self, client: ClientId, grant: Grant) {
        self.list().insert(client, grant);
    }

    /// Whether `client` was there; its requests are no longer granted.
    pub fn remove(&self, client: ClientId) -> bool {
        self.list().remove(&client).is_some()
    }
}

impl Authenticator for ClientList {
    fn authenticate(&self, request: &RequestMeta<'_>) -> Result<Option<Grant>, Denied> {
        match request.peer {
            Peer::Client(client) => Ok(self.list().get(client).cloned()),
            _ => Ok(None),
        }
    }
}

/// A list that others change is an authenticator, too.
impl<A: Authenticator> Authenticator for std::sync::Arc<A> {
    fn authenticate(&self, request: &RequestMeta<'_>) -> Result<Option<Grant>, Denied> {
        (**self).authenticate(request)
    }

    fn challenge(&self) -> Option<&str> {
        (**self).challenge()
    }
}

impl fmt::Debug for ClientList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientList({})", self.list().len())
    }
}
