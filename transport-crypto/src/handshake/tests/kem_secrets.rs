//! What holds with one secret missing, tampered with or stolen.

use super::*;

/// The default provider with one KEM secret tampered with.
pub(super) struct Tampered {
    /// Which encapsulation; the others are honest.
    encapsulation: Option<usize>,
    /// Every decapsulation.
    decapsulation: bool,
    /// The secret that is given instead.
    secret: [u8; 32],
    calls: AtomicUsize,
}

impl Tampered {
    pub(super) fn leak(
        encapsulation: Option<usize>,
        decapsulation: bool,
        secret: u8,
    ) -> &'static dyn Provider {
        Box::leak(Box::new(Self {
            encapsulation,
            decapsulation,
            secret: [secret; 32],
            calls: AtomicUsize::new(0),
        }))
    }
}

struct TamperedPair(Box<dyn KemKeyPair>, [u8; 32]);

impl KemKeyPair for TamperedPair {
    fn public(&self) -> &KemPublic {
        self.0.public()
    }

    fn decapsulate(&self, _: &KemCiphertext) -> Secret<32> {
        Secret::new(self.1)
    }
}

impl Provider for Tampered {
    fn name(&self) -> &'static str {
        "tampered"
    }

    fn packet_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn PacketCipher> {
        RustCrypto.packet_cipher(suite, key)
    }

    fn with_single_use(&self, key: &[u8; 32], work: &mut dyn FnMut(&dyn PacketCipher)) {
        RustCrypto.with_single_use(key, work);
    }

    fn mask_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn MaskCipher> {
        RustCrypto.mask_cipher(suite, key)
    }

    fn kem_key_pair(&self, seed: &Secret<64>) -> Box<dyn KemKeyPair> {
        let pair = RustCrypto.kem_key_pair(seed);
        if self.decapsulation {
            Box::new(TamperedPair(pair, self.secret))
        } else {
            pair
        }
    }

    fn kem_encapsulate(
        &self,
        key: &KemPublic,
        m: &Secret<32>,
    ) -> Result<(KemCiphertext, Secret<32>), InvalidKemKey> {
        let (ciphertext, shared) = RustCrypto.kem_encapsulate(key, m)?;
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let tampered = self.encapsulation == Some(call);
        Ok((
            ciphertext,
            if tampered {
                Secret::new(self.secret)
            } else {
                shared
            },
        ))
    }

    fn x25519_key_pair(&self, secret: &Secret<32>) -> Arc<dyn DhKeyPair> {
        RustCrypto.x25519_key_pair(secret)
    }
}

#[test]
fn without_the_static_kem_secret_there_is_no_handshake() {
    for (secret, expected) in [
        (0, HandshakeFailure::DegenerateKey),
        (5, HandshakeFailure::Forged),
    ] {
        let provider = Tampered::leak(Some(0), false, secret);
        let mut ch = Vec::new();
        let done = Initiator::start_with(provider, &WORLD.bundle, HID, hello(true), &mut rng(1), &mut ch)
            .and_then(|_| responder().read(HID, &ch, None, 0));
        assert_eq!(failure(done), expected);
    }
}

#[test]
fn without_an_ephemeral_or_enrolled_kem_secret_there_is_no_handshake() {
    // The relay lacks ss_e (call 0) or ss_c (call 1).
    for (call, secret) in [(0, 0), (0, 5), (1, 0), (1, 5)] {
        let (mut initiator, ch) = start(true, &mut rng(1));
        let provider = Tampered::leak(Some(call), false, secret);
        let relay = Responder::with_provider(provider, WORLD.statics.clone(), WORLD.relay_id, EPOCH);
        let mut sh = Vec::new();
        let accepted = relay
            .read(HID, &ch, None, 0)
            .unwrap()
            .accept(answer(SUITES[0]), &mut rng(2), &mut sh);
        if secret == 0 {
            assert_eq!(failure(accepted), HandshakeFailure::DegenerateKey);
        } else {
            assert_eq!(failure(initiator.finish(&sh, &[])), HandshakeFailure::Forged);
        }
    }
    // The client lacks ss_e.
    for (secret, expected) in [
        (0, HandshakeFailure::DegenerateKey),
        (5, HandshakeFailure::Forged),
    ] {
        let provider = Tampered::leak(None, true, secret);
        let mut ch = Vec::new();
        let mut initiator =
            Initiator::start_with(provider, &WORLD.bundle, HID, hello(true), &mut rng(1), &mut ch).unwrap();
        let (_, sh) = accept(&ch, SUITES[0], &mut rng(2));
        assert_eq!(failure(initiator.finish(&sh, &[])), expected);
    }
}

#[test]
fn half_of_a_client_s_keys_is_another_client() {
    for half in [0..32, 32..64] {
        let mut seeds = [3; 96];
        seeds[half].fill(99);
        let thief = ClientIdentity::from_seeds(seeds);
        let hello = ClientHello {
            auth: Auth::Enrolled(&thief),
            ..hello(true)
        };
        let mut ch = Vec::new();
        Initiator::start(&WORLD.bundle, HID, hello, &mut rng(1), &mut ch).unwrap();
        let offered = responder().read(HID, &ch, None, 0).unwrap();
        assert!(offered.client_id() != WORLD.client.client_id());
    }
}

#[test]
fn a_thief_of_the_x25519_half_cannot_read_the_answer() {
    // It shows the true ek_c, hence the true name, but cannot open ct_c.
    let ek_c = WORLD.client.keys().kem.public();
    let ephemeral = provider::DEFAULT.kem_key_pair(&Secret::new([7; 64]));
    let payload = Payload1 {
        time_ms: 0,
        scid: [1; 9],
        ek_e: ephemeral.public(),
        enrolled: true,
        ek_c: Some(ek_c),
        params: b"",
    };
    let (mut noise, ch) = client_hello_by(&Secret::new([3; 32]), &payload.encode());
    let offered = responder().read(HID, &ch, None, 0).unwrap();
    assert_eq!(offered.client_id(), WORLD.client.client_id());
    let mut sh = Vec::new();
    offered.accept(answer(SUITES[0]), &mut rng(2), &mut sh).unwrap();

    let body = message::ServerBody::parse(&sh).unwrap();
    let h1 = noise.transcript().unwrap();
    let binding = Binding {
        h1: &h1,
        head: body.head,
        client_id: WORLD.client.client_id(),
    };
    let guess = provider::DEFAULT.kem_key_pair(&Secret::new([8; 64]));
    for (kem, expected) in [
        (&guess, Some(HandshakeFailure::Forged)),
        (&WORLD.client.keys().kem, None),
    ] {
        let psk2 = Psk2::decapsulate(
            &*ephemeral,
            body.ct_e,
            body.ct_c.map(|ct_c| (&**kem, ct_c)),
            &binding,
        )
        .unwrap();
        noise.set_psk2(&psk2).unwrap();
        assert_eq!(noise.read(body.noise).err(), expected);
    }
}
