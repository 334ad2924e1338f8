//! The media connection to one peer: what a session of the sink and a session of the source have in common.

pub(crate) mod certificate;
pub(crate) mod connection;
pub(crate) mod relays;
