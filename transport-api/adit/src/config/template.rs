//! The relay.toml that `init relay` writes.

use crate::cli::Access;

/// Commented, with the defaults.
pub(crate) fn template(port: u16, access: Access) -> String {
    let mode = match access {
        Access::Open => "open",
        Access::Allowlist => "allowlist",
    };
    format!(
        r#"# Relay configuration. Each key may also be set as ADIT_SECTION_KEY (lists by commas).
[listen]
udp = ["[::]:{port}"]
# workers = 0                 # threads that share the load of an address; 0: one for each core
# busy_poll_us = 0            # look for packets so long before a thread sleeps: less latency for more processor time

[identity]                    # rotate = false: no new static keys at half of the bundle's validity
key = "identity.key"          # mode 0600; keep a copy, it is who this relay is
bundle = "relay.bundle"       # what clients need; hand it out

[access]                      # revoked = ["client_id"]: kept out in either mode
mode = "{mode}"                 # open | allowlist
clients = []
# tokens = ["TENANT:SHA256"]  # bearer tokens, users = the same of user:password, issuers = ["issuer.pub"] of access tokens

[targets]                     # everything public is allowed; nothing private, loopback, link-local, multicast or metadata is
allow = []
deny = []

[limits]
sessions = 100000
tunnels_per_session = 128
mbit_per_session = 0          # 0: no limit
# tenants = "tenants.toml"    # what each tenant may use

# [drain]
# successor = "other.bundle"  # on SIGTERM clients are told to go on there

[bind]                        # ports of this machine for clients, who are then reached from everywhere (CONNECT-UDP bind)
enabled = true
public = []                   # what the world calls this machine, behind 1:1 NAT; empty: its own addresses
max_contexts = 256            # peers of one port whose packets need no address

[transport]
cc = "bbr"                    # "bbr-lossy" for links that lose more than 2 % without a queue, or "cubic"

[tun]                         # IP tunnels (CONNECT-IP); needs CAP_NET_ADMIN
enabled = false
pool = ["10.77.0.0/16", "fd77::/48"]   # the relay takes the first address of each
name = "adit0"
routes = []                   # what else clients send here; ["0.0.0.0/0", "::/0"] is everything
between_clients = false       # true: clients reach each other
nat = false                   # true: clients leave by this machine's addresses (nftables)

[metrics]
listen = "127.0.0.1:9464"     # Prometheus text; "" turns it off

[status]                      # what `adit status` asks: a socket of mode 0600; "" turns it off
# socket = "/run/adit/status.sock"
"#
    )
}
