//! The setting `listen`: one address, or a list of them.

use crate::config::{Loader, Located};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use std::{fmt, net::SocketAddr};

/// Addresses to listen on: `"127.0.0.1:8765"` or `["127.0.0.1:8765", "[::1]:8765"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<SocketAddr>);

impl Addresses {
    /// The first address. Commands on this machine connect to it.
    pub fn first(&self) -> Option<SocketAddr> {
        self.0.first().copied()
    }

    pub(super) fn load(addresses: Located<Self>, loader: &mut Loader) -> Vec<SocketAddr> {
        let list = &addresses.value.0;
        if list.is_empty() {
            loader.refuse("listen", &addresses, "must name an address, such as \"127.0.0.1:8765\"");
        }
        for (index, address) in list.iter().enumerate() {
            // Port 0 may occur several times: each is another free port.
            if address.port() != 0 && list.iter().take(index).any(|other| other == address) {
                loader.refuse("listen", &addresses, format!("{address} is listed twice: remove one"));
            }
        }
        addresses.value.0
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"127.0.0.1:8765\", or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Addresses, E> {
                parse(text).map(|address| Addresses(vec![address])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(text) = entries.next_element::<String>()? {
                    addresses.push(parse(&text).map_err(A::Error::custom)?);
                }
                Ok(Addresses(addresses))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

fn parse(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} must be an IP address with a port, such as 127.0.0.1:8765, 0.0.0.0:8765 or [::]:8765"
        )
    })
}
