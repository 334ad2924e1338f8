//! Rule 2: ids.

use crate::world::{Said, World, error};
use room_protocol::{ClientId, IdError, RoomId};
use serde_json::json;

#[test]
fn any_script_makes_a_good_id() {
    for id in ["a", "客厅", "Wohnzimmer 2", "{\"}\\", "камера-1", "é", "🚀", &"x".repeat(128)] {
        assert_eq!(ClientId::new(id).map(|id| id.to_string()), Ok(id.to_owned()));
    }
    let mut world = World::new();
    let a = world.client("a");
    world.join(a, "客厅", "sender");
    let [Said(_, joined)] = &world.take()[..] else { panic!() };
    assert_eq!(joined["room_id"], "客厅");
}

#[test]
fn invisible_characters_make_no_id() {
    let cases = [
        ("", IdError::Empty),
        (&"é".repeat(65), IdError::TooLong(130)),
        ("a\nb", IdError::Character(0x0A)),
        ("a\u{7f}", IdError::Character(0x7F)),
        ("a\u{202e}b", IdError::Character(0x202E)),
        ("a\u{2066}b", IdError::Character(0x2066)),
        ("\u{feff}a", IdError::Character(0xFEFF)),
        ("a\u{200b}b", IdError::Character(0x200B)),
        ("a\u{ad}b", IdError::Character(0xAD)),
        ("a\u{e0041}b", IdError::Character(0xE0041)),
        ("a\u{2028}b", IdError::Character(0x2028)),
        (" a", IdError::Space),
        ("a\u{3000}", IdError::Space),
    ];
    for (text, error) in cases {
        assert_eq!(ClientId::new(text), Err(error), "{text:?}");
    }
}

#[test]
fn client_ids_are_compared_byte_for_byte() {
    let mut world = World::new();
    let composed = world.member("r", "\u{e9}", "sender");
    let decomposed = world.member("r", "e\u{301}", "sender");
    let upper = world.member("r", "É", "sender");
    assert_eq!(world.peers(composed).len(), 2);
    world.say(decomposed, json!({"type": "x", "target_id": "É"}));
    assert_eq!(world.take(), [Said(upper, json!({"type": "x", "target_id": "É", "from": "e\u{301}"}))]);
}

#[test]
fn two_spellings_of_a_room_that_look_the_same_are_the_same_room() {
    let (composed, decomposed) = ("caf\u{e9} \u{d55c}", "cafe\u{301} \u{1112}\u{1161}\u{11ab}");
    let mut world = World::new();
    let a = world.member(composed, "a", "sender");
    let b = world.client("b");
    world.join(b, decomposed, "receiver");
    let outs = world.take();
    let Said(_, joined) = &outs[0] else { panic!("{outs:?}") };
    assert_eq!(joined["room_id"], composed);
    assert_eq!(world.peers(a), ["b"]);
    assert_eq!(world.hub.rooms(), 1);
}

#[test]
fn the_limit_of_a_room_name_is_that_of_its_composed_form() {
    assert!(RoomId::new("e\u{301}".repeat(64)).is_ok());
    assert_eq!(RoomId::new("e\u{301}".repeat(65)), Err(IdError::TooLong(130)));
    // A text that is far too long is not normalized at all.
    assert_eq!(RoomId::new("e\u{301}".repeat(1_000)), Err(IdError::TooLong(3_000)));
}

#[test]
fn an_old_client_may_have_a_short_instance() {
    let mut world = World::new();
    let conn = world.connect();
    world.say(conn, json!({"type": "register", "client_id": "a", "instance": "short"}));
    assert!(matches!(&world.take()[..], [Said(_, said)] if said["type"] == "registered"));
}

#[test]
fn a_bad_id_is_refused_and_the_connection_stays() {
    let mut world = World::new();
    let conn = world.connect();
    for register in [
        json!({"client_id": " a"}),
        json!({"client_id": "a", "instance": "a\u{0}b"}),
        json!({"protocol": 1, "instance": "fifteen bytes.."}),
    ] {
        let mut message = register;
        message["type"] = "register".into();
        world.say(conn, message);
        assert_eq!(world.take(), [error(conn, "invalid_id", "register")]);
    }
    world.say(conn, json!({"type": "register", "client_id": "a", "protocol": 1}));
    world.take();
    for room in ["", "a\u{200d}", &"x".repeat(129)] {
        world.say(conn, json!({"type": "join", "room_id": room}));
        assert_eq!(world.take(), [error(conn, "invalid_id", "join")]);
    }
    assert_eq!(world.hub.rooms(), 0);
}
