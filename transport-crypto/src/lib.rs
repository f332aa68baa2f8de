//! transport-crypto
