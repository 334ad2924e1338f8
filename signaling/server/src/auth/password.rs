//! Hashes of passwords: argon2id (RFC 9106), written as PHC strings.

use allocator_api2::alloc::System;
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self, PasswordHasher,
        phc::{Output, PasswordHash as Phc},
    },
};

/// What one check may take of memory and time at most, whoever wrote the hash.
const MAX_MEMORY_KIB: u32 = 256 << 10;
const MAX_PASSES: u32 = 16;
/// glibc gives memory back at once where it is asked for more than 32 MiB at a time. What is smaller stays with the
/// thread that asked for it, once the first of that size is freed: with the threads of a pool that was 600 MB.
/// Only what is written to takes real memory. Asked for past the program's own allocator, which keeps some of it.
const GIVEN_BACK: usize = (32 << 20) / Block::SIZE + 1;

/// Why a hash is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Something else.
    #[error("this is no hash: write the line that `room-signaling hash-password` prints")]
    NoHash,
    /// A hash of another kind.
    #[error("a hash must be one of argon2id: write the line that `room-signaling hash-password` prints")]
    OtherAlgorithm,
    /// Checking it would keep others waiting.
    #[error(
        "checking this hash takes too much: at most {MAX_MEMORY_KIB} KiB of memory (m) and {MAX_PASSES} passes (t)"
    )]
    TooCostly,
}

/// Whether a text is a hash that passwords can be checked with.
pub fn check_hash(text: &str) -> Result<(), HashError> {
    let hash = Phc::new(text).map_err(|_| HashError::NoHash)?;
    if hash.algorithm.as_str() != Algorithm::Argon2id.as_str() {
        return Err(HashError::OtherAlgorithm);
    }
    let params = Params::try_from(&hash).map_err(|_| HashError::NoHash)?;
    if hash.hash.is_none() || hash.salt.is_none() {
        return Err(HashError::NoHash);
    }
    if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
        return Err(HashError::TooCostly);
    }
    Ok(())
}

/// Hashes a password with a new salt and what OWASP recommends: 19 MiB, two passes. Takes some 50 ms.
pub fn hash_password(password: &str) -> Result<String, password_hash::Error> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}

/// Whether a password is the one that a hash was made of. Takes as long as hashing it.
pub(super) fn is_right(hash: &str, password: &str) -> bool {
    let Ok(hash) = Phc::new(hash) else { return false };
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return false };
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
    let (Ok(params), Ok(version)) = (Params::try_from(&hash), version) else { return false };
    let count = params.block_count();
    let mut memory = allocator_api2::vec::Vec::with_capacity_in(count.max(GIVEN_BACK), System);
    memory.resize(count, Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
    let mut computed = vec![0; expected.len()];
    let done = argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut computed, &mut memory);
    // Outputs are compared in constant time.
    done.is_ok() && Output::new(&computed).is_ok_and(|computed| computed == *expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_alone() {
        let hash = hash_password("pässword").unwrap();
        assert_eq!(check_hash(&hash), Ok(()));
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(is_right(&hash, "pässword"));
        assert!(!is_right(&hash, "password") && !is_right(&hash, ""));
        assert_ne!(hash, hash_password("pässword").unwrap(), "each has its own salt");
    }

    #[test]
    fn what_is_no_usable_hash_is_refused() {
        const REST: &str = "c29tZXNhbHRzb21lc2FsdA$zLpJYE8OAzj2F6SRHBCbgf2Lo9T2eCrkXt4dk6cQwNM";
        for (hash, error) in [
            ("password".to_owned(), HashError::NoHash),
            (String::new(), HashError::NoHash),
            ("$argon2id$v=19$m=19456,t=2,p=1".to_owned(), HashError::NoHash),
            (format!("$argon2i$v=19$m=19456,t=2,p=1${REST}"), HashError::OtherAlgorithm),
            (format!("$argon2id$v=19$m=1000000,t=2,p=1${REST}"), HashError::TooCostly),
            (format!("$argon2id$v=19$m=19456,t=100,p=1${REST}"), HashError::TooCostly),
        ] {
            assert_eq!(check_hash(&hash), Err(error), "{hash}");
        }
        assert!(!is_right("password", "password"));
    }
}
