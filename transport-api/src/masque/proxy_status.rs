//! The `Proxy-Status` field (RFC 9209): why a proxy refused, in words a program understands.

use std::fmt::Write as _;

use crate::http::Field;
use crate::http::fields::single;

const FIELD: &str = "proxy-status";
/// Longest `details` sent, characters.
const MAX_DETAILS: usize = 200;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $token:literal, $status:literal;)+) => {
        /// Error types of the registry (RFC 9209 §2.3) that a relay uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProxyError {
            $($(#[$doc])* $name,)+
        }

        impl ProxyError {
            /// The token on the wire.
            pub fn token(self) -> &'static str {
                match self { $(Self::$name => $token,)+ }
            }

            /// The status our relay answers with.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            fn from_token(token: &str) -> Option<Self> {
                match token { $($token => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

errors! {
    /// No answer from the resolver in time.
    DnsTimeout = "dns_timeout", 504;
    /// The name does not resolve.
    DnsError = "dns_error", 502;
    /// The target cannot be reached now.
    DestinationUnavailable = "destination_unavailable", 503;
    /// The policy forbids the target's address.
    DestinationIpProhibited = "destination_ip_prohibited", 403;
    /// There is no route to the target.
    DestinationIpUnroutable = "destination_ip_unroutable", 503;
    /// The target refused the connection.
    ConnectionRefused = "connection_refused", 503;
    /// The target did not answer in time.
    ConnectionTimeout = "connection_timeout", 504;
    /// A limit of the relay is reached.
    ConnectionLimitReached = "connection_limit_reached", 503;
    /// The request is not one the relay understands.
    HttpRequestError = "http_request_error", 400;
    /// The policy forbids the request.
    HttpRequestDenied = "http_request_denied", 403;
    /// The relay itself failed.
    ProxyInternalError = "proxy_internal_error", 500;
}

/// One member of a `Proxy-Status` list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyStatus {
    /// The error, if it is one of those known here.
    pub error: Option<ProxyError>,
    /// Text for a person.
    pub details: Option<String>,
}

impl ProxyStatus {
    /// An error without details.
    pub fn new(error: ProxyError) -> Self {
        Self {
            error: Some(error),
            details: None,
        }
    }

    /// With text for a person; characters a structured string cannot hold are left out.
    #[must_use]
    pub fn with_details(mut self, details: impl AsRef<str>) -> Self {
        let text = details
            .as_ref()
            .chars()
            .filter(|c| (' '..='~').contains(c))
            .take(MAX_DETAILS)
            .collect();
        self.details = Some(text);
        self
    }

    /// The field of a response by the proxy `name` (a token).
    pub fn field(&self, name: &str) -> Field {
        let mut value = name.to_owned();
        if let Some(error) = self.error {
            let _ = write!(value, "; error={}", error.token());
        }
        if let Some(details) = &self.details {
            let _ = write!(
                value,
                "; details=\"{}\"",
                details.replace('\\', "\\\\").replace('"', "\\\"")
            );
        }
        Field::new(FIELD, value)
    }

    /// The member of the proxy nearest to us in a response, if there is one.
    pub fn from_fields(fields: &[Field]) -> Option<Self> {
        let mut status = Self {
            error: None,
            details: None,
        };
        for (name, value) in parameters(single(fields, FIELD)?) {
            match name.as_str() {
                "error" => status.error = ProxyError::from_token(&value),
                "details" => status.details = Some(value),
                _ => {}
            }
        }
        Some(status)
    }
}

/// Parameters of the last list member. Lenient: what does not parse is left out.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut members = vec![vec![String::new()]];
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        let Some(parts) = members.last_mut() else { break };
        match c {
            '"' if !escaped => quoted = !quoted,
            '\\' if quoted && !escaped => {
                escaped = true;
                continue;
            }
            ',' if !quoted => {
                members.push(vec![String::new()]);
                continue;
            }
            ';' if !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.push(c);
                }
                escaped = false;
                continue;
            }
        }
        if escaped && let Some(part) = parts.last_mut() {
            part.push(c);
        }
        escaped = false;
    }
    let last = members.pop().unwrap_or_default();
    let pair = |part: &String| {
        part.split_once('=')
            .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
    };
    last.iter().skip(1).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let status =
            ProxyStatus::new(ProxyError::DnsError).with_details("no \"such\" name; a\\b, sorry\r\nü");
        let field = status.field("adit");
        assert_eq!(
            field.value,
            r#"adit; error=dns_error; details="no \"such\" name; a\\b, sorry""#
        );
        assert_eq!(ProxyStatus::from_fields(&[field]), Some(status));
    }

    #[test]
    fn foreign_members() {
        let parse = |value: &str| ProxyStatus::from_fields(&[Field::new(FIELD, value)]);
        let far_then_near =
            parse("far.example; error=dns_timeout, near; error=connection_refused;next-hop=\"a\"");
        assert_eq!(
            far_then_near.and_then(|s| s.error),
            Some(ProxyError::ConnectionRefused)
        );
        assert_eq!(parse("near; error=tls_alert").and_then(|s| s.error), None);
        assert_eq!(
            parse("near"),
            Some(ProxyStatus {
                error: None,
                details: None
            })
        );
        assert_eq!(ProxyStatus::from_fields(&[]), None);
        arbtest::arbtest(|u| {
            let _ = parse(u.arbitrary()?);
            Ok(())
        });
    }
}
