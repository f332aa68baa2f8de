//! A session against a peer that breaks the rules of control streams and datagrams.

use std::future::Future;
use std::time::Duration;

use super::frames::write_all;
use super::pipe::{PipeLane, PipeSend, lanes};
use super::session::{Role, Session, SessionEnd};
use crate::http::{Code, Settings};
use crate::local::{Handle, Loop};
use crate::masque::lane::{Lane, LaneSend};

const SETTINGS: [u8; 5] = [0x00, 0x04, 0x02, 0x33, 0x01];

/// Runs `test` against a session; it gets the peer's end of the lane.
fn with_session<F: Future<Output = ()>>(
    role: Role,
    test: impl FnOnce(Handle, Session<PipeLane>, PipeLane) -> F,
) {
    let mut looper = Loop::new(10).expect("loop");
    let local = looper.handle();
    let (near, far) = lanes();
    let session = Session::new(near, role);
    let running = session.clone();
    local
        .spawn(async move { drop(running.run().await) })
        .expect("room");
    let done = looper
        .run(local.timeout(Duration::from_secs(5), test(local.clone(), session, far)))
        .expect("loop");
    assert!(done.is_ok(), "the test hangs");
}

async fn uni(lane: &PipeLane, bytes: &[u8]) -> PipeSend {
    let mut send = lane.open_uni().await.expect("stream");
    write_all(&mut send, bytes).await.expect("write");
    send
}

/// The code a session ends with when the peer sends `streams`, each whole and then left open, or finished.
fn end_of(role: Role, streams: &[&[u8]], finish: bool) -> Code {
    let mut code = None;
    let result = &mut code;
    with_session(role, |local, session, lane| async move {
        let mut open = Vec::new();
        for bytes in streams {
            let mut send = uni(&lane, bytes).await;
            if finish {
                send.finish();
            }
            open.push(send);
        }
        loop {
            match session.end() {
                Some(SessionEnd::Fault(found)) => break *result = Some(found),
                Some(other) => panic!("{other}"),
                None => local.sleep(Duration::from_millis(1)).await,
            }
        }
        assert_eq!(
            lane.closed(),
            result.map(|c| c.0),
            "the connection closes with the code"
        );
    });
    code.expect("a fault")
}

#[test]
fn control_streams_that_break_the_rules() {
    let server = |streams: &[&[u8]]| end_of(Role::Server, streams, false);
    assert_eq!(server(&[&[0x00, 0x07, 0x01, 0x00]]), Code::MISSING_SETTINGS);
    assert_eq!(
        server(&[&[SETTINGS.as_slice(), &[0x04, 0x00]].concat()]),
        Code::FRAME_UNEXPECTED
    );
    assert_eq!(
        server(&[&[SETTINGS.as_slice(), &[0x00, 0x00]].concat()]),
        Code::FRAME_UNEXPECTED
    );
    assert_eq!(server(&[&[0x00, 0x04, 0x02, 0x33, 0x02]]), Code::SETTINGS_ERROR);
    assert_eq!(server(&[&SETTINGS, &SETTINGS]), Code::STREAM_CREATION_ERROR);
    assert_eq!(server(&[&[0x02], &[0x02]]), Code::STREAM_CREATION_ERROR);
    assert_eq!(
        server(&[&[0x01]]),
        Code::STREAM_CREATION_ERROR,
        "a client does not push"
    );
    assert_eq!(
        end_of(Role::Client, &[&[0x01]], false),
        Code::ID_ERROR,
        "push was not allowed"
    );
    assert_eq!(
        end_of(Role::Server, &[&SETTINGS], true),
        Code::CLOSED_CRITICAL_STREAM
    );
    assert_eq!(
        end_of(Role::Server, &[&[0x03]], true),
        Code::CLOSED_CRITICAL_STREAM
    );
    let rising = [SETTINGS.as_slice(), &[0x07, 0x01, 0x04, 0x07, 0x01, 0x08]].concat();
    assert_eq!(end_of(Role::Client, &[&rising], false), Code::ID_ERROR);
    let not_a_request = [SETTINGS.as_slice(), &[0x07, 0x01, 0x05]].concat();
    assert_eq!(end_of(Role::Client, &[&not_a_request], false), Code::ID_ERROR);
}

#[test]
fn settings_arrive_in_pieces_among_grease() {
    with_session(Role::Client, |_, session, lane| async move {
        // Streams of unknown types, empty streams and unknown frames do not matter.
        let _grease = uni(&lane, &[0x21, 1, 2, 3]).await;
        uni(&lane, &[]).await.finish();
        let mut control = lane.open_uni().await.expect("stream");
        let wire = [
            0x40, 0x00, 0x04, 0x06, 0x33, 0x01, 0x08, 0x01, 0x21, 0x05, 0x21, 0x02, 9, 9, 0x07, 0x01, 0x08,
        ];
        for byte in wire {
            write_all(&mut control, &[byte]).await.expect("write");
            crate::local::yield_now().await;
        }
        let settings = session.peer_settings().await.expect("settings");
        assert_eq!(
            settings,
            Settings {
                extended_connect: true,
                datagrams: true,
                max_field_section: None
            }
        );
        while !session.is_going_away() {
            crate::local::yield_now().await;
        }
        assert_eq!(session.end(), None);
    });
}

#[test]
fn datagrams_that_cannot_be_routed() {
    for bytes in [&[][..], &[0x40], &[0xd0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        with_session(Role::Server, |local, session, lane| async move {
            lane.send_datagram(bytes.to_vec()).expect("sent");
            while session.end().is_none() {
                local.sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(
                session.end(),
                Some(SessionEnd::Fault(Code::DATAGRAM_ERROR)),
                "X1, X2: {bytes:?}"
            );
        });
    }
    with_session(Role::Server, |local, session, lane| async move {
        lane.send_datagram(vec![0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0])
            .expect("sent");
        while session.drops().no_request == 0 {
            local.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(session.end(), None, "a legal id nobody uses");
    });
}
