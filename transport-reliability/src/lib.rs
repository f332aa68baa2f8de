//! transport-reliability
