//! Whether a session can have a UDP port of the range that the user set.
//!
//! libnice gathers no candidate at all if one of this machine's addresses has no free port, and does not say why. So the
//! ports are tried before a session is made.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

/// Whether a port from `min` to `max` is free on each address that sessions use. Without a range (`min` 0) the system
/// chooses among so many ports that none is missing.
pub(super) fn is_one_free(min: u16, max: u16) -> bool {
    min == 0 || is_one_free_on(&crate::peer::ice::local_addresses(), min, max)
}

fn is_one_free_on(addresses: &[(IpAddr, u32)], min: u16, max: u16) -> bool {
    // Without an address there is no port either, but that is another error.
    addresses.iter().all(|address| (min..=max).any(|port| is_free(*address, port)))
}

/// libnice binds without `SO_REUSEADDR`, as this does, so both find the same ports free.
fn is_free((ip, scope): (IpAddr, u32), port: u16) -> bool {
    let address = match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
    };
    UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_port_is_free_until_all_of_the_range_are_taken() {
        let ip = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        assert!(!is_one_free_on(&[ip], port, port));
        let other = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);
        assert!(!is_one_free_on(&[other, ip], port, port), "a session needs a port on each address");
        drop(taken);
        assert!(is_one_free_on(&[other, ip], port, port));
    }

    #[test]
    fn without_a_range_or_an_address_ports_are_no_reason() {
        assert!(is_one_free(0, u16::MAX));
        assert!(is_one_free_on(&[], 50_000, 50_000));
    }
}
