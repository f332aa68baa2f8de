//! What a relay tells Prometheus.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use transport_api::{Endpoint, relay::RelayService};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

/// The present figures as OpenMetrics text.
pub(super) fn render(endpoints: &[Endpoint], services: &[RelayService]) -> String {
    let mut registry = Registry::with_prefix("adit");
    let snapshots: Vec<_> = services.iter().map(RelayService::snapshot).collect();
    let names = snapshots
        .first()
        .into_iter()
        .flat_map(|first| first.entries().map(|(name, _)| name));
    for name in names {
        let of =
            |snapshot: &transport_api::relay::Snapshot| snapshot.entries().find(|(other, _)| *other == name);
        let sum: u64 = snapshots.iter().filter_map(of).map(|(_, value)| value).sum();
        let help = name.replace('_', " ");
        if name.ends_with("_open") {
            registry.register(
                name,
                help,
                ConstGauge::<i64>::new(i64::try_from(sum).unwrap_or(i64::MAX)),
            );
        } else {
            registry.register(name, help, ConstCounter::<u64>::new(sum));
        }
    }
    let drops = Family::<Reason, prometheus_client::metrics::counter::Counter>::default();
    let (mut received, mut handshakes, mut forwarded) = (0, 0, 0);
    for stats in endpoints.iter().map(Endpoint::stats) {
        received += stats.received_bytes;
        handshakes += stats.handshakes_completed;
        forwarded += stats.forwarded;
        for (reason, count) in stats.drops.iter() {
            drops
                .get_or_create(&Reason {
                    reason: reason.name().into(),
                })
                .inc_by(count);
        }
    }
    registry.register("drops", "Datagrams dropped, by reason", drops);
    registry.register_with_unit(
        "received",
        "UDP payload received",
        Unit::Bytes,
        ConstCounter::<u64>::new(received),
    );
    registry.register(
        "forwarded",
        "Datagrams handed to the worker that has their connection",
        ConstCounter::<u64>::new(forwarded),
    );
    registry.register(
        "handshakes",
        "Handshakes completed",
        ConstCounter::<u64>::new(handshakes),
    );
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut text, &registry);
    text
}
