//! transport-api

pub mod http;
pub mod local;
pub mod masque;
