//! What a request is granted: which targets, how much, from which address, and on whose account.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::policy::TargetPolicy;
use super::rate::SharedRate;

/// Whose a tunnel is: 1 to 32 characters of ASCII, printable and without spaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId([u8; Self::LENGTH]);

impl TenantId {
    /// The longest name, bytes.
    pub const LENGTH: usize = 32;

    /// The name as fixed bytes, zeros behind it.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        self.0
    }

    /// From fixed bytes; `None` unless they are what [`TenantId::to_bytes`] gives.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let (name, rest) = bytes.split_at(length);
        let well_formed =
            !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && rest.iter().all(|byte| *byte == 0);
        well_formed.then_some(Self(bytes))
    }
}

/// Not a name of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTenant;

impl fmt::Display for InvalidTenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tenant is 1 to 32 printable characters of ASCII, without spaces")
    }
}

impl std::error::Error for InvalidTenant {}

impl FromStr for TenantId {
    type Err = InvalidTenant;

    fn from_str(name: &str) -> Result<Self, InvalidTenant> {
        let mut bytes = [0; Self::LENGTH];
        let place = bytes.get_mut(..name.len()).ok_or(InvalidTenant)?;
        place.copy_from_slice(name.as_bytes());
        Self::from_bytes(bytes).ok_or(InvalidTenant)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        f.write_str(str::from_utf8(name).unwrap_or_default())
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({self})")
    }
}

/// Limits of one tunnel, below those of its session and its tenant. `None`: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelLimits {
    /// Bits per second, both directions together. Streams wait, packets beyond it are dropped.
    pub bits_per_s: Option<u64>,
    /// Packets per second, both directions together; further ones are dropped. Streams have none.
    pub packets_per_s: Option<u64>,
    /// Bytes altogether, both directions; then the tunnel ends.
    pub bytes: Option<u64>,
    /// Compression contexts of a bound tunnel at a time.
    pub contexts: Option<usize>,
    /// A UDP tunnel ends when it carried nothing for this time, instead of the relay's own.
    pub idle: Option<Duration>,
    /// The tunnel ends after this time.
    pub lifetime: Option<Duration>,
}

impl TunnelLimits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }
}

/// How the relay's sockets of a tunnel leave this machine; what is `None` the system chooses. An IP tunnel leaves by its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Egress {
    /// Source address towards IPv4 targets.
    pub source_v4: Option<Ipv4Addr>,
    /// Source address towards IPv6 targets.
    pub source_v6: Option<Ipv6Addr>,
    /// Name of an interface, whatever the routing table prefers (Linux; before 5.7 it needs `CAP_NET_RAW`). A VRF is one, too.
    pub interface: Option<String>,
    /// Mark for the system's routing rules (Linux; needs `CAP_NET_ADMIN` or `CAP_NET_RAW`).
    pub mark: Option<u32>,
}

impl Egress {
    /// Whatever the system chooses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the system chooses everything for targets of this family.
    pub(super) fn is_any(&self, v4: bool) -> bool {
        self.interface.is_none() && self.mark.is_none() && self.source(v4).is_none()
    }

    pub(super) fn source(&self, v4: bool) -> Option<IpAddr> {
        if v4 {
            self.source_v4.map(IpAddr::V4)
        } else {
            self.source_v6.map(IpAddr::V6)
        }
    }

    /// What a socket towards targets of this family is bound to.
    pub(super) fn bind_address(&self, v4: bool) -> SocketAddr {
        let any = if v4 {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        SocketAddr::new(self.source(v4).unwrap_or(any), 0)
    }
}

/// What a request is granted. The default is what the relay grants everybody.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Grant {
    /// Which targets, instead of what the relay's own policy allows.
    pub policy: Option<Arc<TargetPolicy>>,
    /// How much.
    pub limits: TunnelLimits,
    /// From where.
    pub egress: Egress,
    /// On whose account; its quota holds as well.
    pub tenant: Option<TenantId>,
    /// A rate that it shares with other tunnels.
    pub rate: Option<Arc<SharedRate>>,
}

impl Grant {
    /// What the relay grants everybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Targets are judged by `policy` and not by the relay's.
    #[must_use]
    pub fn with_policy(mut self, policy: impl Into<Arc<TargetPolicy>>) -> Self {
        self.policy = Some(policy.into());
        self
    }

    /// Limits of its own.
    #[must_use]
    pub fn with_limits(mut self, limits: TunnelLimits) -> Self {
        self.limits = limits;
        self
    }

    /// A way out of its own.
    #[must_use]
    pub fn with_egress(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// At a rate that it shares with whoever is granted the same.
    #[must_use]
    pub fn with_rate(mut self, rate: Arc<SharedRate>) -> Self {
        self.rate = Some(rate);
        self
    }

    /// On the account of `tenant`.
    #[must_use]
    pub fn with_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tenants() {
        let longest = "x".repeat(32);
        for name in ["a", "acme-7", &longest] {
            let tenant: TenantId = name.parse().expect(name);
            assert_eq!(tenant.to_string(), name);
            assert_eq!(TenantId::from_bytes(tenant.to_bytes()), Some(tenant));
        }
        let too_long = "x".repeat(33);
        for name in ["", "a b", "ü", "a\0b", "a\n", &too_long] {
            assert_eq!(name.parse::<TenantId>(), Err(InvalidTenant), "{name:?}");
        }
        let mut bytes = [0; 32];
        bytes[1] = b'x';
        assert_eq!(TenantId::from_bytes(bytes), None);
    }
}
