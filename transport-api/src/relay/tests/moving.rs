//! A relay that ends and names another one.

use super::*;
use crate::http::frame;
use crate::{Bundle, BundleDraft, RelayIdentity, RelayStatics};

fn bundle() -> Bundle {
    let draft = BundleDraft {
        epoch: 1,
        not_before: 0,
        not_after: 1000,
        endpoints: Vec::new(),
    };
    let (identity, statics) = (
        RelayIdentity::from_seeds([5; 64]),
        RelayStatics::from_seeds([6; 96]),
    );
    Bundle::parse(&identity.sign_bundle(&draft, &statics).expect("signed")).expect("a bundle")
}

#[test]
fn clients_hear_of_the_successor_and_tunnels_end_in_their_time() {
    with_relay(config(), |world| async move {
        let tunnel = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("tunnel");
        assert_eq!(world.client.moved(), None);
        world.shared.name_successor(&bundle());
        let relay = Rc::clone(&world.relay);
        world
            .local
            .spawn(async move { relay.drain(Duration::from_secs(5)).await })
            .expect("room");
        let successor = world.client.until_moved().await.expect("a successor");
        assert_eq!(successor.bundle(), &bundle());
        assert_eq!(
            successor.relay_id(),
            RelayIdentity::from_seeds([5; 64]).relay_id()
        );
        assert_eq!(world.client.moved(), Some(successor));
        while !world.client.is_draining() {
            world.local.sleep(Duration::from_millis(1)).await;
        }
        tunnel.send(b"still here").expect("sent");
        assert_eq!(&*tunnel.recv().await.expect("echo"), b"still here");
        drop(tunnel);
        while world.client.lane().closed().is_none() {
            world.local.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn without_a_successor_there_is_none() {
    with_relay(config(), |world| async move {
        world.relay.drain(Duration::ZERO).await;
        world.client.until_moved().await.expect_err("the end");
        assert_eq!(world.client.moved(), None);
    });
}

/// What a relay may say that is no successor; the session goes on.
#[test]
fn what_is_no_bundle_names_nobody() {
    let mut looper = Loop::new(100).expect("loop");
    let local = looper.handle();
    let (near, far) = lanes();
    let (client, work) = Client::new(near, template());
    local.spawn(async move { drop(work.await) }).expect("room");
    let at = local.clone();
    let test = async move {
        let mut control = far.open_uni().await.expect("stream");
        let mut out = vec![0];
        crate::http::Settings::EMPTY.put(&mut out);
        let good = bundle();
        let mut forged = good.bytes().to_vec();
        *forged.last_mut().expect("bytes") ^= 1;
        for payload in [&[][..], b"nonsense", &forged, &[0; 9000]] {
            frame::put(&mut out, frame::kind::SUCCESSOR, payload);
        }
        frame::put(&mut out, frame::kind::SUCCESSOR, good.bytes());
        // Four are looked at, this is the fifth; the one of 9,000 bytes was skipped.
        frame::put(&mut out, frame::kind::SUCCESSOR, good.bytes());
        frame::put(&mut out, frame::kind::GOAWAY, &[0]);
        write_all(&mut control, &out).await.expect("write");
        while !client.is_draining() {
            at.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(client.moved().map(|moved| moved.bundle().clone()), Some(good));
        assert_eq!(client.lane().closed(), None);
    };
    let done = looper
        .run(local.timeout(Duration::from_secs(5), test))
        .expect("loop");
    assert!(done.is_ok(), "the test hangs");
}
