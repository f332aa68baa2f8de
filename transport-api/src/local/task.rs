//! Tasks of a loop and the queue of those that were woken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type BoxedTask = Pin<Box<dyn Future<Output = ()>>>;

/// The loop holds as many tasks as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopFull;

impl fmt::Display for LoopFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop holds as many tasks as it may")
    }
}

impl std::error::Error for LoopFull {}

/// What a waker points at. A waker that outlives its task may wake the slot's next tenant: a spurious poll, no more.
#[derive(Debug)]
pub(super) struct TaskWaker {
    id: usize,
    queued: AtomicBool,
    remote: Arc<Remote>,
}

impl TaskWaker {
    pub(super) fn id(&self) -> usize {
        self.id
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.remote.push(Arc::clone(self));
        }
    }
}

/// The part of a loop that other threads may touch. A task stands in the queue at most once.
#[derive(Debug)]
pub(super) struct Remote {
    queue: Mutex<VecDeque<Arc<TaskWaker>>>,
    asleep: AtomicBool,
    /// A guest has something to do.
    rung: AtomicBool,
    waker: mio::Waker,
}

impl Remote {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self {
            queue: Mutex::default(),
            asleep: AtomicBool::new(false),
            rung: AtomicBool::new(false),
            waker,
        }
    }

    /// The main future of one `run`; it has no slot.
    pub(super) fn root_task(self: &Arc<Self>) -> Arc<TaskWaker> {
        self.task(usize::MAX)
    }

    fn task(self: &Arc<Self>, id: usize) -> Arc<TaskWaker> {
        Arc::new(TaskWaker {
            id,
            queued: AtomicBool::new(false),
            remote: Arc::clone(self),
        })
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<TaskWaker>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: Arc<TaskWaker>) {
        self.queue().push_back(task);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // A failing eventfd write cannot be helped here; the next timer or socket wakes the loop.
            let _ = self.waker.wake();
        }
    }

    /// The next task to poll. It may be woken again from here on.
    pub(super) fn next(&self) -> Option<Arc<TaskWaker>> {
        let task = self.queue().pop_front()?;
        task.queued.store(false, Ordering::Release);
        Some(task)
    }

    /// Gives guests a turn before the loop sleeps again.
    pub(super) fn ring(&self) -> io::Result<()> {
        self.rung.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.waker.wake()
        } else {
            Ok(())
        }
    }

    /// Guests are about to look.
    pub(super) fn unring(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }

    /// Whether no task was woken.
    pub(super) fn is_idle(&self) -> bool {
        self.queue().is_empty()
    }

    /// Announces that the loop is about to wait; false when a task is already woken, or a guest was called.
    pub(super) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        self.is_idle() && !self.rung.load(Ordering::SeqCst)
    }

    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// All tasks of a loop, by slot.
pub(super) struct Tasks {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    max: usize,
}

struct Slot {
    /// Absent while the task is being polled, and when the slot is free.
    task: Option<BoxedTask>,
    waker: Waker,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("len", &self.len())
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl Tasks {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: RefCell::default(),
            free: RefCell::default(),
            max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len() - self.free.borrow().len()
    }

    pub(super) fn spawn(&self, remote: &Arc<Remote>, task: BoxedTask) -> Result<(), LoopFull> {
        if self.len() >= self.max {
            return Err(LoopFull);
        }
        let mut slots = self.slots.borrow_mut();
        let id = self.free.borrow_mut().pop().unwrap_or(slots.len());
        let waker = Waker::from(remote.task(id));
        waker.wake_by_ref();
        let slot = Slot {
            task: Some(task),
            waker,
        };
        match slots.get_mut(id) {
            Some(free) => *free = slot,
            None => slots.push(slot),
        }
        Ok(())
    }

    /// Polls one task; the table is not borrowed meanwhile, so the task may spawn others.
    pub(super) fn poll(&self, id: usize) {
        let taken = self
            .slots
            .borrow_mut()
            .get_mut(id)
            .and_then(|s| Some((s.task.take()?, s.waker.clone())));
        let Some((mut task, waker)) = taken else { return };
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                drop(task);
                self.free.borrow_mut().push(id);
            }
            Poll::Pending => {
                if let Some(slot) = self.slots.borrow_mut().get_mut(id) {
                    slot.task = Some(task);
                }
            }
        }
    }

    /// Drops all tasks.
    pub(super) fn clear(&self) {
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        self.free.borrow_mut().clear();
        drop(slots);
    }
}

/// Lets other tasks, timers and sockets have their turn.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
