//! `[access]`: who may connect, and who may ask.

use std::path::PathBuf;

use serde::Deserialize;
use transport_api::{ClientId, relay::TenantId};

use super::parsed_list;
use crate::cli::Access as Mode;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Access {
    /// Everyone with the bundle, or the clients below.
    #[serde(deserialize_with = "access_mode")]
    pub(crate) mode: Mode,
    /// `client_id`s let in by `allowlist`.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) clients: Vec<ClientId>,
    /// `client_id`s kept out in either mode.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) revoked: Vec<ClientId>,
    /// Bearer tokens, each with its tenant.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) tokens: Vec<Word>,
    /// `user:password`, each with its tenant.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) users: Vec<Word>,
    /// Public keys of who issues access tokens, relative to the configuration.
    pub(crate) issuers: Vec<PathBuf>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            mode: Mode::Open,
            clients: Vec::new(),
            revoked: Vec::new(),
            tokens: Vec::new(),
            users: Vec::new(),
            issuers: Vec::new(),
        }
    }
}

fn access_mode<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
    match String::deserialize(from)?.as_str() {
        "open" => Ok(Mode::Open),
        "allowlist" => Ok(Mode::Allowlist),
        other => Err(serde::de::Error::custom(format!(
            "mode {other:?}: wanted \"open\" or \"allowlist\""
        ))),
    }
}

/// `TENANT:SHA256`: a secret word, of which only the hash is known here.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) tenant: TenantId,
    pub(crate) hash: [u8; 32],
}

impl std::str::FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "wanted TENANT:SHA256, with 64 lower-case hex digits".to_string();
        let (tenant, hash) = text.rsplit_once(':').ok_or_else(wanted)?;
        // Ids have the same form.
        let hash: ClientId = hash.parse().map_err(|_| wanted())?;
        Ok(Self {
            tenant: tenant.parse().map_err(|error| format!("{tenant:?}: {error}"))?,
            hash: *hash.as_bytes(),
        })
    }
}
