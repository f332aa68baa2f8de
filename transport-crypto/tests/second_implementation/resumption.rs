//! Tickets, resumption and early data.

use transport_crypto::{ClientTicket, HandshakeFailure, IssuedTicket, SeededEntropy, Session, TicketGrant};

use crate::{
    first::{CLIENT, Case, NOW_S, TICKET_KEY, WORLD, assert_same},
    witness::{
        Draws, at,
        kdf::Secrets,
        noise, packet,
        peer::{Client, Identity, Resume, static_tag},
    },
};

pub(crate) const SERIAL: u64 = 9;
const LIFETIME_S: u32 = 3600;
const MAX_EARLY: u32 = 4096;

/// What the first relay seals.
pub(crate) fn grant() -> TicketGrant {
    TicketGrant {
        serial: SERIAL,
        issued_s: NOW_S as u32,
        lifetime_s: LIFETIME_S,
        max_early: MAX_EARLY,
        replay_domain: 5,
        policy: 6,
        rtt_us: 50_000,
        bdp: 1 << 20,
        params_digest: [0x99; 16],
    }
}

/// The same by hand.
pub(crate) fn content(
    secrets: &Secrets,
    enrolled: bool,
    client_id: [u8; 32],
    x25519: &[u8; 32],
) -> [u8; 136] {
    let content = [
        &[1, if enrolled { 3 } else { 1 }][..],
        &6u16.to_be_bytes(),
        &(NOW_S as u32).to_be_bytes(),
        &LIFETIME_S.to_be_bytes(),
        &5u32.to_be_bytes(),
        &secrets.rms(SERIAL),
        &client_id,
        &[0x99; 16],
        &MAX_EARLY.to_be_bytes(),
        &50_000u32.to_be_bytes(),
        &(1u64 << 20).to_be_bytes(),
        &SERIAL.to_be_bytes(),
        &static_tag(x25519),
    ]
    .concat();
    content.try_into().unwrap()
}

pub(crate) fn kept(client: &Session, ticket: [u8; 180]) -> ClientTicket {
    let issued = IssuedTicket {
        ticket,
        serial: SERIAL,
        lifetime_s: LIFETIME_S,
        max_early: MAX_EARLY,
        rtt_us: 50_000,
        now_s: NOW_S,
        params: b"relay params",
    };
    client.resumption.client_ticket(&issued).unwrap()
}

/// The exchange that resumes: other entropy, an address token, early data taken.
pub(crate) fn second_flight(case: &Case, early: bool) -> Case {
    let mut again = case.clone();
    again.client = [0xc1; 32];
    again.relay = [0xc2; 32];
    again.hello.hid = *b"resuming";
    again.answer.early = early;
    again.answer.token = Some([0xaa; 20]);
    again
}

fn cases() -> [Case; 4] {
    let mut seed = 20;
    [(false, false), (false, true), (true, false), (true, true)].map(|(enrolled, aes)| {
        seed += 1;
        Case::new(enrolled, aes, seed)
    })
}

/// The client's static key: its identity's, or drawn after the KEM secrets of the hello.
pub(crate) fn client_key(case: &Case) -> [u8; 32] {
    match &case.hello.identity {
        Some(identity) => identity.x25519,
        None => {
            let mut draws = Draws::new(case.client);
            let _: ([u8; 32], [u8; 64]) = (draws.take(), draws.take());
            draws.take()
        }
    }
}

#[test]
fn our_client_resumes_with_the_second_relay() {
    for case in cases() {
        // The ticket is sealed by the witness.
        let (mut initiator, ch) = case.first_client();
        let (relay, sh) = case.second_relay(&ch);
        let session = case.first_finish(&mut initiator, &sh).session;
        let x25519 = noise::public(client_key(&case));
        let enrolled = case.hello.identity.is_some();
        let read = WORLD.relay.read(&case.hello.hid, &ch, [1; 32]).unwrap();
        assert_eq!(read.x25519, x25519);
        let content = content(&relay.secrets, enrolled, read.client_id, &x25519);
        let ticket = packet::seal_ticket(&TICKET_KEY, &WORLD.relay.bundle.relay_id, [8; 24], &content);

        let again = second_flight(&case, true);
        let (mut initiator, early, ch) = again.first_resuming_client(&kept(&session, ticket));
        let read = WORLD.relay.read(&again.hello.hid, &ch, [1; 32]).unwrap();
        assert_eq!(read.ticket, Some(content));
        let mut frames = b"early data".to_vec();
        early.unwrap().seal(5, &mut frames).unwrap();
        let rms = at(&content, 16);
        assert_eq!(frames, packet::seal_early(&read.h1, &rms, 5, b"early data"));
        let (relay, sh) = again.second_relay(&ch);
        let mut client = again.first_finish(&mut initiator, &sh);
        assert!(client.resumed && client.early_accepted && client.retry_echoed);
        assert_same(&mut client.session, &relay, true);
    }
}

#[test]
fn the_second_client_resumes_with_our_relay() {
    for case in cases() {
        let (client, ch) = case.second_client();
        let (relay, sh) = case.first_relay(&ch);
        let client = client.finish(&sh).unwrap();
        let sealed = relay.resumption.relay_content(&grant()).unwrap();
        let ticket = WORLD
            .tickets
            .seal(&sealed, &mut SeededEntropy::new([8; 32]))
            .unwrap();
        let x25519 = client_key(&case);
        let enrolled = case.hello.identity.is_some();
        let (id, tag) = (*sealed.client_id.as_bytes(), noise::public(x25519));
        let opened = packet::open_ticket(&TICKET_KEY.1, &WORLD.relay.bundle.relay_id, &ticket);
        assert_eq!(opened, Some(content(&client.secrets, enrolled, id, &tag)));

        for early in [false, true] {
            let mut again = second_flight(&case, early);
            again.hello.resume = Some(Resume {
                ticket,
                rms: client.secrets.rms(SERIAL),
                client_id: id,
                x25519,
                early,
            });
            let (second, ch) = again.second_client();
            let offered = again.first_offered(&ch);
            assert_eq!(offered.client_id(), sealed.client_id);
            assert_eq!(offered.enrolled(), enrolled);
            assert_eq!(offered.wants_early(), early);
            if early {
                let mut packet = packet::seal_early(&second.h1, sealed.rms.expose(), 7, b"early data");
                let opened = offered.early_open().unwrap();
                assert_eq!(opened.open(7, &mut packet).unwrap(), b"early data");
            }
            let (mut relay, sh) = again.first_relay(&ch);
            let established = second.finish(&sh).unwrap();
            assert_eq!(established.head[0], 2);
            assert_same(&mut relay, &established, false);
        }
    }
}

#[test]
fn the_same_seeds_resume_with_the_same_bytes() {
    for case in cases() {
        let (mut initiator, ch) = case.first_client();
        let (relay, sh) = case.first_relay(&ch);
        let client = case.first_finish(&mut initiator, &sh).session;
        let sealed = relay.resumption.relay_content(&grant()).unwrap();
        let ticket = WORLD
            .tickets
            .seal(&sealed, &mut SeededEntropy::new([8; 32]))
            .unwrap();
        let mut again = second_flight(&case, true);
        let (_, _, first) = again.first_resuming_client(&kept(&client, ticket));
        again.hello.resume = Some(Resume {
            ticket,
            rms: *sealed.rms.expose(),
            client_id: *sealed.client_id.as_bytes(),
            x25519: client_key(&case),
            early: true,
        });
        let (_, second) = again.second_client();
        assert!(first == second, "CH");
        assert!(again.first_relay(&first).1 == again.second_relay(&first).1, "SH");
    }
}

/// A stolen ticket, even with its secret, is of no use without the static key.
#[test]
fn another_holder_of_the_ticket_is_refused_by_both() {
    let case = Case::new(true, false, 30);
    let (client, ch) = case.second_client();
    let (relay, sh) = case.first_relay(&ch);
    let client = client.finish(&sh).unwrap();
    let sealed = relay.resumption.relay_content(&grant()).unwrap();
    let ticket = WORLD
        .tickets
        .seal(&sealed, &mut SeededEntropy::new([8; 32]))
        .unwrap();
    let mut again = second_flight(&case, false);
    for (x25519, expected) in [
        (Identity::from_seeds(&CLIENT).x25519, None),
        ([7; 32], Some(HandshakeFailure::TicketRefused)),
    ] {
        again.hello.resume = Some(Resume {
            ticket,
            rms: client.secrets.rms(SERIAL),
            client_id: *sealed.client_id.as_bytes(),
            x25519,
            early: false,
        });
        let (_, ch) =
            Client::start(&WORLD.relay.bundle, &again.hello, &mut Draws::new(again.client)).unwrap();
        let first = WORLD
            .responder
            .read(again.hello.hid, &ch, Some(&WORLD.tickets), NOW_S);
        assert_eq!(first.err(), expected);
        let second = WORLD.relay.read(&again.hello.hid, &ch, [1; 32]);
        assert_eq!(second.is_err(), expected.is_some());
    }
    // Early keys are of one attempt: those of another first flight do not open its packets.
    let other = packet::seal_early(&[1; 32], sealed.rms.expose(), 0, b"");
    let this = packet::seal_early(&[2; 32], sealed.rms.expose(), 0, b"");
    assert_ne!(other, this);
}
