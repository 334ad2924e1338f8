//! The pages of operators: /healthz, /readyz, /metrics, and /api.

use crate::support::{Client, ask, get, server, unhurried};
use room_signaling_server::{AdminToken, Config};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn with_token(config: &mut Config) {
    config.admin_token = Some(AdminToken::try_from(TOKEN.to_owned()).unwrap());
}

async fn get_with_token(address: SocketAddr, path: &str) -> String {
    let (head, body) = get(address, path, &format!("Authorization: Bearer {TOKEN}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("Cache-Control: no-store"), "{head}");
    body
}

/// The samples of a text in the format of Prometheus, by name with labels. Checks that the family of each is described.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut family, mut kind, mut samples) = (String::new(), String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty());
            name.clone_into(&mut family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(of == "counter", name.ends_with("_total"), "{name}");
            of.clone_into(&mut kind);
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let base = name.split_once('{').map_or(name, |(base, _)| base);
            let base = if kind == "histogram" { base.rsplit_once('_').unwrap().0 } else { base };
            assert_eq!(base, family, "{line}");
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    samples
}

#[tokio::test]
async fn operator_pages_need_the_admin_token() {
    let open = server(|_| {});
    let guarded = server(with_token);
    for path in ["/metrics", "/api/rooms"] {
        let (head, _) = get(open.local_addr(), path, &format!("Authorization: Bearer {TOKEN}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        for header in
            ["", "Authorization: Bearer 0123456789abcdef0123456789abcdeF\r\n", "Authorization: Bearer\r\n"]
        {
            let (head, _) = get(guarded.local_addr(), path, header).await;
            assert!(head.starts_with("HTTP/1.1 401 ") && head.contains("WWW-Authenticate: Bearer"), "{head}");
        }
        get_with_token(guarded.local_addr(), path).await;
    }
}

#[tokio::test]
async fn metrics_count_connections_messages_and_errors() {
    let server = server(with_token);
    let address = server.local_addr();
    let (mut sender, _) = Client::join(address, "s", "r", "sender").await;
    let (mut one, _) = Client::join(address, "one", "r", "receiver").await;
    let (mut two, _) = Client::join(address, "two", "r", "receiver").await;
    sender.send(json!({"type": "offer", "sdp": "v=0"})).await;
    for receiver in [&mut one, &mut two] {
        receiver.message_of("offer").await;
    }
    one.send(json!({"type": "bye", "target_id": "nobody"})).await;
    one.message_of("error").await;
    drop(two);
    sender.message_of("peer_left").await;

    let text = get_with_token(address, "/metrics").await;
    let samples = samples(&text);
    for (name, expected) in [
        ("room_signaling_connections{state=\"open\"}", 2.0),
        ("room_signaling_connections{state=\"handshake\"}", 1.0),
        ("room_signaling_connections_opened_total", 3.0),
        ("room_signaling_http_responses_total{status=\"101\"}", 3.0),
        ("room_signaling_rooms", 1.0),
        ("room_signaling_members{role=\"sender\"}", 1.0),
        ("room_signaling_members{role=\"receiver\"}", 1.0),
        ("room_signaling_draining", 0.0),
        ("room_signaling_messages_received_total{type=\"register\"}", 3.0),
        ("room_signaling_messages_received_total{type=\"offer\"}", 1.0),
        ("room_signaling_messages_received_total{type=\"answer\"}", 0.0),
        // Six answers to register and join, two that told the sender of receivers, the offers, the error, the leaving.
        ("room_signaling_messages_sent_total", 12.0),
        ("room_signaling_messages_relayed_total", 2.0),
        ("room_signaling_errors_total{code=\"target_not_found\"}", 1.0),
        ("room_signaling_errors_total{code=\"bad_message\"}", 0.0),
        ("room_signaling_pauses_total", 0.0),
        ("room_signaling_slow_consumers_total", 0.0),
        ("room_signaling_queued_bytes", 0.0),
        ("room_signaling_delivery_seconds_count", 12.0),
        ("room_signaling_delivery_seconds_bucket{le=\"+Inf\"}", 12.0),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name} in\n{text}");
    }
    for name in [
        "room_signaling_received_bytes_total",
        "room_signaling_sent_bytes_total",
        "room_signaling_delivery_seconds_sum",
        "process_resident_memory_bytes",
        "process_max_fds",
    ] {
        assert!(samples[name] > 0.0, "{name} in\n{text}");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((0.0..60.0).contains(&(now - samples["process_start_time_seconds"])), "{text}");
}

#[tokio::test]
async fn metrics_count_pauses_and_rejections_of_a_flood() {
    let server = server(|config| {
        with_token(config);
        config.limits.messages_burst = 5.try_into().unwrap();
        config.limits.max_connections_per_ip = 2;
    });
    let address = server.local_addr();
    let mut client = Client::connect(address).await;
    client.send(json!({"type": "register", "client_id": "x", "protocol": 1})).await;
    for _ in 0..6 {
        client.send_text("{oops").await;
    }
    for _ in 0..6 {
        client.message_of("error").await;
    }
    let _second = Client::connect(address).await;
    assert!(get(address, "/metrics", "").await.0.starts_with("HTTP/1.1 429 "));
    drop(client);
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    let text = loop {
        let (head, body) = get(address, "/metrics", &format!("Authorization: Bearer {TOKEN}\r\n")).await;
        if head.starts_with("HTTP/1.1 200 ") {
            break body;
        }
        assert!(std::time::Instant::now() < deadline, "a seat should have become free");
    };
    let samples = samples(&text);
    assert_eq!(samples.get("room_signaling_messages_received_total{type=\"bad\"}"), Some(&6.0));
    assert!(samples["room_signaling_pauses_total"] >= 1.0);
    assert!(samples["room_signaling_http_responses_total{status=\"429\"}"] >= 1.0);
}

/// A full server is healthy. An orchestrator that could not see that would restart it, and all clients would reconnect
/// together.
#[tokio::test]
async fn a_full_server_answers_its_operators() {
    let operators = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = server(|config| {
        config.metrics_listen = Some(operators);
        config.limits.max_connections = 2;
        config.limits.max_connections_per_ip = 2;
        config.limits.new_connections_per_second = 1.try_into().unwrap();
    });
    let _clients = [Client::connect(server.local_addr()).await, Client::connect(server.local_addr()).await];
    for path in ["/healthz", "/readyz", "/metrics", "/api/rooms"] {
        let (head, _) = get(operators, path, "").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    }
    // The operators' seats are limited. When silent connections occupy all of them, the next connection is rejected.
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(crate::support::Raw::connect(operators).await);
    }
    let mut next = crate::support::Raw::connect(operators).await;
    assert!(next.read_to_end().await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn metrics_show_the_health_of_the_server() {
    let server = server(with_token);
    let address = server.local_addr();
    let mut client = Client::connect(address).await;
    for _ in 0..10 {
        client.send_text("no message").await;
    }
    assert_eq!(client.close_code().await, 4003);
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    let found = loop {
        let found = samples(&get_with_token(address, "/metrics").await);
        if found["room_signaling_loop_lag_seconds_count"] >= 1.0 {
            break found;
        }
        assert!(std::time::Instant::now() < deadline, "the lag should have been measured");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    for (name, value) in [
        ("room_signaling_closes_total{code=\"4003\"}", 1.0),
        ("room_signaling_config_last_reload_successful", 1.0),
        ("room_signaling_config_last_reload_seconds", 0.0),
        ("room_signaling_tls_certificate_not_after_seconds", 0.0),
        ("room_signaling_connection_panics_total", 0.0),
    ] {
        assert!((found[name] - value).abs() < f64::EPSILON, "{name} is {}", found[name]);
    }
    assert!(found.keys().any(|name| name.starts_with("room_signaling_build_info{version=")));
    let mut config = Config { listen: vec![address], ..Config::default() };
    with_token(&mut config);
    config.limits.max_connections = 0;
    server.reload(config);
    assert!(get(address, "/", "").await.0.starts_with("HTTP/1.1 200 "), "a spare seat");
    let found = samples(&get_with_token(address, "/metrics").await);
    assert!(found["room_signaling_config_last_reload_seconds"] > 1.0e9);
}

#[tokio::test]
async fn the_documentation_names_every_metric_and_no_other() {
    let server = server(with_token);
    let text = get_with_token(server.local_addr(), "/metrics").await;
    let docs = include_str!("../../../../docs/metrics.md");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for family in families {
        assert!(docs.contains(&format!("`{family}`")) || docs.contains(&format!("`{family}{{")), "{family}");
    }
    let named = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
    for name in named {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

#[tokio::test]
async fn the_list_of_rooms_has_their_members() {
    let server = server(with_token);
    let address = server.local_addr();
    assert_eq!(get_with_token(address, "/api/rooms").await, "{\"rooms\":[\n],\"total\":0}\n");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (_cam, _) = Client::join(address, "cam", "客厅", "sender").await;
    let (viewer, _) = Client::join(address, "viewer \"1\"", "客厅", "receiver").await;
    let (_other, _) = Client::join(address, "other", "b", "receiver").await;
    let told: Value = serde_json::from_str(&get_with_token(address, "/api/rooms").await).unwrap();
    assert_eq!(told["total"], 2);
    assert_eq!((&told["rooms"][0]["room_id"], &told["rooms"][1]["room_id"]), (&json!("b"), &json!("客厅")));
    let room = &told["rooms"][1];
    let remote = viewer.socket.get_ref().local_addr().unwrap().to_string();
    let member = &room["members"][1];
    assert_eq!(
        (&member["client_id"], &member["role"], &member["protocol"], &member["remote"]),
        (&json!("viewer \"1\""), &json!("receiver"), &json!(1), &json!(remote))
    );
    for since in [&room["since"], &member["since"]] {
        let since = since.as_u64().unwrap();
        assert!((before..before + 60).contains(&since), "{since} {before}");
    }
}

/// More than is written in one step.
#[tokio::test]
async fn a_list_of_many_rooms_is_written_in_steps() {
    const COUNT: usize = 300;
    let server = server(|config| {
        with_token(config);
        unhurried(config);
    });
    let address = server.local_addr();
    let long = "x".repeat(100);
    let mut clients = Vec::new();
    for n in 0..COUNT {
        clients.push(Client::join(address, "c", &format!("{n:04}{long}"), "sender").await.0);
    }
    let told: Value = serde_json::from_str(&get_with_token(address, "/api/rooms").await).unwrap();
    assert_eq!(told["total"], COUNT);
    let rooms = told["rooms"].as_array().unwrap();
    assert_eq!(rooms.len(), COUNT);
    for (n, room) in rooms.iter().enumerate() {
        assert!(room["room_id"].as_str().unwrap().starts_with(&format!("{n:04}x")), "{room}");
        assert_eq!(room["members"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_operator_removes_a_member_and_closes_a_room() {
    let server = server(with_token);
    let address = server.local_addr();
    let shown = format!("Authorization: Bearer {TOKEN}\r\n");
    let (mut sender, _) = Client::join(address, "camera", "living room", "sender").await;
    let (mut receiver, _) = Client::join(address, "ann/phone", "living room", "receiver").await;
    sender.message_of("peer_joined").await;
    let (head, body) = ask(address, "DELETE", "/api/rooms/living%20room/members/ann%2Fphone", &shown).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("\"removed\":1"), "{head}\n{body}");
    assert_eq!(receiver.message().await["code"], "forbidden");
    assert_eq!(receiver.message().await["type"], "left");
    let gone = sender.message_of("peer_left").await;
    assert_eq!((&gone["client_id"], &gone["reason"]), (&json!("ann/phone"), &json!("kicked")));
    receiver.send(json!({"type": "join", "room_id": "living room"})).await;
    assert_eq!(receiver.message().await["code"], "forbidden");
    let (head, body) = ask(address, "DELETE", "/api/rooms/living%20room", &shown).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("\"removed\":1"), "{head}\n{body}");
    assert_eq!(sender.message_of("error").await["code"], "forbidden");
    for path in ["/api/rooms/living%20room", "/api/rooms/living%20room/members/camera", "/api/other"] {
        let (head, _) = ask(address, "DELETE", path, &shown).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
    }
}

#[tokio::test]
async fn only_the_admin_token_removes_members() {
    let (open, guarded) = (server(|_| {}), server(with_token));
    for (server, header, status) in [
        (&open, format!("Authorization: Bearer {TOKEN}\r\n"), 404),
        (&guarded, String::new(), 401),
        (&guarded, "Authorization: Bearer 0123456789abcdef0123456789abcdeF\r\n".to_owned(), 401),
    ] {
        let address = server.local_addr();
        let (mut member, _) = Client::join(address, "a", "r", "sender").await;
        for (method, path) in [
            ("DELETE", "/api/rooms/r/members/a"),
            ("DELETE", "/api/rooms/r"),
            ("PUT", "/api/denied/users/a"),
            ("DELETE", "/api/denied/users/a"),
            ("GET", "/api/denied"),
        ] {
            let (head, _) = ask(address, method, path, &header).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {head}");
        }
        member.ping().await;
    }
    let (head, _) = ask(open.local_addr(), "DELETE", "/", "").await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
}
