//! transport-scheduler
