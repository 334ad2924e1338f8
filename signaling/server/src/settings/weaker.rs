//! Finds what a reload makes weaker. A configuration that opens something is allowed, but each such change is logged as a
//! warning. A new setting that can open something gets a check here.

use super::Config;
use crate::net::proxies::TrustedProxy;
use room_protocol::hub::{Auth, RoomPattern, RoomRules};

/// The changes from `old` to `new` that weaken the server, each as a sentence that names the key.
pub(crate) fn than(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    users(old, new, &mut found);
    rooms(old, new, &mut found);
    if new.admin_token.is_some() && old.admin_token.is_none() {
        found.push("admin: the admin token opens /metrics and /api on the public addresses now".into());
    }
    let users = old.hub.denied.users.difference(&new.hub.denied.users);
    found.extend(users.map(|user| format!("auth.denied_users: {:?} is no longer denied", user.as_str())));
    let tokens = old.hub.denied.tokens.difference(&new.hub.denied.tokens);
    found.extend(tokens.map(|id| format!("auth.denied_tokens: {id:?} is no longer denied")));
    for (key, what, old, new) in [
        ("allow_hosts", "the server accepts this host name now", &old.allow_hosts, &new.allow_hosts),
        ("allow_origins", "pages of this origin may connect now", &old.allow_origins, &new.allow_origins),
    ] {
        let added = new.iter().filter(|entry| !old.contains(entry));
        found.extend(added.map(|entry| format!("{key}: {what}: {entry:?}")));
    }
    proxies(old, new, &mut found);
    found
}

fn users(old: &Config, new: &Config, found: &mut Vec<String>) {
    match (&old.hub.auth, &new.hub.auth) {
        (Auth::Token { .. }, Auth::None) => {
            found.push("auth: clients no longer need a token, so everybody may watch and send".into());
        }
        (Auth::Token { audience: Some(audience), .. }, Auth::Token { audience: None, .. }) => {
            found.push(format!("auth.audience: tokens no longer have to name {audience:?}"));
        }
        _ => {}
    }
}

/// Proxies that decide now which address a connection counts by.
fn proxies(old: &Config, new: &Config, found: &mut Vec<String>) {
    let is_new = |proxy: &&TrustedProxy| !old.trusted_proxies.iter().any(|known| known.covers(proxy));
    for proxy in new.trusted_proxies.iter().filter(is_new) {
        found.push(format!("trusted_proxies: X-Forwarded-For of {proxy} is trusted now"));
    }
    if !new.proxy_protocol {
        return;
    }
    for proxy in new.trusted_proxies.iter().filter(|proxy| !old.proxy_protocol || is_new(proxy)) {
        found.push(format!("proxy_protocol: the PROXY header of {proxy} is trusted now"));
    }
}

/// Patterns whose rooms needed a password and need none now.
fn rooms(old: &Config, new: &Config, found: &mut Vec<String>) {
    let patterns = old.hub.room_rules.iter().chain(&new.hub.room_rules).map(|rule| &rule.rooms);
    let [before, now] = [old, new].map(|config| RoomRules::new(&config.hub.room_rules));
    let opened = |pattern: &&RoomPattern| before.is_closed(pattern) && !now.is_closed(pattern);
    let mut opened: Vec<String> = patterns.filter(opened).map(ToString::to_string).collect();
    opened.sort();
    opened.dedup();
    found.extend(opened.iter().map(|rooms| format!("rooms: {rooms:?} no longer needs a password")));
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

    fn proxies(config: &mut Config, proxies: &[&str], proxy_protocol: bool) {
        config.trusted_proxies = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
        config.proxy_protocol = proxy_protocol;
    }

    fn rules(config: &mut Config, rules: &[(&str, Option<&str>)]) {
        let rule = |(rooms, hash): &(&str, Option<&str>)| RoomRule {
            rooms: RoomPattern::new(rooms).unwrap(),
            password: hash.map(PasswordHash::new),
        };
        config.hub.room_rules = rules.iter().map(rule).collect();
    }

    #[test]
    fn a_reload_reports_all_that_it_opens_and_nothing_that_it_closes() {
        let default = with(|_| {});
        for (closed, open, starts) in [
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
            let found = than(&closed, &open);
            assert_eq!(found.len(), starts.len(), "{found:?}");
            assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:?}");
            assert_eq!(than(&open, &closed), [""; 0]);
        }
        assert_eq!(than(&default, &default), [""; 0]);
    }

    #[test]
    fn a_proxy_is_reported_once_it_or_its_header_is_trusted() {
        let config =
            |trusted: &[&str], proxy_protocol| with(|config| proxies(config, trusted, proxy_protocol));
        let forwarded = "trusted_proxies: X-Forwarded-For of";
        let header = "proxy_protocol: the PROXY header of";
        for (old, new, expected) in [
            (
                config(&[], false),
                config(&["10.0.0.1"], false),
                vec![format!("{forwarded} 10.0.0.1/32 is trusted now")],
            ),
            (
                config(&["10.0.0.0/8"], false),
                config(&["10.0.0.0/8"], true),
                vec![format!("{header} 10.0.0.0/8 is trusted now")],
            ),
            (
                config(&["10.0.0.0/16"], true),
                config(&["10.0.0.0/8"], true),
                vec![
                    format!("{forwarded} 10.0.0.0/8 is trusted now"),
                    format!("{header} 10.0.0.0/8 is trusted now"),
                ],
            ),
            // A smaller network, and connections whose headers are no longer read.
            (config(&["10.0.0.0/8"], true), config(&["10.0.0.0/16", "10.1.0.1"], true), vec![]),
            (config(&["10.0.0.0/8"], true), config(&["10.0.0.0/8"], false), vec![]),
        ] {
            assert_eq!(than(&old, &new), expected);
        }
    }
}
