//! Clients that come back: tickets, and relays that changed meanwhile.

use std::time::Duration;

use transport_core::{ClientTicket, Connect, Direction, Event, StreamId, Ticket};

use super::{Options, Pair, Way};

impl Pair {
    /// Takes a ticket out of what the client was told.
    pub fn take_ticket(&mut self) -> Option<ClientTicket> {
        let events = &mut self.client.events;
        let at = events
            .iter()
            .position(|event| matches!(event, Event::Ticket(_)))?;
        match events.remove(at) {
            Event::Ticket(Ticket(ticket)) => Some(*ticket),
            _ => None,
        }
    }

    /// Forgets what was, and begins a connection with a ticket; with `early` it can be used at once.
    pub fn come_back(&mut self, ticket: ClientTicket, early: bool) {
        for end in [&mut self.client, &mut self.server] {
            (end.handle, end.events) = (None, Vec::new());
        }
        self.record.clear();
        let now = self.client.now(&self.clock);
        let target = Connect {
            resume: Some(ticket),
            early,
            ..self.target()
        };
        let handle = self.client.endpoint.connect(now, target);
        self.client.handle = Some(handle.expect("a good bundle"));
    }

    /// Ends the connection and waits until both ends have forgotten it.
    pub fn hang_up(&mut self) {
        let now = self.now(Way::Up);
        self.client.endpoint.close_all(now, 0, b"");
        self.run_for(Duration::from_secs(5));
    }

    /// Changes the relay's options, as with a new configuration at a restart.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Options)) {
        change(&mut self.options);
        self.restart_server();
    }

    /// What the client's clock is ahead of the relay's from now on, milliseconds.
    pub fn set_skew(&mut self, skew_ms: i64) {
        self.client.skew_ms = skew_ms;
    }

    /// Opens a stream at the client that may go early, and writes all of `request` and the end.
    pub fn ask(&mut self, request: &[u8]) -> StreamId {
        let connection = self.client.connection();
        let id = connection.open(Direction::Bi).expect("a stream");
        connection.allow_early(id);
        assert_eq!(connection.write(id, request), Ok(request.len()));
        connection.finish(id).expect("an open stream");
        id
    }

    /// All that can be read of a stream at the relay, and whether the end came with it.
    pub fn heard(&mut self, id: StreamId) -> (Vec<u8>, bool) {
        let Some(handle) = self.server.handle else {
            return (Vec::new(), false);
        };
        let Some(connection) = self.server.endpoint.connection(handle) else {
            return (Vec::new(), false);
        };
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read) = connection.read(id, &mut buffer) {
            all.extend_from_slice(&buffer[..read.bytes]);
            if read.fin {
                return (all, true);
            }
        }
        (all, false)
    }
}
