//! transport-tests
