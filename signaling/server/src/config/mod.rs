//! Reads settings in layers, and reports everything that is wrong with them. Environment variables override a TOML file,
//! and the flags of a command override both.
//!
//! This module defines no setting: `settings/` does. `read` checks each layer against the type of the settings, and
//! reports every problem with its file and line, its variable or its flag. Each section of the settings is a struct in
//! the module that it configures; the `load` function of that struct checks the values with a `Loader`.

mod advice;
mod disk;
mod document;
mod given;
mod loader;
mod problem;
mod seconds;

pub use given::{Given, variables};
pub use loader::{FilePath, Located};
pub use problem::ConfigError;
pub use seconds::Seconds;

pub(crate) use loader::{Loader, read};
