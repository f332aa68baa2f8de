//! The handshake against a second one (`witness/`), in both roles: same bytes, same transcript, same keys.
//!
//! Where the two libraries of Noise differ, and what follows:
//!
//! * `clatter` takes an all-zero Diffie-Hellman result; we refuse it (`low_order_points_part_the_two`).
//! * After a message that does not open, `clatter`'s state is dead; ours is as before and may read the true message
//!   (`a_damaged_answer_parts_the_two`).
//! * `clatter` takes pre-shared keys in the order they are used, snow by their place; both may arrive late.

mod witness;

use std::sync::LazyLock;

use transport_crypto::{
    Auth, Bundle, BundleDraft, ClientHello, ClientIdentity, Counter, Generation, HandshakeFailure, Initiator,
    RelayIdentity, RelayStatics, Responder, ServerAnswer, Session, Suite,
};
use witness::{
    Draws,
    kdf::updated,
    packet,
    peer::{self, Answer, Client, Established, Hello, Identity, Read, Relay},
};

const STATICS: [u8; 96] = [0x22; 96];
const CLIENT: [u8; 96] = [0x33; 96];
const EPOCH: u64 = 7;

struct World {
    /// The first implementation's view.
    bundle: Bundle,
    responder: Responder,
    client: ClientIdentity,
    /// The second one's.
    relay: Relay,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let relay = RelayIdentity::from_seeds([0x11; 64]);
    let statics = RelayStatics::from_seeds(STATICS);
    let draft = BundleDraft {
        epoch: EPOCH,
        not_before: 0,
        not_after: 1,
        endpoints: Vec::new(),
    };
    let bundle = Bundle::parse(&relay.sign_bundle(&draft, &statics).unwrap()).unwrap();
    World {
        responder: Responder::new(statics, relay.relay_id(), EPOCH),
        client: ClientIdentity::from_seeds(CLIENT),
        relay: Relay {
            identity: Identity::from_seeds(&STATICS),
            bundle: witness::Bundle::read(bundle.bytes()),
        },
        bundle,
    }
});

/// One exchange: what is said, and from which seeds.
#[derive(Clone)]
struct Case {
    hello: Hello,
    answer: Answer,
    client: [u8; 32],
    relay: [u8; 32],
}

impl Case {
    fn new(enrolled: bool, aes: bool, seed: u8) -> Self {
        Self {
            hello: Hello {
                hid: [seed; 8],
                flags: 1,
                time_ms: 1_800_000_123_456,
                scid: *b"client id",
                params: b"client params".to_vec(),
                identity: enrolled.then(|| Identity::from_seeds(&CLIENT)),
            },
            answer: Answer {
                aes,
                server_time_ms: 1_800_000_123_999,
                cids: vec![*b"relay id0", *b"relay id1"],
                params: b"relay params".to_vec(),
            },
            client: [seed; 32],
            relay: [seed ^ 0xff; 32],
        }
    }

    fn suite(&self) -> Suite {
        if self.answer.aes {
            Suite::Aes256Gcm
        } else {
            Suite::ChaCha20Poly1305
        }
    }

    fn first_client(&self) -> (Initiator, Vec<u8>) {
        let hello = ClientHello {
            has_aes: self.hello.flags & 1 != 0,
            time_ms: self.hello.time_ms,
            scid: self.hello.scid,
            auth: if self.hello.identity.is_some() {
                Auth::Enrolled(&WORLD.client)
            } else {
                Auth::Anonymous
            },
            params: &self.hello.params,
        };
        let (mut rng, mut ch) = (transport_crypto::SeededEntropy::new(self.client), Vec::new());
        let initiator = Initiator::start(&WORLD.bundle, self.hello.hid, hello, &mut rng, &mut ch).unwrap();
        (initiator, ch)
    }

    fn first_relay(&self, ch: &[u8]) -> (Session, Vec<u8>) {
        let answer = ServerAnswer {
            suite: self.suite(),
            relay_cids: &self.answer.cids,
            params: &self.answer.params,
            server_time_ms: self.answer.server_time_ms,
        };
        let (mut rng, mut sh) = (transport_crypto::SeededEntropy::new(self.relay), Vec::new());
        let offered = WORLD.responder.read(self.hello.hid, ch).unwrap();
        (offered.accept(answer, &mut rng, &mut sh).unwrap(), sh)
    }

    fn second_client(&self) -> (Client, Vec<u8>) {
        Client::start(&WORLD.relay.bundle, &self.hello, &mut Draws::new(self.client)).unwrap()
    }

    /// The relay draws `m` of `ct_e`, that of `ct_c` if there is one, then its ephemeral key.
    fn second_relay(&self, ch: &[u8]) -> (Established, Vec<u8>) {
        let mut draws = Draws::new(self.relay);
        let m_e = draws.take();
        let m_c = self.hello.identity.as_ref().map_or([0; 32], |_| draws.take());
        let read: Read = WORLD.relay.read(&self.hello.hid, ch, draws.take()).unwrap();
        read.answer(&self.answer, [m_e, m_c]).unwrap()
    }
}

/// Transcript, exporter, packets of three generations and masks, seen from the side the first implementation plays.
fn assert_same(first: &mut Session, second: &Established, first_is_client: bool) {
    assert_eq!(first.transcript, second.h);
    assert_eq!(first.suite == Suite::Aes256Gcm, second.aes);
    let mut exported = [0; 32];
    first.exporter.export(b"label", &mut exported);
    assert_eq!(exported, second.secrets.export(b"label"));

    let secrets = [&second.secrets.client, &second.secrets.server];
    let [ours, theirs] = if first_is_client {
        secrets
    } else {
        [secrets[1], secrets[0]]
    };
    for generation in 0..3 {
        let number = 5 + generation as u64;
        let mut body = *b"application data";
        let at = Counter { lane: 2, number };
        let tag = first.seal.seal(at, b"header", &mut body).unwrap();
        let ap = updated(ours, generation);
        let expected = packet::seal(&ap, second.aes, 2, number, b"header", b"application data");
        assert_eq!([&body[..], &tag].concat(), expected);
        let mut mask = [[0; 5]];
        first.seal.masks(&[tag], &mut mask);
        assert_eq!(mask[0], packet::mask(ours, second.aes, tag));

        let ap = updated(theirs, generation);
        let mut packet = packet::seal(&ap, second.aes, 1, number, b"", b"an answer");
        let sample = *packet.last_chunk().unwrap();
        let at = Counter { lane: 1, number };
        let len = first
            .open
            .open(Generation::Current, at, b"", &mut packet)
            .unwrap();
        assert_eq!(&packet[..len], b"an answer");
        first.open.masks(&[sample], &mut mask);
        assert_eq!(mask[0], packet::mask(theirs, second.aes, sample));
        first.seal.update();
        first.open.update();
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let modes = [(false, false), (false, true), (true, false), (true, true)];
    modes
        .into_iter()
        .zip(1..)
        .map(|((enrolled, aes), seed)| Case::new(enrolled, aes, seed))
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    for case in cases() {
        let ((_, first), (_, second)) = (case.first_client(), case.second_client());
        assert_eq!(first, second, "CH");
        assert_eq!(case.first_relay(&first).1, case.second_relay(&first).1, "SH");
    }
}

#[test]
fn our_client_and_the_second_relay_agree() {
    for case in cases() {
        let (mut initiator, ch) = case.first_client();
        let (relay, sh) = case.second_relay(&ch);
        let mut client = initiator.finish(&sh).unwrap();
        assert_eq!(client.relay_cids, case.answer.cids);
        assert_eq!(client.params, case.answer.params);
        assert_eq!(client.server_time_ms, case.answer.server_time_ms);
        assert_same(&mut client.session, &relay, true);
    }
}

#[test]
fn the_second_client_and_our_relay_agree() {
    for case in cases() {
        let (client, ch) = case.second_client();
        let offered = WORLD.responder.read(case.hello.hid, &ch).unwrap();
        let enrolled = case.hello.identity.is_some();
        assert_eq!(offered.enrolled(), enrolled);
        assert_eq!(offered.client_id() == WORLD.client.client_id(), enrolled);
        assert_eq!(offered.time_ms(), case.hello.time_ms);
        assert_eq!(offered.params(), case.hello.params);
        let (mut relay, sh) = case.first_relay(&ch);
        let client = client.finish(&sh).unwrap();
        assert_same(&mut relay, &client, false);
    }
}

/// Any seeds, lengths, times and modes.
#[test]
fn arbitrary_exchanges_agree_in_both_roles() {
    arbtest::arbtest(|u| {
        let mut case = Case::new(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        (case.client, case.relay) = u.arbitrary()?;
        (case.hello.hid, case.hello.time_ms, case.hello.scid) = u.arbitrary()?;
        case.hello.params = vec![u.arbitrary()?; u.int_in_range(0..=512)?];
        case.answer.params = vec![u.arbitrary()?; u.int_in_range(0..=512)?];
        case.answer.cids = vec![u.arbitrary()?; u.int_in_range(1..=8)?];
        case.answer.server_time_ms = u.arbitrary()?;

        let (mut initiator, ch) = case.first_client();
        let (relay, sh) = case.second_relay(&ch);
        assert_same(&mut initiator.finish(&sh).unwrap().session, &relay, true);
        let (client, ch) = case.second_client();
        let (mut relay, sh) = case.first_relay(&ch);
        assert_same(&mut relay, &client.finish(&sh).unwrap(), false);
        Ok(())
    })
    .budget_ms(1500);
}

/// Nothing of a client's message can change without both relays noticing.
#[test]
fn both_relays_refuse_the_same_messages() {
    let case = Case::new(true, false, 9);
    let (_, ch) = case.first_client();
    // Past the head, which the first refuses by its layout and the second binds into the prologue.
    for at in (0..ch.len()).step_by(61).chain([0, 1, 3, 11, 12, 1099, 1100]) {
        let mut bad = ch.clone();
        bad[at] ^= 0x10;
        assert!(WORLD.responder.read(case.hello.hid, &bad).is_err(), "first, {at}");
        assert!(
            WORLD.relay.read(&case.hello.hid, &bad, [1; 32]).is_err(),
            "second, {at}"
        );
    }
    let other = [case.hello.hid[0] ^ 1; 8];
    assert!(WORLD.responder.read(other, &ch).is_err());
    assert!(WORLD.relay.read(&other, &ch, [1; 32]).is_err());
}

#[test]
fn a_damaged_answer_parts_the_two() {
    for case in cases() {
        let ((mut first, ch), (second, _)) = (case.first_client(), case.second_client());
        let (_, sh) = case.first_relay(&ch);
        let mut bad = sh.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(first.finish(&bad).err(), Some(HandshakeFailure::Forged));
        assert!(second.finish(&bad).is_err());
        // Ours still takes the true one; the witness was consumed, as its library would have it.
        assert!(first.finish(&sh).is_ok());
    }
}

#[test]
fn low_order_points_part_the_two() {
    // A relay whose X25519 key is the neutral element: every Diffie-Hellman with it gives zeros.
    let mut bundle = WORLD.relay.bundle.clone();
    bundle.x25519 = [0; 32];
    let case = Case::new(false, false, 3);
    assert!(Client::start(&bundle, &case.hello, &mut Draws::new(case.client)).is_ok());

    let (_, mut ch) = case.first_client();
    ch[1100..1132].fill(0);
    assert_eq!(
        WORLD.responder.read(case.hello.hid, &ch).err(),
        Some(HandshakeFailure::LowOrderPoint)
    );
}

/// The two ML-KEM libraries, key generation to implicit rejection, on arbitrary seeds.
#[test]
fn the_second_ml_kem_agrees() {
    use transport_crypto::{Secret, provider};
    arbtest::arbtest(|u| {
        let (seed, m, flip): ([u8; 64], [u8; 32], u16) = u.arbitrary()?;
        let pair = provider::DEFAULT.kem_key_pair(&Secret::new(seed));
        assert_eq!(*pair.public(), peer::kem::public(&seed));
        let (mut ciphertext, shared) = provider::DEFAULT
            .kem_encapsulate(pair.public(), &Secret::new(m))
            .unwrap();
        assert_eq!(
            (ciphertext, *shared.expose()),
            peer::kem::encapsulate(pair.public(), &m).unwrap()
        );
        assert!(pair.decapsulate(&ciphertext) == shared);
        ciphertext[usize::from(flip) % 1088] ^= 1 << (flip >> 13);
        let rejected = pair.decapsulate(&ciphertext);
        assert!(rejected != shared);
        assert_eq!(*rejected.expose(), peer::kem::decapsulate(&seed, &ciphertext));
        Ok(())
    })
    .budget_ms(500);
}
