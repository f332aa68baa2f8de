//! Test vectors for other implementations: `vectors/adit1.json`.
//!
//! The first implementation writes them (`BLESS=1 cargo test -p transport-crypto --test second_implementation json`), and
//! the witness finds the same. A change there is a change of the protocol.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use serde_json::{Value, json};
use transport_crypto::{
    CidMasks, CookieKeys, Counter, Direction, EnvelopeHeader, EnvelopeKeys, EnvelopeType, Grant, RelayId,
    SeededEntropy, Session,
};

use crate::{
    first::{CLIENT, Case, EPOCH, STATICS, TICKET_KEY, WORLD},
    resumption::{SERIAL, client_key, grant, kept, second_flight},
    witness::{
        Draws, at,
        kdf::{Secrets, expand, updated},
        packet,
        peer::{Established, Resume},
    },
};

const LANE: u32 = 2;
const HEADER: &[u8] = b"header";
const BODY: &[u8] = b"sixteen byte txt";
const TICKET_NONCE_SEED: [u8; 32] = [0x88; 32];
const TOKEN_SEED: [u8; 32] = [0x99; 32];
const DIRECTIONS: [Way; 2] = [
    (Direction::ClientToServer, "c2s"),
    (Direction::ServerToClient, "s2c"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/adit1.json")
}

/// Compares with the file, or writes it.
#[test]
fn the_json_file_is_what_the_first_implementation_does() {
    let found = json!({
        "protocol": "adit1, docs/protocol.md; all values hexadecimal, integers in names and fields decimal",
        "entropy": "the ChaCha20 key stream of the seed (zero nonce and counter). A client draws: m of ct_s (32, not when it \
                    resumes), d and z of ek_e (64), [anonymous, not when it resumes: X25519 secret (32)], X25519 ephemeral \
                    (32). A relay draws: m of ct_e (32), [m of ct_c (32)], X25519 ephemeral (32)",
        "key_schedule": key_schedule(),
        "relay_wide": relay_wide(&FIRST),
        "bundle": {
            "bytes": hex(WORLD.bundle.bytes()),
            "relay_id": hex(WORLD.bundle.relay_id().as_bytes()),
            "kh": hex(WORLD.bundle.kh()),
            "x25519_secret_and_ml_kem_seed": hex(&STATICS),
        },
        "handshakes": cases().map(|case| first_exchange(&case)).to_vec(),
        "tokens": tokens(&FIRST),
    });
    if env::var_os("BLESS").is_some() {
        fs::write(path(), serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
    let committed = committed();
    for (name, part) in found.as_object().unwrap() {
        assert!(committed[name] == *part, "{name} has changed");
    }
    assert_eq!(
        committed.as_object().map(serde_json::Map::len),
        found.as_object().map(serde_json::Map::len)
    );
}

#[test]
fn the_json_file_is_what_the_second_implementation_finds() {
    let committed = committed();
    assert!(committed["relay_wide"] == relay_wide(&SECOND));
    assert!(committed["tokens"] == tokens(&SECOND));
    let bundle = &WORLD.relay.bundle;
    assert_eq!(committed["bundle"]["relay_id"], hex(&bundle.relay_id));
    assert_eq!(committed["bundle"]["kh"], hex(&bundle.kh));
    let handshakes = committed["handshakes"].as_array().unwrap();
    assert_eq!(handshakes.len(), cases().len());
    for (committed, case) in handshakes.iter().zip(cases()) {
        let found = second_exchange(&case);
        for (name, part) in found.as_object().unwrap() {
            assert!(committed[name] == *part, "{name}");
        }
        assert_eq!(
            committed.as_object().map(serde_json::Map::len),
            found.as_object().map(serde_json::Map::len)
        );
    }
}

fn committed() -> Value {
    serde_json::from_str(&fs::read_to_string(path()).unwrap()).unwrap()
}

fn cases() -> [Case; 4] {
    let mut seed = 40;
    [(false, false), (false, true), (true, false), (true, true)].map(|(enrolled, aes)| {
        seed += 1;
        Case::new(enrolled, aes, seed)
    })
}

/// By hand; `src/tests.rs` holds the first implementation's private schedule against it.
fn key_schedule() -> Value {
    let (h, k1, k2) = ([1; 32], [2; 32], [3; 32]);
    let secrets = Secrets::new(&h, &k1, &k2);
    let generation = |n: usize| {
        let ap = updated(&secrets.client, n);
        let (key, iv): ([u8; 32], [u8; 12]) = (expand(&ap, &[b"adit1 key"]), expand(&ap, &[b"adit1 iv"]));
        json!({
            "c_ap": hex(&ap), "key": hex(&key), "iv": hex(&iv),
            "nonce of lane 2, number 5": hex(&packet::nonce(&iv, LANE, 5)),
            "packet of suite 1": hex(&packet::seal(&ap, false, LANE, 5, HEADER, BODY)),
            "packet of suite 2": hex(&packet::seal(&ap, true, LANE, 5, HEADER, BODY)),
        })
    };
    let hp: [u8; 32] = expand(&secrets.client, &[b"adit1 hp"]);
    json!({
        "h": hex(&h), "k1": hex(&k1), "k2": hex(&k2),
        "c_ap_0": hex(&secrets.client), "s_ap_0": hex(&secrets.server),
        "exp": hex(&secrets.exporter), "res": hex(&secrets.resumption),
        "exporter of label, 32 bytes": hex(&secrets.export(b"label")),
        "rms of serial 9": hex(&secrets.rms(SERIAL)),
        "c_hp": hex(&hp),
        "mask of suite 1, sample 09..": hex(&packet::mask(&secrets.client, false, [9; 16])),
        "mask of suite 2, sample 09..": hex(&packet::mask(&secrets.client, true, [9; 16])),
        "header": hex(HEADER), "body": hex(BODY),
        "generations": (0..4).map(generation).collect::<Vec<_>>(),
    })
}

type Way = (Direction, &'static str);

/// How either implementation does what depends on the relay alone.
struct Ways {
    cid_mask: fn([u8; 32], [u8; 32], Way) -> [u8; 9],
    envelope: fn([u8; 32], Way, &EnvelopeHeader, &[u8]) -> Vec<u8>,
    token: fn(u32, [u8; 16], u16) -> [u8; 20],
}

const FIRST: Ways = Ways {
    cid_mask: |relay_id, grant, (direction, _)| {
        let masks = CidMasks::new(&RelayId::from_bytes(relay_id), &Grant::from_bytes(grant));
        let mut mask = [[0; 9]];
        masks.masks(direction, &[[9; 16]], &mut mask);
        mask[0]
    },
    envelope: |grant, (direction, _), header, fragment| {
        let keys = EnvelopeKeys::new(&[1; 32], EPOCH, &Grant::from_bytes(grant));
        let (mut rng, mut out) = (SeededEntropy::new([5; 32]), Vec::new());
        keys.seal(direction, header, fragment, 120, &mut rng, &mut out)
            .unwrap();
        out
    },
    token: |unix_s, ip, port| {
        let mut keys = CookieKeys::new(&mut SeededEntropy::new(TOKEN_SEED)).unwrap();
        let remote = (std::net::Ipv6Addr::from(ip), port).into();
        keys.token(unix_s.into(), &RelayId::from_bytes([2; 32]), b"handshak", remote)
    },
};

const SECOND: Ways = Ways {
    cid_mask: |relay_id, grant, (_, direction)| {
        packet::cid_mask(&relay_id, &grant, direction.as_bytes(), [9; 16])
    },
    envelope: |grant, (_, direction), header, fragment| {
        let keys = packet::Envelope::new(&[1; 32], EPOCH, &grant, direction.as_bytes());
        let token = header.token.map_or(Vec::new(), |token| token.to_vec());
        let plaintext = [
            &[header.kind as u8, 1][..],
            &header.hid,
            &header.unix_minutes.to_be_bytes(),
            &[header.index << 4 | header.count],
            &header.total_len.to_be_bytes(),
            &header.fragment_offset.to_be_bytes(),
            &header.fragment_len.to_be_bytes(),
            &[token.len() as u8],
            &token,
            fragment,
        ]
        .concat();
        keys.seal(Draws::new([5; 32]).take(), &plaintext, 120)
    },
    token: |unix_s, ip, port| {
        let secret = Draws::new(TOKEN_SEED).take();
        packet::token(&secret, unix_s, &[2; 32], b"handshak", ip, port)
    },
};

fn relay_wide(ways: &Ways) -> Value {
    let mut out = Vec::new();
    for grant in [[0; 32], [0xab; 32]] {
        for direction in DIRECTIONS {
            for token in [None, Some([0xaa; 20])] {
                let header = EnvelopeHeader {
                    kind: EnvelopeType::ClientHello,
                    hid: *b"handshak",
                    unix_minutes: 30_000_000,
                    index: 1,
                    count: 3,
                    total_len: 2412,
                    fragment_offset: 804,
                    fragment_len: 8,
                    token,
                };
                out.push(json!({
                    "kh": hex(&[1; 32]), "relay_id": hex(&[2; 32]), "epoch": EPOCH, "grant": hex(&grant),
                    "direction": direction.1, "sample": hex(&[9; 16]),
                    "cid_mask": hex(&(ways.cid_mask)([2; 32], grant, direction)),
                    "envelope": {
                        "type": 1, "hid": hex(&header.hid), "unix_minutes": header.unix_minutes, "index": header.index,
                        "count": header.count, "total_len": header.total_len, "offset": header.fragment_offset,
                        "token": token.map(|token| hex(&token)), "fragment": hex(b"fragment"), "size": 120,
                        "nonce_entropy": hex(&[5; 32]),
                        "datagram": hex(&(ways.envelope)(grant, direction, &header, b"fragment")),
                    },
                }));
            }
        }
    }
    out.into()
}

fn tokens(ways: &Ways) -> Value {
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    let documentation = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let token = |(unix_s, ip, port): (u32, [u8; 16], u16)| {
        json!({
            "secret_entropy": hex(&TOKEN_SEED), "relay_id": hex(&[2; 32]), "hid": hex(b"handshak"),
            "unix_s": unix_s, "ip16": hex(&ip), "port": port, "token": hex(&(ways.token)(unix_s, ip, port)),
        })
    };
    let when = [(1_800_000_119, mapped, 4433), (1_800_000_120, documentation, 443)];
    when.map(token).to_vec().into()
}

/// What is said in `case`, for both.
fn said(case: &Case) -> Value {
    json!({
        "hid": hex(&case.hello.hid), "flags": case.hello.flags, "time_ms": case.hello.time_ms,
        "scid": hex(&case.hello.scid), "client_parameters": hex(&case.hello.params),
        "relay_cids": case.answer.cids.iter().map(|cid| hex(cid)).collect::<Vec<_>>(),
        "relay_parameters": hex(&case.answer.params), "server_time_ms": case.answer.server_time_ms,
        "early_accepted": case.answer.early, "token": case.answer.token.map(|token| hex(&token)),
        "suite": if case.answer.aes { 2 } else { 1 },
        "client_entropy": hex(&case.client), "relay_entropy": hex(&case.relay),
    })
}

fn first_packets(session: &mut Session) -> Value {
    let mut packets = Vec::new();
    for number in 5..8 {
        let mut body = BODY.to_vec();
        let counter = Counter { lane: LANE, number };
        let tag = session.seal.seal(counter, HEADER, &mut body).unwrap();
        let mut mask = [[0; 5]];
        session.seal.masks(&[tag], &mut mask);
        packets.push(
            json!({"number": number, "packet": hex(&[&body[..], &tag].concat()), "mask": hex(&mask[0])}),
        );
        session.seal.update();
    }
    packets.into()
}

fn second_packets(ap_0: &[u8; 32], aes: bool) -> Value {
    let packet = |generation: usize| {
        let number = 5 + generation as u64;
        let packet = packet::seal(&updated(ap_0, generation), aes, LANE, number, HEADER, BODY);
        let mask = packet::mask(ap_0, aes, *packet.last_chunk().unwrap());
        json!({"number": number, "packet": hex(&packet), "mask": hex(&mask)})
    };
    (0..3).map(packet).collect::<Vec<_>>().into()
}

fn results(ch: &[u8], sh: &[u8], transcript: &[u8; 32], packets: [Value; 2], exported: [u8; 32]) -> Value {
    let [client, relay] = packets;
    json!({
        "client_hello": hex(ch), "server_hello": hex(sh), "transcript": hex(transcript),
        "exporter of label, 32 bytes": hex(&exported),
        "client packets of generations 0 to 2": client, "relay packets of generations 0 to 2": relay,
    })
}

fn first_results(ch: &[u8], sh: &[u8], mut client: Session, mut relay: Session) -> Value {
    let mut exported = [0; 32];
    client.exporter.export(b"label", &mut exported);
    let packets = [first_packets(&mut client), first_packets(&mut relay)];
    results(ch, sh, &client.transcript, packets, exported)
}

fn second_results(ch: &[u8], sh: &[u8], done: &Established) -> Value {
    let secrets = &done.secrets;
    let packets = [&secrets.client, &secrets.server].map(|ap_0| second_packets(ap_0, done.aes()));
    results(ch, sh, &done.h, packets, secrets.export(b"label"))
}

fn exchange(
    case: &Case,
    again: &Case,
    results: [Value; 2],
    ticket: &[u8; 180],
    rms: &[u8; 32],
    early: &[u8],
) -> Value {
    let [full, resumed] = results;
    json!({
        "client_x25519_secret_and_ml_kem_seed": case.hello.identity.as_ref().map(|_| hex(&CLIENT)),
        "said": said(case), "results": full,
        "ticket": {
            "key_id": TICKET_KEY.0, "key": hex(&TICKET_KEY.1), "serial": SERIAL, "rms": hex(rms), "ticket": hex(ticket),
            "nonce_entropy": hex(&TICKET_NONCE_SEED),
        },
        "said_when_resuming": said(again),
        "early packet 5": hex(early),
        "results_of_resuming": resumed,
    })
}

fn first_exchange(case: &Case) -> Value {
    let (mut initiator, ch) = case.first_client();
    let (relay, sh) = case.first_relay(&ch);
    let client = case.first_finish(&mut initiator, &sh).session;
    let sealed = relay.resumption.relay_content(&grant()).unwrap();
    let ticket = WORLD
        .tickets
        .seal(&sealed, &mut SeededEntropy::new(TICKET_NONCE_SEED))
        .unwrap();
    let kept = kept(&client, ticket);
    let full = first_results(&ch, &sh, client, relay);

    let again = second_flight(case, true);
    let (mut initiator, seal, ch) = again.first_resuming_client(&kept);
    let mut early = BODY.to_vec();
    seal.unwrap().seal(5, &mut early).unwrap();
    let (relay, sh) = again.first_relay(&ch);
    let client = again.first_finish(&mut initiator, &sh).session;
    let resumed = first_results(&ch, &sh, client, relay);
    exchange(
        case,
        &again,
        [full, resumed],
        &ticket,
        sealed.rms.expose(),
        &early,
    )
}

fn second_exchange(case: &Case) -> Value {
    let (client, ch) = case.second_client();
    let read = WORLD.relay.read(&case.hello.hid, &ch, [1; 32]).unwrap();
    let (relay, sh) = case.second_relay(&ch);
    assert_eq!(client.finish(&sh).unwrap().h, relay.h);
    let enrolled = case.hello.identity.is_some();
    let content = crate::resumption::content(&relay.secrets, enrolled, read.client_id, &read.x25519);
    let nonce = Draws::new(TICKET_NONCE_SEED).take();
    let ticket = packet::seal_ticket(&TICKET_KEY, &WORLD.relay.bundle.relay_id, nonce, &content);
    let full = second_results(&ch, &sh, &relay);

    let mut again = second_flight(case, true);
    let rms: [u8; 32] = at(&content, 16);
    again.hello.resume = Some(Resume {
        ticket,
        rms,
        client_id: read.client_id,
        x25519: client_key(case),
        early: true,
    });
    let (client, ch) = again.second_client();
    let early = packet::seal_early(&client.h1, &rms, 5, BODY);
    let (relay, sh) = again.second_relay(&ch);
    assert_eq!(client.finish(&sh).unwrap().h, relay.h);
    let resumed = second_results(&ch, &sh, &relay);
    exchange(case, &again, [full, resumed], &ticket, &rms, &early)
}
