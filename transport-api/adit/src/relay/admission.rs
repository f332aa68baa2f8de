//! Who may ask a relay for tunnels, and what their tenants may use: `[access] tokens, users, issuers` and `[limits] tenants`.

use std::sync::{Arc, PoisonError, RwLock};

use transport_api::{
    TokenKey,
    relay::{
        Decision, Grant, OnRequest, Quotas, RequestMeta, TenantId, TenantQuota,
        auth::{AccessTokens, Authenticator, Authenticators, ClientList, MAX_WORDS, Words},
    },
};

use crate::{
    config::{Config, Tenants, Word},
    exit::{Code, Context, Outcome, fail},
    token,
};

/// What clients are told that their tokens are for.
const REALM: &str = "adit";

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
            Some(path) => Tenants::read(path)?,
            None => Tenants::default(),
        };
        let known = ClientList::of(access.clients.iter().copied(), &Grant::new());
        for (client, tenant) in tenants.clients()? {
            known.insert(client, Grant::new().with_tenant(tenant));
        }
        let known = Arc::new(known);
        let asks = !(access.tokens.is_empty() && access.users.is_empty() && issuers.is_empty());
        let authenticators = Authenticators::new()
            .or(Arc::clone(&known))
            .or(words(Words::bearer(REALM), &access.tokens)?)
            .or(words(Words::basic(REALM), &access.users)?)
            .or(Arc::clone(&self.tokens));
        Ok(Plan {
            tenants: tenants.quotas().collect(),
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
