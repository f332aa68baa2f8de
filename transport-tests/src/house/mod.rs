//! The guards of the house: architecture and style, checked by `cargo test`.
//!
//! Everything here reads text – sources, manifests, the lock file – and returns sentences that say what is wrong
//! and what to do about it. The tables of what is forbidden stand in `tests/layers.rs` and `tests/tidy.rs`; the
//! unit tests beside each module show that every rule can fail.
//!
//! * [`source`] – Rust text without comments, strings and tests; tokens.
//! * [`paths`] – which modules and crates a source mentions.
//! * [`arrows`] – rules over those mentions.
//! * [`manifest`] – what manifests and the lock file say.
//! * [`measure`] – lengths, duplicates, fields.
//! * [`habits`] – attributes and markers that must not stand in a commit.
//! * [`ratchet`] – the list of granted exceptions, which may only shrink.

pub mod arrows;
pub mod habits;
pub mod manifest;
pub mod measure;
pub mod paths;
pub mod ratchet;
pub mod source;

use std::path::{Path, PathBuf};

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Fails the calling test with all findings at once, one a line.
///
/// # Panics
/// When there is a finding.
pub fn expect_none(findings: &[String], advice: &str) {
    assert!(findings.is_empty(), "\n  {}\n{advice}\n", findings.join("\n  "));
}
