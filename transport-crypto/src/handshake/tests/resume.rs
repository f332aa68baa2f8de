//! Handshakes that begin with a ticket.

use super::{kem_secrets::Tampered, *};
use crate::{ClientTicket, IssuedTicket, Offered, TICKET_LEN, TOKEN_LEN, TicketGrant, TicketKeys};

const NOW_S: u64 = 1_800_000_000;
const LIFETIME_S: u32 = 3600;
const TOKEN: [u8; TOKEN_LEN] = [9; TOKEN_LEN];

fn ticket_keys() -> TicketKeys {
    TicketKeys::from_secret(WORLD.relay_id, 5, &Secret::new([5; 32]))
}

/// A ticket issued on `client`'s and `server`'s connection.
fn issue(client: &Session, server: &Session, max_early: u32, serial: u64) -> ClientTicket {
    let grant = TicketGrant {
        serial,
        issued_s: NOW_S as u32,
        lifetime_s: LIFETIME_S,
        max_early,
        ..TicketGrant::default()
    };
    let content = server.resumption.relay_content(&grant).unwrap();
    let ticket = ticket_keys().seal(&content, &mut rng(77)).unwrap();
    let issued = IssuedTicket {
        ticket,
        serial,
        lifetime_s: LIFETIME_S,
        max_early,
        rtt_us: 0,
        now_s: NOW_S,
        params: b"relay params",
    };
    assert!(server.resumption.client_ticket(&issued).is_none());
    assert!(client.resumption.relay_content(&grant).is_none());
    client.resumption.client_ticket(&issued).unwrap()
}

fn ticket_for(enrolled: bool, max_early: u32) -> ClientTicket {
    let (client, server) = complete(enrolled, SUITES[0], 1);
    issue(&client, &server, max_early, 3)
}

/// The client's first message.
fn resume(
    ticket: &ClientTicket,
    enrolled: bool,
    early: bool,
    seed: u8,
) -> (Initiator, Option<crate::EarlySeal>, Vec<u8>) {
    let mut ch = Vec::new();
    let (initiator, seal) = Initiator::resume(
        &WORLD.bundle,
        ticket,
        early,
        HID,
        hello(enrolled),
        &mut rng(seed),
        &mut ch,
    )
    .unwrap();
    (initiator, seal, ch)
}

fn read_with(keys: &TicketKeys, ch: &[u8], now_s: u64) -> Result<Offered, HandshakeFailure> {
    responder().read(HID, ch, Some(keys), now_s)
}

fn read(ch: &[u8]) -> Result<Offered, HandshakeFailure> {
    read_with(&ticket_keys(), ch, NOW_S)
}

fn respond(ch: &[u8], answer: ServerAnswer<'_>, seed: u8) -> (Session, Vec<u8>) {
    let mut sh = Vec::new();
    let secrets = read(ch).unwrap().accept(answer, &mut rng(seed), &mut sh).unwrap();
    (secrets.into_session(), sh)
}

#[test]
fn both_sides_agree_on_a_resumed_connection() {
    for (enrolled, suite) in [false, true].into_iter().flat_map(|e| SUITES.map(|s| (e, s))) {
        let ticket = ticket_for(enrolled, 0);
        assert_eq!(ticket.enrolled(), enrolled);
        let name = ticket.client_id;
        let (mut initiator, seal, ch) = resume(&ticket, enrolled, true, 10);
        assert!(seal.is_none(), "the ticket allows no early data");
        assert_eq!((ch[0], ch.len()), (1, 12 + TICKET_LEN + 96 + 1203 + 13));
        let offered = read(&ch).unwrap();
        assert_eq!((offered.enrolled(), offered.client_id()), (enrolled, name));
        assert_eq!(offered.resumed().unwrap().serial, 3);
        assert!(!offered.wants_early() && offered.early_open().is_none());
        let mut sh = Vec::new();
        let mut server = offered
            .accept(answer(suite), &mut rng(11), &mut sh)
            .unwrap()
            .into_session();
        assert_eq!(sh[0], 2);
        assert_eq!(sh.len(), 2 + CT + 48 + 9 + 18 + 12, "there is no ct_c");
        let established = initiator.finish(&sh, &[]).unwrap();
        assert!(established.resumed && !established.early_accepted && !established.retry_echoed);
        let mut client = established.session;
        assert_eq!((client.suite, server.suite), (suite, suite));
        assert_eq!(client.transcript, server.transcript);
        deliver(&mut client, &mut server, 0, Generation::Current).unwrap();
        deliver(&mut server, &mut client, 0, Generation::Current).unwrap();

        // The next ticket is as good, and is of the same client.
        let next = issue(&client, &server, 0, 4);
        assert_eq!((next.enrolled(), next.client_id), (enrolled, name));
        let (_, _, ch) = resume(&next, enrolled, false, 12);
        assert_eq!(read(&ch).unwrap().client_id(), name);
    }
}

#[test]
fn full_handshakes_are_not_resumed() {
    let (mut initiator, ch) = start(true, &mut rng(1));
    let offered = read(&ch).unwrap();
    assert!(offered.resumed().is_none() && !offered.wants_early() && offered.early_open().is_none());
    let mut sh = Vec::new();
    offered.accept(answer(SUITES[0]), &mut rng(2), &mut sh).unwrap();
    assert!(!initiator.finish(&sh, &[]).unwrap().resumed);
}

#[test]
fn every_byte_of_a_resuming_client_hello_matters() {
    for (enrolled, early, step) in [(false, true, 1), (true, false, 3)] {
        let (_, _, ch) = resume(&ticket_for(enrolled, 1000), enrolled, early, 10);
        assert_eq!(ch[0], if early { 2 } else { 1 });
        for at in (0..12 + TICKET_LEN).chain((12 + TICKET_LEN..ch.len()).step_by(step)) {
            let mut bad = ch.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(read(&bad).is_err(), "{at}");
        }
        for len in (0..ch.len()).step_by(97).chain(ch.len() - 40..ch.len()) {
            assert!(read(&ch[..len]).is_err(), "{len}");
        }
        assert!(read(&[&ch[..], &[0]].concat()).is_err());
        let mut other_mode = ch.clone();
        other_mode[0] ^= 3;
        assert_eq!(failure(read(&other_mode)), HandshakeFailure::Forged);
        assert!(read(&ch).is_ok());
    }
}

#[test]
fn every_byte_of_the_answer_to_a_resumption_matters() {
    let (mut initiator, _, ch) = resume(&ticket_for(true, 1000), true, true, 10);
    let says = ServerAnswer {
        early_accepted: true,
        retry_token: Some(TOKEN),
        ..answer(Suite::Aes256Gcm)
    };
    let (_, sh) = respond(&ch, says, 11);
    assert_eq!(sh[..2], [2, 2 | 4 | 8]);
    for at in 0..sh.len() {
        let mut bad = sh.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(initiator.finish(&bad, &[TOKEN]).is_err(), "{at}");
    }
    for flags in (0..=255).filter(|flags| *flags != sh[1]) {
        let mut bad = sh.clone();
        bad[1] = flags;
        assert!(initiator.finish(&bad, &[TOKEN]).is_err(), "flags {flags}");
    }
    for len in (0..sh.len()).step_by(97).chain(sh.len() - 40..sh.len()) {
        assert!(initiator.finish(&sh[..len], &[TOKEN]).is_err(), "{len}");
    }
    let established = initiator.finish(&sh, &[TOKEN]).unwrap();
    assert!(established.resumed && established.early_accepted && established.retry_echoed);
}

#[test]
fn a_ticket_is_for_its_time_relay_and_keys() {
    let (_, _, ch) = resume(&ticket_for(true, 0), true, false, 10);
    let end = NOW_S + u64::from(LIFETIME_S);
    let refused = HandshakeFailure::TicketRefused;
    assert!(read_with(&ticket_keys(), &ch, end - 1).is_ok());
    assert_eq!(failure(read_with(&ticket_keys(), &ch, end)), refused);
    assert!(read_with(&ticket_keys(), &ch, NOW_S - 60).is_ok());
    assert_eq!(failure(read_with(&ticket_keys(), &ch, NOW_S - 61)), refused);
    assert_eq!(failure(responder().read(HID, &ch, None, NOW_S)), refused);
    let other_relay = TicketKeys::from_secret(RelayId::from_bytes([7; 32]), 5, &Secret::new([5; 32]));
    assert_eq!(failure(read_with(&other_relay, &ch, NOW_S)), refused);
    let other_secret = TicketKeys::from_secret(WORLD.relay_id, 5, &Secret::new([6; 32]));
    assert_eq!(failure(read_with(&other_secret, &ch, NOW_S)), refused);

    // One rotation leaves tickets good, two do not.
    let mut keys = ticket_keys();
    keys.rotate(&mut rng(1)).unwrap();
    assert!(read_with(&keys, &ch, NOW_S).is_ok());
    keys.rotate(&mut rng(2)).unwrap();
    assert_eq!(failure(read_with(&keys, &ch, NOW_S)), refused);

    // The ticket lives in another epoch too: it does not depend on the statics.
    let statics = RelayStatics::from_seeds([8; 96]);
    let draft = BundleDraft {
        epoch: EPOCH + 1,
        not_before: 0,
        not_after: 1000,
        endpoints: Vec::new(),
    };
    let signed = RelayIdentity::from_seeds([1; 64])
        .sign_bundle(&draft, &statics)
        .unwrap();
    let bundle = Bundle::parse(&signed).unwrap();
    let next = Responder::new(statics, WORLD.relay_id, EPOCH + 1);
    let (ticket, mut ch) = (ticket_for(true, 0), Vec::new());
    Initiator::resume(&bundle, &ticket, false, HID, hello(true), &mut rng(1), &mut ch).unwrap();
    assert!(next.read(HID, &ch, Some(&ticket_keys()), NOW_S).is_ok());
    let old = read(&ch);
    assert_eq!(failure(old), HandshakeFailure::WrongEpoch { offered: EPOCH + 1 });
}

#[test]
fn a_ticket_is_for_its_client() {
    let refused = |ticket: &ClientTicket, hello, bundle: &Bundle| {
        let mut body = vec![1];
        let begun = Initiator::resume(bundle, ticket, false, HID, hello, &mut rng(1), &mut body);
        assert!(body.is_empty());
        failure(begun)
    };
    let (enrolled, anonymous) = (ticket_for(true, 0), ticket_for(false, 0));
    let mismatch = HandshakeFailure::TicketMismatch;
    assert_eq!(refused(&enrolled, hello(false), &WORLD.bundle), mismatch);
    assert_eq!(refused(&anonymous, hello(true), &WORLD.bundle), mismatch);
    let thief = ClientIdentity::from_seeds([4; 96]);
    let stolen = ClientHello {
        auth: Auth::Enrolled(&thief),
        ..hello(true)
    };
    assert_eq!(refused(&enrolled, stolen, &WORLD.bundle), mismatch);
    let other = RelayIdentity::from_seeds([9; 64]);
    let draft = BundleDraft {
        epoch: EPOCH,
        not_before: 0,
        not_after: 1000,
        endpoints: Vec::new(),
    };
    let bundle = Bundle::parse(&other.sign_bundle(&draft, &WORLD.statics).unwrap()).unwrap();
    assert_eq!(refused(&enrolled, hello(true), &bundle), mismatch);
    let mut unusable = ticket_for(true, 0);
    unusable.rms = Secret::new([0; 32]);
    assert_eq!(
        refused(&unusable, hello(true), &WORLD.bundle),
        HandshakeFailure::DegenerateKey
    );
}

/// A client that has everything behind a ticket but the static key, or calls itself something else.
#[test]
fn the_relay_itself_refuses_a_ticket_shown_by_another_key() {
    let provider = provider::DEFAULT;
    let ephemeral = provider.kem_key_pair(&Secret::new([7; 64]));
    let shows = |ticket: &ClientTicket, secret: [u8; 32], enrolled| {
        let psk0 = Psk0::resume(&ticket.rms, &ticket.ticket).unwrap();
        let head = client_head(Mode::Resume, true, EPOCH);
        let prologue = initiator::prologue(&head, HID, &WORLD.relay_id, WORLD.bundle.kh(), &psk0);
        let key = provider.x25519_key_pair(&Secret::new(secret));
        let mut noise = Noise::initiator(provider, key, WORLD.bundle.x25519(), &prologue, psk0).unwrap();
        let payload = Payload1 {
            time_ms: 0,
            scid: [1; 9],
            ek_e: ephemeral.public(),
            enrolled,
            ek_c: None,
            params: b"",
        };
        let message = noise.write(&payload.encode(), Secret::new([6; 32])).unwrap();
        read(&[&head[..], &ticket.ticket, &message].concat()).map(|_| ())
    };
    let ticket = ticket_for(true, 0);
    assert_eq!(shows(&ticket, [3; 32], true), Ok(()), "the client's own key");
    let refused = Err(HandshakeFailure::TicketRefused);
    assert_eq!(shows(&ticket, [4; 32], true), refused);
    assert_eq!(shows(&ticket, [3; 32], false), refused);
    let anonymous = ticket_for(false, 0);
    let own = *anonymous.throw_away.as_ref().unwrap().expose();
    assert_eq!(shows(&anonymous, own, false), Ok(()));
    assert_eq!(shows(&anonymous, own, true), refused);
    assert_eq!(shows(&anonymous, [4; 32], false), refused);
}

#[test]
fn two_resumptions_of_one_ticket_share_no_key() {
    let ticket = ticket_for(true, 1000);
    let attempt = |seed: u8| {
        let (mut initiator, seal, ch) = resume(&ticket, true, true, seed);
        let (server, sh) = respond(&ch, answer(SUITES[0]), seed + 1);
        let mut client = initiator.finish(&sh, &[]).unwrap().session;
        let mut early = b"early".to_vec();
        seal.unwrap().seal(0, &mut early).unwrap();
        let at = Counter { lane: 0, number: 0 };
        let tag = client.seal.seal(at, b"", &mut []).unwrap().to_vec();
        let secrets = [
            client.resumption.ticket_secret(3),
            server.resumption.ticket_secret(4),
        ];
        (early, tag, secrets.map(|secret| secret.expose().to_vec()))
    };
    let (first, second) = (attempt(20), attempt(30));
    assert_ne!(first.0, second.0);
    assert_ne!(first.1, second.1);
    assert_ne!(first.2, second.2);
    assert_ne!(first.2[0], first.2[1], "each ticket has a secret of its own");
    // The relay's random part alone gives other keys too, when a hello is replayed.
    let (_, _, ch) = resume(&ticket, true, true, 20);
    let sessions = [
        respond(&ch, answer(SUITES[0]), 41).0,
        respond(&ch, answer(SUITES[0]), 42).0,
    ];
    let [a, b] = sessions.map(|session| session.resumption.ticket_secret(3));
    assert!(a != b);
}

#[test]
fn early_data_opens_at_the_relay_and_only_as_it_was_sealed() {
    let ticket = ticket_for(true, 1000);
    let (_, seal, ch) = resume(&ticket, true, true, 10);
    let mut seal = seal.unwrap();
    let offered = read(&ch).unwrap();
    assert!(offered.wants_early());
    let open = offered.early_open().unwrap();
    let mut sealed = b"GET /".to_vec();
    seal.seal(4, &mut sealed).unwrap();
    assert_eq!(sealed.len(), 5 + crate::EARLY_OVERHEAD);
    for at in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[at] ^= 1 << (at % 8);
        assert_eq!(open.open(4, &mut bad).err(), Some(Forged), "{at}");
    }
    assert_eq!(open.open(5, &mut sealed.clone()).err(), Some(Forged));
    assert_eq!(open.open(4, &mut sealed[..15].to_vec()).err(), Some(Forged));
    let (_, other, _) = resume(&ticket, true, true, 11);
    let mut foreign = b"GET /".to_vec();
    other.unwrap().seal(4, &mut foreign).unwrap();
    assert_eq!(open.open(4, &mut foreign).err(), Some(Forged), "another attempt");
    assert_eq!(open.open(4, &mut sealed).unwrap(), b"GET /");

    // A number is used once, and refused numbers leave the frames alone.
    for number in [0, 3, 4] {
        let mut frames = b"again".to_vec();
        let refused = seal.seal(number, &mut frames);
        assert_eq!(refused, Err(crate::KeyExhausted::CounterReused));
        assert_eq!(frames, b"again");
    }
    seal.seal(u32::MAX, &mut Vec::new()).unwrap();
    assert!(seal.seal(u32::MAX, &mut Vec::new()).is_err());
}

#[test]
fn early_data_must_be_offered_to_be_accepted() {
    let early = ServerAnswer {
        early_accepted: true,
        ..answer(SUITES[0])
    };
    let ticket = ticket_for(true, 1000);
    let mut sh = Vec::new();
    let (mut initiator, seal, ch) = resume(&ticket, true, false, 10);
    assert!(seal.is_none());
    let offered = read(&ch).unwrap();
    assert!(!offered.wants_early());
    assert_eq!(
        failure(offered.accept(early, &mut rng(1), &mut sh)),
        HandshakeFailure::Misused
    );
    assert!(sh.is_empty());
    let (_, mut sh) = respond(&ch, answer(SUITES[0]), 1);
    sh[1] |= 2;
    let claimed = initiator.finish(&sh, &[]);
    assert_eq!(failure(claimed), HandshakeFailure::EarlyNotOffered);

    // A client that calls for early data with a ticket that allows none.
    let mut greedy = ticket_for(true, 0);
    greedy.max_early = 1000;
    let (_, _, ch) = resume(&greedy, true, true, 10);
    let offered = read(&ch).unwrap();
    assert!(!offered.wants_early() && offered.early_open().is_none());

    // Rejected: the connection resumes without.
    let (mut initiator, _, ch) = resume(&ticket, true, true, 10);
    let (_, sh) = respond(&ch, answer(SUITES[0]), 1);
    let established = initiator.finish(&sh, &[]).unwrap();
    assert!(established.resumed && !established.early_accepted);
}

#[test]
fn the_echo_of_an_address_token_is_checked() {
    let flight = || {
        let (initiator, ch) = start(false, &mut rng(1));
        let says = ServerAnswer {
            retry_token: Some(TOKEN),
            ..answer(SUITES[0])
        };
        (initiator, respond(&ch, says, 2).1)
    };
    let (mut initiator, sh) = flight();
    assert!(initiator.finish(&sh, &[TOKEN]).unwrap().retry_echoed);
    let (mut initiator, sh) = flight();
    let several = [[8; TOKEN_LEN], TOKEN];
    assert!(
        initiator.finish(&sh, &several).unwrap().retry_echoed,
        "one of those that were sent"
    );
    for tokens in [&[][..], &[[8; TOKEN_LEN]]] {
        let (mut initiator, sh) = flight();
        let refused = initiator.finish(&sh, tokens);
        assert_eq!(failure(refused), HandshakeFailure::RetryMismatch);
    }
    // A relay that had answered before it asked for tokens.
    let (mut initiator, ch) = start(false, &mut rng(1));
    let (_, sh) = accept(&ch, SUITES[0], &mut rng(2));
    assert!(!initiator.finish(&sh, &[TOKEN]).unwrap().retry_echoed);
}

#[test]
fn an_answer_cannot_change_between_full_and_resumed() {
    let (mut full, ch) = start(false, &mut rng(1));
    let (_, mut sh) = accept(&ch, SUITES[0], &mut rng(2));
    sh[0] = 2;
    assert_eq!(failure(full.finish(&sh, &[])), HandshakeFailure::AuthMismatch);
    let (mut resumed, _, ch) = resume(&ticket_for(false, 0), false, false, 10);
    let (_, mut sh) = respond(&ch, answer(SUITES[0]), 2);
    sh[0] = 1;
    assert_eq!(failure(resumed.finish(&sh, &[])), HandshakeFailure::AuthMismatch);
}

#[test]
fn resumption_needs_the_ephemeral_kem() {
    let ticket = ticket_for(true, 0);
    for (secret, expected) in [
        (0, HandshakeFailure::DegenerateKey),
        (5, HandshakeFailure::Forged),
    ] {
        // The relay lacks ss_e: the ticket's secret and X25519 are not enough.
        let (mut initiator, _, ch) = resume(&ticket, true, false, 10);
        let provider = Tampered::leak(Some(0), false, secret);
        let relay = Responder::with_provider(provider, WORLD.statics.clone(), WORLD.relay_id, EPOCH);
        let offered = relay.read(HID, &ch, Some(&ticket_keys()), NOW_S).unwrap();
        let mut sh = Vec::new();
        let done = offered
            .accept(answer(SUITES[0]), &mut rng(2), &mut sh)
            .and_then(|_| initiator.finish(&sh, &[]).map(|_| ()));
        assert_eq!(failure(done), expected);

        // The client lacks it.
        let (provider, mut ch) = (Tampered::leak(None, true, secret), Vec::new());
        let hello = hello(true);
        let (mut initiator, _) = Initiator::resume_with(
            provider,
            &WORLD.bundle,
            (&ticket, false),
            HID,
            hello,
            &mut rng(1),
            &mut ch,
        )
        .unwrap();
        let (_, sh) = respond(&ch, answer(SUITES[0]), 2);
        assert_eq!(failure(initiator.finish(&sh, &[])), expected);
    }
    // A key that is none is refused, in this mode too.
    let (_, _, ch) = resume(&ticket, true, false, 10);
    assert!(
        ch.len() > 12 + TICKET_LEN + 96 + size_of::<KemPublic>(),
        "ek_e is in the hello"
    );
    assert!(matches!(
        failure(read(&ch[..ch.len() - 1184])),
        HandshakeFailure::Malformed(_)
    ));
}

#[test]
fn without_the_secret_behind_the_ticket_there_is_no_handshake() {
    let mut ticket = ticket_for(true, 0);
    ticket.rms = Secret::new([1; 32]);
    let (_, _, ch) = resume(&ticket, true, false, 10);
    assert_eq!(failure(read(&ch)), HandshakeFailure::Forged);
    // Another ticket in the place of the one the message was made with, with the same secret.
    let ticket = ticket_for(true, 0);
    let (_, _, mut ch) = resume(&ticket, true, false, 10);
    let content = ticket_keys().open(&ticket.ticket).unwrap();
    let resealed = ticket_keys().seal(&content, &mut rng(78)).unwrap();
    ch[12..12 + TICKET_LEN].copy_from_slice(&resealed);
    assert_eq!(failure(read(&ch)), HandshakeFailure::Forged);
}

#[test]
fn resumption_without_entropy_sends_nothing() {
    let ticket = ticket_for(false, 0);
    // ek_e, e.
    for draws in 0..2 {
        let mut body = vec![1];
        let mut failing = FailsAt(draws, rng(1));
        let begun = Initiator::resume(
            &WORLD.bundle,
            &ticket,
            false,
            HID,
            hello(false),
            &mut failing,
            &mut body,
        );
        assert_eq!(failure(begun), HandshakeFailure::EntropyFailed);
        assert!(body.is_empty());
    }
}

/// A relay that waits holds secrets, not expanded keys.
#[test]
fn waiting_secrets_are_small_and_open_the_first_packet() {
    assert!(
        size_of::<SessionSecrets>() <= 512,
        "{}",
        size_of::<SessionSecrets>()
    );
    for suite in SUITES {
        let (mut initiator, ch) = start(true, &mut rng(1));
        let mut sh = Vec::new();
        let waiting = read(&ch)
            .unwrap()
            .accept(answer(suite), &mut rng(2), &mut sh)
            .unwrap();
        assert_eq!(waiting.suite(), suite);
        let mut client = initiator.finish(&sh, &[]).unwrap().session;
        let at = Counter { lane: 0, number: 0 };
        let mut packet = b"first".to_vec();
        let tag = client.seal.seal(at, b"header", &mut packet).unwrap();
        packet.extend_from_slice(&tag);
        let current = Generation::Current;
        let forged = waiting.opener().open(current, at, b"other", &mut packet.clone());
        assert_eq!(forged, Err(Forged));
        assert_eq!(
            waiting.opener().open(current, at, b"header", &mut packet.clone()),
            Ok(5)
        );
        let mut session = waiting.into_session();
        assert_eq!(session.open.open(current, at, b"header", &mut packet), Ok(5));
        deliver(&mut session, &mut client, 0, current).unwrap();
    }
}

#[test]
fn arbitrary_tickets_are_refused_quietly() {
    let (_, _, ch) = resume(&ticket_for(true, 0), true, false, 10);
    arbtest::arbtest(|u| {
        let mut bad = ch.clone();
        let at = u.choose_index(ch.len())?;
        let len: usize = u.int_in_range(1..=32)?;
        for byte in bad.iter_mut().skip(at).take(len) {
            *byte ^= u.arbitrary::<u8>()?;
        }
        assert_eq!(read(&bad).is_ok(), bad == ch);
        assert!(ClientTicket::from_bytes(&bad).is_err());
        Ok(())
    })
    .budget_ms(200);
}
