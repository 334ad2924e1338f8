//! Any text as a frame: each text that `scan` accepts is valid JSON for another parser, and its relay is correct.

#![no_main]

use libfuzzer_sys::fuzz_target;
use room_protocol::{
    ClientId,
    scan::{Bad, Envelope},
    wire::{ServerMessage, Signal},
};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let _ = serde_json::from_str::<ServerMessage>(text);
    let _ = serde_json::from_str::<Signal>(text);
    let id = ClientId::new(text);
    let from = id.as_ref().map_or("\"客\\", |id| id.as_str());
    let envelope = match Envelope::scan(text) {
        Ok(envelope) => envelope,
        Err(Bad::Syntax(_)) => {
            assert!(serde_json::from_str::<Value>(text).is_err(), "refused, though JSON");
            return;
        }
        Err(_) => return,
    };
    let mut value: Value = serde_json::from_str(text).expect("accepted, so JSON");
    assert_eq!(value["type"], *envelope.kind);
    assert_eq!(value["target_id"].as_str().unwrap_or_default(), envelope.target.as_deref().unwrap_or_default());

    let mut pong = value.clone();
    pong["type"] = "pong".into();
    assert_eq!(serde_json::from_str::<Value>(&envelope.with_kind("pong")).expect("JSON"), pong);

    value["from"] = from.into();
    let relayed = envelope.with_from(from);
    assert_eq!(serde_json::from_str::<Value>(&relayed).expect("JSON"), value);
    // A second pass gives the same result.
    let again = Envelope::scan(&relayed).expect("still a message").with_from(from);
    assert_eq!(again, relayed);
});
