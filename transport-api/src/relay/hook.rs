//! The embedder's word on each request.

use crate::Peer;
use crate::http::Field;
use crate::masque::{IpScope, ProxyStatus, Target};

use super::policy::TargetPolicy;

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Classic CONNECT.
    Tcp,
    /// CONNECT-UDP.
    Udp,
    /// CONNECT-IP.
    Ip,
}

/// Where a request wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked<'a> {
    /// A host and a port, by TCP or UDP.
    Host(&'a Target),
    /// Whatever this covers, by IP.
    Ip(&'a IpScope),
}

/// A request before its target is resolved.
#[derive(Clone, Copy, Debug)]
pub struct RequestMeta<'a> {
    /// What is asked for.
    pub protocol: Protocol,
    /// Where to.
    pub target: Asked<'a>,
    /// Ordinary header fields.
    pub fields: &'a [Field],
    /// Who asks, as the handshake proved it.
    pub peer: &'a Peer,
}

/// The answer to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Decision {
    /// Go on under the relay's policy.
    Accept,
    /// Go on under this policy instead; an IP tunnel has the relay's own all the same.
    AcceptUnder(TargetPolicy),
    /// Answer with an error.
    Reject {
        /// HTTP status, 400..=599.
        status: u16,
        /// `Proxy-Status`, if there is something to say.
        proxy_status: Option<ProxyStatus>,
        /// Further fields, such as `www-authenticate`.
        fields: Vec<Field>,
    },
}

/// Decides about requests. Called on the relay's thread: it must not block.
pub trait OnRequest: Send + Sync + 'static {
    /// Decides about one request.
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision;
}

/// Accepts what the target policy allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptAll;

impl OnRequest for AcceptAll {
    fn on_request(&self, _: &RequestMeta<'_>) -> Decision {
        Decision::Accept
    }
}
