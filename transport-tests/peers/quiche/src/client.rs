//! The client: one workload, then the JSON line.

use std::time::{Duration, Instant};

use boring::ssl::SslRef;
use peers_common::{
    CHUNK, Result,
    figures::Figures,
    options::{Cipher, Options, Workload},
    purpose,
};
use quiche::Connection;

use crate::{
    STREAM,
    endpoint::{Want, Work},
};

pub struct Client {
    options: Options,
    figures: Figures,
    begin: Instant,
    opened: usize,
    failed: u64,
    latencies: Vec<u64>,
    shook: Duration,
    ended: bool,
    chunk: Vec<u8>,
    buffer: Vec<u8>,
}

pub struct State {
    created: Instant,
    stood: bool,
    until: Instant,
    pinged: Instant,
    missing: usize,
    sent: u64,
    finished: bool,
    answer: Vec<u8>,
    done: bool,
}

impl Default for State {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            created: now,
            stood: false,
            until: now,
            pinged: now,
            missing: 0,
            sent: 0,
            finished: false,
            answer: Vec::new(),
            done: false,
        }
    }
}

impl Client {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            figures: Figures::new(),
            begin: Instant::now(),
            opened: 0,
            failed: 0,
            latencies: Vec::new(),
            shook: Duration::ZERO,
            ended: false,
            chunk: vec![0x5a; CHUNK],
            buffer: vec![0; CHUNK],
        }
    }

    /// Prints what was found out.
    pub fn report(mut self) -> Result<()> {
        match self.options.workload {
            Workload::Handshakes | Workload::Idle => {
                self.figures.shook_hands(self.latencies, self.failed, self.shook);
            }
            _ => self.figures.latencies = self.latencies,
        }
        self.figures.print(&self.options);
        Ok(())
    }

    /// The connection stands: says what it is for.
    fn begin(&mut self, connection: &mut Connection, state: &mut State) -> Result<()> {
        state.stood = true;
        state.until = Instant::now() + self.options.run_for();
        let tls: &mut SslRef = connection.as_mut();
        let cipher = tls.current_cipher().map_or("none", |cipher| cipher.name());
        if cipher.contains("CHACHA20") != (self.options.cipher == Cipher::Chacha) {
            return Err(format!("the cipher is {cipher}").into());
        }
        let words: &[u8] = match self.options.workload {
            Workload::Bulk => &[purpose::BULK],
            Workload::Datagrams => &[purpose::DATAGRAMS],
            Workload::Echo => &[purpose::ECHO],
            Workload::Handshakes => &[purpose::ECHO, 1],
            Workload::Idle => return Ok(()),
        };
        let end = self.options.workload == Workload::Handshakes;
        connection.stream_send(STREAM, words, end)?;
        Ok(())
    }

    fn fill(&mut self, connection: &mut Connection, state: &mut State) -> bool {
        let mut wrote = false;
        if Instant::now() < state.until {
            if self.options.workload == Workload::Bulk {
                while let Ok(1..) = connection.stream_send(STREAM, &self.chunk, false) {
                    wrote = true;
                }
            } else {
                let datagram = &self.chunk[..self.options.size()];
                while connection.dgram_send(datagram).is_ok() {
                    state.sent += 1;
                    wrote = true;
                }
            }
        } else if !state.finished {
            state.finished = connection.stream_send(STREAM, &[], true).is_ok();
            wrote = state.finished;
        }
        wrote
    }

    /// Reads; the answer is complete.
    fn read(&mut self, connection: &mut Connection, state: &mut State) -> bool {
        while let Ok((length, ended)) = connection.stream_recv(STREAM, &mut self.buffer) {
            state.answer.extend_from_slice(&self.buffer[..length]);
            if ended {
                return true;
            }
        }
        false
    }

    fn transfer(&mut self, connection: &mut Connection, state: &mut State) -> Result<bool> {
        let wrote = self.fill(connection, state);
        if !self.read(connection, state) {
            return Ok(wrote);
        }
        if self.options.workload == Workload::Datagrams {
            self.figures.datagrams_sent = Some(state.sent);
        }
        self.figures.counted(&state.answer)?;
        Ok(Self::close(connection, state))
    }

    fn ping_pong(&mut self, connection: &mut Connection, state: &mut State) -> Result<bool> {
        let size = self.options.size();
        self.read(connection, state);
        state.missing -= state.answer.len().min(state.missing);
        state.answer.clear();
        if state.missing > 0 {
            return Ok(false);
        }
        let now = Instant::now();
        if state.sent > 0 {
            self.latencies.push((now - state.pinged).as_nanos() as u64);
        }
        if now >= state.until {
            return Ok(Self::close(connection, state));
        }
        state.sent += 1;
        state.pinged = now;
        state.missing = size;
        // Two of these always fit into the window.
        connection.stream_send(STREAM, &self.chunk[..size], false)?;
        Ok(true)
    }

    fn close(connection: &mut Connection, state: &mut State) -> bool {
        state.done = true;
        let _ = connection.close(true, 0, b"");
        true
    }
}

impl Work for Client {
    type State = State;

    fn turn(&mut self, connection: &mut Connection, state: &mut State) -> Result<bool> {
        if !connection.is_established() || state.done {
            return Ok(false);
        }
        if !state.stood {
            let took = state.created.elapsed();
            self.begin(connection, state)?;
            if matches!(self.options.workload, Workload::Handshakes | Workload::Idle) {
                self.latencies.push(took.as_nanos() as u64);
                self.shook = self.begin.elapsed();
            }
            if self.options.workload != Workload::Idle {
                return Ok(true);
            }
        }
        match self.options.workload {
            Workload::Bulk | Workload::Datagrams => self.transfer(connection, state),
            Workload::Echo => self.ping_pong(connection, state),
            Workload::Idle => Ok(false),
            Workload::Handshakes => {
                self.read(connection, state);
                let echoed = !state.answer.is_empty();
                if echoed {
                    self.shook = self.begin.elapsed();
                    Self::close(connection, state);
                }
                Ok(echoed)
            }
        }
    }

    fn deadline(&self, state: &State) -> Option<Instant> {
        // Only while there is something to be done then.
        (state.stood && !state.finished && self.options.workload != Workload::Idle).then_some(state.until)
    }

    fn ended(&mut self, state: State) {
        match self.options.workload {
            Workload::Handshakes => self.failed += u64::from(!state.done),
            _ => self.ended = true,
        }
    }

    fn want(&mut self, live: usize) -> Want {
        let over = self.begin.elapsed() >= self.options.run_for();
        match self.options.workload {
            Workload::Handshakes if over && live == 0 => Want::End,
            Workload::Handshakes if !over && live < self.options.connections => Want::Another,
            Workload::Idle if self.latencies.len() == self.options.connections => {
                if self.begin.elapsed() >= self.shook + self.options.run_for() {
                    Want::End
                } else {
                    Want::Nothing
                }
            }
            // One after another.
            Workload::Idle if self.latencies.len() == live => Want::Another,
            Workload::Handshakes | Workload::Idle => Want::Nothing,
            _ if self.ended => Want::End,
            _ if self.opened == 0 => {
                self.opened = 1;
                Want::Another
            }
            _ => Want::Nothing,
        }
    }
}
