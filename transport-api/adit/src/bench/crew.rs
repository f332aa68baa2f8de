//! Tasks that are waited for together.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    rc::Rc,
    task::{Poll, Waker},
};

use transport_api::local::{Handle, LoopFull};

/// Tasks of one piece of work, each on the loop by itself.
pub(crate) struct Crew<T, E> {
    at: Handle,
    shared: Rc<RefCell<Shared<T, E>>>,
    started: usize,
}

struct Shared<T, E> {
    done: Vec<T>,
    error: Option<E>,
    waker: Option<Waker>,
}

impl<T: 'static, E: 'static> Crew<T, E> {
    pub(crate) fn new(at: &Handle) -> Self {
        let shared = Shared {
            done: Vec::new(),
            error: None,
            waker: None,
        };
        Self {
            at: at.clone(),
            shared: Rc::new(RefCell::new(shared)),
            started: 0,
        }
    }

    /// Starts one more.
    pub(crate) fn start(
        &mut self,
        task: impl Future<Output = Result<T, E>> + 'static,
    ) -> Result<(), LoopFull> {
        let shared = Rc::clone(&self.shared);
        self.started += 1;
        self.at.spawn(async move {
            let result = task.await;
            let mut shared = shared.borrow_mut();
            match result {
                Ok(value) => shared.done.push(value),
                Err(error) => shared.error = Some(error),
            }
            let waker = shared.waker.take();
            drop(shared);
            if let Some(waker) = waker {
                waker.wake();
            }
        })
    }

    /// What all of them brought, in the order in which they ended, or the first error; then the others go on unheard.
    pub(crate) async fn all(self) -> Result<Vec<T>, E> {
        poll_fn(|context| {
            let mut shared = self.shared.borrow_mut();
            if let Some(error) = shared.error.take() {
                return Poll::Ready(Err(error));
            }
            if shared.done.len() == self.started {
                return Poll::Ready(Ok(std::mem::take(&mut shared.done)));
            }
            shared.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
