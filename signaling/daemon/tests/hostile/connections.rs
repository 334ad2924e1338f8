//! Floods of connections.

use crate::{
    rig::{Target, attack},
    support::frame,
};
use serde_json::json;
use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// The number of attackers, each with its own address.
const ATTACKERS: usize = 8;

/// Connects as fast as possible until that was refused as too fast. Returns the number of answers by status.
async fn storm(target: Target, register: bool) -> BTreeMap<u16, usize> {
    let mut attackers = JoinSet::new();
    for from in 0..ATTACKERS {
        attackers.spawn(async move {
            let mut statuses = BTreeMap::<u16, usize>::new();
            while target.goes_on() || !statuses.contains_key(&429) {
                let (status, mut raw) = target.upgrade(target.connect(from).await.unwrap(), "").await;
                *statuses.entry(status).or_default() += 1;
                if status == 101 && register {
                    let id = format!("attacker {from} {}", statuses[&101]);
                    let message = json!({"type": "register", "client_id": id, "protocol": 1}).to_string();
                    raw.write(&frame(0x81, message.as_bytes())).await;
                    assert_eq!(raw.message().await["type"], "registered");
                }
            }
            statuses
        });
    }
    let mut sum = BTreeMap::new();
    for (status, count) in attackers.join_all().await.into_iter().flatten() {
        *sum.entry(status).or_default() += count;
    }
    sum
}

/// Few enough for a slow machine.
const RATE: &str = "[limits]\nnew_connections_per_second = 10";

/// A burst of twice the rate, and the rate during the attack.
fn at_most(target: Target) -> usize {
    ATTACKERS * (20 + 10 * usize::try_from(target.lasted().as_secs() + 1).unwrap())
}

#[test]
fn a_flood_of_registers() {
    attack(RATE, |target| async move {
        let statuses = storm(target, true).await;
        assert!(statuses[&101] <= at_most(target), "{statuses:?}");
        assert!(statuses.get(&429).is_some_and(|refused| *refused > 0), "{statuses:?}");
    });
}

#[test]
fn a_storm_of_reconnects() {
    attack(RATE, |target| async move {
        let statuses = storm(target, false).await;
        assert!(statuses[&101] <= at_most(target), "{statuses:?}");
        assert!(statuses.get(&429).is_some_and(|refused| *refused > 0), "{statuses:?}");
        let refused = target.metric("room_signaling_http_responses_total{status=\"429\"}").await;
        assert!(refused > 0.0);
    });
}

#[test]
fn one_address_takes_all_it_can_get() {
    attack("[limits]\nnew_connections_per_second = 1000", |target| async move {
        let mut held = Vec::new();
        let mut refused = 0;
        while target.goes_on() || refused == 0 {
            let (status, raw) = target.upgrade(target.connect(0).await.unwrap(), "").await;
            match status {
                101 => held.push(raw),
                _ => refused += 1,
            }
            assert!(held.len() <= 256);
        }
        assert_eq!(held.len(), 256);
        target.open(1).await;
    });
}
