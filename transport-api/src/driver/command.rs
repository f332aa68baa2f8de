//! From handles to the driver: marks on a mailbox, never payload.
//!
//! What a handle wants stands in the shared state of its stream, connection or endpoint; the mailbox only says *which*
//! of them changed. Each has at most one mark in the box, so the box is bounded by the number of live objects, and a
//! call to the kernel is made only when the driver sleeps.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::carriers::Port;
use super::shared::{ConnectionShared, RecvShared, SendShared, lock};
use crate::engine::Spares;

/// One changed object.
#[derive(Debug)]
pub(crate) enum Mark {
    Endpoint,
    Connection(Arc<ConnectionShared>),
    Send(Arc<SendShared>),
    Recv(Arc<RecvShared>),
    /// Another worker heard something for us.
    Forwarded,
    /// A carrier did.
    Carried(Arc<Port>),
}

/// "This object is in the mailbox."
#[derive(Debug, Default)]
pub(crate) struct Marked(AtomicBool);

impl Marked {
    /// True for the caller that has to post.
    pub(crate) fn set(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// The driver's side: before it looks at the object, so that a later change posts again.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Debug, Default)]
struct Inner {
    marks: Vec<Mark>,
    sleeping: bool,
    ended: bool,
}

/// Wakes the sleeping driver (an eventfd write, in production).
pub(crate) trait Alarm: Send + Sync {
    fn ring(&self) -> io::Result<()>;
}

/// The mailbox of one driver.
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    alarm: Box<dyn Alarm>,
    /// Where the engine and those who forward datagrams leave each other the vectors they have done with.
    pub(crate) spares: Mutex<Spares>,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Mailbox {
    pub(crate) fn new(alarm: Box<dyn Alarm>) -> Self {
        Self {
            inner: Mutex::default(),
            alarm,
            spares: Mutex::default(),
        }
    }

    /// Leaves a mark; false when the driver has ended.
    pub(crate) fn post(&self, mark: Mark) -> bool {
        let ring = {
            let mut inner = lock(&self.inner);
            if inner.ended {
                return false;
            }
            inner.marks.push(mark);
            std::mem::take(&mut inner.sleeping)
        };
        if ring && let Err(error) = self.alarm.ring() {
            // EAGAIN means the counter is full: the driver is being woken anyway.
            tracing::error!(target: "adit::driver", %error, "cannot wake the driver");
        }
        true
    }

    /// Driver: takes what is there.
    pub(crate) fn take(&self, out: &mut Vec<Mark>) {
        let mut inner = lock(&self.inner);
        inner.sleeping = false;
        out.append(&mut inner.marks);
    }

    /// Driver: true when it may sleep; from then on `post` rings.
    pub(crate) fn try_sleep(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.sleeping = inner.marks.is_empty();
        inner.sleeping
    }

    /// Driver: no mark will be read again.
    pub(crate) fn end(&self) {
        let marks = {
            let mut inner = lock(&self.inner);
            inner.ended = true;
            std::mem::take(&mut inner.marks)
        };
        drop(marks);
    }

    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.inner).ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Count(Arc<AtomicUsize>);
    impl Alarm for Count {
        fn ring(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn the_alarm_rings_only_for_a_sleeper_and_once() {
        let rings = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox::new(Box::new(Count(Arc::clone(&rings))));
        assert!(mailbox.post(Mark::Endpoint));
        assert_eq!(rings.load(Ordering::Relaxed), 0);
        assert!(!mailbox.try_sleep(), "marks are waiting");
        let mut marks = Vec::new();
        mailbox.take(&mut marks);
        assert_eq!(marks.len(), 1);
        assert!(mailbox.try_sleep());
        assert!(mailbox.post(Mark::Endpoint));
        assert!(mailbox.post(Mark::Endpoint));
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        mailbox.end();
        assert!(!mailbox.post(Mark::Endpoint));
    }

    #[test]
    fn a_mark_is_set_once_until_cleared() {
        let marked = Marked::default();
        assert!(marked.set());
        assert!(!marked.set());
        marked.clear();
        assert!(marked.set());
    }
}
