//! Readiness of sockets, edge-triggered: a direction is ready until an operation would block.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mio::{Interest, Token};

use super::Handle;

/// The token of the loop's own waker.
pub(super) const WAKE: Token = Token(usize::MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Read,
    Write,
}

#[derive(Debug, Default)]
struct Readiness {
    read: Gate,
    write: Gate,
}

/// One direction of one socket, with at most one task waiting for it.
#[derive(Debug, Default)]
struct Gate {
    open: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.open.set(true);
        let waiting = self.waiting.borrow_mut().take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        self.open.set(false);
        let mut waiting = self.waiting.borrow_mut();
        match &mut *waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waiting = Some(cx.waker().clone()),
        }
    }
}

/// All sockets of a loop, by token.
#[derive(Debug)]
pub(super) struct Sources {
    registry: mio::Registry,
    table: RefCell<Vec<Option<Rc<Readiness>>>>,
    free: RefCell<Vec<usize>>,
}

impl Sources {
    pub(super) fn new(registry: mio::Registry) -> Self {
        Self {
            registry,
            table: RefCell::default(),
            free: RefCell::default(),
        }
    }

    pub(super) fn registry(&self) -> &mio::Registry {
        &self.registry
    }

    pub(super) fn dispatch(&self, event: &mio::event::Event) {
        let Some(readiness) = self.table.borrow().get(event.token().0).cloned().flatten() else {
            return;
        };
        let broken = event.is_error();
        if event.is_readable() || event.is_read_closed() || broken {
            readiness.read.open();
        }
        if event.is_writable() || event.is_write_closed() || broken {
            readiness.write.open();
        }
    }

    fn insert(&self, readiness: Rc<Readiness>) -> Token {
        let mut table = self.table.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(table.len());
        match table.get_mut(index) {
            Some(slot) => *slot = Some(readiness),
            None => table.push(Some(readiness)),
        }
        Token(index)
    }

    fn remove(&self, token: Token) {
        if let Some(slot) = self.table.borrow_mut().get_mut(token.0) {
            *slot = None;
            self.free.borrow_mut().push(token.0);
        }
    }
}

/// A socket registered with its loop until it is dropped.
pub(super) struct Registered<S: mio::event::Source> {
    io: S,
    handle: Handle,
    token: Token,
    readiness: Rc<Readiness>,
}

impl<S: mio::event::Source + fmt::Debug> fmt::Debug for Registered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

impl<S: mio::event::Source> Registered<S> {
    pub(super) fn new(handle: &Handle, mut io: S) -> io::Result<Self> {
        let readiness = Rc::new(Readiness::default());
        let sources = &handle.0.sources;
        let token = sources.insert(Rc::clone(&readiness));
        if let Err(e) = sources
            .registry
            .register(&mut io, token, Interest::READABLE | Interest::WRITABLE)
        {
            sources.remove(token);
            return Err(e);
        }
        Ok(Self {
            io,
            handle: handle.clone(),
            token,
            readiness,
        })
    }

    pub(super) fn get(&self) -> &S {
        &self.io
    }

    fn gate(&self, way: Way) -> &Gate {
        match way {
            Way::Read => &self.readiness.read,
            Way::Write => &self.readiness.write,
        }
    }

    /// The last operation found no more to do: the task is woken at the kernel's word, as if it had tried again.
    pub(super) fn rest(&self, way: Way, cx: &Context<'_>) {
        self.gate(way).wait(cx);
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Tries `operation` when the direction may be ready; waits when it would block.
    pub(super) fn poll<T>(
        &self,
        way: Way,
        cx: &Context<'_>,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let gate = self.gate(way);
        if gate.open.get() {
            loop {
                match operation(&self.io) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    result => return Poll::Ready(result),
                }
            }
        }
        gate.wait(cx);
        Poll::Pending
    }
}

impl<S: mio::event::Source> Drop for Registered<S> {
    fn drop(&mut self) {
        let sources = &self.handle.0.sources;
        let _ = sources.registry.deregister(&mut self.io);
        sources.remove(self.token);
    }
}
