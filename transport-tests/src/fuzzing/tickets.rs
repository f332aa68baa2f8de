//! Tickets and address tokens: what a client stores, what a relay sealed, and the hellos that carry them.

use std::net::SocketAddr;
use std::sync::LazyLock;

use transport_api::TokenIssuer;
use transport_api::relay::auth::AccessToken;
use transport_core::wire::Reader;
use transport_core::{ClientId, SeededEntropy};
use transport_crypto::{
    ClientTicket, CookieKeys, Initiator, IssuedTicket, MAX_TICKET_LIFETIME_S, Secret, ServerAnswer, Suite,
    TICKET_LEN, TOKEN_LEN, TicketContent, TicketFlags, TicketGrant, TicketKeys,
};

use super::handshake::{HID, damage, encoded_params, responder};
use crate::misbehave::{client_hello, hello};
use crate::pair::{RELAY, stranger};
use crate::sim::clock::EPOCH_UNIX_MS;

const NOW_S: u64 = EPOCH_UNIX_MS / 1000;

/// An honest ticket, from a handshake of its own, and the hello that uses it.
struct Stock {
    keys: TicketKeys,
    stored: Vec<u8>,
    sealed: [u8; TICKET_LEN],
    hello: Vec<u8>,
}

static STOCK: LazyLock<Stock> = LazyLock::new(stock);

/// What a client of [`STOCK`] stored: a seed.
pub(super) fn stored() -> Vec<u8> {
    STOCK.stored.clone()
}

fn stock() -> Stock {
    let params = encoded_params();
    let (mut initiator, body) = hello(0xF6, HID, &params);
    let offered = responder()
        .read(HID, &body, None, NOW_S)
        .expect("an honest hello");
    let answer = ServerAnswer {
        suite: Suite::ChaCha20Poly1305,
        relay_cids: &[[1; 9]],
        params: &params,
        server_time_ms: EPOCH_UNIX_MS,
        early_accepted: false,
        retry_token: None,
    };
    let mut entropy = SeededEntropy::new([6; 32]);
    let mut reply = Vec::new();
    let relay = offered
        .accept(answer, &mut entropy, &mut reply)
        .expect("an answer")
        .into_session();
    let client = initiator.finish(&reply, &[]).expect("an honest answer").session;
    let grant = TicketGrant {
        serial: 9,
        issued_s: NOW_S as u32,
        lifetime_s: 3600,
        max_early: 4096,
        ..TicketGrant::default()
    };
    let keys = TicketKeys::generate(RELAY.bundle.relay_id(), &mut entropy).expect("a seeded stream");
    let content = relay.resumption.relay_content(&grant).expect("the relay's side");
    let sealed = keys.seal(&content, &mut entropy).expect("a seeded stream");
    let issued = IssuedTicket {
        ticket: sealed,
        serial: 9,
        lifetime_s: 3600,
        max_early: 4096,
        rtt_us: 40_000,
        now_s: NOW_S,
        params: &params,
    };
    let ticket = client
        .resumption
        .client_ticket(&issued)
        .expect("the client's side");
    let mut hello = Vec::new();
    let mine = client_hello(&params);
    Initiator::resume(&RELAY.bundle, &ticket, true, HID, mine, &mut entropy, &mut hello)
        .expect("a ticket of this relay");
    Stock {
        keys,
        stored: ticket.to_bytes().to_vec(),
        sealed,
        hello,
    }
}

/// Stored tickets: what parses is written the same.
pub fn stored_ticket(data: &[u8]) {
    for bytes in [data, &damage(&STOCK.stored, data)] {
        if let Ok(ticket) = ClientTicket::from_bytes(bytes) {
            assert_eq!(*ticket.to_bytes(), bytes);
            assert!(!ticket.is_fresh(u64::MAX) || ticket.issued_s > u64::MAX - 90_000);
            assert_eq!(ticket.is_fresh(ticket.issued_s), ticket.lifetime_s > 0);
        }
    }
}

/// Sealed tickets: bytes nobody sealed open to nothing.
pub fn sealed_ticket(data: &[u8]) {
    let mut bytes = [0; TICKET_LEN];
    bytes.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    assert!(STOCK.keys.open(&bytes).is_err());
    let damaged = damage(&STOCK.sealed, data);
    if let Ok(damaged) = <&[u8; TICKET_LEN]>::try_from(damaged.as_slice()) {
        assert_eq!(STOCK.keys.open(damaged).is_ok(), *damaged == STOCK.sealed);
    }
}

/// Contents of any fields open to the same, unless they are of no use.
pub fn ticket_fields(data: &[u8]) {
    let mut input = Reader::new(data);
    let mut number = || input.array().map_or(0, u64::from_be_bytes);
    let (times, early, bdp, serial, secret) = (number(), number(), number(), number(), number());
    let made = |rms: u64| TicketContent {
        flags: TicketFlags {
            early_ok: early & 1 == 1,
            enrolled: early & 2 == 2,
        },
        policy: (early >> 2) as u16,
        issued_s: times as u32,
        lifetime_s: (times >> 32) as u32,
        replay_domain: (early >> 32) as u32,
        rms: Secret::new([rms as u8; 32]),
        client_id: ClientId::from_bytes([(secret >> 8) as u8; 32]),
        params_digest: [(secret >> 16) as u8; 16],
        max_early: (bdp >> 32) as u32,
        rtt_us: (serial >> 32) as u32,
        bdp,
        serial,
        static_tag: [(secret >> 24) as u8; 16],
    };
    let content = made(secret);
    let mut entropy = SeededEntropy::new([8; 32]);
    let sealed = STOCK.keys.seal(&content, &mut entropy).expect("a seeded stream");
    let Ok(read) = STOCK.keys.open(&sealed) else {
        assert_eq!(secret as u8, 0, "a ticket of ours");
        return;
    };
    assert_eq!(read.lifetime_s, content.lifetime_s.min(MAX_TICKET_LIFETIME_S));
    let key = |content: &TicketContent| {
        (
            content.policy,
            content.issued_s,
            content.replay_domain,
            content.client_id,
            content.bdp,
            content.serial,
            content.static_tag,
        )
    };
    assert_eq!(key(&read), key(&content));
    assert!(!read.is_valid_at(u64::MAX));
}

/// Hellos that resume: an honest one with a piece replaced is none.
pub fn resume_hello(data: &[u8]) {
    let responder = responder();
    let damaged = damage(&STOCK.hello, data);
    let offered = responder.read(HID, &damaged, Some(&STOCK.keys), NOW_S);
    assert_eq!(offered.is_ok(), damaged == STOCK.hello);
    if let Ok(offered) = offered {
        assert!(offered.resumed().is_some() && offered.wants_early());
    }
}

/// Access tokens of relays: whatever a client shows is read without harm, and an honest one with a piece replaced is signed by nobody.
pub fn access_tokens(data: &[u8]) {
    static ISSUER: LazyLock<TokenIssuer> = LazyLock::new(|| TokenIssuer::from_seed([7; 32]));
    static HONEST: LazyLock<String> = LazyLock::new(|| {
        let says = AccessToken {
            tenant: "acme".parse().expect("a name"),
            not_before: NOW_S,
            not_after: NOW_S + 3600,
            nonce: [3; 16],
            mbit: 20,
            client: None,
        };
        says.issue(&ISSUER).expect("an hour")
    });
    let _ = AccessToken::peek(&String::from_utf8_lossy(data));
    let damaged = damage(HONEST.as_bytes(), data);
    let Ok(shown) = str::from_utf8(&damaged) else {
        return;
    };
    if AccessToken::peek(shown).is_ok() {
        let verified = AccessToken::verify(shown, &ISSUER.verifier());
        assert_eq!(verified.is_ok(), shown == HONEST.as_str());
    }
}

/// Address tokens: good for one handshake, one address and two minutes; no other bytes are one.
pub fn tokens(data: &[u8]) {
    let mut keys = CookieKeys::new(&mut SeededEntropy::new([4; 32])).expect("a seeded stream");
    let relay_id = RELAY.bundle.relay_id();
    let mut input = Reader::new(data);
    let made = input.array().map_or(0, u32::from_be_bytes);
    let later = input.array().map_or(0, u16::from_be_bytes);
    let port = input.array().map_or(0, u16::from_be_bytes);
    let from: SocketAddr = stranger(port);
    let (made, later) = (u64::from(made), u64::from(later));
    let token = keys.token(made, &relay_id, &HID, from);
    let mut check = |at, from, token: &[u8; TOKEN_LEN]| keys.check(at, &relay_id, &HID, from, token);
    if u32::try_from(made + later).is_ok() {
        assert_eq!(check(made + later, from, &token), later <= 120);
    }
    assert!(!check(made, stranger(port ^ 1), &token));
    let mut other = token;
    other
        .iter_mut()
        .zip(input.take_rest())
        .for_each(|(to, from)| *to ^= *from);
    assert_eq!(check(made, from, &other), other == token);
}
