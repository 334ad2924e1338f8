//! What a reload makes weaker: a configuration that opens something is allowed, but never in silence.

use super::Config;
use room_protocol::hub::{Auth, RoomPattern, RoomRules};

/// What is weaker in `new` than in `old`, each as a sentence that names the key.
pub(crate) fn than(old: &Config, new: &Config) -> Vec<String> {
    let mut words = Vec::new();
    users(old, new, &mut words);
    rooms(old, new, &mut words);
    if new.admin_token.is_some() && old.admin_token.is_none() {
        words.push("admin: the token opens /metrics and /api on the public addresses now".into());
    }
    for (key, what, old, new) in [
        ("allow_hosts", "the server answers to this name now", &old.allow_hosts, &new.allow_hosts),
        ("allow_origins", "pages of this origin may connect now", &old.allow_origins, &new.allow_origins),
    ] {
        let added = new.iter().filter(|entry| !old.contains(entry));
        words.extend(added.map(|entry| format!("{key}: {what}: {entry:?}")));
    }
    let added = new.trusted_proxies.iter().filter(|proxy| !old.trusted_proxies.contains(proxy));
    words.extend(added.map(|proxy| format!("trusted_proxies: X-Forwarded-For of {proxy} is trusted now")));
    words
}

/// Whether nothing protects the server any more, and something did before.
pub(crate) fn is_open_now(old: &Config, new: &Config) -> bool {
    new.hub.auth == Auth::None && old.hub.auth != Auth::None
}

fn users(old: &Config, new: &Config, words: &mut Vec<String>) {
    match (&old.hub.auth, &new.hub.auth) {
        (Auth::Token { .. }, Auth::None) => {
            words.push("auth: clients need no token any more, so everybody may do everything".into());
        }
        (Auth::Token { audience: Some(audience), .. }, Auth::Token { audience: None, .. }) => {
            words.push(format!("auth.audience: tokens need not name {audience:?} any more"));
        }
        _ => {}
    }
}

/// Patterns whose rooms needed a password and need none now.
fn rooms(old: &Config, new: &Config, words: &mut Vec<String>) {
    let patterns = old.hub.room_rules.iter().chain(&new.hub.room_rules).map(|rule| &rule.rooms);
    let [before, now] = [old, new].map(|config| RoomRules::new(&config.hub.room_rules));
    let opened = |pattern: &&RoomPattern| before.is_closed(pattern) && !now.is_closed(pattern);
    let mut opened: Vec<String> = patterns.filter(opened).map(ToString::to_string).collect();
    opened.sort();
    opened.dedup();
    words.extend(opened.iter().map(|rooms| format!("rooms: {rooms:?} needs no password any more")));
}
