//! The keys that verify and sign tokens. Each key has one algorithm; the algorithm that a token claims does not matter.

use super::crypto;
use jsonwebtoken::{DecodingKey, EncodingKey, Validation};
use ring::digest::{SHA256, digest};
use room_protocol::hub::KeyPrint;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};
use tokio_rustls::rustls::pki_types::{
    PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
    pem::{self, PemObject, SectionKind},
};

/// The shortest secret, in bytes: HMAC-SHA256 is only as strong as its key (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;
/// A secret with fewer different bytes is not random.
const MIN_DIFFERENT: usize = 8;
/// The SubjectPublicKeyInfo of a P-256 key (RFC 5480), up to the uncompressed point.
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_POINT: usize = 65;
/// The SubjectPublicKeyInfo of an Ed25519 key (RFC 8410), up to the point.
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const ED25519_POINT: usize = 32;

/// The algorithm of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256. The key that verifies tokens can also sign them.
    HS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    pub(super) fn jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }

    /// The checks by jsonwebtoken: the signature and the algorithm. `token.rs` checks the times, against a clock that tests
    /// can set. The Hub checks the audience, because the operator can change it while clients are connected.
    fn validation(self) -> Validation {
        let mut validation = Validation::new(self.jwt());
        validation.required_spec_claims = HashSet::new();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation
    }
}

/// Why a key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret could be guessed.
    #[error(
        "the secret has {0} bytes, but at least {MIN_SECRET} are required: make one with openssl rand -hex 32"
    )]
    Short(usize),
    /// The secret is not random.
    #[error("the secret is not random: make one with openssl rand -hex 32")]
    NotRandom,
    /// A PEM file instead of a secret.
    #[error("this is a PEM file, not a secret for HS256: is the algorithm ES256 or EdDSA?")]
    PemForSecret,
    /// A private key instead of a public one.
    #[error(
        "this is a private key; the server needs only the public half: openssl pkey -in FILE -pubout writes it"
    )]
    Private,
    /// No public key.
    #[error("this is not a public key in PEM: openssl pkey -in FILE -pubout writes one")]
    NoPublicKey,
    /// A public key of another algorithm.
    #[error("this public key is not a key for {0}")]
    OtherPublicKey(&'static str),
    /// No private key.
    #[error(
        "this is not a private key of P-256 or Ed25519 in PKCS #8: openssl genpkey -algorithm ed25519 makes one, \
         openssl pkcs8 -topk8 -nocrypt converts one"
    )]
    NoPrivateKey,
}

/// A key that verifies tokens.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) validation: Validation,
    pub(super) decoding: DecodingKey,
    pub(super) print: KeyPrint,
}

/// The keys of a server, by the names that tokens use (`kid`).
#[derive(Clone, Default)]
pub struct Keys {
    keys: BTreeMap<String, Arc<Key>>,
}

impl fmt::Debug for Keys {
    /// Shows the names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl Keys {
    /// Adds a key from the content of its file: a secret for HS256, otherwise a public key in PEM.
    pub fn add(&mut self, kid: &str, algorithm: Algorithm, content: &[u8]) -> Result<(), KeyError> {
        crypto::install();
        let (decoding, bytes) = match algorithm {
            Algorithm::HS256 => {
                let secret = secret(content)?;
                (DecodingKey::from_secret(secret), secret.to_vec())
            }
            Algorithm::ES256 => {
                let point = public_key(content, P256_PREFIX, P256_POINT, "ES256 (P-256, uncompressed)")?;
                (DecodingKey::from_ec_der(&point), point)
            }
            Algorithm::EdDSA => {
                let point = public_key(content, ED25519_PREFIX, ED25519_POINT, "EdDSA (Ed25519)")?;
                (DecodingKey::from_ed_der(&point), point)
            }
        };
        let print = print(kid, algorithm, &bytes);
        self.keys
            .insert(kid.to_owned(), Arc::new(Key { validation: algorithm.validation(), decoding, print }));
        Ok(())
    }

    /// The digests that identify these keys to the Hub.
    pub fn prints(&self) -> impl Iterator<Item = KeyPrint> {
        self.keys.values().map(|key| key.print)
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid).map(|key| &**key)
    }
}

/// A key that signs tokens.
pub struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads the content of a key file: a private key in PEM for ES256 or EdDSA, otherwise a secret for HS256.
    pub fn new(content: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        if !is_pem(content) {
            return secret(content)
                .map(|secret| Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) });
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(content).map_err(|_| KeyError::NoPrivateKey)?;
        let pkcs8 = key.secret_pkcs8_der();
        if crypto::ecdsa_pair(pkcs8).is_ok() {
            return Ok(Self { algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(pkcs8) });
        }
        if crypto::ed25519_pair(pkcs8).is_ok() {
            return Ok(Self { algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(pkcs8) });
        }
        Err(KeyError::NoPrivateKey)
    }
}

/// The secret that a file holds: text without the end of its line, or bytes as they are.
fn secret(content: &[u8]) -> Result<&[u8], KeyError> {
    if is_pem(content) {
        return Err(KeyError::PemForSecret);
    }
    let secret = match str::from_utf8(content) {
        Ok(text) => text.trim_end_matches(['\r', '\n']).as_bytes(),
        Err(_) => content,
    };
    if secret.len() < MIN_SECRET {
        return Err(KeyError::Short(secret.len()));
    }
    let mut seen = [false; 256];
    for byte in secret {
        seen[usize::from(*byte)] = true;
    }
    if seen.iter().filter(|seen| **seen).count() < MIN_DIFFERENT {
        return Err(KeyError::NotRandom);
    }
    Ok(secret)
}

fn is_pem(content: &[u8]) -> bool {
    content.trim_ascii_start().starts_with(b"-----BEGIN ")
}

/// The point of a public key in PEM, which must begin with this prefix.
fn public_key(content: &[u8], prefix: &[u8], length: usize, what: &'static str) -> Result<Vec<u8>, KeyError> {
    let mut sections = <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(content);
    if sections.any(|section: Result<(SectionKind, Vec<u8>), pem::Error>| {
        section.is_ok_and(|(kind, _)| !matches!(kind, SectionKind::PublicKey | SectionKind::Certificate))
    }) {
        return Err(KeyError::Private);
    }
    let key = SubjectPublicKeyInfoDer::from_pem_slice(content).map_err(|_| KeyError::NoPublicKey)?;
    let point = key.strip_prefix(prefix).filter(|point| point.len() == length);
    point.map(<[u8]>::to_vec).ok_or(KeyError::OtherPublicKey(what))
}

fn print(kid: &str, algorithm: Algorithm, key: &[u8]) -> KeyPrint {
    let text = [kid.as_bytes(), b"\0", format!("{algorithm:?}").as_bytes(), b"\0", key].concat();
    let digest = digest(&SHA256, &text);
    let mut print = [0; 16];
    print.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    KeyPrint(print)
}
