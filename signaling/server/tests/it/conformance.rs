//! RFC 6455, with cases like those of the Autobahn test suite, whose numbers are in brackets. The echo that the cases need
//! is the answer to `ping`.

use crate::support::{Raw, frame, server, unhurried, unmasked};
use room_signaling_server::Running;
use serde_json::{Value, json};

const REGISTER: &[u8] = br#"{"type":"register","client_id":"x","protocol":1}"#;

/// A frame, or an end, that the server is expected to send.
#[derive(Debug, Clone, Copy)]
enum Expected<'a> {
    /// A pong with this payload.
    Pong(&'a [u8]),
    /// The echo of a ping message with this `n`.
    Echo(u64),
    /// The refusal of an invalid message.
    BadMessage,
    /// A close frame with this code, then the end of the stream.
    Close(u16),
    /// A close frame without a code, then the end of the stream.
    CloseWithoutCode,
}

fn conformance_server() -> Running {
    server(unhurried)
}

async fn registered(server: &Running) -> Raw {
    let mut raw = Raw::upgraded(server.local_addr()).await;
    raw.write(&frame(0x81, REGISTER)).await;
    assert_eq!(raw.message().await["type"], "registered");
    raw
}

/// Sends each case over a new connection, in one write and byte by byte, and compares the answers.
async fn check(cases: &[(&str, Vec<u8>, &[Expected<'_>])]) {
    let server = conformance_server();
    for (name, bytes, expected) in cases {
        let mut ways = vec![vec![&bytes[..]]];
        // Byte by byte adds nothing to cases that are already cut, or long.
        if !name.contains(" at ") && bytes.len() < 5_000 {
            ways.push(bytes.chunks(1).collect());
        }
        for pieces in ways {
            let mut raw = registered(&server).await;
            for piece in pieces {
                if tokio::io::AsyncWriteExt::write_all(&mut raw.stream, piece).await.is_err() {
                    break;
                }
            }
            for says in *expected {
                hear(&mut raw, name, *says).await;
            }
        }
    }
}

async fn hear(raw: &mut Raw, name: &str, expected: Expected<'_>) {
    let (opcode, payload) = raw.frame().await;
    let message = || -> Value {
        assert_eq!(opcode, 1, "{name}: {payload:?}");
        serde_json::from_slice(&payload).unwrap()
    };
    match expected {
        Expected::Pong(expected) => assert_eq!((opcode, &payload[..]), (0xa, expected), "{name}"),
        Expected::Echo(n) => {
            let message = message();
            assert_eq!((&message["type"], &message["n"]), (&json!("pong"), &json!(n)), "{name}");
        }
        Expected::BadMessage => assert_eq!(message()["code"], "bad_message", "{name}"),
        Expected::Close(code) => {
            assert_eq!(opcode, 8, "{name}: {}", String::from_utf8_lossy(&payload));
            assert_eq!(payload[..2], code.to_be_bytes(), "{name}");
            assert_eq!(raw.read_to_end().await, "", "{name}: nothing follows");
        }
        Expected::CloseWithoutCode => {
            assert_eq!((opcode, &payload[..]), (8, &b""[..]), "{name}");
            assert_eq!(raw.read_to_end().await, "", "{name}: nothing follows");
        }
    }
}

/// The message whose echo is `Echo(n)`, cut at these offsets.
fn pieces(n: u64, cuts: &[usize]) -> Vec<Vec<u8>> {
    let text = format!(r#"{{"type":"ping","n":{n},"text":"Hallo 客厅 κόσμε"}}"#).into_bytes();
    let mut rest = &text[..];
    let mut pieces: Vec<Vec<u8>> = cuts
        .iter()
        .map(|cut| {
            let (piece, after) = rest.split_at(*cut);
            rest = after;
            piece.to_vec()
        })
        .collect();
    pieces.push(rest.to_vec());
    pieces
}

/// The same as frames: a text frame, continuations, the last one final. `between` is inserted between each two.
fn fragments(n: u64, cuts: &[usize], between: &[u8]) -> Vec<u8> {
    let pieces = pieces(n, cuts);
    let last = pieces.len() - 1;
    let mut bytes = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let opcode = u8::from(index == 0);
        let fin = if index == last { 0x80 } else { 0 };
        bytes.extend(frame(fin | opcode, piece));
        if index < last {
            bytes.extend_from_slice(between);
        }
    }
    bytes
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason].concat())
}

#[tokio::test]
async fn messages_of_all_lengths() {
    // [1.1] Around each boundary between the encodings of a length.
    let ping = |length: usize| {
        let empty = r#"{"type":"ping","n":1,"p":""}"#.len();
        frame(0x81, format!(r#"{{"type":"ping","n":1,"p":"{}"}}"#, "*".repeat(length - empty)).as_bytes())
    };
    let cases: Vec<(&str, Vec<u8>, &[Expected<'_>])> = [28, 125, 126, 127, 128, 65_535, 65_536]
        .into_iter()
        .map(|length| ("length", ping(length), &[Expected::Echo(1)][..]))
        .collect();
    check(&cases).await;
    check(&[
        ("empty [1.1.1]", frame(0x81, b""), &[Expected::BadMessage]),
        ("empty binary [1.2.1]", frame(0x82, b""), &[Expected::BadMessage]),
        ("binary [1.2.3]", frame(0x82, &[0xfe; 126]), &[Expected::BadMessage]),
        ("unmasked", unmasked(0x81, br#"{"type":"ping","n":2}"#), &[Expected::Echo(2)]),
    ])
    .await;
}

#[tokio::test]
async fn pings_and_pongs() {
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0x00, 0xff];
    let ten: Vec<u8> = (0..10).flat_map(|n| frame(0x89, &[n])).collect();
    let in_order: Vec<[u8; 1]> = (0..10).map(|n| [n]).collect();
    let in_order: Vec<Expected<'_>> = in_order.iter().map(|payload| Expected::Pong(payload)).collect();
    check(&[
        ("empty [2.1]", frame(0x89, b""), &[Expected::Pong(b"")]),
        ("text [2.2]", frame(0x89, b"Hello, world!"), &[Expected::Pong(b"Hello, world!")]),
        ("binary [2.3]", frame(0x89, &binary), &[Expected::Pong(&binary)]),
        ("the longest [2.4]", frame(0x89, &[0xfe; 125]), &[Expected::Pong(&[0xfe; 125])]),
        ("too long [2.5]", frame(0x89, &[0xfe; 126]), &[Expected::Close(1002)]),
        ("a pong that is too long", frame(0x8a, &[0xfe; 126]), &[Expected::Close(1002)]),
        ("a close that is too long", frame(0x88, &[0x03, 0xe8].repeat(63)), &[Expected::Close(1002)]),
        (
            "unsolicited pongs [2.7]",
            [frame(0x8a, b""), frame(0x8a, b"x"), frame(0x89, b"?")].concat(),
            &[Expected::Pong(b"?")],
        ),
        ("ten together [2.10]", ten, &in_order),
    ])
    .await;
}

#[tokio::test]
async fn reserved_bits_and_opcodes() {
    let ping = br#"{"type":"ping","n":1}"#;
    let mut cases: Vec<(String, Vec<u8>, Vec<Expected<'_>>)> = Vec::new();
    // [3] Each reserved bit, with text, a ping and a close.
    for bits in 1..8_u8 {
        for opcode in [0x81, 0x89, 0x88] {
            let first = bits << 4 | opcode;
            cases.push((format!("{first:#x}"), frame(first, b""), vec![Expected::Close(1002)]));
        }
        let bytes = [frame(0x81, ping), frame(bits << 4 | 0x81, ping)].concat();
        cases.push((
            format!("bits {bits} after a message"),
            bytes,
            vec![Expected::Echo(1), Expected::Close(1002)],
        ));
    }
    // [4] Each reserved opcode, empty, with a payload, and after a message.
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        let first = 0x80 | opcode;
        cases.push((format!("{first:#x}"), frame(first, b""), vec![Expected::Close(1002)]));
        cases.push((format!("{first:#x} x"), frame(first, b"x"), vec![Expected::Close(1002)]));
        let bytes = [frame(0x81, ping), frame(first, b""), frame(0x89, b"")].concat();
        cases.push((format!("message, {first:#x}"), bytes, vec![Expected::Echo(1), Expected::Close(1002)]));
    }
    let cases: Vec<_> =
        cases.iter().map(|(name, bytes, says)| (&name[..], bytes.clone(), &says[..])).collect();
    check(&cases).await;
}

#[tokio::test]
async fn fragments_and_control_frames_between_them() {
    let ping = frame(0x89, b"?");
    let many: Vec<usize> = vec![1; 40];
    let end = [frame(0x80, b"x"), frame(0x81, br#"{"type":"ping","n":9}"#)].concat();
    check(&[
        (
            "a fragmented ping [5.1]",
            [frame(0x09, b"a"), frame(0x80, b"b")].concat(),
            &[Expected::Close(1002)],
        ),
        (
            "a fragmented pong [5.2]",
            [frame(0x0a, b"a"), frame(0x80, b"b")].concat(),
            &[Expected::Close(1002)],
        ),
        ("a fragmented close", frame(0x08, b"\x03\xe8"), &[Expected::Close(1002)]),
        ("two [5.3]", fragments(1, &[20], b""), &[Expected::Echo(1)]),
        ("a ping between [5.6]", fragments(2, &[20], &ping), &[Expected::Pong(b"?"), Expected::Echo(2)]),
        (
            "pings between all [5.19]",
            fragments(3, &[5, 5, 5], &ping),
            &[Expected::Pong(b"?"), Expected::Pong(b"?"), Expected::Pong(b"?"), Expected::Echo(3)],
        ),
        ("a pong between", fragments(4, &[20], &frame(0x8a, b"x")), &[Expected::Echo(4)]),
        ("empty fragments", fragments(5, &[0, 0, 10, 0], b""), &[Expected::Echo(5)]),
        ("byte by byte", fragments(6, &many, b""), &[Expected::Echo(6)]),
        ("a continuation of nothing [5.9]", frame(0x80, b"x"), &[Expected::Close(1002)]),
        ("a continuation that is not final [5.10]", frame(0x00, b"x"), &[Expected::Close(1002)]),
        (
            "after a message [5.12]",
            [frame(0x81, br#"{"type":"ping","n":7}"#), end].concat(),
            &[Expected::Echo(7), Expected::Close(1002)],
        ),
        (
            "a message within one [5.18]",
            [frame(0x01, b"{"), frame(0x81, b"}")].concat(),
            &[Expected::Close(1002)],
        ),
        (
            "a binary frame within text",
            [frame(0x01, b"{"), frame(0x82, b"}")].concat(),
            &[Expected::Close(1002)],
        ),
        (
            "binary in two",
            [frame(0x02, b"\x00"), ping.clone(), frame(0x80, b"\xff")].concat(),
            &[Expected::Pong(b"?"), Expected::BadMessage],
        ),
        ("a close between [7.1.3]", fragments(8, &[20], &close(1000, b"")), &[Expected::Close(1000)]),
    ])
    .await;
}

#[tokio::test]
async fn text_is_utf8() {
    let message = |inner: &[u8]| [&br#"{"type":"ping","n":1,"p":""#[..], inner, b"\"}"].concat();
    // [6.2] to [6.23]
    let valid: [&[u8]; 12] = [
        "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
        "κόσμε".as_bytes(),
        "\u{80}".as_bytes(),
        "\u{7ff}".as_bytes(),
        "\u{800}".as_bytes(),
        "\u{d7ff}\u{e000}".as_bytes(),
        "\u{fffd}".as_bytes(),
        "\u{ffff}\u{fffe}".as_bytes(),
        "\u{10000}".as_bytes(),
        "\u{10ffff}".as_bytes(),
        "\u{1f4f7}\u{200d}".as_bytes(),
        b"\x7f",
    ];
    let invalid: [&[u8]; 17] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\x80",
        b"\xbf\x80",
        b"\xc0\x80",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfe",
        b"\xff",
    ];
    let mut cases: Vec<(String, Vec<u8>, &[Expected<'_>])> = Vec::new();
    for text in valid {
        let text = message(text);
        cases.push((format!("{text:?}"), frame(0x81, &text), &[Expected::Echo(1)]));
        // Cut within each character.
        for cut in 26..text.len() {
            let bytes = [frame(0x01, &text[..cut]), frame(0x80, &text[cut..])].concat();
            cases.push((format!("{text:?} at {cut}"), bytes, &[Expected::Echo(1)]));
        }
    }
    for text in invalid {
        let text = message(text);
        cases.push((format!("{text:?}"), frame(0x81, &text), &[Expected::Close(1007)]));
        for cut in 26..text.len() {
            let bytes = [frame(0x01, &text[..cut]), frame(0x80, &text[cut..])].concat();
            cases.push((format!("{text:?} at {cut}"), bytes, &[Expected::Close(1007)]));
        }
    }
    // [6.1.3] A character that is never completed.
    cases.push(("unfinished".into(), frame(0x81, b"{\xe5\xae"), &[Expected::Close(1007)]));
    let unfinished = [frame(0x01, b"{\xe5\xae"), frame(0x80, b"")].concat();
    cases.push(("unfinished in fragments".into(), unfinished, &[Expected::Close(1007)]));
    let cases: Vec<_> = cases.iter().map(|(name, bytes, says)| (&name[..], bytes.clone(), *says)).collect();
    check(&cases).await;
}

/// [6.4] Invalid text fails the connection before the message is complete.
#[tokio::test]
async fn text_that_is_no_utf8_fails_fast() {
    let server = conformance_server();
    for first in [&b"{\"type\":\"\xff"[..], b"{\"type\":\"\xed\xa0\x80", b"{\xf4\x90"] {
        let mut raw = registered(&server).await;
        raw.write(&frame(0x01, first)).await;
        // The end of the message is never sent.
        hear(&mut raw, "fails fast", Expected::Close(1007)).await;
    }
}

#[tokio::test]
async fn closing() {
    let ping = frame(0x81, br#"{"type":"ping","n":1}"#);
    let long = "*".repeat(123);
    let mut cases: Vec<(String, Vec<u8>, Vec<Expected<'_>>)> = vec![
        // [7.1] Nothing after it is answered.
        (
            "a message before".into(),
            [ping.clone(), close(1000, b"")].concat(),
            vec![Expected::Echo(1), Expected::Close(1000)],
        ),
        ("twice".into(), [close(1000, b""), close(1000, b"")].concat(), vec![Expected::Close(1000)]),
        (
            "followed by a ping".into(),
            [close(1000, b""), frame(0x89, b"")].concat(),
            vec![Expected::Close(1000)],
        ),
        (
            "followed by a message".into(),
            [close(1000, b""), ping.clone()].concat(),
            vec![Expected::Close(1000)],
        ),
        // [7.3]
        ("no code".into(), frame(0x88, b""), vec![Expected::CloseWithoutCode]),
        ("half a code".into(), frame(0x88, b"\x03"), vec![Expected::Close(1002)]),
        ("a code alone".into(), close(1000, b""), vec![Expected::Close(1000)]),
        ("a reason".into(), close(1000, "Servus, 客厅".as_bytes()), vec![Expected::Close(1000)]),
        ("the longest reason".into(), close(1000, long.as_bytes()), vec![Expected::Close(1000)]),
        // [7.5.1]
        (
            "a reason that is not UTF-8".into(),
            close(1000, b"\xce\xba\xed\xa0\x80"),
            vec![Expected::Close(1007)],
        ),
    ];
    // [7.7]
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push((format!("{code}"), close(code, b""), vec![Expected::Close(code)]));
    }
    // [7.9] Codes that must not be sent, or are not defined.
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push((format!("{code}"), close(code, b""), vec![Expected::Close(1002)]));
    }
    let cases: Vec<_> =
        cases.iter().map(|(name, bytes, says)| (&name[..], bytes.clone(), &says[..])).collect();
    check(&cases).await;
}

/// [10.1] A long message in frames of several lengths.
#[tokio::test]
async fn a_long_message_in_fragments_of_each_size() {
    let text = format!(r#"{{"type":"ping","n":3,"p":"{}"}}"#, "*".repeat(60_000)).into_bytes();
    let split = |size: usize| {
        let last = text.len().div_ceil(size) - 1;
        let frames = text
            .chunks(size)
            .enumerate()
            .map(|(index, chunk)| frame(u8::from(index == 0) | if index == last { 0x80 } else { 0 }, chunk));
        frames.collect::<Vec<_>>().concat()
    };
    let cases: Vec<(&str, Vec<u8>, &[Expected<'_>])> = [300, 1_300, 4_096, 16_384, 59_999]
        .into_iter()
        .map(|size| ("pieces", split(size), &[Expected::Echo(3)][..]))
        .collect();
    check(&cases).await;
}
