//! Checks which web pages may use this server. Browsers let any page open a WebSocket to any server, and name the page in
//! `Origin`. A page whose host name was made to point here (DNS rebinding) is recognized by `Host`.

use crate::Config;
use std::net::{IpAddr, SocketAddr};

/// Checks a `Host` header: loopback, an address of the server, or one of `allow_hosts`. `local` is the address at which the
/// connection arrived. The error names the fix.
pub(crate) fn check_host(config: &Config, local: Option<SocketAddr>, host: &str) -> Result<(), String> {
    let (name, _) = split_port(host);
    let allowed = match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => is_own(config, local, ip.to_canonical()),
        // Names that never leave the machine (RFC 6761 section 6.3).
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    };
    let on_list =
        |known: &String| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host) || known == "*";
    if allowed || config.allow_hosts.iter().any(on_list) {
        return Ok(());
    }
    Err(format!(
        "The host name {name:?} is not allowed. Allow it with --allow-host {name}, or with \
         signaling-server-allow-hosts of roomwebrtcsink."
    ))
}

fn is_own(config: &Config, local: Option<SocketAddr>, ip: IpAddr) -> bool {
    let is_listen = |listen: &SocketAddr| {
        // An unspecified address stands for every address of the machine, and of any gateway that forwards its port. An IP
        // address is not looked up, so it cannot be rebound.
        listen.ip().to_canonical() == ip || listen.ip().is_unspecified()
    };
    ip.is_loopback()
        || local.is_some_and(|local| local.ip().to_canonical() == ip)
        || config.listen.iter().any(is_listen)
}

/// Checks an `Origin` header: the same origin as the server's, or one of `allow_origins`. The error names the fix.
pub(crate) fn check_origin(config: &Config, host: Option<&str>, origin: &str) -> Result<(), String> {
    let on_list = |known: &String| known.trim_end_matches('/').eq_ignore_ascii_case(origin) || known == "*";
    if is_same(origin, host, config.tls.is_some()) || config.allow_origins.iter().any(on_list) {
        return Ok(());
    }
    Err(format!("Pages of {origin:?} may not use this server. Allow them with --allow-origin {origin}."))
}

/// Whether a page has the origin of the server. With TLS, its scheme must be https. Without TLS, a proxy in front of the
/// server may have removed it, so both schemes are possible, and a `Host` without a port stands for the scheme's own.
fn is_same(origin: &str, host: Option<&str>, has_tls: bool) -> bool {
    let (Some((scheme, authority)), Some(host)) = (origin.split_once("://"), host) else { return false };
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" if !has_tls => "80",
        "https" => "443",
        _ => return false,
    };
    let ((origin_name, origin_port), (host_name, host_port)) = (split_port(authority), split_port(host));
    origin_name.eq_ignore_ascii_case(host_name)
        && origin_port.unwrap_or(default) == host_port.unwrap_or(default)
}

/// Splits `name:port`, `[v6]:port` and either without port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && (!name.contains(':') || name.ends_with(']')) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str) -> Config {
        Config { listen: vec![listen.parse().unwrap()], ..Config::default() }
    }

    #[test]
    fn hosts_of_this_machine_are_known() {
        let config = config("192.0.2.7:8765");
        for host in [
            "localhost",
            "localhost:8765",
            "LOCALHOST",
            "a.localhost:1",
            "127.0.0.1:8765",
            "127.1.2.3",
            "[::1]:8765",
        ] {
            assert_eq!(check_host(&config, None, host), Ok(()), "{host}");
        }
        assert_eq!(check_host(&config, None, "192.0.2.7:8765"), Ok(()));
        assert_eq!(
            check_host(&config, Some("[::ffff:198.51.100.1]:8765".parse().unwrap()), "198.51.100.1"),
            Ok(())
        );
    }

    #[test]
    fn other_hosts_are_not() {
        let config = config("127.0.0.1:8765");
        for host in [
            "evil.example",
            "evil.example:8765",
            "localhost.evil.example",
            "198.51.100.1:8765",
            "",
            ":",
            "[",
            "[::2]",
        ] {
            assert!(check_host(&config, None, host).is_err(), "{host}");
        }
    }

    #[test]
    fn listening_everywhere_knows_every_address_but_no_name() {
        for listen in ["0.0.0.0:8765", "[::]:8765"] {
            let config = config(listen);
            assert_eq!(check_host(&config, None, "198.51.100.1:8765"), Ok(()));
            assert_eq!(check_host(&config, None, "[2001:db8::1]:8765"), Ok(()));
            assert!(check_host(&config, None, "evil.example:8765").is_err());
        }
    }

    #[test]
    fn the_list_of_hosts_takes_names_with_and_without_port() {
        let mut config = config("127.0.0.1:8765");
        config.allow_hosts = vec!["robot.example".into(), "camera.example:8443".into()];
        assert_eq!(check_host(&config, None, "Robot.example:1"), Ok(()));
        assert_eq!(check_host(&config, None, "camera.example:8443"), Ok(()));
        assert!(check_host(&config, None, "camera.example:1").is_err());
    }

    #[test]
    fn an_origin_is_the_same_with_and_without_its_default_port() {
        let config = Config::default();
        for (origin, host) in [
            ("http://localhost:8765", "localhost:8765"),
            ("http://robot", "robot:80"),
            ("https://Robot:443", "robot"),
            ("http://[::1]:8765", "[::1]:8765"),
        ] {
            assert_eq!(check_origin(&config, Some(host), origin), Ok(()), "{origin} {host}");
        }
    }

    #[test]
    fn another_origin_needs_the_list() {
        let mut config = Config::default();
        for (origin, host) in [
            ("http://evil.example", "localhost:8765"),
            ("http://localhost:8766", "localhost:8765"),
            ("http://localhost", "localhost:8765"),
            ("null", "localhost:8765"),
            ("file://", "localhost"),
            ("", "localhost"),
        ] {
            assert!(check_origin(&config, Some(host), origin).is_err(), "{origin} {host}");
        }
        config.allow_origins = vec!["https://viewer.example/".into(), "null".into()];
        assert_eq!(check_origin(&config, Some("localhost"), "https://viewer.example"), Ok(()));
        assert_eq!(check_origin(&config, Some("localhost"), "null"), Ok(()));
        assert!(check_origin(&config, Some("localhost"), "http://viewer.example").is_err());
    }

    #[test]
    fn scheme_and_default_port_belong_to_the_origin() {
        for (origin, host, has_tls, expected) in [
            // A proxy may have removed TLS.
            ("http://robot", "robot", false, true),
            ("https://robot", "robot", false, true),
            ("http://robot:443", "robot", false, false),
            ("https://robot:80", "robot", false, false),
            // With TLS of its own, the server knows the scheme.
            ("https://robot", "robot", true, true),
            ("https://robot", "robot:443", true, true),
            ("https://robot:8765", "robot:8765", true, true),
            ("http://robot", "robot", true, false),
            ("http://robot:80", "robot", true, false),
            ("http://robot:8765", "robot:8765", true, false),
        ] {
            assert_eq!(is_same(origin, Some(host), has_tls), expected, "{origin} {host} {has_tls}");
        }
    }
}
