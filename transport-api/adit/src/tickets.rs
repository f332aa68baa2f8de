//! Resumption tickets as a client keeps them: few, each used once, and gone from the file before it is used.
//!
//! ```text
//! tickets-<client_id | anonymous>, mode 0600:   "ADTK" ‖ version 1 ‖ then for each, oldest first: length u16 ‖ ticket
//! ```
//!
//! They are as secret as a key, and worth less than a connection: what is damaged, expired or of somebody else is dropped.

use std::{fs, io, path::PathBuf};

use transport_api::{ClientId, ClientTicket, RelayId};
use zeroize::Zeroizing;

use crate::{files, keyring::unix_now, state::State};

const HEAD: &[u8; 5] = b"ADTK\x01";
/// Tickets kept of one relay and identity; the oldest go.
const MAX_TICKETS: usize = 4;
/// No file of ours is longer.
const MAX_BYTES: u64 = 65_536;

/// The tickets of one relay for one client.
pub(crate) struct Tickets {
    state: State,
    path: PathBuf,
    relay: RelayId,
    client: Option<ClientId>,
}

impl Tickets {
    /// Those that `relay` gave to `client`, or to nobody in particular.
    pub(crate) fn of(state: &State, relay: RelayId, client: Option<ClientId>) -> Self {
        let name = client.map_or("anonymous".to_string(), |client| client.to_string());
        Self {
            state: state.clone(),
            path: state.file(&format!("tickets-{name}")),
            relay,
            client,
        }
    }

    /// The newest ticket. It is no longer in the file when this returns: whatever happens, it is used once.
    pub(crate) fn take(&self) -> Option<ClientTicket> {
        if !self.path.exists() {
            return None;
        }
        let taken = self.state.hold().and_then(|_held| {
            let mut tickets = self.read();
            let newest = tickets.pop();
            self.write(&tickets)?;
            Ok(newest)
        });
        // One that could not be taken out is not used.
        taken
            .inspect_err(
                |error| tracing::warn!(%error, "no ticket could be taken from {}", self.path.display()),
            )
            .ok()?
    }

    /// Keeps a ticket for another time.
    pub(crate) fn put(&self, ticket: ClientTicket) {
        let kept = self.state.hold().and_then(|_held| {
            let mut tickets = self.read();
            tickets.push(ticket);
            let surplus = tickets.len().saturating_sub(MAX_TICKETS);
            tickets.drain(..surplus);
            self.write(&tickets)
        });
        if let Err(error) = kept {
            tracing::warn!(%error, "a ticket could not be kept in {}", self.path.display());
        }
    }

    /// Those of the file that may still be accepted, oldest first.
    fn read(&self) -> Vec<ClientTicket> {
        let bytes = match self.bytes() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "{} is not used", self.path.display());
                return Vec::new();
            }
        };
        let Some(mut tickets) = parse(&bytes) else {
            tracing::warn!("{} is damaged; its tickets are dropped", self.path.display());
            return Vec::new();
        };
        let now = unix_now();
        tickets.retain(|ticket| ticket.is_fresh(now) && self.is_ours(ticket));
        tickets
    }

    fn bytes(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        if fs::metadata(&self.path)?.len() > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
        }
        fs::read(&self.path).map(Zeroizing::new)
    }

    fn is_ours(&self, ticket: &ClientTicket) -> bool {
        let whose = ticket.enrolled().then_some(ticket.client_id);
        ticket.relay_id == self.relay && whose == self.client
    }

    fn write(&self, tickets: &[ClientTicket]) -> io::Result<()> {
        if tickets.is_empty() {
            return files::remove_if_there(&self.path);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
        bytes.extend_from_slice(HEAD);
        for ticket in tickets {
            let one = ticket.to_bytes();
            let length = u16::try_from(one.len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&one);
        }
        // A ticket that is lost with the power costs a round trip of nobody; the disk is not waited for.
        files::swap(&self.path, 0o600, &bytes)
    }
}

/// All tickets of a file, or nothing if a byte of it is wrong.
fn parse(bytes: &[u8]) -> Option<Vec<ClientTicket>> {
    let mut rest = bytes.strip_prefix(HEAD)?;
    let mut tickets = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (one, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
        tickets.push(ClientTicket::from_bytes(one).ok()?);
        rest = behind;
    }
    (rest.is_empty() && tickets.len() <= MAX_TICKETS).then_some(tickets)
}

#[cfg(test)]
mod tests;
