//! Users: tokens and the keys that they are checked with, and the passwords of rooms. What follows from a token that
//! is good or a password that is right is the Hub's to decide; here it is found out whether they are.

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
pub use token::{IssueError, Order};

pub(crate) use passwords::{AT_A_TIME as CHECKED_AT_A_TIME, Passwords};
pub(crate) use settings::load_rooms;
