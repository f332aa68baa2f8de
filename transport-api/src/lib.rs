//! transport-api

pub mod local;
