//! Asks the kernel what is ready, and sleeps until something is.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Registry};

use super::now;

/// One epoll instance and what it said last.
#[derive(Debug)]
pub(crate) struct Selector {
    poll: Poll,
    events: Events,
}

impl Selector {
    /// At most `capacity` events are told at once.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let events = Events::with_capacity(capacity);
        Ok(Self { poll, events })
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// What is ready, after `limit` at the latest. It is asked for again and again for `busy`, and only then slept: to wake a
    /// thread takes the kernel longer than most answers are on their way. Whoever else wants the processor gets it in between.
    pub(crate) fn select(
        &mut self,
        limit: Option<Duration>,
        busy: Duration,
    ) -> io::Result<impl Iterator<Item = &Event>> {
        let busy = limit.map_or(busy, |limit| limit.min(busy));
        if busy.is_zero() || self.look(busy)? {
            self.ask(limit.map(|limit| limit.saturating_sub(busy)))?;
        }
        Ok(self.events.iter())
    }

    /// Whether nothing was ready in all of `time`.
    fn look(&mut self, time: Duration) -> io::Result<bool> {
        let end = now() + time;
        while self.ask(Some(Duration::ZERO))? {
            if now() >= end {
                return Ok(true);
            }
            std::thread::yield_now();
        }
        Ok(false)
    }

    /// Whether nothing is ready. A signal is none of our business.
    fn ask(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(self.events.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Token, Waker};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(5);

    /// What is told when something rings after `pause`, and the time it took.
    fn rung_after(pause: Duration, limit: Option<Duration>, busy: Duration) -> (usize, Duration) {
        let mut selector = Selector::new(8).unwrap();
        let waker = Waker::new(selector.registry(), Token(1)).unwrap();
        let begin = now();
        let ringer = std::thread::spawn(move || {
            std::thread::park_timeout(pause);
            waker.wake().unwrap();
            waker
        });
        let told = selector.select(limit, busy).unwrap().count();
        let took = now() - begin;
        drop(ringer.join().unwrap());
        (told, took)
    }

    #[test]
    fn what_comes_is_told_while_it_looks_and_while_it_sleeps() {
        for (limit, busy) in [
            (None, LONG),
            (None, Duration::ZERO),
            (Some(LONG), SHORT / 10),
            (Some(LONG), LONG),
        ] {
            let (told, took) = rung_after(SHORT, limit, busy);
            assert!(
                told == 1 && took < LONG,
                "{told} after {took:?}: {limit:?}, {busy:?}"
            );
        }
    }

    #[test]
    fn the_limit_holds_whether_it_looks_or_sleeps_and_nothing_is_told_twice() {
        let mut selector = Selector::new(8).unwrap();
        let waker = Waker::new(selector.registry(), Token(1)).unwrap();
        waker.wake().unwrap();
        assert_eq!(selector.select(Some(LONG), Duration::ZERO).unwrap().count(), 1);
        for busy in [Duration::ZERO, SHORT / 2, LONG] {
            let begin = now();
            assert_eq!(selector.select(Some(SHORT), busy).unwrap().count(), 0);
            let took = now() - begin;
            assert!((SHORT..LONG).contains(&took), "{took:?}: {busy:?}");
        }
    }
}
