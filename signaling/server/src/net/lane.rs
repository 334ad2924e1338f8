//! The lane: a queue for work of low priority, which is that of new connections, closing ones, and those that send a lot.
//! One task at a time gets a turn. At least every 100 µs the runtime polls the sockets of all other connections in between,
//! so that these never wait long, however many tasks are in the lane.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task};

/// The time that turns may take together before the sockets are polled: one long turn, or many short ones. Polling them
/// after each turn cost a new connection 2 of its 38 µs.
const BETWEEN_POLLS: Duration = Duration::from_micros(100);

/// A queue for work of low priority.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    waiting: RefCell<VecDeque<Waker>>,
    /// The number of tickets that were issued. All of them but those in `waiting` have been called.
    issued: Cell<u64>,
    filled: Notify,
}

/// The number of a task in the lane.
#[derive(Debug)]
pub(crate) struct Ticket(u64);

impl Lane {
    /// Gives turns forever.
    pub(crate) async fn run(&self) {
        let mut polled = Instant::now();
        loop {
            let Some(next) = self.next() else {
                self.filled.notified().await;
                polled = Instant::now();
                continue;
            };
            next.wake();
            if polled.elapsed() < BETWEEN_POLLS {
                run_ready_tasks().await;
            } else {
                // This continues after the sockets were polled.
                task::yield_now().await;
                polled = Instant::now();
            }
        }
    }

    fn next(&self) -> Option<Waker> {
        self.waiting.borrow_mut().pop_front()
    }

    /// The number of tasks that wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// The number of tickets that were called. A task may use its turn later than the next one is called.
    fn called(&self) -> u64 {
        self.issued.get() - self.waiting.borrow().len() as u64
    }

    /// Waits for a turn. Takes a ticket if there is none, and removes it when the turn has come.
    pub(crate) fn poll_turn(&self, ticket: &mut Option<Ticket>, cx: &Context<'_>) -> Poll<()> {
        match ticket {
            Some(Ticket(number)) if *number < self.called() => {
                *ticket = None;
                Poll::Ready(())
            }
            Some(_) => Poll::Pending,
            None => {
                *ticket = Some(Ticket(self.issued.get()));
                self.issued.set(self.issued.get() + 1);
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                self.filled.notify_one();
                Poll::Pending
            }
        }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) {
        let mut ticket = None;
        poll_fn(|cx| self.poll_turn(&mut ticket, cx)).await;
    }

    /// Runs work that computes for a while whenever it is polled. Each poll waits for a turn first.
    pub(crate) async fn pace<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut ticket = None;
        poll_fn(|cx| {
            ready!(self.poll_turn(&mut ticket, cx));
            work.as_mut().poll(cx)
        })
        .await
    }
}

/// Lets all tasks run that are ready now, without polling sockets.
async fn run_ready_tasks() {
    let mut is_woken = false;
    poll_fn(|cx| {
        if is_woken {
            return Poll::Ready(());
        }
        is_woken = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use tokio::{io::AsyncReadExt, net::UnixStream};

    /// A task that waits for a socket runs between turns of the lane.
    #[tokio::test(flavor = "local")]
    async fn sockets_are_polled_between_turns_and_turns_are_in_order() {
        let lane = Rc::new(Lane::default());
        let runner = lane.clone();
        task::spawn_local(async move { runner.run().await });
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let turns = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let (lane, turns) = (lane.clone(), turns.clone());
                task::spawn_local(async move {
                    lane.turn().await;
                    let began = Instant::now();
                    while began.elapsed() < BETWEEN_POLLS / 4 {}
                    turns.borrow_mut().push(n);
                })
            })
            .collect();
        let seen = turns.clone();
        let reader = task::spawn_local(async move {
            ours.read_u8().await.unwrap();
            seen.borrow().len()
        });
        while turns.borrow().is_empty() {
            task::yield_now().await;
        }
        theirs.try_write(b"x").unwrap();
        assert!(reader.await.unwrap() < 20);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*turns.borrow(), (0..200).collect::<Vec<_>>());
    }

    /// Each step of paced work waits for a turn, so that sockets are polled between the steps of a crowd.
    #[tokio::test(flavor = "local")]
    async fn sockets_are_polled_between_the_steps_of_paced_work() {
        let lane = Rc::new(Lane::default());
        let runner = lane.clone();
        task::spawn_local(async move { runner.run().await });
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let steps = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (lane, steps) = (lane.clone(), steps.clone());
                let work = async move {
                    for _ in 0..3 {
                        let began = Instant::now();
                        while began.elapsed() < BETWEEN_POLLS {}
                        steps.set(steps.get() + 1);
                        task::yield_now().await;
                    }
                };
                task::spawn_local(async move { lane.pace(work).await })
            })
            .collect();
        let seen = steps.clone();
        let reader = task::spawn_local(async move {
            ours.read_u8().await.unwrap();
            seen.get()
        });
        while steps.get() == 0 {
            task::yield_now().await;
        }
        theirs.try_write(b"x").unwrap();
        assert!(reader.await.unwrap() < 10);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(steps.get(), 300);
    }

    /// An aborted task costs one turn.
    #[tokio::test(flavor = "local")]
    async fn an_aborted_task_does_not_block_the_lane() {
        let lane = Rc::new(Lane::default());
        let runner = lane.clone();
        let (first, second) = (lane.clone(), lane.clone());
        let gone = task::spawn_local(async move { first.turn().await });
        let stays = task::spawn_local(async move { second.turn().await });
        task::yield_now().await;
        gone.abort();
        task::spawn_local(async move { runner.run().await });
        stays.await.unwrap();
    }
}
