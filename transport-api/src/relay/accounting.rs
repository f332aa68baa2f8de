//! What a relay counts, for its metrics. Nothing here knows a target or a payload.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        #[derive(Debug, Default)]
        pub(super) struct Accounting {
            $(pub(super) $name: Counter,)+
        }

        /// Figures of a relay at one moment; all but those that end in `_open` only rise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Accounting {
            pub(super) fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)+ }
            }
        }

        impl Snapshot {
            /// Names and values, for exporters.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Sessions there are now.
    sessions_open,
    /// Sessions accepted.
    sessions_accepted,
    /// Connections turned away because there were too many sessions.
    sessions_refused,
    /// Tunnels there are now.
    tunnels_open,
    /// IP tunnels among them.
    ip_open,
    /// Contexts of bound tunnels there are now.
    bind_contexts_open,
    /// TCP tunnels opened.
    tcp_opened,
    /// UDP tunnels opened.
    udp_opened,
    /// UDP tunnels with bind opened.
    bind_opened,
    /// IP tunnels opened.
    ip_opened,
    /// Tunnels that ended properly.
    closed_finished,
    /// Tunnels ended because the client gave up or its connection ended.
    closed_by_client,
    /// Tunnels ended because the target reset or refused.
    closed_by_target,
    /// UDP tunnels ended because nothing was sent for long.
    closed_idle,
    /// Tunnels ended because the client broke the protocol.
    closed_fault,
    /// Tunnels ended because their time or their bytes were spent.
    closed_by_limit,
    /// Tunnels that the relay's end cut off.
    closed_by_relay,
    /// Requests that were malformed or came incomplete.
    rejected_malformed,
    /// Requests for something that is not served (404, 405, 501).
    rejected_unsupported,
    /// Requests the hook refused.
    rejected_by_hook,
    /// Targets the policy forbids.
    rejected_policy,
    /// Names that did not resolve.
    rejected_dns,
    /// Targets that refused or could not be reached.
    rejected_unreachable,
    /// Targets and name servers that did not answer in time.
    rejected_timeout,
    /// Requests beyond a limit.
    rejected_limit,
    /// Bytes of TCP from clients to targets.
    tcp_bytes_up,
    /// Bytes of TCP from targets to clients.
    tcp_bytes_down,
    /// UDP packets from clients to targets.
    udp_packets_up,
    /// UDP packets from targets to clients.
    udp_packets_down,
    /// Bytes of UDP from clients to targets.
    udp_bytes_up,
    /// Bytes of UDP from targets to clients.
    udp_bytes_down,
    /// Contexts opened.
    bind_contexts_opened,
    /// Contexts refused: forbidden, or one too many.
    bind_contexts_refused,
    /// UDP packets dropped: their peer is forbidden.
    bind_dropped_policy,
    /// UDP packets dropped: their sender has no context, and the client keeps strangers out.
    bind_dropped_no_context,
    /// UDP packets dropped: nobody registered their context.
    bind_dropped_unknown,
    /// UDP packets dropped: not well-formed.
    bind_dropped_unreadable,
    /// IP packets from clients.
    ip_packets_up,
    /// IP packets to clients.
    ip_packets_down,
    /// Bytes of IP packets from clients.
    ip_bytes_up,
    /// Bytes of IP packets to clients.
    ip_bytes_down,
    /// IP packets dropped: not well-formed.
    ip_dropped_malformed,
    /// IP packets dropped: a source that is not the client's.
    ip_dropped_source,
    /// IP packets dropped: routes or policy do not let them pass.
    ip_dropped_policy,
    /// IP packets dropped: nobody has the address.
    ip_dropped_no_client,
    /// IP packets, or several of one flow together, dropped: the device took no more.
    ip_dropped_device,
    /// ICMP errors sent to clients.
    ip_errors_sent,
    /// Address requests that found no address.
    ip_pool_exhausted,
    /// Packets dropped: too large to send on.
    dropped_too_large,
    /// Packets dropped: the system would not send them there.
    dropped_refused,
    /// Packets dropped: the next hop's queue was full.
    dropped_queue_full,
    /// Packets dropped: beyond a rate of the session, the tunnel or the tenant.
    dropped_rate,
    /// Packets dropped: before the answer to their request, beyond what is kept for it.
    dropped_early,
    /// Received datagrams dropped: no such request.
    dropped_no_request,
}

/// A figure; relaxed, since each stands for itself.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn inc(&self) {
        self.add(1);
    }

    pub(super) fn dec(&self) {
        self.sub(1);
    }

    pub(super) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
