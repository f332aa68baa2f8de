//! Secret words: bearer tokens (RFC 6750) and user names with passwords (RFC 7617). Of each only the SHA-256 is kept.

use std::fmt;

use base64ct::{Base64, Encoding};

use super::{Authenticator, Denied, credentials};
use crate::Secret;
use crate::engine::sha256;
use crate::relay::grant::Grant;
use crate::relay::hook::RequestMeta;

/// Words of one list; more are left out.
pub const MAX_WORDS: usize = 10_000;
/// The longest word that is hashed.
const MAX_LENGTH: usize = 4096;

/// Which scheme a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Basic,
}

/// A list of words, and what each is granted.
pub struct Words {
    scheme: Scheme,
    challenge: String,
    /// Looked at from the first to the last, whatever is found: how long it takes says nothing about them.
    list: Vec<(Secret<32>, Grant)>,
}

impl Words {
    /// Bearer tokens; `realm` is what clients are told that they are for.
    pub fn bearer(realm: &str) -> Self {
        Self::new(Scheme::Bearer, "Bearer", realm)
    }

    /// User names with passwords.
    pub fn basic(realm: &str) -> Self {
        Self::new(Scheme::Basic, "Basic", realm)
    }

    fn new(scheme: Scheme, name: &str, realm: &str) -> Self {
        let realm: String = realm
            .chars()
            .filter(|c| (' '..='~').contains(c) && !matches!(c, '"' | '\\'))
            .collect();
        Self {
            scheme,
            challenge: format!("{name} realm=\"{realm}\""),
            list: Vec::new(),
        }
    }

    /// Lets in who shows `word`: a bearer token, or `user:password`.
    #[must_use]
    pub fn with(self, word: &str, grant: Grant) -> Self {
        self.with_hash(sha256(&[word.as_bytes()]), grant)
    }

    /// Lets in who shows the word of this SHA-256. No more than [`MAX_WORDS`].
    #[must_use]
    pub fn with_hash(mut self, hash: [u8; 32], grant: Grant) -> Self {
        if self.list.len() < MAX_WORDS {
            self.list.push((Secret::new(hash), grant));
        }
        self
    }

    fn find(&self, word: &[u8]) -> Option<&Grant> {
        let hash = Secret::new(sha256(&[word]));
        let mut found = None;
        for (known, grant) in &self.list {
            if *known == hash {
                found = Some(grant);
            }
        }
        found
    }
}

impl Authenticator for Words {
    fn authenticate(&self, request: &RequestMeta<'_>) -> Result<Option<Grant>, Denied> {
        let (scheme, refused) = match self.scheme {
            Scheme::Bearer => ("Bearer", "no such token"),
            Scheme::Basic => ("Basic", "no such user, or another password"),
        };
        let Some(shown) = credentials(request, scheme) else {
            return Ok(None);
        };
        let word = match self.scheme {
            Scheme::Bearer => Some(shown.as_bytes().to_vec()),
            Scheme::Basic => Base64::decode_vec(shown).ok(),
        };
        let word = word.filter(|word| word.len() <= MAX_LENGTH);
        let grant = word.and_then(|word| self.find(&word).cloned());
        grant.map(Some).ok_or(Denied::Credentials(refused))
    }

    fn challenge(&self) -> Option<&str> {
        Some(&self.challenge)
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({:?}, {})", self.scheme, self.list.len())
    }
}
