//! The command `adit`.
fn main() {}
