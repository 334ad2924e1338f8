//! A lane for work that can wait a little: newcomers, those who leave, those who say much. Who is in it gets one turn
//! after the other, and every now and then between two turns the sockets of all others are looked at. So however many
//! are in it, nobody outside of it waits for long.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task};

/// Turns may take so long together before the sockets are looked at: many that are short, or a long one.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

/// A lane for work that can wait a little.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    waiting: RefCell<VecDeque<Waker>>,
    /// Tickets that were given out, and those whose turn came. Only the last of these has its turn now; earlier ones
    /// may still make use of theirs.
    issued: Cell<u64>,
    served: Cell<u64>,
    filled: Notify,
}

/// A place in the lane.
#[derive(Debug)]
pub(crate) struct Ticket(u64);

impl Lane {
    /// Gives turns for ever.
    pub(crate) async fn run(&self) {
        let mut looked = Instant::now();
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(next) = next else {
                self.filled.notified().await;
                looked = Instant::now();
                continue;
            };
            self.served.set(self.served.get() + 1);
            next.wake();
            if looked.elapsed() < BETWEEN_LOOKS {
                behind_those_awake().await;
            } else {
                // Comes back when the sockets have been looked at.
                task::yield_now().await;
                looked = Instant::now();
            }
        }
    }

    /// How many wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Waits for a turn. Without a ticket it takes one, and gives it up with the turn.
    pub(crate) fn poll_turn(&self, ticket: &mut Option<Ticket>, cx: &Context<'_>) -> Poll<()> {
        match ticket {
            Some(Ticket(number)) if *number < self.served.get() => {
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

    /// Runs work that computes for a while whenever it is polled: each time, it waits for a turn first.
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

/// Lets all tasks run that are awake already.
async fn behind_those_awake() {
    let mut asked = false;
    poll_fn(|cx| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
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

    /// Whoever waits for a socket gets in between turns of the lane.
    #[tokio::test(flavor = "local")]
    async fn sockets_come_between_turns_and_turns_in_order() {
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
                    while began.elapsed() < BETWEEN_LOOKS / 4 {}
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

    /// Each step of paced work waits for a turn, so that sockets are looked at between the steps of a crowd.
    #[tokio::test(flavor = "local")]
    async fn sockets_come_between_the_steps_of_paced_work() {
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
                        while began.elapsed() < BETWEEN_LOOKS {}
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

    /// One that is gone costs a turn and no more.
    #[tokio::test(flavor = "local")]
    async fn who_leaves_the_lane_does_not_block_it() {
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
