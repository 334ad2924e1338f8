//! The rules of a queue, and the bytes that it writes.

use super::*;
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, duplex};

fn queue(each: usize, all: usize) -> (Queue, Rc<Shared>) {
    let shared = Rc::new(Shared::new());
    shared.budget().set(each, all);
    (Queue::new(ConnId(0), shared.clone()), shared)
}

/// The bytes that the queue writes into a pipe of `capacity`, which is read in small pieces.
async fn written(queue: &Queue, capacity: usize) -> Vec<u8> {
    let (mut ours, mut theirs) = duplex(capacity);
    let write = async {
        poll_fn(|cx| queue.poll_write(&mut ours, cx)).await.unwrap();
        drop(ours);
    };
    let mut bytes = Vec::new();
    let (read, ()) = tokio::join!(theirs.read_to_end(&mut bytes), write);
    read.unwrap();
    bytes
}

#[tokio::test]
async fn frames_of_each_kind_and_length_are_written_whole() {
    let (queue, shared) = queue(1 << 20, 1 << 20);
    let texts: Vec<String> = [0, 1, 125, 126, 65_535, 65_536].map(|length| "x".repeat(length)).into();
    for text in &texts {
        queue.push(Kind::Text, text.clone().into());
    }
    queue.push(Kind::Ping, Bytes::new());
    queue.push(Kind::Framed, Bytes::from_static(&[0x8a, 0]));
    queue.close(4001, "replaced");
    queue.push(Kind::Text, Bytes::from_static(b"too late"));

    let mut expected = Vec::new();
    let headers: [&[u8]; 6] = [
        &[0x81, 0],
        &[0x81, 1],
        &[0x81, 125],
        &[0x81, 126, 0, 126],
        &[0x81, 126, 0xff, 0xff],
        &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0],
    ];
    for (header, text) in headers.iter().zip(&texts) {
        expected.extend_from_slice(header);
        expected.extend_from_slice(text.as_bytes());
    }
    expected.extend_from_slice(b"\x89\0\x8a\0\x88\x0a\x0f\xa1replaced");
    assert!(written(&queue, 7).await == expected);
    assert_eq!(shared.sent(), expected.len() as u64);
    let (_, measured) = shared.latency().cumulative().last().unwrap();
    assert_eq!(measured, texts.len() as u64, "control frames are not messages");
    assert_eq!(shared.budget().held(), 0);
}

/// A stream that records each write.
#[derive(Default)]
struct Writes(Vec<Vec<u8>>);

impl AsyncWrite for Writes {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
        let count = bytes.len();
        self.0.push(bytes);
        Poll::Ready(Ok(count))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_stream_that_buffers_is_flushed() {
    let (queue, _) = queue(1_000, 1_000);
    queue.push(Kind::Text, Bytes::from_static(b"a"));
    let (ours, mut theirs) = duplex(64);
    let mut ours = tokio::io::BufWriter::new(ours);
    poll_fn(|cx| queue.poll_write(&mut ours, cx)).await.unwrap();
    // The frame must arrive without another write.
    let mut bytes = [0; 3];
    let read = tokio::time::timeout(std::time::Duration::from_secs(5), theirs.read_exact(&mut bytes));
    read.await.unwrap().unwrap();
    assert_eq!(&bytes, b"\x81\x01a");
}

#[tokio::test]
async fn old_clients_receive_one_frame_per_write_and_others_several() {
    for (old, expected) in [(false, &[&b"\x81\x01a\x81\x01b"[..]][..]), (true, &[b"\x81\x01a", b"\x81\x01b"])]
    {
        let (queue, _) = queue(1 << 20, 1 << 20);
        if old {
            queue.one_frame_a_write();
        }
        queue.push(Kind::Text, Bytes::from_static(b"a"));
        queue.push(Kind::Text, Bytes::from_static(b"b"));
        let mut writes = Writes::default();
        poll_fn(|cx| queue.poll_write(&mut writes, cx)).await.unwrap();
        assert_eq!(writes.0, expected);
    }
}

#[test]
fn a_queue_overflows_at_its_own_limit_and_not_at_that_of_the_sum() {
    let (first, shared) = queue(1_000, 1_500);
    let second = Queue::new(ConnId(1), shared.clone());
    for queue in [&first, &second] {
        queue.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
        assert!(!queue.is_overflowed());
    }
    assert!(shared.budget().is_exceeded(), "the largest holder has to go");
    first.push(Kind::Text, Bytes::from_static(&[b'x'; 200]));
    assert!(first.is_overflowed());
    assert_eq!((first.weight(), second.weight() > 800), (0, true));
    drop((first, second));
    assert_eq!(shared.budget().held(), 0);
}

/// Tries every event in every state.
#[test]
fn a_closed_queue_stays_closed_and_an_overflowed_one_accepts_an_explanation_only() {
    use super::{Effect::*, QueueEvent, QueueState::*};
    let (fits, full) = (QueueEvent::Frame { fits: true }, QueueEvent::Frame { fits: false });
    let events = [fits, full, QueueEvent::Overflow, QueueEvent::Part, QueueEvent::Close, QueueEvent::End];
    let table = [
        (
            Open,
            [
                (Open, Append),
                (Overflowed, Nothing),
                (Overflowed, Nothing),
                (Parting, Discard),
                (Closed, Append),
                (Closed, Nothing),
            ],
        ),
        (
            Overflowed,
            [
                (Overflowed, Nothing),
                (Overflowed, Nothing),
                (Overflowed, Nothing),
                (Parting, Discard),
                (Closed, Discard),
                (Closed, Nothing),
            ],
        ),
        (
            Parting,
            [
                (Parting, Append),
                (Parting, Nothing),
                (Parting, Nothing),
                (Parting, Nothing),
                (Closed, Append),
                (Closed, Nothing),
            ],
        ),
        (Closed, [(Closed, Nothing); 6]),
    ];
    for (state, row) in table {
        for (event, expected) in events.into_iter().zip(row) {
            assert_eq!(state.on(event), expected, "{event:?} in {state:?}");
        }
    }
}

#[tokio::test]
async fn a_close_that_follows_an_overflow_is_written() {
    let (queue, shared) = queue(1_000, 1_000);
    queue.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
    queue.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
    assert!(queue.is_overflowed());
    queue.close(4003, "");
    // The Hub has forgotten the connection, so the driver's report of the overflow changes nothing.
    queue.part();
    queue.push(Kind::Framed, Bytes::from_static(&[0x8a, 0]));
    assert!(queue.is_closed());
    assert_eq!(written(&queue, 64).await, b"\x88\x02\x0f\xa3");
    assert_eq!(shared.budget().held(), 0);
}

#[test]
fn the_explanation_after_an_overflow_is_bounded() {
    let (queue, shared) = queue(1_000, 1_000);
    queue.part();
    for _ in 0..1_000 {
        queue.push(Kind::Framed, Bytes::from_static(&[0x8a, 0]));
        queue.push(Kind::Text, Bytes::from_static(&[b'x'; 500]));
    }
    assert!((1..=MAX_PARTING).contains(&shared.budget().held()), "{}", shared.budget().held());
    queue.close(4008, "slow consumer");
    assert!(queue.is_closed());
}

#[test]
fn a_broadcast_counts_once_in_the_sum_and_fully_in_each_queue() {
    let shared = Rc::new(Shared::new());
    shared.budget().set(100_000, usize::MAX);
    let queues: Vec<_> = (0..100).map(|n| Queue::new(ConnId(n), shared.clone())).collect();
    let text = Bytes::from(vec![b'x'; 60_000]);
    let copies = vec![text; queues.len()];
    for (queue, copy) in queues.iter().zip(copies) {
        queue.push_text(copy);
    }
    assert!(queues.iter().all(|queue| queue.weight() > 60_000));
    let held = shared.budget().held();
    assert!(held < 60_000 + queues.len() * 2 * FRAME_COST, "{held}");
    drop(queues);
    assert_eq!(shared.budget().held(), 0);
}

#[test]
fn answers_to_the_peer_are_counted_and_messages_from_others_are_not() {
    let (queue, _) = queue(1 << 20, 1 << 20);
    queue.push_text(Bytes::from_static(b"from others"));
    queue.begin_answer();
    queue.push_text(Bytes::from_static(b"12345"));
    queue.push(Kind::Framed, Bytes::from_static(b"a pong"));
    assert_eq!(queue.end_answer(), (5, 0));
    queue.push_text(Bytes::from_static(b"from others"));
    // The answer to a request that waits is pushed while the connection is held.
    queue.hold();
    queue.push_text(Bytes::from_static(b"1234567"));
    queue.release(12);
    queue.push_text(Bytes::from_static(b"from others"));
    queue.begin_answer();
    assert_eq!(queue.end_answer(), (7, 12));
    assert_eq!(queue.end_answer(), (0, 0));
}

#[tokio::test]
async fn a_first_frame_is_stuck_until_all_of_it_is_written() {
    let (queue, _) = queue(1_000, 1_000);
    assert_eq!(queue.stuck_for(), None);
    queue.push(Kind::Text, Bytes::from_static(&[b'x'; 100]));
    queue.push(Kind::Text, Bytes::from_static(&[b'x'; 100]));
    let (mut ours, mut theirs) = duplex(50);
    let pause = Duration::from_millis(20);
    std::thread::sleep(pause);
    let mut write = async || poll_fn(|cx| Poll::Ready(queue.poll_write(&mut ours, cx).is_pending())).await;
    assert!(write().await);
    theirs.read_exact(&mut [0; 40]).await.unwrap();
    assert!(write().await);
    assert!(queue.stuck_for() >= Some(pause), "writing a part of it is not enough");
    theirs.read_exact(&mut [0; 50]).await.unwrap();
    let completed = Instant::now();
    assert!(write().await);
    let stuck = queue.stuck_for().expect("the second frame waits");
    assert!(stuck <= completed.elapsed(), "it became the first only then, not {stuck:?} ago");
}

#[test]
fn empty_frames_are_not_free() {
    let (queue, _) = queue(10_000, 10_000);
    for _ in 0..1_000 {
        queue.push(Kind::Ping, Bytes::new());
    }
    assert!(queue.is_overflowed());
}

#[tokio::test]
async fn the_explanation_follows_the_frame_that_is_partly_written() {
    let (queue, shared) = queue(1_000, 1_000);
    queue.push(Kind::Text, Bytes::from_static(b"half"));
    queue.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
    let (mut ours, mut theirs) = duplex(3);
    let blocked = poll_fn(|cx| Poll::Ready(queue.poll_write(&mut ours, cx).is_pending())).await;
    assert!(blocked);
    let mut bytes = vec![0; 3];
    theirs.read_exact(&mut bytes).await.unwrap();

    queue.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
    assert!(queue.is_overflowed());
    queue.part();
    queue.push(Kind::Text, Bytes::from_static(b"bye"));
    queue.close(4008, "");
    bytes.extend(written(&queue, 64).await);
    assert_eq!(bytes, b"\x81\x04half\x81\x03bye\x88\x02\x0f\xa8");
    assert_eq!(shared.budget().held(), 0);
}
