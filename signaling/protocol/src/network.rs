//! The networks by which limits per address count: one host usually owns a whole /64 of IPv6, and one customer a whole
//! /48.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

/// The limit of a site (a /48), as a multiple of the limit of a host.
pub const SITE_FACTOR: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

/// An IPv4 address, a /64 of IPv6, or a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The first address of the network.
    address: IpAddr,
    is_site: bool,
}

impl Network {
    /// The networks of an address that have limits: the network of the host and, with IPv6, that of its site.
    pub fn of(ip: IpAddr) -> impl Iterator<Item = Self> {
        let (host, site) = match ip.to_canonical() {
            IpAddr::V4(ip) => (ip.into(), None),
            IpAddr::V6(ip) => (prefix(ip, 64), Some(prefix(ip, 48))),
        };
        let site = site.map(|address| Self { address, is_site: true });
        [Self { address: host, is_site: false }].into_iter().chain(site)
    }

    /// The network of the host alone.
    pub fn of_host(ip: IpAddr) -> Self {
        let address = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => prefix(ip, 64),
        };
        Self { address, is_site: false }
    }

    /// Whether this is the network of a site, whose limit is [`SITE_FACTOR`] times that of a host.
    pub fn is_site(self) -> bool {
        self.is_site
    }
}

fn prefix(ip: Ipv6Addr, bits: u32) -> IpAddr {
    Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> bits)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_for_its_host_and_for_its_site() {
        let networks = |ip: &str| Network::of(ip.parse().unwrap()).collect::<Vec<_>>();
        let [host, site] = networks("2001:db8::1")[..] else { panic!("not a host and a site") };
        assert_eq!(networks("2001:db8::ffff:1"), [host, site]);
        let [other, same] = networks("2001:db8:0:1::1")[..] else { panic!("not a host and a site") };
        assert!(other != host && same == site && site.is_site() && !host.is_site());
        assert_ne!(networks("2001:db8:1::1")[1], site);
        assert_eq!(networks("::ffff:192.0.2.1"), networks("192.0.2.1"));
        assert_eq!(networks("192.0.2.1").len(), 1);
        assert_ne!(networks("192.0.2.1"), networks("192.0.2.2"));
        assert_eq!(Network::of_host("2001:db8::1".parse().unwrap()), host);
    }
}
