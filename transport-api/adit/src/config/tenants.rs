//! The file that `[limits] tenants` names: what each tenant may use, and which clients are on its account.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;
use transport_api::{
    ClientId,
    relay::{TenantId, TenantQuota},
};

use crate::exit::{Code, Context, Failure, Outcome, fail};

/// All tenants.
#[derive(Debug, Default)]
pub(crate) struct Tenants(BTreeMap<TenantId, Tenant>);

/// What stands about one of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    /// Clients on this account, known by their keys.
    #[serde(default)]
    clients: Vec<String>,
    sessions: Option<u64>,
    tunnels: Option<u64>,
    contexts: Option<u64>,
    packets_per_s: Option<u64>,
    mbit_per_s: Option<u64>,
    /// In a period.
    bytes: Option<u64>,
    #[serde(default = "month")]
    period_hours: u64,
}

fn month() -> u64 {
    30 * 24
}

impl Tenant {
    fn quota(&self) -> TenantQuota {
        let mut quota = TenantQuota::new();
        (quota.sessions, quota.tunnels, quota.contexts) = (self.sessions, self.tunnels, self.contexts);
        quota.packets_per_s = self.packets_per_s;
        quota.bits_per_s = self.mbit_per_s.map(|mbit| mbit.saturating_mul(1_000_000));
        quota.bytes = self.bytes;
        quota.period = Duration::from_secs(self.period_hours.saturating_mul(3600));
        quota
    }
}

impl Tenants {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Outcome<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).or_fail(Code::Config, &shown)?;
        let tenants: BTreeMap<String, Tenant> = toml::from_str(&text).map_err(|error| Failure {
            code: Code::Config,
            message: format!("{shown}: {}", error.to_string().trim_end()),
        })?;
        let named = tenants.into_iter().map(|(name, says)| {
            let tenant = name.parse().or_fail(Code::Config, format!("{shown}: {name:?}"))?;
            Ok((tenant, says))
        });
        named.collect::<Outcome<_>>().map(Self)
    }

    /// What each may use.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = (TenantId, TenantQuota)> {
        self.0.iter().map(|(tenant, says)| (*tenant, says.quota()))
    }

    /// Which client is on which account.
    pub(crate) fn clients(&self) -> Outcome<BTreeMap<ClientId, TenantId>> {
        let mut known = BTreeMap::new();
        for (tenant, says) in &self.0 {
            for name in &says.clients {
                let place = format!("[limits] tenants: {tenant}: {name:?}");
                let client: ClientId = name.parse().or_fail(Code::Config, &place)?;
                if let Some(other) = known.insert(client, *tenant) {
                    return fail(Code::Config, format!("{place}: this client is {other}'s as well"));
                }
            }
        }
        Ok(known)
    }
}
