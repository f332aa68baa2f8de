//! Names to addresses without blocking the loop: a few threads ask the system's resolver, or another one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Threads that ask.
const THREADS: usize = 4;
/// Questions that wait; beyond, requests are turned away.
const QUEUE: usize = 256;
/// Addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 16;

/// Knows the addresses of names. The relay asks on threads of its own, so it may block; an answer that takes more than 5 s comes
/// too late. Whatever it says is judged by the target policy.
pub trait Names: Send + Sync + 'static {
    /// All addresses of `name`, with `port`; the first 16 are looked at.
    ///
    /// # Errors
    /// The name does not resolve.
    fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// What the system's resolver says.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((name, port).to_socket_addrs()?.collect())
    }
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

#[derive(Debug)]
struct Question {
    name: String,
    port: u16,
    answer: Arc<Mutex<Answer>>,
}

#[derive(Debug, Default)]
struct Answer {
    result: Option<io::Result<Vec<SocketAddr>>>,
    waiting: Option<Waker>,
    abandoned: bool,
}

#[derive(Debug, Default)]
struct Queue {
    questions: VecDeque<Question>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolver threads; they end after the last question when this is dropped.
#[derive(Debug)]
pub(crate) struct Resolver(Arc<Shared>);

/// Marks a question whose asker is gone, so that no thread spends time on it.
struct Asker(Arc<Mutex<Answer>>);

impl Drop for Asker {
    fn drop(&mut self) {
        lock(&self.0).abandoned = true;
    }
}

impl Resolver {
    #[cfg(test)]
    pub(crate) fn start() -> io::Result<Self> {
        Self::asking(Arc::new(SystemNames))
    }

    pub(crate) fn asking(names: Arc<dyn Names>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        for n in 0..THREADS {
            let (shared, names) = (Arc::clone(&shared), Arc::clone(&names));
            std::thread::Builder::new()
                .name(format!("adit-dns-{n}"))
                .spawn(move || work(&shared, &*names))?;
        }
        Ok(Self(shared))
    }

    /// All addresses of `name`. The caller limits the time; dropping the future gives the question up.
    pub(crate) async fn resolve(&self, name: &str, port: u16) -> Result<io::Result<Vec<SocketAddr>>, Busy> {
        let answer = Arc::new(Mutex::new(Answer::default()));
        let asker = Asker(Arc::clone(&answer));
        {
            let mut queue = lock(&self.0.queue);
            // Abandoned questions need not keep others out.
            if queue.questions.len() >= QUEUE {
                queue.questions.retain(|q| !lock(&q.answer).abandoned);
            }
            if queue.questions.len() >= QUEUE {
                return Err(Busy);
            }
            queue.questions.push_back(Question {
                name: name.to_owned(),
                port,
                answer,
            });
        }
        self.0.changed.notify_one();
        let result = poll_fn(|cx| {
            let mut answer = lock(&asker.0);
            if let Some(result) = answer.result.take() {
                return Poll::Ready(result);
            }
            answer.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        Ok(result)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        lock(&self.0.queue).closed = true;
        self.0.changed.notify_all();
    }
}

fn work(shared: &Shared, names: &dyn Names) {
    while let Some(question) = next(shared) {
        if lock(&question.answer).abandoned {
            continue;
        }
        let mut result = names.look_up(&question.name, question.port);
        if let Ok(found) = &mut result {
            found.truncate(MAX_ADDRESSES);
        }
        let waiting = {
            let mut answer = lock(&question.answer);
            answer.result = Some(result);
            answer.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

fn next(shared: &Shared) -> Option<Question> {
    let mut queue = lock(&shared.queue);
    loop {
        if let Some(question) = queue.questions.pop_front() {
            return Some(question);
        }
        if queue.closed {
            return None;
        }
        queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wait;

    #[test]
    fn names_and_failures() {
        let resolver = Resolver::start().expect("threads");
        let local = resolver
            .resolve("localhost", 80)
            .wait()
            .expect("room")
            .expect("localhost");
        assert!(local.iter().all(|a| a.ip().is_loopback() && a.port() == 80));
        assert!(
            resolver
                .resolve("does-not-exist.invalid", 80)
                .wait()
                .expect("room")
                .is_err()
        );
    }

    #[test]
    fn a_full_queue_turns_away() {
        // Nobody works on this queue.
        let resolver = Resolver(Arc::default());
        let ask = || Box::pin(resolver.resolve("a.invalid", 1));
        let poll = |f: &mut std::pin::Pin<Box<dyn Future<Output = _>>>| {
            f.as_mut()
                .poll(&mut std::task::Context::from_waker(Waker::noop()))
        };
        let mut waiting: Vec<std::pin::Pin<Box<dyn Future<Output = _>>>> = Vec::new();
        for _ in 0..QUEUE {
            let mut future: std::pin::Pin<Box<dyn Future<Output = _>>> = ask();
            assert!(poll(&mut future).is_pending());
            waiting.push(future);
        }
        let mut over: std::pin::Pin<Box<dyn Future<Output = _>>> = ask();
        assert!(matches!(poll(&mut over), Poll::Ready(Err(Busy))));
        drop(waiting.pop());
        let mut again: std::pin::Pin<Box<dyn Future<Output = _>>> = ask();
        assert!(poll(&mut again).is_pending(), "an abandoned question makes room");
    }
}
