//! Frames that are too large, or malformed.

use crate::{
    rig::{Target, attack},
    support::{Raw, frame},
};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::{io::AsyncWriteExt, task::JoinSet};

const REGISTER: &[u8] = br#"{"type":"register","client_id":"x","protocol":1}"#;

/// Sends each of these again and again over new connections, and checks its close code.
async fn assault(target: Target, attacks: Vec<(&'static str, Vec<u8>, u16)>) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut attackers = JoinSet::new();
    for (what, bytes, code) in attacks {
        attackers.spawn(async move {
            let mut count = 0;
            while target.goes_on() || count == 0 {
                let mut raw = target.open(NEXT.fetch_add(1, Ordering::Relaxed)).await;
                raw.write(&frame(0x81, REGISTER)).await;
                assert_eq!(raw.message().await["type"], "registered");
                // The server may close before all of it is written.
                let _ = raw.stream.write_all(&bytes).await;
                assert_eq!(ended(&mut raw).await, code, "{what}");
                count += 1;
            }
        });
    }
    attackers.join_all().await;
}

/// The close code, after any errors.
async fn ended(raw: &mut Raw) -> u16 {
    loop {
        match raw.frame().await {
            (8, payload) => return u16::from_be_bytes([payload[0], payload[1]]),
            (1, payload) => assert!(payload.starts_with(br#"{"type":"error""#)),
            (opcode, _) => panic!("a frame of type {opcode}"),
        }
    }
}

#[test]
fn oversize_and_fragmented_frames() {
    attack("[limits]\nmax_fragments = 50", |target| {
        let head_alone = vec![0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        let sum = [frame(0x01, &vec![b' '; 40_000]), frame(0x80, &vec![b' '; 40_000])].concat();
        let pieces = [frame(0x01, b""), frame(0x00, b"").repeat(100)].concat();
        let binary = [frame(0x02, b"x"), frame(0x00, &[0; 1_000]).repeat(70)].concat();
        assault(
            target,
            vec![
                ("oversize", frame(0x81, &[b' '; 65_537]), 1009),
                ("a head alone", head_alone, 1009),
                ("two halves", sum, 1009),
                ("many pieces", pieces, 1009),
                ("many pieces of something", binary, 1009),
            ],
        )
    });
}

#[test]
fn text_that_is_not_utf8() {
    attack("", |target| {
        let at_the_end = [vec![b'x'; 60_000], vec![0xff]].concat();
        let surrogate = frame(0x81, b"{\"type\":\"\xed\xa0\x80\"}");
        let in_pieces = [frame(0x01, b"\xe5\xae"), frame(0x80, b"\x28")].concat();
        assault(
            target,
            vec![
                ("late", frame(0x81, &at_the_end), 1007),
                ("a surrogate", surrogate, 1007),
                ("in pieces", in_pieces, 1007),
            ],
        )
    });
}

#[test]
fn json_made_to_break_parsers() {
    attack("", |target| {
        let ten_times = |text: String| frame(0x81, text.as_bytes()).repeat(10);
        let deep = format!(r#"{{"type":"wave","n":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        let never_closed = format!(r#"{{"type":"wave","n":{}"#, r#"{"n":"#.repeat(12_000));
        let long_number = format!(r#"{{"type":"wave","n":{}}}"#, "1".repeat(60_000));
        let exponent = r#"{"type":"wave","n":1e999999999}"#.to_owned();
        let twice = r#"{"type":"wave","type":"server.stop"}"#.to_owned();
        let from = r#"{"from":"a","type":"wave","from":"b"}"#.to_owned();
        let escaped = r#"{"type":"wave","ty\u0070e":"error"}"#.to_owned();
        let half = r#"{"type":"wave","n":"\ud800"}"#.to_owned();
        assault(
            target,
            vec![
                ("deep", ten_times(deep), 4003),
                ("never closed", ten_times(never_closed), 4003),
                ("a long number", ten_times(long_number), 4003),
                ("a huge exponent", ten_times(exponent), 4003),
                ("two types", ten_times(twice), 4003),
                ("two senders", ten_times(from), 4003),
                ("two types, one escaped", ten_times(escaped), 4003),
                ("half a character", ten_times(half), 4003),
            ],
        )
    });
}
