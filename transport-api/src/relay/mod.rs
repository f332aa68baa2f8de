//! The relay: accepts connections and serves CONNECT, CONNECT-UDP and CONNECT-IP requests on a thread of its own.
//!
//! Order of work for a request: limits → head → hook → names → policy on every address → connect → answer → pump.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod accounting;
pub mod auth;
mod bind;
mod buffers;
mod egress;
mod event;
mod grant;
mod hook;
mod ip;
mod ledger;
pub mod policy;
mod pump;
mod quota;
mod rate;
mod request;
mod resolve;
mod service;
mod tenants;
#[cfg(test)]
mod tests;
mod udp;

pub use accounting::Snapshot;
pub use bind::{BindConfig, Neighbours};
pub use event::{Accountant, AccountingEvent, Carried, DropCause, EventKind, TunnelDrops, TunnelEnd};
pub use grant::{Egress, Grant, InvalidTenant, TenantId, TunnelLimits};
pub use hook::{AcceptAll, Asked, Decision, OnRequest, Protocol, RequestMeta};
pub use ip::{IpService, Lease, MAX_LEASES, PoolError};
pub use policy::{Forbidden, TargetPolicy};
pub use quota::Quota;
pub use rate::SharedRate;
pub use resolve::{Names, SystemNames};
pub use service::{RelayConfig, RelayService};
pub use tenants::{MAX_TENANTS, Quotas, TenantQuota, TenantUsage, TooManyTenants};

pub use crate::ip::Network;
pub use crate::tunnel::APP;
