//! ICE candidates of the peer (RFC 8839, section 5.1), checked before libnice parses them.

/// The longest candidate that makes sense: libnice copies addresses and foundations into small buffers.
const MAX_BYTES: usize = 512;

/// Whether this is a candidate line that libnice can be given. An empty one, the end of candidates (RFC 8838), is not.
///
/// Addresses may be host names (`….local` of browsers), which libnice resolves; so their form is not checked.
pub(crate) fn is_usable(line: &str) -> bool {
    if line.len() > MAX_BYTES || !line.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return false;
    }
    let line = line.strip_prefix("a=").unwrap_or(line);
    let Some(line) = line.strip_prefix("candidate:") else { return false };
    let words: Vec<&str> = line.split(' ').collect();
    let [foundation, component, transport, priority, address, port, typ, kind, ..] = words.as_slice() else {
        return false;
    };
    is_foundation(foundation)
        && component.parse::<u8>().is_ok_and(|component| component > 0)
        && ["udp", "tcp"].iter().any(|known| transport.eq_ignore_ascii_case(known))
        && priority.parse::<u32>().is_ok()
        && !address.is_empty()
        && port.parse::<u16>().is_ok()
        && *typ == "typ"
        && ["host", "srflx", "prflx", "relay"].contains(kind)
}

fn is_foundation(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_every_kind_are_usable() {
        for line in [
            "candidate:1 1 udp 2130706431 192.0.2.1 9 typ host",
            "a=candidate:1 1 UDP 2130706431 2001:db8::1 9 typ host",
            "candidate:1 1 TCP 2105524479 192.0.2.1 9 typ host tcptype active",
            "candidate:842163049 1 udp 1677729535 198.51.100.7 5000 typ srflx raddr 0.0.0.0 rport 0 generation 0",
            "candidate:1 1 udp 2113937151 4d7ff0b8-1f3c-4a8c-9c1e-a2f2c0e5b5a1.local 5000 typ host",
        ] {
            assert!(is_usable(line), "{line}");
        }
    }

    #[test]
    fn what_is_no_candidate_is_not_given_to_libnice() {
        let long = format!("candidate:{} 1 udp 1 192.0.2.1 9 typ host", "9".repeat(600));
        for line in [
            "",
            "candidate:",
            "a=candidate:",
            "nonsense",
            "candidate:1 1 udp 1 192.0.2.1 9",
            "candidate:1 0 udp 1 192.0.2.1 9 typ host",
            "candidate:1 1 sctp 1 192.0.2.1 9 typ host",
            "candidate:1 1 udp -1 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1  9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 70000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 9 typ odd",
            "candidate:ü 1 udp 1 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=x",
            long.as_str(),
        ] {
            assert!(!is_usable(line), "{line}");
        }
    }
}
