//! Shared by the tests: the real program as a process, and its clients.

#[path = "../../../server/tests/support/authority.rs"]
mod authority;
#[path = "../../../server/tests/support/files.rs"]
mod files;
#[path = "../../../server/tests/support/folder.rs"]
mod folder;
mod program;
#[path = "../../../server/tests/support/sockets.rs"]
mod sockets;

pub(crate) use authority::{Authority, certificate};
pub(crate) use files::raise_file_limit;
pub(crate) use folder::Folder;
pub(crate) use program::Program;
pub(crate) use sockets::*;
