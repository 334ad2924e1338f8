//! The shell around [`room_protocol::Hub`]: sockets, HTTP, heartbeat, logs.
