use super::*;
use crate::{MAX_PARAMS, SeededEntropy, Suite};

fn rng(seed: u8) -> SeededEntropy {
    SeededEntropy::new([seed; 32])
}

fn relay(byte: u8) -> RelayId {
    RelayId::from_bytes([byte; 32])
}

fn content(flags: TicketFlags) -> TicketContent {
    TicketContent {
        flags,
        policy: 0x0102,
        issued_s: 1_800_000_000,
        lifetime_s: 3600,
        replay_domain: 0x0304_0506,
        rms: Secret::new([7; 32]),
        client_id: ClientId::from_bytes([8; 32]),
        params_digest: [9; 16],
        max_early: 0x0a0b_0c0d,
        rtt_us: 0x0e0f_1011,
        bdp: 0x1213_1415_1617_1819,
        serial: 0x1a1b_1c1d_1e1f_2021,
        static_tag: [0x22; 16],
    }
}

fn fields(content: &TicketContent) -> impl PartialEq + std::fmt::Debug {
    let numbers = [
        u64::from(content.policy),
        content.issued_s.into(),
        content.lifetime_s.into(),
        content.replay_domain.into(),
        content.max_early.into(),
        content.rtt_us.into(),
        content.bdp,
        content.serial,
    ];
    let ids = (content.client_id, content.params_digest, content.static_tag);
    (content.flags, numbers, ids, *content.rms.expose())
}

#[test]
fn what_was_sealed_comes_back() {
    let keys = TicketKeys::generate(relay(1), &mut rng(1)).unwrap();
    for (early_ok, enrolled) in [(false, false), (true, false), (false, true), (true, true)] {
        let sealed = content(TicketFlags { early_ok, enrolled });
        let ticket = keys.seal(&sealed, &mut rng(2)).unwrap();
        assert_eq!(fields(&keys.open(&ticket).unwrap()), fields(&sealed));
    }
}

#[test]
fn every_bit_of_a_ticket_matters_and_so_does_the_relay() {
    let keys = TicketKeys::from_secret(relay(1), 3, &Secret::new([1; 32]));
    let ticket = keys.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    for bit in 0..8 * TICKET_LEN {
        let mut bad = ticket;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(keys.open(&bad).err(), Some(Forged), "{bit}");
    }
    let twin = TicketKeys::from_secret(relay(2), 3, &Secret::new([1; 32]));
    assert_eq!(twin.open(&ticket).err(), Some(Forged));
    assert!(keys.open(&ticket).is_ok());
}

#[test]
fn two_tickets_of_one_content_have_nothing_in_common_but_the_key_s_id() {
    let keys = TicketKeys::generate(relay(1), &mut rng(1)).unwrap();
    let mut rng = rng(2);
    let [a, b] = [(); 2].map(|()| keys.seal(&content(TicketFlags::default()), &mut rng).unwrap());
    assert_eq!(a[..4], b[..4]);
    let equal = a[4..].iter().zip(&b[4..]).filter(|(a, b)| a == b).count();
    assert!(equal < 8, "{equal}");
}

#[test]
fn the_previous_key_opens_and_the_one_before_is_gone() {
    let mut keys = TicketKeys::generate(relay(1), &mut rng(1)).unwrap();
    let first = keys.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    keys.rotate(&mut rng(3)).unwrap();
    let second = keys.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    assert_ne!(first[..4], second[..4]);
    assert!(keys.open(&first).is_ok() && keys.open(&second).is_ok());
    keys.rotate(&mut rng(4)).unwrap();
    assert_eq!(keys.open(&first).err(), Some(Forged));
    assert!(keys.open(&second).is_ok());
}

#[test]
fn rotation_never_gives_two_keys_one_id() {
    // The same stream draws the same id again.
    let mut keys = TicketKeys::generate(relay(1), &mut rng(1)).unwrap();
    let first = keys.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    keys.rotate(&mut rng(1)).unwrap();
    let second = keys.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    assert_ne!(first[..4], second[..4]);
    assert!(keys.open(&first).is_ok() && keys.open(&second).is_ok());
}

#[test]
fn a_fleet_shares_its_keys() {
    let (one, two) = (Secret::new([1; 32]), Secret::new([2; 32]));
    let mut node = TicketKeys::from_secret(relay(1), 1, &one);
    let mut other = TicketKeys::from_secret(relay(1), 1, &one);
    let ticket = node.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    assert!(other.open(&ticket).is_ok());
    other.adopt(2, &two);
    other.adopt(2, &two);
    assert!(
        other.open(&ticket).is_ok(),
        "adopted twice, the previous key is still there"
    );
    node.adopt(2, &two);
    let ticket = node.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    assert!(other.open(&ticket).is_ok());
}

struct Dry;

impl Entropy for Dry {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), EntropyFailed> {
        Err(EntropyFailed)
    }
}

#[test]
fn without_entropy_nothing_changes() {
    assert!(TicketKeys::generate(relay(1), &mut Dry).is_err());
    let mut keys = TicketKeys::generate(relay(1), &mut rng(1)).unwrap();
    let ticket = keys.seal(&content(TicketFlags::default()), &mut rng(2)).unwrap();
    assert_eq!(keys.rotate(&mut Dry), Err(EntropyFailed));
    assert_eq!(keys.rotate(&mut Dry), Err(EntropyFailed));
    assert!(keys.open(&ticket).is_ok());
    let sealed = keys.seal(&content(TicketFlags::default()), &mut Dry);
    assert_eq!(sealed, Err(EntropyFailed));
}

/// Content that no relay of ours seals, under the right key.
#[test]
fn authentic_but_wrong_content_is_refused() {
    let keys = TicketKeys::from_secret(relay(1), 3, &Secret::new([1; 32]));
    let seal = |change: &dyn Fn(&mut [u8])| {
        let mut body = Vec::new();
        content(TicketFlags::default()).encode(&mut body);
        assert_eq!(body.len(), CONTENT);
        change(&mut body);
        let cipher = LongNonceCipher::new(provider::DEFAULT, &Secret::new([1; 32]));
        let tag = cipher.seal(&[4; 24], relay(1).as_bytes(), &mut body).unwrap();
        let bytes = [&[0, 0, 0, 3], &[4; 24][..], &body, &tag].concat();
        keys.open(&bytes.try_into().unwrap())
    };
    assert!(seal(&|_| {}).is_ok());
    assert!(seal(&|body| body[0] = 2).is_err(), "version");
    for bit in 2..8 {
        assert!(seal(&|body| body[1] = 1 << bit).is_err(), "flag {bit}");
    }
    assert!(seal(&|body| body[8..12].copy_from_slice(&86_400u32.to_be_bytes())).is_ok());
    assert!(seal(&|body| body[8..12].copy_from_slice(&86_401u32.to_be_bytes())).is_err());
    assert!(seal(&|body| body[16..48].fill(0)).is_err(), "no secret");
}

#[test]
fn no_ticket_lives_longer_than_a_day() {
    let keys = TicketKeys::generate(relay(1), &mut rng(1)).unwrap();
    let mut long = content(TicketFlags::default());
    long.lifetime_s = u32::MAX;
    let ticket = keys.seal(&long, &mut rng(2)).unwrap();
    assert_eq!(keys.open(&ticket).unwrap().lifetime_s, MAX_TICKET_LIFETIME_S);
}

#[test]
fn a_ticket_has_its_time() {
    let mut ticket = content(TicketFlags::default());
    let issued = u64::from(ticket.issued_s);
    assert!(ticket.is_valid_at(issued) && ticket.is_valid_at(issued + 3599));
    assert!(!ticket.is_valid_at(issued + 3600) && !ticket.is_valid_at(u64::MAX));
    assert!(ticket.is_valid_at(issued - 60) && !ticket.is_valid_at(issued - 61));
    ticket.lifetime_s = 0;
    assert!(!ticket.is_valid_at(issued));
    ticket.issued_s = u32::MAX;
    ticket.lifetime_s = 60;
    assert!(ticket.is_valid_at(u64::from(u32::MAX) + 59));
}

fn stored(throw_away: Option<u8>, params: usize) -> ClientTicket {
    ClientTicket {
        relay_id: relay(1),
        ticket: [2; TICKET_LEN],
        rms: Secret::new([3; 32]),
        issued_s: 1_800_000_000,
        lifetime_s: 3600,
        max_early: 16_384,
        rtt_us: 50_000,
        client_id: ClientId::from_bytes([4; 32]),
        throw_away: throw_away.map(|byte| Secret::new([byte; 32])),
        params: vec![6; params],
        suite: Suite::Aes256Gcm,
    }
}

#[test]
fn a_stored_ticket_comes_back() {
    for (throw_away, params) in [(None, 0), (Some(5), 12), (None, MAX_PARAMS)] {
        let bytes = stored(throw_away, params).to_bytes();
        assert_eq!(bytes.len(), 333 + params);
        let read = ClientTicket::from_bytes(&bytes).unwrap();
        assert_eq!(read.to_bytes(), bytes);
        assert_eq!(read.enrolled(), throw_away.is_none());
        assert_eq!((read.max_early, read.params.len()), (16_384, params));
        for len in 0..bytes.len() {
            assert!(ClientTicket::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        assert!(ClientTicket::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn a_stored_ticket_that_contradicts_itself_is_refused() {
    let refused = |at: std::ops::Range<usize>, with: u8| {
        let mut bytes = stored(Some(5), 12).to_bytes();
        bytes[at.clone()].fill(with);
        assert!(ClientTicket::from_bytes(&bytes).is_err(), "{at:?} {with}");
    };
    refused(0..1, 0);
    refused(0..1, 2);
    refused(213..245, 0);
    refused(253..254, 1);
    refused(297..298, 0);
    refused(297..298, 3);
    refused(298..299, 0);
    refused(298..299, 2);
    refused(299..331, 0);
    refused(331..332, 1);
    let mut bytes = stored(None, 0).to_bytes();
    bytes[330] = 1;
    assert!(
        ClientTicket::from_bytes(&bytes).is_err(),
        "a key that should not be there"
    );
    let long = [&stored(None, 0).to_bytes()[..331], &[2, 1], &[0; 513]].concat();
    assert!(
        ClientTicket::from_bytes(&long).is_err(),
        "parameters nobody accepts"
    );
}

#[test]
fn a_client_knows_when_a_ticket_is_stale() {
    let ticket = stored(None, 0);
    assert!(ticket.is_fresh(1_800_000_000) && ticket.is_fresh(1_800_003_599));
    assert!(!ticket.is_fresh(1_800_003_600) && !ticket.is_fresh(0) && !ticket.is_fresh(u64::MAX));
}
