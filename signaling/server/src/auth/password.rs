//! Hashes passwords with argon2id (RFC 9106). Hashes are written as PHC strings.

use allocator_api2::alloc::System;
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self, PasswordHasher,
        phc::{Output, PasswordHash as Phc},
    },
};

/// The limits of memory and time for one verification, because the hash may come from another program.
const MAX_MEMORY_KIB: u32 = 256 << 10;
const MAX_PASSES: u32 = 16;
/// The blocks that are allocated at least. glibc returns allocations over 32 MiB to the system as soon as they are freed.
/// Smaller ones stay in the allocating thread's arena; across a thread pool that added up to 600 MB. Untouched pages take no
/// memory. The program's own allocator is bypassed, because it keeps some of the memory.
const MIN_BLOCKS: usize = (32 << 20) / Block::SIZE + 1;

/// Why a hash can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The text is not a hash.
    #[error("this is not a hash: use the line that `room-signaling hash-password` prints")]
    NoHash,
    /// The hash has another algorithm.
    #[error(
        "the algorithm of the hash must be argon2id: use the line that `room-signaling hash-password` prints"
    )]
    OtherAlgorithm,
    /// Its verification would delay others.
    #[error(
        "this hash takes too long to verify: use at most {MAX_MEMORY_KIB} KiB of memory (m) and {MAX_PASSES} passes (t)"
    )]
    TooCostly,
}

/// Checks that a text is a hash against which passwords can be verified.
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

/// Hashes a password with a new salt and the parameters that OWASP recommends: 19 MiB, two passes. Takes about 50 ms.
pub fn hash_password(password: &str) -> Result<String, password_hash::Error> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}

/// Whether a password matches a hash. Takes as long as hashing.
pub(super) fn is_right(hash: &str, password: &str) -> bool {
    let Ok(hash) = Phc::new(hash) else { return false };
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return false };
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
    let (Ok(params), Ok(version)) = (Params::try_from(&hash), version) else { return false };
    let count = params.block_count();
    let mut memory = allocator_api2::vec::Vec::with_capacity_in(count.max(MIN_BLOCKS), System);
    memory.resize(count, Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
    let mut computed = vec![0; expected.len()];
    let done = argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut computed, &mut memory);
    // `Output` compares in constant time.
    done.is_ok() && Output::new(&computed).is_ok_and(|computed| computed == *expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_matches_its_password_only() {
        let hash = hash_password("pässword").unwrap();
        assert_eq!(check_hash(&hash), Ok(()));
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(is_right(&hash, "pässword"));
        assert!(!is_right(&hash, "password") && !is_right(&hash, ""));
        assert_ne!(hash, hash_password("pässword").unwrap(), "each has its own salt");
    }

    #[test]
    fn unusable_hashes_are_refused() {
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
