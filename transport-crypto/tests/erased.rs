//! What a freed block still says: an allocator looks for every secret of a handshake in the memory that is given back.
//!
//! The stack is not looked at. The witness computes the secrets beforehand, from the same seeds.

#![expect(unsafe_code, reason = "an allocator can only be written with it")]

#[path = "second_implementation/first.rs"]
#[expect(dead_code, reason = "the exchange is walked through here by hand")]
mod first;
#[path = "second_implementation/witness/mod.rs"]
mod witness;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use transport_crypto::{
    Auth, ClientHello, ClientIdentity, ClientTicket, Initiator, IssuedTicket, Offered, RelayIdentity,
    RelayStatics, Responder, Secret, SeededEntropy, ServerAnswer, Session, Suite, TicketGrant, TicketKeys,
};
use witness::{
    Draws, at,
    kdf::{Secrets, expand, extract, sha256, updated},
    peer::{self, Identity, kem},
};

/// Most patterns.
const MOST: usize = 128;

/// The system's allocator, which reads what comes back while it watches.
struct Watching {
    on: AtomicBool,
    count: AtomicUsize,
    patterns: [[AtomicU64; 2]; MOST],
    hits: [AtomicUsize; MOST],
    bytes: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Watching = Watching {
    on: AtomicBool::new(false),
    count: AtomicUsize::new(0),
    patterns: [const { [const { AtomicU64::new(0) }; 2] }; MOST],
    hits: [const { AtomicUsize::new(0) }; MOST],
    bytes: AtomicUsize::new(0),
};

// SAFETY: allocates and frees with the system's allocator, by the same layouts; reading in between changes nothing.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system allocator's. Zeroed, so that there are no unwritten bytes to read later.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.on.load(Relaxed) {
            // SAFETY: the block is the caller's until it is freed below, and every byte of it was written.
            self.look(unsafe { std::slice::from_raw_parts(block, layout.size()) });
        }
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

impl Watching {
    fn look(&self, block: &[u8]) {
        self.bytes.fetch_add(block.len(), Relaxed);
        let count = self.count.load(Relaxed);
        for window in block.windows(16) {
            let (Some(low), Some(high)) = (window.first_chunk(), window.last_chunk()) else {
                continue;
            };
            let found = [u64::from_ne_bytes(*low), u64::from_ne_bytes(*high)];
            for (pattern, hits) in self.patterns.iter().zip(&self.hits).take(count) {
                if pattern[0].load(Relaxed) == found[0] && pattern[1].load(Relaxed) == found[1] {
                    hits.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// The first half of each secret is looked for while `run` runs; the names of those found in freed memory.
    fn watch(&self, secrets: &[(String, [u8; 32])], run: impl FnOnce()) -> Vec<String> {
        assert!(secrets.len() <= MOST);
        for ((_, secret), (pattern, hits)) in secrets.iter().zip(self.patterns.iter().zip(&self.hits)) {
            pattern[0].store(u64::from_ne_bytes(at(secret, 0)), Relaxed);
            pattern[1].store(u64::from_ne_bytes(at(secret, 8)), Relaxed);
            hits.store(0, Relaxed);
        }
        self.count.store(secrets.len(), Relaxed);
        self.bytes.store(0, Relaxed);
        self.on.store(true, Relaxed);
        run();
        self.on.store(false, Relaxed);
        let found = secrets.iter().zip(&self.hits);
        found
            .filter(|(_, hits)| hits.load(Relaxed) > 0)
            .map(|((name, _), _)| name.clone())
            .collect()
    }
}

fn seed<const N: usize>(name: &[u8]) -> [u8; N] {
    Draws::new(sha256(&[b"erased", name])).take()
}

const HID: [u8; 8] = *b"erased..";
const NOW_S: u64 = 1_800_000_000;
const SERIAL: u64 = 4;

fn suite(aes: bool) -> Suite {
    if aes {
        Suite::Aes256Gcm
    } else {
        Suite::ChaCha20Poly1305
    }
}

#[inline(never)]
fn identities() -> (RelayIdentity, RelayStatics, ClientIdentity) {
    (
        moved(RelayIdentity::from_seeds(seed(b"relay identity"))),
        moved(RelayStatics::from_seeds(seed(b"statics"))),
        moved(ClientIdentity::from_seeds(seed(b"client"))),
    )
}

/// Those seeds are this test's own, and their copies on the stack would go to the heap with the unused bytes of enums.
#[inline(never)]
fn wash_the_stack() {
    black_box([0_u8; 16_000]);
}

/// The whole life of the first implementation's objects: identities, a handshake, a ticket, a resumption, updates.
///
/// Everything goes through the heap, and out of it again by a move, as it does in tables and queues.
fn life(enrolled: bool, aes: bool) {
    let (identity, statics, client) = identities();
    wash_the_stack();
    let draft = transport_crypto::BundleDraft {
        epoch: first::EPOCH,
        not_before: 0,
        not_after: 1,
        endpoints: Vec::new(),
    };
    let signed = identity.sign_bundle(&draft, &statics).unwrap();
    let bundle = transport_crypto::Bundle::parse(&signed).unwrap();
    let responder = moved(Responder::new(statics, identity.relay_id(), first::EPOCH));
    let key = Secret::new(seed(b"tickets"));
    let mut tickets = moved(TicketKeys::from_secret(identity.relay_id(), 1, &key));
    // The key goes to the previous place, from which it opens.
    tickets.rotate(&mut SeededEntropy::new([3; 32])).unwrap();
    let previous = TicketKeys::from_secret(identity.relay_id(), 1, &key);
    let hello = ClientHello {
        has_aes: true,
        time_ms: NOW_S * 1000,
        scid: [1; 9],
        auth: if enrolled {
            Auth::Enrolled(&client)
        } else {
            Auth::Anonymous
        },
        params: b"",
    };
    let read = |ch: &[u8]| responder.read(HID, ch, Some(&tickets), NOW_S).unwrap();

    let mut ch = Vec::new();
    let mut rng = SeededEntropy::new(seed(b"client draws"));
    let mut initiator = moved(Initiator::start(&bundle, HID, hello, &mut rng, &mut ch).unwrap());
    let (relay, sh) = answer(read(&ch), aes, false);
    // A damaged answer first: what it leaves behind counts too.
    let mut damaged = sh.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(initiator.finish(&damaged, &[]).is_err());
    let session = moved(initiator.finish(&sh, &[]).unwrap().session);
    let ticket = moved(issue(&relay, &session, &previous));
    update(relay, session);

    let mut rng = SeededEntropy::new(seed(b"resuming draws"));
    let resumed = Initiator::resume(&bundle, &ticket, true, HID, hello, &mut rng, &mut ch);
    let (initiator, early) = resumed.unwrap();
    let mut initiator = moved(initiator);
    let mut frames = vec![0; 40];
    moved(early).unwrap().seal(0, &mut frames).unwrap();
    let offered = moved(read(&ch));
    moved(offered.early_open()).unwrap().open(0, &mut frames).unwrap();
    let (relay, sh) = answer(offered, aes, true);
    update(relay, initiator.finish(&sh, &[]).unwrap().session);

    // A client that gives up, and a relay that does not answer.
    let mut rng = SeededEntropy::new(seed(b"client draws"));
    let initiator = Initiator::start(&bundle, HID, hello, &mut rng, &mut ch).unwrap();
    drop(Box::new(initiator));
    drop(Box::new(read(&ch)));
}

/// Into the heap and out of it.
fn moved<T>(value: T) -> T {
    *black_box(Box::new(value))
}

fn answer(offered: Offered, aes: bool, early_accepted: bool) -> (Session, Vec<u8>) {
    let answer = ServerAnswer {
        suite: suite(aes),
        relay_cids: &[[2; 9]],
        params: b"",
        server_time_ms: 1,
        early_accepted,
        retry_token: None,
    };
    let (mut rng, mut sh) = (SeededEntropy::new(seed(b"relay draws")), Vec::new());
    let secrets = moved(moved(offered).accept(answer, &mut rng, &mut sh).unwrap());
    drop(moved(secrets.opener()));
    (moved(secrets.into_session()), sh)
}

fn issue(relay: &Session, client: &Session, tickets: &TicketKeys) -> ClientTicket {
    let grant = TicketGrant {
        serial: SERIAL,
        issued_s: NOW_S as u32,
        lifetime_s: 3600,
        max_early: 1000,
        ..TicketGrant::default()
    };
    let content = relay.resumption.relay_content(&grant).unwrap();
    let ticket = tickets.seal(&content, &mut SeededEntropy::new([1; 32])).unwrap();
    let issued = IssuedTicket {
        ticket,
        serial: SERIAL,
        lifetime_s: 3600,
        max_early: 1000,
        rtt_us: 0,
        now_s: NOW_S,
        params: b"",
    };
    let kept = client.resumption.client_ticket(&issued).unwrap();
    ClientTicket::from_bytes(&kept.to_bytes()).unwrap()
}

fn update(mut relay: Session, mut client: Session) {
    for session in [&mut relay, &mut client] {
        session.exporter.export(b"", &mut [0; 32]);
        for _ in 0..2 {
            session.seal.update();
            session.open.update();
        }
    }
}

/// The secrets of [`life`]'s handshake, computed without the first implementation.
fn secrets(enrolled: bool) -> Vec<(String, [u8; 32])> {
    let mut list = Vec::new();
    let mut put = |name: &str, secret: [u8; 32]| {
        list.push((name.to_owned(), secret));
        secret
    };
    let (statics, client): ([u8; 96], [u8; 96]) = (seed(b"statics"), seed(b"client"));
    for (name, seeds) in [("statics", &statics), ("client", &client)] {
        for (part, from) in [("x25519", 0), ("d", 32), ("z", 64)] {
            put(&format!("{name}, {part}"), at(seeds, from));
        }
    }
    let identity: [u8; 64] = seed(b"relay identity");
    put("ML-DSA seed", at(&identity, 0));
    put("Ed25519 seed", at(&identity, 32));
    put("ticket key", seed(b"tickets"));
    let (relay, client) = (Identity::from_seeds(&statics), Identity::from_seeds(&client));

    let mut draws = Draws::new(seed(b"client draws"));
    let (m_s, ephemeral): ([u8; 32], [u8; 64]) = (put("m of ct_s", draws.take()), draws.take());
    put("ek_e, d", at(&ephemeral, 0));
    put("ek_e, z", at(&ephemeral, 32));
    let s = if enrolled {
        client.x25519
    } else {
        put("throw-away key", draws.take())
    };
    let e = put("e of the client", draws.take());
    let mut draws = Draws::new(seed(b"relay draws"));
    let m_e = put("m of ct_e", draws.take());
    let m_c = if enrolled {
        put("m of ct_c", draws.take())
    } else {
        [0; 32]
    };
    let e_r = put("e of the relay", draws.take());

    // The same exchange by the witness, for what the keys depend on.
    let world = first::Case::new(enrolled, false, 0);
    let mut bundle = first::WORLD.relay.bundle.clone();
    bundle.x25519 = witness::noise::public(relay.x25519);
    bundle.ml_kem = kem::public(&relay.kem);
    bundle.kh = sha256(&[b"adit1 kh", &bundle.x25519, &bundle.ml_kem]);
    let signer = RelayIdentity::from_seeds(identity);
    bundle.relay_id = *signer.relay_id().as_bytes();
    let mut hello = world.hello.clone();
    (hello.hid, hello.time_ms, hello.scid) = (HID, NOW_S * 1000, [1; 9]);
    hello.params.clear();
    hello.identity = enrolled.then(|| client.clone());
    let (witness, _) = peer::Client::start(&bundle, &hello, &mut Draws::new(seed(b"client draws"))).unwrap();

    let (ct_s, ss_s) = kem::encapsulate(&bundle.ml_kem, &m_s).unwrap();
    let (ct_e, ss_e) = kem::encapsulate(&kem::public(&ephemeral), &m_e).unwrap();
    let ek_c = kem::public(&client.kem);
    let (ct_c, ss_c) = kem::encapsulate(&ek_c, &m_c).unwrap();
    put("ss_s", ss_s);
    put("ss_e", ss_e);
    let psk0 = put("psk0", peer::psk0(&bundle.kh, &ss_s, &ct_s));
    let x25519 = witness::noise::public(s);
    let id = peer::client_id(&x25519, enrolled.then_some(&ek_c[..]));
    let (ct_c, ss_c): (&[u8], _) = if enrolled {
        put("ss_c", ss_c);
        (&ct_c, ss_c)
    } else {
        (&[], [0; 32])
    };
    // Suite 1; with suite 2 the head differs and everything from psk2 on, which the test of that suite leaves out.
    let head = [1, u8::from(enrolled)];
    let psk2 = peer::psk2(&witness.h1, [&ss_e, &ss_c], &head, [&ct_e, ct_c], &id);
    put("psk2", psk2);

    let dh = |secret: [u8; 32], public: [u8; 32]| {
        let public = x25519_dalek::PublicKey::from(public);
        x25519_dalek::StaticSecret::from(secret)
            .diffie_hellman(&public)
            .to_bytes()
    };
    let (e_pub, e_r_pub, relay_pub) = (
        witness::noise::public(e),
        witness::noise::public(e_r),
        bundle.x25519,
    );
    let mut ck = sha256(&[b"Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256"]);
    let steps = [
        ("psk0", psk0, true),
        ("e", e_pub, false),
        ("es", put("DH es", dh(e, relay_pub)), false),
        ("ss", put("DH ss", dh(s, relay_pub)), false),
        ("e", e_r_pub, false),
        ("ee", put("DH ee", dh(e, e_r_pub)), false),
        ("se", put("DH se", dh(s, e_r_pub)), false),
        ("psk2", psk2, true),
    ];
    for (number, (token, input, psk)) in steps.into_iter().enumerate() {
        let out: [u8; 96] = expand(&extract(&ck, &[&input]), &[]);
        ck = put(&format!("chaining key {number}, after {token}"), at(&out, 0));
        put(
            &format!("cipher key {number}, after {token}"),
            at(&out, if psk { 64 } else { 32 }),
        );
    }
    let split: [u8; 64] = expand(&extract(&ck, &[]), &[]);
    put("k1", at(&split, 0));
    put("k2", at(&split, 32));
    traffic(&mut put, &split, &relay, &bundle, &hello);
    list
}

/// The traffic secrets. `h` is the transcript of the witness's own exchange.
fn traffic(
    put: &mut dyn FnMut(&str, [u8; 32]) -> [u8; 32],
    split: &[u8; 64],
    relay: &Identity,
    bundle: &witness::Bundle,
    hello: &peer::Hello,
) {
    let (_, ch) = peer::Client::start(bundle, hello, &mut Draws::new(seed(b"client draws"))).unwrap();
    let mut draws = Draws::new(seed(b"relay draws"));
    let m_e = draws.take();
    let m_c = hello.identity.as_ref().map_or([0; 32], |_| draws.take());
    let relay = peer::Relay {
        identity: relay.clone(),
        bundle: bundle.clone(),
        ticket_key: (1, seed(b"tickets")),
    };
    let answer = peer::Answer {
        aes: false,
        server_time_ms: 1,
        cids: vec![[2; 9]],
        params: Vec::new(),
        early: false,
        token: None,
    };
    let read = relay.read(&hello.hid, &ch, draws.take()).unwrap();
    let (done, _) = read.answer(&answer, [m_e, m_c]).unwrap();
    let mine = Secrets::new(&done.h, &at(split, 0), &at(split, 32));
    assert_eq!(
        mine.client, done.secrets.client,
        "the chain above is that of the handshake"
    );
    put("exporter", mine.exporter);
    put("resumption", mine.resumption);
    put("rms", mine.rms(SERIAL));
    for (side, ap_0) in [("client", &mine.client), ("relay", &mine.server)] {
        put(&format!("hp of the {side}"), expand(ap_0, &[b"adit1 hp"]));
        for generation in 0..4 {
            let ap = updated(ap_0, generation);
            put(&format!("ap {generation} of the {side}"), ap);
            put(
                &format!("key {generation} of the {side}"),
                expand(&ap, &[b"adit1 key"]),
            );
        }
    }
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn freed_memory_holds_no_secret() {
    // The watch itself: a copy that nobody erases is found.
    let known = [("canary".to_owned(), seed(b"canary"))];
    let found = ALLOCATOR.watch(&known, || drop(black_box(Box::new(seed::<32>(b"canary")))));
    assert_eq!(found, ["canary"]);

    for enrolled in [false, true] {
        let secrets = secrets(enrolled);
        assert!(secrets.len() > 60);
        for aes in [false, true] {
            let found = ALLOCATOR.watch(&secrets, || life(enrolled, aes));
            assert_eq!(found, [""; 0], "enrolled {enrolled}, AES {aes}");
            assert!(ALLOCATOR.bytes.load(Relaxed) > 50_000);
        }
    }
}
