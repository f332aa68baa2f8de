//! Connection ids, path by path.

use super::*;

fn cid(name: u8) -> ConnectionId {
    ConnectionId([name; 9])
}

fn new(sequence: u64, retire_prior_to: u64) -> PathNewConnectionId {
    PathNewConnectionId {
        path: 0,
        sequence,
        retire_prior_to,
        cid: cid(100 + sequence as u8),
    }
}

#[test]
fn as_many_as_the_peer_keeps_and_no_more() {
    let mut random = Random::new([1; 32]);
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 1 << 40);
    ids.issue(&mut random);
    assert_eq!(ids.issued().count() as u64, MAX_ISSUED);
    let added = std::iter::from_fn(|| ids.take_change()).count();
    assert_eq!(added, 7);
    let mut announced = 0;
    while ids.next_announcement().is_some() {
        ids.announced(0);
        announced += 1;
    }
    assert_eq!(announced, 7);
    ids.on_retire(PathRetireConnectionId { path: 0, sequence: 0 }, &mut random)
        .unwrap();
    assert_eq!(ids.take_change(), Some(Change::Remove(cid(1))));
    assert!(matches!(ids.take_change(), Some(Change::Add(_))));
    assert_eq!(ids.next_announcement().unwrap().sequence, 8);
    for sequence in [8, 9] {
        let unannounced = PathRetireConnectionId { path: 0, sequence };
        assert_eq!(
            ids.on_retire(unannounced, &mut random).unwrap_err().code,
            code::PROTOCOL_VIOLATION,
            "{sequence} was not announced"
        );
    }
}

#[test]
fn announcements_that_wait_are_no_more_than_ids() {
    let mut random = Random::new([1; 32]);
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 4);
    ids.issue(&mut random);
    for sequence in 0..1000 {
        while ids.next_announcement().is_some() {
            ids.announced(0);
        }
        let retire = PathRetireConnectionId { path: 0, sequence };
        ids.on_retire(retire, &mut random).unwrap();
        // Lost packets of before ask for announcements again.
        (0..=sequence + 3).for_each(|old| ids.announce_again(0, old));
        assert!(ids.issued().count() <= 4, "{:?}", ids.issued);
        while ids.take_change().is_some() {}
    }
}

#[test]
fn the_peer_replaces_its_ids() {
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
    ids.on_new(new(1, 0)).unwrap();
    ids.on_new(new(1, 0)).unwrap();
    assert_eq!(ids.current(0), Some(cid(9)));
    ids.on_new(new(2, 1)).unwrap();
    assert_eq!(ids.current(0), Some(cid(101)));
    assert_eq!(ids.next_retirement().unwrap().sequence, 0);
    ids.retired(0);
    ids.retire_again(0, 0);
    assert_eq!(ids.next_retirement().unwrap().sequence, 0);
    ids.retired(0);
    ids.retirement_acked(0, 0);
    ids.retire_again(0, 0);
    assert_eq!(ids.next_retirement(), None);
}

#[test]
fn floods_and_contradictions_end_the_connection() {
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
    for sequence in 1..4 {
        ids.on_new(new(sequence, 0)).unwrap();
    }
    assert_eq!(
        ids.on_new(new(4, 0)).unwrap_err().code,
        code::CONNECTION_ID_LIMIT_ERROR
    );
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
    let flood = (1..40)
        .map(|sequence| ids.on_new(new(sequence, sequence)))
        .position(|result| result.is_err());
    assert_eq!(
        flood,
        Some(MAX_RETIRING),
        "retirements that are not acknowledged are bounded"
    );
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
    let other = PathNewConnectionId {
        cid: cid(3),
        ..new(0, 0)
    };
    assert_eq!(ids.on_new(other).unwrap_err().code, code::PROTOCOL_VIOLATION);
}

#[test]
fn every_path_that_may_be_used_has_an_id_and_one_that_is_over_has_none() {
    let mut random = Random::new([1; 32]);
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
    ids.set_paths(&[0, 1, 2, 3], 3);
    ids.issue(&mut random);
    let mut told = Vec::new();
    while let Some(new) = ids.next_announcement() {
        ids.announced(new.path);
        told.push((new.path, new.sequence));
        assert_eq!(ids.path_of(new.cid), Some(new.path));
    }
    assert_eq!(told, [(0, 1), (1, 0), (2, 0), (3, 0)]);
    ids.set_used(2, &mut random);
    let spare = ids.next_announcement().unwrap();
    assert_eq!((spare.path, spare.sequence), (2, 1));
    ids.set_paths(&[0, 1, 3, 4], 3);
    ids.issue(&mut random);
    assert_eq!(ids.next_announcement(), None, "the peer does not take path 4 yet");
    ids.set_paths(&[0, 1, 3, 4], 4);
    ids.issue(&mut random);
    assert_eq!(ids.path_of(spare.cid), None);
    let removed =
        std::iter::from_fn(|| ids.take_change()).filter(|change| matches!(change, Change::Remove(_)));
    assert_eq!(removed.count(), 2);
    assert_eq!(ids.next_announcement().unwrap().path, 4);
}

#[test]
fn an_id_of_one_path_is_none_of_another() {
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
    ids.set_paths(&[0, 1], 1);
    let other = PathNewConnectionId {
        path: 1,
        cid: cid(9),
        ..new(0, 0)
    };
    assert_eq!(ids.on_new(other).unwrap_err().code, code::PROTOCOL_VIOLATION);
    let unknown = PathNewConnectionId { path: 7, ..new(0, 0) };
    assert_eq!(ids.on_new(unknown).unwrap_err().code, code::PROTOCOL_VIOLATION);
}

#[test]
fn a_path_changes_its_id_while_it_has_another() {
    let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
    assert!(!ids.rotate(0));
    ids.on_new(new(1, 0)).unwrap();
    assert_eq!(ids.fresh(0), Some(cid(101)));
    assert!(ids.rotate(0) && !ids.rotate(0));
    assert_eq!(ids.current(0), Some(cid(101)));
    assert_eq!(ids.next_retirement().unwrap().sequence, 0);
}
