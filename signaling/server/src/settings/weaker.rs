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
    let users = old.hub.denied.users.difference(&new.hub.denied.users);
    words.extend(users.map(|user| format!("auth.denied_users: {:?} is no longer denied", user.as_str())));
    let tokens = old.hub.denied.tokens.difference(&new.hub.denied.tokens);
    words.extend(tokens.map(|id| format!("auth.denied_tokens: {id:?} is no longer denied")));
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

#[cfg(test)]
mod tests {
    use super::*;
    use room_protocol::{
        UserId,
        hub::{DenyList, PasswordHash, RoomRule},
    };

    fn with(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    fn token(config: &mut Config, audience: Option<&str>) {
        config.hub.auth = Auth::Token { keys: [].into(), audience: audience.map(str::to_owned) };
    }

    fn rules(config: &mut Config, rules: &[(&str, Option<&str>)]) {
        let rule = |(rooms, hash): &(&str, Option<&str>)| RoomRule {
            rooms: RoomPattern::new(rooms).unwrap(),
            password: hash.map(PasswordHash::new),
        };
        config.hub.room_rules = rules.iter().map(rule).collect();
    }

    #[test]
    fn whatever_a_reload_opens_is_reported_and_nothing_is_that_it_closes() {
        let default = with(|_| {});
        for (closed, open, words) in [
            (with(|config| token(config, None)), with(|_| {}), vec!["auth: "]),
            (
                with(|config| token(config, Some("here"))),
                with(|config| token(config, None)),
                vec!["auth.audience: "],
            ),
            (with(|config| rules(config, &[("lab*", Some("hash"))])), with(|_| {}), vec!["rooms: \"lab*\""]),
            (
                with(|config| rules(config, &[("*", Some("hash"))])),
                with(|config| rules(config, &[("*", Some("other")), ("lab", None)])),
                vec!["rooms: \"lab\""],
            ),
            (
                with(|_| {}),
                with(|config| {
                    config.allow_hosts = vec!["*".into()];
                    config.allow_origins = vec!["https://a.example".into()];
                    config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
                    config.admin_token = Some("0123456789abcdef".to_owned().try_into().unwrap());
                }),
                vec!["admin: ", "allow_hosts: ", "allow_origins: ", "trusted_proxies: "],
            ),
            (
                with(|config| {
                    let users = [UserId::new("ann").unwrap()].into();
                    config.hub.denied = DenyList { users, tokens: ["t".to_owned()].into() };
                }),
                with(|_| {}),
                vec!["auth.denied_users: \"ann\"", "auth.denied_tokens: \"t\""],
            ),
        ] {
            let told = than(&closed, &open);
            assert_eq!(told.len(), words.len(), "{told:?}");
            assert!(told.iter().zip(words).all(|(told, words)| told.starts_with(words)), "{told:?}");
            assert_eq!(than(&open, &closed), [""; 0]);
        }
        assert_eq!(than(&default, &default), [""; 0]);
    }
}
