//! Whom a bound client may send to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::egress::is_own;
use super::super::policy::{Allowed, TargetPolicy};

/// Verdicts remembered.
const MAX_KNOWN: usize = 256;
/// This machine may get other addresses, and the relay another policy.
const LIFETIME: Duration = Duration::from_secs(10);

/// Judges every packet and every registration; a verdict costs a system call, so it is remembered for a while.
#[derive(Debug)]
pub(super) struct Judge {
    /// What the world calls this machine, which need not be what this machine calls itself.
    home: Vec<IpAddr>,
    known: BTreeMap<IpAddr, (bool, Instant)>,
    /// The one asked for last: packets come in runs.
    last: Option<(IpAddr, bool, Instant)>,
}

impl Judge {
    pub(super) fn new(public: &[SocketAddr]) -> Self {
        Self {
            home: public.iter().map(SocketAddr::ip).collect(),
            known: BTreeMap::new(),
            last: None,
        }
    }

    /// Whether packets may go to `peer`, by the policy in force when it was last asked for. An IPv4 address is written as one: in IPv6
    /// clothes it is refused.
    pub(super) fn allows(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        policy: impl FnOnce() -> Arc<TargetPolicy>,
    ) -> bool {
        let ip = peer.ip();
        if peer.port() == 0 || ip.to_canonical() != ip {
            return false;
        }
        if let Some((last, verdict, until)) = self.last
            && last == ip
            && now < until
        {
            return verdict;
        }
        let (verdict, until) = match self.known.get(&ip) {
            Some(&known) if now < known.1 => known,
            _ => self.decide(now, ip, &policy()),
        };
        self.last = Some((ip, verdict, until));
        verdict
    }

    fn decide(&mut self, now: Instant, ip: IpAddr, policy: &TargetPolicy) -> (bool, Instant) {
        let verdict = match policy.verdict(ip) {
            Ok(Allowed::ByList) => true,
            Ok(Allowed::Public) => !self.home.contains(&ip) && !is_own(ip),
            Err(_) => false,
        };
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let entry = (verdict, now + LIFETIME);
        self.known.insert(ip, entry);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_kept_for_a_while_and_few_of_them() {
        let home: SocketAddr = "198.18.0.9:7".parse().expect("address");
        let allow = vec!["198.18.0.0/24".parse().expect("network")];
        let policy = TargetPolicy {
            allow,
            ..TargetPolicy::default()
        };
        let policy = Arc::new(policy);
        let mut judge = Judge::new(&["8.8.8.8:7".parse().expect("address"), home]);
        let start = crate::local::now();
        let mut ask =
            |at: Instant, peer: &str| judge.allows(at, peer.parse().expect(peer), || Arc::clone(&policy));
        assert!(ask(start, "1.1.1.1:53"));
        assert!(!ask(start, "1.1.1.1:0"));
        assert!(!ask(start, "[::ffff:1.1.1.1]:53"), "mapped");
        assert!(!ask(start, "127.0.0.1:53"));
        assert!(!ask(start, "8.8.8.8:53"), "what the world calls this machine");
        assert!(ask(start, "198.18.0.9:53"), "unless it is allowed by name");
        for host in 0..1000u32 {
            let [_, _, high, low] = host.to_be_bytes();
            ask(start, &format!("20.0.{high}.{low}:9"));
        }
        assert!(judge.known.len() <= MAX_KNOWN);
        let changed = Arc::new(TargetPolicy {
            deny: vec!["0.0.0.0/0".parse().expect("network")],
            ..TargetPolicy::default()
        });
        let peer = "20.0.3.231:9".parse().expect("address");
        assert!(judge.allows(start + LIFETIME / 2, peer, || Arc::clone(&changed)));
        assert!(!judge.allows(start + LIFETIME, peer, || Arc::clone(&changed)));
    }
}
