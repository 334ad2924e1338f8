//! Reads files that settings name.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// The longest file that is read. No key, certificate chain or token is longer.
const MAX_LENGTH: u64 = 1 << 20;

/// The content of a file, and its mode bits.
pub(super) fn read_file(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut content = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_LENGTH {
        return Err(io::Error::other("longer than 1 MiB"));
    }
    Ok((content, metadata.permissions().mode()))
}
