//! Signatures for the crate jsonwebtoken, made and checked by ring, which is here for TLS anyway. The back-ends that
//! jsonwebtoken brings would add a second library of ciphers to the program.

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

/// Makes ring the one that jsonwebtoken asks. Whoever did that before in this process did it as well.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as jsonwebtoken wants it")]
fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let key = key.try_get_as_bytes()?;
    let checks = match algorithm {
        Algorithm::HS256 => Checks::Hmac(hmac::Key::new(hmac::HMAC_SHA256, key)),
        Algorithm::ES256 => Checks::Public(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.to_vec())),
        Algorithm::EdDSA => Checks::Public(UnparsedPublicKey::new(&ED25519, key.to_vec())),
        _ => return unsupported(),
    };
    Ok(Box::new(RingVerifier { algorithm: *algorithm, checks }))
}

struct RingVerifier {
    algorithm: Algorithm,
    checks: Checks,
}

enum Checks {
    Hmac(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match &self.checks {
            Checks::Hmac(key) => hmac::verify(key, message, signature),
            Checks::Public(key) => key.verify(message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as jsonwebtoken wants it")]
fn signer_factory(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let key = key.as_bytes();
    let signs = match algorithm {
        Algorithm::HS256 => Signs::Hmac(hmac::Key::new(hmac::HMAC_SHA256, key)),
        Algorithm::ES256 => Signs::Ecdsa(ecdsa_pair(key).map_err(bad_key)?),
        Algorithm::EdDSA => Signs::Ed25519(ed25519_pair(key).map_err(bad_key)?),
        _ => return unsupported(),
    };
    Ok(Box::new(RingSigner { algorithm: *algorithm, signs }))
}

/// A private key of P-256 in PKCS #8.
pub(super) fn ecdsa_pair(pkcs8: &[u8]) -> std::result::Result<EcdsaKeyPair, ring::error::KeyRejected> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
}

/// A private key of Ed25519 in PKCS #8; OpenSSL writes it without the public one.
pub(super) fn ed25519_pair(pkcs8: &[u8]) -> std::result::Result<Ed25519KeyPair, ring::error::KeyRejected> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
}

struct RingSigner {
    algorithm: Algorithm,
    signs: Signs,
}

enum Signs {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        match &self.signs {
            Signs::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Signs::Ecdsa(pair) => {
                let signed = pair.sign(&SystemRandom::new(), message);
                signed.map(|signed| signed.as_ref().to_vec()).map_err(|_| signature::Error::new())
            }
            Signs::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
