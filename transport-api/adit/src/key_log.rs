//! `--key-log FILE`: the secrets of every connection, for whoever must read a recording of one's own traffic.
//!
//! One JSON object a line:
//! ```text
//! { "v": 1, "time_ms": unix, "side": "client" | "relay", "relay_id": hex, "remote": "address:port",
//!   "suite": "chacha20-poly1305" | "aes-256-gcm", "transcript": hex, "c_ap_0": hex, "s_ap_0": hex }
//! ```
//! Both ends write the same `transcript`. Packet keys follow from `c_ap_0` and `s_ap_0` as `transport-crypto/src/schedule.rs`
//! says; connection ids are masked under keys of the relay's id. Early data is not in it.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use serde_json::json;
use transport_api::{KeyLog, KeyLogEntry, Now, RelayId};

use crate::{
    bench::suite_name,
    exit::{Code, Context, Outcome, fail},
    output,
};

/// A file that gets a line for each connection.
struct Lines {
    file: File,
    relay_id: String,
}

/// Opens the file of `--key-log` for one endpoint, and says loudly what that means. Lines are added to what is there.
pub(crate) fn open(path: &Path, relay_id: &RelayId) -> Outcome<Box<dyn KeyLog + Send>> {
    let shown = path.display();
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .or_fail(Code::Config, format!("--key-log {shown}"))?;
    let found = file.metadata().or_fail(Code::Config, &shown)?;
    if !found.is_file() || found.permissions().mode() & 0o077 != 0 {
        return fail(
            Code::Config,
            format!("--key-log {shown}: others could read it, or it is no file; use a file of mode 0600"),
        );
    }
    banner(&shown.to_string());
    Ok(Box::new(Lines {
        file,
        relay_id: relay_id.to_string(),
    }))
}

fn banner(shown: &str) {
    let line = "!".repeat(72);
    output::tell(format_args!(
        "{line}\n!! KEY LOG IS ON: the secrets of every connection are written to\n!!   {shown}\n!! Whoever reads that file \
         reads the traffic. Never use this but to find a\n!! fault in traffic of your own, and delete the file afterwards.\n{line}"
    ));
}

impl KeyLog for Lines {
    fn connection(&mut self, now: Now, entry: &KeyLogEntry<'_>) {
        let secrets = entry.secrets;
        let line = json!({
            "v": 1,
            "time_ms": now.unix_ms,
            "side": if entry.client { "client" } else { "relay" },
            "relay_id": self.relay_id,
            "remote": entry.remote.to_string(),
            "suite": suite_name(secrets.suite),
            "transcript": hex(&secrets.transcript),
            "c_ap_0": hex(secrets.client.expose()),
            "s_ap_0": hex(secrets.server.expose()),
        });
        // One write, so that lines of several endpoints do not mix.
        if let Err(error) = self.file.write_all(format!("{line}\n").as_bytes()) {
            tracing::warn!(%error, "key log");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
