//! HTTP: the viewer page, health, metrics, and the API of operators.
//!
//! `request.rs` reads the one request of a connection and writes the response; `route.rs` chooses the response, and is
//! where a route is added.

mod access;
mod operate;
mod out;
mod pages;
pub(crate) mod request;
mod response;
mod rooms;
mod route;
pub(crate) mod site;
mod viewer;
pub(crate) mod visitor;
