//! The embedded signaling server (`run-signaling-server`): its configuration, and its address for the sink itself.

use super::settings::Settings;
use gst::glib;
use room_signaling_server::{Config, Running};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// Starts the server. The error names the property to change.
pub(super) fn start(settings: &Settings) -> Result<Running, String> {
    let listen = &settings.signaling_server_listen;
    let config = Config {
        listen: vec![listen.parse().map_err(|_| {
            format!("signaling-server-listen is {listen:?}: write address:port, such as 127.0.0.1:8765")
        })?],
        allow_hosts: own_names(&glib::host_name())
            .into_iter()
            .chain(settings.signaling_server_allow_hosts.iter().cloned())
            .collect(),
        drain: Duration::ZERO,
        ..Config::default()
    };
    room_signaling_server::spawn_thread(config).map_err(|error| {
        format!(
            "the signaling server cannot listen on {listen}: {error}; set signaling-server-listen to another port"
        )
    })
}

/// The names of this machine in the local network: the host name with and without its domain, and the mDNS name. The server
/// serves the page only under allowed names, as a protection against DNS rebinding.
fn own_names(host_name: &str) -> Vec<String> {
    let short = host_name.split('.').next().unwrap_or_default();
    if short.is_empty() {
        return Vec::new();
    }
    let mut names = vec![host_name.to_owned(), short.to_owned(), format!("{short}.local")];
    names.dedup();
    names
}

/// The address at which this process reaches the server. A wildcard address becomes a loopback address.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_machine_are_its_host_name_and_its_mdns_name() {
        assert_eq!(own_names("robot"), ["robot", "robot.local"]);
        assert_eq!(own_names("robot.lan"), ["robot.lan", "robot", "robot.local"]);
        assert!(own_names("").is_empty());
    }

    #[test]
    fn a_wildcard_address_is_reached_over_loopback() {
        for (listen, reachable_at) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")]
        {
            assert_eq!(reachable(listen.parse().expect(listen)).to_string(), reachable_at);
        }
    }
}
