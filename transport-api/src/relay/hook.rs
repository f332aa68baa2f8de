//! The embedder's word on each request.

use std::fmt;
use std::net::SocketAddr;

use super::grant::Grant;
use crate::Peer;
use crate::http::{Field, RequestHead};
use crate::masque::lane::Lane;
use crate::masque::{IpScope, ProxyStatus, Target};

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Classic CONNECT.
    Tcp,
    /// CONNECT-UDP.
    Udp,
    /// CONNECT-UDP with `Connect-UDP-Bind: ?1`: UDP with many peers.
    Bind,
    /// CONNECT-IP.
    Ip,
}

impl Protocol {
    /// A word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Bind => "bind",
            Self::Ip => "ip",
        }
    }
}

/// Where a request wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked<'a> {
    /// A host and a port, by TCP or UDP.
    Host(&'a Target),
    /// Whatever this covers, by IP.
    Ip(&'a IpScope),
    /// Whomever the policy allows, by UDP.
    Anybody,
}

/// A request before its target is resolved.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RequestMeta<'a> {
    /// What is asked for.
    pub protocol: Protocol,
    /// Where to: what the variables of the template say.
    pub target: Asked<'a>,
    /// Whom the client takes this relay for (`:authority`); for [`Protocol::Tcp`] the target.
    pub authority: &'a str,
    /// The path, of which a template was recognised; empty for [`Protocol::Tcp`].
    pub path: &'a str,
    /// Ordinary header fields.
    pub fields: &'a [Field],
    /// Who asks, as the handshake proved it.
    pub peer: &'a Peer,
    /// The session's number; no other session of this process has it.
    pub session: u64,
    /// From where it is asked now; `None` in tests without a network.
    pub remote: Option<SocketAddr>,
    /// Where this relay listens.
    pub local: Option<SocketAddr>,
    /// The client has not yet shown that it is there: the request may be a copy of an earlier one (RFC 8470). Grant it only what
    /// is safe to be granted twice, or answer 425.
    pub early: bool,
    exporter: &'a dyn Exporter,
}

/// Keying material of the connection below.
trait Exporter {
    fn export(&self, label: &[u8], out: &mut [u8]) -> bool;
}

impl<L: Lane> Exporter for L {
    fn export(&self, label: &[u8], out: &mut [u8]) -> bool {
        Lane::export(self, label, out)
    }
}

impl<'a> RequestMeta<'a> {
    /// The request with this `head`, which came over `lane`.
    pub(super) fn new<L: Lane>(
        protocol: Protocol,
        target: Asked<'a>,
        head: &'a RequestHead,
        peer: &'a Peer,
        lane: &'a L,
    ) -> Self {
        Self {
            protocol,
            target,
            authority: head.authority.as_deref().unwrap_or_default(),
            path: head.path.as_deref().unwrap_or_default(),
            fields: &head.fields,
            peer,
            session: 0,
            remote: lane.remote(),
            local: None,
            early: false,
            exporter: lane,
        }
    }

    /// The value of a field that stands there once; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        crate::http::fields::single(self.fields, name)
    }

    /// Fills `out` with keying material that this client and this relay share and nobody else knows (as RFC 5705), to which a
    /// token may be bound. It asks the driver, and so costs the time of a system call or two; false, and `out` untouched, when the
    /// connection has ended, and at a relay whose driver is on its own loop.
    pub fn export(&self, label: &[u8], out: &mut [u8]) -> bool {
        self.exporter.export(label, out)
    }
}

impl fmt::Debug for RequestMeta<'_> {
    /// Fields may hold secrets, so they are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestMeta")
            .field("protocol", &self.protocol)
            .field("target", &self.target)
            .field("peer", &self.peer)
            .field("remote", &self.remote)
            .field("early", &self.early)
            .finish_non_exhaustive()
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Decision {
    /// Go on with this.
    Accept(Grant),
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

impl Decision {
    /// Go on with what the relay grants everybody.
    pub fn accept() -> Self {
        Self::Accept(Grant::new())
    }

    /// Answer with `status` and say why.
    pub fn reject(status: u16, why: ProxyStatus) -> Self {
        Self::Reject {
            status,
            proxy_status: Some(why),
            fields: Vec::new(),
        }
    }
}

/// Decides about requests. Called on the relay's thread: it must not block.
pub trait OnRequest: Send + Sync + 'static {
    /// Decides about one request.
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision;
}

/// A function decides.
impl<F: Fn(&RequestMeta<'_>) -> Decision + Send + Sync + 'static> OnRequest for F {
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision {
        self(request)
    }
}

/// Accepts what the target policy allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptAll;

impl OnRequest for AcceptAll {
    fn on_request(&self, _: &RequestMeta<'_>) -> Decision {
        Decision::accept()
    }
}
