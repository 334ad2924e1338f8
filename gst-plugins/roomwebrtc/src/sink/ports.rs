//! Checks that the configured range (`min-rtp-port`, `max-rtp-port`) has free ports before a session starts.
//!
//! libnice needs a UDP port and a listening TCP port (ICE-TCP, RFC 6544) on each address of this machine. If one address has
//! no free port, libnice gathers no candidates at all and reports no reason.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};

/// Whether ports from `min` to `max` are free on each address that sessions use. Without a range (`min` 0), the system always
/// finds a free port.
pub(super) fn is_one_free(min: u16, max: u16) -> bool {
    min == 0 || is_one_free_on(&crate::peer::ice::local_addresses(), min, max)
}

fn is_one_free_on(addresses: &[(IpAddr, u32)], min: u16, max: u16) -> bool {
    // The lack of an address is a different error, so it counts as free here.
    let ports = |address: (IpAddr, u32)| (min..=max).map(move |port| socket_address(address, port));
    addresses.iter().all(|address| {
        ports(*address).any(|address| UdpSocket::bind(address).is_ok())
            && ports(*address).any(|address| TcpListener::bind(address).is_ok())
    })
}

fn socket_address((ip, scope): (IpAddr, u32), port: u16) -> SocketAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_range_has_a_free_port_until_all_are_in_use() {
        let ip = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        assert!(!is_one_free_on(&[ip], port, port));
        let other = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);
        assert!(!is_one_free_on(&[other, ip], port, port), "a session needs a port on each address");
        drop(taken);
        assert!(is_one_free_on(&[other, ip], port, port));
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        assert!(!is_one_free_on(&[ip], port, port), "a session that ends closes its UDP socket first");
        drop(listening);
        assert!(is_one_free_on(&[ip], port, port));
    }

    #[test]
    fn without_a_range_or_an_address_there_is_no_lack_of_ports() {
        assert!(is_one_free(0, u16::MAX));
        assert!(is_one_free_on(&[], 50_000, 50_000));
    }
}
