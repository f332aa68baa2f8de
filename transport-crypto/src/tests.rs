//! Test vectors for other implementations, in `tests/vectors/`: made from seeds, checked on every run.
//!
//! `BLESS=1 cargo test -p transport-crypto vectors` writes them anew; a change there is a change of the protocol.

use std::{env, fmt::Write, fs, path::PathBuf};

use crate::{
    Auth, Bundle, BundleDraft, BundleEndpoint, CidMasks, ClientHello, ClientIdentity, ClientTicket,
    CookieKeys, Counter, Direction, EndpointAddress, EnvelopeHeader, EnvelopeKeys, EnvelopeType, Grant,
    Initiator, IssuedTicket, RelayIdentity, RelayStatics, Responder, SealKeys, Secret, SeededEntropy,
    ServerAnswer, Session, Suite, TicketGrant, TicketKeys, kdf, provider,
    schedule::{Generations, KeySchedule},
};

struct Vectors(String);

impl Vectors {
    fn put(&mut self, name: &str, bytes: &[u8]) {
        write!(self.0, "{name} = ").unwrap();
        for byte in bytes {
            write!(self.0, "{byte:02x}").unwrap();
        }
        self.0.push('\n');
    }

    fn digest(&mut self, name: &str, bytes: &[u8]) {
        writeln!(self.0, "{name}.length = {}", bytes.len()).unwrap();
        self.put(&format!("{name}.sha256"), &kdf::hash(&[bytes]));
    }

    fn title(&mut self, text: &str) {
        writeln!(self.0, "\n# {text}").unwrap();
    }
}

const IDENTITY_SEEDS: [u8; 64] = [0x11; 64];
const STATICS_SEEDS: [u8; 96] = [0x22; 96];
const CLIENT_SEEDS: [u8; 96] = [0x33; 96];
const HID: [u8; 8] = [0x44; 8];
const CLIENT_ENTROPY: [u8; 32] = [0x55; 32];
const RELAY_ENTROPY: [u8; 32] = [0x66; 32];

fn bundle(v: &mut Vectors) -> Bundle {
    let identity = RelayIdentity::from_seeds(IDENTITY_SEEDS);
    let statics = RelayStatics::from_seeds(STATICS_SEEDS);
    let endpoints = vec![
        BundleEndpoint {
            address: EndpointAddress::Ip([192, 0, 2, 1].into()),
            port: 4433,
            cover: 0,
        },
        BundleEndpoint {
            address: EndpointAddress::Name("relay.example".into()),
            port: 443,
            cover: 0,
        },
    ];
    let draft = BundleDraft {
        epoch: 7,
        not_before: 1_800_000_000,
        not_after: 1_802_592_000,
        endpoints,
    };
    let bytes = identity.sign_bundle(&draft, &statics).unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    v.title("bundle: epoch 7, 1800000000 to 1802592000, 192.0.2.1:4433 and relay.example:443");
    v.put("identity_seeds", &IDENTITY_SEEDS);
    v.put("statics_seeds", &STATICS_SEEDS);
    v.put("relay_id", bundle.relay_id().as_bytes());
    v.put("kh", bundle.kh());
    v.digest("bundle", &bytes);
    bundle
}

fn packets(v: &mut Vectors, side: &str, keys: &mut SealKeys) {
    for (number, name) in [(5, "generation 0"), (6, "generation 1")] {
        let mut body = *b"sixteen byte txt";
        let tag = keys
            .seal(Counter { lane: 2, number }, b"header", &mut body)
            .unwrap();
        let mut mask = [[0; 5]];
        keys.masks(&[tag], &mut mask);
        v.put(&format!("{side} packet, {name}"), &[&body[..], &tag].concat());
        v.put(&format!("{side} mask of its tag, {name}"), &mask[0]);
        keys.update();
    }
}

fn handshake(v: &mut Vectors, bundle: &Bundle, identity: Option<&ClientIdentity>, suite: Suite) {
    let name = if identity.is_some() {
        "enrolled"
    } else {
        "anonymous"
    };
    v.title(&format!("handshake: {name}, {suite:?}"));
    let hello = ClientHello {
        has_aes: true,
        time_ms: 1_800_000_123_456,
        scid: *b"client id",
        auth: identity.map_or(Auth::Anonymous, Auth::Enrolled),
        params: b"client params",
    };
    let (mut ch, mut sh) = (Vec::new(), Vec::new());
    let mut initiator = Initiator::start(
        bundle,
        HID,
        hello,
        &mut SeededEntropy::new(CLIENT_ENTROPY),
        &mut ch,
    )
    .unwrap();
    let responder = Responder::new(
        RelayStatics::from_seeds(STATICS_SEEDS),
        bundle.relay_id(),
        bundle.epoch(),
    );
    let answer = ServerAnswer {
        suite,
        relay_cids: &[*b"relay id0"],
        params: b"relay params",
        server_time_ms: 1,
        early_accepted: false,
        retry_token: None,
    };
    let offered = responder.read(HID, &ch, None, 0).unwrap();
    v.put("client_id", offered.client_id().as_bytes());
    let mut relay: Session = offered
        .accept(answer, &mut SeededEntropy::new(RELAY_ENTROPY), &mut sh)
        .unwrap()
        .into_session();
    let mut client = initiator.finish(&sh, &[]).unwrap().session;
    v.digest("client_hello", &ch);
    v.digest("server_hello", &sh);
    v.put("transcript", &client.transcript);
    let mut exported = [0; 32];
    client.exporter.export(b"label", &mut exported);
    v.put("exporter(\"label\", 32)", &exported);
    v.0.push_str("# lane 2, numbers 5 and 6, header \"header\", body \"sixteen byte txt\"\n");
    packets(v, "client", &mut client.seal);
    packets(v, "relay", &mut relay.seal);
}

const TICKET_SECRET: [u8; 32] = [0x77; 32];
const TICKET_ENTROPY: [u8; 32] = [0x88; 32];
const SERIAL: u64 = 9;
const NOW_S: u64 = 1_800_000_123;

fn flight(identity: Option<&ClientIdentity>) -> (ClientHello<'_>, ServerAnswer<'static>) {
    const CIDS: [[u8; 9]; 1] = [*b"relay id0"];
    let hello = ClientHello {
        has_aes: false,
        time_ms: NOW_S * 1000,
        scid: *b"client id",
        auth: identity.map_or(Auth::Anonymous, Auth::Enrolled),
        params: b"client params",
    };
    let answer = ServerAnswer {
        suite: Suite::ChaCha20Poly1305,
        relay_cids: &CIDS,
        params: b"relay params",
        server_time_ms: 1,
        early_accepted: false,
        retry_token: None,
    };
    (hello, answer)
}

/// A full handshake, and the ticket issued on its connection.
fn issue(
    v: &mut Vectors,
    bundle: &Bundle,
    responder: &Responder,
    keys: &TicketKeys,
    identity: Option<&ClientIdentity>,
) -> ClientTicket {
    let (hello, answer) = flight(identity);
    let (mut client, mut relay) = (
        SeededEntropy::new(CLIENT_ENTROPY),
        SeededEntropy::new(RELAY_ENTROPY),
    );
    let (mut ch, mut sh) = (Vec::new(), Vec::new());
    let mut initiator = Initiator::start(bundle, HID, hello, &mut client, &mut ch).unwrap();
    let offered = responder.read(HID, &ch, None, NOW_S).unwrap();
    let relay = offered
        .accept(answer, &mut relay, &mut sh)
        .unwrap()
        .into_session();
    let client = initiator.finish(&sh, &[]).unwrap().session;
    let grant = TicketGrant {
        serial: SERIAL,
        issued_s: NOW_S as u32,
        lifetime_s: 3600,
        max_early: 4096,
        replay_domain: 5,
        policy: 6,
        rtt_us: 50_000,
        bdp: 1 << 20,
        params_digest: [0x99; 16],
    };
    let content = relay.resumption.relay_content(&grant).unwrap();
    let ticket = keys
        .seal(&content, &mut SeededEntropy::new(TICKET_ENTROPY))
        .unwrap();
    v.put("rms", content.rms.expose());
    v.put("static_tag", &content.static_tag);
    v.put("ticket", &ticket);
    let issued = IssuedTicket {
        ticket,
        serial: SERIAL,
        lifetime_s: 3600,
        max_early: 4096,
        rtt_us: 50_000,
        now_s: NOW_S,
        params: b"relay params",
    };
    let kept = client.resumption.client_ticket(&issued).unwrap();
    v.put("as the client stores it", &kept.to_bytes());
    kept
}

fn resumption(v: &mut Vectors, bundle: &Bundle, identity: Option<&ClientIdentity>) {
    let name = if identity.is_some() {
        "enrolled"
    } else {
        "anonymous"
    };
    v.title(&format!(
        "{name}: a full handshake, its ticket of serial 9, a resumption with early data"
    ));
    let keys = TicketKeys::from_secret(bundle.relay_id(), 1, &Secret::new(TICKET_SECRET));
    let statics = RelayStatics::from_seeds(STATICS_SEEDS);
    let responder = Responder::new(statics, bundle.relay_id(), bundle.epoch());
    let ticket = issue(v, bundle, &responder, &keys, identity);

    let (hello, answer) = flight(identity);
    let token = [0xaa; 20];
    let (mut ch, mut sh) = (Vec::new(), Vec::new());
    let mut entropy = SeededEntropy::new(CLIENT_ENTROPY);
    let resumed = Initiator::resume(bundle, &ticket, true, HID, hello, &mut entropy, &mut ch);
    let (mut initiator, early) = resumed.unwrap();
    let offered = responder.read(HID, &ch, Some(&keys), NOW_S).unwrap();
    let mut frames = b"sixteen byte txt".to_vec();
    early.unwrap().seal(5, &mut frames).unwrap();
    v.put("early packet 5 of \"sixteen byte txt\"", &frames);
    let answer = ServerAnswer {
        early_accepted: true,
        retry_token: Some(token),
        ..answer
    };
    let mut entropy = SeededEntropy::new(RELAY_ENTROPY);
    let relay = offered.accept(answer, &mut entropy, &mut sh).unwrap();
    let client = initiator.finish(&sh, &[token]).unwrap().session;
    v.digest("client_hello", &ch);
    v.digest("server_hello", &sh);
    v.put("head of server_hello", &sh[..2]);
    v.put("transcript", &client.transcript);
    v.put(
        "rms of serial 9",
        client.resumption.ticket_secret(SERIAL).expose(),
    );
    let mut relay = relay.into_session();
    packets(v, "relay", &mut relay.seal);
}

fn resumptions() -> String {
    let mut v = Vectors(String::from(
        "# Identities, bundle, hid and entropy as in handshake.txt; every flight starts its stream anew.\n\
         # A resuming client draws: ML-KEM seed of ek_e (64), X25519 ephemeral (32). A ticket draws its nonce (24).\n\
         # The relay takes the early data and echoes the address token aa..\n",
    ));
    v.put("ticket_key of id 1", &TICKET_SECRET);
    v.put("ticket_entropy", &TICKET_ENTROPY);
    let bundle = bundle(&mut v);
    resumption(&mut v, &bundle, None);
    resumption(&mut v, &bundle, Some(&ClientIdentity::from_seeds(CLIENT_SEEDS)));
    v.0
}

fn cookies() -> String {
    let mut v = Vectors(String::from(
        "# The secret is drawn (32) from the stream of relay_entropy; relay_id is 02..\n",
    ));
    v.put("relay_entropy", &RELAY_ENTROPY);
    v.put("hid", &HID);
    let mut keys = CookieKeys::new(&mut SeededEntropy::new(RELAY_ENTROPY)).unwrap();
    let relay_id = crate::RelayId::from_bytes([2; 32]);
    for (unix_s, address) in [
        (1_800_000_000, "192.0.2.1:4433"),
        (1_800_000_119, "192.0.2.1:4433"),
        (1_800_000_120, "[2001:db8::1]:4433"),
    ] {
        let token = keys.token(unix_s, &relay_id, &HID, address.parse().unwrap());
        v.put(&format!("token at {unix_s} for {address}"), &token);
    }
    v.0
}

fn handshakes() -> String {
    let mut v = Vectors(String::from(
        "# Entropy is the ChaCha20 key stream of a seed (zero nonce), drawn in this order:\n\
         # client: m of ct_s (32), ML-KEM seed of ek_e (64), [anonymous: X25519 static (32)], X25519 ephemeral (32)\n\
         # relay: m of ct_e (32), [enrolled: m of ct_c (32)], X25519 ephemeral (32)\n",
    ));
    v.put("hid", &HID);
    v.put("client_entropy", &CLIENT_ENTROPY);
    v.put("relay_entropy", &RELAY_ENTROPY);
    v.put("client_seeds", &CLIENT_SEEDS);
    let bundle = bundle(&mut v);
    let identity = ClientIdentity::from_seeds(CLIENT_SEEDS);
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        handshake(&mut v, &bundle, None, suite);
        handshake(&mut v, &bundle, Some(&identity), suite);
    }
    v.0
}

fn key_schedule() -> String {
    let (h, k1, k2) = ([1; 32], Secret::new([2; 32]), Secret::new([3; 32]));
    let keys = KeySchedule::new(&h, &k1, &k2);
    let mut v = Vectors(String::from(
        "# h, k1, k2 as given; generations of the client's secret\n",
    ));
    v.put("h", &h);
    v.put("k1", k1.expose());
    v.put("k2", k2.expose());
    v.put("res", keys.resumption.expose());
    v.put("c_ap_0", keys.client.expose());
    v.put("s_ap_0", keys.server.expose());
    let mut ap = Secret::new(*keys.client.expose());
    let hp: Secret<32> = kdf::expand(&ap, &[kdf::label::MASK]);
    v.put("hp", hp.expose());
    for generation in 0..3 {
        let key: Secret<32> = kdf::expand(&ap, &[kdf::label::KEY]);
        let iv: Secret<12> = kdf::expand(&ap, &[kdf::label::IV]);
        v.put(&format!("key_{generation}"), key.expose());
        v.put(&format!("iv_{generation}"), iv.expose());
        v.put(
            &format!("nonce_{generation}, lane 2, number 5"),
            &Counter { lane: 2, number: 5 }.nonce(&iv),
        );
        ap = kdf::expand(&ap, &[kdf::label::UPDATE]);
    }
    relay_wide(&mut v);
    v.0
}

fn relay_wide(v: &mut Vectors) {
    v.title("relay-wide: KH and relay_id of 01 and 02, epoch 7, grant of zeros, client to server");
    let mut mask = [[0; 9]];
    let relay_id = crate::RelayId::from_bytes([2; 32]);
    CidMasks::new(&relay_id, &Grant::default()).masks(Direction::ClientToServer, &[[9; 16]], &mut mask);
    v.put("cid mask of the sample 09..", &mask[0]);
    let header = EnvelopeHeader {
        kind: EnvelopeType::ClientHello,
        hid: HID,
        unix_minutes: 30_000_000,
        index: 0,
        count: 1,
        total_len: 8,
        fragment_offset: 0,
        fragment_len: 8,
        token: None,
    };
    let mut datagram = Vec::new();
    EnvelopeKeys::new(&[1; 32], 7, &Grant::default())
        .seal(
            Direction::ClientToServer,
            &header,
            b"fragment",
            80,
            &mut SeededEntropy::new(CLIENT_ENTROPY),
            &mut datagram,
        )
        .unwrap();
    v.put(
        "envelope of \"fragment\", fragment 0 of 1, minute 30000000, 80 bytes",
        &datagram,
    );
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

fn check(name: &str, found: &str) {
    if env::var_os("BLESS").is_some() {
        fs::write(path(name), found).unwrap();
    }
    let committed = fs::read_to_string(path(name)).unwrap();
    for (line, (committed, found)) in committed.lines().zip(found.lines()).enumerate() {
        assert_eq!(committed, found, "{name}, line {}", line + 1);
    }
    assert_eq!(committed, found);
}

#[test]
fn handshake_vectors() {
    check("handshake.txt", &handshakes());
}

#[test]
fn resumption_vectors() {
    check("resumption.txt", &resumptions());
}

#[test]
fn cookie_vectors() {
    check("cookie.txt", &cookies());
}

#[test]
fn key_schedule_vectors() {
    check("key-schedule.txt", &key_schedule());
}

/// The schedule in the JSON file was made without `kdf.rs` and `schedule.rs`.
#[test]
fn the_schedule_is_that_of_the_json_file() {
    let file: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path("adit1.json")).unwrap()).unwrap();
    let file = &file["key_schedule"];
    let keys = KeySchedule::new(&[1; 32], &Secret::new([2; 32]), &Secret::new([3; 32]));
    let same = |name: &str, bytes: &[u8]| {
        let mut v = Vectors(String::new());
        v.put(name, bytes);
        assert_eq!(v.0, format!("{name} = {}\n", file[name].as_str().unwrap()));
    };
    same("c_ap_0", keys.client.expose());
    same("s_ap_0", keys.server.expose());
    same("res", keys.resumption.expose());
    let mut exported = [0; 32];
    keys.exporter.export(b"label", &mut exported);
    same("exporter of label, 32 bytes", &exported);
    for (suite, number) in [(Suite::ChaCha20Poly1305, 1), (Suite::Aes256Gcm, 2)] {
        let ap_0 = Secret::new(*keys.client.expose());
        let (mut chain, first, mask) = Generations::start(provider::DEFAULT, suite, ap_0);
        let mut first = Some(first);
        let mut masks = [[0; 5]];
        mask.masks(&[[9; 16]], &mut masks);
        same(&format!("mask of suite {number}, sample 09.."), &masks[0]);
        for generation in file["generations"].as_array().unwrap() {
            let key = first.take().unwrap_or_else(|| chain.advance());
            let mut body = *b"sixteen byte txt";
            let nonce = Counter { lane: 2, number: 5 }.nonce(&key.iv);
            let tag = key.cipher.seal(&nonce, b"header", &mut body).unwrap();
            let mut v = Vectors(String::new());
            v.put("", &[&body[..], &tag].concat());
            let expected = generation[format!("packet of suite {number}")].as_str().unwrap();
            assert_eq!(v.0, format!(" = {expected}\n"));
        }
    }
}

/// The chain that packets use is the one the vectors spell out.
#[test]
fn generations_follow_the_schedule() {
    let ap_0 = Secret::new([4; 32]);
    let ap_1: Secret<32> = kdf::expand(&ap_0, &[kdf::label::UPDATE]);
    let iv_0: Secret<12> = kdf::expand(&ap_0, &[kdf::label::IV]);
    let iv_1: Secret<12> = kdf::expand(&ap_1, &[kdf::label::IV]);
    let hp: Secret<32> = kdf::expand(&ap_0, &[kdf::label::MASK]);
    let (mut chain, first, mask) = Generations::start(provider::DEFAULT, Suite::Aes256Gcm, ap_0);
    assert!(first.iv == iv_0);
    assert!(chain.advance().iv == iv_1);
    let (mut a, mut b) = ([[0; 5]], [[0; 5]]);
    mask.masks(&[[1; 16]], &mut a);
    provider::DEFAULT
        .mask_cipher(Suite::Aes256Gcm, &hp)
        .masks(&[[1; 16]], &mut b);
    assert_eq!(a, b);
}
