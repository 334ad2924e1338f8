//! Signs and verifies for the crate jsonwebtoken with ring, which the server already uses for TLS. The backends of
//! jsonwebtoken would add a second library of ciphers.

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind, Result},
    signature::{self, Signer, Verifier},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
        UnparsedPublicKey,
    },
};

/// Makes jsonwebtoken use ring. An error means that an earlier call has done that already.
pub(super) fn install() {
    static PROVIDER: CryptoProvider =
        CryptoProvider { signer_factory, verifier_factory, key_utils: KeyUtils::new_unimplemented() };
    let _ = PROVIDER.install_default();
}

fn unsupported<T>() -> Result<T> {
    Err(Error::from(ErrorKind::InvalidAlgorithm))
}

fn bad_key<E>(_: E) -> Error {
    Error::from(ErrorKind::InvalidKeyFormat)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is jsonwebtoken's")]
fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let bytes = key.try_get_as_bytes()?;
    let key = match algorithm {
        Algorithm::HS256 => VerifyingKey::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        Algorithm::ES256 => {
            VerifyingKey::Public(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes.to_vec()))
        }
        Algorithm::EdDSA => VerifyingKey::Public(UnparsedPublicKey::new(&ED25519, bytes.to_vec())),
        _ => return unsupported(),
    };
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key }))
}

struct RingVerifier {
    algorithm: Algorithm,
    key: VerifyingKey,
}

enum VerifyingKey {
    Hmac(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match &self.key {
            VerifyingKey::Hmac(key) => hmac::verify(key, message, signature),
            VerifyingKey::Public(key) => key.verify(message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is jsonwebtoken's")]
fn signer_factory(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let bytes = key.as_bytes();
    let key = match algorithm {
        Algorithm::HS256 => PrivateKey::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        Algorithm::ES256 => PrivateKey::Ecdsa(ecdsa_pair(bytes).map_err(bad_key)?),
        Algorithm::EdDSA => PrivateKey::Ed25519(ed25519_pair(bytes).map_err(bad_key)?),
        _ => return unsupported(),
    };
    Ok(Box::new(RingSigner { algorithm: *algorithm, key }))
}

/// Reads a private key of P-256 in PKCS #8.
pub(super) fn ecdsa_pair(pkcs8: &[u8]) -> std::result::Result<EcdsaKeyPair, ring::error::KeyRejected> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
}

/// Reads a private key of Ed25519 in PKCS #8. OpenSSL writes it without the public key.
pub(super) fn ed25519_pair(pkcs8: &[u8]) -> std::result::Result<Ed25519KeyPair, ring::error::KeyRejected> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
}

struct RingSigner {
    algorithm: Algorithm,
    key: PrivateKey,
}

enum PrivateKey {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        match &self.key {
            PrivateKey::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            PrivateKey::Ecdsa(pair) => {
                let signed = pair.sign(&SystemRandom::new(), message);
                signed.map(|signed| signed.as_ref().to_vec()).map_err(|_| signature::Error::new())
            }
            PrivateKey::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
