//! What a CONNECT-IP request asks to reach (RFC 9484 §4.6): an address, a network, a name or anything, by one protocol or all.

use std::fmt;

use crate::ip::Network;
use crate::masque::target::{BadTarget, Host, parse_host};

/// The variables of a request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct IpScope {
    /// Where to.
    pub target: ScopeTarget,
    /// By which IP protocol; `None` is every one.
    pub protocol: Option<u8>,
}

/// Where a CONNECT-IP request wants to go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ScopeTarget {
    /// `*`
    #[default]
    Any,
    /// An address or a network.
    Network(Network),
    /// A name to resolve.
    Name(String),
}

/// A variable of the request is not what RFC 9484 §4.6 allows (answered with 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadScope;

impl fmt::Display for BadScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a network, a name or *, and a protocol number or *")
    }
}

impl std::error::Error for BadScope {}

impl IpScope {
    /// From decoded variables; absent ones stand for `*`.
    pub(crate) fn from_variables(target: Option<&str>, protocol: Option<&str>) -> Result<Self, BadScope> {
        let protocol = match protocol {
            None | Some("*") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| BadScope)?)
            }
            Some(_) => return Err(BadScope),
        };
        let target = match target {
            None | Some("*") => ScopeTarget::Any,
            Some(text) => parse_target(text)?,
        };
        Ok(Self { target, protocol })
    }

    /// The two values as a template takes them, not yet encoded.
    pub(crate) fn variables(&self) -> (String, String) {
        let target = match &self.target {
            ScopeTarget::Any => "*".into(),
            ScopeTarget::Network(network) if network.is_single() => network.first().to_string(),
            ScopeTarget::Network(network) => network.to_string(),
            ScopeTarget::Name(name) => name.clone(),
        };
        (
            target,
            self.protocol.map_or("*".into(), |number| number.to_string()),
        )
    }
}

fn parse_target(text: &str) -> Result<ScopeTarget, BadScope> {
    if let Ok(network) = text.parse() {
        return Ok(ScopeTarget::Network(network));
    }
    match parse_host(text).map_err(|BadTarget| BadScope)? {
        Host::Name(name) => Ok(ScopeTarget::Name(name)),
        Host::Ip(address) => Ok(ScopeTarget::Network(Network::single(address))),
    }
}
