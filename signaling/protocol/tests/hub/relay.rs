//! Rules 3, 4 and 5: relays are unchanged and in order.

use crate::world::{Said, World, error};
use serde_json::json;

#[test]
fn a_message_with_a_target_reaches_that_member_only() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    let _c = world.member("r", "c", "receiver");
    world.say(a, json!({"type": "offer", "sdp": "v=0", "target_id": "b", "session_id": "s"}));
    let offer = json!({"type": "offer", "sdp": "v=0", "target_id": "b", "session_id": "s", "from": "a"});
    assert_eq!(world.take(), [Said(b, offer)]);
    world.say(b, json!({"type": "answer", "sdp": "v=0", "target_id": "a"}));
    assert_eq!(
        world.take(),
        [Said(a, json!({"type": "answer", "sdp": "v=0", "target_id": "a", "from": "b"}))]
    );
}

#[test]
fn nothing_is_changed_but_from() {
    let mut world = World::new();
    let a = world.member("r", "a\"\\é", "sender");
    let b = world.member("r", "b", "receiver");
    let from = r#""from":"a\"\\é""#;
    // The message and its relay. F stands for the true `from`.
    let cases = [
        (r#"{"type":"x","n":1.50,"u":"\u00e9é"}"#, r#"{"type":"x","n":1.50,"u":"\u00e9é",F}"#),
        (r#" { "type" : "x" , "from" : "c" } "#, r#" { "type" : "x"  ,F} "#),
        (r#"{"from":"c","type":"x"}"#, r#"{"type":"x",F}"#),
        (r#"{"from":{"a":[1,{}]} , "type":"x"}"#, r#"{ "type":"x",F}"#),
        (r#"{"a":1,"\u0066rom":null,"type":"x"}"#, r#"{"a":1,"type":"x",F}"#),
        (
            r#"{"\u0074ype":"\u0078","z":{"from":"kept","type":5}}"#,
            r#"{"\u0074ype":"\u0078","z":{"from":"kept","type":5},F}"#,
        ),
        ("{\n\t\"type\": \"x\"\r\n}\n", "{\n\t\"type\": \"x\"\r\n,F}\n"),
        (r#"{"type":"x","sdp":1,"sdp":2}"#, r#"{"type":"x","sdp":1,"sdp":2,F}"#),
    ];
    for (said, heard) in cases {
        world.text(a, said);
        assert_eq!(world.take_text(b), heard.replace('F', from), "{said}");
    }
}

#[test]
fn a_target_is_found_however_it_is_spelled() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "客", "receiver");
    world.text(a, r#"{"type":"offer","target_id":"\u5ba2"}"#);
    assert_eq!(world.take_text(b), r#"{"type":"offer","target_id":"\u5ba2","from":"a"}"#);
    world.text(a, r#"{"type":"offer","t\u0061rget_id":"客"}"#);
    assert_eq!(world.take_text(b), r#"{"type":"offer","t\u0061rget_id":"客","from":"a"}"#);
}

#[test]
fn without_target_media_words_go_to_the_opposite_role() {
    let mut world = World::new();
    let s1 = world.member("r", "s1", "sender");
    let s2 = world.member("r", "s2", "sender");
    let v1 = world.member("r", "v1", "receiver");
    let v2 = world.member("r", "v2", "receiver");
    for word in ["offer", "answer", "candidate", "bye"] {
        for absent in [json!(null), json!("")] {
            world.say(s1, json!({"type": word, "target_id": absent}));
            let heard = json!({"type": word, "target_id": absent, "from": "s1"});
            assert_eq!(world.take(), [Said(v1, heard.clone()), Said(v2, heard)]);
        }
        world.say(v2, json!({"type": word}));
        let heard = json!({"type": word, "from": "v2"});
        assert_eq!(world.take(), [Said(s1, heard.clone()), Said(s2, heard)]);
    }
}

#[test]
fn without_a_target_other_types_go_to_all_others() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let v1 = world.member("r", "v1", "receiver");
    let v2 = world.member("r", "v2", "receiver");
    for word in ["chat", "Offer", "registered2", "serverx", "ice-candidate", "🎥"] {
        world.say(v1, json!({"type": word}));
        let heard = json!({"type": word, "from": "v1"});
        assert_eq!(world.take(), [Said(s, heard.clone()), Said(v2, heard)]);
    }
}

#[test]
fn the_bytes_are_shared_among_all_recipients() {
    use room_protocol::hub::{Input, Output};
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    world.member("r", "v1", "receiver");
    world.member("r", "v2", "receiver");
    world.input(Input::Frame(s, r#"{"type":"offer","sdp":"v=0"}"#.into()));
    let (Some(Output::Send(_, one)), Some(Output::Send(_, two))) = (world.poll(), world.poll()) else {
        panic!()
    };
    assert_eq!(one.as_bytes().as_ptr(), two.as_bytes().as_ptr());
}

#[test]
fn a_receiver_can_not_offer_to_a_receiver() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let v1 = world.member("r", "v1", "receiver");
    let v2 = world.member("r", "v2", "receiver");
    world.say(v1, json!({"type": "offer", "target_id": "v2"}));
    let forbidden = json!({"type": "error", "code": "forbidden", "request": "offer", "target_id": "v2"});
    assert_eq!(world.take(), [Said(v1, forbidden)]);
    // Other types pass, and so do offers to and from senders.
    for (by, to, message) in [
        (v1, v2, json!({"type": "chat", "target_id": "v2"})),
        (v1, v2, json!({"type": "candidate", "target_id": "v2"})),
        (v1, s, json!({"type": "offer", "target_id": "s"})),
        (v1, s, json!({"type": "offer"})),
        (s, v2, json!({"type": "offer", "target_id": "v2"})),
    ] {
        let mut heard = message.clone();
        heard["from"] = if by == s { "s" } else { "v1" }.into();
        world.say(by, message);
        assert_eq!(world.take(), [Said(to, heard)]);
    }
    world.say(v1, json!({"type": "offer", "target_id": "v1"}));
    let not_found =
        json!({"type": "error", "code": "target_not_found", "request": "offer", "target_id": "v1"});
    assert_eq!(world.take(), [Said(v1, not_found)]);
}

#[test]
fn an_unknown_target_is_named() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    world.member("other", "b", "receiver");
    for target in ["b", "nobody", "a", "\n"] {
        world.say(a, json!({"type": "offer", "sdp": "", "target_id": target}));
        let error =
            json!({"type": "error", "code": "target_not_found", "request": "offer", "target_id": target});
        assert_eq!(world.take(), [Said(a, error)]);
    }
}

#[test]
fn nothing_crosses_rooms() {
    let mut world = World::new();
    let a1 = world.member("one", "a", "sender");
    let b1 = world.member("one", "b", "receiver");
    let a2 = world.member("two", "a", "sender");
    let b2 = world.member("two", "b", "receiver");
    for (from, to) in [(a1, b1), (a2, b2)] {
        for message in
            [json!({"type": "offer"}), json!({"type": "x"}), json!({"type": "offer", "target_id": "b"})]
        {
            let mut heard = message.clone();
            heard["from"] = "a".into();
            world.say(from, message);
            assert_eq!(world.take(), [Said(to, heard)]);
        }
    }
}

#[test]
fn order_is_kept() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    for n in 0..100 {
        let target = if n % 2 == 0 { json!("b") } else { json!(null) };
        world.say(a, json!({"type": "candidate", "target_id": target, "n": n}));
    }
    let numbers = world.take().into_iter().map(|out| match out {
        Said(to, heard) if to == b => heard["n"].as_u64().expect("a number"),
        other => panic!("{other:?}"),
    });
    assert!(numbers.eq(0..100));
}

#[test]
fn a_client_in_no_room_can_not_send() {
    let mut world = World::new();
    let a = world.client("a");
    world.say(a, json!({"type": "offer", "target_id": "b"}));
    assert_eq!(world.take(), [error(a, "not_joined", "offer")]);
    world.join(a, "r", "sender");
    world.say(a, json!({"type": "leave"}));
    world.take();
    world.say(a, json!({"type": "offer"}));
    assert_eq!(world.take(), [error(a, "not_joined", "offer")]);
}

#[test]
fn a_pong_has_all_fields_of_the_ping() {
    let mut world = World::new();
    let a = world.client("a");
    world.text(a, r#"{"t":1.0, "\u0074ype" : "ping","from":"me","target_id":"b","deep":[{}]}"#);
    assert_eq!(
        world.take_text(a),
        r#"{"t":1.0, "\u0074ype" : "pong","from":"me","target_id":"b","deep":[{}]}"#
    );
}
