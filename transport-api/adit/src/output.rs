//! What people and scripts read: JSON and text on stdout, everything else on stderr.

use std::io::Write;

use serde_json::{Value, json};

use crate::exit::Outcome;

/// Prints one JSON object on one line. A closed pipe is not an error of ours.
pub(crate) fn json_line(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

/// Prints a line of text on stdout.
pub(crate) fn line(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints bytes as they are. A closed pipe is not an error of ours.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Tells people something on stderr, at every log level.
pub(crate) fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The one error line of a command that failed.
pub(crate) fn complain(message: &str) {
    tell(format_args!("adit: {message}"));
}

/// `adit version`.
pub(crate) fn version(as_json: bool) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let provider = crate::provider::fastest().name();
    if as_json {
        json_line(&json!({
            "version": version,
            "protocol": "adit1",
            "provider": provider,
            "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            "handshake": "Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256 with ML-KEM-768",
            "identity": "ML-DSA-65 and Ed25519",
            "suites": ["chacha20-poly1305", "aes-256-gcm"],
        }));
    } else {
        line(format_args!("adit {version} (protocol adit1, {provider})"));
    }
    Ok(())
}
