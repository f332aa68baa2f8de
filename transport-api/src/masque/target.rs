//! The target of a tunnel: a host and a port, as clients name it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name, bytes (RFC 1035 §3.1, without the root).
const MAX_NAME: usize = 253;

/// A host, which is an address or a name, and a port other than 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    host: Host,
    port: u16,
}

/// The host of a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name to resolve.
    Name(String),
}

/// The target of a CONNECT-UDP request with bind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BindTarget {
    /// None: whatever is not on a registered context is an error.
    Any,
    /// Bind, and plain CONNECT-UDP to this target on context 0; all there is when the proxy knows no bind.
    Host(Target),
}

/// The host or the port is not one (answered with 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTarget;

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a host and a port from 1 to 65535")
    }
}

impl std::error::Error for BadTarget {}

impl Target {
    /// From a host without brackets (`192.0.2.1`, `2001:db8::1`, `example.org`) and a port.
    pub fn new(host: &str, port: u16) -> Result<Self, BadTarget> {
        if port == 0 {
            return Err(BadTarget);
        }
        Ok(Self {
            host: parse_host(host)?,
            port,
        })
    }

    /// From the authority of classic CONNECT: `host:port`, IPv6 in brackets.
    pub fn from_authority(authority: &str) -> Result<Self, BadTarget> {
        let (host, port) = authority.rsplit_once(':').ok_or(BadTarget)?;
        let port = parse_port(port)?;
        match host.strip_prefix('[') {
            Some(bracketed) => {
                let ip: Ipv6Addr = bracketed
                    .strip_suffix(']')
                    .ok_or(BadTarget)?
                    .parse()
                    .map_err(|_| BadTarget)?;
                Ok(Self {
                    host: Host::Ip(ip.into()),
                    port,
                })
            }
            None if host.contains(':') => Err(BadTarget),
            None => Self::new(host, port),
        }
    }

    /// From percent-decoded template variables.
    pub(super) fn from_variables(host: &str, port: &str) -> Result<Self, BadTarget> {
        Self::new(host, parse_port(port)?)
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// As an authority.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

pub(super) fn parse_host(host: &str) -> Result<Host, BadTarget> {
    // Zone identifiers (RFC 9298 §3) do not parse as addresses, nor are they names.
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // The resolver would read a last label of digits (also 0x..) as a piece of an IPv4 address.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix('0')
            .and_then(|rest| rest.strip_prefix(['x', 'X']))
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if name.len() > MAX_NAME || numeric || !name.split('.').all(label_ok) {
        return Err(BadTarget);
    }
    Ok(Host::Name(host.to_ascii_lowercase()))
}

fn parse_port(text: &str) -> Result<u16, BadTarget> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(BadTarget),
    }
}

impl From<std::net::SocketAddr> for Target {
    /// The port may be 0 here; no relay will accept it.
    fn from(addr: std::net::SocketAddr) -> Self {
        Self {
            host: Host::Ip(addr.ip()),
            port: addr.port(),
        }
    }
}

impl From<Ipv4Addr> for Host {
    fn from(ip: Ipv4Addr) -> Self {
        Self::Ip(ip.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in [
            "example.org:443",
            "192.0.2.1:1",
            "[2001:db8::1]:65535",
            "a_b-c.:80",
        ] {
            assert_eq!(Target::from_authority(good).expect("good").to_string(), good);
        }
        let bad = [
            "example.org",
            "example.org:",
            ":443",
            "example.org:0",
            "example.org:65536",
            "example.org:+1",
            "2001:db8::1:443",
            "[2001:db8::1]",
            "[192.0.2.1]:1",
            "[fe80::1%eth0]:1",
            "user@host:1",
            "a..b:1",
            "*:1",
            "a b:1",
            "127.1:80",
            "2130706433:80",
            "0x7f000001:80",
            "0X7F000001:80",
            "1.2.3.4.5:6",
            "a.0x7f:1",
        ];
        for bad in bad {
            assert_eq!(Target::from_authority(bad), Err(BadTarget), "{bad}");
        }
        assert!(Target::new(&"a".repeat(64), 1).is_err());
        assert!(Target::new(&"a.".repeat(200), 1).is_err());
    }
}
