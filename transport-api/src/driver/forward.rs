//! From worker to worker: datagrams that the kernel gave to another than the one that has their connection.

use std::sync::{Arc, Mutex};

use super::command::{Mailbox, Mark};
use super::shared::lock;
use crate::engine::{Arrived, Endpoint, Joined, Now};

/// What may wait for one worker: more than comes of one client that moved until it has a lane again. Both bounds are the
/// sum of what all others send it.
const MAX_DATAGRAMS: usize = 1024;
const MAX_BYTES: usize = 1 << 20;

/// Datagrams end to end. The memory is kept, so that handing over allocates nothing in the long run.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How each came, and its length.
    entries: Vec<(Arrived, usize)>,
    /// Nobody reads any more.
    ended: bool,
}

/// Where one worker finds what others heard.
#[derive(Debug)]
pub(crate) struct Inbox {
    mailbox: Arc<Mailbox>,
    queue: Mutex<Queue>,
}

impl Inbox {
    /// Rings `mailbox`.
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self {
            mailbox,
            queue: Mutex::default(),
        }
    }

    /// False: there is no room, or nobody is there; the datagram is dropped.
    fn push(&self, arrived: Arrived, datagram: &[u8]) -> bool {
        let first = {
            let mut queue = lock(&self.queue);
            let full = queue.entries.len() >= MAX_DATAGRAMS || queue.bytes.len() + datagram.len() > MAX_BYTES;
            if full || queue.ended {
                return false;
            }
            queue.bytes.extend_from_slice(datagram);
            queue.entries.push((arrived, datagram.len()));
            queue.entries.len() == 1
        };
        // Whoever finds it empty rings; those who come after are found along with it.
        !first || self.mailbox.post(Mark::Forwarded)
    }

    fn swap(&self, empty: &mut Queue) {
        std::mem::swap(&mut *lock(&self.queue), empty);
    }

    fn end(&self) {
        *lock(&self.queue) = Queue {
            ended: true,
            ..Queue::default()
        };
    }
}

/// One worker's way to the others; alone it has none.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// All of them, by number.
    inboxes: Vec<Arc<Inbox>>,
    own: Option<Arc<Inbox>>,
    taken: Queue,
}

impl Forward {
    /// Worker `number` among those with these inboxes.
    pub(crate) fn new(inboxes: &[Arc<Inbox>], number: usize) -> Self {
        if inboxes.len() < 2 {
            return Self::default();
        }
        Self {
            inboxes: inboxes.to_vec(),
            own: inboxes.get(number).cloned(),
            taken: Queue::default(),
        }
    }

    /// Datagrams arrived together: to the engine, or to the workers that have their connections. How many there were, and how many
    /// are no strangers'.
    pub(super) fn receive(&self, now: Now, engine: &mut Endpoint, joined: Joined<'_>) -> (u32, u32) {
        engine.handle_joined(now, joined, &mut |worker, arrived, datagram| {
            let inbox = self.inboxes.get(usize::from(worker));
            inbox.is_some_and(|inbox| inbox.push(arrived, datagram))
        })
    }

    /// Takes what others heard: at most what fits the inbox at once.
    pub(super) fn take(&mut self, now: Now, engine: &mut Endpoint) {
        let Some(inbox) = &self.own else { return };
        let taken = &mut self.taken;
        inbox.swap(taken);
        let mut rest = taken.bytes.as_mut_slice();
        for (arrived, len) in taken.entries.drain(..) {
            let Some((datagram, behind)) = rest.split_at_mut_checked(len) else {
                break;
            };
            engine.handle_forwarded(now, arrived, datagram);
            rest = behind;
        }
        taken.bytes.clear();
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(inbox) = &self.own {
            inbox.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::driver::command::Alarm;
    use crate::engine::Route;

    struct Silent;
    impl Alarm for Silent {
        fn ring(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn inbox() -> Inbox {
        Inbox::new(Arc::new(Mailbox::new(Box::new(Silent))))
    }

    fn arrived() -> Arrived {
        Route {
            remote: "127.0.0.1:9".parse().unwrap(),
            local: None,
        }
        .into()
    }

    #[test]
    fn a_full_inbox_refuses_and_is_usable_again_once_it_was_emptied() {
        let inbox = inbox();
        let mut spare = Queue::default();
        for round in 0..3 {
            let taken = (0..2 * MAX_DATAGRAMS).filter(|_| inbox.push(arrived(), &[round; 100]));
            assert_eq!(taken.count(), MAX_DATAGRAMS);
            inbox.swap(&mut spare);
            assert_eq!(spare.bytes, vec![round; 100 * MAX_DATAGRAMS]);
            spare.entries.clear();
            spare.bytes.clear();
        }
        let taken = (0..2000).filter(|_| inbox.push(arrived(), &[0; 1400]));
        assert_eq!(taken.count(), MAX_BYTES / 1400);
    }

    #[test]
    fn whoever_comes_first_rings_and_nobody_after_the_end_is_taken() {
        let inbox = inbox();
        let mut marks = Vec::new();
        assert!(inbox.push(arrived(), b"one") && inbox.push(arrived(), b"two"));
        inbox.mailbox.take(&mut marks);
        assert_eq!(marks.len(), 1);
        inbox.end();
        assert!(!inbox.push(arrived(), b"three"));
    }
}
