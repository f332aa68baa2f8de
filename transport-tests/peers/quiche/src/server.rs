//! The server: counts or echoes.

use std::time::Instant;

use peers_common::{QUIET, Result, figures::Received, purpose};
use quiche::Connection;

use crate::{STREAM, endpoint::Work};

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

pub struct Server {
    buffer: Vec<u8>,
}

#[derive(Default)]
pub struct State {
    purpose: Option<u8>,
    received: Received,
    /// To be written.
    output: Vec<u8>,
    written: usize,
    /// The client has said all.
    ended: bool,
    answer_at: Option<Instant>,
    finished: bool,
}

impl Server {
    pub fn new() -> Self {
        let buffer = vec![0; BUFFER];
        Self { buffer }
    }

    fn read(&mut self, connection: &mut Connection, state: &mut State) {
        let (mut datagrams, mut bytes) = (0, 0);
        while let Ok(length) = connection.dgram_recv(&mut self.buffer) {
            datagrams += 1;
            bytes += length as u64;
        }
        if datagrams > 0 {
            state.received.add_datagrams(datagrams, bytes);
        }
        while let Ok((length, ended)) = connection.stream_recv(STREAM, &mut self.buffer) {
            let mut data = &self.buffer[..length];
            if state.purpose.is_none() && !data.is_empty() {
                state.purpose = Some(data[0]);
                data = &data[1..];
            }
            match state.purpose {
                Some(purpose::BULK) => state.received.add(data.len() as u64),
                Some(purpose::ECHO) => state.output.extend_from_slice(data),
                _ => {}
            }
            if ended {
                state.ended = true;
                let quiet = state.purpose == Some(purpose::DATAGRAMS);
                state.answer_at = Some(Instant::now() + if quiet { QUIET } else { Default::default() });
            }
        }
    }
}

impl Work for Server {
    type State = State;

    fn turn(&mut self, connection: &mut Connection, state: &mut State) -> Result<bool> {
        self.read(connection, state);
        if state.answer_at.take_if(|at| *at <= Instant::now()).is_some() {
            if state.purpose != Some(purpose::ECHO) {
                state.output.extend_from_slice(&state.received.encode());
            }
            state.finished = true;
        }
        let rest = &state.output[state.written..];
        let finish = state.finished && state.ended;
        if rest.is_empty() && !finish {
            return Ok(false);
        }
        let Ok(written) = connection.stream_send(STREAM, rest, finish) else {
            return Ok(false);
        };
        state.written += written;
        if state.written == state.output.len() {
            state.output.clear();
            state.written = 0;
            // The end is said once.
            state.ended = false;
        }
        Ok(true)
    }

    fn deadline(&self, state: &State) -> Option<Instant> {
        state.answer_at
    }
}
