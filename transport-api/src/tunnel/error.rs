//! Why a tunnel cannot be opened, or ended.

use std::fmt;

use super::frames::StreamError;
use super::session::SessionEnd;
use crate::http::ResponseHead;
use crate::masque::proxy_status::{ProxyError, ProxyStatus};

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TunnelErrorKind {
    /// The target refused the connection, or cannot be reached.
    Refused,
    /// The relay's policy forbids it.
    Policy,
    /// The name does not resolve.
    Dns,
    /// The target or its name server did not answer in time.
    Timeout,
    /// A limit of the relay is reached; later it may work.
    Limit,
    /// The relay wants credentials.
    Authentication,
    /// The relay takes no further requests on this connection.
    Draining,
    /// The host or the port is not one.
    BadTarget,
    /// The relay does not do this, or refused for another reason.
    Rejected,
    /// The connection to the relay ended, or the stream was reset.
    Transport,
    /// The relay broke the protocol.
    Protocol,
    /// The device of this machine at the tunnel's end broke.
    Device,
}

/// The answer of a relay that refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `Proxy-Status`, if there was one.
    pub proxy_status: Option<ProxyStatus>,
}

/// Why a tunnel cannot be opened, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelError {
    kind: TunnelErrorKind,
    detail: Detail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Detail {
    Text(String),
    Refusal(Refusal),
}

impl TunnelError {
    pub(crate) fn new(kind: TunnelErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            detail: Detail::Text(text.into()),
        }
    }

    /// The device of a tunnel broke.
    pub(crate) fn device(error: &std::io::Error) -> Self {
        Self::new(TunnelErrorKind::Device, format!("the TUN device: {error}"))
    }

    /// From a final response other than 2xx.
    pub(crate) fn refused(head: &ResponseHead) -> Self {
        let proxy_status = ProxyStatus::from_fields(&head.fields);
        let error = proxy_status.as_ref().and_then(|s| s.error);
        let kind = match head.status {
            // These say more than the words of the registry.
            401 | 407 | 429 => None,
            _ => error.and_then(kind_of_error),
        };
        let kind = kind.unwrap_or_else(|| kind_of_status(head.status));
        Self {
            kind,
            detail: Detail::Refusal(Refusal {
                status: head.status,
                proxy_status,
            }),
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> TunnelErrorKind {
        self.kind
    }

    /// The relay's answer, if it was the relay that refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.detail {
            Detail::Refusal(refusal) => Some(refusal),
            Detail::Text(_) => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            TunnelErrorKind::Refused
                | TunnelErrorKind::Dns
                | TunnelErrorKind::Timeout
                | TunnelErrorKind::Limit
                | TunnelErrorKind::Draining
                | TunnelErrorKind::Transport
        )
    }
}

fn kind_of_error(error: ProxyError) -> Option<TunnelErrorKind> {
    Some(match error {
        ProxyError::DnsError => TunnelErrorKind::Dns,
        ProxyError::DnsTimeout | ProxyError::ConnectionTimeout => TunnelErrorKind::Timeout,
        ProxyError::DestinationIpProhibited | ProxyError::HttpRequestDenied => TunnelErrorKind::Policy,
        ProxyError::ConnectionRefused
        | ProxyError::DestinationUnavailable
        | ProxyError::DestinationIpUnroutable => TunnelErrorKind::Refused,
        ProxyError::ConnectionLimitReached => TunnelErrorKind::Limit,
        ProxyError::HttpRequestError | ProxyError::ProxyInternalError => return None,
    })
}

fn kind_of_status(status: u16) -> TunnelErrorKind {
    match status {
        400 => TunnelErrorKind::BadTarget,
        401 | 407 => TunnelErrorKind::Authentication,
        403 => TunnelErrorKind::Policy,
        502 => TunnelErrorKind::Dns,
        429 | 503 => TunnelErrorKind::Limit,
        504 => TunnelErrorKind::Timeout,
        _ => TunnelErrorKind::Rejected,
    }
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusal = match &self.detail {
            Detail::Text(text) => return f.write_str(text),
            Detail::Refusal(refusal) => refusal,
        };
        write!(f, "the relay answered {}", refusal.status)?;
        let Some(status) = &refusal.proxy_status else {
            return Ok(());
        };
        if let Some(error) = status.error {
            write!(f, " ({})", error.token())?;
        }
        match &status.details {
            Some(details) => write!(f, ": {details}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TunnelError {}

impl From<StreamError> for TunnelError {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Lane(_) => TunnelErrorKind::Transport,
            StreamError::Fault(_) => TunnelErrorKind::Protocol,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SessionEnd> for TunnelError {
    fn from(end: SessionEnd) -> Self {
        let kind = match &end {
            SessionEnd::Lane(_) => TunnelErrorKind::Transport,
            SessionEnd::Fault(_) => TunnelErrorKind::Protocol,
        };
        Self::new(kind, end.to_string())
    }
}
