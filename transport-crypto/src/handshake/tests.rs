use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    kem::{Binding, Psk0, Psk2},
    message::{Mode, Opening, Payload1, ServerHead, client_head},
    noise::Noise,
    *,
};
use crate::{
    Bundle, BundleDraft, ClientIdentity, Counter, Direction, Entropy, EntropyFailed, EnvelopeHeader,
    EnvelopeKeys, EnvelopeType, Forged, Generation, Grant, HandshakeFailure, InvalidKemKey, RelayId,
    RelayIdentity, RelayStatics, Secret, SeededEntropy,
    provider::{self, DhKeyPair, KemCiphertext, KemKeyPair, KemPublic, MaskCipher, PacketCipher, RustCrypto},
};

mod kem_secrets;
mod resume;

const HID: [u8; 8] = *b"a handsh";
const EPOCH: u64 = 12;
const SUITES: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];
const CT: usize = size_of::<KemCiphertext>();

struct World {
    bundle: Bundle,
    statics: RelayStatics,
    relay_id: RelayId,
    client: ClientIdentity,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let identity = RelayIdentity::from_seeds([1; 64]);
    let statics = RelayStatics::from_seeds([2; 96]);
    let draft = BundleDraft {
        epoch: EPOCH,
        not_before: 0,
        not_after: 1000,
        endpoints: Vec::new(),
    };
    let bundle = Bundle::parse(&identity.sign_bundle(&draft, &statics).unwrap()).unwrap();
    let client = ClientIdentity::from_seeds([3; 96]);
    World {
        bundle,
        statics,
        relay_id: identity.relay_id(),
        client,
    }
});

fn rng(seed: u8) -> SeededEntropy {
    SeededEntropy::new([seed; 32])
}

fn auth(enrolled: bool) -> Auth<'static> {
    if enrolled {
        Auth::Enrolled(&WORLD.client)
    } else {
        Auth::Anonymous
    }
}

fn hello(enrolled: bool) -> ClientHello<'static> {
    ClientHello {
        has_aes: true,
        time_ms: 77,
        scid: *b"client id",
        auth: auth(enrolled),
        params: b"client params",
    }
}

fn answer(suite: Suite) -> ServerAnswer<'static> {
    const CIDS: [[u8; 9]; 2] = [*b"relay id0", *b"relay id1"];
    ServerAnswer {
        suite,
        relay_cids: &CIDS,
        params: b"relay params",
        server_time_ms: 88,
        early_accepted: false,
        retry_token: None,
    }
}

fn responder() -> Responder {
    Responder::new(WORLD.statics.clone(), WORLD.relay_id, EPOCH)
}

fn start(enrolled: bool, rng: &mut dyn Entropy) -> (Initiator, Vec<u8>) {
    let mut body = Vec::new();
    let initiator = Initiator::start(&WORLD.bundle, HID, hello(enrolled), rng, &mut body).unwrap();
    (initiator, body)
}

fn accept(client_hello: &[u8], suite: Suite, rng: &mut dyn Entropy) -> (Session, Vec<u8>) {
    let mut body = Vec::new();
    let session = responder()
        .read(HID, client_hello, None, 0)
        .unwrap()
        .accept(answer(suite), rng, &mut body)
        .unwrap()
        .into_session();
    (session, body)
}

fn complete(enrolled: bool, suite: Suite, seed: u8) -> (Session, Session) {
    let (mut initiator, ch) = start(enrolled, &mut rng(seed));
    let (server, sh) = accept(&ch, suite, &mut rng(seed + 1));
    (initiator.finish(&sh, &[]).unwrap().session, server)
}

fn ct_s<'a>(body: &message::ClientBody<'a>) -> &'a KemCiphertext {
    match body.opening {
        Opening::Encapsulation(ct_s) => ct_s,
        Opening::Ticket(_) => panic!("a full handshake"),
    }
}

fn failure<T>(result: Result<T, HandshakeFailure>) -> HandshakeFailure {
    result.err().expect("refused")
}

/// One packet from `from` to `to`.
fn deliver(from: &mut Session, to: &mut Session, number: u64, which: Generation) -> Result<(), Forged> {
    let mut packet = b"application data".to_vec();
    let at = Counter { lane: 0, number };
    let tag = from.seal.seal(at, b"header", &mut packet).unwrap();
    packet.extend_from_slice(&tag);
    let len = to.open.open(which, at, b"header", &mut packet)?;
    assert_eq!(&packet[..len], b"application data");
    Ok(())
}

#[test]
fn what_a_key_log_tells_opens_both_directions() {
    for suite in SUITES {
        let (mut initiator, ch) = start(false, &mut rng(41));
        let mut sh = Vec::new();
        let offered = responder().read(HID, &ch, None, 0).unwrap();
        let secrets = offered.accept(answer(suite), &mut rng(42), &mut sh).unwrap();
        let told = secrets.traffic();
        let server = secrets.into_session();
        let established = initiator.finish(&sh, &[]).unwrap();
        let same = &established.traffic;
        assert!(told.client == same.client && told.server == same.server && told.client != told.server);
        assert_eq!((told.transcript, told.suite), (server.transcript, suite));
        for (mut from, secret) in [(established.session, &told.client), (server, &told.server)] {
            let mut reader = OpenKeys::new(crate::provider::DEFAULT, suite, secret.duplicate());
            let at = Counter { lane: 0, number: 7 };
            let mut packet = b"application data".to_vec();
            let tag = from.seal.seal(at, b"header", &mut packet).unwrap();
            packet.extend_from_slice(&tag);
            let len = reader
                .open(Generation::Current, at, b"header", &mut packet)
                .unwrap();
            assert_eq!(&packet[..len], b"application data");
        }
    }
}

#[test]
fn both_sides_agree() {
    for (enrolled, suite) in [false, true].into_iter().flat_map(|e| SUITES.map(|s| (e, s))) {
        let (mut initiator, ch) = start(enrolled, &mut rng(1));
        assert_eq!(ch.len(), if enrolled { 2399 + 13 + 1184 } else { 2399 + 13 });
        let offered = responder().read(HID, &ch, None, 0).unwrap();
        assert_eq!(offered.enrolled(), enrolled);
        assert_eq!(offered.client_id() == WORLD.client.client_id(), enrolled);
        assert!(offered.has_aes());
        assert_eq!(
            (offered.time_ms(), offered.scid(), offered.params()),
            (77, *b"client id", &b"client params"[..])
        );

        let mut sh = Vec::new();
        let mut server = offered
            .accept(answer(suite), &mut rng(2), &mut sh)
            .unwrap()
            .into_session();
        let established = initiator.finish(&sh, &[]).unwrap();
        assert_eq!(established.relay_cids, [*b"relay id0", *b"relay id1"]);
        assert_eq!(
            (&established.params[..], established.server_time_ms),
            (&b"relay params"[..], 88)
        );
        let mut client = established.session;
        assert_eq!(
            (client.suite, server.suite, client.seal.suite()),
            (suite, suite, suite)
        );
        assert_eq!(client.transcript, server.transcript);

        deliver(&mut client, &mut server, 0, Generation::Current).unwrap();
        deliver(&mut server, &mut client, 0, Generation::Current).unwrap();
        let (mut ours, mut theirs) = ([0; 48], [0; 48]);
        client.exporter.export(b"label", &mut ours);
        server.exporter.export(b"label", &mut theirs);
        assert_eq!(ours, theirs);
        assert_eq!(failure(initiator.finish(&sh, &[])), HandshakeFailure::Misused);
    }
}

#[test]
fn a_packet_does_not_open_on_the_side_that_sealed_it() {
    let (mut client, _) = complete(false, Suite::ChaCha20Poly1305, 1);
    let mut packet = vec![1; 40];
    let at = Counter { lane: 0, number: 0 };
    let tag = client.seal.seal(at, b"", &mut packet).unwrap();
    packet.extend_from_slice(&tag);
    assert_eq!(
        client.open.open(Generation::Current, at, b"", &mut packet),
        Err(Forged)
    );
}

#[test]
fn keys_update_in_both_directions() {
    for suite in SUITES {
        let (mut client, mut server) = complete(true, suite, 1);
        client.seal.update();
        deliver(&mut client, &mut server, 0, Generation::Next).unwrap();
        server.open.update();
        server.seal.update();
        deliver(&mut server, &mut client, 0, Generation::Next).unwrap();
        client.open.update();
        deliver(&mut client, &mut server, 1, Generation::Current).unwrap();
        deliver(&mut server, &mut client, 1, Generation::Current).unwrap();
        assert!(deliver(&mut client, &mut server, 2, Generation::Previous).is_err());
        assert!(client.seal.phase() && client.open.phase() && server.seal.phase() && server.open.phase());
    }
}

#[test]
fn two_handshakes_of_a_pair_share_no_key() {
    let keys = |seed| {
        let (mut client, mut server) = complete(true, Suite::Aes256Gcm, seed);
        let at = Counter { lane: 0, number: 0 };
        let mut exported = [0; 16];
        client.exporter.export(b"", &mut exported);
        let [mut mask_c, mut mask_s] = [[[0; 5]], [[0; 5]]];
        client.seal.masks(&[[0; 16]], &mut mask_c);
        server.seal.masks(&[[0; 16]], &mut mask_s);
        let (a, b) = (
            client.seal.seal(at, b"", &mut []).unwrap(),
            server.seal.seal(at, b"", &mut []).unwrap(),
        );
        (vec![a.to_vec(), b.to_vec(), exported.to_vec()], [mask_c, mask_s])
    };
    let (first, first_masks) = keys(1);
    let (second, second_masks) = keys(11);
    assert!(first.iter().all(|key| !second.contains(key)));
    assert!(first_masks.iter().all(|mask| !second_masks.contains(mask)));
    assert!(first[0] != first[1] && first_masks[0] != first_masks[1]);
}

#[test]
fn a_replayed_client_hello_leads_to_other_keys() {
    let (mut initiator, ch) = start(true, &mut rng(1));
    let (_, mut replayed) = (
        accept(&ch, SUITES[0], &mut rng(2)),
        accept(&ch, SUITES[0], &mut rng(3)).0,
    );
    let (_, sh) = accept(&ch, SUITES[0], &mut rng(2));
    let mut client = initiator.finish(&sh, &[]).unwrap().session;
    assert!(client.transcript != replayed.transcript);
    assert!(deliver(&mut client, &mut replayed, 0, Generation::Current).is_err());
}

#[test]
fn every_byte_of_the_client_hello_matters() {
    let responder = responder();
    for (enrolled, step) in [(false, 1), (true, 3)] {
        let (_, ch) = start(enrolled, &mut rng(1));
        for at in (0..ch.len()).step_by(step) {
            let mut bad = ch.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(responder.read(HID, &bad, None, 0).is_err(), "{at}");
        }
        for len in (0..ch.len()).step_by(97).chain(ch.len() - 40..ch.len()) {
            assert!(responder.read(HID, &ch[..len], None, 0).is_err(), "{len}");
        }
        assert!(responder.read(HID, &[&ch[..], &[0]].concat(), None, 0).is_err());
        assert!(responder.read(HID, &ch, None, 0).is_ok());
    }
}

#[test]
fn every_byte_of_the_server_hello_matters_and_the_client_survives() {
    for (enrolled, step) in [(false, 1), (true, 3)] {
        let (mut initiator, ch) = start(enrolled, &mut rng(1));
        let (_, sh) = accept(&ch, Suite::Aes256Gcm, &mut rng(2));
        for at in (0..sh.len()).step_by(step) {
            let mut bad = sh.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(initiator.finish(&bad, &[]).is_err(), "{at}");
        }
        for len in (0..sh.len()).step_by(97).chain(sh.len() - 40..sh.len()) {
            assert!(initiator.finish(&sh[..len], &[]).is_err(), "{len}");
        }
        assert!(initiator.finish(&[&sh[..], &[0]].concat(), &[]).is_err());
        assert!(
            initiator.finish(&sh, &[]).is_ok(),
            "after all that the true one is still welcome"
        );
    }
}

#[test]
fn every_byte_of_the_datagrams_matters() {
    let (_, ch) = start(false, &mut rng(1));
    let keys = EnvelopeKeys::new(WORLD.bundle.kh(), EPOCH, &Grant::default());
    for (index, fragment) in (0u8..).zip(ch.chunks(820)) {
        let header = EnvelopeHeader {
            kind: EnvelopeType::ClientHello,
            hid: HID,
            unix_minutes: 30_000_000,
            index,
            count: 3,
            total_len: ch.len() as u16,
            fragment_offset: u16::from(index) * 820,
            fragment_len: fragment.len() as u16,
            token: None,
        };
        let mut datagram = Vec::new();
        keys.seal(
            Direction::ClientToServer,
            &header,
            fragment,
            1000,
            &mut rng(index),
            &mut datagram,
        )
        .unwrap();
        for at in 0..datagram.len() {
            let mut bad = datagram.clone();
            bad[at] ^= 1 << (at % 8);
            assert_eq!(
                keys.open(Direction::ClientToServer, &mut bad),
                Err(Forged),
                "{at}"
            );
        }
        let (_, opened) = keys.open(Direction::ClientToServer, &mut datagram).unwrap();
        assert_eq!(opened, fragment);
    }
}

#[test]
fn the_name_of_handshake_relay_and_epoch_is_bound() {
    let (_, ch) = start(false, &mut rng(1));
    let offered = EPOCH;
    assert_eq!(
        failure(responder().read([0; 8], &ch, None, 0)),
        HandshakeFailure::Forged
    );
    let other_name = Responder::new(WORLD.statics.clone(), RelayId::from_bytes([7; 32]), EPOCH);
    assert_eq!(
        failure(other_name.read(HID, &ch, None, 0)),
        HandshakeFailure::Forged
    );
    let other_keys = Responder::new(RelayStatics::from_seeds([8; 96]), WORLD.relay_id, EPOCH);
    assert_eq!(
        failure(other_keys.read(HID, &ch, None, 0)),
        HandshakeFailure::Forged
    );
    let other_epoch = Responder::new(WORLD.statics.clone(), WORLD.relay_id, EPOCH + 1);
    assert_eq!(
        failure(other_epoch.read(HID, &ch, None, 0)),
        HandshakeFailure::WrongEpoch { offered }
    );
}

#[test]
fn both_static_keys_of_the_relay_are_needed() {
    for at in [0..32, 32..64] {
        // One half right, the other another relay's. (The last 32 bytes never leave the relay.)
        let mut seeds = [2; 96];
        seeds[at].fill(8);
        let relay = Responder::new(RelayStatics::from_seeds(seeds), WORLD.relay_id, EPOCH);
        let (_, ch) = start(false, &mut rng(1));
        assert_eq!(failure(relay.read(HID, &ch, None, 0)), HandshakeFailure::Forged);
    }
}

#[test]
fn an_answer_to_another_client_is_refused() {
    let (mut first, _) = start(true, &mut rng(1));
    let (_, second) = start(true, &mut rng(2));
    let (_, sh) = accept(&second, SUITES[0], &mut rng(3));
    assert_eq!(failure(first.finish(&sh, &[])), HandshakeFailure::Forged);
}

#[test]
fn suite_2_needs_an_offer_and_is_bound() {
    let mut ch = Vec::new();
    let hello = ClientHello {
        has_aes: false,
        ..hello(false)
    };
    let mut initiator = Initiator::start(&WORLD.bundle, HID, hello, &mut rng(1), &mut ch).unwrap();
    let mut sh = Vec::new();
    let read = || responder().read(HID, &ch, None, 0).unwrap();
    let refused = read().accept(answer(Suite::Aes256Gcm), &mut rng(2), &mut sh);
    assert_eq!(failure(refused), HandshakeFailure::SuiteNotOffered);
    assert!(sh.is_empty());
    read()
        .accept(answer(Suite::ChaCha20Poly1305), &mut rng(2), &mut sh)
        .unwrap();
    let mut upgraded = sh.clone();
    upgraded[1] |= 8;
    assert!(matches!(
        failure(initiator.finish(&upgraded, &[])),
        HandshakeFailure::Malformed(_)
    ));
    initiator.finish(&sh, &[]).unwrap();

    // The offer cannot be taken away, nor the choice.
    let (mut initiator, mut ch) = start(false, &mut rng(1));
    let (_, mut sh) = accept(&ch, Suite::Aes256Gcm, &mut rng(2));
    sh[1] &= !8;
    assert_eq!(failure(initiator.finish(&sh, &[])), HandshakeFailure::Forged);
    ch[3] = 0;
    assert_eq!(
        failure(responder().read(HID, &ch, None, 0)),
        HandshakeFailure::Forged
    );
}

#[test]
fn unknown_modes_suites_and_flags_are_refused() {
    let (_, ch) = start(false, &mut rng(1));
    let read = |at: usize, value: u8| {
        let mut bad = ch.clone();
        bad[at] = value;
        failure(responder().read(HID, &bad, None, 0))
    };
    assert_eq!(read(0, 1), HandshakeFailure::TicketRefused);
    assert_eq!(read(0, 3), HandshakeFailure::UnsupportedMode(3));
    assert_eq!(read(1, 0), HandshakeFailure::UnsupportedKemSuite(0));
    assert_eq!(read(1, 2), HandshakeFailure::UnsupportedKemSuite(2));
    assert!(matches!(read(2, 1), HandshakeFailure::Malformed(_)));
    assert!(matches!(read(3, 3), HandshakeFailure::Malformed(_)));
}

#[test]
fn a_low_order_ephemeral_is_refused() {
    let (_, mut ch) = start(false, &mut rng(1));
    ch[12 + CT..12 + CT + 32].fill(0);
    assert_eq!(
        failure(responder().read(HID, &ch, None, 0)),
        HandshakeFailure::LowOrderPoint
    );

    let (mut initiator, ch) = start(false, &mut rng(1));
    let (_, mut sh) = accept(&ch, SUITES[0], &mut rng(2));
    sh[2 + CT..2 + CT + 32].fill(0);
    assert_eq!(
        failure(initiator.finish(&sh, &[])),
        HandshakeFailure::LowOrderPoint
    );
}

#[test]
fn ct_c_is_there_exactly_for_enrolled_clients() {
    let (mut enrolled, ch) = start(true, &mut rng(1));
    let (_, sh) = accept(&ch, SUITES[0], &mut rng(2));
    let mut without = sh.clone();
    without[1] &= !1;
    without.drain(2 + CT..2 + 2 * CT);
    assert_eq!(
        failure(enrolled.finish(&without, &[])),
        HandshakeFailure::AuthMismatch
    );

    let (mut anonymous, ch) = start(false, &mut rng(1));
    let (_, mut with) = accept(&ch, SUITES[0], &mut rng(2));
    with[1] |= 1;
    with.splice(2..2, [0; CT]);
    assert_eq!(
        failure(anonymous.finish(&with, &[])),
        HandshakeFailure::AuthMismatch
    );
}

#[test]
fn without_psk2_nothing_is_written() {
    let (_, ch) = start(false, &mut rng(1));
    let body = message::ClientBody::parse(&ch).unwrap();
    let keys = WORLD.statics.keys();
    let psk0 = Psk0::decapsulate(WORLD.statics.kh(), &*keys.kem, ct_s(&body)).unwrap();
    let prologue = initiator::prologue(body.head, HID, &WORLD.relay_id, WORLD.statics.kh(), &psk0);
    let mut noise = Noise::responder(provider::DEFAULT, Arc::clone(&keys.x25519), &prologue, psk0).unwrap();
    noise.read(body.noise).unwrap();
    assert_eq!(
        failure(noise.write(b"payload", Secret::new([9; 32]))),
        HandshakeFailure::Misused
    );
    assert_eq!(failure(noise.finish()), HandshakeFailure::Misused);
}

/// A client with static key `secret` that follows the protocol but for its payload.
fn client_hello_by(secret: &Secret<32>, payload: &[u8]) -> (Noise, Vec<u8>) {
    let (kh, provider) = (WORLD.bundle.kh(), provider::DEFAULT);
    let (ct_s, psk0) = Psk0::encapsulate(provider, kh, WORLD.bundle.ml_kem(), &mut rng(1)).unwrap();
    let (head, key) = (
        client_head(Mode::Full, true, EPOCH),
        provider.x25519_key_pair(secret),
    );
    let prologue = initiator::prologue(&head, HID, &WORLD.relay_id, kh, &psk0);
    let mut noise = Noise::initiator(provider, key, WORLD.bundle.x25519(), &prologue, psk0).unwrap();
    let message = noise.write(payload, Secret::new([6; 32])).unwrap();
    (noise, [&head[..], &ct_s, &message].concat())
}

#[test]
fn authentic_but_wrong_payloads_are_refused() {
    let good_key = *WORLD.client.keys().kem.public();
    let mut bad_key = good_key;
    bad_key[..2].fill(0xff);
    let payload = |ek_e, ek_c, params| {
        Payload1 {
            time_ms: 0,
            scid: [1; 9],
            ek_e,
            enrolled: Option::is_some(&ek_c),
            ek_c,
            params,
        }
        .encode()
    };
    let read = |payload: &[u8]| {
        responder()
            .read(HID, &client_hello_by(&Secret::new([5; 32]), payload).1, None, 0)
            .map(|_| ())
    };
    let malformed = |payload: &[u8]| matches!(read(payload), Err(HandshakeFailure::Malformed(_)));

    assert_eq!(
        read(&payload(&good_key, Some(&good_key), &[0; MAX_PARAMS])),
        Ok(())
    );
    assert_eq!(
        read(&payload(&bad_key, None, b"")),
        Err(HandshakeFailure::InvalidKemKey)
    );
    assert_eq!(
        read(&payload(&good_key, Some(&bad_key), b"")),
        Err(HandshakeFailure::InvalidKemKey)
    );
    assert!(malformed(&payload(&good_key, None, &[0; MAX_PARAMS + 1])));
    let mut changed = payload(&good_key, None, b"");
    changed[1202] = 2;
    assert_eq!(read(&changed), Err(HandshakeFailure::UnsupportedAuth(2)));
    changed[1202] = 1;
    assert!(malformed(&changed), "ek_c is announced and missing");
    changed[1202] = 0;
    changed[8] = 8;
    assert!(malformed(&changed), "connection id of eight bytes");
}

#[test]
fn a_relay_that_skips_the_enrolled_key_is_refused() {
    // The relay answers an enrolled client with the right ephemeral secret, but zeros instead of ss_c.
    let (mut initiator, ch) = start(true, &mut rng(1));
    let body = message::ClientBody::parse(&ch).unwrap();
    let keys = WORLD.statics.keys();
    let psk0 = Psk0::decapsulate(WORLD.statics.kh(), &*keys.kem, ct_s(&body)).unwrap();
    let prologue = initiator::prologue(body.head, HID, &WORLD.relay_id, WORLD.statics.kh(), &psk0);
    let mut noise = Noise::responder(provider::DEFAULT, Arc::clone(&keys.x25519), &prologue, psk0).unwrap();
    let payload = noise.read(body.noise).unwrap();
    let payload = Payload1::parse(&payload, Mode::Full).unwrap();
    let head = ServerHead {
        resumed: false,
        suite: SUITES[0],
        ct_c: true,
        early_accepted: false,
        retry: false,
    }
    .encode();
    let h1 = noise.transcript().unwrap();
    let binding = Binding {
        h1: &h1,
        head,
        client_id: WORLD.client.client_id(),
    };
    let kem = Psk2::encapsulate(provider::DEFAULT, payload.ek_e, None, &binding, &mut rng(2)).unwrap();
    noise.set_psk2(&kem.psk).unwrap();
    let message = noise.write(&[0; 40], Secret::new([9; 32])).unwrap();
    let sh = [&head[..], &kem.ct_e, &[0; CT], &message].concat();
    assert_eq!(failure(initiator.finish(&sh, &[])), HandshakeFailure::Forged);
}

#[test]
fn limits_of_our_own_messages() {
    let params = [0; MAX_PARAMS + 1];
    let mut body = Vec::new();
    let long = ClientHello {
        params: &params,
        ..hello(false)
    };
    let started = Initiator::start(&WORLD.bundle, HID, long, &mut rng(1), &mut body);
    assert_eq!(failure(started), HandshakeFailure::TooLong("parameters"));
    let (_, ch) = start(false, &mut rng(1));
    let cids = [[0; 9]; MAX_RELAY_CIDS + 1];
    let answers = [
        ServerAnswer {
            params: &params,
            ..answer(SUITES[0])
        },
        ServerAnswer {
            relay_cids: &cids,
            ..answer(SUITES[0])
        },
        ServerAnswer {
            relay_cids: &[],
            ..answer(SUITES[0])
        },
    ];
    for answer in answers {
        let accepted = responder()
            .read(HID, &ch, None, 0)
            .unwrap()
            .accept(answer, &mut rng(1), &mut body);
        assert!(matches!(failure(accepted), HandshakeFailure::TooLong(_)));
        assert!(body.is_empty());
    }
    let largest = ClientHello {
        params: &params[1..],
        ..hello(true)
    };
    Initiator::start(&WORLD.bundle, HID, largest, &mut rng(1), &mut body).unwrap();
    assert!(body.len() <= MAX_CLIENT_HELLO);
    responder().read(HID, &body, None, 0).unwrap();
}

/// Fails at one draw.
struct FailsAt(usize, SeededEntropy);

impl Entropy for FailsAt {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed> {
        match self.0.checked_sub(1) {
            Some(left) => self.0 = left,
            None => return Err(EntropyFailed),
        }
        self.1.fill(out)
    }
}

#[test]
fn without_entropy_nothing_leaves() {
    let (_, ch) = start(true, &mut rng(1));
    // Client: m, ek_e, the throw-away key, e. Relay: m for ct_e, m for ct_c, e.
    for draws in 0..4 {
        let mut body = vec![1];
        let mut failing = FailsAt(draws, rng(1));
        let started = Initiator::start(&WORLD.bundle, HID, hello(false), &mut failing, &mut body);
        assert_eq!(failure(started), HandshakeFailure::EntropyFailed);
        assert!(body.is_empty());
    }
    Initiator::start(
        &WORLD.bundle,
        HID,
        hello(false),
        &mut FailsAt(4, rng(1)),
        &mut Vec::new(),
    )
    .unwrap();
    for draws in 0..3 {
        let mut body = vec![1];
        let offered = responder().read(HID, &ch, None, 0).unwrap();
        let accepted = offered.accept(answer(SUITES[0]), &mut FailsAt(draws, rng(1)), &mut body);
        assert_eq!(failure(accepted), HandshakeFailure::EntropyFailed);
        assert!(body.is_empty());
    }
}

#[test]
fn arbitrary_messages_are_refused_quietly() {
    let responder = responder();
    let (mut initiator, _) = start(false, &mut rng(1));
    arbtest::arbtest(|u| {
        let bytes: Vec<u8> = u.arbitrary()?;
        assert!(responder.read(HID, &bytes, None, 0).is_err());
        assert!(initiator.finish(&bytes, &[]).is_err());
        for (mode, retry) in [(Mode::Full, false), (Mode::Resume, true)] {
            let _ = Payload1::parse(&bytes, mode);
            let _ = message::Payload2::parse(&bytes, retry);
        }
        Ok(())
    })
    .budget_ms(300);
}
