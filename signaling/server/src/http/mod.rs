//! What the server answers over HTTP: the viewer page, health, metrics, and the API of operators.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod answer;
pub(crate) mod metrics;
pub(crate) mod operate;
pub(crate) mod pages;
pub(crate) mod request;
pub(crate) mod viewer;
