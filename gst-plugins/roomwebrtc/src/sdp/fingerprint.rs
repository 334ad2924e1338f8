//! Checks the peer's DTLS certificate against `a=fingerprint` of its description (RFC 8122).
//!
//! DTLS itself accepts any certificate. Only this check binds the media to the peer that signaling has authenticated, and
//! prevents an attack by a man in the middle of the media path (RFC 8827, section 6.5).

use super::{Description, Line};
use gst::glib;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// A hash function that may be named in `a=fingerprint`. MD2 and MD5 must not be used (RFC 8122, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn named(name: &str) -> Option<Self> {
        let all = [
            ("sha-1", Self::Sha1),
            ("sha-224", Self::Sha224),
            ("sha-256", Self::Sha256),
            ("sha-384", Self::Sha384),
            ("sha-512", Self::Sha512),
        ];
        all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, hash)| hash)
    }

    fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn of(self, certificate: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => sha1(certificate),
            Self::Sha224 => Sha224::digest(certificate).to_vec(),
            Self::Sha256 => Sha256::digest(certificate).to_vec(),
            Self::Sha384 => Sha384::digest(certificate).to_vec(),
            Self::Sha512 => Sha512::digest(certificate).to_vec(),
        }
    }
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    let checksum = glib::Checksum::new(glib::ChecksumType::Sha1).map(|mut checksum| {
        checksum.update(bytes);
        checksum.digest()
    });
    checksum.unwrap_or_default()
}

/// One `a=fingerprint`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    hash: Hash,
    value: Vec<u8>,
}

/// Why an `a=fingerprint` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The hash function is none of RFC 8122, or one that must not be used.
    Function,
    /// The value is not that function's number of bytes in hexadecimal with colons.
    Value,
}

fn parse(value: &str) -> Result<Fingerprint, Unusable> {
    let (name, hex) = value.split_once(' ').unwrap_or((value, ""));
    let hash = Hash::named(name).ok_or(Unusable::Function)?;
    let bytes: Option<Vec<u8>> = hex.trim_start().split(':').map(byte).collect();
    match bytes {
        Some(value) if value.len() == hash.bytes() => Ok(Fingerprint { hash, value }),
        _ => Err(Unusable::Value),
    }
}

fn byte(pair: &str) -> Option<u8> {
    let hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    if hex { u8::from_str_radix(pair, 16).ok() } else { None }
}

/// The `a=fingerprint` attributes of an m-line, or those of the session if the line has none.
fn values<'a>(sdp: &'a Description, line: Line<'a>) -> Vec<&'a str> {
    let own: Vec<&str> = line.values("fingerprint").collect();
    if !own.is_empty() {
        return own;
    }
    let session = sdp.0.attributes().filter(|attribute| attribute.key() == "fingerprint");
    session.filter_map(gst_sdp::SDPAttribute::value).collect()
}

/// Whether a line has a fingerprint that can be compared, and no malformed one. The error is the offending value,
/// `None` where there is no usable one at all.
pub(super) fn check<'a>(sdp: &'a Description, line: Line<'a>) -> Result<(), Option<&'a str>> {
    let mut usable = false;
    for value in values(sdp, line) {
        match parse(value) {
            Ok(_) => usable = true,
            Err(Unusable::Value) => return Err(Some(value)),
            Err(Unusable::Function) => {}
        }
    }
    if usable { Ok(()) } else { Err(None) }
}

pub(super) fn of(sdp: &Description) -> Fingerprints {
    let lines = sdp.lines().filter(|line| !line.is_rejected());
    Fingerprints(
        lines
            .map(|line| values(sdp, line).into_iter().filter_map(|value| parse(value).ok()).collect())
            .collect(),
    )
}

/// The fingerprints of a description: a list for each m-line in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprints(Vec<Vec<Fingerprint>>);

/// The certificate does not match the description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    /// None of the fingerprints of one hash function is the certificate's.
    #[error(
        "the peer's DTLS certificate is not the one of its session description (a=fingerprint): the media does not \
         come from the peer that signaling knows"
    )]
    Certificate,
    /// There is nothing to compare.
    #[error("the peer's DTLS certificate cannot be compared with its session description: {0}")]
    Unknown(&'static str),
}

impl Fingerprints {
    /// Compares the certificate (PEM) with the fingerprints. A description may list several: of one certificate by
    /// several hash functions, or of several certificates. The certificate has to match one of each hash function.
    pub(crate) fn verify(&self, certificate: &str) -> Result<(), Mismatch> {
        let der = der(certificate).ok_or(Mismatch::Unknown("DTLS gave no certificate in PEM"))?;
        if self.0.is_empty() || self.0.iter().any(Vec::is_empty) {
            return Err(Mismatch::Unknown("there is no a=fingerprint"));
        }
        let matches = |line: &Vec<Fingerprint>, hash: Hash| {
            let digest = hash.of(&der);
            line.iter().any(|fingerprint| fingerprint.hash == hash && fingerprint.value == digest)
        };
        let all = self.0.iter().all(|line| line.iter().all(|fingerprint| matches(line, fingerprint.hash)));
        if all { Ok(()) } else { Err(Mismatch::Certificate) }
    }
}

/// The bytes of the first certificate in a PEM text.
fn der(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let der = glib::base64_decode(body);
    (!der.is_empty()).then_some(der)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::unchecked, *};

    /// The certificate needs not be one: three bytes, "abc".
    const ABC: &str = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    const OTHER: &str = "-----BEGIN CERTIFICATE-----\nYWJk\n-----END CERTIFICATE-----\n";
    const SHA1: &str = "sha-1 A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D";
    const SHA224: &str =
        "sha-224 23:09:7D:22:34:05:D8:22:86:42:A4:77:BD:A2:55:B3:2A:AD:BC:E4:BD:A0:B3:F7:E3:6C:9D:A7";
    const SHA256: &str = "SHA-256 ba:78:16:bf:8f:01:cf:ea:41:41:40:de:5d:ae:22:23:\
        b0:03:61:a3:96:17:7a:9c:b4:10:ff:61:f2:00:15:ad";
    const OTHERS_SHA256: &str = "sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:\
        B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AE";

    fn fingerprints(values: &[&str]) -> Fingerprints {
        let lines: String = values.iter().flat_map(|value| ["a=fingerprint:", value, "\r\n"]).collect();
        unchecked(&format!("v=0\r\nm=video 9 X 96\r\n{lines}")).fingerprints()
    }

    #[test]
    fn a_matching_certificate_is_accepted_with_every_hash_function() {
        for value in [SHA1, SHA224, SHA256] {
            assert_eq!(fingerprints(&[value]).verify(ABC), Ok(()), "{value}");
            assert_eq!(fingerprints(&[value]).verify(OTHER), Err(Mismatch::Certificate), "{value}");
        }
        assert_eq!((Hash::Sha384.of(b"").len(), Hash::Sha512.of(b"").len()), (48, 64));
    }

    #[test]
    fn one_of_several_certificates_is_accepted_if_every_hash_function_matches() {
        assert_eq!(fingerprints(&[OTHERS_SHA256, SHA256]).verify(ABC), Ok(()));
        assert_eq!(fingerprints(&[SHA1, SHA256]).verify(ABC), Ok(()));
        assert_eq!(fingerprints(&[SHA1, OTHERS_SHA256]).verify(ABC), Err(Mismatch::Certificate));
        assert_eq!(fingerprints(&["md5 00", SHA256]).verify(ABC), Ok(()), "MD5 does not count");
    }

    #[test]
    fn without_a_usable_fingerprint_no_certificate_matches() {
        assert!(matches!(fingerprints(&[]).verify(ABC), Err(Mismatch::Unknown(_))));
        assert!(matches!(fingerprints(&["md5 00"]).verify(ABC), Err(Mismatch::Unknown(_))));
        assert!(matches!(fingerprints(&[SHA256]).verify("nonsense"), Err(Mismatch::Unknown(_))));
        for bad in ["sha-256", "sha-256 ", "sha-256 AA:BB", "sha-1 zz", "sha-256 +1"] {
            assert_eq!(parse(bad), Err(Unusable::Value), "{bad}");
        }
    }

    #[test]
    fn the_fingerprint_of_the_session_applies_to_lines_without_one_and_rejected_lines_are_ignored() {
        let sdp = |port: u32| {
            unchecked(&format!(
                "v=0\r\na=fingerprint:{SHA256}\r\nm=video 9 X 96\r\nm=video {port} X 97\r\na=fingerprint:{OTHERS_SHA256}\r\n"
            ))
        };
        assert_eq!(sdp(0).fingerprints().verify(ABC), Ok(()));
        assert_eq!(sdp(9).fingerprints().verify(ABC), Err(Mismatch::Certificate));
    }
}
