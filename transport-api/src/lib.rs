//! transport-api
