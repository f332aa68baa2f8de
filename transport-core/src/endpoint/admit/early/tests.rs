use transport_crypto::EnvelopeType;

use super::*;

fn header(hid: u64, len: usize) -> EnvelopeHeader {
    EnvelopeHeader {
        kind: EnvelopeType::Early,
        hid: hid.to_be_bytes(),
        unix_minutes: 0,
        index: 0,
        count: 1,
        total_len: len as u16,
        fragment_offset: 0,
        fragment_len: len as u16,
        token: None,
    }
}

fn key(hid: u64) -> Key {
    (hid.to_be_bytes(), ([10, 0, 0, 1], 1).into())
}

fn add(lanes: &mut Lanes, now: Instant, hid: u64, len: usize) -> Result<bool, DropReason> {
    let result = lanes.add(now, key(hid), &header(hid, len), &vec![1; len], 1232);
    result.map(|visit| visit.is_some())
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin; nothing depends on it"
)]
fn what_waits_for_a_hello_is_bounded() {
    let now = Instant::now();
    let mut lanes = Lanes::default();
    let kept = (0..40)
        .filter(|_| add(&mut lanes, now, 1, 1150) == Ok(false))
        .count();
    assert_eq!(kept, MAX_OF_ONE / 1150);
    assert_eq!(add(&mut lanes, now, 1, 1150), Err(DropReason::EarlyBuffer));
    assert_eq!(
        add(&mut lanes, now, 1, 20),
        Err(DropReason::FragmentMismatch),
        "nothing but overhead"
    );
    // All together: newcomers take the oldest place.
    for hid in 2..5000 {
        for _ in 0..14 {
            assert_eq!(add(&mut lanes, now, hid, 1150), Ok(false), "{hid}");
        }
        assert!(lanes.bytes <= MAX_BYTES && lanes.lanes.len() <= MAX_LANES);
    }
    assert!(lanes.memory() < 2 << 20, "{}", lanes.memory());
    assert_eq!(lanes.refuse(now, key(4999)), 14);
    assert_eq!(add(&mut lanes, now, 4999, 1150), Err(DropReason::EarlyRejected));
    assert_eq!(
        lanes.refuse(now, key(1)),
        0,
        "it is gone, and remembered as refused"
    );
    // Tiny ones cost as much as their place.
    let mut lanes = Lanes::default();
    let kept = (0..1000)
        .filter(|_| add(&mut lanes, now, 1, 21) == Ok(false))
        .count();
    assert_eq!(kept, MAX_OF_ONE / COST);
    for hid in 0..5000 {
        assert_eq!(add(&mut lanes, now, hid + 2, 21), Ok(false));
        assert!(lanes.lanes.len() <= MAX_LANES && lanes.by_age.len() <= MAX_LANES);
    }
    lanes.expire(now + LIFETIME);
    assert_eq!((lanes.lanes.len(), lanes.by_age.len(), lanes.bytes), (0, 0, 0));
}
