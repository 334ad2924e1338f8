//! Room for many sockets in the process of a test.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Makes room for many sockets in this process.
pub(crate) fn raise_file_limit() {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
}
