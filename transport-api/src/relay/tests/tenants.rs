//! Quotas, limits of tunnels and accounting, through the wire.

use std::sync::Mutex;

use super::super::{
    AccountingEvent, Carried, DropCause, EventKind, TenantId, TenantQuota, TunnelEnd, TunnelLimits,
};
use super::*;
use crate::tunnel::BindOptions;

fn tenant() -> TenantId {
    "acme".parse().expect("tenant")
}

fn granting(limits: TunnelLimits) -> RelayConfig {
    let mut config = config();
    config.hook = Arc::new(move |_: &RequestMeta<'_>| {
        Decision::Accept(Grant::new().with_tenant(tenant()).with_limits(limits))
    });
    config
}

fn quota(change: impl FnOnce(&mut TenantQuota)) -> TenantQuota {
    let mut quota = TenantQuota::new();
    change(&mut quota);
    quota
}

impl World {
    fn set(&self, change: impl FnOnce(&mut TenantQuota)) {
        self.shared.tenants().set(tenant(), quota(change)).expect("room");
    }

    /// What a refusal beyond a quota says.
    async fn beyond_quota(&self, client: &Client<PipeLane>, details: &str) {
        let port = self.udp_echo();
        let refused = client
            .connect_udp("127.0.0.1", port)
            .await
            .expect_err("beyond the quota");
        assert_eq!(refused.kind(), TunnelErrorKind::Limit);
        let refusal = refused.refusal().expect("an answer");
        assert_eq!(refusal.status, 429);
        let status = refusal.proxy_status.clone().expect("why");
        assert_eq!(status.error, Some(ProxyError::ConnectionLimitReached));
        assert_eq!(status.details.as_deref(), Some(details));
    }
}

#[test]
fn sessions_and_tunnels_of_a_tenant_are_limited_and_the_limits_change_at_once() {
    with_relay(granting(TunnelLimits::new()), |world| async move {
        world.set(|quota| (quota.sessions, quota.tunnels) = (Some(1), Some(2)));
        let port = world.udp_echo();
        let one = world.client.connect_udp("127.0.0.1", port).await.expect("first");
        let _two = world.client.connect_udp("127.0.0.1", port).await.expect("second");
        world
            .beyond_quota(&world.client, "too many tunnels of the tenant")
            .await;
        let other = world.join(5);
        world
            .beyond_quota(&other, "too many sessions of the tenant")
            .await;
        world.set(|quota| (quota.sessions, quota.tunnels) = (Some(2), Some(3)));
        let three = other
            .connect_udp("127.0.0.1", port)
            .await
            .expect("a second session");
        world.beyond_quota(&other, "too many tunnels of the tenant").await;
        drop((one, three));
        world.until(|s| s.tunnels_open == 1).await;
        let usage = world.shared.tenants().usage(tenant());
        assert_eq!(
            (usage.sessions, usage.tunnels),
            (2, 1),
            "a session counts to its end"
        );
        other.lane().close(0, "");
        world.until(|s| s.sessions_open == 1).await;
        assert_eq!(world.shared.tenants().usage(tenant()).sessions, 1);
        assert_eq!(world.snapshot().rejected_limit, 3);
    });
}

#[test]
fn a_refusal_says_when_to_ask_again() {
    with_relay(granting(TunnelLimits::new()), |world| async move {
        world.set(|quota| (quota.bytes, quota.period) = (Some(0), Duration::from_secs(1000)));
        let head = RequestHead::connect("127.0.0.1:9");
        let (_, _, response) = raw(&world, &head).await;
        let after = response
            .fields
            .iter()
            .find(|f| f.name == "retry-after")
            .expect("when");
        let seconds: u64 = after.value.parse().expect("a number");
        assert!(
            response.status == 429 && (990..=1000).contains(&seconds),
            "{response:?}"
        );
    });
}

#[test]
fn packets_and_bits_of_a_tenant_are_limited_and_the_rates_change_at_once() {
    with_relay(granting(TunnelLimits::new()), |world| async move {
        let port = world.udp_echo();
        let one = world.client.connect_udp("127.0.0.1", port).await.expect("tunnel");
        let two = world
            .join(5)
            .connect_udp("127.0.0.1", port)
            .await
            .expect("tunnel");
        // Both tunnels were there before the quota was.
        world.set(|quota| quota.packets_per_s = Some(1));
        for n in 0..200 {
            let tunnel = if n % 2 == 0 { &one } else { &two };
            tunnel.send(b"x").expect("sent");
        }
        // A burst of 64, both tunnels and both ways together.
        world.until(|s| s.udp_packets_up + s.dropped_rate >= 200).await;
        let snapshot = world.snapshot();
        assert!((30..=66).contains(&snapshot.udp_packets_up), "{snapshot:?}");
        world.set(|quota| quota.bits_per_s = Some(8000));
        for _ in 0..200 {
            one.send(&[0; 1000]).expect("sent");
        }
        world
            .until(|s| {
                s.udp_packets_up + s.dropped_rate >= snapshot.udp_packets_up + snapshot.dropped_rate + 200
            })
            .await;
        let passed = world.snapshot().udp_packets_up - snapshot.udp_packets_up;
        assert!(
            (60..=132).contains(&passed),
            "a burst of 128 KiB both ways: {passed}"
        );
        world.set(|_| {});
        let before = world.snapshot().udp_packets_up;
        for _ in 0..200 {
            one.send(&[0; 1000]).expect("sent");
        }
        world.until(|s| s.udp_packets_up == before + 200).await;
    });
}

#[test]
fn contexts_of_a_tenant_are_limited_and_the_limit_changes_at_once() {
    let mut config = granting(TunnelLimits::new());
    config.bind.addresses = vec![Ipv4Addr::LOCALHOST.into()];
    with_relay(config, |world| async move {
        world.set(|quota| quota.contexts = Some(2));
        let options = BindOptions::default();
        let one = world.client.bind_udp(&options).await.expect("first");
        let _two = world.join(5).bind_udp(&options).await.expect("second");
        world.until(|s| s.bind_contexts_open == 2).await;
        one.compress(SocketAddr::from(([127, 0, 0, 1], 9)))
            .expect("asked");
        world.until(|s| s.bind_contexts_refused == 1).await;
        assert_eq!(world.shared.tenants().usage(tenant()).contexts, 2);
        world.set(|quota| quota.contexts = Some(3));
        one.compress(SocketAddr::from(([127, 0, 0, 1], 10)))
            .expect("asked");
        world.until(|s| s.bind_contexts_open == 3).await;
        drop(one);
        world.until(|s| s.bind_contexts_open == 1).await;
        assert_eq!(world.shared.tenants().usage(tenant()).contexts, 1);
    });
}

#[test]
fn the_bytes_of_a_tenant_end_its_tunnels() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let mut config = granting(TunnelLimits::new());
    let told = Arc::clone(&ends);
    config.accountant = Some(Arc::new(move |event: &AccountingEvent<'_>| {
        if let EventKind::Closed(end) = event.kind {
            told.lock().expect("lock").push(end);
        }
    }));
    with_relay(config, |world| async move {
        let mut tcp = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tcp");
        let udp = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("udp");
        world.set(|quota| quota.bytes = Some(10_000));
        // What is beyond the quota may be taken, or not.
        let _ = tcp.write_all(&vec![0; 20_000]).await;
        let mut buffer = vec![0; 30_000];
        while tcp.read(&mut buffer).await.is_ok_and(|n| n.is_some()) {}
        udp.send(b"too late").expect("sent");
        udp.recv().await.expect_err("closed");
        world
            .until(|s| s.closed_by_limit == 2 && s.tunnels_open == 0)
            .await;
        assert_eq!(*ends.lock().expect("lock"), [TunnelEnd::Quota; 2]);
        world
            .beyond_quota(&world.client, "the tenant's bytes are spent")
            .await;
        world.set(|quota| quota.bytes = Some(1 << 40));
        let udp = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("again");
        udp.send(b"again").expect("sent");
        assert_eq!(&*udp.recv().await.expect("echo"), b"again");
    });
}

#[test]
fn a_tunnel_has_limits_of_its_own() {
    let mut limits = TunnelLimits::new();
    limits.bytes = Some(5000);
    with_relay(granting(limits), |world| async move {
        let udp = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("tunnel");
        for _ in 0..5 {
            udp.send(&[0; 1000]).expect("sent");
        }
        while udp.recv().await.is_ok() {}
        world.until(|s| s.closed_by_limit == 1).await;
    });
    limits = TunnelLimits::new();
    limits.lifetime = Some(Duration::from_millis(200));
    with_relay(granting(limits), |world| async move {
        let start = crate::now().instant;
        let mut tcp = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tunnel");
        let udp = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("tunnel");
        tcp.read(&mut [0; 1])
            .await
            .expect_err("reset: what is missing is not the end");
        udp.recv().await.expect_err("closed");
        assert!(crate::now().instant - start >= Duration::from_millis(200));
        assert_eq!(world.snapshot().closed_by_limit, 2);
    });
    limits = TunnelLimits::new();
    (limits.packets_per_s, limits.idle) = (Some(1), Some(Duration::from_millis(200)));
    with_relay(granting(limits), |world| async move {
        let udp = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("tunnel");
        for _ in 0..100 {
            udp.send(b"x").expect("sent");
        }
        world.until(|s| s.udp_packets_up + s.dropped_rate >= 100).await;
        assert!(world.snapshot().udp_packets_up <= 65);
        world.until(|s| s.closed_idle == 1).await;
    });
    limits = TunnelLimits::new();
    limits.bits_per_s = Some(40_000_000);
    is_limited_to_40_mbit(granting(limits));
}

/// What an accountant keeps of an event.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    kind: EventKind,
    tunnel: u64,
    carried: Carried,
    too_large: u64,
    target: Option<String>,
}

#[test]
fn the_accountant_hears_of_every_tunnel_and_its_figures_are_the_relays() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let mut config = granting(TunnelLimits::new());
    config.account_every = Some(Duration::from_millis(30));
    config.accountant = Some(Arc::new(move |event: &AccountingEvent<'_>| {
        assert_eq!((event.tenant, *event.peer), (Some(tenant()), Peer::Anonymous));
        told.lock().expect("lock").push(Kept {
            kind: event.kind,
            tunnel: event.tunnel,
            carried: event.carried,
            too_large: event.drops.get(DropCause::TooLarge),
            target: event.target.map(ToString::to_string),
        });
    }));
    with_relay(config, |world| async move {
        let udp = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("udp");
        udp.send(b"1234567").expect("sent");
        udp.recv().await.expect("echo");
        let mut tcp = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tcp");
        tcp.write_all(&[0; 5000]).await.expect("write");
        tcp.finish();
        while tcp.read(&mut [0; 5000]).await.expect("echo").is_some() {}
        world.until(|s| s.closed_finished == 1).await;
        world.local.sleep(Duration::from_millis(100)).await;
        drop(udp);
        world.until(|s| s.closed_finished == 2).await;
        let events = events.lock().expect("lock").clone();
        let of = |kind| events.iter().filter(move |event| event.kind == kind);
        assert_eq!(of(EventKind::Opened).count(), 2);
        assert!(of(EventKind::Interim).count() >= 2, "{events:?}");
        let closed: Vec<_> = of(EventKind::Closed(TunnelEnd::Finished)).collect();
        assert_eq!(closed.len(), 2);
        assert_ne!(closed[0].tunnel, closed[1].tunnel);
        assert!(
            events.iter().all(|event| event.target.is_none()),
            "unless it is asked for"
        );
        let sum = |pick: fn(&Carried) -> u64| closed.iter().map(|event| pick(&event.carried)).sum::<u64>();
        let snapshot = world.snapshot();
        assert_eq!(sum(|c| c.bytes_up), snapshot.tcp_bytes_up + snapshot.udp_bytes_up);
        assert_eq!(sum(|c| c.bytes_down), 5007);
        assert_eq!((sum(|c| c.packets_up), sum(|c| c.packets_down)), (1, 1));
        assert_eq!(world.shared.tenants().usage(tenant()).bytes, 2 * 5007);
    });
}

#[test]
fn a_tunnel_that_the_relay_cuts_off_is_closed_by_it() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let mut config = config();
    config.account_targets = true;
    config.accountant = Some(Arc::new(move |event: &AccountingEvent<'_>| {
        let target = event.target.map(ToString::to_string);
        told.lock().expect("lock").push((event.kind, target));
    }));
    with_relay(config, |world| async move {
        let port = world.udp_echo();
        let _udp = world.client.connect_udp("127.0.0.1", port).await.expect("udp");
        world.relay.drain(Duration::from_millis(30)).await;
        world
            .until(|s| s.closed_by_relay == 1 && s.tunnels_open == 0)
            .await;
        let target = Some(format!("127.0.0.1:{port}"));
        let wanted = [EventKind::Opened, EventKind::Closed(TunnelEnd::Relay)];
        assert_eq!(
            *events.lock().expect("lock"),
            wanted.map(|kind| (kind, target.clone()))
        );
    });
}

#[test]
fn little_is_kept_before_an_answer() {
    with_relay(config(), |world| async move {
        let port = world.udp_echo();
        let path = format!("/.well-known/masque/udp/127.0.0.1/{port}/");
        let head = RequestHead::extended("connect-udp", "relay", &path);
        let (mut send, recv) = world.client.lane().open_bi().await.expect("stream");
        let mut out = Vec::new();
        head.put(&mut out);
        // Datagrams come before the whole head does: they wait for the answer, eight of them.
        write_all(&mut send, &out[..10]).await.expect("write");
        world.local.sleep(Duration::from_millis(20)).await;
        for n in 0..12 {
            world.client.lane().send_datagram(vec![0, 0, n]).expect("sent");
        }
        world.local.sleep(Duration::from_millis(20)).await;
        write_all(&mut send, &out[10..]).await.expect("write");
        let mut frames = FrameReader::new(recv);
        frames.read_head().await.expect("head").expect("an answer");
        world
            .until(|s| s.udp_packets_up == 8 && s.dropped_early == 4)
            .await;
        world.client.lane().send_datagram(vec![0, 0, 99]).expect("sent");
        world.until(|s| s.udp_packets_up == 9).await;
        // Refused: what waited is counted as well.
        let head = RequestHead::extended("connect-udp", "relay", "/.well-known/masque/udp/10.0.0.1/1/");
        let (mut send, _recv) = world.client.lane().open_bi().await.expect("stream");
        let mut out = Vec::new();
        head.put(&mut out);
        write_all(&mut send, &out[..10]).await.expect("write");
        world.local.sleep(Duration::from_millis(20)).await;
        world.client.lane().send_datagram(vec![1, 0, 1]).expect("sent");
        world.local.sleep(Duration::from_millis(20)).await;
        write_all(&mut send, &out[10..]).await.expect("write");
        world
            .until(|s| s.rejected_policy == 1 && s.dropped_early == 5)
            .await;
    });
}
