use std::{os::unix::fs::PermissionsExt, thread};

use super::*;

const RELAY: [u8; 32] = [7; 32];
const DAY: u32 = 86_400;

fn anonymous(name: &str) -> Tickets {
    let folder = std::env::temp_dir().join(format!("adit-tickets-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    Tickets::of(&State::at(folder), RelayId::from_bytes(RELAY), None)
}

/// As `ClientTicket::to_bytes` lays it out; `number` tells tickets apart.
fn bytes(relay: [u8; 32], number: u8, issued: u64, throw_away: u8) -> Vec<u8> {
    [
        &[1][..],
        &relay,
        &[number; 180],
        &[9; 32],
        &issued.to_be_bytes(),
        &DAY.to_be_bytes(),
        &[0; 8],
        &[5; 32],
        &[1, u8::from(throw_away > 0)],
        &[throw_away; 32],
        &[0, 0],
    ]
    .concat()
}

fn ticket(number: u8) -> ClientTicket {
    ClientTicket::from_bytes(&bytes(RELAY, number, unix_now(), 3)).unwrap()
}

fn taken(tickets: &Tickets) -> Vec<u8> {
    std::iter::from_fn(|| tickets.take())
        .map(|ticket| ticket.ticket[0])
        .collect()
}

#[test]
fn the_newest_four_are_kept_and_each_is_taken_once() {
    let tickets = anonymous("four");
    assert!(tickets.take().is_none(), "no file, and none is made");
    assert!(!tickets.path.parent().unwrap().exists());
    (1..=6).for_each(|number| tickets.put(ticket(number)));
    let mode = fs::metadata(&tickets.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = tickets.take().unwrap();
    assert_eq!(first.ticket[0], 6);
    // Gone from the file before it is used.
    let left = parse(&fs::read(&tickets.path).unwrap()).unwrap();
    assert_eq!(
        left.iter().map(|one| one.ticket[0]).collect::<Vec<_>>(),
        [3, 4, 5]
    );
    assert_eq!(taken(&tickets), [5, 4, 3]);
    assert!(!tickets.path.exists());
}

#[test]
fn several_at_once_never_take_the_same() {
    let tickets = anonymous("race");
    (1..=4).for_each(|number| tickets.put(ticket(number)));
    let mut all: Vec<u8> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&tickets))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4]);
}

#[test]
fn what_is_expired_or_of_somebody_else_is_dropped() {
    let tickets = anonymous("others");
    let one = |bytes: &[u8]| ClientTicket::from_bytes(bytes).unwrap();
    let now = unix_now();
    tickets.put(one(&bytes([8; 32], 1, now, 3)));
    tickets.put(one(&bytes(RELAY, 2, now - u64::from(DAY), 3)));
    tickets.put(one(&bytes(RELAY, 3, now, 0)));
    assert!(taken(&tickets).is_empty());
    // The enrolled one is good for whom it was made.
    let client = ClientId::from_bytes([5; 32]);
    let enrolled = Tickets::of(&tickets.state, RelayId::from_bytes(RELAY), Some(client));
    enrolled.put(one(&bytes(RELAY, 3, now, 0)));
    enrolled.put(ticket(4));
    assert_eq!(taken(&enrolled), [3]);
}

#[test]
fn a_damaged_file_is_dropped_and_replaced() {
    let tickets = anonymous("damaged");
    tickets.put(ticket(1));
    let good = fs::read(&tickets.path).unwrap();
    let too_long = vec![0; MAX_BYTES as usize + 1];
    let many = [&HEAD[..], &good[HEAD.len()..].repeat(MAX_TICKETS + 1)].concat();
    for bad in [
        &b""[..],
        b"ADTK\x02",
        &good[..good.len() - 1],
        &[&good[..], &[0]].concat(),
        &many,
        &too_long,
    ] {
        fs::write(&tickets.path, bad).unwrap();
        assert!(tickets.take().is_none());
        fs::write(&tickets.path, bad).unwrap();
        tickets.put(ticket(2));
        assert_eq!(taken(&tickets), [2]);
    }
}
