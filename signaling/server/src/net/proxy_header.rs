//! Parses the PROXY protocol header (versions 1 and 2), by which a TCP load balancer names the client before the client's
//! own first byte. `accept.rs` reads it. <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The beginning of a version 1 header.
const TEXT: &[u8] = b"PROXY ";
/// The longest version 1 header, including its line end.
const MAX_TEXT: usize = 107;
/// The longest variable part of a version 2 header. Addresses need 36 bytes; the rest is for extensions.
const MAX_BLOCK: usize = 4 << 10;

/// Reads the header at the beginning of a connection, and no byte after it. `None`: the load balancer opened the connection
/// for itself, as for a health check.
pub(crate) async fn read<S>(stream: &mut S) -> io::Result<Option<SocketAddr>>
where
    S: AsyncRead + Unpin,
{
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    if !start.starts_with(TEXT) {
        return Err(bad("the connection does not begin with a PROXY header"));
    }
    // The shortest header is longer than the signature. Bytes after the line end belong to the client.
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_TEXT {
            return Err(bad("the PROXY header has no end"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_text(&line)
}

async fn read_binary<S>(stream: &mut S) -> io::Result<Option<SocketAddr>>
where
    S: AsyncRead + Unpin,
{
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [command, family, length @ ..] = fixed;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_BLOCK {
        return Err(bad("the PROXY header is too long"));
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    parse_binary(command, family, &block)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 40000 443`, or `PROXY UNKNOWN` followed by anything.
fn parse_text(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let wrong = || bad("the PROXY header is malformed");
    let line =
        line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(wrong)?;
    let words: Vec<&str> = line.split(' ').collect();
    match *words {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let ip = |text: &str| -> Option<IpAddr> {
                match family {
                    "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
                    _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
                }
            };
            let port = |text: &str| {
                let is_plain =
                    text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
                text.parse::<u16>().ok().filter(|_| is_plain)
            };
            ip(destination).zip(port(destination_port)).ok_or_else(wrong)?;
            let (ip, port) = ip(source).zip(port(source_port)).ok_or_else(wrong)?;
            Ok(Some((ip.to_canonical(), port).into()))
        }
        _ => Err(wrong()),
    }
}

/// `command` includes the version. Extensions may follow the addresses, and are ignored.
fn parse_binary(command: u8, family: u8, block: &[u8]) -> io::Result<Option<SocketAddr>> {
    match command {
        0x20 => return Ok(None), // LOCAL
        0x21 => {}
        _ => return Err(bad("the PROXY header has an unknown version or command")),
    }
    let short = || bad("the PROXY header is too short");
    match family {
        0x00 => Ok(None), // UNSPEC
        0x11 => {
            let (source, rest) = block.split_first_chunk::<4>().ok_or_else(short)?;
            let (port, _) =
                rest.get(4..8).and_then(|ports| ports.split_first_chunk::<2>()).ok_or_else(short)?;
            Ok(Some((Ipv4Addr::from(*source), u16::from_be_bytes(*port)).into()))
        }
        0x21 => {
            let (source, rest) = block.split_first_chunk::<16>().ok_or_else(short)?;
            let (port, _) =
                rest.get(16..20).and_then(|ports| ports.split_first_chunk::<2>()).ok_or_else(short)?;
            Ok(Some((Ipv6Addr::from(*source).to_canonical(), u16::from_be_bytes(*port)).into()))
        }
        _ => Err(bad("the PROXY header is not for TCP")),
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The result, and the number of bytes that are left for the client.
    fn parse(bytes: &[u8]) -> (Result<Option<String>, ErrorKind>, usize) {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(read(&mut rest));
        (result.map(|source| source.map(|it| it.to_string())).map_err(|error| error.kind()), rest.len())
    }

    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    fn v4() -> Vec<u8> {
        vec![192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0x01, 0xbb]
    }

    #[test]
    fn both_versions_name_the_client() {
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n".to_vec(), Some("192.0.2.7:40000")),
            (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), Some("[2001:db8::7]:1")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n".to_vec(), Some("192.0.2.7:1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), None),
            (binary(0x21, 0x11, &v4()), Some("192.0.2.7:40000")),
            (binary(0x21, 0x11, &[v4(), vec![3, 0, 1, 9]].concat()), Some("192.0.2.7:40000")),
            (
                binary(0x21, 0x21, &[vec![0; 15], vec![9], vec![0; 16], vec![0, 80, 0, 81]].concat()),
                Some("[::9]:80"),
            ),
            (binary(0x20, 0x11, &v4()), None),
            (binary(0x20, 0, &[]), None),
            (binary(0x21, 0, &[1, 2, 3]), None),
        ] {
            let bytes = [&header[..], b"GET / HTTP/1.1"].concat();
            let (result, left) = parse(&bytes);
            assert_eq!((result, left), (Ok(expected.map(str::to_owned)), 14), "{header:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for header in [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 40000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443 x\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.7 10.0.0.1 40000 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 01 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 nobody 1 443\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 10.0.0.1 40000 443\r\n".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat(),
            binary(0x31, 0x11, &v4()),
            binary(0x22, 0x11, &v4()),
            binary(0x21, 0x12, &v4()),
            binary(0x21, 0x31, &[0; 216]),
            binary(0x21, 0x11, &v4()[..11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x11, &[0; MAX_BLOCK + 1]),
        ] {
            assert_eq!(parse(&header).0, Err(ErrorKind::InvalidData), "{}", String::from_utf8_lossy(&header));
        }
        for length in 0..28 {
            assert_eq!(
                parse(&binary(0x21, 0x11, &v4())[..length]).0,
                Err(ErrorKind::UnexpectedEof),
                "{length}"
            );
        }
    }

    proptest! {
        /// Any bytes give a result, and bytes after a header are left for the client.
        #[test]
        fn nothing_trips_the_parser(start in 0..4_usize, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let start: &[u8] = match start {
                0 => b"",
                1 => b"PROXY TCP4 192.0.2.7 ",
                2 => &SIGNATURE,
                _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
            };
            let all = [start, &bytes[..]].concat();
            let (result, left) = parse(&all);
            if result.is_ok() {
                let header = &all[..all.len() - left];
                let is_whole = header.starts_with(&SIGNATURE) || header.ends_with(b"\r\n");
                prop_assert!(is_whole);
                prop_assert_eq!(parse(header).0, result);
            }
        }
    }
}
