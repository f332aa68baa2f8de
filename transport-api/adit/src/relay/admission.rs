//! Who may ask a relay for tunnels, and what their tenants may use: `[access] tokens, users, issuers` and `[limits] tenants`.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde::Deserialize;
use transport_api::{
    ClientId, TokenKey,
    relay::{
        Decision, Grant, OnRequest, Quotas, RequestMeta, TenantId, TenantQuota,
        auth::{AccessTokens, Authenticator, Authenticators, ClientList, MAX_WORDS, Words},
    },
};

use crate::{
    config::{Config, Word},
    exit::{Code, Context, Failure, Outcome, fail},
    token,
};

/// What clients are told that their tokens are for.
const REALM: &str = "adit";

/// One tenant in the file of tenants.
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

/// What the configuration says, read and checked, and not yet in force.
pub(super) struct Plan {
    tenants: Vec<(TenantId, TenantQuota)>,
    issuers: Vec<TokenKey>,
    door: Door,
}

/// Who is let in.
#[derive(Default)]
struct Door {
    /// Clients whose keys say who they are.
    known: Arc<ClientList>,
    /// Nobody is asked when there is none.
    authenticators: Option<Authenticators>,
}

/// The door of a relay. What it remembers of tokens outlives a change of configuration.
pub(super) struct Admission {
    tokens: Arc<AccessTokens>,
    pub(super) quotas: Quotas,
    door: RwLock<Door>,
}

impl Admission {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            tokens: Arc::new(AccessTokens::new([], Grant::new())),
            quotas: Quotas::new(),
            door: RwLock::default(),
        })
    }

    /// Reads the files that the configuration names; nothing changes yet.
    pub(super) fn plan(&self, config: &Config) -> Outcome<Plan> {
        let access = &config.access;
        let issuers: Vec<_> = access
            .issuers
            .iter()
            .map(|path| token::read_issuer(path))
            .collect::<Outcome<_>>()?;
        let tenants = match &config.limits.tenants {
            Some(path) => read_tenants(path)?,
            None => BTreeMap::new(),
        };
        let known = ClientList::of(access.clients.iter().copied(), &Grant::new());
        for (client, tenant) in clients_of(&tenants)? {
            known.insert(client, Grant::new().with_tenant(tenant));
        }
        let known = Arc::new(known);
        let asks = !(access.tokens.is_empty() && access.users.is_empty() && issuers.is_empty());
        let authenticators = Authenticators::new()
            .or(Arc::clone(&known))
            .or(words(Words::bearer(REALM), &access.tokens)?)
            .or(words(Words::basic(REALM), &access.users)?)
            .or(Arc::clone(&self.tokens));
        let quotas = tenants.iter().map(|(tenant, says)| (*tenant, says.quota()));
        Ok(Plan {
            tenants: quotas.collect(),
            issuers,
            door: Door {
                known,
                authenticators: asks.then_some(authenticators),
            },
        })
    }

    /// From now on, running tunnels included as far as quotas go.
    pub(super) fn adopt(&self, plan: Plan) -> Outcome {
        for gone in self.quotas.tenants() {
            if !plan.tenants.iter().any(|(tenant, _)| *tenant == gone) {
                self.quotas.clear(gone);
            }
        }
        for (tenant, quota) in plan.tenants {
            self.quotas
                .set(tenant, quota)
                .or_fail(Code::Config, "[limits] tenants")?;
        }
        self.tokens.set_issuers(plan.issuers);
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = plan.door;
        Ok(())
    }
}

impl OnRequest for Admission {
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision {
        let door = self.door.read().unwrap_or_else(PoisonError::into_inner);
        match &door.authenticators {
            Some(authenticators) => authenticators.on_request(request),
            None => match door.known.authenticate(request) {
                Ok(Some(grant)) => Decision::Accept(grant),
                _ => Decision::accept(),
            },
        }
    }
}

fn words(list: Words, words: &[Word]) -> Outcome<Words> {
    if words.len() > MAX_WORDS {
        return fail(
            Code::Config,
            format!("[access] tokens, users: at most {MAX_WORDS} each"),
        );
    }
    Ok(words.iter().fold(list, |list, word| {
        list.with_hash(word.hash, Grant::new().with_tenant(word.tenant))
    }))
}

fn read_tenants(path: &Path) -> Outcome<BTreeMap<TenantId, Tenant>> {
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
    named.collect()
}

/// Which client is on which account.
fn clients_of(tenants: &BTreeMap<TenantId, Tenant>) -> Outcome<BTreeMap<ClientId, TenantId>> {
    let mut known = BTreeMap::new();
    for (tenant, says) in tenants {
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
