//! Random bytes at every stage of a connection. The program survives them.

use crate::support::{Client, Program, Raw, frame};
use tokio::io::AsyncWriteExt;

/// A stream of bytes that is the same in each run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    /// A message that is almost valid.
    fn message(&mut self) -> Vec<u8> {
        let expected = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\"type\":",
            "\"register\"",
            "\"join\"",
            "\"offer\"",
            "\"from\":",
            "\"target_id\":",
            "\"room_id\":",
            "\"client_id\":",
            "null",
            "1e999",
            "-",
            "客",
            "\u{0}",
            " ",
        ];
        let count = self.below(12);
        (0..count).flat_map(|_| expected[self.below(expected.len())].bytes()).collect()
    }
}

#[tokio::test]
async fn noise_hurts_nobody() {
    let (mut program, address) = Program::start("", &["--drain-seconds", "0"]);
    let (mut witness, _) = Client::join(address, "witness", "r", "sender").await;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for round in 0..300_u16 {
        let length = noise.below(400);
        let from = u8::try_from(round % 100).unwrap();
        if round % 3 == 0 {
            let mut raw = Raw::connect_from(from, address).await;
            let _ = raw.stream.write_all(&noise.bytes(length)).await;
            continue;
        }
        let mut raw = Raw::upgrade(Raw::connect_from(from, address).await.stream).await;
        if round % 3 == 1 {
            let _ = raw.stream.write_all(&noise.bytes(length)).await;
            continue;
        }
        for _ in 0..20 {
            let first = [0x81, 0x81, 0x81, 0x01, 0x80, 0x82, 0x89][noise.below(7)];
            let message = noise.message();
            if raw.stream.write_all(&frame(first, &message)).await.is_err() {
                break;
            }
        }
    }
    witness.ping().await;
    drop(witness);
    program.signal("TERM");
    assert_eq!(program.end().code(), Some(0));
    let said = program.seen.join("\n");
    assert!(!said.contains("panicked"), "{said}");
}
