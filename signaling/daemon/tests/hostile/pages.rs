//! Hostile web pages in the browser of a user that can reach the server.

use crate::rig::{Target, attack};
use tokio::task::JoinSet;

/// Sends the same request again and again, and gets 403.
async fn knock(target: Target, first: usize, request: impl Fn(Target) -> String) {
    let mut nth = first;
    while target.goes_on() || nth == first {
        let (status, _) = target.ask(target.connect(nth).await.unwrap(), &request(target)).await;
        assert_eq!(status, 403);
        nth += 1;
    }
}

#[test]
fn a_page_of_another_origin() {
    attack("", |target| async move {
        let mut pages = JoinSet::new();
        for (n, origin) in
            ["https://evil.example", "http://127.0.0.1:1", "null", "http://127.0.0.1.evil.example"]
                .into_iter()
                .enumerate()
        {
            pages.spawn(knock(target, n * 5_000, move |target| {
                crate::support::handshake(target.address, "/", &format!("Origin: {origin}\r\n"))
            }));
        }
        pages.join_all().await;
    });
}

#[test]
fn a_page_whose_name_points_here() {
    attack("", |target| async move {
        let mut pages = JoinSet::new();
        for (n, name) in ["rebound.example", "127.0.0.1.evil.example", "192.0.2.1"].into_iter().enumerate() {
            pages.spawn(knock(target, n * 5_000, move |target| {
                let host = format!("{name}:{}", target.address.port());
                crate::support::handshake(&host, "/ws", &format!("Origin: http://{host}\r\n"))
            }));
            pages.spawn(knock(target, n * 5_000 + 20_000, move |target| {
                format!("GET /main.js HTTP/1.1\r\nHost: {name}:{}\r\n\r\n", target.address.port())
            }));
        }
        pages.join_all().await;
    });
}
