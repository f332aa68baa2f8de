//! What `adit status` is told.

use std::{
    collections::BTreeMap,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use transport_api::{Endpoint, Peer, SessionInfo, Usage, Wait, now, relay::RelayService};

use super::{Serving, rotation::Rotation};
use crate::{bench::suite_name, config::Config, keyring::unix_now, secrets::Protection, status::Page};

/// A driver answers within a millisecond; one that has ended does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Everything a document is made from.
pub(super) struct Board {
    endpoints: Vec<Endpoint>,
    services: Arc<Vec<RelayService>>,
    relay_id: String,
    started: Instant,
    started_unix: u64,
    protection: Protection,
    live: Mutex<Live>,
}

/// What a reload or a rotation changes.
#[derive(Clone, Default)]
struct Live {
    limits: Limits,
    keys: Keys,
    draining: bool,
}

#[derive(Clone, Default)]
struct Limits {
    sessions: usize,
    tunnels_per_session: usize,
    mbit_per_session: u64,
}

#[derive(Clone, Default)]
struct Keys {
    epoch: u64,
    not_before: u64,
    not_after: u64,
    due: Option<u64>,
    previous: Option<(u64, u64)>,
}

impl Board {
    pub(super) fn new(serving: &Serving, config: &Config, protection: Protection) -> Self {
        let board = Self {
            endpoints: serving.endpoints.clone(),
            services: Arc::clone(&serving.services),
            relay_id: serving.rotation.ring().relay_id().to_string(),
            started: now().instant,
            started_unix: unix_now(),
            protection,
            live: Mutex::default(),
        };
        board.limits(config);
        board.keys(&serving.rotation);
        board
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of the configuration are these now.
    pub(super) fn limits(&self, config: &Config) {
        let limits = &config.limits;
        self.live().limits = Limits {
            sessions: limits.sessions,
            tunnels_per_session: limits.tunnels_per_session,
            mbit_per_session: limits.mbit_per_session,
        };
    }

    /// The keys are these now.
    pub(super) fn keys(&self, rotation: &Rotation) {
        let (ring, due) = (rotation.ring(), rotation.due());
        let previous = ring.previous.as_ref();
        self.live().keys = Keys {
            epoch: ring.bundle.epoch(),
            not_before: ring.bundle.not_before(),
            not_after: ring.bundle.not_after(),
            due,
            previous: previous.map(|previous| (previous.epoch, previous.not_after)),
        };
    }

    /// No new clients from now on.
    pub(super) fn drains(&self) {
        self.live().draining = true;
    }

    /// The present figures. It is asked for on a thread of its own, and waits for the drivers a moment at most.
    pub(super) fn document(&self, page: Page) -> Value {
        let live = self.live().clone();
        let stats: Vec<_> = self.endpoints.iter().map(Endpoint::stats).collect();
        let sum = |pick: fn(&transport_api::EndpointStats) -> u64| stats.iter().map(pick).sum::<u64>();
        let mut drops = BTreeMap::new();
        for (reason, count) in stats.iter().flat_map(|stats| stats.drops.iter()) {
            *drops.entry(reason.name()).or_insert(0) += count;
        }
        let mut tunnels = BTreeMap::new();
        for snapshot in self.services.iter().map(RelayService::snapshot) {
            for (name, count) in snapshot.entries() {
                *tunnels.entry(name).or_insert(0) += count;
            }
        }
        let listen: Vec<String> = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.local_addr().to_string())
            .collect();
        json!({
            "relay_id": self.relay_id,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": process::id(),
            "started": self.started_unix,
            "uptime_s": now().instant.saturating_duration_since(self.started).as_secs(),
            "draining": live.draining,
            "listen": listen,
            "workers": self.endpoints.iter().map(Endpoint::worker_count).sum::<usize>(),
            "bundle": live.keys.json(unix_now()),
            "cookie_mode": stats.iter().any(|stats| stats.cookie_mode),
            "connections": {
                "open": sum(|stats| stats.connections as u64),
                "half_open": sum(|stats| stats.half_open as u64),
                "handshakes_answered": sum(|stats| stats.handshakes_answered),
                "handshakes_completed": sum(|stats| stats.handshakes_completed),
                "retries_sent": sum(|stats| stats.retries_sent),
                "revoked": sum(|stats| stats.revoked),
            },
            "tickets": {
                "issued": sum(|stats| stats.tickets_issued),
                "resumed": sum(|stats| stats.resumed),
                "early_accepted": sum(|stats| stats.early_accepted),
                "early_rejected": sum(|stats| stats.early_rejected),
            },
            "received": {
                "datagrams": sum(|stats| stats.received_datagrams),
                "bytes": sum(|stats| stats.received_bytes),
                "forwarded": sum(|stats| stats.forwarded),
            },
            "tunnels": tunnels,
            "limits": self.limits_json(&live.limits, tunnels.get("sessions_open").copied()),
            "drops": drops,
            "secrets": self.protection.json(),
            "sessions": self.sessions(page, sum(|stats| stats.connections as u64)),
        })
    }

    /// Those of the configuration, then those of the transport.
    fn limits_json(&self, limits: &Limits, sessions: Option<u64>) -> Vec<Value> {
        let mut rows = limits.json(sessions);
        let mut sums: Vec<Usage> = Vec::new();
        let ask = |endpoint: &Endpoint| endpoint.usage().wait_timeout(PATIENCE).flatten();
        for usage in self.endpoints.iter().filter_map(ask).flatten() {
            match sums.iter_mut().find(|sum| sum.name == usage.name) {
                Some(sum) => {
                    sum.used += usage.used;
                    sum.limit += usage.limit;
                }
                None => sums.push(usage),
            }
        }
        rows.extend(
            sums.iter()
                .map(|sum| json!({ "name": sum.name, "limit": sum.limit, "used": sum.used })),
        );
        rows
    }

    /// One page of the sessions of all endpoints.
    fn sessions(&self, page: Page, total: u64) -> Value {
        let (mut skip, mut list) = (page.skip, Vec::new());
        for endpoint in &self.endpoints {
            let mut walk = endpoint.sessions();
            while list.len() < page.sessions
                && let Some(found) = walk.next_page().wait_timeout(PATIENCE).flatten()
            {
                let passed = skip.min(found.len());
                skip -= passed;
                let room = page.sessions - list.len();
                list.extend(found.iter().skip(passed).take(room).map(session));
            }
        }
        json!({ "total": total, "skip": page.skip, "list": list })
    }
}

fn session(session: &SessionInfo) -> Value {
    let stats = &session.stats;
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    json!({
        "id": session.id,
        "peer": match session.peer {
            Peer::Client(client) => client.to_string(),
            Peer::Relay(relay) => relay.to_string(),
            Peer::Anonymous => "anonymous".into(),
        },
        "remote": session.remote.to_string(),
        "age_s": session.age.as_secs_f64(),
        "suite": suite_name(session.suite),
        "resumed": session.resumed,
        "rtt_ms": ms(stats.srtt),
        "mtu": stats.mtu,
        "sent_bytes": stats.sent_bytes,
        "received_bytes": stats.received_bytes,
        "streams_open": stats.streams_open,
        "paths": [{
            "remote": session.remote.to_string(),
            "rtt_ms": ms(stats.srtt),
            "min_rtt_ms": ms(stats.min_rtt),
            "mtu": stats.mtu,
            "cwnd_bytes": stats.cwnd,
            "in_flight_bytes": stats.in_flight,
            "sent_packets": stats.sent_packets,
            "lost_packets": stats.declared_lost,
            "changes": stats.path_changes,
        }],
    })
}

impl Keys {
    fn json(&self, now: u64) -> Value {
        json!({
            "epoch": self.epoch,
            "not_before": self.not_before,
            "not_after": self.not_after,
            "expires_in_s": self.not_after.saturating_sub(now),
            "rotate_in_s": self.due.map(|due| due.saturating_sub(now)),
            "previous": self.previous.map(|(epoch, not_after)| json!({ "epoch": epoch, "not_after": not_after })),
        })
    }
}

impl Limits {
    /// Those of the configuration; what a single session uses is not summed up.
    fn json(&self, sessions: Option<u64>) -> Vec<Value> {
        let rate = Some(self.mbit_per_session).filter(|rate| *rate > 0);
        vec![
            json!({ "name": "sessions", "limit": self.sessions, "used": sessions }),
            json!({ "name": "tunnels_per_session", "limit": self.tunnels_per_session, "used": null }),
            json!({ "name": "mbit_per_session", "limit": rate, "used": null }),
        ]
    }
}
