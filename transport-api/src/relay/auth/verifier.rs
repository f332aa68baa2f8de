//! Verifies access tokens, each once, and remembers who showed them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::source::Sources;
use super::tokens::{SignedToken, TOKEN_SCHEME, TokenError};
use super::{Authenticator, Denied, credentials};
use crate::driver::clock;
use crate::engine::sha256;
use crate::relay::grant::Grant;
use crate::relay::hook::RequestMeta;
use crate::relay::rate::SharedRate;
use crate::{Now, Peer, TokenKey};

/// Nonces remembered, each until its token expires. When there are more, tokens that nobody has shown yet are refused.
pub const MAX_NONCES: usize = 1 << 16;
/// When to ask again if there is no room for a nonce, or too much to verify.
const RETRY_S: u32 = 5;

/// Lets in who shows a token of a known issuer. Relays of one process that share one value see each token once.
pub struct AccessTokens {
    grant: Grant,
    state: Mutex<State>,
}

struct State {
    issuers: BTreeMap<[u8; 8], TokenKey>,
    sources: Sources,
    seen: BTreeMap<[u8; 16], Seen>,
}

/// A token that was verified.
struct Seen {
    /// Of all its bytes.
    hash: [u8; 32],
    not_after: u64,
    /// The one that may show it, if it is not bound to a client.
    session: u64,
    grant: Grant,
}

/// Who shows a token.
struct Shown<'a> {
    text: &'a str,
    session: u64,
    peer: &'a Peer,
    remote: Option<SocketAddr>,
}

impl AccessTokens {
    /// Tokens of `issuers`. Each gets what `grant` says, on the account of its tenant and with its own rate.
    pub fn new(issuers: impl IntoIterator<Item = TokenKey>, grant: Grant) -> Self {
        let state = State {
            issuers: by_id(issuers),
            sources: Sources::new(clock::now().instant),
            seen: BTreeMap::new(),
        };
        Self {
            grant,
            state: Mutex::new(state),
        }
    }

    /// Only tokens of these from now on; what was seen of them is still known.
    pub fn set_issuers(&self, issuers: impl IntoIterator<Item = TokenKey>) {
        self.state().issuers = by_id(issuers);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, now: Now, shown: &Shown<'_>) -> Result<Grant, Denied> {
        let refused = |error: TokenError| Denied::Credentials(error.text());
        let token = SignedToken::parse(shown.text).ok_or(refused(TokenError::Malformed))?;
        let unix_s = now.unix_ms / 1000;
        token.says.check_time(unix_s).map_err(refused)?;
        let bound = token.says.client.is_some();
        if bound && token.says.client != client(shown.peer) {
            return Err(refused(TokenError::OtherClient));
        }
        let hash = sha256(&[&token.bytes]);
        let mut state = self.state();
        let key = state.issuers.get(&token.issuer).cloned();
        let key = key.ok_or(refused(TokenError::UnknownIssuer))?;
        if let Some(seen) = state.seen.get(&token.says.nonce) {
            let same = seen.hash == hash && (bound || seen.session == shown.session);
            return same
                .then(|| seen.grant.clone())
                .ok_or(refused(TokenError::Replayed));
        }
        if !state.has_room(unix_s) || !state.sources.allow(now.instant, shown.remote) {
            return Err(Denied::Busy {
                retry_after_s: RETRY_S,
            });
        }
        // Under the lock, so that two sessions do not show one token at the same time.
        if !token.is_signed_by(&key) {
            return Err(refused(TokenError::BadSignature));
        }
        let grant = self.grant_of(&token);
        let seen = Seen {
            hash,
            not_after: token.says.not_after,
            session: shown.session,
            grant: grant.clone(),
        };
        state.seen.insert(token.says.nonce, seen);
        Ok(grant)
    }

    fn grant_of(&self, token: &SignedToken) -> Grant {
        let grant = self.grant.clone().with_tenant(token.says.tenant);
        match token.says.mbit {
            0 => grant,
            mbit => grant.with_rate(Arc::new(SharedRate::bits(u64::from(mbit) * 1_000_000))),
        }
    }
}

impl State {
    fn has_room(&mut self, unix_s: u64) -> bool {
        if self.seen.len() >= MAX_NONCES {
            self.seen.retain(|_, seen| seen.not_after >= unix_s);
        }
        self.seen.len() < MAX_NONCES
    }
}

fn by_id(issuers: impl IntoIterator<Item = TokenKey>) -> BTreeMap<[u8; 8], TokenKey> {
    issuers.into_iter().map(|key| (key.id(), key)).collect()
}

fn client(peer: &Peer) -> Option<crate::ClientId> {
    match peer {
        Peer::Client(client) => Some(*client),
        _ => None,
    }
}

impl Authenticator for AccessTokens {
    fn authenticate(&self, request: &RequestMeta<'_>) -> Result<Option<Grant>, Denied> {
        let Some(text) = credentials(request, TOKEN_SCHEME) else {
            return Ok(None);
        };
        let shown = Shown {
            text,
            session: request.session,
            peer: request.peer,
            remote: request.remote,
        };
        self.admit(clock::now(), &shown).map(Some)
    }

    fn challenge(&self) -> Option<&str> {
        Some(TOKEN_SCHEME)
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessTokens({:?})", self.state().issuers)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::AccessToken;
    use super::*;
    use crate::{ClientId, TokenIssuer};

    fn issuer() -> TokenIssuer {
        TokenIssuer::from_seed([1; 32])
    }

    fn verifier() -> AccessTokens {
        AccessTokens::new([issuer().verifier()], Grant::new())
    }

    fn token(nonce: u8, client: Option<ClientId>) -> String {
        let says = AccessToken {
            tenant: "acme".parse().expect("tenant"),
            not_before: 1000,
            not_after: 2000,
            nonce: [nonce; 16],
            mbit: 20,
            client,
        };
        says.issue(&issuer()).expect("issued")
    }

    /// Shows `text` in `session` at `unix_s`.
    fn show(to: &AccessTokens, text: &str, session: u64, peer: Peer, unix_s: u64) -> Result<Grant, Denied> {
        let now = Now {
            unix_ms: unix_s * 1000,
            ..clock::now()
        };
        let shown = Shown {
            text,
            session,
            peer: &peer,
            remote: None,
        };
        to.admit(now, &shown)
    }

    fn refused(error: TokenError) -> Option<Denied> {
        Some(Denied::Credentials(error.text()))
    }

    /// The same token with another signature.
    fn forged(text: &str) -> String {
        let (before, after) = text.split_at(1000);
        let (digit, after) = after.split_at(1);
        format!("{before}{}{after}", if digit == "A" { "B" } else { "A" })
    }

    #[test]
    fn a_token_without_a_client_is_for_one_session() {
        let (to, text) = (verifier(), token(1, None));
        let first = show(&to, &text, 7, Peer::Anonymous, 1500).expect("granted");
        assert_eq!(first.tenant.map(|t| t.to_string()), Some("acme".into()));
        let again = show(&to, &text, 7, Peer::Anonymous, 1501).expect("the same session");
        let (one, two) = (first.rate.expect("a rate"), again.rate.expect("a rate"));
        assert!(Arc::ptr_eq(&one, &two), "all tunnels share the token's rate");
        assert_eq!(one.get(), 20_000_000);
        let other = show(&to, &text, 8, Peer::Anonymous, 1502).err();
        assert_eq!(other, refused(TokenError::Replayed));
        let late = show(&to, &text, 7, Peer::Anonymous, 2001).err();
        assert_eq!(late, refused(TokenError::Expired));
    }

    #[test]
    fn a_token_for_a_client_is_for_all_its_sessions() {
        let id = ClientId::from_bytes([5; 32]);
        let (to, text) = (verifier(), token(1, Some(id)));
        for session in 0..3 {
            show(&to, &text, session, Peer::Client(id), 1500).expect("granted");
        }
        for peer in [Peer::Anonymous, Peer::Client(ClientId::from_bytes([6; 32]))] {
            let other = show(&to, &text, 0, peer, 1500).err();
            assert_eq!(other, refused(TokenError::OtherClient));
        }
    }

    #[test]
    fn forgeries_are_refused_and_leave_no_trace() {
        let to = verifier();
        let other = AccessTokens::new([TokenIssuer::from_seed([2; 32]).verifier()], Grant::new());
        let text = token(1, None);
        let unknown = show(&other, &text, 0, Peer::Anonymous, 1500).err();
        assert_eq!(unknown, refused(TokenError::UnknownIssuer));
        let forged = forged(&text);
        let bad = show(&to, &forged, 0, Peer::Anonymous, 1500).err();
        assert_eq!(bad, refused(TokenError::BadSignature));
        show(&to, &text, 9, Peer::Anonymous, 1500).expect("the nonce was not used up");
    }

    #[test]
    fn a_source_may_have_only_so_many_verified() {
        let to = verifier();
        let forged = forged(&token(1, None));
        let busy = (0..200)
            .filter_map(|_| show(&to, &forged, 0, Peer::Anonymous, 1500).err())
            .filter(|denied| matches!(denied, Denied::Busy { .. }))
            .count();
        assert!((100..=136).contains(&busy), "{busy}");
    }

    #[test]
    fn nonces_are_kept_until_their_tokens_expire_and_never_pushed_out() {
        let to = verifier();
        show(&to, &token(1, None), 1, Peer::Anonymous, 1500).expect("granted");
        {
            let mut state = to.state.lock().expect("lock");
            for n in 1..MAX_NONCES as u128 {
                let seen = Seen {
                    hash: [0; 32],
                    not_after: 1600,
                    session: 0,
                    grant: Grant::new(),
                };
                state.seen.insert((n << 64).to_be_bytes(), seen);
            }
        }
        let full = show(&to, &token(2, None), 1, Peer::Anonymous, 1600).err();
        assert!(matches!(full, Some(Denied::Busy { .. })));
        show(&to, &token(2, None), 1, Peer::Anonymous, 1601).expect("there is room again");
        let replayed = show(&to, &token(1, None), 2, Peer::Anonymous, 1601).err();
        assert_eq!(replayed, refused(TokenError::Replayed));
    }
}
