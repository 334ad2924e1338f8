//! Layers of settings and everything that can be wrong with them: a TOML file, above it variables of the environment,
//! above those the flags of a command.
//!
//! This module knows no setting. `read` gets the type that the settings are read into, checks each layer against it,
//! and reports every problem with its file and line, its variable or its flag. A section of the settings is a struct
//! in the module that it is about; the `load` function of that struct checks the values with a `Loader`.

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
