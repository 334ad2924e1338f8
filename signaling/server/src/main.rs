//! The command `room-signaling`.
fn main() {}
