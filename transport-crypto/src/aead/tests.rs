use super::*;
use crate::provider;

const SUITES: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];
const HEADER: &[u8] = b"connection id, flags, number";

fn pair(suite: Suite) -> (SealKeys, OpenKeys) {
    let secret = || Secret::new([0x42; 32]);
    (
        SealKeys::new(provider::DEFAULT, suite, secret()),
        OpenKeys::new(provider::DEFAULT, suite, secret()),
    )
}

fn at(lane: u32, number: u64) -> Counter {
    Counter { lane, number }
}

fn seal(keys: &mut SealKeys, at: Counter, text: &[u8]) -> Vec<u8> {
    let mut packet = text.to_vec();
    let tag = keys.seal(at, HEADER, &mut packet).unwrap();
    packet.extend_from_slice(&tag);
    packet
}

fn open(keys: &mut OpenKeys, which: Generation, at: Counter, packet: &[u8]) -> Result<Vec<u8>, Forged> {
    let mut packet = packet.to_vec();
    let len = keys.open(which, at, HEADER, &mut packet)?;
    packet.truncate(len);
    Ok(packet)
}

#[test]
fn round_trip_of_every_length() {
    for suite in SUITES {
        let (mut sealer, mut opener) = pair(suite);
        for len in (0..70).chain([1200, 1452]) {
            let text: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let packet = seal(&mut sealer, at(3, len), &text);
            assert_eq!(packet.len(), text.len() + 16);
            assert_eq!(
                open(&mut opener, Generation::Current, at(3, len), &packet),
                Ok(text)
            );
        }
        assert_eq!((sealer.sealed(), opener.failed()), (72, 0));
    }
}

#[test]
fn any_bit_of_packet_header_or_counter_matters() {
    for suite in SUITES {
        let (mut sealer, mut opener) = pair(suite);
        let packet = seal(&mut sealer, at(1, 7), b"frames");
        for bit in 0..8 * packet.len() {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(&mut opener, Generation::Current, at(1, 7), &bad),
                Err(Forged)
            );
        }
        for bad in [at(0, 7), at(1, 6), at(1, 7 | 1 << 40)] {
            assert_eq!(open(&mut opener, Generation::Current, bad, &packet), Err(Forged));
        }
        let mut copy = packet.clone();
        assert_eq!(
            opener.open(Generation::Current, at(1, 7), &HEADER[1..], &mut copy),
            Err(Forged)
        );
        for len in 0..packet.len() {
            assert_eq!(
                open(&mut opener, Generation::Current, at(1, 7), &packet[..len]),
                Err(Forged)
            );
        }
        assert_eq!(opener.failed(), (8 * packet.len() + 4 + packet.len()) as u64);
        assert_eq!(
            open(&mut opener, Generation::Current, at(1, 7), &packet).unwrap(),
            b"frames"
        );
    }
}

#[test]
fn a_counter_serves_once_and_only_upwards() {
    let (mut keys, _) = pair(Suite::ChaCha20Poly1305);
    seal(&mut keys, at(0, 5), b"");
    for number in [5, 4, 0] {
        let mut body = *b"plaintext";
        assert_eq!(
            keys.seal(at(0, number), HEADER, &mut body),
            Err(KeyExhausted::CounterReused)
        );
        assert_eq!(
            &body, b"plaintext",
            "nothing is encrypted under a refused counter"
        );
    }
    seal(&mut keys, at(1, 5), b"");
    seal(&mut keys, at(0, 6), b"");
    assert_eq!(
        keys.seal(at(1, 5), HEADER, &mut []),
        Err(KeyExhausted::CounterReused)
    );
    keys.update();
    assert_eq!(
        keys.seal(at(0, 6), HEADER, &mut []),
        Err(KeyExhausted::CounterReused)
    );
    assert_eq!(
        keys.seal(at(0, 1 << 62), HEADER, &mut []),
        Err(KeyExhausted::NumberLimit)
    );
    seal(&mut keys, at(0, (1 << 62) - 1), b"");
}

#[test]
fn lanes_are_bounded() {
    let (mut keys, _) = pair(Suite::ChaCha20Poly1305);
    for lane in 0..MAX_LANES as u32 {
        keys.seal(at(lane, 0), HEADER, &mut []).unwrap();
    }
    assert_eq!(
        keys.seal(at(u32::MAX, 0), HEADER, &mut []),
        Err(KeyExhausted::TooManyLanes)
    );
    assert_eq!(
        keys.seal(at(7, 0), HEADER, &mut []),
        Err(KeyExhausted::CounterReused)
    );
    keys.seal(at(7, 1), HEADER, &mut []).unwrap();
}

#[test]
fn lane_and_number_fill_different_nonce_bytes() {
    let iv = Secret::new([0x5a; 12]);
    let nonce = at(0x0102_0304, 0x1112_1314_1516_1718).nonce(&iv);
    let plain: Vec<u8> = nonce.iter().map(|byte| byte ^ 0x5a).collect();
    assert_eq!(
        plain,
        [1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]
    );
}

#[test]
fn budgets_follow_the_suite() {
    for (suite, due) in [(Suite::ChaCha20Poly1305, 1 << 24), (Suite::Aes256Gcm, 1 << 22)] {
        let (mut keys, _) = pair(suite);
        keys.sealed = due - 1;
        assert!(!keys.update_due());
        seal(&mut keys, at(0, 0), b"");
        assert!(keys.update_due());
        keys.update();
        assert!(!keys.update_due());
    }
    let (mut keys, _) = pair(Suite::Aes256Gcm);
    keys.sealed = (1 << 23) - 1;
    seal(&mut keys, at(0, 0), b"");
    assert_eq!(
        keys.seal(at(0, 1), HEADER, &mut []),
        Err(KeyExhausted::PacketLimit)
    );
    keys.update();
    seal(&mut keys, at(0, 1), b"");
}

#[test]
fn update_keeps_the_previous_generation_until_dropped() {
    for suite in SUITES {
        let (mut sealer, mut opener) = pair(suite);
        let old = seal(&mut sealer, at(0, 0), b"old");
        sealer.update();
        assert_eq!((sealer.phase(), sealer.sealed()), (true, 0));
        let new = seal(&mut sealer, at(0, 1), b"new");

        assert_eq!(
            open(&mut opener, Generation::Current, at(0, 1), &new),
            Err(Forged)
        );
        assert_eq!(
            open(&mut opener, Generation::Previous, at(0, 0), &old),
            Err(Forged)
        );
        assert_eq!(
            open(&mut opener, Generation::Next, at(0, 1), &new).unwrap(),
            b"new"
        );
        assert!(!opener.phase() && !opener.has_previous());

        opener.update();
        assert!(opener.phase() && opener.has_previous());
        assert_eq!(
            open(&mut opener, Generation::Current, at(0, 1), &new).unwrap(),
            b"new"
        );
        assert_eq!(
            open(&mut opener, Generation::Previous, at(0, 0), &old).unwrap(),
            b"old"
        );
        opener.drop_previous();
        assert_eq!(
            open(&mut opener, Generation::Previous, at(0, 0), &old),
            Err(Forged)
        );
    }
}

#[test]
fn a_long_chain_of_updates_stays_in_step() {
    let (mut sealer, mut opener) = pair(Suite::Aes256Gcm);
    let mut seen = Vec::new();
    for number in 0..20 {
        let packet = seal(&mut sealer, at(0, number), b"same text");
        assert_eq!(
            open(&mut opener, Generation::Current, at(0, number), &packet).unwrap(),
            b"same text"
        );
        assert!(!seen.contains(&packet));
        seen.push(packet);
        sealer.update();
        opener.update();
        assert_eq!(sealer.phase(), opener.phase());
    }
}

#[test]
fn masks_fit_on_both_sides_and_survive_updates() {
    for suite in SUITES {
        let (mut sealer, opener) = pair(suite);
        let samples: Vec<Sample> = (0..40u8).map(|i| [i; 16]).collect();
        let (mut ours, mut theirs) = (vec![[0; 5]; 40], vec![[0; 5]; 40]);
        sealer.masks(&samples, &mut ours);
        sealer.update();
        opener.masks(&samples, &mut theirs);
        assert_eq!(ours, theirs);
        sealer.masks(&samples, &mut theirs);
        assert_eq!(ours, theirs);
        assert!((1..40).all(|i| ours[i] != ours[0]));
    }
}
