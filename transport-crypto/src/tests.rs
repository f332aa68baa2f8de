//! Test vectors for other implementations, in `tests/vectors/`: made from seeds, checked on every run.
//!
//! `BLESS=1 cargo test -p transport-crypto vectors` writes them anew; a change there is a change of the protocol.

use std::{env, fmt::Write, fs, path::PathBuf};

use crate::{
    Auth, Bundle, BundleDraft, BundleEndpoint, CidMasks, ClientHello, ClientIdentity, Counter, Direction,
    EndpointAddress, EnvelopeHeader, EnvelopeKeys, EnvelopeType, Grant, Initiator, RelayIdentity,
    RelayStatics, Responder, SealKeys, Secret, SeededEntropy, ServerAnswer, Session, Suite, kdf,
    provider::{self, MaskCipher},
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
    let mut client = initiator.finish(&sh, None).unwrap().session;
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
fn key_schedule_vectors() {
    check("key-schedule.txt", &key_schedule());
}

/// The chain that packets use is the one the vectors spell out.
#[test]
fn generations_follow_the_schedule() {
    let ap_0 = Secret::new([4; 32]);
    let ap_1: Secret<32> = kdf::expand(&ap_0, &[kdf::label::UPDATE]);
    let iv_1: Secret<12> = kdf::expand(&ap_1, &[kdf::label::IV]);
    let hp: Secret<32> = kdf::expand(&ap_0, &[kdf::label::MASK]);
    let (mut chain, mask): (_, Box<dyn MaskCipher>) =
        Generations::start(provider::DEFAULT, Suite::Aes256Gcm, ap_0);
    chain.advance();
    assert!(chain.advance().iv == iv_1);
    let (mut a, mut b) = ([[0; 5]], [[0; 5]]);
    mask.masks(&[[1; 16]], &mut a);
    provider::DEFAULT
        .mask_cipher(Suite::Aes256Gcm, &hp)
        .masks(&[[1; 16]], &mut b);
    assert_eq!(a, b);
}
