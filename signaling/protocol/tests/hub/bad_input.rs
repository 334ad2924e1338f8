//! Rule 13: invalid messages.

use crate::world::{Closed, Out, Said, World, error};
use proptest::prelude::*;
use room_protocol::{
    hub::{ConnId, Input},
    scan::{Bad, Envelope},
};
use serde_json::{Value, json};

fn bad(conn: ConnId) -> Out {
    Said(conn, json!({"type": "error", "code": "bad_message"}))
}

/// Sends `text`, and checks that the only answer is `bad_message`.
#[track_caller]
fn refused(text: &str) {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    world.text(a, text);
    assert_eq!(world.take(), [bad(a)], "{text}");
    world.say(a, json!({"type": "x"}));
    assert_eq!(world.take(), [Said(b, json!({"type": "x", "from": "a"}))], "the connection stays");
}

#[test]
fn text_that_is_not_a_json_object() {
    for text in [
        "",
        " ",
        "oops",
        "{oops",
        "null",
        "[]",
        "5",
        "\"offer\"",
        "[{\"type\":\"x\"}]",
        "{",
        "{}}",
        "{\"type\"}",
        "{\"type\":\"x\"} x",
        "{\"type\":\"x\"}{}",
        "{\"type\":\"x\",}",
        "{,\"type\":\"x\"}",
        "{'type':'x'}",
        "{\"type\":\"x\" \"a\":1}",
        "{\"type\":\"x\",\"a\":}",
        "{\"type\":\"x\",\"a\":[1,]}",
        "{\"type\":\"x\",\"a\":[1 2]}",
        "{\"type\":\"x\",a:1}",
        "\u{feff}{\"type\":\"x\"}",
        "{\"type\":\"x",
        "{\"type\":\"x\"",
        "{\"type\":\"x\",\"a\":tru}",
        "{\"type\":\"x\",\"a\":NaN}",
        "{\"type\":\"x\",\"a\":-Infinity}",
        "{\"type\":\"x\",\"a\":undefined}",
        "{\"type\":\"x\",\"a\":\"\u{1}\"}",
        "{\"type\":\"x\",\"a\":\"\n\"}",
        "{\"type\":\"x\"}\u{0}",
        "/**/{\"type\":\"x\"}",
    ] {
        refused(text);
    }
}

#[test]
fn strings_that_violate_the_grammar() {
    for string in [
        r"\x41",
        r"\u12",
        r"\u12g4",
        r"\ud800",
        r"\ud800x",
        r"\ud800\n",
        r"\ud800\u0041",
        r"\udc00",
        r"\ud83d\ud83d",
        "\\",
    ] {
        refused(&format!(r#"{{"type":"x","a":"{string}"}}"#));
        refused(&format!(r#"{{"type":"x","{string}":1}}"#));
    }
}

#[test]
fn numbers_that_violate_the_grammar() {
    for number in [
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "1e999",
        "-1E400",
        "--1",
        "1_0",
        &"1".repeat(41),
        &format!("0.{}", "1".repeat(39)),
    ] {
        refused(&format!(r#"{{"type":"x","a":{number}}}"#));
        refused(&format!(r#"{{"type":"x","a":[{number}]}}"#));
    }
}

#[test]
fn messages_at_the_limit_pass() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    // The message itself is one level.
    let deep = format!("{}{}", "[".repeat(31), "]".repeat(31));
    let long = "1".repeat(40);
    for value in [
        &*deep,
        &long,
        "-0.0e-00",
        "1E+9",
        "1e-999",
        r#""\ud83d\ude00\/\b\f\n\r\t\\\"""#,
        "[ ]",
        "{ }",
        "[1 , {\"a\" : [ ] }]",
    ] {
        world.text(a, &format!(r#"{{"type":"x","a":{value}}}"#));
        assert_eq!(world.take_text(b), format!(r#"{{"type":"x","a":{value},"from":"a"}}"#));
    }
    refused(&format!(r#"{{"type":"x","a":[{deep}]}}"#));
    refused(&format!(r#"{{"type":"x","a":{}"#, r#"{"a":"#.repeat(32)));
    refused(&format!(r#"{{"type":"x","a":{}"#, "[".repeat(100_000)));
}

#[test]
fn ambiguous_messages() {
    for twice in [
        r#"{"type":"offer","type":"x"}"#,
        r#"{"type":"x","\u0074ype":"offer"}"#,
        r#"{"type":"x","target_id":"b","target_id":"b"}"#,
        r#"{"type":"x","target_id":null,"target_i\u0064":"b"}"#,
        r#"{"type":"x","from":"b","from":"c"}"#,
        r#"{"from":1,"type":"x","fr\u006Fm":"c"}"#,
    ] {
        refused(twice);
    }
}

#[test]
fn an_envelope_with_missing_or_wrong_types() {
    for text in [
        "{}",
        r#"{"a":1}"#,
        r#"{"type":""}"#,
        r#"{"type":null}"#,
        r#"{"type":5}"#,
        r#"{"type":["x"]}"#,
        r#"{"type":{}}"#,
        r#"{"Type":"x"}"#,
        r#"{"type":"x","target_id":5}"#,
        r#"{"type":"x","target_id":["b"]}"#,
        r#"{"type":"x","target_id":false}"#,
        r#"{"a":{"type":"x"}}"#,
    ] {
        refused(text);
    }
}

#[test]
fn a_request_with_fields_of_other_types() {
    let mut world = World::new();
    let a = world.client("a");
    for join in [
        json!({"type": "join"}),
        json!({"type": "join", "room_id": null}),
        json!({"type": "join", "room_id": 5}),
        json!({"type": "join", "room_id": "r", "role": 5}),
        json!({"type": "join", "room_id": "r", "meta": "x".repeat(1023)}),
    ] {
        world.say(a, join);
        assert_eq!(world.take(), [error(a, "bad_message", "join")]);
    }
    let conn = world.connect();
    for register in
        [json!({"protocol": "1"}), json!({"protocol": -1}), json!({"protocol": 1.5}), json!({"instance": 5})]
    {
        let mut message = register;
        message["type"] = "register".into();
        world.say(conn, message);
        assert_eq!(world.take(), [error(conn, "bad_message", "register")]);
    }
}

#[test]
fn an_error_does_not_repeat_a_long_message() {
    let mut world = World::new();
    let conn = world.connect();
    for value in ["x".repeat(60_000), "é".repeat(30_000)] {
        world.input(Input::Frame(conn, json!({"type": "register", "protocol": value}).to_string().into()));
        let text = world.take_refusal(conn);
        assert!(text.contains("protocol") || text.contains("invalid type"), "{text}");
        assert!(text.len() < 500, "{} bytes", text.len());
    }
}

#[test]
fn a_type_that_is_reserved_for_the_server() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    world.member("r", "b", "receiver");
    for word in [
        "registered",
        "joined",
        "left",
        "peer_joined",
        "peer_left",
        "pong",
        "draining",
        "error",
        "server.",
        "server.hello",
    ] {
        world.say(a, json!({"type": word, "target_id": "b"}));
        assert_eq!(world.take(), [error(a, "forbidden_type", word)]);
    }
    world.text(a, r#"{"type":"err\u006fr"}"#);
    assert_eq!(world.take(), [error(a, "forbidden_type", "error")]);
}

#[test]
fn a_binary_frame() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    world.input(Input::BadFrame(a));
    assert_eq!(world.take(), [bad(a)]);
}

#[test]
fn ten_bad_messages_in_a_row_end_the_connection() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    let nine = |world: &mut World| {
        for n in 0..9 {
            match n % 3 {
                0 => world.text(a, "{"),
                1 => world.input(Input::BadFrame(a)),
                _ => world.say(a, json!({"type": "join", "room_id": 5})),
            }
        }
        assert_eq!(world.take().len(), 9);
    };
    nine(&mut world);
    // A readable message resets the count, even if it is refused for another reason.
    world.say(a, json!({"type": "offer", "target_id": "nobody"}));
    world.take();
    nine(&mut world);
    world.text(a, "{");
    let gone = json!({"type": "peer_left", "client_id": "a", "reason": "disconnected"});
    assert_eq!(world.take(), [bad(a), Closed(a, 4003), Said(b, gone)]);
}

#[test]
fn a_long_type_is_not_repeated_in_full() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    world.say(a, json!({"type": "é".repeat(1000), "target_id": "x".repeat(1000)}));
    let echo = json!({"type": "error", "code": "target_not_found", "request": "é".repeat(64), "target_id": "x".repeat(128)});
    assert_eq!(world.take(), [Said(a, echo)]);
}

#[test]
fn a_frame_over_the_limit_is_closed_with_1009() {
    let mut world = World::new();
    let a = world.member("r", "a", "sender");
    let b = world.member("r", "b", "receiver");
    world.input(Input::TooBig(a));
    let gone = json!({"type": "peer_left", "client_id": "a", "reason": "disconnected"});
    assert_eq!(world.take(), [Closed(a, 1009), Said(b, gone)]);
}

/// Text that is almost a message.
fn nearly() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        any::<String>().prop_map(|text| json!(text).to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        r#""(\\u[0-9a-fD]{4}|\\[nt"x]|é|[ -~]){0,8}""#,
        r#"[\[\]{}",:0-9eE.+ -]{0,12}"#,
    ];
    let key = prop_oneof!["type", "target_id", "from", r"\\u0074ype", "[a-z]{1,3}"];
    prop::collection::vec((key, value), 0..5).prop_map(|members| {
        let members: Vec<String> =
            members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn accepted_messages_are_valid_json(text in nearly()) {
        let value = serde_json::from_str::<Value>(&text);
        match Envelope::scan(&text) {
            Err(Bad::Syntax(_)) => prop_assert!(value.is_err(), "{}", text),
            Err(_) => {}
            Ok(envelope) => {
                let mut value = value.expect("JSON");
                value["from"] = "a\"b".into();
                prop_assert_eq!(serde_json::from_str::<Value>(&envelope.with_from("a\"b")).expect("JSON"), value);
            }
        }
    }
}
