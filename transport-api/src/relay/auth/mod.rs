//! Who may use a relay: authenticators, asked one after another until one knows who asks.
//!
//! [`Authenticators`] is a hook by itself, or a part of an embedder's own, which asks it and then has a word on what it accepts. What
//! a client shows is read here and goes nowhere else: the relay forwards no fields.
//!
//! There is no authenticator for Privacy Pass (RFC 9578): verifying a publicly verifiable token takes RSA, which whoever embeds this
//! crate would have to compile. Whoever wants it implements [`Authenticator`] for the scheme `PrivateToken` with a crate of his own.

mod clients;
mod source;
mod tokens;
mod verifier;
mod words;

use std::fmt;

use super::grant::Grant;
use super::hook::{Decision, OnRequest, RequestMeta};
use crate::http::Field;
use crate::masque::{ProxyError, ProxyStatus};

pub use clients::ClientList;
pub use tokens::{AccessToken, MAX_TOKEN_LIFETIME_S, TOKEN_LEN, TOKEN_SCHEME, TokenError};
pub use verifier::{AccessTokens, MAX_NONCES};
pub use words::{MAX_WORDS, Words};

/// Why somebody is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// What was shown is wrong or missing: 401, or 407 if the request has fields for proxies, with a challenge.
    Credentials(&'static str),
    /// What was shown is right, but not for this: 403.
    Forbidden(&'static str),
    /// Too many have to be looked at: 429, and when to ask again.
    Busy {
        /// Seconds until then.
        retry_after_s: u32,
    },
}

/// Knows some of those who ask. Called on the relay's thread: it must not block.
pub trait Authenticator: Send + Sync + 'static {
    /// What whoever asks is granted; `None` when nothing was shown that this authenticator looks at, so that the next one is asked.
    ///
    /// # Errors
    /// What was shown is refused; nobody else is asked.
    fn authenticate(&self, request: &RequestMeta<'_>) -> Result<Option<Grant>, Denied>;

    /// The scheme, with its parameters, that a client is told to use (RFC 9110 §11.6.1); `None` when there is nothing to be told.
    fn challenge(&self) -> Option<&str> {
        None
    }
}

/// Authenticators in the order in which they are asked. Whom none knows is turned away.
#[derive(Default)]
pub struct Authenticators(Vec<Box<dyn Authenticator>>);

impl Authenticators {
    /// Nobody is let in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks this one as well.
    #[must_use]
    pub fn or(mut self, authenticator: impl Authenticator) -> Self {
        self.0.push(Box::new(authenticator));
        self
    }

    fn answer(&self, request: &RequestMeta<'_>, denied: Denied) -> Decision {
        let (status, text, fields) = match denied {
            Denied::Credentials(text) => {
                let for_proxy = request.fields.iter().any(|f| f.name.starts_with("proxy-"));
                let (status, name) = if for_proxy {
                    (407, "proxy-authenticate")
                } else {
                    (401, "www-authenticate")
                };
                let challenges = self.0.iter().filter_map(|one| one.challenge());
                (status, text, challenges.map(|c| Field::new(name, c)).collect())
            }
            Denied::Forbidden(text) => (403, text, Vec::new()),
            Denied::Busy { retry_after_s } => {
                let when = Field::new("retry-after", retry_after_s.to_string());
                (429, "too many credentials to verify", vec![when])
            }
        };
        Decision::Reject {
            status,
            proxy_status: Some(ProxyStatus::new(ProxyError::HttpRequestDenied).with_details(text)),
            fields,
        }
    }
}

impl fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticators({})", self.0.len())
    }
}

impl OnRequest for Authenticators {
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision {
        for authenticator in &self.0 {
            match authenticator.authenticate(request) {
                Ok(Some(grant)) => return Decision::Accept(grant),
                Ok(None) => {}
                Err(denied) => return self.answer(request, denied),
            }
        }
        self.answer(request, Denied::Credentials("nobody here knows who asks"))
    }
}

/// What the request shows under `scheme` (any case), in the field for proxies first, then in the one for servers. Fields that stand
/// there twice say nothing.
pub fn credentials<'a>(request: &RequestMeta<'a>, scheme: &str) -> Option<&'a str> {
    let shown = |field| {
        let (name, rest) = request.field(field)?.split_once(' ')?;
        name.eq_ignore_ascii_case(scheme).then(|| rest.trim_matches(' '))
    };
    shown("proxy-authorization").or_else(|| shown("authorization"))
}
