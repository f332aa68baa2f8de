//! Several drivers for one relay: how its configuration, its address and its observers become several.

use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex};

use super::shared::{EndpointShared, lock};
use crate::config::EndpointConfig;
use crate::engine::net::UdpSocket;
use crate::engine::{Entropy, KeyLog, KeyLogEntry, Now, Observer, Secret, Worker, trace::Event};

/// What one driver is made of.
pub(super) struct Part {
    pub(super) config: EndpointConfig,
    pub(super) socket: UdpSocket,
    pub(super) worker: Worker,
    /// Which one, and of how many.
    pub(super) number: usize,
    pub(super) workers: usize,
}

/// The parts of an endpoint whose first socket is bound: one, or as many as are asked for, on the same port.
pub(super) fn parts(
    config: EndpointConfig,
    socket: UdpSocket,
    entropy: &mut dyn Entropy,
) -> Result<Vec<Part>> {
    let workers = config.worker_count();
    let key =
        Secret::generate(entropy).map_err(|_| Error::other("the operating system gives no randomness"))?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(socket.share()?);
    }
    let configs = split(config, workers);
    let sockets = std::iter::once(socket).chain(sockets);
    let seats = Worker::team(workers, &key);
    if seats.len() != workers {
        return Err(ErrorKind::InvalidInput.into());
    }
    let each = configs.into_iter().zip(sockets).zip(seats).enumerate();
    Ok(each
        .map(|(number, ((config, socket), worker))| Part {
            config,
            socket,
            worker,
            number,
            workers,
        })
        .collect())
}

/// One for each worker. Whoever watches is told by all of them, one at a time.
fn split(mut config: EndpointConfig, workers: usize) -> Vec<EndpointConfig> {
    if workers == 1 {
        return vec![config];
    }
    let observer = config.observer.take().map(|inner| Arc::new(Mutex::new(inner)));
    let key_log = config.key_log.take().map(|inner| Arc::new(Mutex::new(inner)));
    let one = |_| EndpointConfig {
        listen: config.listen,
        server: config.server.clone(),
        transport: config.transport.clone(),
        observer: observer
            .clone()
            .map(|inner| Box::new(Together(inner)) as Box<dyn Observer + Send>),
        socket_buffer: config.socket_buffer,
        mark: config.mark,
        key_log: key_log
            .clone()
            .map(|inner| Box::new(Together(inner)) as Box<dyn KeyLog + Send>),
        workers: 1,
        busy_poll: config.busy_poll,
    };
    (0..workers).map(one).collect()
}

/// One that all workers tell.
struct Together<T>(Arc<Mutex<T>>);

impl Observer for Together<Box<dyn Observer + Send>> {
    fn on_event(&mut self, now: Now, event: &Event<'_>) {
        lock(&self.0).on_event(now, event);
    }
}

impl KeyLog for Together<Box<dyn KeyLog + Send>> {
    fn connection(&mut self, now: Now, entry: &KeyLogEntry<'_>) {
        lock(&self.0).connection(now, entry);
    }
}

/// Those that run already end, for one of the others could not be started.
pub(super) fn give_up(started: &[Arc<EndpointShared>]) {
    for shared in started {
        lock(&shared.state).unreferenced = true;
        shared.post();
    }
}
