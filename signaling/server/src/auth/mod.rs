//! Verifies tokens and passwords. The Hub (`room_protocol::hub`) decides what a client may do with them.
//!
//! | file | content |
//! | --- | --- |
//! | `token.rs` | verifies and issues tokens |
//! | `keys.rs`, `crypto.rs` | the keys of tokens, and their signatures |
//! | `passwords.rs` | the queue of passwords that wait to be verified |
//! | `password.rs` | hashes of passwords |
//! | `settings.rs` | the sections `auth` and `rooms` of the configuration |
//! | `admin.rs` | the admin token |

mod admin;
mod crypto;
mod keys;
mod password;
mod passwords;
mod settings;
mod token;

pub use admin::{AdminSettings, AdminToken};
pub use keys::{Algorithm, KeyError, Keys, SigningKey};
pub use password::{HashError, check_hash, hash_password};
pub use settings::{AuthSettings, KeySettings, Mode, RoomSettings};
pub use token::{IssueError, TokenSpec};

pub(crate) use passwords::{AT_A_TIME as CHECKED_AT_A_TIME, Passwords};
pub(crate) use settings::load_rooms;
