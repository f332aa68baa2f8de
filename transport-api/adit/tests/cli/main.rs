//! The command as users run it: built program, real sockets on loopback.

mod bad_input;
mod common;
mod completions;
mod datagrams;
mod machine;
mod operate;
mod tenants;
mod traffic;
