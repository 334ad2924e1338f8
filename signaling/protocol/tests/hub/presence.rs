//! Rule 6: which members see each other, and which news they get.

use crate::world::{Out, Said, World};
use room_protocol::hub::{ConnId, Input};
use serde_json::{Value, json};

/// The messages, reduced to recipient, type, subject, and role or reason.
fn brief(outs: Vec<Out>) -> Vec<(ConnId, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for out in outs {
        let Said(to, said) = out else { panic!("{out:?}") };
        let how = if said["type"] == "peer_left" { text(&said["reason"]) } else { text(&said["role"]) };
        lines
            .push((to, [text(&said["type"]), text(&said["client_id"]), how].join(" ").trim_end().to_owned()));
    }
    lines
}

fn line(to: ConnId, text: &str) -> (ConnId, String) {
    (to, text.into())
}

#[test]
fn senders_see_all_and_receivers_see_senders() {
    let mut world = World::new();
    let s1 = world.member("r", "s1", "sender");
    let v1 = world.member("r", "v1", "receiver");
    let s2 = world.client("s2");
    world.join(s2, "r", "sender");
    assert_eq!(
        brief(world.take()),
        [line(s2, "joined  sender"), line(s1, "peer_joined s2 sender"), line(v1, "peer_joined s2 sender")]
    );
    let v2 = world.client("v2");
    world.join(v2, "r", "receiver");
    assert_eq!(
        brief(world.take()),
        [
            line(v2, "joined  receiver"),
            line(s1, "peer_joined v2 receiver"),
            line(s2, "peer_joined v2 receiver")
        ]
    );
    assert_eq!(world.peers(s1), ["s2", "v1", "v2"]);
    assert_eq!(world.peers(v1), ["s1", "s2"]);
    world.input(Input::Disconnected(v2));
    assert_eq!(
        brief(world.take()),
        [line(s1, "peer_left v2 disconnected"), line(s2, "peer_left v2 disconnected")]
    );
    world.input(Input::Disconnected(s2));
    assert_eq!(
        brief(world.take()),
        [line(s1, "peer_left s2 disconnected"), line(v1, "peer_left s2 disconnected")]
    );
}

#[test]
fn a_change_of_meta_is_announced_to_the_members_that_see_it() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let v = world.member("r", "v", "receiver");
    let w = world.member("r", "w", "receiver");
    world.say(v, json!({"type": "join", "room_id": "r", "meta": "new"}));
    let outs = world.take();
    let [Said(_, joined), Said(to, reported)] = &outs[..] else { panic!("{outs:?}") };
    assert_eq!(
        (&joined["type"], *to, &reported["type"], &reported["meta"]),
        (&json!("joined"), s, &json!("peer_joined"), &json!("new"))
    );
    world.say(s, json!({"type": "join", "room_id": "r", "role": "sender", "meta": 1}));
    assert_eq!(
        brief(world.take()),
        [line(s, "joined  sender"), line(v, "peer_joined s sender"), line(w, "peer_joined s sender")]
    );
    // The change back is announced in the same way.
    world.say(v, json!({"type": "join", "room_id": "r", "meta": null}));
    let outs = world.take();
    let [_, Said(_, reported)] = &outs[..] else { panic!("{outs:?}") };
    assert_eq!(reported.get("meta"), None);
}

#[test]
fn meta_is_passed_on_unchanged() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let v = world.client("v");
    let meta = "{\"z\":1.50,\"a\":[ ],\"big\":1234567890123456789012345678901234567890,\"u\":\"\\u00e9\"}";
    world.text(v, &format!(r#"{{"type":"join","room_id":"r","meta":{meta}}}"#));
    let texts: Vec<String> = std::iter::from_fn(|| world.poll())
        .filter_map(|output| match output {
            room_protocol::hub::Output::Send(to, text) if to == s => Some(text.into()),
            _ => None,
        })
        .collect();
    assert!(texts.len() == 1 && texts[0].contains(&format!("\"meta\":{meta}")), "{texts:?}");
}

#[test]
fn a_receiver_becomes_a_sender() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let v = world.member("r", "v", "receiver");
    let w = world.member("r", "w", "receiver");
    world.join(v, "r", "sender");
    // For w it is a new member; it sees w now.
    assert_eq!(
        brief(world.take()),
        [line(v, "joined  sender"), line(s, "peer_joined v sender"), line(w, "peer_joined v sender")]
    );
    assert_eq!(world.peers(v), ["s", "w"]);
    assert_eq!(world.peers(w), ["s", "v"]);
}

#[test]
fn a_sender_becomes_a_receiver() {
    let mut world = World::new();
    let s = world.member("r", "s", "sender");
    let t = world.member("r", "t", "sender");
    let v = world.member("r", "v", "receiver");
    world.join(s, "r", "receiver");
    // For receivers it has left.
    assert_eq!(
        brief(world.take()),
        [line(s, "joined  receiver"), line(t, "peer_joined s receiver"), line(v, "peer_left s left")]
    );
    assert_eq!(world.peers(s), ["t"]);
    assert_eq!(world.peers(v), ["t"]);
    world.say(v, json!({"type": "bye"}));
    assert_eq!(world.take(), [Said(t, json!({"type": "bye", "from": "v"}))]);
}

#[test]
fn joined_precedes_all_news_of_that_room() {
    let mut world = World::new();
    world.member("r", "s", "sender");
    let (v, t) = (world.client("v"), world.client("t"));
    world.join(v, "r", "receiver");
    world.join(t, "r", "sender");
    let to_v: Vec<_> =
        brief(world.take()).into_iter().filter(|(to, _)| *to == v).map(|(_, line)| line).collect();
    assert_eq!(to_v, ["joined  receiver", "peer_joined t sender"]);
    assert_eq!(world.peers(v), ["s", "t"]);
}

#[test]
fn a_list_has_at_most_a_thousand_entries_and_the_total() {
    let mut world =
        World::with(room_protocol::HubConfig { max_members: 2_000, ..room_protocol::HubConfig::default() });
    for n in 0..1_100 {
        world.member("r", &format!("v{n:04}"), "receiver");
    }
    let s = world.client("s");
    world.join(s, "r", "sender");
    let outs = world.take();
    let Said(_, joined) = &outs[0] else { panic!() };
    assert_eq!((joined["peers"].as_array().map(Vec::len), &joined["total"]), (Some(1_000), &json!(1_100)));
    assert_eq!(outs.len(), 1_101, "and every one of them hears of it");
    assert_eq!(world.peers(s).len(), 1_000);
}

#[test]
fn a_list_fits_into_a_queue() {
    let mut world = World::new();
    let meta = "x".repeat(1_022);
    for n in 0..999 {
        let v = world.client(&format!("v{n:03}"));
        world.say(v, json!({"type": "join", "room_id": "r", "meta": meta}));
        world.take();
    }
    let s = world.client("s");
    world.join(s, "r", "sender");
    let outs = world.take();
    let Said(_, joined) = &outs[0] else { panic!() };
    let size = joined.to_string().len();
    assert!((400_000..600_000).contains(&size), "{size}");
    assert_eq!(joined["total"], 999);
}
