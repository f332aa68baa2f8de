//! Programs of calls on two endpoints over a bad network: nothing panics, what is read is a prefix of what was written,
//! and once the network is well again everything comes to its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use transport_core::{
    Algorithm, Class, CloseReason, ConnectionStats, DatagramOptions, Direction, Event, ReadError, StreamId,
    WriteError,
};

use super::network::{Faults, Network};
use super::{Call, Setup};
use crate::oracle::delivery;
use crate::pair::{Options, Pair, Way, client_address};
use crate::sim::rng::Rng;
use crate::sim::scenario::Link;

/// Silence after which an end gives up; and where nothing shall end by silence.
const IDLE: Duration = Duration::from_secs(30);
const FOREVER: Duration = Duration::from_hours(1);
/// How long the network may be bad in all: less than it takes to believe the peer gone, probes backing off included.
const BAD: Duration = Duration::from_secs(8);
/// How long an address stays after faults, or after another address: each costs a probe that has backed off, and three in
/// a row would honestly take longer than a peer waits.
const SETTLED: Duration = Duration::from_secs(20);
/// How long one step lasts while there are faults: the next timer may be a probe many seconds away.
const BAD_STEP: Duration = Duration::from_millis(100);
/// How long everything may take to arrive once it is well.
const HEALED: Duration = Duration::from_mins(1);
/// What may remain of a connection with nothing to do, beyond what it had at first: blocks kept for reuse.
const REST: usize = (256 * 8192) + (64 << 10);

/// One way of a stream: what its sender wrote and its reader saw.
#[derive(Debug, Default)]
struct Half {
    written: u64,
    finished: bool,
    reset: bool,
    stopped: bool,
    read: u64,
    ended: bool,
}

impl Half {
    fn is_over(&self) -> bool {
        self.ended || self.reset || self.stopped
    }
}

/// Two endpoints, the network between them, and what each knows to be true.
pub struct World {
    pair: Pair,
    network: Rc<RefCell<Network>>,
    /// How long the network may be bad.
    patience: Duration,
    bad: Duration,
    /// Since when the network has been well and the address the same.
    settled: Option<Duration>,
    /// By sender (true: the client) and stream.
    halves: BTreeMap<(bool, u64), Half>,
    /// Messages under way by sender: what may arrive, and how often.
    messages: BTreeMap<(bool, Vec<u8>), u32>,
    sent_messages: [u64; 2],
    serial: u64,
    first_memory: [usize; 2],
    stats: [ConnectionStats; 2],
    closed: bool,
}

fn way(up: bool) -> Way {
    if up { Way::Up } else { Way::Down }
}

impl World {
    /// Ends that give a silent peer up after the usual time, so the network is bad for a short time only.
    pub fn new(setup: &Setup) -> Self {
        Self::build(setup, Algorithm::default(), IDLE, BAD, None)
    }

    /// Ends that never give up, on links that are as bad as their configurations say until they are healed.
    pub fn on_links(setup: &Setup, algorithm: Algorithm, links: [Link; 2]) -> Self {
        Self::build(setup, algorithm, FOREVER, FOREVER, Some(links))
    }

    fn build(
        setup: &Setup,
        algorithm: Algorithm,
        idle: Duration,
        patience: Duration,
        links: Option<[Link; 2]>,
    ) -> Self {
        let mut options = Options::new(u64::from(setup.seed)).with(|transport| {
            transport.aes = setup.aes;
            transport.mtu_search = setup.mtu_search;
            transport.keep_alive = Some(Duration::from_millis(700));
            transport.algorithm = algorithm;
            transport.idle_timeout = idle;
            if setup.small_windows {
                let limits = Arc::make_mut(&mut transport.limits);
                limits.initial_stream_window = 5000;
                limits.initial_connection_window = 8000;
                limits.max_stream_window = 9000;
                limits.max_connection_window = 16_000;
                limits.max_streams_bi = 3;
                limits.max_streams_uni = 2;
                limits.send_buffer = 6000;
                limits.max_send_buffer = 6000;
                limits.send_buffer_total = 15_000;
            }
        });
        options.latency = Duration::from_millis(u64::from(setup.latency_ms % 100) + 1);
        options.skew_ms = setup.skew_ms.into();
        let mut pair = Pair::connected(options);
        pair.recording = false;
        let rng = Rng::new(setup.seed.into(), "programs");
        let network = Rc::new(RefCell::new(Network::new(rng, links)));
        let passes = network.clone();
        pair.hook(move |passing| passes.borrow_mut().befall(passing));
        let first_memory = [true, false].map(|up| pair.sender(way(up)).connection().memory());
        Self {
            pair,
            network,
            patience,
            bad: Duration::ZERO,
            settled: None,
            halves: BTreeMap::new(),
            messages: BTreeMap::new(),
            sent_messages: [0; 2],
            serial: 0,
            first_memory,
            stats: Default::default(),
            closed: false,
        }
    }

    /// Does what a call says.
    pub fn call(&mut self, call: &Call) {
        match *call {
            Call::Network {
                loss,
                reorder,
                duplicate,
                corrupt,
            } if self.bad < self.patience => {
                self.network.borrow_mut().faults = Faults {
                    loss,
                    reorder,
                    duplicate,
                    corrupt: corrupt / 4,
                };
            }
            Call::Network { .. } => {}
            Call::Rebind { .. } if self.is_unsettled() => {}
            Call::Rebind { port } => {
                self.settled = Some(self.pair.elapsed());
                let mut address = client_address();
                address.set_port(50_000 + u16::from(port % 4));
                self.pair.address = address;
            }
            Call::Run { ms } => {
                let end = Duration::from_millis(u64::from(ms) * 4);
                self.pass(|pair| pair.run_for(end));
            }
            Call::Steps { count } => {
                for _ in 0..count % 32 {
                    let bad = self.network.borrow().is_bad();
                    self.pass(|pair| {
                        if bad {
                            pair.run_for(BAD_STEP);
                        } else {
                            pair.step();
                        }
                    });
                }
            }
            ref call if !self.closed => self.apply(call),
            _ => {}
        }
    }

    /// Whether another address now could honestly cost the connection.
    fn is_unsettled(&self) -> bool {
        let recent = |since| self.pair.since(since) < SETTLED;
        self.patience < FOREVER && self.settled.is_some_and(recent)
    }

    fn pass(&mut self, run: impl FnOnce(&mut Pair)) {
        let before = self.pair.elapsed();
        run(&mut self.pair);
        if self.network.borrow().is_bad() {
            self.bad += self.pair.since(before);
            self.settled = Some(self.pair.elapsed());
            if self.bad >= self.patience {
                self.heal();
            }
        }
    }

    /// From now on the network is well.
    pub fn heal(&mut self) {
        self.network.borrow_mut().heal();
    }

    /// Whether somebody has closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn apply(&mut self, call: &Call) {
        match *call {
            Call::Open { up, uni } => {
                let direction = if uni { Direction::Uni } else { Direction::Bi };
                if let Ok(id) = self.pair.sender(way(up)).connection().open(direction) {
                    self.halves.insert((up, id.get()), Half::default());
                    if !uni {
                        self.halves.insert((!up, id.get()), Half::default());
                    }
                }
            }
            Call::Write { up, stream, length } => self.write(up, stream, length),
            Call::Finish { up, stream } => {
                if let Some(id) = self.pick(up, stream) {
                    self.finish(up, id);
                }
            }
            Call::Reset { up, stream } => {
                if let Some(id) = self.pick(up, stream) {
                    let done = self.pair.sender(way(up)).connection().reset(id, 7).is_ok();
                    self.half(up, id).reset |= done;
                }
            }
            Call::Stop { up, stream } => {
                if let Some(id) = self.pick(!up, stream) {
                    let done = self.pair.sender(way(up)).connection().stop(id, 8).is_ok();
                    self.half(!up, id).stopped |= done;
                }
            }
            Call::Read { up, stream, length } => {
                if let Some(id) = self.pick(!up, stream) {
                    self.read(!up, id, usize::from(length));
                }
            }
            Call::Rank { up, stream, class } => {
                if let Some(id) = self.pick(up, stream) {
                    let class = Class::ALL[usize::from(class) % 5];
                    self.pair.sender(way(up)).connection().set_class(id, class);
                }
            }
            Call::Message {
                up,
                length,
                class,
                deadline_ms,
            } => self.message(up, length, class, deadline_ms),
            Call::UpdateKeys { up } => {
                self.pair.sender(way(up)).connection().update_keys();
            }
            Call::Close { up } => {
                let now = self.pair.now(way(up));
                self.pair.sender(way(up)).connection().close(now, 77, b"done");
                self.closed = true;
            }
            _ => {}
        }
    }

    fn pick(&self, sender: bool, which: u8) -> Option<StreamId> {
        let of_sender = self.halves.keys().filter(|key| key.0 == sender);
        let count = of_sender.clone().count();
        (count > 0)
            .then(|| of_sender.clone().nth(usize::from(which) % count))
            .flatten()
            .map(|key| StreamId::from_wire(key.1))
    }

    fn half(&mut self, sender: bool, id: StreamId) -> &mut Half {
        self.halves
            .get_mut(&(sender, id.get()))
            .expect("a half that was opened")
    }

    fn write(&mut self, up: bool, stream: u8, length: u16) {
        let Some(id) = self.pick(up, stream) else { return };
        let from = self.half(up, id).written;
        let mut bytes = vec![0; length.into()];
        delivery::fill(label(up, id), from, &mut bytes);
        let connection = self.pair.sender(way(up)).connection();
        let writable = connection.writable(id);
        match connection.write(id, &bytes) {
            Ok(taken) => {
                assert_eq!(taken, bytes.len().min(writable));
                self.half(up, id).written += taken as u64;
            }
            Err(WriteError::Stopped(code)) => assert!(code == 8 && self.half(up, id).stopped),
            Err(WriteError::Blocked) => assert_eq!(writable, 0),
            Err(_) => {}
        }
    }

    fn finish(&mut self, up: bool, id: StreamId) {
        let done = self.pair.sender(way(up)).connection().finish(id).is_ok();
        self.half(up, id).finished |= done;
    }

    /// Reads at the end opposite to `sender`; whether there was something.
    fn read(&mut self, sender: bool, id: StreamId, length: usize) -> bool {
        let mut space = vec![0; length];
        let connection = self.pair.receiver(way(sender)).connection();
        for direction in Direction::ALL {
            while connection.accept(direction).is_some() {}
        }
        let result = connection.read(id, &mut space);
        let half = self.half(sender, id);
        match result {
            Ok(read) => {
                let fault = delivery::first_fault(label(sender, id), half.read, &space[..read.bytes]);
                assert_eq!(fault, None, "stream {id} of {sender}");
                half.read += read.bytes as u64;
                assert!(half.read <= half.written && !half.ended, "{id}: {half:?}");
                assert!(
                    !read.fin || half.finished && half.read == half.written,
                    "{id}: {half:?}"
                );
                half.ended |= read.fin;
                read.bytes > 0 || read.fin
            }
            Err(ReadError::Reset(code)) => {
                assert!(
                    code == 7 && half.reset || code == 8 && half.stopped,
                    "{id}: {half:?}"
                );
                half.ended = true;
                false
            }
            Err(_) => false,
        }
    }

    fn message(&mut self, up: bool, length: u16, class: u8, deadline_ms: Option<u8>) {
        let now = self.pair.now(way(up));
        let mut bytes = vec![class; usize::from(length % 1500)];
        self.serial += 1;
        for (slot, byte) in bytes.iter_mut().zip(self.serial.to_be_bytes()) {
            *slot = byte;
        }
        let options = DatagramOptions {
            class: Class::ALL[usize::from(class) % 5],
            early: false,
            notify: false,
            deadline: deadline_ms.map(|ms| now.instant + Duration::from_millis(ms.into())),
            flow: None,
        };
        let connection = self.pair.sender(way(up)).connection();
        let most = connection.max_datagram();
        let taken = connection.send_datagram(now, bytes.clone(), options).is_ok();
        assert!(!taken || bytes.len() <= most);
        self.sent_messages[usize::from(up)] += u64::from(taken);
        if taken {
            *self.messages.entry((up, bytes)).or_default() += 1;
        }
    }

    /// What must hold after every call.
    pub fn observe(&mut self) {
        self.pair.settle();
        for up in [true, false] {
            for bytes in self.pair.receiver(way(up)).take_datagrams() {
                let left = self
                    .messages
                    .get_mut(&(up, bytes))
                    .expect("a message nobody sent");
                *left = left.checked_sub(1).expect("a message came twice");
            }
            let end = self.pair.sender(way(up));
            let closes = |event: &&Event| matches!(event, Event::Closed(_));
            assert!(end.events.iter().filter(closes).count() <= 1, "closed twice");
            if let Some(reason) = end.closed() {
                // A close that was lost is not said again to a peer that is silent.
                let asked = matches!(
                    reason,
                    CloseReason::Application { code: 77, .. } | CloseReason::Idle
                );
                assert!(self.closed && asked, "the connection broke: {reason}");
            } else {
                self.stats[usize::from(up)] = end.connection().stats();
            }
        }
        if self.closed {
            return;
        }
        let [down, up] = self.stats;
        for (sender, receiver, messages) in [
            (up, down, self.sent_messages[1]),
            (down, up, self.sent_messages[0]),
        ] {
            assert!(
                receiver.received_packets <= sender.sent_packets,
                "more packets came than were sent: {sender:?} {receiver:?}"
            );
            assert!(sender.spurious <= sender.declared_lost && sender.declared_lost <= sender.sent_packets);
            assert!(sender.datagrams_sent + sender.datagrams_expired + sender.datagrams_dropped <= messages);
            assert!(receiver.datagrams_received + receiver.datagrams_refused <= sender.datagrams_sent);
            assert!(receiver.stream_bytes_read <= sender.stream_bytes_sent);
        }
    }

    /// On a network that is well, every stream comes to its end.
    pub fn finish_all(&mut self) {
        let keys: Vec<(bool, StreamId)> = self
            .halves
            .keys()
            .map(|(sender, id)| (*sender, StreamId::from_wire(*id)))
            .collect();
        // A probe may have backed off to as long as the network was bad.
        let end = self.pair.elapsed() + HEALED + self.bad * 2;
        loop {
            for &(sender, id) in &keys {
                let half = self.half(sender, id);
                if !half.finished && !half.is_over() {
                    self.finish(sender, id);
                }
                while self.read(sender, id, 4000) {}
            }
            self.observe();
            let over = |half: &Half| half.is_over();
            if self.halves.values().all(over) && self.streams() == [0, 0] {
                return;
            }
            let drops = [true, false].map(|up| self.pair.sender(way(up)).endpoint.stats().drops);
            let drops = drops
                .each_ref()
                .map(|drops| drops.iter().filter(|drop| drop.1 > 0).collect::<Vec<_>>());
            let state = (&self.halves, self.stats, drops);
            assert!(self.pair.elapsed() < end, "never over: {state:?}");
            self.pair.run_for(Duration::from_millis(50));
        }
    }

    fn streams(&mut self) -> [usize; 2] {
        [false, true].map(|up| self.pair.sender(way(up)).connection().stats().streams_open)
    }

    /// With nothing to do, nothing is held and nothing is in flight for long.
    pub fn check_rest(&mut self) {
        self.pair.run_for(Duration::from_secs(5));
        self.observe();
        for up in [true, false] {
            let first = self.first_memory[usize::from(!up)];
            let memory = self.pair.sender(way(up)).connection().memory();
            assert!(memory <= first + REST, "{memory} bytes at rest, {first} at first");
        }
    }

    /// A close reaches both ends, and in time nothing is left of the connection.
    pub fn wind_down(&mut self) {
        // A close that was lost shows as silence.
        let idle = if self.patience < FOREVER { IDLE } else { FOREVER };
        self.pair.run_for(idle + Duration::from_secs(90));
        self.observe();
        for up in [true, false] {
            let end = self.pair.sender(way(up));
            assert!(end.closed().is_some(), "nobody was told of the end");
            assert_eq!(end.endpoint.stats().connections, 0, "a connection stays for ever");
        }
    }
}

fn label(up: bool, id: StreamId) -> u64 {
    id.get() << 1 | u64::from(up)
}
