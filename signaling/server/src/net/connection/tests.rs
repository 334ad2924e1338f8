//! A connection in the lane, over a socket of the test.

use super::*;
use crate::{
    Config,
    net::door::{Door, Doors},
};
use std::cell::Cell;
use tokio::{io::ReadBuf, task};

/// A socket that takes everything and always has more to read. It counts reads.
struct Endless(Rc<Cell<usize>>);

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.set(self.0.get() + 1);
        buffer.initialize_unfilled().fill(b'x');
        buffer.set_filled(buffer.capacity());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn resources() -> Rc<Resources> {
    let context = Rc::new(ServerContext::new(Config::default()));
    let driver = Rc::new(Driver::new(context.clone(), [0; 32]));
    let scratch = RefCell::new(Scratch::new());
    Rc::new(Resources { context, driver, lane: Rc::default(), scratch })
}

/// A flood into a connection that is being closed must not occupy the thread.
#[tokio::test(flavor = "local")]
async fn a_closing_connection_reads_once_per_turn_in_the_lane() {
    let (resources, doors) = (resources(), Doors::default());
    let seat = doors.admission(Door::Operators).operator_seat().unwrap();
    let reads = Rc::new(Cell::new(0));
    let address = ([127, 0, 0, 1], 1).into();
    let connection =
        Connection::open(resources.clone(), seat, Endless(reads.clone()), address, None, Vec::new());
    connection.queue.close(close::TOO_BIG, "message too big");
    let closing = task::spawn_local(connection);
    let runner = resources.clone();
    let lane = task::spawn_local(async move { runner.lane.run().await });
    let counter = resources.clone();
    let turns = task::spawn_local(async move {
        while reads.get() == 0 {
            task::yield_now().await;
        }
        let before = reads.get();
        for _ in 0..100 {
            counter.lane.turn().await;
        }
        reads.get() - before
    });
    let count = turns.await.unwrap();
    assert!((90..=110).contains(&count), "{count} reads in 100 turns of another task");
    closing.abort();
    lane.abort();
}
