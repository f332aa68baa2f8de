//! transport-core
