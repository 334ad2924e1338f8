//! Joins a room and prints its events, for a number of seconds or until it is stopped:
//! `cargo run -p room-signaling-client --example watch -- ws://127.0.0.1:8765 living_room sender 60`

use room_signaling_client::{ClientConfig, Options, new_instance, protocol::RoomId, spawn, wire::Role};
use std::{env, error::Error, time::Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    let mut arguments = env::args().skip(1);
    let uri = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:8765".to_owned());
    let room = RoomId::new(arguments.next().unwrap_or_else(|| "room_default".to_owned()))?;
    // Senders see all members, receivers see the senders.
    let role = if arguments.next().as_deref() == Some("sender") { Role::Sender } else { Role::Receiver };
    let seconds: u64 = arguments.next().map_or(Ok(u64::MAX), |text| text.parse())?;
    let (handle, mut events) = spawn(Options::new(uri, ClientConfig::new(room, role, new_instance())))?;
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(end);
    let mut leaving = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => println!("{event:?}"),
                None => return Ok(()),
            },
            () = &mut end, if !leaving => {
                leaving = true;
                handle.shutdown();
            }
        }
    }
}
