//! A single-threaded executor over `mio`: tasks, timers, TCP and UDP sockets, TUN devices.
//!
//! The relay service and a client's local listeners live on one thread each, inside one [`Loop`]. Tasks need not be
//! `Send`; wakers may be used from any thread, so a task can wait for a transport handle as well as for a socket.
//!
//! A driver may live here as well, as a guest ([`Endpoint::bind_on`](crate::Endpoint::bind_on)): what it hands to tasks, and they to it, then
//! changes no thread.
//!
//! One turn of the loop: poll tasks that were woken (a bounded batch) → guests have their turn → wait for readiness, a timer or
//! a wake-up from another thread → wake whom it concerns. Nothing here allocates per poll.

mod batch;
pub(crate) mod guest;
mod io;
mod net;
pub(crate) mod selector;
mod task;
mod timer;
mod tun;

use std::cell::Cell;
use std::future::Future;
use std::io as stdio;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(crate) use batch::BatchSocket;
pub use net::{TcpListener, TcpStream, UdpSocket};
pub use task::{LoopFull, yield_now};
pub(crate) use timer::now;
pub use timer::{Elapsed, Sleep};
pub use tun::TunDevice;

use guest::{Guest, Guests, Room};
use io::{Sources, WAKE};
use selector::Selector;
use task::{Remote, Tasks};
use timer::Timers;

/// Tasks polled before sockets and timers get their turn.
const BATCH: usize = 128;
/// Rounds of tasks and guests before the kernel is asked again, while guests wake tasks.
const ROUNDS: usize = 4;
/// Readiness events taken from the kernel at once.
const EVENTS: usize = 512;

/// The executor and its reactor. Create it on the thread that runs it.
#[derive(Debug)]
pub struct Loop {
    selector: Selector,
    handle: Handle,
}

/// A clonable reference to a [`Loop`], for its own thread only.
#[derive(Clone, Debug)]
pub struct Handle(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    tasks: Tasks,
    timers: Timers,
    sources: Sources,
    guests: Guests,
    remote: Arc<Remote>,
    /// How long it is looked for events before sleeping.
    busy: Cell<Duration>,
}

impl Loop {
    /// A loop that holds at most `max_tasks` tasks at a time.
    pub fn new(max_tasks: usize) -> stdio::Result<Self> {
        let selector = Selector::new(EVENTS)?;
        let waker = mio::Waker::new(selector.registry(), WAKE)?;
        let remote = Arc::new(Remote::new(waker));
        let shared = Shared {
            tasks: Tasks::new(max_tasks),
            timers: Timers::default(),
            sources: Sources::new(selector.registry().try_clone()?),
            guests: Guests::new(),
            remote,
            busy: Cell::default(),
        };
        Ok(Self {
            selector,
            handle: Handle(Rc::new(shared)),
        })
    }

    /// The handle tasks use to spawn, sleep and open sockets.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `main` is done; other tasks run beside it and are kept for a later `run`.
    pub fn run<F: Future>(&mut self, main: F) -> stdio::Result<F::Output> {
        let mut main = pin!(main);
        let root = self.handle.0.remote.root_task();
        let waker = Waker::from(Arc::clone(&root));
        waker.wake_by_ref();
        let mut rounds = 0;
        loop {
            for _ in 0..BATCH {
                let Some(task) = self.handle.0.remote.next() else {
                    break;
                };
                if Arc::ptr_eq(&task, &root) {
                    if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return Ok(output);
                    }
                } else {
                    self.handle.0.tasks.poll(task.id());
                }
            }
            let shared = &self.handle.0;
            let mut limit = None;
            if !shared.guests.is_empty() {
                shared.remote.unring();
                limit = shared.guests.turn();
                rounds += 1;
                if rounds < ROUNDS && !shared.remote.is_idle() {
                    continue;
                }
                rounds = 0;
            }
            self.wait(limit)?;
        }
    }

    /// Sleeps until something is ready, at most for `limit`, then wakes the tasks concerned.
    fn wait(&mut self, limit: Option<Duration>) -> stdio::Result<()> {
        let shared = &self.handle.0;
        let timeout = if shared.remote.fall_asleep() {
            shared.timers.until_next().into_iter().chain(limit).min()
        } else {
            Some(Duration::ZERO)
        };
        let ready = self.selector.select(timeout, shared.busy.get());
        shared.remote.awake();
        for event in ready? {
            if (guest::FIRST_TOKEN..WAKE.0).contains(&event.token().0) {
                shared.guests.dispatch(event);
            } else {
                shared.sources.dispatch(event);
            }
        }
        shared.timers.fire();
        Ok(())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Tasks hold handles to this loop: take them out first, or the cycle would keep both alive.
        self.handle.0.tasks.clear();
        self.handle.0.guests.clear();
    }
}

impl Handle {
    /// Starts a task on this loop.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> Result<(), LoopFull> {
        self.0.tasks.spawn(&self.0.remote, Box::pin(task))
    }

    /// From now on the loop looks for events for so long, or longer if it did, before it sleeps.
    pub(crate) fn look_for(&self, busy: Duration) {
        self.0.busy.set(self.0.busy.get().max(busy));
    }

    /// Takes in the guest that `make` makes of what it is given.
    pub(crate) fn host<G: Guest + 'static, T>(
        &self,
        make: impl FnOnce(Room) -> stdio::Result<(G, T)>,
    ) -> stdio::Result<T> {
        let room = self.0.guests.room(self.0.sources.registry(), &self.0.remote)?;
        let first_token = room.first_token;
        let (guest, result) = make(room)?;
        self.0.guests.admit(first_token, Box::new(guest));
        // It has not had a turn yet.
        self.0.remote.ring()?;
        Ok(result)
    }

    /// Tasks alive now (the main future of [`Loop::run`] not counted).
    pub fn tasks(&self) -> usize {
        self.0.tasks.len()
    }

    /// Waits for `duration`. Cancel-safe: dropping it forgets the timer.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self.clone(), timer::now() + duration)
    }

    /// Runs `future` for at most `duration`; when the time is over the future is dropped.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep(duration));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
