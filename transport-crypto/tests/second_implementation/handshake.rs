//! Full handshakes.

use transport_crypto::{HandshakeFailure, Secret, provider};

use crate::{
    first::{Case, NOW_S, WORLD, assert_same},
    witness::{
        Draws,
        peer::{self, Client},
    },
};

/// Our relay, as far as it reads.
fn read(hid: [u8; 8], ch: &[u8]) -> Result<(), HandshakeFailure> {
    WORLD.responder.read(hid, ch, None, NOW_S).map(|_| ())
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
        assert!(first == second, "CH");
        assert!(case.first_relay(&first).1 == case.second_relay(&first).1, "SH");
    }
}

#[test]
fn our_client_and_the_second_relay_agree() {
    for case in cases() {
        let (mut initiator, ch) = case.first_client();
        let (relay, sh) = case.second_relay(&ch);
        let mut client = case.first_finish(&mut initiator, &sh);
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
        let offered = case.first_offered(&ch);
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
        assert_same(&mut case.first_finish(&mut initiator, &sh).session, &relay, true);
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
        assert!(read(case.hello.hid, &bad).is_err(), "first, {at}");
        assert!(
            WORLD.relay.read(&case.hello.hid, &bad, [1; 32]).is_err(),
            "second, {at}"
        );
    }
    let other = [case.hello.hid[0] ^ 1; 8];
    assert!(read(other, &ch).is_err());
    assert!(WORLD.relay.read(&other, &ch, [1; 32]).is_err());
}

#[test]
fn a_damaged_answer_parts_the_two() {
    for case in cases() {
        let ((mut first, ch), (second, _)) = (case.first_client(), case.second_client());
        let (_, sh) = case.first_relay(&ch);
        let mut bad = sh.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(first.finish(&bad, &[]).err(), Some(HandshakeFailure::Forged));
        assert!(second.finish(&bad).is_err());
        // Ours still takes the true one; the witness was consumed, as its library would have it.
        assert!(first.finish(&sh, &[]).is_ok());
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
        read(case.hello.hid, &ch).err(),
        Some(HandshakeFailure::LowOrderPoint)
    );
}

/// The two ML-KEM libraries, key generation to implicit rejection, on arbitrary seeds.
#[test]
fn the_second_ml_kem_agrees() {
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
